//! Interpreter, cpu and emulated give the same results for any graph, passes on and off, in both numeric modes.
//!
//! `ENEL_CASES` sets how many random graphs run on the emulated device, and `ENEL_SEED` where they start.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it ran")]

use enel_cli::device::{Feed, run_graph};
use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{Graph, NodeId, Op, parse, verify};
use enel_lower::{FrontConfig, divide};
use enel_passes::{Mode, Passes};
use enel_tests::agree::{agree, coarsest};
use enel_tests::forge::compiler;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

fn interpreted(graph: &Graph, symbols: &[i64], inputs: &Tensors, rounding: Rounding<'_>) -> Tensors {
    run(&Run { graph: verify(graph).unwrap(), symbols, inputs, rounding, keep: &[] }).unwrap().outputs
}

/// Runs `graph` on `device` and compares with the interpreter; the message says what differs.
fn check(graph: &Graph, symbols: &[i64], seed: u64, (device, config): (&str, &FrontConfig)) -> Result<(), String> {
    let inputs = random_inputs(graph, symbols, seed).unwrap();
    let reference = interpreted(graph, symbols, &inputs, Rounding::None);
    let divided = divide(graph, config).unwrap();
    let rounded = interpreted(&divided.graph, symbols, &inputs, Rounding::At(&divided.partition.rounding));
    let got = run_graph(graph, config, device, &Feed { symbols, inputs: &inputs }).map_err(|e| format!("{e:#}"))?;
    let coarsest = coarsest(&divided.graph, &divided.partition.rounding);
    for (name, tensor) in &reference {
        // A state may be kept in a narrower dtype than declared.
        let result = got.get(name).ok_or_else(|| format!("no output {name}"))?;
        let result = Tensor { dtype: tensor.dtype, ..result.clone() };
        agree(name, &result, (tensor, &rounded[name]), coarsest).map_err(|d| format!("{d:?}"))?;
    }
    Ok(())
}

fn configs() -> Vec<FrontConfig> {
    let mut list = Vec::new();
    for mode in [Mode::F32, Mode::Bf16] {
        for passes in [Passes::None, Passes::all()] {
            list.push(FrontConfig { mode, passes, memory: None });
        }
    }
    list
}

/// The part of `graph` that computes `target`, as its only output.
fn part(graph: &Graph, target: NodeId) -> Graph {
    let mut live = vec![false; graph.len()];
    live[target.index()] = true;
    for id in graph.ids().rev().filter(|id| id.index() <= target.index()) {
        if live[id.index()] {
            graph.node(id).operands.iter().for_each(|o| live[o.index()] = true);
        }
    }
    let mut new = Graph::new(graph.name(), graph.symbols.clone());
    let mut moved = BTreeMap::new();
    for id in graph.ids().filter(|id| live[id.index()]) {
        let mut node = graph.node(id).clone();
        node.operands = node.operands.iter().map(|o| moved[o]).collect();
        moved.insert(id, new.push_unchecked(node));
    }
    new.output("shrunk", moved[&target]);
    new
}

/// The smallest part of a failing graph that still fails: what computes the first node that differs.
fn shrunk(graph: &Graph, fails: &dyn Fn(&Graph) -> Option<String>) -> Option<(Graph, String)> {
    let computed = graph.ids().filter(|&id| !matches!(graph.node(id).op, Op::Input { .. }));
    let mut parts = computed.map(|id| part(graph, id)).filter(|g| verify(g).is_ok());
    parts.find_map(|g| fails(&g).map(|why| (g, why)))
}

fn fail(graph: &Graph, symbols: &[i64], seed: u64, (device, config): (&str, &FrontConfig), why: &str) -> ! {
    let fails = |g: &Graph| check(g, symbols, seed, (device, config)).err();
    let (graph, why) = shrunk(graph, &fails).unwrap_or_else(|| (graph.clone(), why.to_owned()));
    panic!("{device}, {config:?}, seed {seed}, symbols {symbols:?}: {why}\n{graph}")
}

#[test]
fn a_failing_graph_shrinks_to_the_first_node_that_fails() {
    let graph = &layers()[2];
    let is_gelu = |g: &Graph| g.ids().any(|id| g.node(id).op.name() == "gelu").then(|| "gelu".to_owned());
    let (small, _) = shrunk(graph, &is_gelu).unwrap();
    let last = small.ids().next_back().unwrap();
    assert_eq!(small.node(last).op.name(), "gelu");
    assert!(small.len() < graph.len());
}

fn random_graphs_agree(device: &str, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        for config in &configs() {
            for symbols in &bindings {
                if let Err(why) = check(&graph, symbols, seed, (device, config)) {
                    fail(&graph, symbols, seed, (device, config), &why);
                }
            }
        }
    }
}

#[test]
fn a_thousand_random_graphs_agree_on_cpu() {
    random_graphs_agree("cpu", 0..1000);
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap())
}

#[test]
fn random_graphs_agree_on_the_emulated_device() {
    if compiler().is_none() {
        return;
    }
    let first = setting("ENEL_SEED", 0);
    let cases = setting("ENEL_CASES", 12);
    println!("ENEL_SEED={first} ENEL_CASES={cases}");
    random_graphs_agree("emulated", first..first + cases);
}

/// Its bf16 contraction reads an operand that is stored in f32, which tensor cores once rounded where nothing said so.
#[test]
fn a_contraction_of_wide_operands_stays_off_tensor_cores() {
    if compiler().is_some() {
        random_graphs_agree("emulated", 2721..2722);
    }
}

fn layers() -> Vec<Graph> {
    let texts = [
        include_str!("../graphs/lga.tir"),
        include_str!("../graphs/set_abstraction.tir"),
        include_str!("../graphs/bert.tir"),
        include_str!("../graphs/conv1d.tir"),
        include_str!("../graphs/qkv.tir"),
        include_str!("../graphs/repeat.tir"),
    ];
    texts.iter().map(|t| parse(t).unwrap()).collect()
}

fn layers_agree(device: &str) {
    for graph in layers() {
        // Random variances may be negative there; the tiny ENEL runs the same stage on every device with sound ones.
        if graph.name() == "lga" {
            continue;
        }
        let symbols: Vec<i64> = graph.symbols.iter().map(|s| s.min + (s.max - s.min).min(3)).collect();
        for config in &configs() {
            if let Err(why) = check(&graph, &symbols, 5, (device, config)) {
                fail(&graph, &symbols, 5, (device, config), &why);
            }
        }
    }
}

#[test]
fn layers_of_other_models_agree_on_cpu() {
    layers_agree("cpu");
}

#[test]
fn layers_of_other_models_agree_on_the_emulated_device() {
    if compiler().is_some() {
        layers_agree("emulated");
    }
}
