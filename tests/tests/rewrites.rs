//! Rewrites keep meaning and pay: an LGA stage written naively becomes few kernels with few multiplications.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::{Body, Step, flops};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, NodeId, parse, verify};
use enel_lower::{Divided, FrontConfig, compile, divide};
use enel_passes::{Mode, Passes, REWRITES};
use std::collections::{BTreeMap, BTreeSet};

fn lga() -> Graph {
    parse(include_str!("../graphs/lga.tir")).unwrap()
}

/// Values in a fixed pseudo-random order, about -1 to 1; variances are positive.
fn inputs(graph: &Graph, symbols: &[i64]) -> BTreeMap<String, Tensor> {
    let mut seed = 1u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    };
    let tensor = |id, name: &str, next: &mut dyn FnMut() -> f64| {
        let ty = graph.ty(id);
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(symbols).unwrap() as usize).collect();
        let count: usize = shape.iter().product();
        if ty.dtype == DType::I32 {
            return Tensor::from_i32(&shape, &(0..count).map(|i| i as i32 % 3).collect::<Vec<i32>>()).unwrap();
        }
        let positive = name.starts_with('v');
        let values: Vec<f64> = (0..count).map(|_| next()).map(|x| if positive { x.abs() + 0.5 } else { x }).collect();
        Tensor::from_f64(ty.dtype, &shape, &values).unwrap()
    };
    graph.inputs().map(|(id, name, _)| (name.to_owned(), tensor(id, name, &mut next))).collect()
}

fn outputs(graph: &Graph, symbols: &[i64]) -> BTreeMap<String, Tensor> {
    let inputs = inputs(graph, symbols);
    let verified = verify(graph).unwrap();
    let config = Run { graph: verified, symbols, inputs: &inputs, rounding: Rounding::None, keep: &[] };
    run(&config).unwrap().outputs
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let (x, y) = (a.to_f64(), b.to_f64());
    x.len() == y.len() && x.iter().zip(&y).all(|(p, q)| (p - q).abs() <= 1e-9 * (1.0 + p.abs()))
}

fn divided(off: &[&str]) -> Divided {
    let passes = Passes::AllBut(off.iter().map(|s| (*s).to_owned()).collect());
    divide(&lga(), &FrontConfig { mode: Mode::F32, passes, memory: None }).unwrap()
}

#[test]
fn every_rewrite_keeps_the_meaning_of_an_lga_stage() {
    let expected = outputs(&lga(), &[3]);
    let mut variants = vec![vec![]];
    variants.extend(REWRITES.iter().map(|r| vec![r.name]));
    for off in variants {
        let result = outputs(&divided(&off).graph, &[3]);
        for (name, tensor) in &expected {
            assert!(close(tensor, &result[name]), "{name} changes without {off:?}");
        }
    }
}

/// Launches, GFLOP and program instructions of a graph with some rewrites off.
fn cost(graph: &Graph, off: &[&str]) -> (usize, u64, usize) {
    let passes = Passes::AllBut(off.iter().map(|s| (*s).to_owned()).collect());
    let compiled = compile(&[graph], &FrontConfig { mode: Mode::F32, passes, memory: None }).unwrap();
    let plan = &compiled.plans[0];
    let symbols: Vec<i64> = plan.symbols.iter().map(|s| s.max).collect();
    let (mut flop, mut instrs) = (0, 0);
    for step in &plan.steps {
        let Step::Call(call) = step else { continue };
        let dynamics: Vec<i64> = call.dynamics.iter().map(|d| d.eval(&symbols).unwrap()).collect();
        let kernel = &compiled.kernels[call.kernel as usize];
        for (desc, own) in kernel.descs().zip(kernel.split_dynamics(&dynamics)) {
            flop += flops(desc, own).unwrap();
            instrs += desc.to_string().lines().count();
        }
    }
    (plan.steps.len(), flop, instrs)
}

#[test]
fn fusion_fires_on_an_lga_stage() {
    let (launches, ..) = cost(&lga(), &[]);
    assert_eq!(launches, 7, "fps, centres, knn, then 4: both spreads and both linear maps, code, net1, net2");
}

#[test]
fn mean_and_variance_of_one_value_share_a_pass() {
    let graph = parse(
        "graph @norms {\n  %x = input \"x\" : f32[64, 32]\n  %m = mean %x {axes = [0]}\n  \
         %v = variance %x {axes = [0]}\n  return m = %m, v = %v\n}\n",
    )
    .unwrap();
    let compiled = compile(&[&graph], &FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None }).unwrap();
    let [Step::Call(_)] = &compiled.plans[0].steps[..] else { panic!("{}", compiled.plans[0]) };
    let [kernel] = &compiled.kernels[..] else { panic!("{} kernels", compiled.kernels.len()) };
    let [desc] = &kernel.descs().collect::<Vec<_>>()[..] else { panic!("{} parts", kernel.parts.len()) };
    let Body::Reduce(body) = &desc.body else { panic!("{desc}") };
    assert_eq!((body.accs.len(), body.stores.len()), (2, 2));
}

#[test]
fn switching_a_rewrite_off_changes_the_cost_and_not_the_result() {
    let graphs = [
        lga(),
        parse(include_str!("../graphs/qkv.tir")).unwrap(),
        parse(include_str!("../graphs/repeat.tir")).unwrap(),
        parse(include_str!("../graphs/table_grad.tir")).unwrap(),
    ];
    for row in REWRITES {
        let changed = graphs.iter().filter(|g| cost(g, &[row.name]) != cost(g, &[])).count();
        assert!(changed > 0, "no graph here needs {}", row.name);
        for graph in &graphs {
            let symbols: Vec<i64> = graph.symbols.iter().map(|s| s.max.min(4)).collect();
            let passes = Passes::AllBut(vec![row.name.to_owned()]);
            let without = divide(graph, &FrontConfig { mode: Mode::F32, passes, memory: None }).unwrap().graph;
            let (a, b) = (outputs(graph, &symbols), outputs(&without, &symbols));
            assert!(a.iter().all(|(name, t)| close(t, &b[name])), "{} without {}", graph.name(), row.name);
        }
    }
}

#[test]
fn equal_updates_of_two_states_stay_after_their_last_readers() {
    let text = r#"graph @zeroed {
  %a = state "a" : f32[3]
  %b = state "b" : f32[3]
  %x = add %a, %a
  %zero = const 0.0 : f32[3]
  %y = mul %b, %x
  %again = const 0.0 : f32[3]
  return y = %y, a = %zero updates %a, b = %again updates %b
}"#;
    let graph = parse(text).unwrap();
    let passed = divide(&graph, &FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None }).unwrap().graph;
    let updates: BTreeSet<NodeId> = passed.outputs().iter().filter(|o| o.updates.is_some()).map(|o| o.value).collect();
    assert_eq!(updates.len(), 2, "{passed}");
}

#[test]
fn a_copy_of_a_state_is_read_and_not_the_state_after_its_update() {
    let text = r#"graph @copied {
  %a = state "a" : f32[2, 3]
  %copy = reshape %a {shape = [6]}
  %new = add %a, %a
  %late = reshape %copy {shape = [3, 2]}
  return late = %late, a = %new updates %a
}"#;
    let graph = parse(text).unwrap();
    let passed = divide(&graph, &FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None }).unwrap().graph;
    assert_eq!(outputs(&graph, &[]), outputs(&passed, &[]));
}
