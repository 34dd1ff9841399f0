//! What is a training step that can be timed? The first stage's two graphs, with made-up clouds, prompts and answers.
//!
//! Law: the hybrid loss, 30 % of the tokens masked, and the weights of the first stage: embedder, projector, heads and
//! the first half of the decoder's layers (the paper: 4 of 32). **Source** arXiv 2502.09620 v4, appendix A.2.

use super::BenchArgs;
use super::work::{Call, Noise, cloud};
use crate::enel::engine::indices;
use crate::source;
use anyhow::{Result, bail};
use enel_ir::{DType, Graph, InputKind};
use enel_model::train::{
    GRAD, OPTIMIZER, Objective, Optimizer, Schedule, TrainConfig, Trainable, apply_graph, micro_step_graph,
};
use enel_model::{BatchNorms, EnelConfig, Extent, PRESETS, Prompt, Vocabulary, names, pack, shift_labels};
use enel_runtime::{HostTensor, HostTensors, Session, WeightSource};

/// Name of the graph that gives derivatives.
pub(super) const MICRO_STEP: &str = "micro_step";
/// Part of the tokens that is masked. **Source** arXiv 2502.09620 v4, section 3.2, the best ratio.
const MASKED: f64 = 0.3;
/// Rate of a step. **Source** as above, appendix A.2.
const RATE: f64 = 4e-4;

/// Graphs of a step, and the runs it is made of.
pub(super) struct Step {
    pub(super) graphs: Vec<Graph>,
    pub(super) calls: Vec<Call>,
}

/// True for a state that is a weight, and not what training keeps beside it.
pub(super) fn is_weight(name: &str) -> bool {
    !name.starts_with(GRAD) && !name.starts_with(OPTIMIZER)
}

/// Writes the step `args` asks for.
pub(super) fn prepare(args: &BenchArgs) -> Result<Step> {
    let Some(mut config) = EnelConfig::preset(&args.config) else {
        bail!("`{}` is no preset that can be trained; there are {}", args.config, PRESETS.join(", "));
    };
    config.point.sigma = enel_model::SigmaMode::PerCloud;
    let vocabulary = vocabulary(&config);
    let objective = Objective::hybrid_feature(MASKED);
    let layers = config.llama.num_hidden_layers.div_ceil(2).min(4);
    let marks = [vocabulary.size - 2, vocabulary.size - 1].map(|id| id as i32);
    let train =
        TrainConfig { objective, trainable: Trainable::first_stage(layers, marks), batch_norms: BatchNorms::Own };
    let (n, tokens) = (args.clouds as usize, args.tokens as usize);
    let mut bounds = source::bounds(args.mode.into());
    bounds.clouds = Extent::range(1, n.max(2));
    bounds.tokens = Extent::range(1, n * tokens);
    let micro = micro_step_graph(&config, &train, &bounds)?;
    let apply = apply_graph(&micro.weights, &Optimizer::paper(RATE, Schedule::Constant))?;
    let inputs = inputs(&config, (&objective, &vocabulary), (n, tokens))?;
    let symbols = vec![("B", n as i64), ("T", (n * tokens) as i64)];
    let calls = vec![
        Call { plan: MICRO_STEP, symbols, inputs },
        Call { plan: "apply", symbols: Vec::new(), inputs: HostTensors::new() },
    ];
    Ok(Step { graphs: vec![micro.graph, apply], calls })
}

/// Gives the weights that learn a beginning; what is kept beside them begins at zero.
pub(super) fn start(session: &mut Session, graphs: &[Graph], noise: &Noise) -> Result<()> {
    session.set_state_symbols(&[])?;
    session.zero_states()?;
    for (id, name, kind) in graphs[0].inputs() {
        if kind == InputKind::State
            && is_weight(name)
            && graphs[0].ty(id).dtype.is_float()
            && let Some(view) = noise.tensor(name)
        {
            let value = HostTensor::new(view.dtype, view.shape, view.bytes.to_vec())?;
            session.state(name)?.write(&value)?;
        }
    }
    Ok(())
}

/// The last ids of the vocabulary stand for a point token and the marks around them.
fn vocabulary(config: &EnelConfig) -> Vocabulary {
    let size = config.llama.vocab_size;
    let [patch, start, end] = [3, 2, 1].map(|i| (size - i) as i32);
    Vocabulary { size, patch, frame: Some((start, end)), tokens_per_cloud: config.point.tokens_per_cloud() }
}

fn inputs(
    config: &EnelConfig,
    (objective, vocabulary): (&Objective, &Vocabulary),
    (n, tokens): (usize, usize),
) -> Result<HostTensors> {
    let of_cloud = vocabulary.tokens_per_cloud + 2;
    let Some(n_text) = tokens.checked_sub(of_cloud + 2).filter(|&text| text > 0) else {
        bail!(
            "a prompt of {tokens} tokens has no room for a cloud of {of_cloud}; ask for --tokens {} or more",
            of_cloud + 8
        );
    };
    let (start, end) = vocabulary.frame.unwrap_or_default();
    let text = |cloud: usize| (0..n_text as i32 + 1).map(move |t| 3 + (t * 37 + cloud as i32 * 11) % 251);
    let prompts: Vec<Vec<i32>> = (0..n)
        .map(|cloud| {
            let patches = vec![vocabulary.patch; vocabulary.tokens_per_cloud];
            [vec![1, start], patches, vec![end], text(cloud).collect()].concat()
        })
        .collect();
    let list: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt { ids, clouds: 1 }).collect();
    let packed = pack(&list, vocabulary)?;
    // The last half of the text is the answer.
    let answer = |ids: &Vec<i32>| -> Vec<i32> {
        let from = tokens - n_text / 2;
        ids.iter().enumerate().map(|(t, &id)| if t < from { names::IGNORE } else { id }).collect()
    };
    let labels: Vec<Vec<i32>> = prompts.iter().map(answer).collect();
    let labels = shift_labels(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let vectors = [
        (names::IDS, &packed.ids),
        (names::POSITION, &packed.rows.position),
        (names::LOW, &packed.rows.low),
        (names::HIGH, &packed.rows.high),
        (names::POINT_ROW, &packed.point_row),
        (names::LABELS, &labels),
    ];
    let mut inputs: HostTensors = vectors.into_iter().map(|(name, v)| (name.to_owned(), indices(v))).collect();
    inputs.insert(names::POINTS.to_owned(), cloud(&config.point, n)?);
    let n_points = vocabulary.tokens_per_cloud - usize::from(config.point.class_token);
    let n_masked = objective.masked.map_or(0, |masked| masked.count(n_points));
    // Every step-th token is masked, from another first one in each cloud; step and count have no common divisor.
    let is_masked = |cloud: usize, token: usize| (token * 37 + cloud) % n_points < n_masked;
    for (name, count, masked) in [(names::MASKED, n_masked, true), (names::SEEN, n_points - n_masked, false)] {
        let values: Vec<i32> = (0..n)
            .flat_map(|cloud| (0..n_points).filter(move |&t| is_masked(cloud, t) == masked).map(|t| t as i32))
            .collect();
        let bytes = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        inputs.insert(name.to_owned(), HostTensor::new(DType::I32, &[n, count], bytes)?);
    }
    for name in [names::TOKEN_SHARE, names::CLOUD_SHARE] {
        inputs.insert(name.to_owned(), HostTensor::new(DType::F32, &[], 1f32.to_ne_bytes().to_vec())?);
    }
    Ok(inputs)
}
