//! Random graphs keep their meaning through all passes, and lower to plans that hold together in every mode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::{check_desc, check_layout, check_plan, layout};
use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, InputKind, NodeId, Op, Symbols, TensorType, UnaryOp, parse, verify};
use enel_lower::{FrontConfig, compile, divide};
use enel_passes::{Mode, Passes};
use std::collections::BTreeMap;

const SEEDS: std::ops::Range<u64> = 0..1000;

fn outputs(graph: &Graph, symbols: &[i64], inputs: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let graph = verify(graph).unwrap();
    run(&Run { graph, symbols, inputs, rounding: Rounding::None, keep: &[] }).unwrap().outputs
}

fn agree(name: &str, seed: u64, a: &Tensor, b: &Tensor) {
    for (i, (x, y)) in a.to_f64().iter().zip(b.to_f64()).enumerate() {
        let same = (x - y).abs() <= 1e-7 * (1.0 + x.abs()) || (x.is_nan() && y.is_nan()) || *x == y;
        assert!(same, "seed {seed}, {name}[{i}]: {x} became {y}");
    }
}

#[test]
fn passes_keep_the_meaning_of_random_graphs() {
    for seed in SEEDS {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        let passed =
            divide(&graph, &FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None }).unwrap().graph;
        for symbols in &bindings {
            let inputs = random_inputs(&graph, symbols, seed).unwrap();
            let (before, after) = (outputs(&graph, symbols, &inputs), outputs(&passed, symbols, &inputs));
            for (name, tensor) in &before {
                agree(name, seed, tensor, &after[name]);
            }
        }
    }
}

#[test]
fn random_graphs_lower_to_plans_that_hold_together() {
    for seed in SEEDS {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        for mode in [Mode::F32, Mode::Bf16] {
            for passes in [Passes::None, Passes::all()] {
                let compiled = compile(&[&graph], &FrontConfig { mode, passes: passes.clone(), memory: None }).unwrap();
                for kernel in &compiled.kernels {
                    let faults = kernel.descs().try_for_each(check_desc);
                    assert!(faults.is_ok(), "seed {seed}, {passes:?}: {faults:?}\n{graph}");
                }
                let plan = &compiled.plans[0];
                let faults = check_plan(plan, &compiled.kernels);
                assert!(faults.is_ok(), "seed {seed}, {passes:?}: {faults:?}\n{graph}");
                for symbols in &bindings {
                    check_layout(plan, symbols, &layout(plan, symbols).unwrap()).unwrap();
                }
            }
        }
    }
}

#[test]
fn random_graphs_print_and_parse_back() {
    for seed in SEEDS {
        let (graph, _) = random_graph(seed, &RandomConfig::default());
        assert_eq!(parse(&graph.to_string()).unwrap(), graph, "seed {seed}");
    }
}

/// Appends one link to a value.
type Link<'a> = &'a dyn Fn(&mut Graph, NodeId, usize) -> NodeId;

/// A chain of `n` nodes that cost nothing, something, or fan out, ending in a contraction.
fn chain(n: usize, link: Link<'_>) -> Graph {
    let mut g = Graph::new("chain", Symbols::default());
    let ty = TensorType::fixed(DType::F32, &[4, 6]);
    let mut x = g.input("x", InputKind::Data, ty).unwrap();
    let w = g.input("w", InputKind::Weight, TensorType::fixed(DType::F32, &[3, 6])).unwrap();
    for i in 0..n {
        x = link(&mut g, x, i);
    }
    let y = g.contract("mk,nk->mn", x, w).unwrap();
    g.output("y", y);
    g
}

#[test]
fn long_chains_compile_without_deep_recursion_or_doubling() {
    let slices = |g: &mut Graph, x: NodeId, _| g.narrow(x, 0, 0.into(), 4.into()).unwrap();
    let moves = |g: &mut Graph, x: NodeId, i: usize| {
        let shape = if i.is_multiple_of(2) { vec![24.into()] } else { vec![4.into(), 6.into()] };
        let flipped = g.push(Op::Reverse { axes: vec![0] }, &[x]).unwrap();
        g.reshape(flipped, shape).unwrap()
    };
    let doubles = |g: &mut Graph, x: NodeId, _| {
        let sum = g.add(x, x).unwrap();
        let half = g.scalar(0.5).unwrap();
        g.mul(sum, half).unwrap()
    };
    let waves = |g: &mut Graph, x: NodeId, _| g.unary(UnaryOp::Sin, x).unwrap();
    let links: [Link<'_>; 4] = [&slices, &moves, &doubles, &waves];
    for link in links {
        let graph = chain(3000, link);
        for passes in [Passes::None, Passes::all()] {
            let compiled = compile(&[&graph], &FrontConfig { mode: Mode::F32, passes, memory: None }).unwrap();
            check_plan(&compiled.plans[0], &compiled.kernels).unwrap();
        }
    }
}
