//! Training graphs of the tiny ENEL: every term of the loss, which weights learn, parts of a batch, and the optimizer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_autodiff::{GRAD, differentiate};
use enel_bundle::{Step, layout};
use enel_cli::device::{Feed, run_graph};
use enel_interp::{Rounding, Run, Tensor, Values, run};
use enel_ir::{DType, Graph, InputKind, Symbol, TensorType, verify};
use enel_lower::{FrontConfig, compile, divide};
use enel_model::train::{
    Contrast, Distillation, EmbeddingRows, Masked, Objective, Optimizer, PositionCode, Prediction, Schedule, Tap,
    Target, TargetGradient, TrainConfig, Trainable, apply_graph, micro_step_graph, training_graph,
};
use enel_model::{
    BatchNorms, Bounds, EnelConfig, Extent, LlamaConfig, PointConfig, Prompt, SigmaMode, TapLevel, Vocabulary, names,
    pack, shift_labels,
};
use enel_passes::{Mode, Passes};
use enel_tests::agree::{agree, coarsest};
use enel_tests::forge::compiler;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

const TINY: Vocabulary = Vocabulary { size: 512, patch: 509, frame: Some((510, 511)), tokens_per_cloud: 17 };

/// Every term alone, the two hybrids, and every switch once.
fn objectives() -> Vec<(&'static str, Objective)> {
    let plain = Objective::cross_entropy();
    let at = |target: Target, tap: Tap| Prediction { tap, weight: 0.5, ..Prediction::of(target) };
    let masked = |target| Some(Masked { ratio: 0.6, prediction: at(target, Tap::Layer(2)) });
    vec![
        ("cross-entropy", plain),
        ("masked features", Objective { masked: masked(Target::Feature), cross_entropy: 0.5, ..plain }),
        ("masked patches", Objective { masked: masked(Target::Patch), ..plain }),
        ("seen features", Objective { reconstruction: Some(at(Target::Feature, Tap::Last)), ..plain }),
        ("seen patches", Objective { reconstruction: Some(at(Target::Patch, Tap::Layer(1))), ..plain }),
        (
            "contrast",
            Objective { contrast: Some(Contrast { weight: 1.0, temperature: 0.07, tap: Tap::Last }), ..plain },
        ),
        (
            "distillation",
            Objective { distillation: Some(Distillation { weight: 1.0, width: 10, tap: Tap::Last }), ..plain },
        ),
        ("hybrid", Objective { position_code: PositionCode::Input, ..Objective::hybrid_feature(0.3) }),
        ("inverse hybrid", Objective { position_code: PositionCode::EveryLayer, ..Objective::hybrid_patch(0.3) }),
    ]
}

fn config() -> EnelConfig {
    let mut config = EnelConfig::tiny();
    config.point.sigma = SigmaMode::PerCloud;
    config
}

fn train(objective: Objective, batch_norms: BatchNorms) -> TrainConfig {
    TrainConfig { objective, trainable: Trainable::all(), batch_norms }
}

fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut seed = seed;
    move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    }
}

/// Symbols and inputs for clouds `from..from + n`, one prompt each.
struct Batch {
    values: BTreeMap<&'static str, i64>,
    inputs: Tensors,
    /// Labels that count.
    n_labels: usize,
}

fn batch(objective: &Objective, (from, n): (usize, usize), share: f64) -> Batch {
    let prompts: Vec<Vec<i32>> = (from..from + n)
        .map(|i| {
            [&[1, 510][..], &[509; 17], &[511], &(0..3 + i as i32).map(|t| 40 + 7 * t).collect::<Vec<_>>()].concat()
        })
        .collect();
    let list: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt { ids, clouds: 1 }).collect();
    let packed = pack(&list, &TINY).unwrap();
    // The last two tokens of each prompt are the answer.
    let labels = |ids: &Vec<i32>| -> Vec<i32> {
        ids.iter().enumerate().map(|(t, &id)| if t + 2 < ids.len() { names::IGNORE } else { id }).collect()
    };
    let labels: Vec<Vec<i32>> = prompts.iter().map(labels).collect();
    let labels = shift_labels(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let vector = |values: &[i32]| Tensor::from_i32(&[values.len()], values).unwrap();
    let mut inputs = Tensors::new();
    let vectors = [
        (names::IDS, &packed.ids),
        (names::POSITION, &packed.rows.position),
        (names::LOW, &packed.rows.low),
        (names::HIGH, &packed.rows.high),
        (names::POINT_ROW, &packed.point_row),
        (names::LABELS, &labels),
    ];
    inputs.extend(vectors.map(|(name, v)| (name.to_owned(), vector(v))));
    let floats = |shape: &[usize], seed: usize| {
        let count: usize = shape[1..].iter().product();
        let values: Vec<f64> = (0..shape[0])
            .flat_map(|i| {
                let mut next = numbers((seed + from + i) as u64 + 5);
                (0..count).map(move |_| f64::from(next() as f32)).collect::<Vec<_>>()
            })
            .collect();
        Tensor::from_f64(DType::F32, shape, &values).unwrap()
    };
    inputs.insert(names::POINTS.to_owned(), floats(&[n, 256, 6], 0));
    if let Some(masked) = objective.masked {
        let k = masked.count(16);
        // A different set for every cloud: every step-th token, cyclically.
        let order = |cloud: usize| (0..16).map(move |j| ((j * 5 + cloud) % 16) as i32);
        let rows = |range: std::ops::Range<usize>| -> Tensor {
            let values: Vec<i32> = (from..from + n)
                .flat_map(|cloud| {
                    let mut some: Vec<i32> = order(cloud).skip(range.start).take(range.len()).collect();
                    some.sort_unstable();
                    some
                })
                .collect();
            Tensor::from_i32(&[n, range.len()], &values).unwrap()
        };
        inputs.insert(names::MASKED.to_owned(), rows(0..k));
        inputs.insert(names::SEEN.to_owned(), rows(k..16));
    }
    if let Some(teacher) = objective.distillation {
        inputs.insert(names::TEACHER.to_owned(), floats(&[n, 16, teacher.width], 50));
    }
    for name in [names::TOKEN_SHARE, names::CLOUD_SHARE] {
        inputs.insert(name.to_owned(), Tensor::from_f64(DType::F32, &[], &[share]).unwrap());
    }
    let n_labels = labels.iter().filter(|&&l| l != names::IGNORE).count();
    let clouds = if objective.contrast.is_some() { n / 2 } else { n };
    Batch { values: BTreeMap::from([("B", clouds as i64), ("T", packed.ids.len() as i64)]), inputs, n_labels }
}

/// Weights as in a model that has begun to learn; sums and counts start at 0, variances at 1.
fn complete(graph: &Graph, batch: &Batch) -> (Vec<i64>, Tensors) {
    let symbols: Vec<i64> = graph.symbols.iter().map(|s| batch.values[s.name.as_str()]).collect();
    let mut inputs = batch.inputs.clone();
    for (id, name, kind) in graph.inputs().filter(|(_, _, kind)| *kind != InputKind::Data) {
        let ty = graph.ty(id);
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let count = shape.iter().product();
        let is_sum = kind == InputKind::State && name.starts_with(GRAD);
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = if shape.len() > 1 { (3.0 / fan_in.max(1) as f64).sqrt() } else { 0.3 };
        let is_gain = shape.len() == 1 && !name.ends_with("bias") && !name.ends_with("mean");
        let mut next = numbers(name.bytes().map(u64::from).sum());
        let mut value = || match is_sum {
            true => 0.0,
            false => f64::from((next() * scale + if is_gain { 1.0 } else { 0.0 }) as f32),
        };
        let values = match ty.dtype.is_float() {
            true => Values::F((0..count).map(|_| value()).collect()),
            false => Values::I(vec![0; count]),
        };
        inputs.insert(name.to_owned(), Tensor::new(ty.dtype, &shape, values).unwrap());
    }
    inputs.retain(|name, _| graph.inputs().any(|(_, known, _)| known == name));
    (symbols, inputs)
}

fn outputs(graph: &Graph, symbols: &[i64], inputs: &Tensors, rounding: Rounding<'_>) -> Tensors {
    run(&Run { graph: verify(graph).unwrap(), symbols, inputs, rounding, keep: &[] }).unwrap().outputs
}

#[test]
fn every_term_has_the_slope_of_its_differences() {
    for (name, objective) in objectives() {
        let train = train(objective, BatchNorms::Own);
        let (forward, _) = training_graph(&config(), &train, &Bounds::default(), TapLevel::Off).unwrap();
        let is_weight = |n: &str| forward.inputs().any(|(_, known, kind)| known == n && kind == InputKind::Weight);
        let derived = differentiate(verify(&forward).unwrap(), names::LOSS, &is_weight).unwrap();
        let n = if objective.contrast.is_some() { 4 } else { 2 };
        let (symbols, inputs) = complete(&forward, &batch(&objective, (0, n), 0.5));
        let slopes = outputs(&derived, &symbols, &inputs, Rounding::None);
        let mut next = numbers(3);
        let (mut along, mut direction) = (0.0, Tensors::new());
        for (weight, slope) in slopes.iter().filter_map(|(n, t)| Some((n.strip_prefix(GRAD)?, t))) {
            let step: Vec<f64> = (0..slope.elems()).map(|_| next()).collect();
            along += step.iter().zip(slope.to_f64()).map(|(a, b)| a * b).sum::<f64>();
            direction.insert(weight.to_owned(), Tensor::from_f64(DType::F32, &slope.shape, &step).unwrap());
        }
        let at = |h: f64| {
            let mut moved = inputs.clone();
            for (weight, step) in &direction {
                let Values::F(values) = &mut moved.get_mut(weight).unwrap().values else { unreachable!() };
                values.iter_mut().zip(step.to_f64()).for_each(|(x, d)| *x += h * d);
            }
            outputs(&forward, &symbols, &moved, Rounding::None)[names::LOSS].to_f64()[0]
        };
        // So small that no maximum or relu of some thousand changes its mind; rounding leaves 1e-7 of the loss.
        let h = 1e-9;
        let central = (at(h) - at(-h)) / (2.0 * h);
        assert!((along - central).abs() <= 1e-4 * central.abs().max(1.0), "{name}: {along}, differences {central}");
    }
}

/// An output of a micro-step: exact, rounded where values are stored, and from a device.
struct Compared {
    name: String,
    exact: Tensor,
    rounded: Tensor,
    got: Tensor,
}

/// Runs a micro-step of two clouds (four, for contrast), the first of them number `from`; also what it stores most coarsely.
fn micro_step(
    config: &EnelConfig,
    train: &TrainConfig,
    (device, mode): (&str, Mode),
    (bounds, from): (&Bounds, usize),
) -> (Vec<Compared>, DType) {
    let objective = train.objective;
    let storage = if mode == Mode::Bf16 { DType::BF16 } else { DType::F32 };
    let micro = micro_step_graph(config, train, &Bounds { storage, ..*bounds }).unwrap();
    // Whatever products take them as, sums and weights that learn are f32.
    assert!(micro.weights.iter().all(|(_, ty)| ty.dtype == DType::F32));
    let n = if objective.contrast.is_some() { 4 } else { 2 };
    let (symbols, inputs) = complete(&micro.graph, &batch(&objective, (from, n), 0.5));
    let exact = outputs(&micro.graph, &symbols, &inputs, Rounding::None);
    let front = FrontConfig { mode, passes: Passes::all(), memory: None };
    let divided = divide(&micro.graph, &front).unwrap();
    let rounding = &divided.partition.rounding;
    let mut rounded = outputs(&divided.graph, &symbols, &inputs, Rounding::At(rounding));
    let mut got = run_graph(&micro.graph, &front, device, &Feed { symbols: &symbols, inputs: &inputs }).unwrap();
    let compared = exact.into_iter().map(|(name, exact)| {
        let [rounded, got] = [&mut rounded, &mut got].map(|of| of.remove(&name).unwrap());
        Compared { name, exact, rounded, got }
    });
    // A bias in front of a batch normalisation has the derivative 0: only rounding is left of it.
    let is_nothing = |c: &Compared| {
        let below = |t: &Tensor, most: f64| t.to_f64().iter().all(|x| x.abs() < most);
        c.exact.dtype.is_float() && below(&c.exact, 1e-12) && below(&c.got, 1e-4)
    };
    (compared.filter(|c| !is_nothing(c)).collect(), coarsest(&divided.graph, rounding))
}

/// Every element of a micro-step, by the rule of the proof ladder.
fn micro_step_agrees(config: &EnelConfig, (name, train): (&str, &TrainConfig), device: (&str, Mode), bounds: &Bounds) {
    let (compared, coarsest) = micro_step(config, train, device, (bounds, 0));
    for c in compared {
        agree(&c.name, &c.got, (&c.exact, &c.rounded), coarsest)
            .unwrap_or_else(|d| panic!("{name} on {device:?}: {d:?}"));
    }
}

/// Errors of whole steps in bf16 against those of the reference that rounds at the same places.
///
/// Over a model's depth one rounding that turns the other way becomes another draw of all that follow: single elements
/// say little, so what is compared is the root mean square of an output, and the mean over all outputs and batches.
fn roundings_agree(config: &EnelConfig, steps: &[(&str, TrainConfig)], device: &str, bounds: &Bounds) {
    let (mut logs, mut n) = (0.0, 0);
    for from in 0..4 {
        for (name, train) in steps {
            for c in micro_step(config, train, (device, Mode::Bf16), (bounds, from)).0 {
                let (exact, rounded, got) = (c.exact.to_f64(), c.rounded.to_f64(), c.got.to_f64());
                let rms = |list: Vec<f64>| (list.iter().map(|x| x * x).sum::<f64>() / list.len() as f64).sqrt();
                let off = |of: &[f64]| rms(of.iter().zip(&exact).map(|(x, y)| x - y).collect());
                let (ours, theirs) = (off(&got), off(&rounded));
                // A number alone may be near by luck.
                let least = 2f64.powi(-8) * rms(exact.clone());
                assert!(ours <= 4.0 * theirs.max(least), "{name} from {from}: {} off by {ours}, {theirs}", c.name);
                if exact.len() >= 16 && theirs > 0.0 {
                    logs += (ours / theirs).ln();
                    n += 1;
                }
            }
        }
    }
    let mean = (logs / f64::from(n)).exp();
    assert!(n >= 16 && mean < 1.1, "errors of {n} outputs are {mean} times those of the reference");
}

#[test]
fn micro_steps_agree_on_cpu() {
    for (name, objective) in objectives() {
        let train = train(objective, BatchNorms::Own);
        micro_step_agrees(&config(), (name, &train), ("cpu", Mode::F32), &Bounds::default());
    }
}

#[test]
fn micro_steps_in_bf16_agree_on_cpu() {
    // Where a maximum or a nearest point chooses, bf16 makes ties, and the last bit of a sum decides who gets a derivative:
    // what comes after the embedder is smooth, in terms without patches.
    let smooth =
        |o: &Objective| o.reconstruction.is_none() && o.masked.is_none_or(|m| m.prediction.target == Target::Feature);
    let steps = objectives().into_iter().filter(|(_, objective)| smooth(objective)).map(|(name, objective)| {
        let patterns = ["model.point_proj.*", "model.layers.*", "lm_head.*", "*_predict_head.*"];
        let mut train = train(objective, BatchNorms::Own);
        train.trainable.patterns = patterns.map(str::to_owned).to_vec();
        (name, train)
    });
    roundings_agree(&config(), &steps.collect::<Vec<_>>(), "cpu", &Bounds::default());
}

#[test]
fn the_hybrid_step_agrees_on_the_emulated_device() {
    if compiler().is_none() {
        return;
    }
    // One stage and one layer: kernels are compiled for it, and emulated.
    let mut config = config();
    config.point = PointConfig {
        input_points: 32,
        num_stages: 1,
        embed_dim: 6,
        group_size: 4,
        projection_hidden_dim: vec![8, 8],
        ..config.point
    };
    config.llama = LlamaConfig {
        hidden_size: 16,
        intermediate_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        ..config.llama
    };
    for mode in [Mode::F32, Mode::Bf16] {
        let train = train(Objective::hybrid_feature(0.3), BatchNorms::Own);
        micro_step_agrees(&config, ("hybrid", &train), ("emulated", mode), &Bounds::default());
    }
}

/// So many tokens that logits come 1024 at a time.
fn many_tokens() -> Bounds {
    Bounds { tokens: Extent::range(1, 1 << 18), ..Bounds::default() }
}

fn many_words(n: usize) -> EnelConfig {
    let mut config = config();
    config.llama.vocab_size = n;
    config
}

#[test]
fn a_vocabulary_in_chunks_changes_no_derivative() {
    let config = many_words(2500);
    let objective = Objective::cross_entropy();
    let train = train(objective, BatchNorms::Running);
    let [whole, chunks] =
        [Bounds::default(), many_tokens()].map(|bounds| micro_step_graph(&config, &train, &bounds).unwrap().graph);
    let batch = batch(&objective, (0, 2), 1.0);
    let [whole, chunks] = [whole, chunks].map(|graph| {
        let (symbols, inputs) = complete(&graph, &batch);
        outputs(&graph, &symbols, &inputs, Rounding::None)
    });
    for (name, expected) in &whole {
        let (got, expected) = (chunks[name].to_f64(), expected.to_f64());
        let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        let off = got.iter().zip(&expected).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        assert!(off <= 1e-9 * size + 1e-15, "{name}: {off} of {size}");
    }
}

#[test]
fn no_more_logits_than_some_chunks_lie_in_memory() {
    let config = many_words(8192);
    let tokens = 1usize << 18;
    let arena = |train: &TrainConfig, mode| {
        let micro = micro_step_graph(&config, train, &many_tokens()).unwrap();
        let plan =
            &compile(&[&micro.graph], &FrontConfig { mode, passes: Passes::all(), memory: None }).unwrap().plans[0];
        let largest = |s: &Symbol| if s.name == "T" { tokens as i64 } else { s.min };
        layout(plan, &plan.symbols.iter().map(largest).collect::<Vec<_>>()).unwrap().arena_bytes
    };
    let mut train = train(Objective::cross_entropy(), BatchNorms::Running);
    // The head alone learns, so that little else is kept.
    train.trainable.patterns = ["model.norm.*", "lm_head.*"].map(str::to_owned).to_vec();
    for mode in [Mode::F32, Mode::Bf16] {
        let logits = tokens * config.llama.vocab_size * if mode == Mode::Bf16 { 2 } else { 4 };
        let bytes = arena(&train, mode);
        assert!(bytes < logits / 2, "{mode:?}: {bytes} B of temporaries, {logits} B of logits");
    }
}

#[test]
fn micro_steps_with_a_vocabulary_in_chunks_agree() {
    let config = many_words(2500);
    let objective = Objective::cross_entropy();
    let mut train = train(objective, BatchNorms::Own);
    micro_step_agrees(&config, ("chunks", &train), ("cpu", Mode::F32), &many_tokens());
    train.trainable.patterns = ["model.layers.*", "lm_head.*"].map(str::to_owned).to_vec();
    roundings_agree(&config, &[("chunks", train)], "cpu", &many_tokens());
}

#[test]
fn a_step_copies_nothing_and_builds_no_state_twice() {
    let objective = Objective::hybrid_feature(0.3);
    let micro = micro_step_graph(&config(), &train(objective, BatchNorms::Own), &Bounds::default()).unwrap();
    let apply = apply_graph(&micro.weights, &Optimizer::paper(1e-3, Schedule::Constant)).unwrap();
    for graph in [&micro.graph, &apply] {
        let compiled = compile(&[graph], &FrontConfig::default()).unwrap();
        let copies = compiled.plans[0].steps.iter().filter(|step| matches!(step, Step::Copy { .. })).count();
        assert_eq!(copies, 0, "copies in {}", graph.name());
    }
    let plan = &compile(&[&apply], &FrontConfig::default()).unwrap().plans[0];
    let temps = layout(plan, &[]).unwrap().arena_bytes;
    let largest = micro.weights.iter().filter_map(|(_, ty)| ty.elems().as_const()).max().unwrap() as usize * 4;
    assert!(temps < largest, "{temps} B of temporaries beside states of {largest} B");
}

#[test]
fn a_stopped_target_changes_derivatives_and_not_the_loss() {
    let mut flowing = Objective::hybrid_feature(0.3);
    flowing.reconstruction = None;
    let mut stopped = flowing;
    if let Some(masked) = &mut stopped.masked {
        masked.prediction.target_gradient = TargetGradient::Stops;
    }
    let results = [flowing, stopped].map(|objective| {
        let micro = micro_step_graph(&config(), &train(objective, BatchNorms::Own), &Bounds::default()).unwrap();
        let (symbols, inputs) = complete(&micro.graph, &batch(&objective, (0, 2), 1.0));
        outputs(&micro.graph, &symbols, &inputs, Rounding::None)
    });
    assert_eq!(results[0][names::LOSS], results[1][names::LOSS]);
    // The head reads states only; the projector also makes the targets.
    for (weight, is_changed) in [("mae_predict_head.2.weight", false), ("model.point_proj.4.weight", true)] {
        let [a, b] = [0, 1].map(|i| results[i][&format!("{GRAD}{weight}")].to_f64());
        let off = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert_eq!(off > 1e-6, is_changed, "{weight}: {off}");
    }
}

#[test]
fn the_first_stage_learns_marks_early_layers_and_nothing_else() {
    let objective = Objective::hybrid_feature(0.3);
    let train =
        TrainConfig { objective, trainable: Trainable::first_stage(2, [510, 511]), batch_norms: BatchNorms::Own };
    assert_eq!(train.trainable.embedding_rows, EmbeddingRows::Only(vec![510, 511]));
    let micro = micro_step_graph(&config(), &train, &Bounds::default()).unwrap();
    let names: Vec<&str> = micro.weights.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"model.layers.1.mlp.up_proj.weight") && names.contains(&"model.mask_token"));
    assert!(
        !names.iter().any(|n| n.starts_with("model.layers.2.") || *n == "lm_head.weight" || *n == "model.norm.weight")
    );
    let (symbols, inputs) = complete(&micro.graph, &batch(&objective, (0, 2), 1.0));
    let grads = outputs(&micro.graph, &symbols, &inputs, Rounding::None);
    let table = grads["grad.model.embed_tokens.weight"].to_f64();
    for (id, row) in table.chunks(64).enumerate() {
        assert_eq!(row.iter().any(|&g| g != 0.0), id == 510 || id == 511, "row {id}");
    }
}

#[test]
fn four_parts_of_one_add_up_to_one_of_four() {
    let objective = Objective::cross_entropy();
    let micro = micro_step_graph(&config(), &train(objective, BatchNorms::Running), &Bounds::default()).unwrap();
    let (symbols, inputs) = complete(&micro.graph, &batch(&objective, (0, 4), 1.0));
    let whole = outputs(&micro.graph, &symbols, &inputs, Rounding::None);
    let total = batch(&objective, (0, 4), 1.0).n_labels as f64;
    let (mut sums, mut loss) = (Tensors::new(), 0.0);
    for i in 0..4 {
        let n_labels = batch(&objective, (i, 1), 1.0).n_labels as f64;
        let (symbols, mut inputs) = complete(&micro.graph, &batch(&objective, (i, 1), n_labels / total));
        inputs.extend(sums.clone());
        let got = outputs(&micro.graph, &symbols, &inputs, Rounding::None);
        loss += got[names::LOSS].to_f64()[0];
        sums.extend(got.into_iter().filter(|(name, _)| name.starts_with(GRAD)));
    }
    assert!((loss - whole[names::LOSS].to_f64()[0]).abs() < 1e-12 * loss.abs());
    assert_eq!(sums.len(), micro.weights.len());
    for (name, sum) in &sums {
        let (a, b) = (sum.to_f64(), whole[name].to_f64());
        let size = b.iter().map(|x| x * x).sum::<f64>().sqrt();
        let off = a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        assert!(off <= 1e-9 * size + 1e-15, "{name}: {off} of {size}");
    }
}

/// AdamW written on its own, as PyTorch documents it, with decay of matrices only.
fn adamw(optimizer: &Optimizer, grads: &[Vec<f64>], (start, decays): (f64, bool), rates: &[f64]) -> Vec<f64> {
    let n = grads[0].len();
    let (mut m, mut v, mut w) = (vec![0.0; n], vec![0.0; n], vec![start; n]);
    for (t, (grad, rate)) in grads.iter().zip(rates).enumerate() {
        for i in 0..n {
            if decays {
                w[i] -= rate * optimizer.weight_decay * w[i];
            }
            m[i] = optimizer.betas[0] * m[i] + (1.0 - optimizer.betas[0]) * grad[i];
            v[i] = optimizer.betas[1] * v[i] + (1.0 - optimizer.betas[1]) * grad[i] * grad[i];
            let m_hat = m[i] / (1.0 - optimizer.betas[0].powi(t as i32 + 1));
            let v_hat = v[i] / (1.0 - optimizer.betas[1].powi(t as i32 + 1));
            w[i] -= rate * m_hat / (v_hat.sqrt() + optimizer.eps);
        }
    }
    w
}

#[test]
fn steps_clip_decay_and_follow_the_schedule() {
    let schedule = Schedule::Cosine { warmup: 2, total: 6 };
    let optimizer = Optimizer { weight_decay: 0.1, max_norm: 0.5, ..Optimizer::paper(1e-2, schedule) };
    let weights = [
        ("matrix".to_owned(), TensorType::fixed(DType::F32, &[2, 2])),
        ("vector".to_owned(), TensorType::fixed(DType::F32, &[3])),
    ];
    let graph = apply_graph(&weights, &optimizer).unwrap();
    let mut states = Tensors::new();
    for (id, name, _) in graph.inputs() {
        let shape: Vec<usize> = graph.ty(id).shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let start = if name == "matrix" || name == "vector" { 1.5 } else { 0.0 };
        let values = vec![start; shape.iter().product()];
        states.insert(name.to_owned(), Tensor::from_f64(DType::F32, &shape, &values).unwrap());
    }
    let (mut next, mut grads, mut rates) = (numbers(11), vec![], vec![]);
    for step in 0..7 {
        // The third one is short and is not clipped.
        let scale = if step == 2 { 1e-2 } else { 1.0 };
        let grad: Vec<f64> = (0..7).map(|_| scale * next()).collect();
        states.insert("grad.matrix".into(), Tensor::from_f64(DType::F32, &[2, 2], &grad[..4]).unwrap());
        states.insert("grad.vector".into(), Tensor::from_f64(DType::F32, &[3], &grad[4..]).unwrap());
        let after = outputs(&graph, &[], &states, Rounding::None);
        let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((after[names::GRAD_NORM].to_f64()[0] - norm).abs() < 1e-12);
        let clip = (0.5 / (norm + 1e-6)).min(1.0);
        grads.push(grad.iter().map(|g| g * clip).collect::<Vec<f64>>());
        let s = f64::from(step);
        let share =
            if step < 2 { s / 2.0 } else { 0.5 * (1.0 + (std::f64::consts::PI * ((s - 2.0) / 4.0).min(1.0)).cos()) };
        rates.push(1e-2 * share);
        assert!((after[names::LEARNING_RATE].to_f64()[0] - 1e-2 * share).abs() < 1e-15);
        assert!(after["grad.matrix"].to_f64().iter().chain(&after["grad.vector"].to_f64()).all(|&g| g == 0.0));
        states.extend(after.into_iter().filter(|(name, _)| states.contains_key(name)).collect::<Tensors>());
        for (name, range, decays) in [("matrix", 0..4, true), ("vector", 4..7, false)] {
            let own: Vec<Vec<f64>> = grads.iter().map(|g| g[range.clone()].to_vec()).collect();
            let want = adamw(&optimizer, &own, (1.5, decays), &rates);
            let got = states[name].to_f64();
            assert!(
                got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12),
                "step {step}, {name}: {got:?}, {want:?}"
            );
        }
    }
}
