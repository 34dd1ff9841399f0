//! How is a bundle built? Graphs in, one file out, for any targets, with no GPU.

use super::FrontArgs;
use crate::outln;
use crate::{device, source};
use anyhow::{Context, Result, bail};
use clap::Args;
use enel_nvrtc::Arch;
use std::path::PathBuf;
use std::time::Instant;

/// Compiles graphs to one bundle file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel-compile build tiny --target cpu -o tiny.enel\n  \
    enel-compile build enel-7b --target sm_80,sm_90a --mode bf16 -o enel-7b.enel\n  \
    enel-compile build net.tir --target cpu,compute_80 -o net.enel")]
pub struct BuildArgs {
    /// A .tir file or a preset (tiny, small, enel-135m, enel-7b, enel-13b).
    pub model: String,
    /// What it shall run on: cpu, sm_80, sm_90a, compute_80 (text, also for the emulated device).
    #[arg(long, value_delimiter = ',', default_value = "cpu")]
    pub target: Vec<String>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented by its type")]
    pub front: FrontArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// Unknown models and targets, what compiling reports, a file that cannot be written.
pub fn build(args: &BuildArgs) -> Result<()> {
    let start = Instant::now();
    let mut targets: Vec<Arch> = Vec::new();
    for name in args.target.iter().filter(|t| *t != "cpu") {
        match name.parse() {
            Ok(arch) => targets.push(arch),
            Err(error) => bail!("`{name}` is no target ({error}); there are cpu, sm_80, sm_90a, compute_80"),
        }
    }
    let source = source::load(&args.model, args.front.mode.into())?;
    let graphs: Vec<_> = source.graphs.iter().collect();
    let mut bundle = device::build(&graphs, &args.front.config()?, &targets)?;
    if let Some(preset) = &source.preset {
        if !bundle.meta.is_object() {
            bundle.meta = serde_json::json!({});
        }
        bundle.meta["preset"] = serde_json::json!(preset);
    }
    bundle.write(&args.output).with_context(|| format!("cannot write {}", args.output.display()))?;
    let bytes = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    let row = serde_json::json!({
        "file": args.output, "bytes": bytes, "plans": bundle.plans.len(), "kernels": bundle.kernels.len(),
        "images": bundle.images.len(), "seconds": start.elapsed().as_secs_f64(),
    });
    if args.json {
        outln!("{row}")?;
    } else {
        outln!(
            "{}: {} plans, {} kernels, {} images, {:.1} MiB in {:.1} s",
            args.output.display(),
            bundle.plans.len(),
            bundle.kernels.len(),
            bundle.images.len(),
            bytes as f64 / f64::from(1 << 20),
            start.elapsed().as_secs_f64()
        )?;
    }
    Ok(())
}
