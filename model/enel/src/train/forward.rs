//! What does a training pass compute? Clouds, tokens and labels to the terms of the loss, and their weighted sum.
//!
//! Law: point tokens stand in slots: the class token, the seen ones in cloud order, then copies of the learned token
//! without a place of their own, one for each masked token. The state of a slot speaks of that slot (not of the next).
//! **Source** arXiv 2502.09620 v4, section 3.2, in the released code's order.

use super::losses::{chamfer, contrast, head, scaled, squared_error};
use super::objective::{Objective, PositionCode, Prediction, Tap, Target, TargetGradient};
use super::trainable::{EmbeddingRows, Trainable};
use crate::config::{Bounds, EnelConfig};
use crate::embed::{TokenEmbedding, project, token_embedding};
use crate::enel::{BACKBONE, PROJECTOR, own_keys, splice};
use crate::llama::{Decoded, decoder_with, embed_tokens, token_loss};
use crate::names;
use crate::scope::{BatchNorms, ModelError, Scope, dim};
use crate::tap::{Layout, TapLevel, Taps};
use enel_ir::{BinaryOp, Composite, DType, Dim, Graph, InputKind, NodeId, Scalar, Symbols, TensorType};

type Made = Result<NodeId, ModelError>;

/// Channels inside the code of a centre's place. **Source** the released compiled modules (`pos_init_dim`).
const POSITION_WIDTH: usize = 128;

/// What training minimises, over which weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The loss.
    pub objective: Objective,
    /// The weights.
    pub trainable: Trainable,
    /// Statistics batch normalisation uses.
    pub batch_norms: BatchNorms,
}

/// Extents of a call.
struct Extents {
    clouds: Dim,
    points: Dim,
    tokens: Dim,
}

/// Point tokens in their slots, and what is to be said of them.
struct Slots {
    /// `[B, P, C]`.
    tokens: NodeId,
    /// `[B, P, C]`: the code of their places, where there is one.
    code: Option<NodeId>,
    seen: Part,
    masked: Option<Part>,
}

/// Slots of one kind.
struct Part {
    first: usize,
    count: usize,
    /// `[B, count, C]`: their projected tokens.
    features: NodeId,
    /// `f32[B, count, K, 3]`: their patches.
    patches: NodeId,
    /// `i32[B, count]`: which tokens they are; all, in order, without one.
    index: Option<NodeId>,
}

/// A training pass: outputs [`names::LOSS`] and each term.
///
/// With contrast, `B` counts pairs of clouds: the first views, then the second ones.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn training_graph(
    config: &EnelConfig,
    train: &TrainConfig,
    bounds: &Bounds,
    taps: TapLevel,
) -> Result<(Graph, Taps), ModelError> {
    config.check()?;
    train.objective.check(config)?;
    let mut symbols = Symbols::default();
    let clouds = bounds.clouds.declare("B", &mut symbols)?;
    let clouds = if train.objective.contrast.is_some() { clouds.mul(&dim(2)) } else { clouds };
    let points = config.point.n_points.declare("N", &mut symbols)?;
    let tokens = bounds.tokens.declare("T", &mut symbols)?;
    let extents = Extents { clouds, points, tokens };
    let mut scope = Scope::new(Graph::new("train", symbols), bounds, Taps::new(taps));
    scope.set_batch_norms(train.batch_norms);
    scope.set_adapters(train.trainable.adapters.clone());
    let scope_ref = &mut scope;
    let shape = vec![extents.clouds.clone(), extents.points.clone(), dim(config.point.point_dims)];
    let points = scope_ref.graph.input(names::POINTS, InputKind::Data, TensorType::new(DType::F32, shape))?;
    let embedding = token_embedding(scope_ref, &config.point, points, BACKBONE)?;
    let projected = project(scope_ref, &config.point, embedding.features, (config.llama.hidden_size, PROJECTOR))?;
    let slots = slots(scope_ref, (config, &train.objective), (&embedding, projected), &extents)?;
    let pass = decoded(scope_ref, (config, train), &slots, &extents)?;
    terms(scope_ref, (config, &train.objective), &pass, (&slots, &extents))?;
    scope.finish()
}

/// Tokens after the decoder, and the rows point slots have among them.
struct Pass {
    decoded: Decoded,
    point_row: NodeId,
}

fn slots(
    scope: &mut Scope,
    (config, objective): (&EnelConfig, &Objective),
    (embedding, projected): (&TokenEmbedding, NodeId),
    extents: &Extents,
) -> Result<Slots, ModelError> {
    let c = config.llama.hidden_size;
    let before = usize::from(config.point.class_token);
    let n = config.point.tokens_per_cloud() - before;
    let class = match before {
        0 => None,
        _ => Some(scope.graph.narrow(projected, 1, dim(0), dim(before))?),
    };
    let features = scope.graph.narrow(projected, 1, dim(before), dim(n))?;
    let all = Part { first: before, count: n, features, patches: embedding.neighbour_xyz, index: None };
    let code = match objective.position_code {
        PositionCode::None => None,
        PositionCode::Input | PositionCode::EveryLayer => {
            Some(head(scope, embedding.center_xyz, "model.pos_embed", &[3, POSITION_WIDTH, c])?)
        }
    };
    let (seen, masked) = match &objective.masked {
        None => (all, None),
        Some(masked) => {
            let k = masked.count(n);
            let seen = part(scope, &all, (names::SEEN, before, n - k), extents)?;
            (seen, Some(part(scope, &all, (names::MASKED, before + n - k, k), extents)?))
        }
    };
    let mut list: Vec<NodeId> = class.into_iter().chain([seen.features]).collect();
    if let Some(masked) = &masked {
        let token = scope.weight("model.mask_token", &[1, 1, c])?;
        list.push(scope.graph.broadcast(token, vec![extents.clouds.clone(), dim(masked.count), dim(c)])?);
    }
    let tokens = scope.graph.concat(&list, 1)?;
    let code = match code {
        None => None,
        Some(code) => Some(coded(scope, code, (&seen, masked.as_ref()), before)?),
    };
    Ok(Slots { tokens, code, seen, masked })
}

/// The tokens an index of the call names.
fn part(
    scope: &mut Scope,
    all: &Part,
    (name, first, count): (&str, usize, usize),
    extents: &Extents,
) -> Result<Part, ModelError> {
    let ty = TensorType::new(DType::I32, vec![extents.clouds.clone(), dim(count)]);
    let index = scope.graph.input(name, InputKind::Data, ty)?;
    let features = scope.graph.gather(all.features, index, 1, 1)?;
    let patches = scope.graph.gather(all.patches, index, 1, 1)?;
    Ok(Part { first, count, features, patches, index: Some(index) })
}

/// The code `[B, M, C]` in the order of the slots; the class token has no place.
fn coded(scope: &mut Scope, code: NodeId, (seen, masked): (&Part, Option<&Part>), before: usize) -> Made {
    let TensorType { dtype, mut shape } = scope.graph.ty(code).clone();
    let mut list = Vec::new();
    if before > 0 {
        shape[1] = dim(before);
        list.push(scope.graph.splat(Scalar::F(0.0), TensorType::new(dtype, shape))?);
    }
    for part in [Some(seen), masked].into_iter().flatten() {
        list.push(match part.index {
            None => code,
            Some(index) => scope.graph.gather(code, index, 1, 1)?,
        });
    }
    Ok(scope.graph.concat(&list, 1)?)
}

fn decoded(
    scope: &mut Scope,
    (config, train): (&EnelConfig, &TrainConfig),
    slots: &Slots,
    extents: &Extents,
) -> Result<Pass, ModelError> {
    let ids = scope.indices(names::IDS, &extents.tokens)?;
    let n_rows = extents.clouds.mul(&dim(config.point.tokens_per_cloud()));
    let point_row = scope.indices(names::POINT_ROW, &n_rows)?;
    let embedded = embed_tokens(scope, &config.llama, ids)?;
    let embedded = match &train.trainable.embedding_rows {
        EmbeddingRows::All => embedded,
        EmbeddingRows::Only(learning) => learning_rows(scope, embedded, ids, learning)?,
    };
    let (mut tokens, mut every) = (slots.tokens, None);
    match (train.objective.position_code, slots.code) {
        (PositionCode::Input, Some(code)) => tokens = scope.graph.add(tokens, code)?,
        (PositionCode::EveryLayer, Some(code)) => {
            let ty = TensorType::new(scope.storage(), vec![extents.tokens.clone(), dim(config.llama.hidden_size)]);
            let zeros = scope.graph.splat(Scalar::F(0.0), ty)?;
            every = Some(splice(scope, zeros, code, point_row)?);
        }
        (PositionCode::None | PositionCode::Input | PositionCode::EveryLayer, _) => {}
    }
    let tokens = scope.stored(tokens)?;
    let hidden = splice(scope, embedded, tokens, point_row)?;
    scope.taps.note(TapLevel::All, "act.inputs_embeds", hidden, Layout::Tokens);
    let keys = own_keys(scope, &extents.tokens)?;
    let decoded = decoder_with(scope, &config.llama, (hidden, every), &keys)?;
    scope.taps.note(TapLevel::All, "act.hidden_last", decoded.hidden, Layout::Tokens);
    Ok(Pass { decoded, point_row })
}

/// Rows of `embedded` through which only tokens of `learning` pass a derivative.
fn learning_rows(scope: &mut Scope, embedded: NodeId, ids: NodeId, learning: &[i32]) -> Made {
    let g = &mut scope.graph;
    let fixed = g.composite(Composite::StopGradient, &[embedded])?;
    let mut learns = None;
    for &id in learning {
        let id = g.scalar_i32(id)?;
        let is_it = g.binary(BinaryOp::Eq, ids, id)?;
        learns = Some(match learns {
            None => is_it,
            Some(others) => g.binary(BinaryOp::Or, others, is_it)?,
        });
    }
    let Some(learns) = learns else { return Ok(fixed) };
    let column = vec![g.ty(ids).shape[0].clone(), dim(1)];
    let learns = g.reshape(learns, column)?;
    Ok(g.select(learns, embedded, fixed)?)
}

/// Every term as an output, and their weighted sum.
fn terms(
    scope: &mut Scope,
    (config, objective): (&EnelConfig, &Objective),
    pass: &Pass,
    (slots, extents): (&Slots, &Extents),
) -> Result<(), ModelError> {
    let share = |scope: &mut Scope, name: &str| -> Made {
        Ok(scope.graph.input(name, InputKind::Data, TensorType::new(DType::F32, vec![]))?)
    };
    let labels = scope.indices(names::LABELS, &extents.tokens)?;
    let ce = token_loss(scope, &config.llama, pass.decoded.hidden, labels)?;
    let tokens = share(scope, names::TOKEN_SHARE)?;
    let weighted = scaled(&mut scope.graph, ce, objective.cross_entropy)?;
    let mut total = scope.graph.mul(weighted, tokens)?;
    let mut shown = vec![(names::LOSS_CE, ce)];
    let others = cloud_terms(scope, (config, objective), pass, (slots, extents))?;
    if !others.is_empty() {
        let clouds = share(scope, names::CLOUD_SHARE)?;
        for &(name, term, weight) in &others {
            let weighted = scaled(&mut scope.graph, term, weight)?;
            let weighted = scope.graph.mul(weighted, clouds)?;
            total = scope.graph.add(total, weighted)?;
            shown.push((name, term));
        }
    }
    scope.graph.output(names::LOSS, total);
    for (name, term) in shown {
        scope.graph.output(name, term);
    }
    Ok(())
}

/// Terms over point tokens: name, value, weight.
fn cloud_terms(
    scope: &mut Scope,
    (config, objective): (&EnelConfig, &Objective),
    pass: &Pass,
    (slots, extents): (&Slots, &Extents),
) -> Result<Vec<(&'static str, NodeId, f64)>, ModelError> {
    let mut list = Vec::new();
    if let (Some(masked), Some(part)) = (&objective.masked, &slots.masked) {
        let states = states(scope, config, pass, (masked.prediction.tap, part))?;
        let said = Said { name: "mae", states, part };
        let term = prediction(scope, config, &masked.prediction, &said)?;
        list.push((names::LOSS_MASKED, term, masked.prediction.weight));
    }
    if let Some(seen) = &objective.reconstruction {
        let states = states(scope, config, pass, (seen.tap, &slots.seen))?;
        let said = Said { name: "recon", states, part: &slots.seen };
        let term = prediction(scope, config, seen, &said)?;
        list.push((names::LOSS_RECONSTRUCTION, term, seen.weight));
    }
    if let Some(views) = &objective.contrast {
        let states = states(scope, config, pass, (views.tap, &slots.seen))?;
        let clouds = scope.graph.ty(states).shape[0].clone();
        let pairs = clouds.div_exact(&dim(2)).unwrap_or(clouds);
        let term = contrast(&mut scope.graph, states, (&pairs, views.temperature))?;
        list.push((names::LOSS_CONTRAST, term, views.weight));
    }
    if let Some(teacher) = &objective.distillation {
        let states = states(scope, config, pass, (teacher.tap, &slots.seen))?;
        let n = config.point.tokens_per_cloud() - usize::from(config.point.class_token);
        let ty = TensorType::new(DType::F32, vec![extents.clouds.clone(), dim(n), dim(teacher.width)]);
        let wanted = scope.graph.input(names::TEACHER, InputKind::Data, ty)?;
        let wanted = match slots.seen.index {
            None => wanted,
            Some(index) => scope.graph.gather(wanted, index, 1, 1)?,
        };
        let ours = head(scope, states, "distill_predict_head", &[config.llama.hidden_size, teacher.width])?;
        let term = squared_error(&mut scope.graph, ours, wanted)?;
        list.push((names::LOSS_DISTILLATION, term, teacher.weight));
    }
    Ok(list)
}

/// `[B, count, C]`: hidden states of some slots.
fn states(scope: &mut Scope, config: &EnelConfig, pass: &Pass, (tap, part): (Tap, &Part)) -> Made {
    let hidden = match tap {
        Tap::Last => pass.decoded.hidden,
        Tap::Layer(n) => pass.decoded.layers.get(n.wrapping_sub(1)).copied().unwrap_or(pass.decoded.hidden),
    };
    let g = &mut scope.graph;
    let slots = config.point.tokens_per_cloud();
    let rows = g.gather(hidden, pass.point_row, 0, 0)?;
    let clouds = g.ty(part.features).shape[0].clone();
    let all = g.reshape(rows, vec![clouds, dim(slots), dim(config.llama.hidden_size)])?;
    Ok(g.narrow(all, 1, dim(part.first), dim(part.count))?)
}

/// What a head reads, and of which slots it speaks.
struct Said<'a> {
    name: &'static str,
    states: NodeId,
    part: &'a Part,
}

fn prediction(scope: &mut Scope, config: &EnelConfig, wanted: &Prediction, said: &Said<'_>) -> Made {
    let c = config.llama.hidden_size;
    let name = format!("{}_predict_head", said.name);
    let note = |scope: &mut Scope, what: &str, value: NodeId, layout: Layout| {
        scope.taps.note(TapLevel::All, format!("act.{}_{what}", said.name), value, layout);
    };
    match wanted.target {
        Target::Feature => {
            let features = match wanted.target_gradient {
                TargetGradient::Flows => said.part.features,
                TargetGradient::Stops => scope.graph.composite(Composite::StopGradient, &[said.part.features])?,
            };
            let ours = head(scope, said.states, &name, &[c, c / 4, c])?;
            note(scope, "target", features, Layout::Same);
            note(scope, "pred", ours, Layout::Same);
            Ok(squared_error(&mut scope.graph, ours, features)?)
        }
        Target::Patch => {
            let k = config.point.group_size;
            let ours = head(scope, said.states, &name, &[c, c / 2, c / 4, 3 * k])?;
            note(scope, "pred", ours, Layout::Same);
            note(scope, "target_sorted", said.part.patches, Layout::Sets);
            let g = &mut scope.graph;
            let patches = g.ty(said.part.patches).shape[0].mul(&dim(said.part.count));
            let sets = vec![patches, dim(k), dim(3)];
            let ours = g.cast(ours, DType::F32)?;
            let ours = g.reshape(ours, sets.clone())?;
            let theirs = g.reshape(said.part.patches, sets)?;
            Ok(chamfer(g, ours, theirs)?)
        }
    }
}
