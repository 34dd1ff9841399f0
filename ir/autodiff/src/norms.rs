//! What are the derivatives of means, variances and norms? With x^ the normalised x and r its factor, closed forms.
//!
//! A norm by batch statistics is `batch_norm` with the mean and variance of its own operand: their derivatives reach it
//! through `mean` and `variance`.

use crate::sums::kept;
use crate::vjp::{Done, Vjp};
use enel_ir::{BuildError, Composite, DType, Dim, NodeId, Op, ReduceOp, UnaryOp};

type Built = Result<NodeId, BuildError>;

/// The size of the axes less `ddof`, as f32.
fn count(v: &mut Vjp<'_>, axes: &[usize], ddof: i64) -> Built {
    let shape = v.x_ty(0).shape;
    let n = Dim::product(axes.iter().map(|&a| &shape[a])).sub(&Dim::constant(ddof));
    v.g.push(Op::SizeOf { size: n, dtype: DType::F32 }, &[])
}

/// dx = dy / n.
pub(crate) fn mean(v: &mut Vjp<'_>, axes: &[usize]) -> Done {
    let shape = v.x_ty(0).shape;
    let n = count(v, axes, 0)?;
    let each = v.g.div(v.dy, n)?;
    let each = kept(v.g, each, &shape, axes)?;
    let dx = v.g.broadcast(each, shape)?;
    v.give(0, dx)
}

/// dx = 2 dy (x - mean) / (n - ddof); what the mean adds sums to 0.
pub(crate) fn variance(v: &mut Vjp<'_>, axes: &[usize], ddof: i64) -> Done {
    let x = v.x(0);
    let shape = v.x_ty(0).shape;
    let mean = v.g.composite(Composite::Mean { axes: axes.to_vec(), keep: true }, &[x])?;
    let centred = v.g.sub(x, mean)?;
    let n = count(v, axes, ddof)?;
    let twice = v.scale(v.dy, 2.0)?;
    let each = v.g.div(twice, n)?;
    let each = kept(v.g, each, &shape, axes)?;
    let dx = v.g.mul(centred, each)?;
    v.give(0, dx)
}

/// `rsqrt(x + eps)`.
fn rsqrt_plus(v: &mut Vjp<'_>, x: NodeId, eps: f64) -> Built {
    let eps = v.scalar(eps)?;
    let sum = v.g.add(x, eps)?;
    v.g.unary(UnaryOp::Rsqrt, sum)
}

/// r = rsqrt(mean(x^2) + eps), x^ = x r, h = dy gain: dx = r (h - x^ mean(h x^)), dgain = sum(dy x^).
///
/// **Source** Zhang and Sennrich 2019, arXiv:1910.07467, section 4.
pub(crate) fn rms_norm(v: &mut Vjp<'_>, eps: f64) -> Done {
    let (x, gain) = (v.x(0), v.x(1));
    let last = vec![v.x_ty(0).rank() - 1];
    let x2 = v.g.mul(x, x)?;
    let mean = v.g.composite(Composite::Mean { axes: last.clone(), keep: true }, &[x2])?;
    let r = rsqrt_plus(v, mean, eps)?;
    let hat = v.g.mul(x, r)?;
    if v.wants(0) {
        let h = v.g.mul(v.dy, gain)?;
        let along = v.g.mul(h, hat)?;
        let along = v.g.composite(Composite::Mean { axes: last, keep: true }, &[along])?;
        let along = v.g.mul(hat, along)?;
        let across = v.g.sub(h, along)?;
        let dx = v.g.mul(across, r)?;
        v.give(0, dx)?;
    }
    if v.wants(1) {
        let dgain = v.g.mul(v.dy, hat)?;
        v.give(1, dgain)?;
    }
    Ok(())
}

/// As [`rms_norm`] with x^ = (x - mean) r and the mean of h taken away as well; dbias = sum(dy).
///
/// **Source** Ba, Kiros and Hinton 2016, arXiv:1607.06450, supplementary material.
pub(crate) fn layer_norm(v: &mut Vjp<'_>, eps: f64) -> Done {
    let (x, gain) = (v.x(0), v.x(1));
    let last = vec![v.x_ty(0).rank() - 1];
    let over_last = Composite::Mean { axes: last, keep: true };
    let mean = v.g.composite(over_last.clone(), &[x])?;
    let centred = v.g.sub(x, mean)?;
    let squares = v.g.mul(centred, centred)?;
    let variance = v.g.composite(over_last.clone(), &[squares])?;
    let r = rsqrt_plus(v, variance, eps)?;
    let hat = v.g.mul(centred, r)?;
    if v.wants(0) {
        let h = v.g.mul(v.dy, gain)?;
        let level = v.g.composite(over_last.clone(), &[h])?;
        let along = v.g.mul(h, hat)?;
        let along = v.g.composite(over_last, &[along])?;
        let along = v.g.mul(hat, along)?;
        let across = v.g.sub(h, level)?;
        let across = v.g.sub(across, along)?;
        let dx = v.g.mul(across, r)?;
        v.give(0, dx)?;
    }
    if v.wants(1) {
        let dgain = v.g.mul(v.dy, hat)?;
        v.give(1, dgain)?;
    }
    v.give(2, v.dy)
}

/// r = rsqrt(var + eps), c = x - mean, S = sum(dy), P = sum(dy c): dx = dy gain r, dgain = P r, dbias = S,
/// dmean = -S gain r, dvar = -P gain r^3 / 2.
pub(crate) fn batch_norm(v: &mut Vjp<'_>, axis: usize, eps: f64) -> Done {
    let rank = v.x_ty(0).rank();
    let channels = v.x_ty(0).shape[axis].clone();
    let mut column = vec![Dim::constant(1); rank - axis];
    column[0] = channels;
    let others: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
    let r = rsqrt_plus(v, v.x(4), eps)?;
    let scale = v.g.mul(v.x(1), r)?;
    if v.wants(0) {
        let scale = v.g.reshape(scale, column.clone())?;
        let dx = v.g.mul(v.dy, scale)?;
        v.give(0, dx)?;
    }
    if v.wants(2) || v.wants(3) {
        let sum = v.g.reduce(ReduceOp::Sum, v.dy, &others, false)?;
        v.give(2, sum)?;
        if v.wants(3) {
            let dmean = v.g.mul(sum, scale)?;
            let dmean = v.g.unary(UnaryOp::Neg, dmean)?;
            v.give(3, dmean)?;
        }
    }
    if v.wants(1) || v.wants(4) {
        let mean = v.g.reshape(v.x(3), column)?;
        let centred = v.g.sub(v.x(0), mean)?;
        let product = v.g.mul(v.dy, centred)?;
        let sum = v.g.reduce(ReduceOp::Sum, product, &others, false)?;
        let dgain = v.g.mul(sum, r)?;
        v.give(1, dgain)?;
        if v.wants(4) {
            let r2 = v.g.mul(r, r)?;
            let cube = v.g.mul(scale, r2)?;
            let dvar = v.g.mul(sum, cube)?;
            let dvar = v.scale(dvar, -0.5)?;
            v.give(4, dvar)?;
        }
    }
    Ok(())
}
