//! What are the derivatives of cross-entropy? Of a logit: its probability, less 1 for the label's, over the rows that count.

use crate::vjp::{Done, Vjp};
use enel_ir::{BinaryOp, BuildError, Columns, Composite, DType, Dim, NodeId, ReduceOp, Scalar, TensorType, UnaryOp};

type Built = Result<NodeId, BuildError>;

/// d logits = dy / n (softmax(logits) - onehot(label)) in rows that count, n of them, else 0.
///
/// The softmax is the exponential of the log-softmax the loss computes, so the two share it.
pub(crate) fn cross_entropy(v: &mut Vjp<'_>, ignore: i64) -> Done {
    let (logits, labels) = (v.x(0), v.x(1));
    let shape = v.x_ty(0).shape;
    let logits = v.g.cast(logits, DType::F32)?;
    let log_p = v.g.composite(Composite::LogSoftmax { axis: 1 }, &[logits])?;
    let p = v.g.unary(UnaryOp::Exp, log_p)?;
    let column = |v: &mut Vjp<'_>, x: NodeId| -> Built {
        let rows = shape[0].clone();
        v.g.reshape(x, vec![rows, Dim::constant(1)])
    };
    let place = v.g.iota(0, TensorType::new(DType::I32, vec![shape[1].clone()]))?;
    let label = column(v, labels)?;
    let is_label = v.g.binary(BinaryOp::Eq, place, label)?;
    let one_hot = v.g.cast(is_label, DType::F32)?;
    let off = v.g.sub(p, one_hot)?;
    let weight = weights(v, labels, ignore)?;
    let weight = column(v, weight)?;
    let dx = v.g.mul(off, weight)?;
    v.give(0, dx)
}

/// What each row counts: dy / n where its label is not `ignore`, else 0.
fn weights(v: &mut Vjp<'_>, labels: NodeId, ignore: i64) -> Built {
    let skip = v.g.splat(Scalar::I(ignore), TensorType::new(DType::I32, vec![]))?;
    let counted = v.g.binary(BinaryOp::Ne, labels, skip)?;
    let ones = v.g.cast(counted, DType::F32)?;
    let n = v.g.reduce(ReduceOp::Sum, ones, &[0], false)?;
    let each = v.g.div(v.dy, n)?;
    let zero = v.scalar(0.0)?;
    v.g.select(counted, each, zero)
}

/// The same, a chunk of columns after the other: its logits are computed again, their derivatives taken through the
/// linear map, and forgotten. They stand the other way round, [V, T], as products of other values than the loss keeps.
pub(crate) fn linear_cross_entropy(v: &mut Vjp<'_>, ignore: i64, columns: i64) -> Done {
    let [hidden, matrix, labels] = [v.x(0), v.x(1), v.x(2)];
    let scores = enel_ir::linear_scores(v.g, [hidden, matrix, labels], columns)?;
    let weight = weights(v, labels, ignore)?;
    // The row of the matrix a label gathers: one outside is clamped.
    let n_rows = v.x_ty(1).shape[0].as_const().unwrap_or(1);
    let int = |v: &mut Vjp<'_>, value: i64| v.g.splat(Scalar::I(value), TensorType::new(DType::I32, vec![]));
    let (zero, last) = (int(v, 0)?, int(v, n_rows - 1)?);
    let label = v.g.binary(BinaryOp::Max, labels, zero)?;
    let label = v.g.binary(BinaryOp::Min, label, last)?;
    let (mut d_hidden, mut d_matrix) = (None, Vec::new());
    for chunk in Columns::chunks(v.g, matrix, columns) {
        let first = int(v, chunk.first)?;
        let g = &mut *v.g;
        let rows = chunk.of(g, matrix)?;
        let logits = g.contract("vc,tc->vt", rows, hidden)?;
        let dtype = g.ty(logits).dtype;
        let logits = g.cast(logits, DType::F32)?;
        let log_p = g.sub(logits, scores.lse)?;
        let p = g.unary(UnaryOp::Exp, log_p)?;
        let place = g.iota(0, TensorType::new(DType::I32, vec![Dim::constant(chunk.count), Dim::constant(1)]))?;
        let place = g.add(place, first)?;
        let is_label = g.binary(BinaryOp::Eq, place, label)?;
        let one_hot = g.cast(is_label, DType::F32)?;
        let off = g.sub(p, one_hot)?;
        let d_logits = g.mul(off, weight)?;
        let d_logits = g.cast(d_logits, dtype)?;
        if v.wants(0) {
            let part = v.g.contract("vt,vc->tc", d_logits, rows)?;
            d_hidden = Some(match d_hidden {
                None => part,
                Some(sum) => v.g.add(sum, part)?,
            });
        }
        if v.wants(1) {
            d_matrix.push(v.g.contract("vt,tc->vc", d_logits, hidden)?);
        }
    }
    if let Some(d_hidden) = d_hidden {
        v.give(0, d_hidden)?;
    }
    if !d_matrix.is_empty() {
        let d_matrix = v.g.concat(&d_matrix, 0)?;
        v.give(1, d_matrix)?;
    }
    Ok(())
}
