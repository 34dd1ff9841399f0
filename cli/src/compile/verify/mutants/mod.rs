//! Would a fault in a shipped kernel be noticed? Every one a tool can plant is, or is listed with the reason why it is none.
//!
//! Law: what is neither caught nor explained is told and makes the run fail. `hunt` plants and runs, `equivalent` explains.

pub mod equivalent;
pub mod hunt;

use super::runner::Runner;
use crate::{Mistake, outln};
use anyhow::{Context, Result};
use enel_emulator::Fault;
use enel_verify::{Shipped, shipped};
use hunt::{Effort, Hunt, Missed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Hunts in the chosen kernels, and prints what came of it; `texts` is where their texts are left.
///
/// # Errors
/// [`Mistake`] where a mutant is missed; kernels that do not compile or do not pass as they are; a folder that cannot be
/// written.
pub fn run(
    runner: &mut Runner,
    chosen: impl Fn(&Shipped) -> bool,
    effort: Effort,
    (texts, is_json): (Option<&Path>, bool),
) -> Result<()> {
    if let Some(folder) = texts {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let hunts = hunts(runner, chosen, effort, |hunt| {
        if let Some(folder) = texts {
            let path = folder.join(format!("{}.ptx", hunt.kernel));
            std::fs::write(&path, &hunt.ptx).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if is_json { Ok(()) } else { show(hunt) }
    })?;
    let is_whole = hunts.iter().all(|hunt| hunt.missed.is_empty());
    if is_json {
        let rows: Vec<Value> = hunts.iter().map(row).collect();
        crate::out::json(&json!({ "passed": is_whole, "kernels": rows }))?;
    } else {
        total(&hunts)?;
    }
    if is_whole { Ok(()) } else { Err(Mistake.into()) }
}

/// Hunts in the chosen kernels; `tell` hears of each when it is done.
///
/// # Errors
/// Kernels that do not compile or do not pass as they are.
pub fn hunts(
    runner: &mut Runner,
    chosen: impl Fn(&Shipped) -> bool,
    effort: Effort,
    tell: impl Fn(&Hunt) -> Result<()>,
) -> Result<Vec<Hunt>> {
    let mut hunts = Vec::new();
    for kernel in shipped().into_iter().filter(chosen) {
        let bundle = runner.compile_parts(kernel.name, &kernel.descs)?;
        let templates = enel_codegen::render(kernel.name, &kernel.descs)?.templates;
        let hunt = hunt::hunt(&kernel, &bundle, templates, effort)?;
        tell(&hunt)?;
        hunts.push(hunt);
    }
    Ok(hunts)
}

fn show(hunt: &Hunt) -> Result<()> {
    let Hunt { kernel, ptx: _, templates, planted: (n, of), caught, by_larger, equivalent, missed, seconds } = hunt;
    let by = |name: &str| {
        caught.iter().filter(|((_, by), _)| (*by == "value") == (name == "value")).map(|(_, n)| n).sum::<usize>()
    };
    outln!(
        "{kernel:26} {n:5} of {of:5} mutants, by check {:5}, by value {:5} ({by_larger} by a larger change), equivalent {:4}, missed {:4}, {seconds:6.1} s  {}",
        by("check"),
        by("value"),
        equivalent.len(),
        missed.len(),
        templates.join(" "),
    )?;
    for Missed { mutant, is_reached } in missed {
        outln!("    missed{}: {mutant}", if *is_reached { "" } else { " (never reached)" })?;
    }
    Ok(())
}

/// A row per class of fault, over all kernels.
fn total(hunts: &[Hunt]) -> Result<()> {
    outln!("\nclass    caught by")?;
    for fault in Fault::ALL {
        let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
        for ((class, by), n) in hunts.iter().flat_map(|hunt| &hunt.caught) {
            if *class == fault.name() {
                *sums.entry(by).or_default() += n;
            }
        }
        let sums: Vec<String> = sums.iter().map(|(by, n)| format!("{by} {n}")).collect();
        outln!("{:8} {}", fault.name(), sums.join(", "))?;
    }
    let sum = |of: fn(&Hunt) -> usize| hunts.iter().map(of).sum::<usize>();
    outln!(
        "{} mutants of {} in {} kernels: {} caught, {} equivalent, {} missed",
        sum(|hunt| hunt.planted.0),
        sum(|hunt| hunt.planted.1),
        hunts.len(),
        sum(|hunt| hunt.caught.values().sum()),
        sum(|hunt| hunt.equivalent.len()),
        sum(|hunt| hunt.missed.len()),
    )
}

fn row(hunt: &Hunt) -> Value {
    let Hunt { kernel, ptx: _, templates, planted, caught, by_larger, equivalent, missed, seconds } = hunt;
    let caught: Vec<Value> =
        caught.iter().map(|((fault, by), n)| json!({ "fault": fault, "by": by, "mutants": n })).collect();
    let equivalent: Vec<Value> =
        equivalent.iter().map(|(mutant, reason)| json!({ "mutant": mutant.to_string(), "reason": reason })).collect();
    let missed: Vec<Value> = missed
        .iter()
        .map(|Missed { mutant, is_reached }| json!({ "mutant": mutant.to_string(), "reached": is_reached }))
        .collect();
    json!({
        "kernel": kernel, "templates": templates, "planted": planted.0, "mutants": planted.1, "caught": caught,
        "by_larger": by_larger, "equivalent": equivalent, "missed": missed, "seconds": seconds,
    })
}
