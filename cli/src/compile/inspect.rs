//! What became of a graph? Prints any stage on the way to a plan, and what the plan costs.

use super::FrontArgs;
use super::counters::{self, Sizes};
use crate::device::{self, REPORTS};
use crate::outln;
use crate::source;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use enel_bundle::{Bundle, Kernel, Plan, Step, flops, layout};
use enel_codegen::render;
use enel_emulator::GPUS;
use enel_ir::{Dim, Symbol};
use enel_lower::{compile, divide};
use enel_nvrtc::Arch;
use enel_passes::REWRITES;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Launches, arithmetic and memory of each plan.
    Summary,
    /// The graph as written.
    Graph,
    /// The graph after all passes.
    Rewritten,
    /// Which nodes share a kernel.
    Groups,
    /// Buffers and steps.
    Plan,
    /// What each kernel computes.
    Kernels,
    /// Where every temporary lies at these sizes.
    Memory,
    /// What each kernel executes and moves at these sizes, counted on the emulator.
    Counters,
}

/// Shows what the compiler makes of a graph, a preset or a bundle.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  enel-compile inspect enel-7b\n  enel-compile inspect net.tir --stage rewritten\n  \
    enel-compile inspect enel-7b --without linear-before-gather --sym B=4 --json\n  \
    enel-compile inspect net.tir --stage counters --sym T=64 --gpu a100-80gb\n  enel-compile inspect --rewrites"
)]
pub struct InspectArgs {
    /// A .tir file, a preset (tiny, small, enel-135m, enel-7b, enel-13b) or a bundle.
    #[arg(required_unless_present = "rewrites")]
    pub model: Option<String>,
    /// What to print.
    #[arg(long, value_enum, default_value = "summary")]
    pub stage: Stage,
    /// Symbol values the costs are for; others are at their smallest.
    #[arg(long = "sym", value_name = "NAME=VALUE")]
    pub symbols: Vec<String>,
    /// For counters: an integer input, weight or state that holds one value everywhere; others count up evenly.
    #[arg(long, value_name = "NAME=VALUE")]
    pub fill: Vec<String>,
    /// For counters: whose rates bound the time.
    #[arg(long, default_value = GPUS[0].name)]
    pub gpu: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// List the rewrites and stop.
    #[arg(long)]
    pub rewrites: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented by its type")]
    pub front: FrontArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// What reading or compiling the model gives.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    if args.rewrites {
        for row in REWRITES {
            outln!("{:22} {}", row.name, row.doc)?;
        }
        return Ok(());
    }
    let model = args.model.as_deref().context("a model is needed")?;
    if Path::new(model).is_file() && !model.ends_with(".tir") {
        let bundle = Bundle::read(Path::new(model)).with_context(|| format!("opening {model}"))?;
        if args.stage == Stage::Counters {
            return show_counters(args, bundle);
        }
        return show_plans(args, &bundle.plans, &bundle.kernels, &bundle.meta[REPORTS]);
    }
    let source = source::load(model, args.front.mode.into())?;
    let config = args.front.config()?;
    match args.stage {
        Stage::Graph => source.graphs.iter().try_for_each(|g| outln!("{g}"))?,
        Stage::Rewritten | Stage::Groups => {
            for graph in &source.graphs {
                let divided = divide(graph, &config)?;
                if args.stage == Stage::Rewritten {
                    outln!("{}", divided.graph)?;
                    continue;
                }
                outln!("graph @{}", graph.name())?;
                for group in &divided.partition.groups {
                    let anchor = group.anchor.map_or("-".to_owned(), |a| divided.graph.node(a).op.name());
                    let fold = if group.fold.is_some() { " + fold" } else { "" };
                    let bound = if group.bound { " (at binding)" } else { "" };
                    let dtype = divided.partition.storage[group.output].map_or("-", |d| d.name());
                    let line = divided.graph.line(group.output);
                    outln!("  {anchor}{fold}{bound} -> {} stored {dtype}: {line}", group.output)?;
                }
            }
        }
        Stage::Counters => {
            let graphs: Vec<_> = source.graphs.iter().collect();
            return show_counters(args, device::build(&graphs, &config, &[Arch::COMPUTE_80])?);
        }
        Stage::Summary | Stage::Plan | Stage::Kernels | Stage::Memory => {
            let graphs: Vec<_> = source.graphs.iter().collect();
            let compiled = compile(&graphs, &config)?;
            return show_plans(args, &compiled.plans, &compiled.kernels, &Value::Null);
        }
    }
    Ok(())
}

fn show_counters(args: &InspectArgs, bundle: Bundle) -> Result<()> {
    let (gpu, fill) = (counters::gpu(&args.gpu)?, counters::fills(&args.fill)?);
    let bundle = Arc::new(bundle);
    let mut plans = Vec::new();
    for plan in &bundle.plans {
        let symbols = bindings(plan, &args.symbols)?;
        let counts = counters::count(&bundle, plan, Sizes { symbols: &symbols, fill: &fill })?;
        let rows: Vec<Value> = counts.iter().map(|counts| counters::row(counts, gpu)).collect();
        let shown: Vec<String> = plan.symbols.iter().zip(&symbols).map(|(s, v)| format!("{}={v}", s.name)).collect();
        if args.json {
            plans.push(json!({ "name": plan.name, "symbols": shown.join(" "), "kernels": rows }));
        } else {
            outln!("plan {} at {}, bounds of {}", plan.name, shown.join(" "), gpu.name)?;
            counters::table(&rows)?;
        }
    }
    if args.json { crate::out::json(&json!({ "plans": plans })) } else { Ok(()) }
}

/// `reports` are what the assembler said, where there is machine code.
fn show_plans(args: &InspectArgs, plans: &[Plan], kernels: &[Kernel], reports: &Value) -> Result<()> {
    let mut rows = Vec::new();
    for plan in plans {
        let symbols = bindings(plan, &args.symbols)?;
        match args.stage {
            Stage::Plan => outln!("{plan}")?,
            Stage::Memory => {
                let arena = layout(plan, &symbols)?;
                outln!("plan {}: {arena:#?}", plan.name)?;
            }
            _ => rows.push(summary(plan, kernels, &symbols)?),
        }
    }
    if args.json {
        let mut list: Vec<Value> = Vec::new();
        for (at, kernel) in kernels.iter().enumerate() {
            let mine = reports.as_array().into_iter().flatten().filter(|r| r["kernel"] == json!(at));
            let mine: Vec<&Value> = mine.collect();
            if mine.is_empty() {
                list.push(kernel_row(kernel, None)?);
            }
            for report in mine {
                list.push(kernel_row(kernel, Some(report))?);
            }
        }
        return crate::out::json(&json!({ "plans": rows, "kernels": list }));
    }
    match args.stage {
        Stage::Kernels => kernels.iter().try_for_each(|k| outln!("{k}"))?,
        Stage::Plan | Stage::Memory => {}
        _ => {
            outln!("{:10} {:>8} {:>9} {:>9} {:>12}  symbols", "plan", "launches", "at bind", "GFLOP", "temp MiB")?;
            for row in &rows {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                let number = |key: &str| row[key].as_f64().unwrap_or_default();
                outln!(
                    "{:10} {:>8} {:>9} {:>9.2} {:>12.2}  {}",
                    text("name"),
                    number("launches"),
                    number("bind_launches"),
                    number("gflop"),
                    number("temp_bytes") / f64::from(1 << 20),
                    text("symbols")
                )?;
            }
        }
    }
    Ok(())
}

/// Values for a plan's symbols: those given, the rest at their smallest.
fn bindings(plan: &Plan, given: &[String]) -> Result<Vec<i64>> {
    let mut values: Vec<i64> = plan.symbols.iter().map(Symbol::smallest).collect();
    for entry in given {
        let (name, value) = entry.split_once('=').with_context(|| format!("`{entry}` is not NAME=VALUE"))?;
        let value: i64 = value.parse().with_context(|| format!("`{value}` is no whole number"))?;
        // A plan that does not use the symbol is not concerned.
        if let Some(id) = plan.symbols.find(name) {
            values[id.0 as usize] = value;
        }
    }
    plan.symbols.check(&values)?;
    Ok(values)
}

fn summary(plan: &Plan, kernels: &[Kernel], symbols: &[i64]) -> Result<Value> {
    let mut total = 0u64;
    let mut families = std::collections::BTreeMap::<String, usize>::new();
    for step in &plan.steps {
        let Step::Call(call) = step else {
            *families.entry("copy".to_owned()).or_default() += 1;
            continue;
        };
        let dynamics: Result<Vec<i64>, _> = call.dynamics.iter().map(|d: &Dim| d.eval(symbols)).collect();
        let dynamics = dynamics?;
        let kernel = &kernels[call.kernel as usize];
        for (desc, own) in kernel.descs().zip(kernel.split_dynamics(&dynamics)) {
            total = total.saturating_add(flops(desc, own).unwrap_or(0));
        }
        *families.entry(kernel.family()).or_default() += 1;
    }
    let shown: Vec<String> = plan.symbols.iter().zip(symbols).map(|(s, v)| format!("{}={v}", s.name)).collect();
    Ok(json!({
        "name": plan.name,
        "launches": plan.steps.len(),
        "bind_launches": plan.bind.len(),
        "gflop": total as f64 / 1e9,
        "temp_bytes": layout(plan, symbols)?.arena_bytes,
        "families": families,
        "symbols": shown.join(" "),
    }))
}

/// A kernel for one target, or for none where there is no machine code. Its CUDA text is rendered anew: the same Desc
/// gives the same text.
fn kernel_row(kernel: &Kernel, report: Option<&Value>) -> Result<Value> {
    let rendered = render(&kernel.name, kernel.descs())?;
    let descs: Vec<String> = kernel.descs().map(ToString::to_string).collect();
    let families: Vec<&str> = kernel.descs().map(|desc| desc.body.family()).collect();
    let mut row = json!({
        "name": kernel.name,
        "family": kernel.family(),
        "parts": families,
        "desc": descs.join("\n"),
        "config": rendered.configs,
        "launch": rendered.launch,
        "dynamic_smem_bytes": rendered.launch.smem_bytes,
        "source": rendered.source,
    });
    if let Some(report) = report {
        for key in
            ["target", "registers", "spill_bytes", "static_smem_bytes", "stack_bytes", "mma_instructions", "notes"]
        {
            row[key] = report[key].clone();
        }
        let static_bytes = report["static_smem_bytes"].as_u64().unwrap_or(0);
        row["smem_bytes"] = json!(static_bytes + u64::from(rendered.launch.smem_bytes));
    }
    Ok(row)
}
