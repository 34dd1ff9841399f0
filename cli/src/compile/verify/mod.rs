//! Are kernels right on this device? Drawn calls of every family, or of a bundle's own kernels, against their meaning in f64.
//!
//! Law: nothing is left out silently, and a failure prints the seed and the smallest call that shows it. `prove` draws and
//! shrinks, `runner` compiles and runs, `family` and `bundle` say what is proved.

pub mod bundle;
pub mod family;
pub mod mutants;
pub mod prove;
pub mod runner;

use crate::enel::progress::Progress;
use crate::{Mistake, Usage, outln};
use anyhow::{Context, Result};
use clap::Args;
use enel_verify::Shipped;
use enel_verify::draw::Family;
use prove::{Proof, Settings};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Proves kernels on a device: drawn calls against their meaning, with the tolerance honest rounding needs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel-compile verify --device cuda:0\n  \
    enel-compile verify --family attention --family topk --device emulated --cases 64 --seed 7\n  \
    enel-compile verify tiny.enel --device cpu --json\n  \
    enel-compile verify --family scatter --mutants\n  enel-compile verify --mutants --kernel fps_warp --json\n\n\
    A family is proved on calls drawn over all its templates, each compiled for the device. A bundle is proved kernel by \
    kernel, as its plans call them at small sizes, with the code it carries. Exit code 1 when a kernel is wrong, or a planted \
    fault goes unnoticed.")]
pub struct VerifyArgs {
    /// A bundle whose kernels are proved; without one, families are.
    #[arg(conflicts_with = "family")]
    pub bundle: Option<PathBuf>,
    /// A family (map, reduce, contract, attention, attention_grad, fps, knn, topk, scatter), as often as wanted; all by default.
    #[arg(long, value_name = "NAME")]
    pub family: Vec<String>,
    /// cpu, cpu:N, emulated or cuda:N.
    #[arg(long, default_value = "emulated")]
    pub device: String,
    /// Calls per family, or per kernel of a bundle.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub cases: u32,
    /// What the calls, and the schedules of `emulated`, are drawn from; equal seeds draw equal ones.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Most scalar instructions, in millions, that one call of a bundle's kernel may take to evaluate.
    #[arg(long, value_name = "MILLIONS", default_value_t = 20)]
    pub work: u64,
    /// Plant faults in every shipped kernel of the families, and tell which of them nothing would notice.
    #[arg(long, conflicts_with = "bundle")]
    pub mutants: bool,
    /// Plant them only in shipped kernels whose names begin so, as often as wanted.
    #[arg(long, value_name = "NAME", requires = "mutants")]
    pub kernel: Vec<String>,
    /// Of the numbers of a kernel change every N-th only; what orders is always deleted.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "mutants", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Leave the PTX of each kernel in this folder: what is missed is told by its lines.
    #[arg(long, value_name = "DIR", requires = "mutants")]
    pub texts: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What was proved, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// A proof per family, or per kernel of a bundle.
    pub proofs: Vec<Proof>,
    /// Kernel and reason.
    pub skipped: Vec<(String, String)>,
}

/// Runs the subcommand.
///
/// # Errors
/// Unknown families and devices, a bundle that cannot be read, no compiler library; [`Mistake`] when a kernel is wrong.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let settings = Settings { cases: args.cases, seed: args.seed };
    let mut runner = runner::Runner::seeded(&args.device, args.seed)?;
    let name = runner.device_name();
    eprintln!("proving on {name}, seed {}", args.seed);
    if args.mutants {
        return hunt(&mut runner, args);
    }
    let summary = match &args.bundle {
        Some(path) => {
            let read = enel_bundle::Bundle::read(path);
            let read = read.with_context(|| format!("cannot read {}", path.display()))?;
            bundle::verify(&mut runner, &read, (settings, args.work.saturating_mul(1_000_000)))
        }
        None => {
            let families = families(&args.family)?;
            runner.prepare()?;
            family::verify(&mut runner, &families, settings)
        }
    };
    show(&summary, (&name, args))?;
    let proved = summary.proofs.iter().all(|p| p.failure.is_none()) && summary.proofs.iter().any(|p| p.cases > 0);
    if proved { Ok(()) } else { Err(Mistake.into()) }
}

/// Schedules under which a kernel as it is has to pass before faults are planted in it.
const SCHEDULES: u64 = 20;

fn hunt(runner: &mut runner::Runner, args: &VerifyArgs) -> Result<()> {
    if !runner.device_name().starts_with("emulated") {
        return Err(Usage("faults are planted in text, which only `--device emulated` reads".to_owned()).into());
    }
    let names: Vec<&str> = families(&args.family)?.into_iter().map(Family::name).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let effort = mutants::hunt::Effort { schedules: SCHEDULES, every: args.every as usize, threads };
    let chosen = |shipped: &Shipped| {
        let of_family = shipped.descs.iter().any(|desc| names.contains(&desc.body.family()));
        of_family && (args.kernel.is_empty() || args.kernel.iter().any(|name| shipped.name.starts_with(name.as_str())))
    };
    mutants::run(runner, chosen, effort, (args.texts.as_deref(), args.json))
}

fn families(names: &[String]) -> Result<Vec<Family>> {
    let find = |name: &String| Family::ALL.into_iter().find(|f| f.name() == name);
    let known = || Family::ALL.map(Family::name).join(", ");
    let unknown = |name: &String| Usage(format!("`{name}` is no family; there are: {}", known()));
    if names.is_empty() {
        return Ok(Family::ALL.to_vec());
    }
    names.iter().map(|name| find(name).ok_or_else(|| unknown(name).into())).collect()
}

/// A line that moves on a terminal.
fn progress(what: &str, total: u32) -> Progress {
    Progress::count(what, total.into())
}

fn show(summary: &Summary, (device, args): (&str, &VerifyArgs)) -> Result<()> {
    let passed = summary.proofs.iter().all(|p| p.failure.is_none());
    if args.json {
        let skipped: Vec<Value> =
            summary.skipped.iter().map(|(kernel, reason)| json!({ "kernel": kernel, "reason": reason })).collect();
        let proofs: Vec<Value> = summary.proofs.iter().map(row).collect();
        return crate::out::json(&json!({
            "device": device, "seed": args.seed, "cases": args.cases, "passed": passed, "proofs": proofs, "skipped": skipped,
        }));
    }
    let width = summary.proofs.iter().map(|p| p.name.len()).max().unwrap_or(0).max(6);
    let broad = summary.proofs.iter().map(|p| p.family.len()).max().unwrap_or(0).max(6);
    outln!("{:width$}  {:broad$}  cases  worst error / tolerance     time", "kernel", "family")?;
    for Proof { name, family, cases, worst, seconds, failure } in &summary.proofs {
        let verdict = if failure.is_some() { "  WRONG" } else { "" };
        outln!("{name:width$}  {family:broad$}  {cases:5}  {worst:23.3}  {seconds:5.1} s{verdict}")?;
    }
    for (kernel, reason) in &summary.skipped {
        outln!("skipped {kernel}: {reason}")?;
    }
    for proof in &summary.proofs {
        if let Some(failure) = &proof.failure {
            outln!("\n{} is wrong, seed {}:\n  {}\n  {}", proof.name, args.seed, failure.call, failure.reason)?;
        }
    }
    Ok(())
}

fn row(proof: &Proof) -> Value {
    let Proof { name, family, cases, worst, seconds, failure } = proof;
    json!({
        "name": name, "family": family, "cases": cases, "worst": worst, "seconds": seconds,
        "failure": failure.as_ref().map(|f| json!({ "call": f.call, "reason": f.reason })),
    })
}
