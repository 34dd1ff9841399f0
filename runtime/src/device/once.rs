//! How does one kernel run by itself? Its own buffers up, one launch, its results down; for proving kernels on a device.

use super::{Arg, Backend, BufferId, Device, KernelId, Slice};
use crate::error::DeviceError;
use enel_bundle::{Access, Bundle, Kernel};

/// What the results of a device that cannot tell what was written hold before a launch: floats are NaN, integers odd.
const POISON: u8 = 0xff;

impl Device {
    /// Runs kernel number `kernel` of a bundle once.
    ///
    /// `buffers` are those of all parts in order, `dynamics` likewise. Contents of buffers that are only written are not
    /// uploaded; those that are written or updated hold the results afterwards. A kernel with scratch memory runs twice,
    /// since each launch has to leave that fit for the next.
    ///
    /// # Errors
    /// [`DeviceError`]: counts or sizes the kernel was not compiled for, no image for this device, or a fault of the kernel.
    pub fn run_kernel(
        &mut self,
        bundle: &Bundle,
        kernel: usize,
        buffers: &mut [Vec<u8>],
        dynamics: &[i64],
    ) -> Result<(), DeviceError> {
        let id = kernel as u32;
        let found = bundle.kernels.get(kernel).ok_or(DeviceError::Unknown { what: "kernel", id })?;
        check(found, buffers, dynamics)?;
        let device = self.backend();
        let loaded = device.load(bundle, kernel)?;
        let mut allocated = Vec::with_capacity(buffers.len());
        let result = run(device, (found, loaded), (buffers, &mut allocated), dynamics);
        for buffer in allocated {
            device.free(buffer);
        }
        result
    }
}

fn check(kernel: &Kernel, buffers: &[Vec<u8>], dynamics: &[i64]) -> Result<(), DeviceError> {
    let refuse = |message| Err(DeviceError::Launch { kernel: kernel.name.clone(), message });
    let (n_buffers, n_dynamics) = (kernel.buffers().count(), kernel.dynamics().count());
    if (buffers.len(), dynamics.len()) != (n_buffers, n_dynamics) {
        let (got_buffers, got_sizes) = (buffers.len(), dynamics.len());
        return refuse(format!(
            "it takes {n_buffers} buffers and {n_dynamics} sizes, not {got_buffers} and {got_sizes}"
        ));
    }
    for (dynamic, value) in kernel.dynamics().zip(dynamics) {
        let (max, multiple) = (dynamic.max, dynamic.multiple.max(1));
        if *value < 0 || *value > max || value % multiple != 0 {
            return refuse(format!("size {value} is not a multiple of {multiple} up to {max}"));
        }
    }
    Ok(())
}

fn run(
    device: &mut dyn Backend,
    (kernel, loaded): (&Kernel, KernelId),
    (buffers, allocated): (&mut [Vec<u8>], &mut Vec<BufferId>),
    dynamics: &[i64],
) -> Result<(), DeviceError> {
    let has_scratch = kernel.launch.as_ref().is_some_and(|launch| launch.scratch_bytes > 0);
    let mut args = Vec::with_capacity(buffers.len());
    for _ in 0..if has_scratch { 2 } else { 1 } {
        args.clear();
        for (role, bytes) in kernel.buffers().zip(buffers.iter()) {
            // Empty buffers get an address too.
            let buffer = device.allocate(bytes.len().max(1))?;
            allocated.push(buffer);
            let slice = Slice { buffer, offset_bytes: 0, size_bytes: bytes.len() };
            args.push(Arg { slice, access: role.access });
            match role.access {
                Access::Read | Access::Update => device.upload(slice, bytes)?,
                // A device that keeps buffers apart knows which bytes nobody wrote.
                Access::Write if device.separate_buffers() => {}
                Access::Write => device.fill(slice, POISON)?,
            }
        }
        device.launch(loaded, &args, dynamics)?;
        device.synchronize()?;
    }
    for (arg, bytes) in args.iter().zip(buffers) {
        if arg.access != Access::Read {
            device.download(arg.slice, bytes)?;
        }
    }
    Ok(())
}
