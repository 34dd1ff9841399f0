//! How does an NVIDIA GPU run kernels? The driver API on one stream, opened only where the driver is installed.
//!
//! Law: every range is checked against its allocation before the driver sees an address; what a kernel does inside is
//! the compiler's promise. `unsafe` holds one call a block. Read `images` for which code a GPU gets.

use super::images::{self, Arch};
use super::{Arg, Backend, BufferId, GraphId, KernelId, Slice, Slots};
use crate::error::{DeviceError, OpenError};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result, sys,
};
use cudarc::nvrtc::Ptx;
use enel_bundle::{Bundle, Image, ImageKind, Launch};
use std::ffi::c_void;
use std::sync::Arc;

/// Oldest driver interface with every call made here: 12.0, as `cuDriverGetVersion` spells it.
const MIN_DRIVER: i32 = 12_000;

/// First driver interface with the measure of events used here, `cuEventElapsedTime_v2`.
///
/// **Source** CUDA Driver API 12.8, "Event Management".
const EVENTS_DRIVER: i32 = 12_080;

/// Dynamic shared memory a kernel may use without asking.
///
/// **Source** CUDA C++ Programming Guide, "Shared Memory" of compute capability 8.x: more than 48 KB needs an opt-in.
const DEFAULT_SMEM_BYTES: i32 = 48 << 10;

struct Allocation {
    address: sys::CUdeviceptr,
    size_bytes: usize,
}

struct Loaded {
    name: String,
    function: CudaFunction,
    launch: Launch,
    /// Buffers and sizes of its interface.
    arity: (usize, usize),
    /// Scratch memory, where the launch has any.
    scratch: Option<Slice>,
}

struct Recording(CudaGraph);

// SAFETY: the driver asks that calls on one graph are not concurrent; a recording is owned by its device, which lends
// it for `replay` through `&mut self` only, and nothing in it is bound to the thread that made it.
unsafe impl Send for Recording {}

/// One GPU.
pub(super) struct CudaDevice {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    arch: Arch,
    max_smem_bytes: i32,
    /// CUDA version of the driver, as `cuDriverGetVersion` spells it.
    driver: i32,
    name: String,
    /// Points in the order of work whose distances in time are asked for.
    marks: Vec<CudaEvent>,
    graphs: Slots<Recording>,
    kernels: Vec<Loaded>,
    buffers: Slots<Allocation>,
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

fn driver(call: &'static str) -> impl FnOnce(DriverError) -> DeviceError {
    move |error| {
        let text = |s: Result<&std::ffi::CStr, DriverError>| s.map_or("?".into(), |s| s.to_string_lossy().into_owned());
        DeviceError::Driver { call, code: text(error.error_name()), message: text(error.error_string()) }
    }
}

/// A failed allocation is worth its own name.
fn memory(call: &'static str, size_bytes: usize) -> impl FnOnce(DriverError) -> DeviceError {
    move |error| match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { size_bytes },
        _ => driver(call)(error),
    }
}

impl CudaDevice {
    /// Opens a GPU by its number.
    pub(super) fn open(ordinal: usize) -> Result<CudaDevice, OpenError> {
        let none = |reason: String| OpenError::NoCuda { ordinal, reason };
        // SAFETY: loads the driver library and looks no further; its initialisers are NVIDIA's.
        let present = unsafe { sys::is_culib_present() };
        if !present {
            return Err(none("the NVIDIA driver library libcuda is not installed; use --device cpu".into()));
        }
        let mut version = 0;
        // SAFETY: the library is present, and the pointer is to a live integer.
        let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
        asked.result().map_err(|e| none(driver("cuDriverGetVersion")(e).to_string()))?;
        if version < MIN_DRIVER {
            let (found, needed) = (self::version(version), self::version(MIN_DRIVER));
            return Err(none(format!("the driver supports CUDA {found}, {needed} is needed: update the driver")));
        }
        let failed = |error| none(driver("opening the device")(error).to_string());
        let count = CudaContext::device_count().map_err(failed)?;
        if usize::try_from(count).unwrap_or(0) <= ordinal {
            return Err(none(format!("the driver reports {count} devices")));
        }
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let smem = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let max_smem_bytes = context.attribute(smem).map_err(failed)?;
        let arch = Arch { major: major as u32, minor: minor as u32 };
        let name = format!("cuda:{ordinal} ({}, {arch})", context.name().map_err(failed)?);
        let (graphs, kernels, buffers) = (Slots::new(), Vec::new(), Slots::new());
        let (driver, marks) = (version, Vec::new());
        Ok(CudaDevice { context, stream, arch, max_smem_bytes, driver, name, marks, graphs, kernels, buffers })
    }

    /// The calling thread may be another than last time.
    fn bind(&self) -> Result<(), DeviceError> {
        self.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))
    }

    /// Waits for the stream even when an earlier failure is still to be told: memory is given back right after.
    fn settle(&self) -> Result<(), DriverError> {
        // Asking for the earlier failure forgets it, and binding would stop at it.
        let earlier = self.context.check_err();
        let bound = self.context.bind_to_thread();
        // SAFETY: the stream is owned by this device, alive, and not destroyed by waiting.
        let waited = unsafe { result::stream::synchronize(self.stream.cu_stream()) };
        earlier.and(bound).and(waited)
    }

    fn address(&self, slice: Slice) -> Result<sys::CUdeviceptr, DeviceError> {
        let Slice { buffer, offset_bytes, size_bytes } = slice;
        let fits = |a: &&Allocation| offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= a.size_bytes);
        let found = self.buffers.get(buffer.0).filter(fits);
        let found = found.ok_or(DeviceError::Unknown { what: "buffer", id: buffer.0 })?;
        Ok(found.address + offset_bytes as u64)
    }

    /// Loads one image and finds its entry point.
    fn function(&self, image: &Image, launch: &Launch) -> Result<CudaFunction, DeviceError> {
        let broken = |message: &str| DeviceError::Launch { kernel: launch.entry.clone(), message: message.to_owned() };
        let code = match image.kind {
            // The driver finds the end of a text by its zero and of a binary by its headers.
            ImageKind::Ptx => match std::str::from_utf8(&image.bytes) {
                Ok(text) if !text.contains('\0') => Ptx::from_src(text),
                _ => return Err(broken("its PTX is no text")),
            },
            ImageKind::Cubin if image.bytes.starts_with(b"\x7fELF") => Ptx::from_binary(image.bytes.clone()),
            ImageKind::Cubin => return Err(broken("its cubin is no ELF file")),
        };
        let module: Arc<CudaModule> = self.context.load_module(code).map_err(driver("cuModuleLoadData"))?;
        module.load_function(&launch.entry).map_err(driver("cuModuleGetFunction"))
    }

    /// Zeroed memory for a kernel's blocks to meet in.
    fn scratch(&mut self, size_bytes: u64) -> Result<Option<Slice>, DeviceError> {
        if size_bytes == 0 {
            return Ok(None);
        }
        let size_bytes = size_bytes as usize;
        let slice = Slice { buffer: self.allocate(size_bytes)?, offset_bytes: 0, size_bytes };
        self.fill(slice, 0)?;
        Ok(Some(slice))
    }

    /// Asks for shared memory beyond what every kernel may use.
    fn allow_smem(&self, function: &CudaFunction, launch: &Launch) -> Result<(), DeviceError> {
        let fixed = function.shared_size_bytes().map_err(driver("cuFuncGetAttribute"))?;
        let dynamic = i32::try_from(launch.smem_bytes).unwrap_or(i32::MAX);
        let need = fixed.saturating_add(dynamic);
        if need > self.max_smem_bytes {
            let limit = self.max_smem_bytes;
            let message = format!("it needs {need} B of shared memory per block, {} allows {limit} B", self.name);
            return Err(DeviceError::Launch { kernel: launch.entry.clone(), message });
        }
        if need <= DEFAULT_SMEM_BYTES {
            return Ok(());
        }
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, dynamic).map_err(driver("cuFuncSetAttribute"))
    }
}

impl Backend for CudaDevice {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&mut self, size_bytes: usize) -> Result<BufferId, DeviceError> {
        self.bind()?;
        // SAFETY: the context is current; the address is owned by the slot made below until `free`.
        let address = unsafe { result::malloc_sync(size_bytes.max(1)) };
        let address = address.map_err(memory("cuMemAlloc", size_bytes))?;
        Ok(BufferId(self.buffers.insert(Allocation { address, size_bytes })))
    }

    fn free(&mut self, buffer: BufferId) {
        let Some(allocation) = self.buffers.take(buffer.0) else { return };
        // Work in flight may still use it; a failure here shows again at the next call.
        let settled = self.settle();
        // SAFETY: the address came from `malloc_sync`, its slot is gone, and no work is in flight.
        let freed = unsafe { result::free_sync(allocation.address) };
        self.context.record_err(settled.and(freed));
    }

    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        self.bind()?;
        let address = self.address(to)?;
        if bytes.len() != to.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // The call may return before it has read `bytes`: where they are page-locked, and where the GPU reads pageable
        // memory itself (CUDA driver API, "API synchronization behavior": it "might be" synchronous).
        // SAFETY: the range lies in a live allocation; `bytes` is borrowed until the wait below.
        let copied = unsafe { result::memcpy_htod_async(address, bytes, self.stream.cu_stream()) };
        let waited = self.settle();
        copied.map_err(driver("cuMemcpyHtoDAsync"))?;
        waited.map_err(driver("cuStreamSynchronize"))
    }

    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.bind()?;
        let address = self.address(from)?;
        if bytes.len() != from.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies in a live allocation; `bytes` is borrowed until the wait below.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, address, self.stream.cu_stream()) };
        let waited = self.settle();
        copied.map_err(driver("cuMemcpyDtoHAsync"))?;
        waited.map_err(driver("cuStreamSynchronize"))
    }

    fn copy(&mut self, from: Slice, to: Slice) -> Result<(), DeviceError> {
        self.bind()?;
        let (source, target) = (self.address(from)?, self.address(to)?);
        let size = from.size_bytes;
        let apart = source + size as u64 <= target || target + size as u64 <= source;
        if size != to.size_bytes || (!apart && size > 0) {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        if size == 0 {
            return Ok(());
        }
        // SAFETY: both ranges lie in live allocations and do not overlap.
        let copied = unsafe { result::memcpy_dtod_async(target, source, size, self.stream.cu_stream()) };
        copied.map_err(driver("cuMemcpyDtoDAsync"))
    }

    fn fill(&mut self, slice: Slice, byte: u8) -> Result<(), DeviceError> {
        self.bind()?;
        let address = self.address(slice)?;
        if slice.size_bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range lies in a live allocation.
        let filled = unsafe { result::memset_d8_async(address, byte, slice.size_bytes, self.stream.cu_stream()) };
        filled.map_err(driver("cuMemsetD8Async"))
    }

    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Result<KernelId, DeviceError> {
        self.bind()?;
        let id = kernel as u32;
        let found = bundle.kernels.get(kernel).ok_or(DeviceError::Unknown { what: "kernel", id })?;
        let candidates = images::for_gpu(&bundle.images, id, self.arch);
        let missing = || images::missing(bundle, id, &self.name);
        let launch = found.launch.clone().ok_or_else(missing)?;
        if candidates.is_empty() {
            return Err(missing());
        }
        let loaded = images::first_that_loads(&candidates, |image| self.function(image, &launch));
        let function = loaded.map_err(|tried| {
            let (kernel, device) = (found.name.clone(), self.name.clone());
            DeviceError::Refused { kernel, device, driver: version(self.driver), tried }
        })?;
        self.allow_smem(&function, &launch)?;
        let arity = (found.buffers().count(), found.dynamics().count());
        let scratch = self.scratch(launch.scratch_bytes)?;
        self.kernels.push(Loaded { name: found.name.clone(), function, launch, arity, scratch });
        Ok(KernelId(self.kernels.len() as u32 - 1))
    }

    fn launch(&mut self, kernel: KernelId, args: &[Arg], dynamics: &[i64]) -> Result<(), DeviceError> {
        self.bind()?;
        let unknown = DeviceError::Unknown { what: "kernel", id: kernel.0 };
        let Loaded { name, function, launch, arity, scratch } = self.kernels.get(kernel.0 as usize).ok_or(unknown)?;
        // The driver reads as many parameters as the kernel declares, however few there are.
        if (args.len(), dynamics.len()) != *arity {
            let (kernel, (buffers, sizes)) = (name.clone(), *arity);
            let (got_buffers, got_sizes) = (args.len(), dynamics.len());
            let message = format!("it takes {buffers} buffers and {sizes} sizes, not {got_buffers} and {got_sizes}");
            return Err(DeviceError::Launch { kernel, message });
        }
        let Some(grid) = images::grid(name, launch, dynamics)? else { return Ok(()) };
        let mut addresses: Vec<sys::CUdeviceptr> = Vec::with_capacity(args.len());
        for slice in args.iter().map(|arg| arg.slice).chain(*scratch) {
            addresses.push(self.address(slice)?);
        }
        let mut pointers = addresses.iter().map(|a| std::ptr::from_ref(a).cast::<c_void>().cast_mut());
        let sizes = dynamics.iter().map(|d| std::ptr::from_ref(d).cast::<c_void>().cast_mut());
        let mut params: Vec<*mut c_void> = pointers.by_ref().take(args.len()).chain(sizes).collect();
        params.extend(pointers);
        let [x, y, z] = grid;
        let (block, stream) = ((launch.threads, 1, 1), self.stream.cu_stream());
        // SAFETY: the function is of a loaded module kept alive by `Loaded`; `params` has one pointer per buffer, size
        // and scratch memory in the order of the kernel's interface, each to a live value the driver copies before it
        // returns; the addresses are of live allocations, which `free` keeps until the stream is idle.
        let launched = unsafe {
            result::launch_kernel(function.cu_function(), (x, y, z), block, launch.smem_bytes, stream, &mut params)
        };
        launched.map_err(driver("cuLaunchKernel"))
    }

    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send)) {
        work(self);
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.stream.synchronize().map_err(driver("cuStreamSynchronize"))
    }

    fn mark(&mut self) -> Result<bool, DeviceError> {
        if self.driver < EVENTS_DRIVER {
            return Ok(false);
        }
        let event = self.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        self.marks.push(event.map_err(driver("cuEventRecord"))?);
        Ok(true)
    }

    fn between_marks_us(&mut self) -> Result<Vec<f64>, DeviceError> {
        let marks = std::mem::take(&mut self.marks);
        let elapsed = |pair: &[CudaEvent]| pair[0].elapsed_ms(&pair[1]).map(|ms| f64::from(ms) * 1e3);
        marks.windows(2).map(elapsed).collect::<Result<_, _>>().map_err(driver("cuEventElapsedTime"))
    }

    fn begin_capture(&mut self) -> Result<bool, DeviceError> {
        // Thread-local: another thread's allocations must not spoil the recording.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(driver("cuStreamBeginCapture"))?;
        Ok(true)
    }

    fn end_capture(&mut self) -> Result<GraphId, DeviceError> {
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        let graph = graph.map_err(driver("cuStreamEndCapture"))?.ok_or(DeviceError::NoCapture)?;
        Ok(GraphId(self.graphs.insert(Recording(graph))))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DeviceError> {
        let unknown = DeviceError::Unknown { what: "graph", id: graph.0 };
        let recording = self.graphs.get(graph.0).ok_or(unknown)?;
        recording.0.launch().map_err(driver("cuGraphLaunch"))
    }

    fn drop_graph(&mut self, graph: GraphId) {
        let Some(recording) = self.graphs.take(graph.0) else { return };
        // A graph being replayed must not be destroyed. Its destruction may record a failure that must not be lost.
        let settled = self.settle();
        drop(recording);
        self.context.record_err(settled);
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        for id in 0..self.graphs.0.len() as u32 {
            self.drop_graph(GraphId(id));
        }
        for id in 0..self.buffers.0.len() as u32 {
            self.free(BufferId(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, OpenError};

    #[test]
    fn opening_says_clearly_when_there_is_no_gpu() {
        match Device::open("cuda:0") {
            Ok(device) => assert!(device.name().starts_with("cuda:0")),
            Err(OpenError::NoCuda { ordinal: 0, reason }) => assert!(!reason.is_empty()),
            Err(other) => panic!("{other}"),
        }
        assert!(matches!(Device::open("cuda:999"), Err(OpenError::NoCuda { ordinal: 999, .. })));
    }
}
