//! What must hold for any weights and clouds? Order, batch-mates and caches do not matter.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use enel_interp::Tensor;
use enel_ir::DType;
use enel_model::{
    Bounds, CacheMap, EnelConfig, Extent, Goal, LlamaConfig, PointConfig, Pooling, Prompt, SigmaMode, TapLevel,
    Vocabulary, embed_graph, forward_graph, names, pack, prefill_graph, step_graph, text_forward_graph,
};
use support::{
    Numbers, Tensors, cached_inputs, empty_caches, evaluate, indices, random_weights, relative_l2, row_inputs,
};

/// The interpreter computes in f64, so what is equal in theory differs by sums in another order only.
const SAME: f64 = 1e-11;

const VOCABULARY: Vocabulary = Vocabulary { size: 40, patch: 37, frame: Some((38, 39)), tokens_per_cloud: 5 };

fn point_config() -> PointConfig {
    PointConfig {
        n_points: Extent::range(16, 64),
        input_points: 32,
        embed_dim: 6,
        group_size: 6,
        projection_hidden_dim: vec![12],
        sigma: SigmaMode::PerCloud,
        ..EnelConfig::tiny().point
    }
}

/// Two query heads share a key head, and the table is also the output projection.
fn llama_config() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 40,
        tie_word_embeddings: true,
        ..LlamaConfig::vicuna_7b()
    }
}

fn model_config() -> EnelConfig {
    EnelConfig { point: point_config(), llama: llama_config() }
}

/// Points of one cloud, six numbers each.
fn cloud(seed: u64, n: usize) -> Vec<f32> {
    Numbers(seed).take(6 * n)
}

fn embed(config: &PointConfig, clouds: &[Vec<f32>], name: &str) -> Vec<f64> {
    let (graph, _) = embed_graph(config, None, &Bounds::default(), TapLevel::All).unwrap();
    let n = clouds[0].len() / 6;
    let points = Tensor::from_f32(&[clouds.len(), n, 6], &clouds.concat()).unwrap();
    let inputs = Tensors::from([(names::POINTS.to_owned(), points)]);
    let weights = random_weights(&graph, 11);
    evaluate(&graph, &[clouds.len() as i64, n as i64], (&weights, ""), &inputs)[name].to_f64()
}

#[test]
fn the_order_of_points_does_not_matter_but_for_the_first() {
    for pooling in [Pooling::Max, Pooling::MaxMean] {
        let config = PointConfig { pooling, ..point_config() };
        let points = cloud(3, 40);
        let mut order: Vec<usize> = (1..40).collect();
        let mut numbers = Numbers(5);
        for i in (1..order.len()).rev() {
            order.swap(i, (numbers.bits() % (i as u64 + 1)) as usize);
        }
        let mut shuffled = points[..6].to_vec();
        order.iter().for_each(|&p| shuffled.extend_from_slice(&points[6 * p..6 * p + 6]));
        assert_ne!(points, shuffled);
        let before = embed(&config, std::slice::from_ref(&points), names::POINT_FEATURES);
        let after = embed(&config, &[shuffled], names::POINT_FEATURES);
        assert!(relative_l2(&after, &before) < SAME);
        // Another first point starts the sampling elsewhere: the claim above is not empty.
        let mut rotated = points[6..].to_vec();
        rotated.extend_from_slice(&points[..6]);
        assert!(relative_l2(&embed(&config, &[rotated], names::POINT_FEATURES), &before) > 1e-3);
    }
}

#[test]
fn batch_mates_matter_with_one_spread_for_the_batch_only() {
    let first = cloud(1, 32);
    let near = cloud(2, 32);
    let far: Vec<f32> = near.iter().map(|x| 3.0 * x).collect();
    let tokens = |sigma: SigmaMode, mate: &[f32]| -> Vec<f64> {
        let config = PointConfig { sigma, ..point_config() };
        let all = embed(&config, &[first.clone(), mate.to_vec()], names::POINT_FEATURES);
        all[..all.len() / 2].to_vec()
    };
    let alone = embed(&point_config(), std::slice::from_ref(&first), names::POINT_FEATURES);
    assert_eq!(tokens(SigmaMode::PerCloud, &near), alone);
    assert_eq!(tokens(SigmaMode::PerCloud, &far), alone);
    let (a, b) = (tokens(SigmaMode::Batch, &near), tokens(SigmaMode::Batch, &far));
    assert!(relative_l2(&a, &b) > 1e-3, "the compatibility mode has the released code's defect");
}

#[test]
fn later_stages_sample_a_prefix_of_the_centres_before() {
    for seed in 0..4 {
        for stage in [1, 2] {
            let centres = embed(&point_config(), &[cloud(seed, 48)], &format!("act.stage{stage}.fps_idx"));
            let counted: Vec<f64> = (0..centres.len()).map(|i| i as f64).collect();
            assert_eq!(centres, counted, "seed {seed}, stage {stage}");
        }
    }
}

#[test]
fn a_cloud_of_repeated_points_gives_finite_tokens() {
    let one = cloud(9, 1);
    let all: Vec<f32> = one.iter().copied().cycle().take(6 * 16).collect();
    assert!(embed(&point_config(), &[all], names::POINT_FEATURES).iter().all(|x| x.is_finite()));
}

#[test]
fn position_code_interleaves_sines_and_cosines_axis_by_axis() {
    // With all matrices and gains of linear1 zero, pose_out is the code itself.
    let config = PointConfig { pose_alpha: 7.0, pose_beta: 3.0, ..point_config() };
    let (graph, _) = embed_graph(&config, None, &Bounds::default(), TapLevel::All).unwrap();
    let mut weights = random_weights(&graph, 1);
    for (name, tensor) in &mut weights {
        if name.contains("LGA_list.0.linear1") && !name.contains("running") {
            *tensor = Tensor::from_f32(&tensor.shape, &vec![0.0; tensor.elems()]).unwrap();
        }
    }
    let points = Tensor::from_f32(&[1, 32, 6], &cloud(4, 32)).unwrap();
    let inputs = Tensors::from([(names::POINTS.to_owned(), points)]);
    let out = evaluate(&graph, &[1, 32], (&weights, ""), &inputs);
    let sigma = out["act.stage0.std_xyz"].to_f64()[0] + 1e-5;
    let (code, center) = (out["act.stage0.pose_out"].to_f64(), out["act.stage0.center_xyz"].to_f64());
    let near = out["act.stage0.knn_xyz_sorted"].to_f64();
    let (k, d, f) = (6, 12, 2);
    for g in 0..16 {
        for i in 0..k {
            for a in 0..3 {
                let p = (near[(g * k + i) * 3 + a] - center[g * 3 + a]) / sigma;
                for j in 0..f {
                    let angle = 3.0 * p / 7f64.powf(j as f64 / f as f64);
                    let at = (g * k + i) * d + a * 2 * f + 2 * j;
                    // Wavelengths are stored as f32, which moves an angle of a few radians by about 1e-7.
                    assert!((code[at] - angle.sin()).abs() < 1e-6 && (code[at + 1] - angle.cos()).abs() < 1e-6);
                }
            }
        }
    }
}

/// Two samples with a cloud around one without; 12, 6 and 9 tokens.
fn prompts() -> [(Vec<i32>, usize); 3] {
    let seen = |before: &[i32], after: &[i32]| [before, &[38, 37, 37, 37, 37, 37, 39], after].concat();
    [(seen(&[1, 5, 6], &[7, 8]), 1), (vec![1, 9, 10, 11, 12, 13], 0), (seen(&[2], &[3]), 1)]
}

fn with_clouds(mut inputs: Tensors, seeds: &[u64], point_row: &[i32]) -> Tensors {
    let points: Vec<f32> = seeds.iter().flat_map(|&s| cloud(s, 32)).collect();
    inputs.insert(names::POINTS.to_owned(), Tensor::from_f32(&[seeds.len(), 32, 6], &points).unwrap());
    inputs.insert(names::POINT_ROW.to_owned(), indices(point_row));
    inputs
}

/// Logits `[T][V]` of a pass without a cache.
fn forward(config: &EnelConfig, samples: &[(Vec<i32>, usize)], seeds: &[u64]) -> Vec<Vec<f64>> {
    let (graph, _) = forward_graph(config, &Bounds::default(), Goal::Logits, TapLevel::Off).unwrap();
    let list: Vec<Prompt<'_>> = samples.iter().map(|(ids, clouds)| Prompt { ids, clouds: *clouds }).collect();
    let packed = pack(&list, &VOCABULARY).unwrap();
    let inputs = with_clouds(row_inputs(&packed.ids, &packed.rows), seeds, &packed.point_row);
    let symbols = [seeds.len() as i64, 32, packed.ids.len() as i64];
    let out = evaluate(&graph, &symbols, (&random_weights(&graph, 2), ""), &inputs);
    out[names::LOGITS].to_f64().chunks(VOCABULARY.size).map(<[f64]>::to_vec).collect()
}

#[test]
fn samples_of_a_batch_do_not_see_each_other() {
    let config = model_config();
    let all = prompts();
    let together = forward(&config, &all, &[21, 22]);
    let alone = forward(&config, &all[2..], &[22]);
    assert!(relative_l2(&together[18..].concat(), &alone.concat()) < SAME);
    let others = forward(&config, &all, &[21, 23]);
    assert_eq!(together[..18], others[..18]);
    assert_ne!(together[26], others[26], "the last token sees its cloud");
    assert_eq!(together[18..20], others[18..20], "tokens before the cloud do not");
}

#[test]
fn prefill_and_steps_equal_the_full_forward() {
    let config = model_config();
    let bounds = Bounds::default();
    let prefill = prefill_graph(&config, &bounds).unwrap();
    let step = step_graph(&config.llama, &bounds, Goal::Logits).unwrap();
    let tail = step_graph(&config.llama, &bounds, Goal::LastLogits).unwrap();
    let weights = random_weights(&prefill, 2);
    let mut samples = prompts();
    let list: Vec<Prompt<'_>> = samples.iter().map(|(ids, clouds)| Prompt { ids, clouds: *clouds }).collect();
    let packed = pack(&list, &VOCABULARY).unwrap();
    let mut map = CacheMap::new(&[16, 12, 15]).unwrap();
    let slots = map.slots() as i64;

    let cached = map.append(&packed.lengths()).unwrap();
    let mut inputs = with_clouds(cached_inputs(&packed.ids, &cached), &[21, 22], &packed.point_row);
    inputs.insert(names::LAST_ROW.to_owned(), indices(&packed.last_row));
    // What a cache held before must not matter: it starts with rubbish.
    for (name, empty) in empty_caches(&config.llama, slots as usize) {
        let rubbish = Numbers(77).take(empty.elems());
        inputs.insert(name, Tensor::from_f32(&empty.shape, &rubbish).unwrap());
    }
    let mut state = evaluate(&prefill, &[2, 32, packed.ids.len() as i64, slots, 3], (&weights, ""), &inputs);
    assert_last_rows(&config, &samples, &[0, 1, 2], &state);

    // Samples leave and come back: a step takes any of them, in any order.
    for (turn, running) in [vec![0, 1, 2], vec![2, 0], vec![1]].iter().enumerate() {
        let next: Vec<i32> = running.iter().map(|s| (3 + 5 * turn + s) as i32).collect();
        running.iter().zip(&next).for_each(|(&s, &id)| samples[s].0.push(id));
        let counts: Vec<(usize, usize)> = running.iter().map(|&s| (s, 1)).collect();
        state.remove(names::LOGITS);
        state.extend(cached_inputs(&next, &map.append(&counts).unwrap()));
        state = evaluate(&step, &[running.len() as i64, slots], (&weights, ""), &state);
        assert_last_rows(&config, &samples, running, &state);
    }

    // Several tokens at once after a cache: a second question.
    state.remove(names::LOGITS);
    samples[1].0.extend([4, 4, 30]);
    state.extend(cached_inputs(&[4, 4, 30], &map.append(&[(1, 3)]).unwrap()));
    state.insert(names::LAST_ROW.to_owned(), indices(&[2]));
    state = evaluate(&tail, &[3, slots, 1], (&weights, ""), &state);
    assert_last_rows(&config, &samples, &[1], &state);
}

fn assert_last_rows(config: &EnelConfig, samples: &[(Vec<i32>, usize)], running: &[usize], state: &Tensors) {
    let full = forward(config, samples, &[21, 22]);
    let ends: Vec<usize> =
        samples.iter().scan(0, |end, (ids, _)| Some(*end + ids.len()).inspect(|e| *end = *e)).collect();
    let expected: Vec<f64> = running.iter().flat_map(|&s| full[ends[s] - 1].clone()).collect();
    let error = relative_l2(&state[names::LOGITS].to_f64(), &expected);
    assert!(error < SAME, "samples {running:?}: {error:e}");
}

#[test]
fn last_logits_are_rows_of_all_logits_and_loss_counts_labels_only() {
    let config = llama_config();
    let ids = [1, 5, 9, 3, 2];
    let vocabulary = Vocabulary { frame: None, ..VOCABULARY };
    let packed = pack(&[Prompt { ids: &ids, clouds: 0 }], &vocabulary).unwrap();
    let run = |goal: Goal, name: &str, extra: &[i32]| -> Tensors {
        let (graph, _) = text_forward_graph(&config, &Bounds::default(), goal, TapLevel::Off).unwrap();
        let mut inputs = row_inputs(&packed.ids, &packed.rows);
        let mut symbols = vec![5];
        if !name.is_empty() {
            inputs.insert(name.to_owned(), indices(extra));
        }
        if goal == Goal::LastLogits {
            symbols.push(extra.len() as i64);
        }
        evaluate(&graph, &symbols, (&random_weights(&graph, 8), ""), &inputs)
    };
    let all = run(Goal::Logits, "", &[])[names::LOGITS].to_f64();
    let some = run(Goal::LastLogits, names::LAST_ROW, &[4, 1])[names::LOGITS].to_f64();
    assert_eq!(some, [&all[160..], &all[40..80]].concat());
    let loss = run(Goal::Loss, names::LABELS, &[-100, 7, -100, -100, 0])[names::LOSS].to_f64()[0];
    let minus_log_p = |row: usize, label: usize| {
        let row = &all[40 * row..][..40];
        row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label]
    };
    assert!((loss - (minus_log_p(1, 7) + minus_log_p(4, 0)) / 2.0).abs() < 1e-12);
}

#[test]
fn bf16_storage_computes_the_same_function() {
    // Without rounding the storage mode changes no value, so casts stand where they should and nowhere else.
    let config = model_config();
    let samples = prompts();
    let list: Vec<Prompt<'_>> = samples.iter().map(|(ids, clouds)| Prompt { ids, clouds: *clouds }).collect();
    let packed = pack(&list, &VOCABULARY).unwrap();
    let inputs = with_clouds(row_inputs(&packed.ids, &packed.rows), &[21, 22], &packed.point_row);
    let logits = |storage: DType| {
        let bounds = Bounds { storage, ..Bounds::default() };
        let (graph, _) = forward_graph(&config, &bounds, Goal::Logits, TapLevel::Off).unwrap();
        let mut weights = random_weights(&graph, 2);
        for (id, name, _) in graph.inputs() {
            if graph.ty(id).dtype == DType::BF16 {
                let tensor = weights.get_mut(name).unwrap();
                tensor.dtype = DType::BF16;
            }
        }
        let out = evaluate(&graph, &[2, 32, packed.ids.len() as i64], (&weights, ""), &inputs);
        assert_eq!(out[names::LOGITS].dtype, DType::F32);
        out[names::LOGITS].to_f64()
    };
    assert!(relative_l2(&logits(DType::BF16), &logits(DType::F32)) < SAME);
}
