//! The whole tiny ENEL on every device: token embedding, prefill and decoding steps against the interpreter.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it skips")]

use enel_cli::device::{Feed, run_graph};
use enel_interp::random::random_inputs;
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, InputKind, verify};
use enel_lower::{FrontConfig, divide};
use enel_model::{Bounds, CacheMap, EnelConfig, Prompt, TapLevel, Vocabulary, embed_graph, names, pack, prefill_graph};
use enel_passes::{Mode, Passes};
use enel_tests::agree::{agree, coarsest};
use enel_tests::forge::compiler;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// Random weights: matrices scaled to keep channels near 1, variances and gains positive.
fn weights(graph: &Graph) -> Tensors {
    let mut seed = 7u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    };
    let mut list = Tensors::new();
    for (id, name, kind) in graph.inputs() {
        if kind != InputKind::Weight {
            continue;
        }
        let shape: Vec<usize> = graph.ty(id).shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = if shape.len() > 1 { (3.0 / fan_in.max(1) as f64).sqrt() } else { 0.3 };
        let offset = if shape.len() == 1 && !name.ends_with("bias") && !name.ends_with("mean") { 1.0 } else { 0.0 };
        let values: Vec<f64> =
            (0..shape.iter().product()).map(|_| f64::from((next() * scale + offset) as f32)).collect();
        list.insert(name.to_owned(), Tensor::from_f64(graph.ty(id).dtype, &shape, &values).unwrap());
    }
    list
}

fn cloud(batch: usize, points: usize) -> Tensor {
    let mut seed = 99u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    };
    let values: Vec<f32> = (0..batch * points * 6).map(|_| next()).collect();
    Tensor::from_f32(&[batch, points, 6], &values).unwrap()
}

/// Runs `graph` everywhere and compares all outputs, states included.
fn check(graph: &Graph, symbols: &[i64], inputs: &Tensors, devices: &[&str]) {
    for mode in [Mode::F32, Mode::Bf16] {
        let config = FrontConfig { mode, passes: Passes::all(), memory: None };
        let evaluate = |graph: &Graph, rounding: Rounding<'_>| {
            run(&Run { graph: verify(graph).unwrap(), symbols, inputs, rounding, keep: &[] }).unwrap().outputs
        };
        let reference = evaluate(graph, Rounding::None);
        let divided = divide(graph, &config).unwrap();
        let rounded = evaluate(&divided.graph, Rounding::At(&divided.partition.rounding));
        let coarsest = coarsest(&divided.graph, &divided.partition.rounding);
        for device in devices {
            let got = run_graph(graph, &config, device, &Feed { symbols, inputs }).unwrap();
            for (name, expected) in &reference {
                let result = Tensor { dtype: expected.dtype, ..got[name].clone() };
                if let Err(why) = agree(name, &result, (expected, &rounded[name]), coarsest) {
                    panic!("{} on {device}, {mode:?}: {why:?}", graph.name());
                }
            }
        }
    }
}

fn devices() -> Vec<&'static str> {
    if compiler().is_some() { vec!["cpu", "emulated"] } else { vec!["cpu"] }
}

#[test]
fn the_token_embedding_agrees_on_every_device() {
    let config = EnelConfig::tiny();
    let (graph, _) =
        embed_graph(&config.point, Some(config.llama.hidden_size), &Bounds::default(), TapLevel::Off).unwrap();
    let points = graph.inputs().find(|(_, n, _)| *n == names::POINTS).unwrap().0;
    let n = graph.ty(points).shape[1].as_const().unwrap_or(256) as usize;
    let mut inputs = weights(&graph);
    inputs.insert(names::POINTS.to_owned(), cloud(2, n));
    let symbols: Vec<i64> = graph.symbols.iter().map(|s| if s.name == "B" { 2 } else { n as i64 }).collect();
    check(&graph, &symbols, &inputs, &devices());
}

#[test]
fn prefill_with_a_cloud_and_a_text_agrees_on_every_device() {
    let config = EnelConfig::tiny();
    let graph = prefill_graph(&config, &Bounds::default()).unwrap();
    let vocabulary = Vocabulary { size: 512, patch: 509, frame: Some((510, 511)), tokens_per_cloud: 17 };
    let mut seen = vec![1, 510];
    seen.extend([509; 17]);
    seen.extend([511, 40, 41, 42]);
    let text = [1, 30, 31, 32, 33];
    let prompts = [Prompt { ids: &seen, clouds: 1 }, Prompt { ids: &text, clouds: 0 }];
    let packed = pack(&prompts, &vocabulary).unwrap();
    let mut map = CacheMap::new(&[32, 8]).unwrap();
    let cached = map.append(&packed.lengths()).unwrap();
    let list = |values: &[i32]| Tensor::from_i32(&[values.len()], values).unwrap();
    let values = BTreeMap::from([("B", 1), ("N", 256), ("T", packed.ids.len() as i64), ("S", 40), ("L", 2)]);
    let symbols: Vec<i64> = graph.symbols.iter().map(|s| values[s.name.as_str()]).collect();
    let mut inputs = random_inputs(&graph, &symbols, 3).unwrap();
    inputs.extend(weights(&graph));
    inputs.insert(names::POINTS.to_owned(), cloud(1, 256));
    let vectors = [
        (names::IDS, &packed.ids),
        (names::POSITION, &cached.rows.position),
        (names::LOW, &cached.rows.low),
        (names::HIGH, &cached.rows.high),
        (names::SLOT, &cached.slot),
        (names::POINT_ROW, &packed.point_row),
        (names::LAST_ROW, &packed.last_row),
    ];
    inputs.extend(vectors.map(|(name, v)| (name.to_owned(), list(v))));
    for (id, name, kind) in graph.inputs() {
        if kind == InputKind::State {
            assert_eq!(graph.ty(id).dtype, DType::F32);
            let shape: Vec<usize> = graph.ty(id).shape.iter().map(|d| d.eval(&symbols).unwrap() as usize).collect();
            let zeros = vec![0.0; shape.iter().product()];
            inputs.insert(name.to_owned(), Tensor::from_f32(&shape, &zeros).unwrap());
        }
    }
    check(&graph, &symbols, &inputs, &devices());
}
