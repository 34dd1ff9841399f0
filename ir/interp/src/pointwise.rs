//! What does each pointwise op compute from single elements? One arm per op, meanings as in `enel-types`.

use crate::tensor::{Tensor, Values};
use crate::view::View;
use enel_types::{BinaryOp, DType, UnaryOp};

/// One operand.
pub(crate) fn unary(op: UnaryOp, x: &Tensor) -> Values {
    match &x.values {
        Values::F(list) => Values::F(list.iter().map(|&x| unary_float(op, x)).collect()),
        Values::I(list) => Values::I(list.iter().map(|&v| x.dtype.wrap(unary_int(op, v, x.dtype))).collect()),
    }
}

/// Two operands, broadcast to `shape`.
pub(crate) fn binary(op: BinaryOp, x: &Tensor, y: &Tensor, shape: &[usize]) -> Values {
    let (vx, vy) = (View::broadcast(&x.shape, shape), View::broadcast(&y.shape, shape));
    let places = vx.offsets().zip(vy.offsets());
    if !x.dtype.is_float() {
        let (a, b, dtype) = (x.ints(), y.ints(), x.dtype);
        return Values::I(places.map(|(i, j)| dtype.wrap(binary_int(op, a[i], b[j]))).collect());
    }
    let (a, b) = (x.floats(), y.floats());
    if op.is_comparison() {
        Values::I(places.map(|(i, j)| i64::from(compare_float(op, a[i], b[j]))).collect())
    } else {
        Values::F(places.map(|(i, j)| binary_float(op, a[i], b[j])).collect())
    }
}

/// `x` where the condition holds, else `y`, all broadcast to `shape`.
pub(crate) fn select(condition: &Tensor, x: &Tensor, y: &Tensor, shape: &[usize]) -> Values {
    let [vc, vx, vy] = [condition, x, y].map(|t| View::broadcast(&t.shape, shape));
    let c = condition.ints();
    let places = vc.offsets().zip(vx.offsets()).zip(vy.offsets());
    if x.dtype.is_float() {
        let (a, b) = (x.floats(), y.floats());
        Values::F(places.map(|((k, i), j)| if c[k] != 0 { a[i] } else { b[j] }).collect())
    } else {
        let (a, b) = (x.ints(), y.ints());
        Values::I(places.map(|((k, i), j)| if c[k] != 0 { a[i] } else { b[j] }).collect())
    }
}

/// Change of dtype. A float dtype does not round here: rounding is storage, and storage is the caller's choice.
pub(crate) fn cast(x: &Tensor, to: DType) -> Values {
    match &x.values {
        Values::F(list) if to.is_float() => Values::F(list.clone()),
        Values::F(list) => Values::I(list.iter().map(|&x| float_to_int(x, to)).collect()),
        Values::I(list) if to.is_float() => Values::F(list.iter().map(|&x| x as f64).collect()),
        Values::I(list) => Values::I(list.iter().map(|&x| to.wrap(x)).collect()),
    }
}

/// Truncates and saturates, NaN becomes 0: what `as` means in Rust.
fn float_to_int(x: f64, to: DType) -> i64 {
    match to {
        DType::I64 => x as i64,
        DType::I32 => i64::from(x as i32),
        DType::U32 => i64::from(x as u32),
        DType::U8 => i64::from(x as u8),
        DType::Bool => i64::from(x != 0.0),
        DType::F32 | DType::BF16 | DType::F16 => unreachable!("float targets keep the float"),
    }
}

fn unary_float(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x > 0.0 => 1.0,
        UnaryOp::Sign if x < 0.0 => -1.0,
        UnaryOp::Sign => x,
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Recip => 1.0 / x,
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Not => unreachable!("C1: not takes no floats"),
    }
}

fn unary_int(op: UnaryOp, x: i64, dtype: DType) -> i64 {
    match op {
        UnaryOp::Neg => x.wrapping_neg(),
        UnaryOp::Abs => x.wrapping_abs(),
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not if dtype == DType::Bool => 1 - x,
        UnaryOp::Not => !x,
        UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Sqrt
        | UnaryOp::Rsqrt
        | UnaryOp::Recip
        | UnaryOp::Exp
        | UnaryOp::Log
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tanh
        | UnaryOp::Erf => unreachable!("C1: floats only"),
    }
}

fn binary_float(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Rem => x % y,
        BinaryOp::Pow => x.powf(y),
        BinaryOp::Max => larger(x, y),
        BinaryOp::Min => -larger(-x, -y),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => unreachable!("C3: bitwise ops take no floats"),
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
            unreachable!("comparisons are compared")
        }
    }
}

fn compare_float(op: BinaryOp, x: f64, y: f64) -> bool {
    match op {
        BinaryOp::Eq => x == y,
        BinaryOp::Ne => x != y,
        BinaryOp::Lt => x < y,
        BinaryOp::Le => x <= y,
        BinaryOp::Gt => x > y,
        BinaryOp::Ge => x >= y,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Pow
        | BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor => unreachable!("only comparisons are compared"),
    }
}

/// Exact modulo 2^64; the caller wraps to the dtype, and comparisons give 0 or 1, which every dtype holds.
fn binary_int(op: BinaryOp, x: i64, y: i64) -> i64 {
    match op {
        BinaryOp::Add => x.wrapping_add(y),
        BinaryOp::Sub => x.wrapping_sub(y),
        BinaryOp::Mul => x.wrapping_mul(y),
        BinaryOp::Div | BinaryOp::Rem if y == 0 => 0,
        BinaryOp::Div => x.wrapping_div(y),
        BinaryOp::Rem => x.wrapping_rem(y),
        BinaryOp::Max => x.max(y),
        BinaryOp::Min => x.min(y),
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Eq => i64::from(x == y),
        BinaryOp::Ne => i64::from(x != y),
        BinaryOp::Lt => i64::from(x < y),
        BinaryOp::Le => i64::from(x <= y),
        BinaryOp::Gt => i64::from(x > y),
        BinaryOp::Ge => i64::from(x >= y),
        BinaryOp::Pow => unreachable!("C3: pow takes floats"),
    }
}

/// The larger; NaN if either is NaN.
pub(crate) fn larger(x: f64, y: f64) -> f64 {
    if x.is_nan() || x > y { x } else { y }
}

/// Gauss error function, to within 2^-50: eighty rounded terms at most, far below what f32 can show.
///
/// **Source** Abramowitz and Stegun 7.1.6: `2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1*3*..*(2n+1))`. All terms have
/// one sign, so nothing cancels; from |x| = 6 on the result is 1 to the last bit (erfc(6) = 2.2e-17).
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() >= 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > sum.abs() * 1e-18 {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
