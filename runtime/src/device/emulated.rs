//! How do kernels run without a GPU? Their PTX on the emulator, every access checked.
//!
//! Law: each buffer is an allocation of its own, so that a kernel that leaves one is caught, and a byte nobody wrote
//! is never handed out.

use super::{Arg, Backend, BufferId, KernelId, Slice, Slots, images};
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
}

fn memory_error(source: MemoryError) -> DeviceError {
    DeviceError::EmulatedMemory(source)
}

impl EmulatedDevice {
    pub(super) fn open(how: Emulation) -> EmulatedDevice {
        let (memory, buffers) = (Memory::new(), Slots::new());
        EmulatedDevice { memory, buffers, kernels: Vec::new(), modules: HashMap::new(), how }
    }

    fn address(&self, slice: Slice) -> Result<u64, DeviceError> {
        let Slice { buffer, offset_bytes, size_bytes } = slice;
        let fits = |a: &&Allocation| offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= a.size_bytes);
        let found = self.buffers.get(buffer.0).filter(fits);
        found.map(|a| a.address + offset_bytes as u64).ok_or(DeviceError::Unknown { what: "buffer", id: buffer.0 })
    }
}

impl Backend for EmulatedDevice {
    fn name(&self) -> String {
        "emulated".to_owned()
    }

    fn allocate(&mut self, size_bytes: usize) -> Result<BufferId, DeviceError> {
        let address = self.memory.alloc(size_bytes).map_err(memory_error)?;
        Ok(BufferId(self.buffers.insert(Allocation { address, size_bytes })))
    }

    fn free(&mut self, buffer: BufferId) {
        if let Some(allocation) = self.buffers.take(buffer.0) {
            // The address is one `alloc` gave and its slot is gone, so this cannot fail twice.
            let _ = self.memory.free(allocation.address);
        }
    }

    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        let address = self.address(to)?;
        if bytes.len() != to.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        self.memory.write(address, bytes).map_err(memory_error)
    }

    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let address = self.address(from)?;
        if bytes.len() != from.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        if !self.memory.is_written(address, bytes.len()).map_err(memory_error)? {
            return Err(DeviceError::Unwritten { size_bytes: bytes.len() });
        }
        self.memory.read(address, bytes).map_err(memory_error)
    }

    fn copy(&mut self, from: Slice, to: Slice) -> Result<(), DeviceError> {
        let (source, target) = (self.address(from)?, self.address(to)?);
        if from.size_bytes != to.size_bytes {
            return Err(DeviceError::Ranges { first: 0, second: 1 });
        }
        self.memory.copy(target, source, from.size_bytes).map_err(memory_error)
    }

    fn fill(&mut self, slice: Slice, byte: u8) -> Result<(), DeviceError> {
        let address = self.address(slice)?;
        self.memory.fill(address, slice.size_bytes, byte).map_err(memory_error)
    }

    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Result<KernelId, DeviceError> {
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
        let Loaded { name, module, launch, scratch } = self.kernels.get(kernel.0 as usize).ok_or(unknown)?;
        packed.extend(scratch.map(enel_emulator::Arg::U64));
        let Some(grid) = images::grid(name, launch, dynamics)? else { return Ok(()) };
        let scratch_bytes = launch.scratch_bytes as usize;
        let launch = enel_emulator::Launch {
            entry: &launch.entry,
            grid,
            block: [launch.threads, 1, 1],
            cluster: None,
            dynamic_smem_bytes: launch.smem_bytes,
            args: &packed,
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

    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send)) {
        work(self);
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn separate_buffers(&self) -> bool {
        true
    }
}
