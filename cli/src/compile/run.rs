//! How is any graph run from files? Arrays in, arrays out, on the interpreter or a device.

use super::FrontArgs;
use crate::outln;
use crate::{device, source, tensors};
use anyhow::{Context, Result, bail};
use clap::Args;
use enel_interp::random::random_inputs;
use enel_interp::{Rounding, Run, Tensor};
use enel_ir::{Graph, InputKind, verify};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs a graph in text form on .npy arrays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel-compile run net.tir --in x=x.npy --in w=w.npy --out results\n  \
    enel-compile run net.tir --random 7 --device emulated --out results")]
pub struct RunArgs {
    /// The graph, a .tir file.
    pub graph: PathBuf,
    /// An input, weight or state and its array; a state without one starts at 0.
    #[arg(long = "in", value_name = "NAME=FILE.npy")]
    pub inputs: Vec<String>,
    /// Fill what has no array with random values of this seed.
    #[arg(long, value_name = "SEED")]
    pub random: Option<u64>,
    /// A symbol no array decides.
    #[arg(long = "sym", value_name = "NAME=VALUE")]
    pub symbols: Vec<String>,
    /// Folder for the outputs, one NAME.npy each; created where it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// interp, cpu, emulated, cuda:N or auto.
    #[arg(long, default_value = "auto")]
    pub device: String,
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
/// Unreadable files, arrays that do not fit, what the device reports.
pub fn run(args: &RunArgs) -> Result<()> {
    let graph = source::read_graph(&args.graph)?;
    let mut given = read_inputs(&graph, &args.inputs)?;
    let fixed = source::symbols(&graph, &args.symbols)?;
    let symbols = tensors::bind_symbols(&graph, &fixed, &given)?;
    complete(&graph, &symbols, args.random, &mut given)?;
    let outputs = if args.device == "interp" {
        let verified = verify(&graph).map_err(|f| anyhow::anyhow!("{f:?}"))?;
        let run = Run { graph: verified, symbols: &symbols, inputs: &given, rounding: Rounding::None, keep: &[] };
        enel_interp::run(&run)?.outputs
    } else {
        device::run_graph(
            &graph,
            &args.front.config()?,
            &args.device,
            &device::Feed { symbols: &symbols, inputs: &given },
        )?
    };
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (name, tensor) in &outputs {
            tensors::write(&folder.join(format!("{}.npy", file_name(name))), tensor)?;
        }
    }
    show(&outputs, args.json)
}

/// Output names may hold characters that folders do not take.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

fn read_inputs(graph: &Graph, given: &[String]) -> Result<BTreeMap<String, Tensor>> {
    let mut read = BTreeMap::new();
    for entry in given {
        let (name, path) = entry.split_once('=').with_context(|| format!("`{entry}` is not NAME=FILE.npy"))?;
        let Some((id, ..)) = graph.inputs().find(|(_, n, _)| *n == name) else {
            let known: Vec<&str> = graph.inputs().map(|(_, n, _)| n).collect();
            bail!("the graph has no input `{name}`; it has: {}", known.join(", "));
        };
        read.insert(name.to_owned(), tensors::read(path.as_ref(), graph.ty(id))?);
    }
    Ok(read)
}

/// Gives states zeros, and everything else random values if wanted.
fn complete(graph: &Graph, symbols: &[i64], random: Option<u64>, given: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let drawn = random.map(|seed| random_inputs(graph, symbols, seed)).transpose()?;
    let mut missing = Vec::new();
    for (id, name, kind) in graph.inputs() {
        if given.contains_key(name) {
            continue;
        }
        let ty = graph.ty(id);
        match (&drawn, kind) {
            (Some(drawn), _) => {
                given.insert(name.to_owned(), drawn[name].clone());
            }
            (None, InputKind::State) => {
                let extents: Result<Vec<i64>, _> = ty.shape.iter().map(|d| d.eval(symbols)).collect();
                let shape: Vec<usize> = extents?.iter().map(|&n| n as usize).collect();
                let bytes = vec![0; shape.iter().product::<usize>() * ty.dtype.size_bytes()];
                given.insert(name.to_owned(), Tensor::from_bytes(ty.dtype, &shape, &bytes)?);
            }
            (None, InputKind::Data | InputKind::Weight) => {
                missing.push(format!("{name}: {}", ty.display(&graph.symbols)))
            }
        }
    }
    if !missing.is_empty() {
        bail!("no array for:\n  {}\ngive each as --in NAME=FILE.npy, or all as --random SEED", missing.join("\n  "));
    }
    Ok(())
}

fn show(outputs: &BTreeMap<String, Tensor>, json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for (name, tensor) in outputs {
        let values = tensor.to_f64();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        if json {
            rows.push(serde_json::json!({
                "name": name, "dtype": tensor.dtype.name(), "shape": tensor.shape, "min": low, "max": high, "mean": mean,
            }));
        } else {
            outln!("{name}: {} {:?}, min {low}, max {high}, mean {mean}", tensor.dtype, tensor.shape)?;
        }
    }
    if json {
        crate::out::json(&serde_json::json!({ "outputs": rows }))?;
    }
    Ok(())
}
