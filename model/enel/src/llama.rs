//! How does a decoder read packed tokens? LLaMA over `[T, C]`, with or without a key and value cache.
//!
//! Law: nothing is padded; which rows a token sees is a half-open range `low..high` given by the host, over the tokens
//! themselves without a cache and over cache rows with one. Norms, code and scores are f32 in every storage mode.
//! **Source** arXiv 2302.13971 (LLaMA), 2104.09864 (rotary code), 1910.07467 (RMS norm), 2305.13245 (grouped heads);
//! names and the half-split rotation as in the Hugging Face implementation.

use crate::config::LlamaConfig;
use crate::names;
use crate::scope::{ModelError, Scope, dim};
use crate::tap::{Layout, TapLevel};
use enel_ir::{
    BinaryOp, Composite, DType, Dim, InputKind, NodeId, Op, ReduceOp, Scalar, ScatterMode, TensorType, UnaryOp,
};

type Made = Result<NodeId, ModelError>;

/// Where tokens stand and which keys they see; all `i32[T]`.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Position in the segment.
    pub position: NodeId,
    /// First row seen.
    pub low: NodeId,
    /// One past the last row seen.
    pub high: NodeId,
    /// Cache rows the tokens' own keys go to, and how many rows a cache has; without it keys are the tokens' own.
    pub cache: Option<(NodeId, Dim)>,
}

/// Rows logits are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every token.
    All,
    /// Tokens at these indices, `i32[L]`.
    At(NodeId),
}

/// What the layers give.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// `[T, C]`: hidden states after the last norm.
    pub hidden: NodeId,
    /// `[T, C]` for each layer: what it gives to the next one.
    pub layers: Vec<NodeId>,
    /// `[2, S, G, D]` for each layer with a cache: keys and values after the update, already tied outputs.
    pub caches: Vec<NodeId>,
}

/// Cosines and sines of the rotary code, `f32[T, 1, D]`, shared by all layers.
#[derive(Clone, Copy)]
struct Rotary {
    cos: NodeId,
    sin: NodeId,
}

/// Rows of the embedding table at `ids: i32[T]`; an id outside the table is clamped, so hosts check ids.
///
/// # Errors
/// [`ModelError`] when `ids` is no index vector.
pub fn embed_tokens(scope: &mut Scope, config: &LlamaConfig, ids: NodeId) -> Made {
    config.check()?;
    let table = scope.weight("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size])?;
    Ok(scope.graph.gather(table, ids, 0, 0)?)
}

/// Appends all layers and the last norm over `hidden: [T, C]`; with a cache, also its update as tied outputs.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph, [`ModelError::Build`] when operands do not fit it.
pub fn decoder(scope: &mut Scope, config: &LlamaConfig, hidden: NodeId, keys: &Keys) -> Result<Decoded, ModelError> {
    decoder_with(scope, config, (hidden, None), keys)
}

/// As [`decoder`], with `every: [T, C]` added to what each layer is given.
///
/// # Errors
/// As [`decoder`].
pub(crate) fn decoder_with(
    scope: &mut Scope,
    config: &LlamaConfig,
    (hidden, every): (NodeId, Option<NodeId>),
    keys: &Keys,
) -> Result<Decoded, ModelError> {
    config.check()?;
    let rotary = rotary_table(scope, config, keys.position)?;
    let mut x = hidden;
    let (mut caches, mut layers) = (Vec::new(), Vec::new());
    for index in 0..config.num_hidden_layers {
        if let Some(every) = every {
            x = scope.graph.add(x, every)?;
        }
        scope.taps.note(TapLevel::Hidden, format!("act.hidden.{index}"), x, Layout::Tokens);
        let layer = Layer { config, index, name: format!("model.layers.{index}"), rotary };
        x = layer.attend(scope, x, keys, &mut caches)?;
        x = layer.feed_forward(scope, x)?;
        layers.push(x);
    }
    let hidden = rms_norm(scope, config, x, "model.norm")?;
    let name = format!("act.hidden.{}", config.num_hidden_layers);
    scope.taps.note(TapLevel::Hidden, name, hidden, Layout::Tokens);
    Ok(Decoded { hidden, layers, caches })
}

/// Appends the output projection of the wanted rows: `f32[rows, V]`.
///
/// # Errors
/// [`ModelError::Build`] when `hidden` is not `[T, C]`.
pub fn logits(scope: &mut Scope, config: &LlamaConfig, hidden: NodeId, rows: Rows) -> Made {
    let hidden = match rows {
        Rows::All => hidden,
        Rows::At(index) => scope.graph.gather(hidden, index, 0, 0)?,
    };
    let matrix = head(scope, config)?;
    scores(scope, hidden, matrix)
}

/// The output projection's matrix `[V, C]`.
fn head(scope: &mut Scope, config: &LlamaConfig) -> Made {
    let name = if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
    scope.weight(name, &[config.vocab_size, config.hidden_size])
}

fn scores(scope: &mut Scope, hidden: NodeId, matrix: NodeId) -> Made {
    let scores = scope.matmul(hidden, matrix)?;
    Ok(scope.graph.cast(scores, DType::F32)?)
}

fn rms_norm(scope: &mut Scope, config: &LlamaConfig, x: NodeId, name: &str) -> Made {
    let gain = scope.weight(&format!("{name}.weight"), &[config.hidden_size])?;
    Ok(scope.graph.composite(Composite::RmsNorm { eps: Scalar::F(config.rms_norm_eps) }, &[x, gain])?)
}

fn rotary_table(scope: &mut Scope, config: &LlamaConfig, position: NodeId) -> Result<Rotary, ModelError> {
    let d = config.head_dim();
    let frequency = |i: usize| Scalar::F(f64::from(config.rope_theta.powf(-((2 * i) as f64) / d as f64) as f32));
    let values: Vec<Scalar> = (0..d / 2).map(frequency).collect();
    let g = &mut scope.graph;
    let tokens = g.ty(position).shape.first().cloned().unwrap_or_else(|| dim(1));
    let frequencies = g.push(Op::Const { values, ty: TensorType::new(DType::F32, vec![dim(d / 2)]) }, &[])?;
    let position = g.cast(position, DType::F32)?;
    let position = g.reshape(position, vec![tokens.clone(), dim(1)])?;
    let angle = g.mul(position, frequencies)?;
    let mut table = |op: UnaryOp, tap: &str| -> Made {
        let g = &mut scope.graph;
        let half = g.unary(op, angle)?;
        let full = g.concat(&[half, half], 1)?;
        scope.taps.note(TapLevel::All, tap, full, Layout::Positions);
        Ok(scope.graph.reshape(full, vec![tokens.clone(), dim(1), dim(d)])?)
    };
    Ok(Rotary { cos: table(UnaryOp::Cos, "act.rope_cos")?, sin: table(UnaryOp::Sin, "act.rope_sin")? })
}

struct Layer<'c> {
    config: &'c LlamaConfig,
    index: usize,
    name: String,
    rotary: Rotary,
}

impl Layer<'_> {
    fn note(&self, scope: &mut Scope, what: &str, value: NodeId, layout: Layout) {
        if scope.taps.wants(TapLevel::All) {
            scope.taps.note(TapLevel::All, format!("act.layer{}.{what}", self.index), value, layout);
        }
    }

    fn linear(&self, scope: &mut Scope, x: NodeId, part: &str, [out, inner]: [usize; 2]) -> Made {
        let matrix = scope.weight(&format!("{}.{part}.weight", self.name), &[out, inner])?;
        scope.matmul(x, matrix)
    }

    /// `x + o(attention(norm(x)))`.
    fn attend(&self, scope: &mut Scope, x: NodeId, keys: &Keys, caches: &mut Vec<NodeId>) -> Made {
        let (c, d) = (self.config.hidden_size, self.config.head_dim());
        let (heads, groups) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        let h = rms_norm(scope, self.config, x, &format!("{}.input_layernorm", self.name))?;
        self.note(scope, "input_norm", h, Layout::Tokens);
        let q = self.linear(scope, h, "self_attn.q_proj", [c, c])?;
        let k = self.linear(scope, h, "self_attn.k_proj", [groups * d, c])?;
        let v = self.linear(scope, h, "self_attn.v_proj", [groups * d, c])?;
        for (what, value) in [("q_proj", q), ("k_proj", k), ("v_proj", v)] {
            self.note(scope, what, value, Layout::Tokens);
        }
        let q = self.heads(scope, q, heads)?;
        let k = self.heads(scope, k, groups)?;
        let v = self.heads(scope, v, groups)?;
        let q = self.rotate(scope, q)?;
        let k = self.rotate(scope, k)?;
        self.note(scope, "q_rope", q, Layout::TokenHeads);
        self.note(scope, "k_rope", k, Layout::TokenHeads);
        let (k, v) = match &keys.cache {
            None => (k, v),
            Some((slot, slots)) => self.through_cache(scope, (k, v), (*slot, slots), caches)?,
        };
        if keys.cache.is_none() && scope.taps.wants(TapLevel::All) {
            let p = probabilities(scope, self.config, (q, k), keys)?;
            self.note(scope, "attn_probs", p, Layout::TokenPairs);
        }
        let scale = Scalar::F(1.0 / (d as f64).sqrt());
        let y = scope.graph.composite(Composite::Attention { scale }, &[q, k, v, keys.low, keys.high])?;
        let tokens = scope.graph.ty(y).shape[0].clone();
        let y = scope.graph.reshape(y, vec![tokens, dim(c)])?;
        let y = self.linear(scope, y, "self_attn.o_proj", [c, c])?;
        self.note(scope, "attn_out", y, Layout::Tokens);
        Ok(scope.graph.add(x, y)?)
    }

    /// `x + down(silu(gate(norm(x))) * up(norm(x)))`.
    fn feed_forward(&self, scope: &mut Scope, x: NodeId) -> Made {
        let (c, f) = (self.config.hidden_size, self.config.intermediate_size);
        let h = rms_norm(scope, self.config, x, &format!("{}.post_attention_layernorm", self.name))?;
        self.note(scope, "post_norm", h, Layout::Tokens);
        let gate = self.linear(scope, h, "mlp.gate_proj", [f, c])?;
        let up = self.linear(scope, h, "mlp.up_proj", [f, c])?;
        let gate = scope.graph.composite(Composite::Silu, &[gate])?;
        let y = scope.graph.mul(gate, up)?;
        let y = self.linear(scope, y, "mlp.down_proj", [c, f])?;
        self.note(scope, "mlp_out", y, Layout::Tokens);
        Ok(scope.graph.add(x, y)?)
    }

    /// `[T, n D]` as `[T, n, D]`.
    fn heads(&self, scope: &mut Scope, x: NodeId, n: usize) -> Made {
        let tokens = scope.graph.ty(x).shape[0].clone();
        Ok(scope.graph.reshape(x, vec![tokens, dim(n), dim(self.config.head_dim())])?)
    }

    /// Channel `i` of the first half turns with channel `i` of the second: `x cos + (-second, first) sin`.
    fn rotate(&self, scope: &mut Scope, x: NodeId) -> Made {
        let half = dim(self.config.head_dim() / 2);
        let g = &mut scope.graph;
        let first = g.narrow(x, 2, dim(0), half.clone())?;
        let second = g.narrow(x, 2, half.clone(), half)?;
        let minus = g.unary(UnaryOp::Neg, second)?;
        let turned = g.concat(&[minus, first], 2)?;
        let straight = g.mul(x, self.rotary.cos)?;
        let across = g.mul(turned, self.rotary.sin)?;
        let y = g.add(straight, across)?;
        scope.stored(y)
    }

    /// Writes keys and values into the layer's cache, in one update, and reads all rows back. The rows of either lie side by
    /// side: attention streams them.
    fn through_cache(
        &self,
        scope: &mut Scope,
        (k, v): (NodeId, NodeId),
        (slot, slots): (NodeId, &Dim),
        caches: &mut Vec<NodeId>,
    ) -> Result<(NodeId, NodeId), ModelError> {
        let (groups, d) = (dim(self.config.num_key_value_heads), dim(self.config.head_dim()));
        let name = names::cache(self.index);
        let ty = TensorType::new(scope.storage(), vec![dim(2), slots.clone(), groups.clone(), d.clone()]);
        let g = &mut scope.graph;
        let state = g.input(&name, InputKind::State, ty)?;
        let one = vec![dim(1), g.ty(k).shape[0].clone(), groups.clone(), d.clone()];
        let k = g.reshape(k, one.clone())?;
        let v = g.reshape(v, one)?;
        let both = g.concat(&[k, v], 0)?;
        let cache = g.push(Op::Scatter { axis: 1, batch: 0, mode: ScatterMode::Set }, &[state, slot, both])?;
        g.output_state(&name, cache, state);
        caches.push(cache);
        let mut half = |which: usize| -> Made {
            let part = g.narrow(cache, 0, dim(which), dim(1))?;
            Ok(g.reshape(part, vec![slots.clone(), groups.clone(), d.clone()])?)
        };
        Ok((half(0)?, half(1)?))
    }
}

/// Attention weights `[T, H, T]` in primitives, for looking only; `attention` itself never shows them.
fn probabilities(scope: &mut Scope, config: &LlamaConfig, (q, k): (NodeId, NodeId), keys: &Keys) -> Made {
    let (heads, groups, d) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim());
    let g = &mut scope.graph;
    let tokens = g.ty(q).shape[0].clone();
    let q = g.reshape(q, vec![tokens.clone(), dim(groups), dim(heads / groups), dim(d)])?;
    let scores = g.contract("tghd,sgd->tghs", q, k)?;
    let scores = g.reshape(scores, vec![tokens.clone(), dim(heads), tokens.clone()])?;
    let scale = g.scalar(1.0 / (d as f64).sqrt())?;
    let scores = g.mul(scores, scale)?;
    let row = g.iota(0, TensorType::new(DType::I32, vec![tokens.clone()]))?;
    let column = vec![tokens, dim(1), dim(1)];
    let low = g.reshape(keys.low, column.clone())?;
    let high = g.reshape(keys.high, column)?;
    let from_low = g.binary(BinaryOp::Ge, row, low)?;
    let below_high = g.binary(BinaryOp::Lt, row, high)?;
    let seen = g.binary(BinaryOp::And, from_low, below_high)?;
    let hidden = g.scalar(f64::NEG_INFINITY)?;
    let masked = g.select(seen, scores, hidden)?;
    // A token that sees nothing gets zeros, as `attention` defines it, instead of softmax's NaN.
    let weights = g.composite(Composite::Softmax { axis: 2 }, &[masked])?;
    let any = g.cast(seen, DType::I32)?;
    let any = g.reduce(ReduceOp::Max, any, &[2], true)?;
    let any = g.cast(any, DType::Bool)?;
    let zero = g.scalar(0.0)?;
    Ok(g.select(any, weights, zero)?)
}

/// Mean cross-entropy of `logits: f32[T, V]` against labels the host has shifted.
///
/// # Errors
/// [`ModelError::Build`] when `labels` is not `i32[T]`.
pub(crate) fn loss(scope: &mut Scope, logits: NodeId, labels: NodeId) -> Made {
    let ignore = i64::from(names::IGNORE);
    Ok(scope.graph.composite(Composite::CrossEntropy { ignore }, &[logits, labels])?)
}

/// Logits that may lie in memory at once, 1 GiB of f32; of more there are only some columns at a time.
const MOST_LOGITS: i64 = 1 << 28;
/// Fewer columns would make a product too narrow to be fast, ragged ones waste part of a tile.
const LEAST_COLUMNS: i64 = 256;
const COLUMN_STEP: i64 = 128;

/// Mean cross-entropy of the logits of `hidden: [T, C]` against labels the host has shifted.
///
/// # Errors
/// [`ModelError::Build`] when `labels` is not `i32[T]`.
pub(crate) fn token_loss(scope: &mut Scope, config: &LlamaConfig, hidden: NodeId, labels: NodeId) -> Made {
    let ignore = i64::from(names::IGNORE);
    let matrix = head(scope, config)?;
    let tokens = Dim::product(&scope.graph.ty(hidden).shape[..1]).bounds(&scope.graph.symbols).1.max(1);
    let columns = (MOST_LOGITS / tokens).max(LEAST_COLUMNS) / COLUMN_STEP * COLUMN_STEP;
    // An adapter is a second product beside the first, which are added before the loss.
    if columns >= config.vocab_size as i64 || scope.is_adapted(matrix) {
        let logits = scores(scope, hidden, matrix)?;
        return loss(scope, logits, labels);
    }
    let hidden = scope.stored(hidden)?;
    Ok(scope.graph.composite(Composite::LinearCrossEntropy { ignore, columns }, &[hidden, matrix, labels])?)
}
