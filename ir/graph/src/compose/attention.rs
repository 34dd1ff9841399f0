//! What do attention and its derivatives mean? Probabilities of every pair of a token and a row, and sums over them.

use super::{Built, constant, operand};
use crate::build::BuildError;
use crate::graph::{Graph, NodeId, TensorType};
use crate::ops::AttentionOperand;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

/// What every part of attention reads.
struct Scores {
    /// `[T, G, H/G, S]`: how much a token takes of a row; 0 everywhere for a token that sees nothing.
    p: NodeId,
    /// `[T, G, H/G, D]`: the queries by the group they share keys with.
    q: NodeId,
}

/// `[T, H, D]`: rows of v by probability.
pub(super) fn attention(g: &mut Graph, operands: &[NodeId], scale: f64) -> Built {
    let v = operand(operands, 2)?;
    let shape = g.ty(operand(operands, 0)?).shape.clone();
    let Scores { p, .. } = probabilities(g, operands, scale)?;
    let out = g.contract("tghs,sgd->tghd", p, v)?;
    g.reshape(out, shape)
}

/// With S the scaled scores, P their softmax, O the result: dV = P' dO, dP = dO V', dS = P (dP - sum(dO O)),
/// dQ = scale dS K, dK = scale dS' Q.
///
/// **Source** Dao et al. 2022, arXiv:2205.14135, appendix B.2.
pub(super) fn attention_grad(g: &mut Graph, operands: &[NodeId], (scale, by): (f64, AttentionOperand)) -> Built {
    let [q, k, v] = [operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?];
    let [y, dy] = [operand(operands, 5)?, operand(operands, 6)?];
    let shape = g.ty(q).shape.clone();
    let Scores { p, q } = probabilities(g, operands, scale)?;
    let grouped = g.ty(q).shape.clone();
    let dy = g.reshape(dy, grouped.clone())?;
    if by == AttentionOperand::Value {
        return g.contract("tghs,tghd->sgd", p, dy);
    }
    let y = g.reshape(y, grouped)?;
    let both = g.mul(dy, y)?;
    let delta = g.reduce(ReduceOp::Sum, both, &[3], true)?;
    let dp = g.contract("tghd,sgd->tghs", dy, v)?;
    let centred = g.sub(dp, delta)?;
    let ds = g.mul(p, centred)?;
    let factor = constant(g, scale)?;
    let ds = g.mul(ds, factor)?;
    if by == AttentionOperand::Key {
        return g.contract("tghs,tghd->sgd", ds, q);
    }
    let dq = g.contract("tghs,sgd->tghd", ds, k)?;
    g.reshape(dq, shape)
}

fn probabilities(g: &mut Graph, operands: &[NodeId], scale: f64) -> Result<Scores, BuildError> {
    let [q, k] = [operand(operands, 0)?, operand(operands, 1)?];
    let [low, high] = [operand(operands, 3)?, operand(operands, 4)?];
    let (t, h, d) = (g.ty(q).shape[0].clone(), g.ty(q).shape[1].clone(), g.ty(q).shape[2].clone());
    let (s, groups) = (g.ty(k).shape[0].clone(), g.ty(k).shape[1].clone());
    let per_group = h.div_exact(&groups).or_else(|| Some(Dim::constant(h.as_const()? / groups.as_const()?)));
    let per_group = per_group.ok_or_else(|| BuildError::Spec("heads per group".into()))?;
    // [T, G, H/G, D] against [S, G, D].
    let q4 = g.reshape(q, vec![t.clone(), groups.clone(), per_group.clone(), d.clone()])?;
    let scores = g.contract("tghd,sgd->tghs", q4, k)?;
    let factor = constant(g, scale)?;
    let scores = g.mul(scores, factor)?;
    let column = TensorType::new(DType::I32, vec![s]);
    let j = g.iota(0, column)?;
    let range_shape = vec![t.clone(), Dim::constant(1), Dim::constant(1), Dim::constant(1)];
    let low = g.reshape(low, range_shape.clone())?;
    let high = g.reshape(high, range_shape)?;
    let above = g.binary(BinaryOp::Ge, j, low)?;
    let below = g.binary(BinaryOp::Lt, j, high)?;
    let seen = g.binary(BinaryOp::And, above, below)?;
    let hidden = constant(g, f64::NEG_INFINITY)?;
    let masked = g.select(seen, scores, hidden)?;
    let top = g.reduce(ReduceOp::Max, masked, &[3], true)?;
    // A row that sees nothing has maximum -inf: shift it by 0 instead, so that its exponentials are 0, not NaN.
    let zero = constant(g, 0.0)?;
    let nothing = g.binary(BinaryOp::Eq, top, hidden)?;
    let top = g.select(nothing, zero, top)?;
    let shifted = g.sub(masked, top)?;
    let e = g.unary(UnaryOp::Exp, shifted)?;
    let sum = g.reduce(ReduceOp::Sum, e, &[3], true)?;
    let one = constant(g, 1.0)?;
    let sum = g.select(nothing, one, sum)?;
    let p = g.div(e, sum)?;
    Ok(Scores { p, q: q4 })
}
