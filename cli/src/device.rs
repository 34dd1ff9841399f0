//! How does a compiled graph run on a device? Front, kernels for that device, session, values back.

use crate::compile::toolchain;
use anyhow::{Context, Result};
use enel_bundle::Bundle;
use enel_codegen::{Compilation, Forge, add_images};
use enel_interp::Tensor;
use enel_ir::{Graph, InputKind};
use enel_lower::{FrontConfig, compile};
use enel_nvrtc::{Arch, Cache, Compiler, Finished, KernelReport, locate};
use enel_passes::Mode;
use enel_runtime::{Device, HostTensor, Session};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

/// What one run is given.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// One value per symbol.
    pub symbols: &'a [i64],
    /// A tensor per input, weight and state.
    pub inputs: &'a BTreeMap<String, Tensor>,
}

/// What is compiled to run on this device, and nothing for others; none for cpu.
pub fn targets(device: &Device) -> Vec<Arch> {
    targets_of(&device.name())
}

fn targets_of(name: &str) -> Vec<Arch> {
    if name.starts_with("cpu") {
        vec![]
    } else if name.starts_with("emulated") {
        vec![Arch::COMPUTE_80]
    } else if name.contains(", sm_90)") {
        vec![Arch::SM_90A]
    } else {
        // Machine code for cards of this major version, and text for later ones.
        vec![Arch::SM_80]
    }
}

/// Compiles graphs into a bundle with images for `targets`.
///
/// # Errors
/// What the front, the templates or NVRTC report; a missing compiler library names the command that installs it.
pub fn build(graphs: &[&Graph], config: &FrontConfig, targets: &[Arch]) -> Result<Bundle> {
    let compiled = compile(graphs, config)?;
    let mode = match config.mode {
        Mode::F32 => "f32",
        Mode::Bf16 => "bf16",
    };
    let mut bundle =
        Bundle { mode: mode.to_owned(), plans: compiled.plans, kernels: compiled.kernels, ..Bundle::default() };
    if targets.is_empty() {
        return Ok(bundle);
    }
    let compiler = Compiler::open(&locate(&toolchain::search())?)?;
    let cache = cache_dir().map(|dir| Cache::open(&dir.join("kernels"))).transpose()?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let forge = Forge { compiler: &compiler, cache: cache.as_ref(), threads, progress: &say };
    let compilations = add_images(&mut bundle, targets, &forge)?;
    bundle.meta = json!({ REPORTS: compilations.iter().map(report_row).collect::<Vec<_>>() });
    Ok(bundle)
}

/// Where a bundle's metadata keeps what the assembler said of each kernel and target.
pub const REPORTS: &str = "reports";

fn report_row(compilation: &Compilation) -> Value {
    let Compilation { kernel, target, report, mma_instructions } = compilation;
    let sum = |field: fn(&KernelReport) -> u32| report.iter().map(field).sum::<u32>();
    json!({
        "kernel": kernel,
        "target": target.to_string(),
        "registers": report.iter().map(|r| r.registers).max(),
        "spill_bytes": sum(|r| r.spill_store_bytes) + sum(|r| r.spill_load_bytes),
        "static_smem_bytes": sum(|r| r.static_smem_bytes),
        "stack_bytes": sum(|r| r.stack_bytes),
        "notes": report.iter().flat_map(|r| &r.notes).collect::<Vec<_>>(),
        "mma_instructions": mma_instructions,
    })
}

/// One line on stderr that counts compilations, on a terminal only.
fn say(done: Finished<'_>) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        let end = if done.n_done == done.n_units { '\n' } else { ' ' };
        eprint!("\rcompiling kernels {}/{} {:40}{end}", done.n_done, done.n_units, done.name);
    }
}

/// The user's cache folder, `$XDG_CACHE_HOME/enel` or `~/.cache/enel`.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| set("HOME").map(|h| h.join(".cache")))?;
    Some(base.join("enel"))
}

/// Compiles `graph` for `device` and runs it once.
///
/// # Errors
/// What compiling, opening the device or running gives.
pub fn run_graph(
    graph: &Graph,
    config: &FrontConfig,
    device: &str,
    feed: &Feed<'_>,
) -> Result<BTreeMap<String, Tensor>> {
    let device = Device::open(device)?;
    let bundle = build(&[graph], config, &targets(&device))?;
    let mut session = Session::new(Arc::new(bundle), device)?;
    let host = |t: &Tensor| HostTensor::new(t.dtype, &t.shape, t.to_bytes());
    let mut weights = BTreeMap::new();
    let mut inputs = BTreeMap::new();
    let mut states = Vec::new();
    for (_, name, kind) in graph.inputs() {
        let tensor = host(feed.inputs.get(name).with_context(|| format!("no value for `{name}`"))?)?;
        match kind {
            InputKind::Weight => drop(weights.insert(name.to_owned(), tensor)),
            InputKind::Data => drop(inputs.insert(name.to_owned(), tensor)),
            InputKind::State => states.push((name.to_owned(), tensor)),
        }
    }
    session.bind(&weights)?;
    let symbols: Vec<(&str, i64)> =
        graph.symbols.iter().zip(feed.symbols).map(|(s, &v)| (s.name.as_str(), v)).collect();
    session.set_state_symbols(&symbols)?;
    for (name, tensor) in &states {
        let mut state = session.state(name)?;
        let value = converted(tensor, state.dtype())?;
        state.write(&value)?;
    }
    let mut outputs = session.run(graph.name(), &symbols, &inputs)?;
    for output in graph.outputs() {
        if let Some(id) = output.updates
            && let Some((_, name, _)) = graph.inputs().find(|(i, ..)| *i == id)
        {
            outputs.insert(output.name.clone(), session.state(name)?.read()?);
        }
    }
    let back = |(name, t): (String, HostTensor)| Ok((name, Tensor::from_bytes(t.dtype(), t.shape(), t.bytes())?));
    outputs.into_iter().map(back).collect()
}

/// A state may be stored in a narrower dtype than the graph declares.
fn converted(tensor: &HostTensor, to: enel_ir::DType) -> Result<HostTensor> {
    let wide = Tensor::from_bytes(tensor.dtype(), tensor.shape(), tensor.bytes())?;
    let narrow = Tensor::new(to, &wide.shape, wide.values)?;
    Ok(HostTensor::new(to, tensor.shape(), narrow.to_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_compiled_for_alone() {
        assert_eq!(targets_of("cpu (16 threads)"), []);
        assert_eq!(targets_of("emulated"), [Arch::COMPUTE_80]);
        assert_eq!(targets_of("cuda:0 (NVIDIA H100 80GB HBM3, sm_90)"), [Arch::SM_90A]);
        for name in ["A100-SXM4-80GB, sm_80", "GeForce RTX 4090, sm_89", "B200, sm_100", "RTX 5090, sm_120"] {
            assert_eq!(targets_of(&format!("cuda:1 (NVIDIA {name})")), [Arch::SM_80], "{name}");
        }
    }
}
