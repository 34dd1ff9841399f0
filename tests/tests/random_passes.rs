//! Random graphs keep their meaning through all passes, and lower to plans that hold together in every mode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::{check_desc, check_layout, check_plan, layout};
use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{Graph, parse, verify};
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
        let passed = divide(&graph, &FrontConfig { mode: Mode::F32, passes: Passes::all() }).unwrap().graph;
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
                let compiled = compile(&[&graph], &FrontConfig { mode, passes: passes.clone() }).unwrap();
                for kernel in &compiled.kernels {
                    let faults = check_desc(&kernel.desc);
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
