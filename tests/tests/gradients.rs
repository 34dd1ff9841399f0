//! Derivatives of whole random graphs: slopes of their losses, and the same on every device.
//!
//! `ENEL_CASES` sets how many run on the emulated device, and `ENEL_SEED` where they start.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it ran")]

use enel_autodiff::GRAD;
use enel_cli::device::{Feed, run_graph};
use enel_interp::random::{RandomConfig, random_graph, random_inputs};
use enel_interp::{Rounding, Run, Tensor, Values, run};
use enel_ir::{Graph, verify};
use enel_lower::{FrontConfig, divide};
use enel_passes::{Mode, Passes};
use enel_tests::agree::{agree, coarsest};
use enel_tests::forge::compiler;
use enel_tests::slopes::{LOSS, derived, with_loss};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

fn outputs(graph: &Graph, symbols: &[i64], inputs: &Tensors, rounding: Rounding<'_>) -> Tensors {
    run(&Run { graph: verify(graph).unwrap(), symbols, inputs, rounding, keep: &[] }).unwrap().outputs
}

/// Seeds from here on draw cross-entropies by chunks too.
const CHUNKS: u64 = 1000;

/// A random graph with derivatives of attention, and its bindings.
fn drawn(seed: u64, kinks: bool) -> (Graph, Vec<Vec<i64>>) {
    random_graph(seed, &RandomConfig { kinks, derivatives: true, chunks: seed >= CHUNKS, ..RandomConfig::default() })
}

/// Inputs off the lattices they are drawn on: there elements tie and steps jump.
fn inputs_of(graph: &Graph, symbols: &[i64], seed: u64) -> Tensors {
    let mut inputs = random_inputs(graph, symbols, seed).unwrap();
    for tensor in inputs.values_mut() {
        if let Values::F(values) = &mut tensor.values {
            values.iter_mut().enumerate().for_each(|(i, x)| *x += 1e-3 * (1.7 * i as f64 + seed as f64).sin());
        }
    }
    inputs
}

/// True where the loss is smooth along a direction, and then the derivative is its slope there.
fn has_its_slope(graph: &Graph, symbols: &[i64], seed: u64) -> Option<bool> {
    let lossy = with_loss(graph)?;
    let derivative = derived(&lossy)?;
    let inputs = inputs_of(graph, symbols, seed);
    let mut direction = random_inputs(graph, symbols, seed + 1).unwrap();
    let slopes = outputs(&derivative, symbols, &inputs, Rounding::None);
    direction.retain(|name, _| slopes.contains_key(&format!("{GRAD}{name}")));
    let (mut along, mut scale) = (0.0, 1.0);
    for (name, step) in &direction {
        for (d, s) in step.to_f64().iter().zip(slopes[&format!("{GRAD}{name}")].to_f64()) {
            assert!(s.is_finite(), "seed {seed}: {name} has the slope {s}\n{lossy}");
            along += d * s;
            scale += (d * s).abs();
        }
    }
    let loss_at = |h: f64| {
        let mut moved = inputs.clone();
        for (name, step) in &direction {
            let Values::F(values) = &mut moved.get_mut(name).unwrap().values else { unreachable!() };
            values.iter_mut().zip(step.to_f64()).for_each(|(x, d)| *x += h * d);
        }
        outputs(&lossy, symbols, &moved, Rounding::None)[LOSS].to_f64()[0]
    };
    let h = 1e-6;
    let [before, here, after] = [loss_at(-h), loss_at(0.0), loss_at(h)];
    let [left, right] = [(here - before) / h, (after - here) / h];
    // Curvature makes the sides differ by h times itself, rounding by 1e-16 of the loss over h.
    let noise = 1e-9 * here.abs().max(1.0) + 2e-4 * scale;
    if (left - right).abs() > noise {
        return Some(false);
    }
    let central = (after - before) / (2.0 * h);
    assert!((along - central).abs() <= noise, "seed {seed}, {symbols:?}: {along}, differences {central}\n{lossy}");
    Some(true)
}

#[test]
fn random_graphs_have_the_slopes_of_their_differences() {
    let (mut smooth, mut kinked) = (0, 0);
    for seed in (0..400).chain(CHUNKS..CHUNKS + 100) {
        let (graph, bindings) = drawn(seed, seed % 4 == 0);
        // Differences pass a stop, derivatives do not.
        if graph.ids().any(|id| graph.node(id).op.name() == "stop_gradient") {
            continue;
        }
        for symbols in &bindings {
            match has_its_slope(&graph, symbols, seed) {
                None => {}
                Some(true) => smooth += 1,
                Some(false) => kinked += 1,
            }
        }
    }
    println!("{smooth} smooth, {kinked} kinked");
    // A test that skipped most would show nothing.
    assert!(smooth > 500 && smooth > 10 * kinked, "{smooth} smooth, {kinked} kinked");
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.to_f64().into_iter().map(f64::abs).fold(0.0, f64::max)
}

/// Runs a derivative on `device` and compares with the interpreter.
fn check(graph: &Graph, symbols: &[i64], seed: u64, (device, config): (&str, &FrontConfig)) {
    let Some(derivative) = with_loss(graph).and_then(|g| derived(&g)) else { return };
    let inputs = random_inputs(graph, symbols, seed).unwrap();
    let reference = outputs(&derivative, symbols, &inputs, Rounding::None);
    let divided = divide(&derivative, config).unwrap();
    let rounding = &divided.partition.rounding;
    let rounded = outputs(&divided.graph, symbols, &inputs, Rounding::At(rounding));
    let told = |why: String| -> ! { panic!("{device}, {config:?}, seed {seed}, symbols {symbols:?}: {why}\n{graph}") };
    let feed = Feed { symbols, inputs: &inputs };
    let got = run_graph(&derivative, config, device, &feed).unwrap_or_else(|e| told(format!("{e:#}")));
    for (name, tensor) in &reference {
        // A state may be kept in a narrower dtype than declared.
        let result = Tensor { dtype: tensor.dtype, ..got[name].clone() };
        // A derivative whose terms cancel has no size of its own to be compared by: f32 leaves rounding of the terms.
        if largest(tensor) < 1e-12 && largest(&result) < 1e-9 {
            continue;
        }
        let agreed = agree(name, &result, (tensor, &rounded[name]), coarsest(&divided.graph, rounding));
        agreed.unwrap_or_else(|d| told(format!("{d:?}")));
    }
}

fn derivatives_agree(device: &str, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let (graph, bindings) = drawn(seed, false);
        for mode in [Mode::F32, Mode::Bf16] {
            for passes in [Passes::None, Passes::all()] {
                for symbols in &bindings {
                    check(&graph, symbols, seed, (device, &FrontConfig { mode, passes: passes.clone(), memory: None }));
                }
            }
        }
    }
}

#[test]
fn derivatives_of_random_graphs_agree_on_cpu() {
    derivatives_agree("cpu", 0..300);
    derivatives_agree("cpu", CHUNKS..CHUNKS + 60);
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap())
}

#[test]
fn derivatives_of_random_graphs_agree_on_the_emulated_device() {
    if compiler().is_some() {
        let (first, cases) = (setting("ENEL_SEED", 0), setting("ENEL_CASES", 2));
        println!("ENEL_SEED={first} ENEL_CASES={cases}");
        derivatives_agree("emulated", first..first + cases);
        derivatives_agree("emulated", CHUNKS + first..CHUNKS + first + cases);
    }
}
