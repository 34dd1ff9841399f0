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
        Src::Strip(a) => {
            // A loop and not `for_each`, whose body is a function of its own when `f` is large, outside the dispatch.
            for (o, x) in out.iter_mut().zip(a) {
                *o = f(*x);
            }
        }
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

/// `e^x`, within one and a half units in the last place of f32, without calls or branches, so that loops of it use all lanes.
///
/// **Source** Cody and Waite 1980, "Software Manual for the Elementary Functions", chapter 6, for the reduction; the
/// polynomial is Taylor's to the seventh power, whose rest is 6e-9 at half of ln 2.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: multiples of the first by the exponents of f32 are exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Beyond these the result is infinite or 0 all the same; NaN is neither and stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = whole.mul_add(-LN2_HIGH, x);
    let r = whole.mul_add(-LN2_LOW, r);
    let p = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = (r * r).mul_add(p, r) + 1.0;
    // Two factors, because the smallest results need an exponent no normal number has.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let half = n >> 1;
    p * power(half) * power(n.wrapping_sub(half))
}

/// Replaces each value by `e^(value - by)`.
pub(crate) struct ExpShifted<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) by: f32,
}

impl pulp::NullaryFnOnce for ExpShifted<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for x in self.values {
            *x = exp(*x - self.by);
        }
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
        UnaryOp::Exp => map1(out, a, exp),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_one_and_a_half_units_in_the_last_place() {
        let ulp = |x: f32| (f32::from_bits(x.to_bits() + 1) - x).max(f32::from_bits(1));
        for step in 0..400_000 {
            let x = -110.0 + step as f32 * 5e-4;
            let (got, want) = (exp(x), f64::from(x).exp());
            let near = (f64::from(got) - want).abs() <= 1.5 * f64::from(ulp(want as f32));
            assert!(near || (got.is_infinite() && want > f64::from(f32::MAX)), "exp({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn exp_of_what_is_no_number_or_has_no_end() {
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0), exp(-0.0)), (f32::INFINITY, 0.0, 1.0, 1.0));
        assert!(exp(f32::NAN).is_nan());
    }
}
