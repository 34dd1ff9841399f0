//! What does cross-entropy mean? The mean distance of a label's logit from the logarithm of the sum of all exponentials.
//!
//! Behind a linear map the logits need not lie in memory together: columns come in chunks, each less the largest logit
//! so far, and the sum is scaled as that grows. **Source** Milakov and Gimelshein 2018, arXiv:1805.02867, section 3.

use super::{Built, constant, decompose};
use crate::build::BuildError;
use crate::graph::{Graph, NodeId, Scalar, TensorType};
use crate::ops::Composite;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

pub(super) fn cross_entropy(g: &mut Graph, logits: NodeId, labels: NodeId, ignore: i64) -> Built {
    let f32_logits = g.cast(logits, DType::F32)?;
    let logp = decompose(g, &Composite::LogSoftmax { axis: 1 }, &[f32_logits])?;
    let picked = g.gather(logp, labels, 1, 1)?;
    let loss = mean_of_counted(g, picked, (labels, ignore))?;
    g.unary(UnaryOp::Neg, loss)
}

/// The mean of `rows: f32[T]` over those whose label is not `ignore`.
fn mean_of_counted(g: &mut Graph, rows: NodeId, (labels, ignore): (NodeId, i64)) -> Built {
    let skip = g.splat(Scalar::I(ignore), TensorType::new(DType::I32, vec![]))?;
    let counted = g.binary(BinaryOp::Ne, labels, skip)?;
    let zero = constant(g, 0.0)?;
    let kept = g.select(counted, rows, zero)?;
    let total = g.reduce(ReduceOp::Sum, kept, &[0], false)?;
    let ones = g.cast(counted, DType::F32)?;
    let n = g.reduce(ReduceOp::Sum, ones, &[0], false)?;
    g.div(total, n)
}

pub(super) fn linear_cross_entropy(
    g: &mut Graph,
    [hidden, matrix, labels]: [NodeId; 3],
    (ignore, columns): (i64, i64),
) -> Built {
    let scores = linear_scores(g, [hidden, matrix, labels], columns)?;
    let loss = g.sub(scores.lse, scores.label_logit)?;
    mean_of_counted(g, loss, (labels, ignore))
}

/// Some rows of a matrix, the columns of logits they make.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Where they begin.
    pub first: i64,
    /// How many there are.
    pub count: i64,
}

impl Columns {
    /// All rows of `matrix: [V, C]`, up to `most` at a time.
    pub fn chunks(g: &Graph, matrix: NodeId, most: i64) -> impl Iterator<Item = Columns> + use<> {
        let all = g.ty(matrix).shape.first().and_then(Dim::as_const).unwrap_or(0);
        let most = most.clamp(1, all.max(1));
        (0..all).step_by(most as usize).map(move |first| Columns { first, count: most.min(all - first) })
    }

    /// These rows of `matrix`.
    ///
    /// # Errors
    /// [`BuildError`] where they are not inside.
    pub fn of(self, g: &mut Graph, matrix: NodeId) -> Built {
        g.narrow(matrix, 0, Dim::constant(self.first), Dim::constant(self.count))
    }
}

/// What a row of logits comes to.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// `f32[T]`: the logarithm of the sum of the exponentials.
    pub lse: NodeId,
    /// `f32[T]`: the logit of the label.
    pub label_logit: NodeId,
}

/// Appends what the logits `hidden matrix^T` come to, `columns` of them at a time: `[T, C]`, `[V, C]`, `i32[T]`.
///
/// # Errors
/// [`BuildError`] when the operands are not those of [`Composite::LinearCrossEntropy`].
pub fn linear_scores(g: &mut Graph, [hidden, matrix, labels]: [NodeId; 3], columns: i64) -> Result<Scores, BuildError> {
    let column = |g: &mut Graph, x: NodeId| {
        let rows = g.ty(x).shape[0].clone();
        g.reshape(x, vec![rows, Dim::constant(1)])
    };
    let zero = constant(g, 0.0)?;
    let (mut top, mut sum) = (zero, zero);
    for chunk in Columns::chunks(g, matrix, columns) {
        let rows = chunk.of(g, matrix)?;
        let logits = g.contract("tc,vc->tv", hidden, rows)?;
        let mut logits = g.cast(logits, DType::F32)?;
        if chunk.first > 0 {
            // What waits for the chunk before lies in memory after it.
            let top = column(g, top)?;
            logits = g.sub(logits, top)?;
        }
        let own = g.reduce(ReduceOp::Max, logits, &[1], false)?;
        let own_column = column(g, own)?;
        let shifted = g.sub(logits, own_column)?;
        let shifted = g.unary(UnaryOp::Exp, shifted)?;
        let own_sum = g.reduce(ReduceOp::Sum, shifted, &[1], false)?;

        if chunk.first == 0 {
            (top, sum) = (own, own_sum);
            continue;
        }
        let rise = g.binary(BinaryOp::Max, own, zero)?;
        let fade = g.unary(UnaryOp::Neg, rise)?;
        let fade = g.unary(UnaryOp::Exp, fade)?;
        let old = g.mul(sum, fade)?;
        let share = g.sub(own, rise)?;
        let share = g.unary(UnaryOp::Exp, share)?;
        let new = g.mul(own_sum, share)?;
        sum = g.add(old, new)?;
        top = g.add(top, rise)?;
    }
    let log = g.unary(UnaryOp::Log, sum)?;
    let lse = g.add(top, log)?;
    // On its own: chunks would wait in memory to be read for it.
    let rows = g.gather(matrix, labels, 0, 0)?;
    let (rows, hidden) = (g.cast(rows, DType::F32)?, g.cast(hidden, DType::F32)?);
    let products = g.mul(hidden, rows)?;
    let label_logit = g.reduce(ReduceOp::Sum, products, &[1], false)?;
    Ok(Scores { lse, label_logit })
}
