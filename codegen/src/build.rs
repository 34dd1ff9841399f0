//! How does a bundle get machine code? Every kernel is rendered once and compiled for every target, in parallel.

use crate::{EmitError, render};
use enel_bundle::{Bundle, Image, ImageKind};
use enel_nvrtc::{Arch, Cache, CompileError, Compiler, Finished, KernelReport, Options, Unit, compile_all};
use std::num::NonZeroUsize;

/// Where and how kernels are compiled.
#[derive(Clone, Copy)]
pub struct Forge<'a> {
    /// The compiler library.
    pub compiler: &'a Compiler,
    /// Results of earlier compilations, if they are kept.
    pub cache: Option<&'a Cache>,
    /// Compilations at once.
    pub threads: NonZeroUsize,
    /// Told after each compilation.
    pub progress: &'a (dyn Fn(Finished<'_>) + Sync),
}

/// What became of one kernel for one target.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// Kernel of the bundle.
    pub kernel: u32,
    /// Architecture.
    pub target: Arch,
    /// Registers, spills and notes, for machine code.
    pub report: Vec<KernelReport>,
    /// Tensor-core multiplications in its text.
    pub mma_instructions: usize,
}

/// Why a bundle got no images.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A Desc has no kernel.
    #[error("kernel `{kernel}` cannot be written as CUDA")]
    Emit {
        /// Kernel name.
        kernel: String,
        /// Why.
        #[source]
        source: EmitError,
    },
    /// NVRTC refused a kernel.
    #[error("kernel `{kernel}` does not compile for {target}")]
    Compile {
        /// Kernel name.
        kernel: String,
        /// Architecture.
        target: Arch,
        /// What it said, with the lines it said it of.
        #[source]
        source: Box<CompileError>,
    },
}

/// Renders and compiles every kernel of `bundle` and puts the images into it; its launches and configs are set.
///
/// A real architecture gives machine code, and `sm_80` also gives text, which later architectures load; a virtual one
/// gives text alone.
///
/// # Errors
/// [`BuildError`] of the first kernel that fails; the bundle then holds no images.
pub fn add_images(bundle: &mut Bundle, targets: &[Arch], forge: &Forge<'_>) -> Result<Vec<Compilation>, BuildError> {
    bundle.images.clear();
    let mut sources = Vec::with_capacity(bundle.kernels.len());
    for kernel in &mut bundle.kernels {
        let rendered = render(&kernel.name, kernel.descs())
            .map_err(|source| BuildError::Emit { kernel: kernel.name.clone(), source })?;
        kernel.launch = Some(rendered.launch);
        for (part, config) in kernel.parts.iter_mut().zip(rendered.configs) {
            part.config = config;
        }
        sources.push(rendered.source);
    }
    let jobs: Vec<(usize, Arch)> =
        (0..sources.len()).flat_map(|kernel| targets.iter().map(move |&target| (kernel, target))).collect();
    let unit = |&(kernel, arch): &(usize, Arch)| Unit {
        name: &bundle.kernels[kernel].name,
        source: &sources[kernel],
        arch,
        options: Options::default(),
    };
    let units: Vec<Unit<'_>> = jobs.iter().map(unit).collect();
    let results = compile_all(forge.compiler, forge.cache, &units, forge.threads, forge.progress);
    let mut images = Vec::new();
    let mut compilations = Vec::new();
    for (&(kernel, target), result) in jobs.iter().zip(results) {
        let compiled = result.map_err(|source| BuildError::Compile {
            kernel: bundle.kernels[kernel].name.clone(),
            target,
            source: Box::new(source),
        })?;
        let kernel = kernel as u32;
        let mma_instructions = tensor_instructions(&compiled.ptx);
        if let Some(bytes) = compiled.cubin {
            images.push(Image { kernel, target: target.to_string(), kind: ImageKind::Cubin, bytes });
        }
        if target == Arch::SM_80 || !target.is_real() {
            let text = compiled.ptx.into_bytes();
            images.push(Image { kernel, target: Arch::COMPUTE_80.to_string(), kind: ImageKind::Ptx, bytes: text });
        }
        compilations.push(Compilation { kernel, target, report: compiled.report, mma_instructions });
    }
    bundle.images = images;
    Ok(compilations)
}

/// Lines of PTX that multiply on tensor cores.
fn tensor_instructions(ptx: &str) -> usize {
    let multiplies = |line: &&str| {
        let line = line.trim_start();
        ["mma.sync", "wgmma.mma_async", "wmma.mma"].iter().any(|name| line.starts_with(name))
    };
    ptx.lines().filter(multiplies).count()
}
