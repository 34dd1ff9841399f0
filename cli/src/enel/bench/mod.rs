//! How fast does the model run here? One workload, timed again and again, beside what the machine can do at best.
//!
//! Law: the machine's limits are measured in the same run, so their ratio to the workload means something.

mod measure;
mod train;
mod work;

use crate::compile::ModeArg;
use crate::{out, outln};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// Times a part of the model and prints it beside the machine's own limits.
#[derive(Debug, Args)]
#[command(
    after_help = "Weights are random and inputs made up: only their sizes matter here. On a shared machine compare \
    ratios, not seconds.\n\nExamples:\n  \
    enel bench embed --config enel-7b --device cpu --json\n  \
    enel bench prefill --config llama-110m --tokens 512\n  \
    enel bench decode --config llama-110m --mode bf16 --tokens 512 --steps\n  \
    enel bench train-step --config small --clouds 4 --tokens 192 --json"
)]
pub struct BenchArgs {
    /// What is timed.
    #[arg(value_enum)]
    pub work: Work,
    /// A preset: its embedder, or its decoder.
    #[arg(long, value_name = "PRESET", default_value = "llama-110m")]
    pub config: String,
    /// auto, cpu, cpu:THREADS, emulated or cuda:N.
    #[arg(long, default_value = "auto", value_parser = super::device_name)]
    pub device: String,
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "f32")]
    pub mode: ModeArg,
    /// Tokens of the prompt: those timed by `prefill`, those before the ones timed by `decode`, those of each cloud's
    /// prompt in `train-step`.
    #[arg(long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub tokens: u32,
    /// Clouds at once, for `embed` and `train-step`.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub clouds: u32,
    /// Timed runs; the median counts. One more runs first and is not counted.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Also time every kernel, in a run of its own.
    #[arg(long)]
    pub steps: bool,
    /// Do not measure the machine's own limits.
    #[arg(long)]
    pub no_limits: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What can be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Clouds to point tokens.
    Embed,
    /// A prompt into the cache, and its next token's scores.
    Prefill,
    /// One token after the others.
    Decode,
    /// A step of the first stage: the hybrid loss of `--clouds` prompts of `--tokens` tokens, its derivatives, AdamW.
    TrainStep,
}

/// Runs the subcommand.
///
/// # Errors
/// An unknown preset, a device that cannot be opened, what it reports.
pub fn bench(args: &BenchArgs) -> Result<()> {
    let mut work = work::prepare(args)?;
    let timed = measure::time(&mut work, args)?;
    let limits = if args.no_limits { None } else { measure::limits(&work)? };
    let result = result(args, &work, &timed, limits.as_ref());
    if args.json { out::json(&result) } else { table(&result, &timed) }
}

fn result(args: &BenchArgs, work: &work::Workload, timed: &measure::Timed, limits: Option<&measure::Limits>) -> Value {
    let median_s = timed.median_s();
    let gflops = work.flop / median_s / 1e9;
    let gb_per_s = work.read_bytes / median_s / 1e9;
    let mut value = json!({
        "work": args.work.to_possible_value().map(|v| v.get_name().to_owned()),
        "config": args.config,
        "device": work.device,
        "mode": match args.mode { ModeArg::F32 => "f32", ModeArg::Bf16 => "bf16" },
        "tokens": args.tokens,
        "clouds": args.clouds,
        "repeat": args.repeat,
        "median_s": median_s,
        "min_s": timed.min_s(),
        "max_s": timed.max_s(),
        "gflop": work.flop / 1e9,
        "gflops": gflops,
        "read_gb": work.read_bytes / 1e9,
        "gb_per_s": gb_per_s,
        "peak_bytes": timed.peak_bytes,
        "temp_bytes": timed.temp_bytes,
        "launches": timed.launches,
    });
    if let Some(limits) = limits {
        value["gemm_gflops"] = json!(limits.gemm_gflops);
        value["read_gb_per_s"] = json!(limits.read_gb_per_s);
        // At best the products run at the library's rate, or the weights come at the memory's.
        value["limit_s"] =
            json!((work.flop / 1e9 / limits.gemm_gflops).max(work.read_bytes / 1e9 / limits.read_gb_per_s));
        value["of_gemm"] = json!(gflops / limits.gemm_gflops);
        value["of_read"] = json!(gb_per_s / limits.read_gb_per_s);
    }
    if !timed.steps.is_empty() {
        let steps = timed.steps.iter().map(|s| json!({ "name": s.name, "time_us": s.time_us }));
        value["steps"] = steps.collect();
    }
    value
}

fn table(result: &Value, timed: &measure::Timed) -> Result<()> {
    let number = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
    outln!(
        "{} of {} on {}, {}",
        text(result, "work"),
        text(result, "config"),
        text(result, "device"),
        text(result, "mode")
    )?;
    outln!(
        "  median    {:10.3} ms   (min {:.3}, max {:.3})",
        number("median_s") * 1e3,
        number("min_s") * 1e3,
        number("max_s") * 1e3
    )?;
    outln!(
        "  work      {:10.3} GFLOP, {:.3} GB read, {} launches",
        number("gflop"),
        number("read_gb"),
        result["launches"]
    )?;
    outln!("  rate      {:10.1} GFLOP/s, {:.2} GB/s", number("gflops"), number("gb_per_s"))?;
    if result.get("gemm_gflops").is_some() {
        outln!(
            "  limits    {:10.1} GFLOP/s library GEMM, {:.2} GB/s read",
            number("gemm_gflops"),
            number("read_gb_per_s")
        )?;
        outln!("  reached   {:10.2} of GEMM, {:.2} of read", number("of_gemm"), number("of_read"))?;
    }
    outln!(
        "  memory    {:10.1} MiB peak, {:.1} MiB temporaries",
        number("peak_bytes") / 1048576.0,
        number("temp_bytes") / 1048576.0
    )?;
    for step in &timed.steps {
        outln!("  {:>10.3} ms  {}", step.time_us / 1e3, step.name)?;
    }
    Ok(())
}

fn text<'a>(result: &'a Value, key: &str) -> &'a str {
    result[key].as_str().unwrap_or("?")
}
