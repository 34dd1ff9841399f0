//! How is a model trained from the command line? A file of settings, steps, checkpoints, and what is left of them.
//!
//! `base` opens what is trained, `budget` says what a run takes, `course` runs it.

mod base;
mod budget;
mod course;

use crate::{Usage, out};
use anyhow::{Result, bail};
use clap::Args;
use enel_train::Config;
use std::path::{Path, PathBuf};

/// Settings that are shipped.
const PRESETS: [(&str, &str); 3] = [
    ("tiny", include_str!("../../../../samples/train/tiny.toml")),
    ("small", include_str!("../../../../samples/train/small.toml")),
    ("stage1", include_str!("../../../../samples/train/stage1.toml")),
];

/// Trains a model.
#[derive(Debug, Args)]
#[command(
    after_help = "A run keeps all it has in its folder: checkpoints, which are model folders every command takes, \
    log.jsonl,\nand curves for TensorBoard. A run that was stopped or killed goes on from its newest checkpoint, to the \
    bit as\nif it had not been; Ctrl-C ends it after the step in hand.\n\n\
    Examples:\n  \
    enel train samples/train/overfit.toml --out runs/overfit\n  \
    enel train samples/train/overfit.toml --out runs/overfit --resume\n  \
    enel train --preset stage1 --print > stage1.toml\n  \
    enel train --preset stage1 --dry-run --memory 80G --tokens 256\n  \
    enel plot runs/overfit -o curves.svg\n  \
    enel caption samples/chair.ply --model runs/overfit/checkpoints/step-700"
)]
pub struct TrainArgs {
    /// Settings; `--preset NAME --print` shows some, with every key explained.
    #[arg(value_name = "CONFIG", required_unless_present = "preset", conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Shipped settings instead of a file: tiny, small or stage1.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Print the settings of the preset and end.
    #[arg(long, requires = "preset")]
    pub print: bool,
    /// Folder of the run, instead of the one in the settings.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Device, instead of the one in the settings: auto, cpu, cpu:THREADS, emulated or cuda:N.
    #[arg(long, value_parser = super::device_name)]
    pub device: Option<String>,
    /// Steps of the whole run, instead of those in the settings.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub steps: Option<u64>,
    /// Go on from the newest checkpoint, and fail where there is none. Without it a run goes on too, if it can.
    #[arg(long)]
    pub resume: bool,
    /// Stop after so many steps of this process, as Ctrl-C would.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Say what a run takes, without running it: parameters, memory, arithmetic.
    #[arg(long)]
    pub dry_run: bool,
    /// Memory of the device, such as 80G, in units of a thousand; `--dry-run` says whether the run fits.
    #[arg(long, value_name = "BYTES", requires = "dry_run", value_parser = crate::size::bytes)]
    pub memory: Option<u64>,
    /// Tokens of a sample `--dry-run` plans for, instead of the longest that is allowed.
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub tokens: Option<u64>,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Settings, data, model or device that cannot be used; a run that cannot go on, with what to do.
pub fn train(args: &TrainArgs) -> Result<()> {
    if args.print {
        return out::part(preset(args.preset.as_deref().unwrap_or_default())?);
    }
    let mut config = match (&args.config, &args.preset) {
        (Some(path), _) => Config::open(path)?,
        (None, Some(name)) => Config::parse(preset(name)?, Path::new(&format!("{name}.toml")))?,
        (None, None) => bail!(Usage("give a file of settings, or --preset".to_owned())),
    };
    if let Some(out) = &args.out {
        config.run.out = out.clone();
    }
    if let Some(device) = &args.device {
        config.run.device = device.clone();
    }
    config.run.steps = args.steps.or(config.run.steps);
    super::device_name(&config.run.device).map_err(|expected| Usage(format!("run.device: {expected}")))?;
    if args.dry_run { budget::dry_run(args, config) } else { course::run(args, config) }
}

fn preset(name: &str) -> Result<&'static str> {
    let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(text),
        None => bail!(Usage(format!("there is no preset `{name}`; known are {}", names.join(", ")))),
    }
}
