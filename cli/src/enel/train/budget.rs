//! What would a run take? The plan of the very graphs it would run, with the sums shown.
//!
//! Law: nothing is read but settings and the folder's sizes, nothing is allocated; no device and no GPU compiler is
//! needed.

use super::{TrainArgs, base};
use crate::enel::progress::Progress;
use crate::{out, outln};
use anyhow::{Context, Result};
use enel_bundle::Bundle;
use enel_train::Memory;
use enel_train::config::Config;
use enel_train::steps::{Graphs, front};
use serde_json::json;
use std::time::Instant;

/// Steps the schedule is written for where data is not looked at; no size depends on them.
const STEPS: u64 = 1000;
/// Kinds of temporaries that are listed.
const SHOWN: usize = 6;
/// Bytes of a GB, as vendors count memory.
const GB: f64 = 1e9;

/// Prints parameters, memory and arithmetic of a run.
///
/// # Errors
/// Settings without a graph, sizes out of bounds; a run that does not fit `--memory` is an answer and no error.
pub(super) fn dry_run(args: &TrainArgs, config: Config) -> Result<()> {
    let base = base::open(&config.model)?;
    let train = base.train_config(&config)?;
    let clock = Instant::now();
    let progress = Progress::spinner("writing the graphs");
    let graphs = Graphs::build(&base, &train, &config, config.run.steps.unwrap_or(STEPS))?;
    let n_nodes = graphs.list().iter().map(|graph| graph.len()).sum::<usize>();
    let graphs_s = clock.elapsed().as_secs_f64();
    progress.say("planning");
    let compiled = enel_lower::compile(&graphs.list(), &front(config.run.mode, config.batch.temporaries_gb))?;
    drop(progress);
    let n_kernels = compiled.kernels.len();
    let bundle = Bundle { plans: compiled.plans, kernels: compiled.kernels, ..Bundle::default() };
    let longest = config.data.max_tokens.min(base.max_positions) as u64;
    let per_sample = args.tokens.unwrap_or(longest).min(longest);
    let views = if train.objective.contrast.is_some() { 2 } else { 1 };
    let (clouds, tokens) = (config.batch.size as i64, config.batch.size as i64 * views * per_sample as i64);
    let memory = Memory::of(&bundle, &[("B", clouds), ("T", tokens)]).context("laying out the memory")?;
    let plan_s = clock.elapsed().as_secs_f64();
    let total = memory.total_bytes();
    let step_flop = memory.call_flop as f64 * config.batch.accumulation as f64 + memory.apply_flop as f64;
    let fits = args.memory.map(|limit| total <= limit);
    if args.json {
        return out::json(&json!({
            "memory": memory, "total_bytes": total, "limit_bytes": args.memory, "fits": fits,
            "clouds": clouds, "tokens": tokens, "calls": config.batch.accumulation, "step_flop": step_flop,
            "nodes": n_nodes, "kernels": n_kernels, "plan_s": plan_s,
        }));
    }
    let millions = |n: u64| n as f64 / 1e6;
    let gb = |bytes: u64| bytes as f64 / GB;
    outln!("parameters  {:12.3} M, {:.3} M of them learn", millions(memory.parameters), millions(memory.learning))?;
    outln!(
        "a step      {} call(s) of {clouds} clouds and {tokens} tokens ({per_sample} a sample)",
        config.batch.accumulation
    )?;
    let n_fixed = memory.parameters.saturating_sub(memory.learning);
    let per_fixed = if n_fixed == 0 { 0.0 } else { memory.fixed_bytes as f64 / n_fixed as f64 };
    let per_mean = memory.optimizer_bytes as f64 / (2 * memory.learning).max(1) as f64;
    let rows = [
        ("fixed weights", memory.fixed_bytes, format!("{:.3} M values, {per_fixed:.2} B each", millions(n_fixed))),
        ("weights that learn", memory.learned_bytes, format!("{:.3} M values, 4 B each", millions(memory.learning))),
        ("derivatives", memory.derivative_bytes, format!("{:.3} M values, 4 B each", millions(memory.learning))),
        (
            "optimizer",
            memory.optimizer_bytes,
            format!("2 means of {:.3} M values, {per_mean:.2} B each", millions(memory.learning)),
        ),
        ("made of weights", memory.bound_bytes, "computed once, when weights are bound".to_owned()),
        ("a call's memory", memory.workspace_bytes, arenas(&memory)),
    ];
    for (what, bytes, how) in rows {
        outln!("{what:18} {:9.3} GB   {how}", gb(bytes))?;
    }
    let (shown, rest) = memory.peak.split_at(memory.peak.len().min(SHOWN));
    for alike in shown {
        outln!("  at its fullest   {:9.3} GB   {} x {}", gb(alike.bytes), alike.count, alike.ty)?;
    }
    if !rest.is_empty() {
        let bytes = rest.iter().map(|alike| alike.bytes).sum();
        let count: u64 = rest.iter().map(|alike| alike.count).sum();
        outln!("                   {:9.3} GB   {count} others", gb(bytes))?;
    }
    let sum: Vec<String> = rows_sum(&memory).iter().map(|&bytes| format!("{:.3}", gb(bytes))).collect();
    outln!("{:18} {:9.3} GB   {}", "sum", gb(total), sum.join(" + "))?;
    if let (Some(limit), Some(fits)) = (args.memory, fits) {
        let rest = (limit as f64 - total as f64) / GB;
        let verdict = if fits { "fits" } else { "does not fit" };
        outln!(
            "{:18} {:9.3} GB   the run {verdict}, {:.3} GB {}",
            "memory",
            gb(limit),
            rest.abs(),
            if fits { "are left" } else { "are lacking" }
        )?;
    }
    outln!(
        "arithmetic         {:9.3} TFLOP a step: {} x {:.3} + {:.3}",
        step_flop / 1e12,
        config.batch.accumulation,
        memory.call_flop as f64 / 1e12,
        memory.apply_flop as f64 / 1e12
    )?;
    eprintln!("{n_nodes} nodes written in {graphs_s:.1} s, {n_kernels} kernels planned in {:.1} s", plan_s - graphs_s);
    Ok(())
}

fn rows_sum(memory: &Memory) -> [u64; 6] {
    [
        memory.fixed_bytes,
        memory.learned_bytes,
        memory.derivative_bytes,
        memory.optimizer_bytes,
        memory.bound_bytes,
        memory.workspace_bytes,
    ]
}

fn arenas(memory: &Memory) -> String {
    let one = |(name, &bytes): (&String, &u64)| format!("{name} {:.3} GB", bytes as f64 / GB);
    format!("temporaries, the largest of: {}", memory.arena_bytes.iter().map(one).collect::<Vec<_>>().join(", "))
}
