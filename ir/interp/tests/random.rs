//! Random graphs verify, run, and keep the promises they are drawn under.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Outcome, Rounding, Run, Values, run};
use enel_ir::{DType, Graph, IdMap, InputKind, NodeId, parse, verify};
use std::collections::BTreeMap;

fn go(graph: &Graph, symbols: &[i64], seed: u64) -> Outcome {
    rounded(graph, symbols, seed, |_| None)
}

/// Runs with every node rounded to the dtype `storage` gives for its own.
fn rounded(graph: &Graph, symbols: &[i64], seed: u64, storage: impl Fn(DType) -> Option<DType>) -> Outcome {
    let inputs = random_inputs(graph, symbols, seed).unwrap();
    let keep: Vec<NodeId> = graph.ids().collect();
    let verified = verify(graph).unwrap();
    let mut table = IdMap::filled(graph, None);
    for id in graph.ids() {
        table[id] = storage(graph.ty(id).dtype);
    }
    run(&Run { graph: verified, symbols, inputs: &inputs, rounding: Rounding::At(&table), keep: &keep }).unwrap()
}

#[test]
fn two_thousand_graphs_verify_and_stay_finite() {
    let config = RandomConfig::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let training = RandomConfig { derivatives: true, chunks: true, ..RandomConfig::default() };
    for seed in 0..2000 {
        let (graph, bindings) = random_graph(seed, if seed % 2 == 0 { &config } else { &training });
        verify(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{graph}"));
        for id in graph.ids() {
            *seen.entry(graph.node(id).op.name()).or_default() += 1;
        }
        for symbols in &bindings {
            for (id, tensor) in go(&graph, symbols, seed).kept {
                assert!(tensor.check().is_ok(), "seed {seed} {id}");
                let Values::F(list) = tensor.values else { continue };
                let bad = list.iter().find(|x| x.is_nan() || x.abs() > 1.01e4);
                assert!(bad.is_none(), "seed {seed}: {id} holds {bad:?} at {symbols:?}\n{graph}");
            }
        }
    }
    let mut missing: Vec<&str> = Vec::new();
    let unary = enel_ir::UnaryOp::ALL.iter().map(|o| o.name());
    let binary = enel_ir::BinaryOp::ALL.iter().map(|o| o.name());
    let reduces: Vec<String> = enel_ir::ReduceOp::ALL.iter().map(|o| format!("reduce_{}", o.name())).collect();
    let rows = enel_ir::OPS.iter().map(|r| r.name).filter(|n| !n.contains('<'));
    for name in unary.chain(binary).chain(reduces.iter().map(String::as_str)).chain(rows) {
        if seen.get(name).copied().unwrap_or(0) < 20 {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "drawn too seldom: {missing:?}");
}

#[test]
fn integers_survive_any_storage_and_floats_survive_f32() {
    for seed in 0..600 {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        let symbols = &bindings[bindings.len() - 1];
        let exact = go(&graph, symbols, seed).kept;
        // Storing everything in its dtype moves floats, but nothing discontinuous may notice.
        let stored = rounded(&graph, symbols, seed, Some).kept;
        let single = rounded(&graph, symbols, seed, |d| d.is_float().then_some(DType::F32)).kept;
        for (id, want) in &exact {
            match &want.values {
                Values::I(_) => assert_eq!(&stored[id], want, "seed {seed}: {id}\n{graph}"),
                Values::F(list) => {
                    for (a, b) in single[id].to_f64().iter().zip(list) {
                        // Largest error a node may be drawn with: 2000 units of 2^-24.
                        assert!((a - b).abs() < 1.2e-4, "seed {seed}: {id} {a} {b}\n{graph}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_seed_means_one_graph_and_text_means_the_same_inputs() {
    for seed in 0..200 {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        assert_eq!((&graph, &bindings), (&random_graph(seed, &RandomConfig::default()).0, &bindings));
        let again = parse(&graph.to_string()).unwrap();
        assert_eq!(again, graph, "seed {seed}");
        let inputs = random_inputs(&graph, &bindings[0], 7).unwrap();
        assert_eq!(inputs, random_inputs(&again, &bindings[0], 7).unwrap());
        assert_eq!(inputs.len(), graph.inputs().count());
        assert!(random_inputs(&graph, &[0, 0], 7).is_err());
    }
    assert_ne!(random_graph(1, &RandomConfig::default()).0, random_graph(2, &RandomConfig::default()).0);
}

#[test]
fn a_config_is_kept() {
    let config = RandomConfig {
        nodes: 30,
        max_elems: 300,
        floats: vec![DType::F32],
        ints: false,
        symbols: false,
        geometry: false,
        state: false,
        composites: false,
        kinks: false,
        derivatives: false,
        chunks: false,
    };
    for seed in 0..300 {
        let (graph, bindings) = random_graph(seed, &config);
        verify(&graph).unwrap();
        assert_eq!(bindings, [vec![]]);
        assert!(graph.inputs().all(|(_, _, kind)| kind != InputKind::State));
        for id in graph.ids() {
            let ty = graph.ty(id);
            assert!(ty.dtype == DType::F32 && ty.elems().as_const().unwrap() <= 300, "{graph}");
            assert!(graph.node(id).op.class() != enel_ir::Class::Composite);
        }
    }
}

#[test]
fn graphs_have_dead_code_fan_out_several_outputs_and_tied_state() {
    let (mut dead, mut fan_out, mut outputs, mut tied, mut symbolic) = (0, 0, 0, 0, 0);
    for seed in 0..200 {
        let (graph, bindings) = random_graph(seed, &RandomConfig::default());
        let shown: Vec<NodeId> = graph.outputs().iter().map(|o| o.value).collect();
        let counts = graph.use_counts();
        dead += usize::from(graph.ids().any(|id| counts[id] == 0));
        fan_out += usize::from(graph.users().iter().any(|(_, users)| users.len() > 2));
        outputs += usize::from(shown.len() > 2);
        tied += usize::from(graph.outputs().iter().any(|o| o.updates.is_some()));
        symbolic += usize::from(bindings.len() > 1);
    }
    for count in [dead, fan_out, outputs, tied, symbolic] {
        assert!(count > 100, "{dead} {fan_out} {outputs} {tied} {symbolic}");
    }
}
