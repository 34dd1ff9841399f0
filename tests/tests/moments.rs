//! Narrow means of the optimizer: rounded by chance to neighbours only, and steps that follow from their laws.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_bundle::{BufferKind, Plan, Step, layout};
use enel_cli::device::{Feed, run_graph};
use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{Composite, DType, Dim, Graph, InputKind, Scalar, Symbols, TensorType, verify};
use enel_lower::{FrontConfig, compile, divide};
use enel_model::train::{
    Moments, Objective, Optimizer, Schedule, TrainConfig, Trainable, apply_graph, micro_step_graph, stochastic_bf16,
};
use enel_model::{BatchNorms, Bounds, EnelConfig};
use enel_passes::Mode;
use enel_tests::forge::compiler;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

const NARROW: [Moments; 2] = [Moments::Bf16, Moments::Blocks8];

/// What a graph gives on a device, `interp` among them, where each value rounds as it is stored.
fn outputs(graph: &Graph, inputs: &Tensors, device: &str) -> Tensors {
    let front = FrontConfig::default();
    if device != "interp" {
        return run_graph(graph, &front, device, &Feed { symbols: &[], inputs }).unwrap();
    }
    let divided = divide(graph, &front).unwrap();
    let rounding = Rounding::At(&divided.partition.rounding);
    run(&Run { graph: verify(&divided.graph).unwrap(), symbols: &[], inputs, rounding, keep: &[] }).unwrap().outputs
}

fn devices() -> Vec<&'static str> {
    let emulated = compiler().is_some().then_some("emulated");
    ["interp", "cpu"].into_iter().chain(emulated).collect()
}

/// Rounds each number by the draw `k / 2^16` beside it.
fn rounded(cases: &[(f32, u16)], device: &str) -> Vec<f32> {
    let mut g = Graph::new("rounded", Symbols::default());
    let ty = TensorType::fixed(DType::F32, &[cases.len() as i64]);
    let x = g.input("x", InputKind::Data, ty.clone()).unwrap();
    let u = g.input("u", InputKind::Data, ty).unwrap();
    let y = stochastic_bf16(&mut g, x, u).unwrap();
    g.output("y", y);
    let tensor = |values: Vec<f64>| Tensor::from_f64(DType::F32, &[cases.len()], &values).unwrap();
    let x = tensor(cases.iter().map(|case| f64::from(case.0)).collect());
    let u = tensor(cases.iter().map(|case| f64::from(case.1) / 65536.0).collect());
    let y = outputs(&g, &Tensors::from([("x".into(), x), ("u".into(), u)]), device);
    y["y"].to_f64().iter().map(|&y| y as f32).collect()
}

/// The numbers of bf16 around `x`, and how many 65536ths of their distance `x` is above the lower.
fn neighbours(x: f32) -> (f32, f32, u32) {
    let (below, above) = (f32::from_bits(x.to_bits() & 0xffff_0000), |low: f32| {
        f32::from_bits((low.to_bits() & 0xffff_0000).wrapping_add(0x1_0000))
    });
    match x.to_bits() & 0xffff {
        0 => (x, x, 0),
        rest if x > 0.0 => (below, above(below), rest),
        rest => (above(below), below, 65536 - rest),
    }
}

fn check_rounding(cases: &[(f32, u16)], device: &str) {
    // Where the spacing of bf16 is kept, and where it is as above 2^-119.
    let (edge, spacing) = ((-119f32).exp2(), (-126f32).exp2());
    for (&(x, k), y) in cases.iter().zip(rounded(cases, device)) {
        let told = format!("{device}: {x:e} ({:#x}) by {k} gives {y:e}", x.to_bits());
        if !x.is_finite() || x == 0.0 {
            assert!(y == x || (x.is_nan() && y.is_nan()), "{told}");
        } else if x.abs() < edge {
            assert!((y - x).abs() < spacing && (y / spacing).fract() == 0.0, "{told}");
        } else {
            let (low, high, rest) = neighbours(x);
            let just_above = x.abs() / f32::from_bits(x.to_bits() & 0x7f80_0000) < 1.000_1;
            let expected = if rest + u32::from(k) >= 65536 { high } else { low };
            assert!(y == expected || (just_above && (y == low || y == high)), "{told}, expected {expected:e}");
        }
    }
}

/// Edges of exponents, both signs, the smallest and the largest, and what no rule fits; each by draws on both sides of
/// where its result changes: as many go up as make the mean exact.
fn edges() -> Vec<(f32, u16)> {
    let mut bits = vec![0, 1, 0x7fff, 0x8000, 0x7f_ffff, 0x7f80_0000, 0x7fc0_0000];
    for exponent in 1..254u32 {
        let first = exponent << 23;
        bits.extend(
            [0, 1, 0x400, 0x8000, 0xffff, 0x1_0000, 0x1_8000, 0x35_0001, 0x7f_0000, 0x7f_ffff].map(|x| first | x),
        );
    }
    let signed = bits.into_iter().flat_map(|x| [f32::from_bits(x), -f32::from_bits(x)]);
    signed
        .flat_map(|x| {
            let up_from = 65536 - neighbours(x).2;
            [0, up_from.saturating_sub(1).min(65535) as u16, up_from.min(65535) as u16, 65535].map(|k| (x, k))
        })
        .collect()
}

#[test]
fn numbers_go_to_the_neighbour_their_draw_says() {
    for device in devices() {
        check_rounding(&edges(), device);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]
    #[test]
    fn any_number_goes_to_the_neighbour_its_draw_says(cases in prop::collection::vec((any::<u32>(), any::<u16>()), 256)) {
        let cases: Vec<(f32, u16)> = cases.into_iter().map(|(bits, k)| (f32::from_bits(bits), k)).collect();
        check_rounding(&cases, "cpu");
    }
}

/// A matrix whose last block is padded, one that is blocks as it is, and a vector.
const SHAPES: [(&str, &[i64]); 3] = [("padded", &[3, 100]), ("whole", &[2, 256]), ("vector", &[7])];

fn weights() -> Vec<(String, TensorType)> {
    SHAPES.map(|(name, shape)| (name.to_owned(), TensorType::fixed(DType::F32, shape))).to_vec()
}

fn optimizer(moments: Moments) -> Optimizer {
    Optimizer { moments, seed: 7, max_norm: 1e9, ..Optimizer::paper(1e-2, Schedule::Constant) }
}

/// All states zero, weights among them.
fn zeros(graph: &Graph) -> Tensors {
    let mut states = Tensors::new();
    for (id, name, _) in graph.inputs() {
        let ty = graph.ty(id);
        let shape: Vec<usize> = ty.shape.iter().map(|dim| dim.as_const().unwrap() as usize).collect();
        let bytes = vec![0; shape.iter().product::<usize>() * ty.dtype.size_bytes()];
        states.insert(name.to_owned(), Tensor::from_bytes(ty.dtype, &shape, &bytes).unwrap());
    }
    states
}

/// Derivatives of very different sizes, some of them 0.
fn grad(name: &str, step: u64, n: usize) -> Vec<f64> {
    let mut seed = step * 31 + name.bytes().map(u64::from).sum::<u64>();
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    (0..n)
        .map(|i| {
            let (size, sign) = ((-8.0 * (i * 37 % n) as f64 / n as f64).exp(), next() - 0.3);
            if i % 11 == 0 { 0.0 } else { f64::from((size * sign) as f32) }
        })
        .collect()
}

/// The draws of a step, from its bits: a number for each digit of a place to base 256.
struct Plain {
    bits: Vec<u32>,
    n_first: usize,
    place: usize,
}

impl Plain {
    fn new(step: i64, n_rows: usize) -> Plain {
        let n_first = n_rows.div_ceil(256);
        let mut g = Graph::new("bits", Symbols::default());
        let scalar = TensorType::new(DType::I64, vec![]);
        let [seed, step] = [7, step].map(|x| g.splat(Scalar::I(x), scalar.clone()).unwrap());
        let shape = vec![Dim::constant((n_first + 512) as i64)];
        let bits = g.composite(Composite::RandomBits { stream: 0, shape }, &[seed, step]).unwrap();
        g.output("bits", bits);
        let outputs = outputs(&g, &Tensors::new(), "interp");
        let bits = outputs["bits"].to_i64().unwrap();
        Plain { bits: bits.iter().map(|&x| x as u32).collect(), n_first, place: 0 }
    }

    fn take(&mut self, n: usize) -> Vec<f64> {
        let first = self.place;
        self.place += n.next_multiple_of(256);
        let digits = |place: usize| [place >> 16, self.n_first + (place >> 8) % 256, self.n_first + 256 + place % 256];
        let sum = |place: usize| digits(place).iter().fold(0u32, |sum, &at| sum.wrapping_add(self.bits[at]));
        (first..first + n).map(|place| f64::from(sum(place) >> 16) / 65536.0).collect()
    }
}

/// AdamW over narrow means, written on its own, in f64.
struct Reference {
    moments: Moments,
    w: Vec<f64>,
    /// m and v as they are kept: values, or codes.
    kept: [Vec<f64>; 2],
    scales: [Vec<f64>; 2],
}

impl Reference {
    fn decoded(&self, order: usize) -> Vec<f64> {
        let value = |(i, &x): (usize, &f64)| match (self.moments, order) {
            (Moments::Blocks8, 0) => self.scales[0][i / 256] * ((x - 128.0) / 127.0).powi(3),
            (Moments::Blocks8, _) => self.scales[1][i / 256] * (x / 255.0).powi(8),
            _ => x,
        };
        self.kept[order].iter().enumerate().map(value).collect()
    }

    fn step(&mut self, t: i32, grad: &[f64], draws: [Vec<f64>; 2]) {
        let (betas, rate, eps) = ([0.9, 0.999f64], 1e-2, 1e-8);
        let grad_at = |i: usize| grad.get(i).copied().unwrap_or(0.0);
        let next = [0, 1].map(|order| {
            let new =
                |(i, old): (usize, f64)| betas[order] * old + (1.0 - betas[order]) * grad_at(i).powi(order as i32 + 1);
            self.decoded(order).into_iter().enumerate().map(new).collect::<Vec<f64>>()
        });
        for (i, w) in self.w.iter_mut().enumerate() {
            let [m, v] = [0, 1].map(|order| next[order][i] / (1.0 - betas[order].powi(t)));
            *w -= rate * m / (v.sqrt() + eps);
        }
        for order in 0..2 {
            match self.moments {
                Moments::F32 => self.kept[order].clone_from(&next[order]),
                Moments::Bf16 => {
                    let round = |(&x, u): (&f64, &f64)| {
                        let (low, high, _) = neighbours(x as f32);
                        let [low, high] = [low, high].map(f64::from);
                        if high > low && (x - low) / (high - low) + u >= 1.0 { high } else { low }
                    };
                    self.kept[order] = next[order].iter().zip(&draws[order]).map(round).collect();
                }
                Moments::Blocks8 => {
                    let block = |values: &[f64]| values.iter().fold(0.0f64, |a, x| a.max(x.abs()));
                    self.scales[order] = next[order].chunks(256).map(block).collect();
                    let code = |(i, (&x, u)): (usize, (&f64, &f64))| {
                        let part = if x == 0.0 { 0.0 } else { x / self.scales[order][i / 256] };
                        match order {
                            0 => (128.0 + 127.0 * part.cbrt() + u).floor().clamp(1.0, 255.0),
                            _ if x == 0.0 => 0.0,
                            _ => (255.0 * part.powf(0.125) + u).floor().clamp(1.0, 255.0),
                        }
                    };
                    self.kept[order] = next[order].iter().zip(&draws[order]).enumerate().map(code).collect();
                }
            }
        }
    }
}

#[test]
fn steps_are_those_of_an_adamw_that_rounds_alike() {
    for moments in NARROW {
        let graph = apply_graph(&weights(), &optimizer(moments)).unwrap();
        let mut states = zeros(&graph);
        let sizes = SHAPES.map(|(_, shape)| shape.iter().product::<i64>() as usize);
        for step in 0..24 {
            for ((name, shape), n) in SHAPES.iter().zip(sizes) {
                let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
                let grad = Tensor::from_f64(DType::F32, &shape, &grad(name, step as u64, n)).unwrap();
                states.insert(format!("grad.{name}"), grad);
            }
            // The first and last steps on every device, from the same states.
            let after = outputs(&graph, &states, "interp");
            for device in devices().into_iter().skip(1).filter(|_| [0, 1, 23].contains(&step)) {
                agrees(&after, &outputs(&graph, &states, device), (device, moments));
            }
            let mut draws = Plain::new(step, sizes.iter().map(|n| 2 * n.div_ceil(256)).sum());
            for ((name, _), n) in SHAPES.iter().zip(sizes) {
                let of = |states: &Tensors, prefix: &str| {
                    states.get(&format!("{prefix}{name}")).map_or(Vec::new(), |state| state.to_f64())
                };
                let kept = ["adam.m.", "adam.v."].map(|prefix| of(&states, prefix));
                let both = [0; 2].map(|_| draws.take(kept[0].len()));
                let scales = ["adam.m_scale.", "adam.v_scale."].map(|prefix| of(&states, prefix));
                let mut reference = Reference { moments, w: of(&states, ""), kept, scales };
                reference.step(step as i32 + 1, &grad(name, step as u64, n), both);
                let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs() + 1e-9);
                let told = format!("{moments:?} {name} in step {step}");
                assert!(close(&of(&after, ""), &reference.w), "{told}: {:?} {:?}", of(&after, ""), reference.w);
                for (order, (kept, scale)) in
                    [("adam.m.", "adam.m_scale."), ("adam.v.", "adam.v_scale.")].into_iter().enumerate()
                {
                    assert!(close(&of(&after, scale), &reference.scales[order]), "{told}");
                    let got = of(&after, kept);
                    let other = got.iter().zip(&reference.kept[order]).filter(|(a, b)| a != b).count();
                    // Just above a power of two bf16 may round otherwise, once in some 10 000.
                    assert!(other <= 1, "{told}: {other} of {} in {kept}", got.len());
                }
            }
            states.extend(after.into_iter().filter(|(name, _)| states.contains_key(name)).collect::<Tensors>());
        }
    }
}

/// A draw may decide otherwise by the last bit of a sum, so some codes differ by one.
fn agrees(expected: &Tensors, got: &Tensors, (device, moments): (&str, Moments)) {
    for (name, expected) in expected {
        let (a, b) = (got[name].to_f64(), expected.to_f64());
        let is_mean = name.starts_with("adam.m.") || name.starts_with("adam.v.");
        let near = |a: f64, b: f64| match expected.dtype {
            DType::U8 => (a - b).abs() <= 1.0,
            DType::BF16 => (a - b).abs() <= 0.0079 * b.abs() + 1e-30,
            _ => (a - b).abs() <= 1e-5 * b.abs() + 1e-9,
        };
        let far = a.iter().zip(&b).position(|(&a, &b)| !near(a, b));
        assert!(far.is_none(), "{device} {moments:?} {name} at {far:?}: {a:?} {b:?}");
        let other = a.iter().zip(&b).filter(|(a, b)| a != b).count();
        assert!(!is_mean || 50 * other <= a.len(), "{device} {moments:?} {name}: {other} of {} differ", a.len());
    }
}

#[test]
fn means_that_keep_almost_all_of_themselves_move_all_the_same() {
    let shape = TensorType::fixed(DType::F32, &[4, 256]);
    let means = [Moments::F32, Moments::Bf16, Moments::Blocks8].map(|moments| {
        let graph = apply_graph(&[("w".to_owned(), shape.clone())], &optimizer(moments)).unwrap();
        let mut states = zeros(&graph);
        // Sizes of derivatives over two octaves; they stay as they are.
        let grad: Vec<f64> = (0..1024).map(|i| (-2.0 * f64::from(i % 256) / 256.0).exp2()).collect();
        let grad = Tensor::from_f64(DType::F32, &[4, 256], &grad).unwrap();
        for _ in 0..400 {
            states.insert("grad.w".into(), grad.clone());
            let after = outputs(&graph, &states, "interp");
            states.extend(after.into_iter().filter(|(name, _)| states.contains_key(name)).collect::<Tensors>());
        }
        let kept = states["adam.v.w"].to_f64();
        match states.get("adam.v_scale.w") {
            None => kept,
            Some(scale) => {
                let scale = scale.to_f64();
                kept.iter().enumerate().map(|(i, c)| scale[i / 256] * (c / 255.0).powi(8)).collect()
            }
        }
    });
    let [wide, narrow @ ..] = means;
    // 1 - 0.999^400 = 0.33 of each square; nearest bf16 would stop where a step is half a digit, 0.001 (1 - v) = v / 512.
    for kept in narrow {
        let parts: Vec<f64> = kept.iter().zip(&wide).map(|(a, b)| a / b).collect();
        let mean = parts.iter().sum::<f64>() / 1024.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!(parts.iter().all(|part| (part - 1.0).abs() < 0.5), "{parts:?}");
    }
}

/// Bytes of the states of a plan that begin so.
fn state_bytes(plan: &Plan, begin: &str) -> usize {
    let is_it = |kind: &BufferKind| matches!(kind, BufferKind::State(name) if name.starts_with(begin));
    plan.buffers.iter().filter(|buffer| is_it(&buffer.kind)).map(|buffer| buffer.bytes(&[]).unwrap()).sum()
}

#[test]
fn narrow_means_are_replaced_in_place_beside_copies_of_scales() {
    let train = TrainConfig {
        objective: Objective::hybrid_feature(0.3),
        trainable: Trainable::all(),
        batch_norms: BatchNorms::Own,
    };
    let micro = micro_step_graph(&EnelConfig::tiny(), &train, &Bounds::default()).unwrap();
    let n_values: i64 = micro.weights.iter().filter_map(|(_, ty)| ty.elems().as_const()).sum();
    for (moments, most) in [(Moments::F32, 8.0), (Moments::Bf16, 4.0), (Moments::Blocks8, 2.2)] {
        let apply = apply_graph(&micro.weights, &optimizer(moments)).unwrap();
        for mode in [Mode::F32, Mode::Bf16] {
            let plan = &compile(&[&apply], &FrontConfig { mode, ..FrontConfig::default() }).unwrap().plans[0];
            let mut copies = 0;
            for step in &plan.steps {
                let Step::Copy { to, .. } = step else { continue };
                copies += 1;
                let kind = &plan.buffers[*to as usize].kind;
                assert!(matches!(kind, BufferKind::State(name) if name.contains("_scale.")), "{kind:?}");
            }
            let temps = plan.buffers.iter().filter(|buffer| buffer.kind == BufferKind::Temp);
            let large: Vec<_> = temps.filter(|buffer| buffer.bytes(&[]).unwrap() > 40_000).collect();
            let per_value = state_bytes(plan, "adam.") as f64 / n_values as f64;
            let arena = layout(plan, &[]).unwrap().arena_bytes as f64 / n_values as f64;
            assert!(per_value <= most + 0.01, "{moments:?}: {per_value} B");
            assert!(large.is_empty() && arena < 0.3, "{moments:?} {mode:?}: {arena} B a value, {large:?}");
            let expected = if moments == Moments::Blocks8 { 2 * micro.weights.len() } else { 0 };
            assert_eq!(copies, expected, "{moments:?}: a copy of each scale");
        }
    }
}
