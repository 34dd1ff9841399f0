//! What does a scalar operation do to a strip? One loop per operation, over vectors and single numbers alike.
//!
//! Law: the meanings are those of `enel_types::UnaryOp` and `BinaryOp` and of `Instr::Cast`; float arithmetic is f32.
//! Everything here is inlined into the caller's SIMD dispatch.

use enel_types::{BinaryOp, DType, UnaryOp};

/// An operand: a vector, or one number for all points.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Src<'a, T> {
    Strip(&'a [T]),
    One(T),
}

impl<T: Copy> Src<'_, T> {
    /// The element for point `i`.
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> T {
        match self {
            Src::Strip(values) => values[i],
            Src::One(value) => *value,
        }
    }

    /// The part for points `from..from + n`.
    #[inline(always)]
    pub(crate) fn part(&self, from: usize, n: usize) -> Src<'_, T> {
        match self {
            Src::Strip(values) => Src::Strip(&values[from..from + n]),
            Src::One(value) => Src::One(*value),
        }
    }

    /// Copies into `out`.
    #[inline(always)]
    pub(crate) fn copy_to(&self, out: &mut [T]) {
        match self {
            Src::Strip(values) => out.copy_from_slice(values),
            Src::One(value) => out.fill(*value),
        }
    }
}

#[inline(always)]
pub(crate) fn map1<A: Copy, R: Copy>(out: &mut [R], a: Src<'_, A>, f: impl Fn(A) -> R) {
    match a {
        Src::Strip(a) => out.iter_mut().zip(a).for_each(|(o, x)| *o = f(*x)),
        Src::One(x) => out.fill(f(x)),
    }
}

#[inline(always)]
fn map2<A: Copy, B: Copy, R: Copy>(out: &mut [R], a: Src<'_, A>, b: Src<'_, B>, f: impl Fn(A, B) -> R) {
    match (a, b) {
        (Src::Strip(a), Src::Strip(b)) => {
            out.iter_mut().zip(a).zip(b).for_each(|((o, x), y)| *o = f(*x, *y));
        }
        (Src::Strip(a), Src::One(y)) => out.iter_mut().zip(a).for_each(|(o, x)| *o = f(*x, y)),
        (Src::One(x), Src::Strip(b)) => out.iter_mut().zip(b).for_each(|(o, y)| *o = f(x, *y)),
        (Src::One(x), Src::One(y)) => out.fill(f(x, y)),
    }
}

#[inline(always)]
pub(crate) fn unary_float(op: UnaryOp, out: &mut [f32], a: Src<'_, f32>) {
    match op {
        UnaryOp::Neg => map1(out, a, |x| -x),
        UnaryOp::Abs => map1(out, a, f32::abs),
        UnaryOp::Sign => map1(out, a, |x| if x > 0.0 { 1.0 } else { if x < 0.0 { -1.0 } else { x } }),
        UnaryOp::Floor => map1(out, a, f32::floor),
        UnaryOp::Ceil => map1(out, a, f32::ceil),
        UnaryOp::Round => map1(out, a, f32::round_ties_even),
        UnaryOp::Sqrt => map1(out, a, f32::sqrt),
        UnaryOp::Rsqrt => map1(out, a, |x| 1.0 / x.sqrt()),
        UnaryOp::Recip => map1(out, a, |x| 1.0 / x),
        UnaryOp::Exp => map1(out, a, f32::exp),
        UnaryOp::Log => map1(out, a, f32::ln),
        UnaryOp::Sin => map1(out, a, f32::sin),
        UnaryOp::Cos => map1(out, a, f32::cos),
        UnaryOp::Tanh => map1(out, a, f32::tanh),
        UnaryOp::Erf => map1(out, a, libm::erff),
        UnaryOp::Not => a.copy_to(out),
    }
}

#[inline(always)]
pub(crate) fn unary_int(op: UnaryOp, out: &mut [i64], a: Src<'_, i64>) {
    match op {
        UnaryOp::Neg => map1(out, a, i64::wrapping_neg),
        UnaryOp::Abs => map1(out, a, i64::wrapping_abs),
        UnaryOp::Sign => map1(out, a, i64::signum),
        UnaryOp::Not => map1(out, a, |x| !x),
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
        | UnaryOp::Erf => a.copy_to(out),
    }
}

#[inline(always)]
pub(crate) fn not_bool(out: &mut [bool], a: Src<'_, bool>) {
    map1(out, a, |x| !x);
}

/// The larger of two floats; NaN if either is.
#[inline(always)]
pub(crate) fn max_float(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller of two floats; NaN if either is.
#[inline(always)]
pub(crate) fn min_float(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

#[inline(always)]
pub(crate) fn binary_float(op: BinaryOp, out: &mut [f32], a: Src<'_, f32>, b: Src<'_, f32>) {
    match op {
        BinaryOp::Add => map2(out, a, b, |x, y| x + y),
        BinaryOp::Sub => map2(out, a, b, |x, y| x - y),
        BinaryOp::Mul => map2(out, a, b, |x, y| x * y),
        BinaryOp::Div => map2(out, a, b, |x, y| x / y),
        BinaryOp::Rem => map2(out, a, b, |x, y| x % y),
        BinaryOp::Pow => map2(out, a, b, f32::powf),
        BinaryOp::Max => map2(out, a, b, max_float),
        BinaryOp::Min => map2(out, a, b, min_float),
        BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge => a.copy_to(out),
    }
}

#[inline(always)]
pub(crate) fn binary_int(op: BinaryOp, out: &mut [i64], a: Src<'_, i64>, b: Src<'_, i64>) {
    match op {
        BinaryOp::Add => map2(out, a, b, i64::wrapping_add),
        BinaryOp::Sub => map2(out, a, b, i64::wrapping_sub),
        BinaryOp::Mul => map2(out, a, b, i64::wrapping_mul),
        BinaryOp::Div => map2(out, a, b, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
        BinaryOp::Rem => map2(out, a, b, |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) }),
        BinaryOp::Max => map2(out, a, b, i64::max),
        BinaryOp::Min => map2(out, a, b, i64::min),
        BinaryOp::And => map2(out, a, b, |x, y| x & y),
        BinaryOp::Or => map2(out, a, b, |x, y| x | y),
        BinaryOp::Xor => map2(out, a, b, |x, y| x ^ y),
        BinaryOp::Pow | BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
            a.copy_to(out)
        }
    }
}

#[inline(always)]
pub(crate) fn binary_bool(op: BinaryOp, out: &mut [bool], a: Src<'_, bool>, b: Src<'_, bool>) {
    match op {
        BinaryOp::And | BinaryOp::Min => map2(out, a, b, |x, y| x & y),
        BinaryOp::Or | BinaryOp::Max => map2(out, a, b, |x, y| x | y),
        BinaryOp::Xor => map2(out, a, b, |x, y| x ^ y),
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Pow
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge => compare(op, out, a, b),
    }
}

#[inline(always)]
pub(crate) fn compare<T: Copy + PartialOrd>(op: BinaryOp, out: &mut [bool], a: Src<'_, T>, b: Src<'_, T>) {
    match op {
        BinaryOp::Eq => map2(out, a, b, |x, y| x == y),
        BinaryOp::Ne => map2(out, a, b, |x, y| x != y),
        BinaryOp::Lt => map2(out, a, b, |x, y| x < y),
        BinaryOp::Le => map2(out, a, b, |x, y| x <= y),
        BinaryOp::Gt => map2(out, a, b, |x, y| x > y),
        BinaryOp::Ge => map2(out, a, b, |x, y| x >= y),
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
        | BinaryOp::Xor => out.fill(false),
    }
}

#[inline(always)]
pub(crate) fn select<T: Copy>(out: &mut [T], c: Src<'_, bool>, a: Src<'_, T>, b: Src<'_, T>) {
    match (c, a, b) {
        (Src::One(true), a, _) => a.copy_to(out),
        (Src::One(false), _, b) => b.copy_to(out),
        (Src::Strip(c), Src::Strip(a), Src::Strip(b)) => {
            let both = a.iter().zip(b);
            out.iter_mut().zip(c).zip(both).for_each(|((o, c), (x, y))| *o = if *c { *x } else { *y });
        }
        (c, Src::One(x), b) => map2(out, c, b, |c, y| if c { x } else { y }),
        (c, a, Src::One(y)) => map2(out, c, a, |c, x| if c { x } else { y }),
    }
}

/// Float to an integer dtype: truncates and saturates, NaN gives 0.
#[inline(always)]
pub(crate) fn float_to_int(to: DType, out: &mut [i64], a: Src<'_, f32>) {
    match to {
        DType::I32 => map1(out, a, |x| i64::from(x as i32)),
        DType::U32 => map1(out, a, |x| i64::from(x as u32)),
        DType::U8 => map1(out, a, |x| i64::from(x as u8)),
        DType::I64 | DType::F32 | DType::BF16 | DType::F16 | DType::Bool => map1(out, a, |x| x as i64),
    }
}

/// Integer to an integer dtype: wraps.
#[inline(always)]
pub(crate) fn int_to_int(to: DType, out: &mut [i64], a: Src<'_, i64>) {
    match to {
        DType::I32 => map1(out, a, |x| i64::from(x as i32)),
        DType::U32 => map1(out, a, |x| i64::from(x as u32)),
        DType::U8 => map1(out, a, |x| i64::from(x as u8)),
        DType::I64 | DType::F32 | DType::BF16 | DType::F16 | DType::Bool => a.copy_to(out),
    }
}
