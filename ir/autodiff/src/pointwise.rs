//! What are the derivatives of pointwise ops? By the derivative of one element; `give` undoes the broadcast.
//!
//! Where an op has no derivative: abs and sqrt take 0 at 0 (a spread of equal values then has one), steps are flat
//! everywhere, and of two equal elements the first is the larger and the smaller one.

use crate::vjp::{Done, Vjp};
use enel_ir::{BinaryOp, BuildError, NodeId, UnaryOp};

pub(crate) fn unary(v: &mut Vjp<'_>, op: UnaryOp) -> Done {
    let (x, y, dy) = (v.x(0), v.y, v.dy);
    let dx = match op {
        // d(-x) = -dx.
        UnaryOp::Neg => v.g.unary(UnaryOp::Neg, dy)?,
        // d|x| = sign(x) dx.
        UnaryOp::Abs => {
            let sign = v.g.unary(UnaryOp::Sign, x)?;
            v.g.mul(dy, sign)?
        }
        // Steps are constant between their jumps; `not` takes no floats.
        UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not => return Ok(()),
        // dy/dx = 1 / (2 y).
        UnaryOp::Sqrt => {
            let half = v.scale(dy, 0.5)?;
            let slope = v.g.div(half, y)?;
            let zero = v.scalar(0.0)?;
            let flat = v.g.binary(BinaryOp::Eq, y, zero)?;
            v.g.select(flat, zero, slope)?
        }
        // dy/dx = -y^3 / 2.
        UnaryOp::Rsqrt => {
            let y2 = v.g.mul(y, y)?;
            let y3 = v.g.mul(y2, y)?;
            let slope = v.scale(y3, -0.5)?;
            v.g.mul(dy, slope)?
        }
        // dy/dx = -y^2.
        UnaryOp::Recip => {
            let y2 = v.g.mul(y, y)?;
            let slope = v.g.unary(UnaryOp::Neg, y2)?;
            v.g.mul(dy, slope)?
        }
        // dy/dx = y.
        UnaryOp::Exp => v.g.mul(dy, y)?,
        // dy/dx = 1 / x.
        UnaryOp::Log => v.g.div(dy, x)?,
        // dy/dx = cos x.
        UnaryOp::Sin => {
            let cos = v.g.unary(UnaryOp::Cos, x)?;
            v.g.mul(dy, cos)?
        }
        // dy/dx = -sin x.
        UnaryOp::Cos => {
            let sin = v.g.unary(UnaryOp::Sin, x)?;
            let slope = v.g.unary(UnaryOp::Neg, sin)?;
            v.g.mul(dy, slope)?
        }
        // dy/dx = 1 - y^2.
        UnaryOp::Tanh => {
            let y2 = v.g.mul(y, y)?;
            let one = v.scalar(1.0)?;
            let slope = v.g.sub(one, y2)?;
            v.g.mul(dy, slope)?
        }
        // dy/dx = 2 / sqrt(pi) exp(-x^2).
        UnaryOp::Erf => {
            let x2 = v.g.mul(x, x)?;
            let minus = v.g.unary(UnaryOp::Neg, x2)?;
            let bell = v.g.unary(UnaryOp::Exp, minus)?;
            let slope = v.scale(bell, std::f64::consts::FRAC_2_SQRT_PI)?;
            v.g.mul(dy, slope)?
        }
    };
    v.give(0, dx)
}

pub(crate) fn binary(v: &mut Vjp<'_>, op: BinaryOp) -> Done {
    let (x, y, z, dz) = (v.x(0), v.x(1), v.y, v.dy);
    match op {
        BinaryOp::Add => {
            v.give(0, dz)?;
            v.give(1, dz)
        }
        BinaryOp::Sub => {
            v.give(0, dz)?;
            negated(v, dz)
        }
        BinaryOp::Mul => {
            if v.wants(0) {
                let dx = v.g.mul(dz, y)?;
                v.give(0, dx)?;
            }
            if v.wants(1) {
                let dy = v.g.mul(dz, x)?;
                v.give(1, dy)?;
            }
            Ok(())
        }
        // d(x / y) = (dx - z dy) / y.
        BinaryOp::Div => {
            let dx = v.g.div(dz, y)?;
            v.give(0, dx)?;
            if !v.wants(1) {
                return Ok(());
            }
            let dy = v.g.mul(dx, z)?;
            negated(v, dy)
        }
        // x % y = x - trunc(x / y) y, and trunc(x / y) = (x - z) / y.
        BinaryOp::Rem => {
            v.give(0, dz)?;
            if !v.wants(1) {
                return Ok(());
            }
            let whole = v.g.sub(x, z)?;
            let quotient = v.g.div(whole, y)?;
            let dy = v.g.mul(dz, quotient)?;
            negated(v, dy)
        }
        BinaryOp::Pow => pow(v),
        BinaryOp::Max => route(v, BinaryOp::Ge),
        BinaryOp::Min => route(v, BinaryOp::Le),
        // Truth values and bits.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => Ok(()),
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => Ok(()),
    }
}

/// Gives `-dy` to the second operand.
fn negated(v: &mut Vjp<'_>, dy: NodeId) -> Done {
    if !v.wants(1) {
        return Ok(());
    }
    let dy = v.g.unary(UnaryOp::Neg, dy)?;
    v.give(1, dy)
}

/// d(x^y) = y x^(y-1) dx + x^y log(x) dy; the first term is 0 for y = 0, the second for x = 0, whatever the other is.
fn pow(v: &mut Vjp<'_>) -> Done {
    let (x, y, z, dz) = (v.x(0), v.x(1), v.y, v.dy);
    let zero = v.scalar(0.0)?;
    if v.wants(0) {
        let one = v.scalar(1.0)?;
        let less = v.g.sub(y, one)?;
        let power = v.g.binary(BinaryOp::Pow, x, less)?;
        let slope = v.g.mul(y, power)?;
        let flat = v.g.binary(BinaryOp::Eq, y, zero)?;
        let slope = v.g.select(flat, zero, slope)?;
        let dx = v.g.mul(dz, slope)?;
        v.give(0, dx)?;
    }
    if v.wants(1) {
        let log = v.g.unary(UnaryOp::Log, x)?;
        let slope = v.g.mul(z, log)?;
        let flat = v.g.binary(BinaryOp::Eq, x, zero)?;
        let slope = v.g.select(flat, zero, slope)?;
        let dy = v.g.mul(dz, slope)?;
        v.give(1, dy)?;
    }
    Ok(())
}

/// To the first operand where `x first y` holds, else to the second.
fn route(v: &mut Vjp<'_>, first: BinaryOp) -> Done {
    let is_first = v.g.binary(first, v.x(0), v.x(1))?;
    divide(v, is_first, (0, 1))
}

pub(crate) fn select(v: &mut Vjp<'_>) -> Done {
    divide(v, v.x(0), (1, 2))
}

/// The derivative where `condition` holds to one operand, elsewhere to the other.
fn divide(v: &mut Vjp<'_>, condition: NodeId, (first, second): (usize, usize)) -> Done {
    let zero = v.scalar(0.0)?;
    if v.wants(first) {
        let dx = v.g.select(condition, v.dy, zero)?;
        v.give(first, dx)?;
    }
    if v.wants(second) {
        let dy = v.g.select(condition, zero, v.dy)?;
        v.give(second, dy)?;
    }
    Ok::<(), BuildError>(())
}
