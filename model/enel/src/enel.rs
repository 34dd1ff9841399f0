//! Which programs does a host run? Whole graphs: embed, forward, prefill and step.
//!
//! Law: symbols stand in the order B, N, T, S, L, and a graph declares only those it uses; inputs and outputs are
//! called as `names` says. Every graph returned here has been verified.

use crate::config::{Bounds, EnelConfig, Extent, LlamaConfig, PointConfig};
use crate::embed::{project, token_embedding};
use crate::llama::{Decoded, Keys, Rows, decoder, embed_tokens, logits, loss};
use crate::names;
use crate::scope::{ModelError, Scope, dim};
use crate::tap::{TapLevel, Taps};
use enel_ir::{DType, Dim, Graph, InputKind, NodeId, ScatterMode, Symbols, TensorType};

type Made = Result<NodeId, ModelError>;
type Finished = Result<(Graph, Taps), ModelError>;

/// How the names of the token embedding's weights begin inside a whole model.
pub(crate) const BACKBONE: &str = "model.point_backbone.";
/// How the names of the projector's weights begin.
pub(crate) const PROJECTOR: &str = "model.point_proj.";

/// What is wanted of a pass over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Logits of every token.
    Logits,
    /// Logits of the tokens in `last_row` only.
    LastLogits,
    /// Logits of every token, and the loss against `labels`.
    Loss,
}

/// Clouds to point tokens, with the names a backbone has on its own; `projected` too when a decoder width is given.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn embed_graph(config: &PointConfig, hidden_size: Option<usize>, bounds: &Bounds, taps: TapLevel) -> Finished {
    config.check()?;
    let mut symbols = Symbols::default();
    let clouds = Clouds::declare(config, bounds, &mut symbols)?;
    let mut scope = Scope::new(Graph::new("embed", symbols), bounds, Taps::new(taps));
    let points = clouds.input(&mut scope, config)?;
    let prefix = if hidden_size.is_some() { BACKBONE } else { "" };
    let tokens = token_embedding(&mut scope, config, points, prefix)?;
    let projected = match hidden_size {
        Some(width) => Some(project(&mut scope, config, tokens.features, (width, PROJECTOR))?),
        None => None,
    };
    let shown = if scope.taps.wants(TapLevel::Hidden) {
        Vec::new()
    } else {
        let projected = projected.map(|p| (names::PROJECTED, p));
        [(names::POINT_FEATURES, tokens.features)].into_iter().chain(projected).collect()
    };
    for (name, value) in shown {
        scope.graph.output(name, value);
    }
    scope.finish()
}

/// A whole pass without a cache: clouds and tokens to logits.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn forward_graph(config: &EnelConfig, bounds: &Bounds, goal: Goal, taps: TapLevel) -> Finished {
    config.check()?;
    let mut symbols = Symbols::default();
    let clouds = Clouds::declare(&config.point, bounds, &mut symbols)?;
    let tokens = bounds.tokens.declare("T", &mut symbols)?;
    let rows = declare_rows(bounds, goal, &mut symbols)?;
    let mut scope = Scope::new(Graph::new("forward", symbols), bounds, Taps::new(taps));
    let hidden = merged(&mut scope, config, &clouds, &tokens)?;
    let keys = own_keys(&mut scope, &tokens)?;
    let decoded = decoder(&mut scope, &config.llama, hidden, &keys)?;
    results(&mut scope, &config.llama, &decoded, &Wanted { goal, tokens, rows })?;
    scope.finish()
}

/// A whole pass without a cache over text alone.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn text_forward_graph(config: &LlamaConfig, bounds: &Bounds, goal: Goal, taps: TapLevel) -> Finished {
    config.check()?;
    let mut symbols = Symbols::default();
    let tokens = bounds.tokens.declare("T", &mut symbols)?;
    let rows = declare_rows(bounds, goal, &mut symbols)?;
    let mut scope = Scope::new(Graph::new("text_forward", symbols), bounds, Taps::new(taps));
    let ids = scope.indices(names::IDS, &tokens)?;
    let hidden = embed_tokens(&mut scope, config, ids)?;
    let keys = own_keys(&mut scope, &tokens)?;
    let decoded = decoder(&mut scope, config, hidden, &keys)?;
    results(&mut scope, config, &decoded, &Wanted { goal, tokens, rows })?;
    scope.finish()
}

/// Clouds and prompts into the cache; logits of the rows in `last_row`.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn prefill_graph(config: &EnelConfig, bounds: &Bounds) -> Result<Graph, ModelError> {
    config.check()?;
    let goal = Goal::LastLogits;
    let mut symbols = Symbols::default();
    let clouds = Clouds::declare(&config.point, bounds, &mut symbols)?;
    let tokens = bounds.tokens.declare("T", &mut symbols)?;
    let slots = bounds.slots.declare("S", &mut symbols)?;
    let rows = declare_rows(bounds, goal, &mut symbols)?;
    let mut scope = Scope::new(Graph::new("prefill", symbols), bounds, Taps::new(TapLevel::Off));
    let hidden = merged(&mut scope, config, &clouds, &tokens)?;
    let keys = cached_keys(&mut scope, &tokens, slots)?;
    let decoded = decoder(&mut scope, &config.llama, hidden, &keys)?;
    results(&mut scope, &config.llama, &decoded, &Wanted { goal, tokens, rows })?;
    Ok(scope.finish()?.0)
}

/// Tokens into the cache: with [`Goal::Logits`] one decoding step, with [`Goal::LastLogits`] a prefill without clouds.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn step_graph(config: &LlamaConfig, bounds: &Bounds, goal: Goal) -> Result<Graph, ModelError> {
    cached_graph("step", config, bounds, goal)
}

/// Most tokens a call of [`decode_graph`] takes.
pub const MAX_DECODED: usize = 8;

/// One token of each of up to [`MAX_DECODED`] samples into the cache, and the logits of all: a graph of its own, because
/// few tokens ask for kernels that stream weights instead of sharing tiles.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph.
pub fn decode_graph(config: &LlamaConfig, bounds: &Bounds) -> Result<Graph, ModelError> {
    let few = Bounds { tokens: Extent::range(1, MAX_DECODED), ..*bounds };
    cached_graph("decode", config, &few, Goal::Logits)
}

fn cached_graph(name: &str, config: &LlamaConfig, bounds: &Bounds, goal: Goal) -> Result<Graph, ModelError> {
    config.check()?;
    let mut symbols = Symbols::default();
    let tokens = bounds.tokens.declare("T", &mut symbols)?;
    let slots = bounds.slots.declare("S", &mut symbols)?;
    let rows = declare_rows(bounds, goal, &mut symbols)?;
    let mut scope = Scope::new(Graph::new(name, symbols), bounds, Taps::new(TapLevel::Off));
    let ids = scope.indices(names::IDS, &tokens)?;
    let hidden = embed_tokens(&mut scope, config, ids)?;
    let keys = cached_keys(&mut scope, &tokens, slots)?;
    let decoded = decoder(&mut scope, config, hidden, &keys)?;
    results(&mut scope, config, &decoded, &Wanted { goal, tokens, rows })?;
    Ok(scope.finish()?.0)
}

/// Puts point tokens `[B, P, C]` in the place of the token rows `point_row: i32[B * P]` names, in `embedded: [T, C]`.
///
/// # Errors
/// [`ModelError::Build`] when the shapes do not fit each other.
pub fn splice(scope: &mut Scope, embedded: NodeId, projected: NodeId, point_row: NodeId) -> Made {
    let rows = scope.graph.ty(point_row).shape.clone();
    let channels = scope.graph.ty(embedded).shape.iter().skip(1).cloned();
    let shape = rows.into_iter().chain(channels).collect();
    let projected = scope.graph.reshape(projected, shape)?;
    Ok(scope.graph.scatter_rows(embedded, point_row, projected, ScatterMode::Set)?)
}

/// Extents of a batch of clouds.
struct Clouds {
    count: Dim,
    points: Dim,
}

impl Clouds {
    fn declare(config: &PointConfig, bounds: &Bounds, symbols: &mut Symbols) -> Result<Clouds, ModelError> {
        let count = bounds.clouds.declare("B", symbols)?;
        Ok(Clouds { count, points: config.n_points.declare("N", symbols)? })
    }

    fn input(&self, scope: &mut Scope, config: &PointConfig) -> Made {
        let shape = vec![self.count.clone(), self.points.clone(), dim(config.point_dims)];
        let ty = TensorType::new(DType::F32, shape);
        Ok(scope.graph.input(names::POINTS, InputKind::Data, ty)?)
    }
}

/// Token embeddings with the clouds' tokens in their places: `[T, C]`.
fn merged(scope: &mut Scope, config: &EnelConfig, clouds: &Clouds, tokens: &Dim) -> Made {
    let points = clouds.input(scope, &config.point)?;
    let ids = scope.indices(names::IDS, tokens)?;
    let n_rows = clouds.count.mul(&dim(config.point.tokens_per_cloud()));
    let point_row = scope.indices(names::POINT_ROW, &n_rows)?;
    let embedding = token_embedding(scope, &config.point, points, BACKBONE)?;
    let width = config.llama.hidden_size;
    let projected = project(scope, &config.point, embedding.features, (width, PROJECTOR))?;
    let embedded = embed_tokens(scope, &config.llama, ids)?;
    splice(scope, embedded, projected, point_row)
}

pub(crate) fn own_keys(scope: &mut Scope, tokens: &Dim) -> Result<Keys, ModelError> {
    Ok(Keys {
        position: scope.indices(names::POSITION, tokens)?,
        low: scope.indices(names::LOW, tokens)?,
        high: scope.indices(names::HIGH, tokens)?,
        cache: None,
    })
}

fn cached_keys(scope: &mut Scope, tokens: &Dim, slots: Dim) -> Result<Keys, ModelError> {
    let keys = own_keys(scope, tokens)?;
    Ok(Keys { cache: Some((scope.indices(names::SLOT, tokens)?, slots)), ..keys })
}

fn declare_rows(bounds: &Bounds, goal: Goal, symbols: &mut Symbols) -> Result<Option<Dim>, ModelError> {
    match goal {
        Goal::Logits | Goal::Loss => Ok(None),
        Goal::LastLogits => Ok(Some(bounds.rows.declare("L", symbols)?)),
    }
}

/// What is wanted, and the extents it needs.
struct Wanted {
    goal: Goal,
    tokens: Dim,
    rows: Option<Dim>,
}

fn results(scope: &mut Scope, config: &LlamaConfig, decoded: &Decoded, wanted: &Wanted) -> Result<(), ModelError> {
    let rows = match &wanted.rows {
        Some(rows) => Rows::At(scope.indices(names::LAST_ROW, rows)?),
        None => Rows::All,
    };
    let scores = logits(scope, config, decoded.hidden, rows)?;
    scope.graph.output(names::LOGITS, scores);
    if wanted.goal == Goal::Loss {
        let labels = scope.indices(names::LABELS, &wanted.tokens)?;
        let loss = loss(scope, scores, labels)?;
        scope.graph.output(names::LOSS, loss);
    }
    Ok(())
}
