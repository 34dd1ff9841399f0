//! How does a drawn call run on a device? As a kernel of a bundle: its own, compiled for the device, or one that is there.

use super::prove::Lost;
use crate::compile::toolchain;
use crate::device;
use anyhow::{Context, Result};
use enel_bundle::{Bundle, Desc, Kernel};
use enel_codegen::{Forge, add_images};
use enel_nvrtc::{Arch, Cache, Compiler, Finished, locate};
use enel_runtime::Device;
use enel_verify::{Case, Data};
use std::num::NonZeroUsize;

/// A device, and what compiles kernels for it.
pub struct Runner {
    device: Device,
    targets: Vec<Arch>,
    forge: Option<(Compiler, Option<Cache>)>,
    /// A fault in a kernel ends a CUDA context: whatever ran on it afterwards would fail for that alone.
    lost: bool,
}

impl Runner {
    /// Opens a device.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn open(spec: &str) -> Result<Runner> {
        Runner::of(Device::open(spec)?)
    }

    /// As [`Runner::open`]; where the device is `emulated`, it draws its schedules from `seed`.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn seeded(spec: &str, seed: u64) -> Result<Runner> {
        if spec != "emulated" {
            return Runner::open(spec);
        }
        let options = enel_emulator::Options { seed, ..enel_emulator::Options::default() };
        Runner::of(Device::emulated(enel_runtime::Emulation { options, log: None }))
    }

    fn of(device: Device) -> Result<Runner> {
        let targets = device::targets(&device);
        Ok(Runner { device, targets, forge: None, lost: false })
    }

    /// How the device calls itself.
    pub fn device_name(&self) -> String {
        self.device.name()
    }

    /// True once a kernel has ended the device.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Opens the compiler library, where the device needs one.
    ///
    /// # Errors
    /// There is none; the message names the command that installs it.
    pub fn prepare(&mut self) -> Result<()> {
        if !self.targets.is_empty() && self.forge.is_none() {
            let compiler = Compiler::open(&locate(&toolchain::search())?)?;
            let cache = device::cache_dir().map(|dir| Cache::open(&dir.join("kernels"))).transpose()?;
            self.forge = Some((compiler, cache));
        }
        Ok(())
    }

    /// A bundle of one kernel that computes `desc` on this device.
    ///
    /// # Errors
    /// No compiler library, or a kernel that does not compile.
    pub fn compile(&mut self, desc: &Desc) -> Result<Bundle> {
        self.compile_parts(desc.body.family(), std::slice::from_ref(desc))
    }

    /// A bundle of one kernel, called `name`, whose parts compute `descs` on this device.
    ///
    /// # Errors
    /// As [`Runner::compile`].
    pub fn compile_parts(&mut self, name: &str, descs: &[Desc]) -> Result<Bundle> {
        self.prepare()?;
        let kernel = Kernel::new(name.to_owned(), descs.iter().cloned());
        let mut bundle = Bundle { kernels: vec![kernel], ..Bundle::default() };
        if let Some((compiler, cache)) = &self.forge {
            let quiet = |_: Finished<'_>| {};
            let forge = Forge { compiler, cache: cache.as_ref(), threads: NonZeroUsize::MIN, progress: &quiet };
            add_images(&mut bundle, &self.targets, &forge)?;
        }
        Ok(bundle)
    }

    /// Runs kernel number `kernel` of `bundle` once on the parts' data; what each part's buffers hold after.
    ///
    /// # Errors
    /// What the device reports.
    pub fn run(&mut self, bundle: &Bundle, kernel: usize, parts: &[&Case]) -> Result<Vec<Vec<Data>>> {
        if self.lost {
            return Err(Lost.into());
        }
        let mut bytes: Vec<Vec<u8>> = parts.iter().flat_map(|part| &part.buffers).map(Data::to_bytes).collect();
        let sizes: Vec<i64> = parts.iter().flat_map(|part| &part.sizes).copied().collect();
        if let Err(error) = self.device.run_kernel(bundle, kernel, &mut bytes, &sizes) {
            self.lost = self.device.is_lost();
            return Err(error).context("it did not run");
        }
        let mut bytes = bytes.iter();
        let back = |part: &&Case| {
            part.buffers.iter().zip(bytes.by_ref()).map(|(data, bytes)| Data::from_bytes(data.dtype(), bytes)).collect()
        };
        Ok(parts.iter().map(back).collect())
    }
}
