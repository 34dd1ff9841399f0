//! What do attention and its derivatives mean? Probabilities of every pair of a token and a row, and sums over them.

use super::{Built, constant, operand};
use crate::build::BuildError;
use crate::graph::{Graph, NodeId, TensorType};
use crate::ops::AttentionOperand;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

/// Scores of every pair, as every part of attention reads them.
struct Scores {
    /// `[T, G, H/G, S]`: scaled products.
    s: NodeId,
    /// `[T, 1, 1, S]`: whether the token sees the row.
    seen: NodeId,
    /// `[T, G, H/G, D]`: the queries by the group they share keys with.
    q: NodeId,
}

/// `[T, H, D]`: rows of v by probability.
pub(super) fn attention(g: &mut Graph, operands: &[NodeId], scale: f64) -> Built {
    let [q, k, v] = [operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?];
    let [low, high] = [operand(operands, 3)?, operand(operands, 4)?];
    let shape = g.ty(q).shape.clone();
    let scores = scores(g, [q, k, low, high], scale)?;
    let Sums { e, sum, .. } = sums(g, &scores)?;
    let p = g.div(e, sum)?;
    let out = g.contract("tghs,sgd->tghd", p, v)?;
    g.reshape(out, shape)
}

/// `[T, H]`: the logarithm of the sum probabilities are divided by, the shift put back.
pub(super) fn attention_lse(g: &mut Graph, operands: &[NodeId], scale: f64) -> Built {
    let [q, k, low, high] =
        [operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?, operand(operands, 3)?];
    let shape = g.ty(q).shape[..2].to_vec();
    let scores = scores(g, [q, k, low, high], scale)?;
    let Sums { sum, top, .. } = sums(g, &scores)?;
    let log = g.unary(UnaryOp::Log, sum)?;
    let lse = g.add(top, log)?;
    g.reshape(lse, shape)
}

/// With S the scaled scores, P = exp(S - lse), O the result: dV = P' dO, dP = dO V', dS = P (dP - delta) with
/// delta = sum(dO O), dQ = scale dS K, dK = scale dS' Q.
///
/// **Source** Dao 2023, arXiv:2307.08691, algorithm 2.
pub(super) fn attention_grad(g: &mut Graph, operands: &[NodeId], (scale, by): (f64, AttentionOperand)) -> Built {
    let [q, k, v, dy] = [operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?, operand(operands, 3)?];
    let [low, high] = [operand(operands, 4)?, operand(operands, 5)?];
    let [lse, delta] = [operand(operands, 6)?, operand(operands, 7)?];
    let shape = g.ty(q).shape.clone();
    let Scores { s, seen, q } = scores(g, [q, k, low, high], scale)?;
    let grouped = g.ty(q).shape.clone();
    let mut column = grouped.clone();
    column[3] = Dim::constant(1);
    let lse = g.reshape(lse, column.clone())?;
    let shifted = g.sub(s, lse)?;
    // Hidden scores may be anything, also too large for an exponential.
    let hidden = constant(g, f64::NEG_INFINITY)?;
    let shifted = g.select(seen, shifted, hidden)?;
    let p = g.unary(UnaryOp::Exp, shifted)?;
    let dy = g.reshape(dy, grouped)?;
    if by == AttentionOperand::Value {
        return g.contract("tghs,tghd->sgd", p, dy);
    }
    let delta = g.reshape(delta, column)?;
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

fn scores(g: &mut Graph, [q, k, low, high]: [NodeId; 4], scale: f64) -> Result<Scores, BuildError> {
    let (t, h, d) = (g.ty(q).shape[0].clone(), g.ty(q).shape[1].clone(), g.ty(q).shape[2].clone());
    let (s, groups) = (g.ty(k).shape[0].clone(), g.ty(k).shape[1].clone());
    let per_group = h.div_exact(&groups).or_else(|| Some(Dim::constant(h.as_const()? / groups.as_const()?)));
    let per_group = per_group.ok_or_else(|| BuildError::Spec("heads per group".into()))?;
    // [T, G, H/G, D] against [S, G, D].
    let q = g.reshape(q, vec![t.clone(), groups.clone(), per_group.clone(), d.clone()])?;
    let products = g.contract("tghd,sgd->tghs", q, k)?;
    let factor = constant(g, scale)?;
    let products = g.mul(products, factor)?;
    let column = TensorType::new(DType::I32, vec![s]);
    let j = g.iota(0, column)?;
    let range_shape = vec![t.clone(), Dim::constant(1), Dim::constant(1), Dim::constant(1)];
    let low = g.reshape(low, range_shape.clone())?;
    let high = g.reshape(high, range_shape)?;
    let above = g.binary(BinaryOp::Ge, j, low)?;
    let below = g.binary(BinaryOp::Lt, j, high)?;
    let seen = g.binary(BinaryOp::And, above, below)?;
    Ok(Scores { s: products, seen, q })
}

/// Exponentials over their rows.
struct Sums {
    /// `[T, G, H/G, S]`: exponentials of shifted scores, 0 where nothing is seen.
    e: NodeId,
    /// `[T, G, H/G, 1]`: their sums, 1 for a token that sees nothing.
    sum: NodeId,
    /// `[T, G, H/G, 1]`: the shift.
    top: NodeId,
}

fn sums(g: &mut Graph, scores: &Scores) -> Result<Sums, BuildError> {
    let hidden = constant(g, f64::NEG_INFINITY)?;
    let masked = g.select(scores.seen, scores.s, hidden)?;
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
    Ok(Sums { e, sum, top })
}
