//! How do kernels run without a GPU? Their PTX on the emulator, every access checked.
//!
//! Law: each buffer is an allocation of its own, so that a kernel that leaves one is caught, and a byte nobody wrote
//! is never handed out. Recording and replaying follow `cuda`: `recording` says what is noted and what is forbidden.

use super::recording::{Capture, Operation};
use super::{Arg, Backend, BufferId, GraphId, KernelId, Slice, Slots, images};
use crate::error::DeviceError;
use enel_bundle::{Bundle, Launch};
use enel_emulator::{Memory, MemoryError, Module, Options, Stats};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

struct Allocation {
    address: u64,
    size_bytes: usize,
}

struct Loaded {
    name: String,
    module: Arc<Module>,
    launch: Launch,
    /// Address of the scratch memory, where the launch has any.
    scratch: Option<u64>,
}

/// What launches did, in order: the kernel's name and its counts. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct LaunchLog(Arc<Mutex<Vec<(String, Stats)>>>);

impl LaunchLog {
    /// Takes what was noted so far.
    pub fn take(&self) -> Vec<(String, Stats)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, kernel: &str, stats: Stats) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kernel.to_owned(), stats));
    }
}

/// How the PTX machine runs kernels.
#[derive(Clone, Debug, Default)]
pub struct Emulation {
    /// Checks, counters, schedule.
    pub options: Options,
    /// Where launches are noted.
    pub log: Option<LaunchLog>,
}

/// The PTX machine as a device.
pub(super) struct EmulatedDevice {
    memory: Memory,
    buffers: Slots<Allocation>,
    kernels: Vec<Loaded>,
    /// Kernels compiled together share one text.
    modules: HashMap<Vec<u8>, Arc<Module>>,
    how: Emulation,
    capture: Capture,
    graphs: Slots<Vec<Operation>>,
}

fn memory_error(source: MemoryError) -> DeviceError {
    DeviceError::EmulatedMemory(source)
}

impl EmulatedDevice {
    pub(super) fn open(how: Emulation) -> EmulatedDevice {
        let (memory, buffers, graphs) = (Memory::new(), Slots::new(), Slots::new());
        let (kernels, modules, capture) = (Vec::new(), HashMap::new(), Capture::Off);
        EmulatedDevice { memory, buffers, kernels, modules, how, capture, graphs }
    }

    fn address(&self, slice: Slice) -> Result<u64, DeviceError> {
        let Slice { buffer, offset_bytes, size_bytes } = slice;
        let fits = |a: &&Allocation| offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= a.size_bytes);
        let found = self.buffers.get(buffer.0).filter(fits);
        found.map(|a| a.address + offset_bytes as u64).ok_or(DeviceError::Unknown { what: "buffer", id: buffer.0 })
    }

    /// Notes the driver's `call` while recording, else runs it.
    fn take(&mut self, call: &'static str, operation: Operation) -> Result<(), DeviceError> {
        match self.capture.list(call)? {
            Some(list) => list.push(operation),
            None => self.perform(&operation)?,
        }
        Ok(())
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), DeviceError> {
        match operation {
            Operation::Launch { grid: None, .. } => Ok(()),
            Operation::Launch { kernel, grid: Some(grid), args } => self.run(*kernel, *grid, args),
            Operation::Copy { from, to, size_bytes } => self.memory.copy(*to, *from, *size_bytes).map_err(memory_error),
            Operation::Fill { address, size_bytes, byte } => {
                self.memory.fill(*address, *size_bytes, *byte).map_err(memory_error)
            }
        }
    }

    fn run(&mut self, kernel: usize, grid: [u32; 3], args: &[enel_emulator::Arg]) -> Result<(), DeviceError> {
        let Loaded { name, module, launch, scratch } = &self.kernels[kernel];
        let scratch_bytes = launch.scratch_bytes as usize;
        let launch = enel_emulator::Launch {
            entry: &launch.entry,
            grid,
            block: [launch.threads, 1, 1],
            cluster: None,
            dynamic_smem_bytes: launch.smem_bytes,
            args,
        };
        let failed = |source| DeviceError::Emulated { kernel: name.clone(), source: Box::new(source) };
        let ran = enel_emulator::launch(module, &mut self.memory, &launch, &self.how.options);
        if let (Err(_), Some(address)) = (&ran, *scratch) {
            // Blocks that never arrived must not be missed by the next launch.
            self.memory.fill(address, scratch_bytes, 0).map_err(memory_error)?;
        }
        let stats = ran.map_err(failed)?;
        if let Some(log) = &self.how.log {
            log.note(name, stats);
        }
        Ok(())
    }
}

impl Backend for EmulatedDevice {
    fn name(&self) -> String {
        "emulated".to_owned()
    }

    fn allocate(&mut self, size_bytes: usize) -> Result<BufferId, DeviceError> {
        self.capture.forbids("cuMemAlloc")?;
        let address = self.memory.alloc(size_bytes).map_err(memory_error)?;
        Ok(BufferId(self.buffers.insert(Allocation { address, size_bytes })))
    }

    fn free(&mut self, buffer: BufferId) {
        if let Some(allocation) = self.buffers.take(buffer.0) {
            // Giving back waits, which a recording forbids; the memory is gone all the same, as on a GPU.
            let _ = self.capture.forbids("cuMemFree");
            // The address is one `alloc` gave and its slot is gone, so this cannot fail twice.
            let _ = self.memory.free(allocation.address);
        }
    }

    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        let address = self.address(to)?;
        if bytes.len() != to.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        self.capture.forbids("cuStreamSynchronize")?;
        self.memory.write(address, bytes).map_err(memory_error)
    }

    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let address = self.address(from)?;
        if bytes.len() != from.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        self.capture.forbids("cuStreamSynchronize")?;
        if !self.memory.is_written(address, bytes.len()).map_err(memory_error)? {
            return Err(DeviceError::Unwritten { size_bytes: bytes.len() });
        }
        self.memory.read(address, bytes).map_err(memory_error)
    }

    fn copy(&mut self, from: Slice, to: Slice) -> Result<(), DeviceError> {
        let (source, target, size_bytes) = (self.address(from)?, self.address(to)?, from.size_bytes);
        if from.size_bytes != to.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        self.take("cuMemcpyDtoDAsync", Operation::Copy { from: source, to: target, size_bytes })
    }

    fn fill(&mut self, slice: Slice, byte: u8) -> Result<(), DeviceError> {
        let operation = Operation::Fill { address: self.address(slice)?, size_bytes: slice.size_bytes, byte };
        self.take("cuMemsetD8Async", operation)
    }

    fn forget(&mut self, slice: Slice) -> Result<(), DeviceError> {
        let address = self.address(slice)?;
        self.capture.forbids("forget")?;
        self.memory.forget(address, slice.size_bytes).map_err(memory_error)
    }

    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Result<KernelId, DeviceError> {
        self.capture.forbids("cuModuleLoadData")?;
        let id = kernel as u32;
        let found = bundle.kernels.get(kernel).ok_or(DeviceError::Unknown { what: "kernel", id })?;
        let missing = || images::missing(bundle, id, "the emulator, which reads text");
        let launch = found.launch.clone().ok_or_else(missing)?;
        let image = images::plainest_ptx(&bundle.images, id).ok_or_else(missing)?;
        let module = match self.modules.get(&image.bytes) {
            Some(module) => module.clone(),
            None => {
                let broken = |message: String| DeviceError::Launch { kernel: found.name.clone(), message };
                let text = std::str::from_utf8(&image.bytes).map_err(|e| broken(format!("its PTX: {e}")))?;
                let module = Module::parse(text).map_err(|e| broken(format!("its PTX: {e}")))?;
                let module = Arc::new(module);
                self.modules.insert(image.bytes.clone(), module.clone());
                module
            }
        };
        // Buffers in Desc order, then sizes, then the scratch memory, eight bytes each.
        let has_scratch = launch.scratch_bytes > 0;
        let expected = found.buffers().count() + found.dynamics().count() + usize::from(has_scratch);
        let fits = |e: &enel_emulator::Entry| e.params.len() == expected && e.params.iter().all(|p| p.bytes == 8);
        if !module.entry(&launch.entry).is_some_and(fits) {
            let message = format!("its PTX has no entry `{}` with {expected} arguments of 8 B", launch.entry);
            return Err(DeviceError::Launch { kernel: found.name.clone(), message });
        }
        let mut scratch = None;
        if has_scratch {
            let address = self.memory.alloc(launch.scratch_bytes as usize).map_err(memory_error)?;
            self.memory.fill(address, launch.scratch_bytes as usize, 0).map_err(memory_error)?;
            scratch = Some(address);
        }
        self.kernels.push(Loaded { name: found.name.clone(), module, launch, scratch });
        Ok(KernelId(self.kernels.len() as u32 - 1))
    }

    fn launch(&mut self, kernel: KernelId, args: &[Arg], dynamics: &[i64]) -> Result<(), DeviceError> {
        let unknown = DeviceError::Unknown { what: "kernel", id: kernel.0 };
        let mut packed = Vec::with_capacity(args.len() + dynamics.len());
        for arg in args {
            packed.push(enel_emulator::Arg::U64(self.address(arg.slice)?));
        }
        packed.extend(dynamics.iter().map(|d| enel_emulator::Arg::I64(*d)));
        let Loaded { name, launch, scratch, .. } = self.kernels.get(kernel.0 as usize).ok_or(unknown)?;
        packed.extend(scratch.map(enel_emulator::Arg::U64));
        let grid = images::grid(name, launch, dynamics)?;
        self.take("cuLaunchKernel", Operation::Launch { kernel: kernel.0 as usize, grid, args: packed })
    }

    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send)) {
        work(self);
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.capture.forbids("cuStreamSynchronize")
    }

    fn begin_capture(&mut self) -> Result<bool, DeviceError> {
        self.capture.begin().map(|()| true)
    }

    fn end_capture(&mut self) -> Result<GraphId, DeviceError> {
        Ok(GraphId(self.graphs.insert(self.capture.end()?)))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DeviceError> {
        self.capture.forbids("cuGraphLaunch")?;
        let operations = self.graphs.take(graph.0).ok_or(DeviceError::Unknown { what: "graph", id: graph.0 })?;
        let recorded = |(call, source)| DeviceError::Recorded { call, source: Box::new(source) };
        let mut calls = operations.iter().enumerate();
        let ran = calls.try_for_each(|(call, operation)| self.perform(operation).map_err(|e| recorded((call, e))));
        self.graphs.put_back(graph.0, operations);
        ran
    }

    fn drop_graph(&mut self, graph: GraphId) {
        // Like giving back memory, this waits.
        if self.graphs.take(graph.0).is_some() {
            let _ = self.capture.forbids("cuGraphExecDestroy");
        }
    }

    fn separate_buffers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<impl Sized, DeviceError>) -> String {
        match result {
            Err(DeviceError::Driver { code, .. }) => code,
            Err(other) => panic!("{other}"),
            Ok(_) => "none".to_owned(),
        }
    }

    #[test]
    fn what_is_recorded_runs_when_it_is_replayed_and_not_before() {
        let mut device = EmulatedDevice::open(Emulation::default());
        let slice = |buffer| Slice { buffer, offset_bytes: 0, size_bytes: 4 };
        let (a, b) = (slice(device.allocate(4).unwrap()), slice(device.allocate(4).unwrap()));
        device.upload(a, &[1; 4]).unwrap();
        device.upload(b, &[2; 4]).unwrap();
        assert!(device.begin_capture().unwrap());
        device.copy(a, b).unwrap();
        device.fill(a, 9).unwrap();
        let graph = device.end_capture().unwrap();
        let mut bytes = [0; 4];
        for (upload, expected) in [(None, 2), (Some([5; 4]), 5), (None, 9)] {
            if let Some(new) = upload {
                device.upload(a, &new).unwrap();
            }
            if expected != 2 {
                device.replay(graph).unwrap();
            }
            device.download(b, &mut bytes).unwrap();
            assert_eq!(bytes, [expected; 4]);
        }
        device.forget(b).unwrap();
        assert!(matches!(device.download(b, &mut bytes), Err(DeviceError::Unwritten { size_bytes: 4 })));
        device.free(a.buffer);
        let gone = device.replay(graph).unwrap_err();
        assert!(matches!(gone, DeviceError::Recorded { call: 0, source }
            if source.to_string().contains("now freed")));
        device.drop_graph(graph);
        assert!(matches!(device.replay(graph), Err(DeviceError::Unknown { what: "graph", .. })));
    }

    #[test]
    fn what_a_gpu_forbids_while_it_records_is_refused_and_spoils_the_recording() {
        let (unsupported, invalidated) =
            ("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED");
        let mut device = EmulatedDevice::open(Emulation::default());
        let slice = Slice { buffer: device.allocate(4).unwrap(), offset_bytes: 0, size_bytes: 4 };
        device.begin_capture().unwrap();
        let empty = device.end_capture().unwrap();
        type Call<'a> = &'a dyn Fn(&mut EmulatedDevice) -> Result<(), DeviceError>;
        let calls: [Call<'_>; 6] = [
            &|device| device.allocate(4).map(drop),
            &|device| device.upload(slice, &[0; 4]),
            &|device| device.download(slice, &mut [0; 4]),
            &|device| device.synchronize(),
            &|device| device.load(&Bundle::default(), 0).map(drop),
            &|device| device.replay(empty),
        ];
        for call in calls {
            device.begin_capture().unwrap();
            device.fill(slice, 1).unwrap();
            assert_eq!(code(call(&mut device)), unsupported);
            assert_eq!(code(device.fill(slice, 1)), invalidated);
            assert_eq!(code(device.end_capture()), invalidated);
            assert_eq!(code(device.end_capture()), "CUDA_ERROR_ILLEGAL_STATE");
        }
        device.begin_capture().unwrap();
        assert_eq!(code(device.begin_capture()), "CUDA_ERROR_ILLEGAL_STATE");
        device.free(slice.buffer);
        assert_eq!(code(device.end_capture()), invalidated, "giving back memory waits");
        device.replay(empty).unwrap();
    }
}
