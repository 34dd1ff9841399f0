//! Are states that are updated at the same points one kernel, exactly where that changes nothing but what is read twice?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::Body;
use enel_cli::device::{Feed, run_graph};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, InputKind, NodeId, Symbols, TensorType, verify};
use enel_lower::{FrontConfig, compile};
use enel_model::train::{Optimizer, Schedule, apply_graph};
use enel_tests::forge::compiler;
use std::collections::BTreeMap;

const N: usize = 36;

/// What states `a` and `b` become, of themselves and of `x`.
type Build = fn(&mut Graph, [NodeId; 3]) -> [NodeId; 2];

fn turned(g: &mut Graph, x: NodeId) -> NodeId {
    g.transpose(x, &[1, 0]).unwrap()
}

fn graph(build: Build) -> Graph {
    let mut g = Graph::new("updates", Symbols::default());
    let ty = TensorType::fixed(DType::F32, &[N as i64, N as i64]);
    let [a, b] = ["a", "b"].map(|name| g.input(name, InputKind::State, ty.clone()).unwrap());
    let x = g.input("x", InputKind::Data, ty).unwrap();
    let [new_a, new_b] = build(&mut g, [a, b, x]);
    g.output_state("a", new_a, a);
    g.output_state("b", new_b, b);
    g
}

/// Results each map of `graph` stores, the most of any.
fn most_stores(graph: &Graph) -> usize {
    let compiled = compile(&[graph], &FrontConfig::default()).unwrap();
    let stores = compiled.kernels.iter().flat_map(|kernel| kernel.descs()).map(|desc| match &desc.body {
        Body::Map(body) => body.stores.len(),
        _ => 0,
    });
    stores.max().unwrap()
}

#[test]
fn updates_are_joined_where_no_point_reads_what_another_replaces() {
    let cases: [(&str, usize, Build); 7] = [
        ("the second reads what the first made", 2, |g, [a, b, x]| {
            let new = g.add(a, x).unwrap();
            [new, g.mul(b, new).unwrap()]
        }),
        ("both read the same", 2, |g, [a, b, x]| [g.add(a, x).unwrap(), g.mul(b, x).unwrap()]),
        ("the first reads what the second replaces", 2, |g, [a, b, x]| [g.add(a, b).unwrap(), g.mul(b, x).unwrap()]),
        ("the second reads what the first made elsewhere", 1, |g, [a, b, x]| {
            let new = g.add(a, x).unwrap();
            let turned = turned(g, new);
            [new, g.mul(b, turned).unwrap()]
        }),
        ("the first reads elsewhere what the second replaces", 1, |g, [a, b, x]| {
            let (turned, part) = (turned(g, b), g.add(a, x).unwrap());
            [g.add(part, turned).unwrap(), g.mul(b, x).unwrap()]
        }),
        ("the same is read elsewhere", 1, |g, [a, b, x]| {
            let turned = turned(g, x);
            [g.add(a, x).unwrap(), g.mul(b, turned).unwrap()]
        }),
        ("nothing is shared", 1, |g, [a, b, _]| [g.add(a, a).unwrap(), g.mul(b, b).unwrap()]),
    ];
    let values = |times: usize| {
        let values: Vec<f64> = (0..N * N).map(|i| ((i * times) % 23) as f64 - 11.0).collect();
        Tensor::from_f64(DType::F32, &[N, N], &values).unwrap()
    };
    let inputs: BTreeMap<String, Tensor> =
        [("a", 3), ("b", 5), ("x", 7)].map(|(name, times)| (name.to_owned(), values(times))).into();
    for (name, n_stores, build) in cases {
        let graph = graph(build);
        assert_eq!(most_stores(&graph), n_stores, "{name}");
        let whole = verify(&graph).unwrap();
        // Whole numbers this small are exact in any order.
        let expected =
            run(&Run { graph: whole, symbols: &[], inputs: &inputs, rounding: Rounding::None, keep: &[] }).unwrap();
        for device in ["cpu"].into_iter().chain(compiler().map(|_| "emulated")) {
            let feed = Feed { symbols: &[], inputs: &inputs };
            let got = run_graph(&graph, &FrontConfig::default(), device, &feed).unwrap();
            for state in ["a", "b"] {
                assert_eq!(got[state].to_f64(), expected.outputs[state].to_f64(), "{name}: {state} on {device}");
            }
        }
    }
}

#[test]
fn a_weight_and_both_its_means_are_updated_by_one_kernel() {
    let weights = ["q", "k"].map(|name| (name.to_owned(), TensorType::fixed(DType::F32, &[8, 16])));
    let graph = apply_graph(&weights, &Optimizer::paper(1e-3, Schedule::Constant)).unwrap();
    assert_eq!(most_stores(&graph), 3, "and those of two weights stay apart");
}
