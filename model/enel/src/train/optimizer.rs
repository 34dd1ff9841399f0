//! How do weights follow their derivatives? AdamW over accumulated derivatives, clipped by their common length.
//!
//! Law: primitives over states, so the update runs in place and on every device alike; all arithmetic is f32. What
//! depends on the step (rate, bias corrections) is computed from states too: no call differs from another by a constant.
//! How the means last from step to step is told by `moments`.
//! **Source** Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2, in the order of PyTorch's AdamW.

use super::draws::Draws;
use super::moments::{Moments, Order};
use crate::names;
use crate::scope::ModelError;
use enel_autodiff::GRAD;
use enel_ir::{
    BinaryOp, BuildError, DType, Graph, InputKind, NodeId, ReduceOp, Scalar, Symbols, TensorType, UnaryOp, verify,
};
use serde::{Deserialize, Serialize};

type Built = Result<NodeId, BuildError>;

/// Rate by step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// Up in a line over `warmup` steps from 0, then down half a cosine to 0 at step `total`.
    Cosine {
        /// Steps up.
        warmup: u32,
        /// Steps in all.
        total: u32,
    },
}

/// AdamW and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// Largest rate.
    pub rate: f64,
    /// Rate by step.
    pub schedule: Schedule,
    /// How much of the old mean of derivatives, and of their squares, a step keeps.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decay of matrices, as a part of the rate; vectors do not decay.
    pub weight_decay: f64,
    /// Largest common length of all derivatives.
    pub max_norm: f64,
    /// How the means are kept.
    pub moments: Moments,
    /// Chooses the draws narrow means are rounded by.
    pub seed: u64,
}

impl Optimizer {
    /// The paper's: betas 0.9 and 0.999, eps 1e-8, no decay, length at most 1; means in f32.
    ///
    /// **Source** arXiv 2502.09620 v4, appendix A.2, and the defaults of the released trainer.
    pub const fn paper(rate: f64, schedule: Schedule) -> Optimizer {
        let (betas, eps, moments) = ([0.9, 0.999], 1e-8, Moments::F32);
        Optimizer { rate, schedule, betas, eps, weight_decay: 0.0, max_norm: 1.0, moments, seed: 0 }
    }
}

/// How the names of all states of the optimizer begin.
pub const OPTIMIZER: &str = "adam.";
/// Name of the state that counts steps, `f32[]`.
pub const STEP: &str = "adam.step";
/// How the names of the means of derivatives begin.
pub const FIRST: &str = "adam.m.";
/// How the names of the means of their squares begin.
pub const SECOND: &str = "adam.v.";
/// Names of the states `1 - beta^t`, f32[]: they start at 0.
const CORRECTIONS: [&str; 2] = ["adam.c1", "adam.c2"];
/// Added to the length before it divides. **Source** PyTorch's `clip_grad_norm_`.
const CLIP_EPS: f64 = 1e-6;

/// A state and the node that holds its old value.
struct Weight {
    name: String,
    value: NodeId,
    grad: NodeId,
}

/// One step: every weight of `weights` by the state `grad.NAME`, which becomes zero; outputs the length of the
/// derivatives before clipping and the rate.
///
/// # Errors
/// [`ModelError::Build`] for weights that are not f32.
pub fn apply_graph(weights: &[(String, TensorType)], optimizer: &Optimizer) -> Result<Graph, ModelError> {
    let mut graph = Graph::new("apply", Symbols::default());
    let g = &mut graph;
    let scalar = TensorType::new(DType::F32, vec![]);
    let step = g.input(STEP, InputKind::State, scalar.clone())?;
    let mut list = Vec::with_capacity(weights.len());
    for (name, ty) in weights {
        let value = g.input(name, InputKind::State, ty.clone())?;
        let grad = g.input(&format!("{GRAD}{name}"), InputKind::State, ty.clone())?;
        list.push(Weight { name: name.clone(), value, grad });
    }
    let norm = length(g, &list)?;
    let clip = clip_factor(g, norm, optimizer.max_norm)?;
    let rate = rate(g, step, optimizer)?;
    let mut corrections = [norm; 2];
    for (i, name) in CORRECTIONS.into_iter().enumerate() {
        let old = g.input(name, InputKind::State, scalar.clone())?;
        let new = towards(g, old, None, optimizer.betas[i])?;
        g.output_state(name, new, old);
        corrections[i] = new;
    }
    let mut draws = optimizer.moments.draws(g, weights, (optimizer.seed, step))?;
    for weight in &list {
        update(g, weight, (optimizer, corrections), (rate, clip), draws.as_mut())?;
    }
    let one = g.scalar(1.0)?;
    let next = g.add(step, one)?;
    g.output_state(STEP, next, step);
    g.output(names::GRAD_NORM, norm);
    g.output(names::LEARNING_RATE, rate);
    verify(&graph).map_err(super::first_fault)?;
    Ok(graph)
}

/// Length of all derivatives as one vector.
fn length(g: &mut Graph, weights: &[Weight]) -> Built {
    let mut sums = Vec::with_capacity(weights.len());
    for weight in weights {
        let squares = g.mul(weight.grad, weight.grad)?;
        let axes: Vec<usize> = (0..g.ty(squares).rank()).collect();
        let sum = g.reduce(ReduceOp::Sum, squares, &axes, false)?;
        sums.push(g.reshape(sum, vec![1.into()])?);
    }
    let all = g.concat(&sums, 0)?;
    let sum = g.reduce(ReduceOp::Sum, all, &[0], false)?;
    g.unary(UnaryOp::Sqrt, sum)
}

/// What derivatives are multiplied by so that their length is at most `max`.
fn clip_factor(g: &mut Graph, norm: NodeId, max: f64) -> Built {
    let (max, eps, one) = (g.scalar(max)?, g.scalar(CLIP_EPS)?, g.scalar(1.0)?);
    let norm = g.add(norm, eps)?;
    let factor = g.div(max, norm)?;
    g.binary(BinaryOp::Min, factor, one)
}

/// The rate of step `step`, counted from 0.
fn rate(g: &mut Graph, step: NodeId, optimizer: &Optimizer) -> Built {
    let peak = g.scalar(optimizer.rate)?;
    let Schedule::Cosine { warmup, total } = optimizer.schedule else { return Ok(peak) };
    let (zero, half, one) = (g.scalar(0.0)?, g.scalar(0.5)?, g.scalar(1.0)?);
    let warmup_steps = g.scalar(f64::from(warmup))?;
    let rise = g.scalar(f64::from(warmup.max(1)))?;
    let rise = g.div(step, rise)?;
    let past = g.sub(step, warmup_steps)?;
    let fall = g.scalar(f64::from(total.saturating_sub(warmup).max(1)))?;
    let part = g.div(past, fall)?;
    let part = g.binary(BinaryOp::Min, part, one)?;
    let pi = g.scalar(std::f64::consts::PI)?;
    let angle = g.mul(part, pi)?;
    let cos = g.unary(UnaryOp::Cos, angle)?;
    let cos = g.add(cos, one)?;
    let down = g.mul(cos, half)?;
    let down = g.binary(BinaryOp::Max, down, zero)?;
    let is_rising = g.binary(BinaryOp::Lt, step, warmup_steps)?;
    let share = g.select(is_rising, rise, down)?;
    g.mul(share, peak)
}

/// `beta old + (1 - beta) new`; without `new` it is 1.
pub(super) fn towards(g: &mut Graph, old: NodeId, new: Option<NodeId>, beta: f64) -> Built {
    let (keep, take) = (g.scalar(beta)?, g.scalar(1.0 - beta)?);
    let kept = g.mul(old, keep)?;
    let taken = match new {
        None => take,
        Some(new) => g.mul(new, take)?,
    };
    g.add(kept, taken)
}

/// m and v follow the clipped derivative; w falls by rate m^ / (sqrt(v^) + eps), after its decay.
fn update(
    g: &mut Graph,
    weight: &Weight,
    (optimizer, [c1, c2]): (&Optimizer, [NodeId; 2]),
    (rate, clip): (NodeId, NodeId),
    mut draws: Option<&mut Draws>,
) -> Result<(), BuildError> {
    let ty = g.ty(weight.value).clone();
    let mean = |g: &mut Graph, order: Order| {
        optimizer.moments.mean(g, (&weight.name, &ty), (order, optimizer.betas[order as usize]))
    };
    let (first, second) = (mean(g, Order::First)?, mean(g, Order::Second)?);
    let grad = g.mul(weight.grad, clip)?;
    let (m, v) = (first.next(g, grad)?, second.next(g, grad)?);
    let root = g.unary(UnaryOp::Sqrt, v)?;
    let correction = g.unary(UnaryOp::Sqrt, c2)?;
    let root = g.div(root, correction)?;
    let eps = g.scalar(optimizer.eps)?;
    let root = g.add(root, eps)?;
    let size = g.div(rate, c1)?;
    let way = g.div(m, root)?;
    let way = g.mul(way, size)?;
    let mut value = weight.value;
    if optimizer.weight_decay != 0.0 && ty.rank() > 1 {
        let part = g.scalar(optimizer.weight_decay)?;
        let part = g.mul(part, rate)?;
        let one = g.scalar(1.0)?;
        let rest = g.sub(one, part)?;
        value = g.mul(value, rest)?;
    }
    let new = g.sub(value, way)?;
    let zeros = g.splat(Scalar::F(0.0), ty)?;
    g.output_state(&weight.name, new, weight.value);
    // After the weight, which reads what these replace.
    for (mean, next) in [(&first, m), (&second, v)] {
        mean.store(g, (next, grad), draws.as_deref_mut())?;
    }
    g.output_state(&format!("{GRAD}{}", weight.name), zeros, weight.grad);
    Ok(())
}
