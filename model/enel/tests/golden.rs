//! Do the graphs compute what the released code computes? Golden cases a, c, e and f on the interpreter.
//!
//! Tolerances are those the golden values were published with: 5e-6 relative L2 for point tensors, 1e-5 for hidden
//! states and logits; indices are exact.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use enel_interp::Tensor;
use enel_model::{
    Bounds, CacheMap, EnelConfig, Extent, Goal, Layout, LlamaConfig, PointConfig, Prompt, TapLevel, Taps, Vocabulary,
    embed_graph, forward_graph, names, pack, prefill_graph, shift_labels, step_graph, text_forward_graph,
};
use support::{
    Tensors, cached_inputs, case, close, config, empty_caches, evaluate, indices, ints, permuted, row_inputs,
};

const POINT_TOLERANCE: f64 = 5e-6;
const HIDDEN_TOLERANCE: f64 = 1e-5;

const TINY: Vocabulary = Vocabulary { size: 512, patch: 509, frame: Some((510, 511)), tokens_per_cloud: 17 };

/// Compares every tap that has a golden tensor; `used` are the real tokens of each padded sample.
struct Checker<'a> {
    ours: &'a Tensors,
    theirs: &'a Tensors,
    used: Vec<usize>,
}

impl Checker<'_> {
    fn check(&self, taps: &Taps) -> usize {
        let mut checked = 0;
        for tap in taps.list() {
            let Some(theirs) = self.theirs.get(&tap.name) else { continue };
            let ours = &self.ours[&tap.name];
            let (ours, theirs) = self.aligned(ours, theirs, tap.layout);
            let exact = matches!(tap.layout, Layout::Neighbours { .. }) || tap.name.ends_with("fps_idx");
            if exact {
                assert_eq!(ours, theirs, "{}", tap.name);
            } else {
                let decoder = tap.name.starts_with("act.hidden") || tap.name.starts_with("act.layer");
                close(&tap.name, &ours, &theirs, if decoder { HIDDEN_TOLERANCE } else { POINT_TOLERANCE });
            }
            checked += 1;
        }
        checked
    }

    fn aligned(&self, ours: &Tensor, theirs: &Tensor, layout: Layout) -> (Vec<f64>, Vec<f64>) {
        match layout {
            Layout::Same | Layout::Spread => (ours.to_f64(), theirs.to_f64()),
            Layout::ChannelsLast => (ours.to_f64(), permuted(theirs, &[0, 2, 1])),
            Layout::Neighbours { .. } => {
                let k = ours.shape[2];
                let mut sorted = ours.to_f64();
                sorted.chunks_mut(k).for_each(|row| row.sort_by(f64::total_cmp));
                (sorted, theirs.to_f64())
            }
            Layout::NeighbourRows { stage } => (self.by_index(ours, stage), theirs.to_f64()),
            Layout::NeighbourChannels { stage } => (self.by_index(ours, stage), permuted(theirs, &[0, 2, 3, 1])),
            Layout::Tokens => (ours.to_f64(), self.unpadded(theirs)),
            Layout::TokenHeads => {
                let moved = Tensor::from_f64(theirs.dtype, &swapped(&theirs.shape), &permuted(theirs, &[0, 2, 1, 3]));
                (ours.to_f64(), self.unpadded(&moved.unwrap()))
            }
            Layout::Positions => (ours.to_f64()[..theirs.elems()].to_vec(), theirs.to_f64()),
            Layout::TokenPairs => self.pairs(ours, theirs),
            Layout::Sets => unreachable!("no inference graph taps sets"),
        }
    }

    /// Neighbours of every centre put into the order of their indices.
    fn by_index(&self, ours: &Tensor, stage: usize) -> Vec<f64> {
        let index = self.ours[&format!("act.stage{stage}.knn_idx_sorted")].to_f64();
        let (k, c) = (ours.shape[2], ours.shape[3]);
        let values = ours.to_f64();
        let mut out = Vec::with_capacity(values.len());
        for (row, group) in index.chunks(k).zip(values.chunks(k * c)) {
            let mut order: Vec<usize> = (0..k).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
            for i in order {
                out.extend_from_slice(&group[i * c..(i + 1) * c]);
            }
        }
        out
    }

    /// `[samples, t, ..]` without the rows of padding.
    fn unpadded(&self, t: &Tensor) -> Vec<f64> {
        let row: usize = t.shape[2..].iter().product();
        let values = t.to_f64();
        let sample = |(s, &used): (usize, &usize)| values[s * t.shape[1] * row..][..used * row].to_vec();
        self.used.iter().enumerate().flat_map(sample).collect()
    }

    /// Each sample's own square of `[T, H, T]` beside `[samples, H, t, t]`, without rows and columns of padding.
    fn pairs(&self, ours: &Tensor, theirs: &Tensor) -> (Vec<f64>, Vec<f64>) {
        let (a, b) = (ours.to_f64(), theirs.to_f64());
        let [total, heads, _] = ours.shape[..] else { panic!("rank {}", ours.shape.len()) };
        let t = theirs.shape[2];
        let (mut x, mut y, mut first) = (Vec::new(), Vec::new(), 0);
        for (sample, &used) in self.used.iter().enumerate() {
            for h in 0..heads {
                for i in 0..used {
                    for j in 0..used {
                        x.push(a[((first + i) * heads + h) * total + first + j]);
                        y.push(b[((sample * heads + h) * t + i) * t + j]);
                    }
                }
            }
            first += used;
        }
        (x, y)
    }
}

fn swapped(shape: &[usize]) -> Vec<usize> {
    vec![shape[0], shape[2], shape[1], shape[3]]
}

fn number(config: &serde_json::Value, key: &str) -> usize {
    config["config"][key].as_u64().unwrap() as usize
}

#[test]
fn case_a_token_embedding_in_eval_mode() {
    for name in ["a_token_eval_b1", "a_token_eval_b2"] {
        let (Some(golden), Some(config)) = (case(name), config(name)) else { return };
        let point = PointConfig {
            n_points: Extent::fixed(number(&config, "n")),
            input_points: number(&config, "input_points"),
            embed_dim: number(&config, "embed_dim"),
            group_size: number(&config, "group_size"),
            ..EnelConfig::tiny().point
        };
        let (graph, taps) = embed_graph(&point, None, &Bounds::default(), TapLevel::All).unwrap();
        let points = golden["in.points"].clone();
        let batch = points.shape[0] as i64;
        let inputs = Tensors::from([(names::POINTS.to_owned(), points)]);
        let ours = evaluate(&graph, &[batch], (&golden, "w."), &inputs);
        let checker = Checker { ours: &ours, theirs: &golden, used: vec![] };
        let checked = checker.check(&taps);
        let expected = golden.keys().filter(|k| k.starts_with("act.")).count();
        assert_eq!(checked, expected, "{name}: every golden activation has a tap");
    }
}

#[test]
fn case_c_whole_model_in_eval_mode() {
    let Some(weights) = case("full_weights") else { return };
    let config = EnelConfig::tiny();
    let (graph, taps) = forward_graph(&config, &Bounds::default(), Goal::Loss, TapLevel::All).unwrap();
    for name in ["c_full_eval_1", "c_full_eval_2"] {
        let golden = case(name).unwrap();
        let samples = Samples::read(&golden);
        let prompts: Vec<Prompt<'_>> = samples.ids.iter().map(|ids| Prompt { ids, clouds: 1 }).collect();
        let packed = pack(&prompts, &TINY).unwrap();
        let labels: Vec<&[i32]> = samples.labels.iter().map(Vec::as_slice).collect();
        let mut inputs = row_inputs(&packed.ids, &packed.rows);
        inputs.insert(names::POINTS.to_owned(), golden["in.point_clouds"].clone());
        inputs.insert(names::POINT_ROW.to_owned(), indices(&packed.point_row));
        inputs.insert(names::LABELS.to_owned(), indices(&shift_labels(&labels)));
        let symbols = [prompts.len() as i64, packed.ids.len() as i64];
        let ours = evaluate(&graph, &symbols, (&weights, ""), &inputs);
        let used: Vec<usize> = samples.ids.iter().map(Vec::len).collect();
        let checker = Checker { ours: &ours, theirs: &golden, used };
        let checked = checker.check(&taps);
        assert_eq!(checked, golden.keys().filter(|k| k.starts_with("act.")).count(), "{name}");
        close("logits", &ours["logits"].to_f64(), &checker.unpadded(&golden["logits"]), HIDDEN_TOLERANCE);
        close("loss", &ours["loss"].to_f64(), &golden["loss"].to_f64(), HIDDEN_TOLERANCE);
    }
}

#[test]
fn case_e_greedy_decoding_through_the_cache() {
    let Some(weights) = case("full_weights") else { return };
    let config = EnelConfig::tiny();
    let bounds = Bounds::default();
    let prefill = prefill_graph(&config, &bounds).unwrap();
    let step = step_graph(&config.llama, &bounds, Goal::Logits).unwrap();
    for name in ["e_greedy_1", "e_greedy_2"] {
        let golden = case(name).unwrap();
        let ids: Vec<Vec<i32>> = rows(&golden["in.input_ids"]);
        let prompts: Vec<Prompt<'_>> = ids.iter().map(|ids| Prompt { ids, clouds: 1 }).collect();
        let packed = pack(&prompts, &TINY).unwrap();
        let samples = prompts.len();
        let mut map = CacheMap::new(&vec![ids[0].len() + 16; samples]).unwrap();
        let cached = map.append(&packed.lengths()).unwrap();
        let slots = map.slots() as i64;
        let mut inputs = cached_inputs(&packed.ids, &cached);
        inputs.insert(names::POINTS.to_owned(), golden["in.point_clouds"].clone());
        inputs.insert(names::POINT_ROW.to_owned(), indices(&packed.point_row));
        inputs.insert(names::LAST_ROW.to_owned(), indices(&packed.last_row));
        inputs.extend(empty_caches(&config.llama, slots as usize));
        let symbols = [samples as i64, packed.ids.len() as i64, slots, samples as i64];
        let mut state = evaluate(&prefill, &symbols, (&weights, ""), &inputs);
        let theirs = golden["step_logits"].to_f64();
        let chosen = rows(&golden["new_ids"]);
        let vocab = config.llama.vocab_size;
        for turn in 0..16 {
            let scores = state.remove(names::LOGITS).unwrap().to_f64();
            let mut next = Vec::new();
            for sample in 0..samples {
                let ours = &scores[sample * vocab..][..vocab];
                let golden = &theirs[(sample * 16 + turn) * vocab..][..vocab];
                close(&format!("{name}, sample {sample}, step {turn}"), ours, golden, HIDDEN_TOLERANCE);
                let best = (0..vocab).max_by(|&a, &b| ours[a].total_cmp(&ours[b])).unwrap() as i32;
                assert_eq!(best, chosen[sample][turn], "{name}, sample {sample}, step {turn}");
                next.push(best);
            }
            if turn == 15 {
                break;
            }
            let every: Vec<(usize, usize)> = (0..samples).map(|s| (s, 1)).collect();
            let mut inputs = cached_inputs(&next, &map.append(&every).unwrap());
            inputs.extend(state);
            state = evaluate(&step, &[samples as i64, slots], (&weights, ""), &inputs);
        }
    }
}

#[test]
fn case_f_plain_llama() {
    for name in ["f_llama_hd16", "f_llama_hd32"] {
        let (Some(golden), Some(json)) = (case(name), config(name)) else { return };
        let heads = number(&json, "num_heads");
        let config = LlamaConfig {
            hidden_size: number(&json, "hidden_size"),
            intermediate_size: number(&json, "intermediate_size"),
            num_hidden_layers: number(&json, "num_layers"),
            num_attention_heads: heads,
            num_key_value_heads: heads,
            rms_norm_eps: json["config"]["rms_norm_eps"].as_f64().unwrap(),
            rope_theta: json["rope_theta"].as_f64().unwrap(),
            vocab_size: number(&json, "vocab_size"),
            tie_word_embeddings: false,
        };
        let samples = Samples::read(&golden);
        let prompts: Vec<Prompt<'_>> = samples.ids.iter().map(|ids| Prompt { ids, clouds: 0 }).collect();
        let vocabulary = Vocabulary { size: config.vocab_size, patch: -1, frame: None, tokens_per_cloud: 0 };
        let packed = pack(&prompts, &vocabulary).unwrap();
        let labels: Vec<&[i32]> = samples.labels.iter().map(Vec::as_slice).collect();
        let mut inputs = row_inputs(&packed.ids, &packed.rows);
        inputs.insert(names::LABELS.to_owned(), indices(&shift_labels(&labels)));
        let (graph, taps) = text_forward_graph(&config, &Bounds::default(), Goal::Loss, TapLevel::All).unwrap();
        let ours = evaluate(&graph, &[packed.ids.len() as i64], (&golden, "w."), &inputs);
        let used: Vec<usize> = samples.ids.iter().map(Vec::len).collect();
        assert_eq!(used[0], golden["in.input_ids"].shape[1], "the first sample is unpadded, so it holds all positions");
        let checker = Checker { ours: &ours, theirs: &golden, used };
        assert_eq!(checker.check(&taps), golden.keys().filter(|k| k.starts_with("act.")).count(), "{name}");
        close("logits", &ours["logits"].to_f64(), &checker.unpadded(&golden["logits"]), HIDDEN_TOLERANCE);
        close("loss", &ours["loss"].to_f64(), &golden["loss"].to_f64(), HIDDEN_TOLERANCE);
    }
}

/// Padded samples of a case, without the padding.
struct Samples {
    ids: Vec<Vec<i32>>,
    labels: Vec<Vec<i32>>,
}

impl Samples {
    fn read(golden: &Tensors) -> Samples {
        let used: Vec<usize> =
            rows(&golden["in.attention_mask"]).iter().map(|r| r.iter().filter(|&&m| m == 1).count()).collect();
        let cut = |name: &str| -> Vec<Vec<i32>> {
            let all = rows(&golden[name]);
            all.iter().zip(&used).map(|(row, &n)| row[..n].to_vec()).collect()
        };
        Samples { ids: cut("in.input_ids"), labels: cut("in.labels") }
    }
}

fn rows(t: &Tensor) -> Vec<Vec<i32>> {
    ints(t).chunks(t.shape[1]).map(<[i32]>::to_vec).collect()
}
