//! What can every device do? Memory, kernels and order, behind one trait.
//!
//! Law: a device knows kernels and bytes, never plans. Calls take effect in the order they are made; an
//! `upload` may wait, a `download` and `synchronize` do. Which device is which: `cpu` native faces, `emulated` the PTX machine, `cuda` the driver.

mod cpu;
mod cuda;
mod emulated;
mod images;
mod once;
mod recording;

pub use emulated::{Emulation, LaunchLog};

use crate::error::{DeviceError, OpenError};
use enel_bundle::{Access, Bundle};

/// An allocation of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u32);

/// A kernel loaded on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelId(pub u32);

/// A recorded sequence of launches and copies of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GraphId(pub u32);

/// Part of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    /// The allocation.
    pub buffer: BufferId,
    /// Where the part begins.
    pub offset_bytes: usize,
    /// How long it is.
    pub size_bytes: usize,
}

/// A buffer argument of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The bytes.
    pub slice: Slice,
    /// What the kernel does with them.
    pub access: Access,
}

/// One device's memory, kernels and order of work.
///
/// Methods return [`DeviceError`]; a range outside its allocation is an error, never a wild access.
pub trait Backend: Send {
    /// How the device calls itself, such as `cpu (16 threads)`.
    fn name(&self) -> String;

    /// New memory at an address aligned to 256 bytes; its content is undefined.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn allocate(&mut self, size_bytes: usize) -> Result<BufferId, DeviceError>;

    /// Gives memory back, once the work that uses it is done. Unknown ids are ignored.
    fn free(&mut self, buffer: BufferId);

    /// Host to device; `bytes` may be reused on return.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Device to host, waiting for earlier work.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Device to device, equal sizes, no overlap.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn copy(&mut self, from: Slice, to: Slice) -> Result<(), DeviceError>;

    /// Sets every byte.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn fill(&mut self, slice: Slice, byte: u8) -> Result<(), DeviceError>;

    /// Makes the content undefined again, as in new memory, where the device can tell; it keeps its address.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn forget(&mut self, _slice: Slice) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Makes kernel number `kernel` of a bundle ready.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no image for this device or it does not load.
    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Result<KernelId, DeviceError>;

    /// Runs a kernel: buffers in Desc order, then dynamic sizes.
    ///
    /// # Errors
    /// [`DeviceError`]; a fault inside the kernel may only show at the next call that waits.
    fn launch(&mut self, kernel: KernelId, args: &[Arg], dynamics: &[i64]) -> Result<(), DeviceError>;

    /// Calls `work` with this device, once; a device whose calls wake other threads keeps those awake meanwhile.
    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send));

    /// Waits for all work.
    ///
    /// # Errors
    /// [`DeviceError`] when earlier work failed.
    fn synchronize(&mut self) -> Result<(), DeviceError>;

    /// Notes a point in the order of work, for [`Backend::between_marks_us`]; false where a device has no clock of its own.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn mark(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// Microseconds between the marks made since the last time, once the work before them is done.
    ///
    /// # Errors
    /// [`DeviceError`] when that work failed.
    fn between_marks_us(&mut self) -> Result<Vec<f64>, DeviceError> {
        Ok(Vec::new())
    }

    /// True when every buffer should be an allocation of its own, so that the device can tell them apart.
    fn separate_buffers(&self) -> bool {
        false
    }

    /// Starts recording launches and copies instead of running them; false where a device cannot.
    ///
    /// # Errors
    /// [`DeviceError`].
    fn begin_capture(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// Ends recording.
    ///
    /// # Errors
    /// [`DeviceError::NoCapture`] where a device cannot.
    fn end_capture(&mut self) -> Result<GraphId, DeviceError> {
        Err(DeviceError::NoCapture)
    }

    /// Runs what was recorded, on the same addresses.
    ///
    /// # Errors
    /// [`DeviceError`]; [`DeviceError::Recorded`] where the device knows which call it was.
    fn replay(&mut self, _graph: GraphId) -> Result<(), DeviceError> {
        Err(DeviceError::NoCapture)
    }

    /// Forgets a recording. Unknown ids are ignored.
    fn drop_graph(&mut self, _graph: GraphId) {}
}

/// A device to run on.
pub struct Device(Box<dyn Backend>);

impl Device {
    /// Opens `cpu`, `cpu:N` (N threads), `emulated`, `cuda`, `cuda:N`, or `auto`: the first CUDA device, else the cpu.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(spec: &str) -> Result<Device, OpenError> {
        let unknown = || OpenError::UnknownDevice { spec: spec.to_owned() };
        let (kind, number) = match spec.split_once(':') {
            Some((kind, number)) => (kind, Some(number.parse::<usize>().map_err(|_| unknown())?)),
            None => (spec, None),
        };
        match (kind, number) {
            ("cpu", threads) => Ok(Device(Box::new(cpu::CpuDevice::open(threads.unwrap_or(0))?))),
            ("emulated", None) => Ok(Device(Box::new(emulated::EmulatedDevice::open(Emulation::default())))),
            ("cuda", ordinal) => Ok(Device(Box::new(cuda::CudaDevice::open(ordinal.unwrap_or(0))?))),
            ("auto", None) => match cuda::CudaDevice::open(0) {
                Ok(device) => Ok(Device(Box::new(device))),
                Err(_) => Device::open("cpu"),
            },
            _ => Err(unknown()),
        }
    }

    /// The PTX machine, run as `how` says.
    pub fn emulated(how: Emulation) -> Device {
        Device(Box::new(emulated::EmulatedDevice::open(how)))
    }

    /// A device made elsewhere.
    pub fn from_backend(backend: Box<dyn Backend>) -> Device {
        Device(backend)
    }

    /// How the device calls itself.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// True when nothing runs on it any more, as after a fault in a kernel of a GPU.
    pub fn is_lost(&mut self) -> bool {
        self.0.synchronize().is_err()
    }

    pub(crate) fn backend(&mut self) -> &mut dyn Backend {
        self.0.as_mut()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.name())
    }
}

/// Things found by number; numbers are never given twice while in use.
struct Slots<T>(Vec<Option<T>>);

impl<T> Slots<T> {
    const fn new() -> Slots<T> {
        Slots(Vec::new())
    }

    fn insert(&mut self, item: T) -> u32 {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(item);
        free as u32
    }

    fn get(&self, id: u32) -> Option<&T> {
        self.0.get(id as usize)?.as_ref()
    }

    fn take(&mut self, id: u32) -> Option<T> {
        self.0.get_mut(id as usize)?.take()
    }

    fn put_back(&mut self, id: u32, item: T) {
        self.0[id as usize] = Some(item);
    }
}
