//! Values computed twice: the same results to the last bit, less alive at once, and plans that hold together.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_autodiff::differentiate;
use enel_bundle::{check_layout, check_plan, layout};
use enel_cli::device::{Feed, run_graph};
use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, InputKind, ReduceOp, Symbols, TensorType, UnaryOp, verify};
use enel_lower::{FrontConfig, compile, divide};
use enel_passes::{Memory, Mode};
use std::collections::BTreeMap;

/// Layers of the network below, and its width.
const LAYERS: usize = 12;
const WIDTH: i64 = 32;

fn outputs(graph: &Graph, symbols: &[i64], inputs: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let graph = verify(graph).unwrap();
    run(&Run { graph, symbols, inputs, rounding: Rounding::None, keep: &[] }).unwrap().outputs
}

fn config(memory: Option<Memory>) -> FrontConfig {
    FrontConfig { memory, ..FrontConfig::default() }
}

/// The derivatives of a deep network: each layer's values wait for the way back.
fn deep() -> Graph {
    let mut g = Graph::new("deep", Symbols::default());
    let matrix = TensorType::fixed(DType::F32, &[WIDTH, WIDTH]);
    let mut x = g.input("x", InputKind::Data, TensorType::fixed(DType::F32, &[64, WIDTH])).unwrap();
    for layer in 0..LAYERS {
        let w = g.input(&format!("w{layer}"), InputKind::Weight, matrix.clone()).unwrap();
        let y = g.contract("tc,dc->td", x, w).unwrap();
        let y = g.unary(UnaryOp::Tanh, y).unwrap();
        let z = g.mul(y, y).unwrap();
        x = g.add(x, z).unwrap();
    }
    let loss = g.reduce(ReduceOp::Sum, x, &[0, 1], false).unwrap();
    g.output("loss", loss);
    differentiate(verify(&g).unwrap(), "loss", &|name| name != "x").unwrap()
}

fn arena(graph: &Graph, memory: Option<Memory>) -> usize {
    let compiled = compile(&[graph], &config(memory)).unwrap();
    let plan = &compiled.plans[0];
    check_plan(plan, &compiled.kernels).unwrap();
    let laid = layout(plan, &[]).unwrap();
    check_layout(plan, &[], &laid).unwrap();
    laid.arena_bytes
}

#[test]
fn a_bound_that_can_be_met_is_met() {
    let graph = deep();
    let plain = arena(&graph, None);
    let one = 64 * WIDTH as usize * 4;
    assert!(plain >= LAYERS * one, "{plain} B do not hold a value for each of {LAYERS} layers");
    for part in [0.9, 0.75] {
        let bytes = (plain as f64 * part) as u64;
        let took = arena(&graph, Some(Memory { bytes }));
        assert!(took as u64 <= bytes, "{took} B for a bound of {bytes} B");
    }
    // A bound below everything gives the least there is, and no error.
    assert!(arena(&graph, Some(Memory { bytes: 1 })) < plain * 3 / 4);
}

#[test]
fn a_bound_with_room_changes_nothing() {
    let graph = deep();
    let bytes = arena(&graph, None) as u64;
    let kept = divide(&graph, &config(Some(Memory { bytes }))).unwrap().graph;
    assert_eq!(kept.to_string(), divide(&graph, &config(None)).unwrap().graph.to_string());
}

#[test]
fn values_computed_twice_are_the_same_to_the_last_bit() {
    let graph = deep();
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5) * 0.4
    };
    let mut inputs = BTreeMap::new();
    for (id, name, _) in graph.inputs() {
        let shape: Vec<usize> = graph.ty(id).shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
        inputs.insert(name.to_owned(), Tensor::from_f64(DType::F32, &shape, &values).unwrap());
    }
    let feed = Feed { symbols: &[], inputs: &inputs };
    let plain = run_graph(&graph, &config(None), "cpu", &feed).unwrap();
    let twice = run_graph(&graph, &config(Some(Memory { bytes: 1 })), "cpu", &feed).unwrap();
    assert_eq!(plain.len(), LAYERS + 1);
    for (name, tensor) in &plain {
        assert_eq!(tensor.to_bytes(), twice[name].to_bytes(), "{name}");
    }
}

#[test]
fn random_graphs_keep_their_meaning_in_no_memory() {
    let mut doubled = 0;
    for seed in 0..600 {
        let (graph, bindings) = random_graph(seed, &RandomConfig { derivatives: true, ..RandomConfig::default() });
        for mode in [Mode::F32, Mode::Bf16] {
            let plain = divide(&graph, &FrontConfig { mode, ..config(None) }).unwrap().graph;
            let least = FrontConfig { mode, ..config(Some(Memory { bytes: 0 })) };
            let tight = divide(&graph, &least).unwrap().graph;
            doubled += usize::from(tight.len() > plain.len());
            let compiled = compile(&[&graph], &least).unwrap();
            check_plan(&compiled.plans[0], &compiled.kernels).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{graph}"));
            if mode == Mode::Bf16 || tight.len() == plain.len() {
                continue;
            }
            for symbols in &bindings {
                let inputs = random_inputs(&graph, symbols, seed).unwrap();
                let (a, b) = (outputs(&plain, symbols, &inputs), outputs(&tight, symbols, &inputs));
                assert!(a.iter().all(|(name, t)| t.to_bytes() == b[name].to_bytes()), "seed {seed}\n{graph}");
            }
        }
    }
    assert!(doubled > 8, "only {doubled} graphs computed anything twice");
}
