//! What are the derivatives of activations and softmaxes? Closed forms, not their decompositions'.

use crate::vjp::{Done, Vjp};
use enel_ir::{BinaryOp, Composite, ReduceOp, UnaryOp};

/// 1 above 0, else 0: PyTorch's choice at 0.
pub(crate) fn relu(v: &mut Vjp<'_>) -> Done {
    let zero = v.scalar(0.0)?;
    let above = v.g.binary(BinaryOp::Gt, v.y, zero)?;
    let dx = v.g.select(above, v.dy, zero)?;
    v.give(0, dx)
}

/// dy/dx = y (1 - y).
pub(crate) fn sigmoid(v: &mut Vjp<'_>) -> Done {
    let one = v.scalar(1.0)?;
    let rest = v.g.sub(one, v.y)?;
    let slope = v.g.mul(v.y, rest)?;
    let dx = v.g.mul(v.dy, slope)?;
    v.give(0, dx)
}

/// y = x s with s = sigmoid(x): dy/dx = s (1 + x (1 - s)).
pub(crate) fn silu(v: &mut Vjp<'_>) -> Done {
    let x = v.x(0);
    let s = v.g.composite(Composite::Sigmoid, &[x])?;
    let one = v.scalar(1.0)?;
    let rest = v.g.sub(one, s)?;
    let slope = v.g.mul(x, rest)?;
    let slope = v.g.add(slope, one)?;
    let slope = v.g.mul(slope, s)?;
    let dx = v.g.mul(v.dy, slope)?;
    v.give(0, dx)
}

/// y = x Phi(x): dy/dx = Phi(x) + x phi(x), phi the density of the normal distribution.
pub(crate) fn gelu(v: &mut Vjp<'_>) -> Done {
    let x = v.x(0);
    let inner = v.scale(x, std::f64::consts::FRAC_1_SQRT_2)?;
    let erf = v.g.unary(UnaryOp::Erf, inner)?;
    let one = v.scalar(1.0)?;
    let both = v.g.add(erf, one)?;
    let cdf = v.scale(both, 0.5)?;
    let x2 = v.g.mul(x, x)?;
    let exponent = v.scale(x2, -0.5)?;
    let bell = v.g.unary(UnaryOp::Exp, exponent)?;
    let density = v.scale(bell, 1.0 / std::f64::consts::TAU.sqrt())?;
    let slope = v.g.mul(x, density)?;
    let slope = v.g.add(cdf, slope)?;
    let dx = v.g.mul(v.dy, slope)?;
    v.give(0, dx)
}

/// y = x (1 + t) / 2, t = tanh(k (x + c x^3)): dy/dx = (1 + t) / 2 + x (1 - t^2) k (1 + 3 c x^2) / 2.
pub(crate) fn gelu_tanh(v: &mut Vjp<'_>) -> Done {
    let x = v.x(0);
    let (c, k) = (0.044_715, (2.0 / std::f64::consts::PI).sqrt());
    let one = v.scalar(1.0)?;
    let x2 = v.g.mul(x, x)?;
    let cx2 = v.scale(x2, c)?;
    let inner = v.g.add(one, cx2)?;
    let inner = v.g.mul(x, inner)?;
    let inner = v.scale(inner, k)?;
    let t = v.g.unary(UnaryOp::Tanh, inner)?;
    let up = v.g.add(one, t)?;
    let down = v.g.sub(one, t)?;
    let curve = v.scale(cx2, 3.0)?;
    let curve = v.g.add(one, curve)?;
    let curve = v.g.mul(x, curve)?;
    let curve = v.scale(curve, k)?;
    // 1 - t^2 = (1 + t) (1 - t), and both terms have the factor (1 + t) / 2.
    let rest = v.g.mul(curve, down)?;
    let rest = v.g.add(one, rest)?;
    let slope = v.g.mul(up, rest)?;
    let slope = v.scale(slope, 0.5)?;
    let dx = v.g.mul(v.dy, slope)?;
    v.give(0, dx)
}

/// dx = y (dy - sum(y dy)).
pub(crate) fn softmax(v: &mut Vjp<'_>, axis: usize) -> Done {
    let weighted = v.g.mul(v.y, v.dy)?;
    let sum = v.g.reduce(ReduceOp::Sum, weighted, &[axis], true)?;
    let centred = v.g.sub(v.dy, sum)?;
    let dx = v.g.mul(v.y, centred)?;
    v.give(0, dx)
}

/// dx = dy - exp(y) sum(dy).
pub(crate) fn log_softmax(v: &mut Vjp<'_>, axis: usize) -> Done {
    let sum = v.g.reduce(ReduceOp::Sum, v.dy, &[axis], true)?;
    let p = v.g.unary(UnaryOp::Exp, v.y)?;
    let share = v.g.mul(p, sum)?;
    let dx = v.g.sub(v.dy, share)?;
    v.give(0, dx)
}
