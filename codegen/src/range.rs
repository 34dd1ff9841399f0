//! Between which bounds does an integer register lie? Interval arithmetic, so that 32 bits serve where they suffice.
//!
//! Law: every value the program can compute lies inside its range; what may wrap at 64 bits has the full range.

use enel_types::{BinaryOp, DType, UnaryOp};

/// An inclusive interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Range {
    /// All of i64.
    pub(crate) const FULL: Range = Range { low: i64::MIN, high: i64::MAX };
    /// Truth values.
    pub(crate) const BIT: Range = Range { low: 0, high: 1 };
    const INT: Range = Range { low: i32::MIN as i64, high: i32::MAX as i64 };

    /// One value.
    pub(crate) const fn of(value: i64) -> Range {
        Range { low: value, high: value }
    }

    /// `0..=high`.
    pub(crate) const fn up_to(high: i64) -> Range {
        Range { low: 0, high }
    }

    /// What a stored value of this dtype can be.
    pub(crate) const fn of_dtype(dtype: DType) -> Range {
        match dtype {
            DType::I32 => Range::INT,
            DType::U32 => Range::up_to(u32::MAX as i64),
            DType::U8 => Range::up_to(u8::MAX as i64),
            DType::Bool => Range::BIT,
            DType::I64 | DType::F32 | DType::BF16 | DType::F16 => Range::FULL,
        }
    }

    /// True when `int` holds every value.
    pub(crate) const fn fits_int(self) -> bool {
        self.within(Range::INT)
    }

    /// True when `other` holds every value.
    pub(crate) const fn within(self, other: Range) -> bool {
        self.low >= other.low && self.high <= other.high
    }

    /// True when no value is negative.
    pub(crate) const fn natural(self) -> bool {
        self.low >= 0
    }

    /// True when `value` may occur.
    pub(crate) const fn has(self, value: i64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Either of two.
    pub(crate) fn union(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Largest magnitude, as a bound that fits.
    fn magnitude(self) -> i128 {
        i128::from(self.low).abs().max(i128::from(self.high).abs())
    }

    /// After a cast to an integer dtype, which wraps.
    pub(crate) fn cast(self, to: DType) -> Range {
        let target = Range::of_dtype(to);
        if self.within(target) { self } else { target }
    }

    /// After a unary operation; `None` where integers have no such operation.
    pub(crate) fn unary(op: UnaryOp, x: Range) -> Option<Range> {
        match op {
            UnaryOp::Neg => Some(exact(-i128::from(x.high), -i128::from(x.low))),
            UnaryOp::Abs => {
                let low = if x.has(0) { 0 } else { i128::from(x.low).abs().min(i128::from(x.high).abs()) };
                Some(exact(low, x.magnitude()))
            }
            UnaryOp::Sign => Some(Range { low: x.low.signum(), high: x.high.signum() }),
            UnaryOp::Not => Some(Range { low: !x.high, high: !x.low }),
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
            | UnaryOp::Erf => None,
        }
    }

    /// After a binary operation that gives an integer; `None` where integers have no such operation.
    pub(crate) fn binary(op: BinaryOp, x: Range, y: Range) -> Option<Range> {
        let wide = |v: i64| i128::from(v);
        match op {
            BinaryOp::Add => Some(exact(wide(x.low) + wide(y.low), wide(x.high) + wide(y.high))),
            BinaryOp::Sub => Some(exact(wide(x.low) - wide(y.high), wide(x.high) - wide(y.low))),
            BinaryOp::Mul => {
                let corners = [x.low, x.high].map(|a| [y.low, y.high].map(|b| wide(a) * wide(b)));
                let all = corners.concat();
                Some(exact(all.iter().copied().min()?, all.iter().copied().max()?))
            }
            BinaryOp::Div if y.low > 0 => {
                let corners = [x.low, x.high].map(|a| [y.low, y.high].map(|b| wide(a) / wide(b)));
                let all = corners.concat();
                Some(exact(all.iter().copied().min()?, all.iter().copied().max()?))
            }
            BinaryOp::Div => Some(exact(-x.magnitude(), x.magnitude())),
            BinaryOp::Rem => {
                let most = x.magnitude().min((y.magnitude() - 1).max(0));
                Some(exact(if x.low < 0 { -most } else { 0 }, if x.high > 0 { most } else { 0 }))
            }
            BinaryOp::Max => Some(Range { low: x.low.max(y.low), high: x.high.max(y.high) }),
            BinaryOp::Min => Some(Range { low: x.low.min(y.low), high: x.high.min(y.high) }),
            BinaryOp::And if x.natural() && y.natural() => Some(Range::up_to(x.high.min(y.high))),
            BinaryOp::Or | BinaryOp::Xor if x.natural() && y.natural() => {
                let bits = 64 - x.high.max(y.high).leading_zeros();
                Some(Range::up_to(((1i128 << bits) - 1) as i64))
            }
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => {
                Some(if x.fits_int() && y.fits_int() { Range::INT } else { Range::FULL })
            }
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => Some(Range::BIT),
            BinaryOp::Pow => None,
        }
    }
}

fn exact(low: i128, high: i128) -> Range {
    match (i64::try_from(low), i64::try_from(high)) {
        (Ok(low), Ok(high)) => Range { low, high },
        (Ok(_) | Err(_), _) => Range::FULL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_every_value_of_small_intervals() {
        let ops = [
            (BinaryOp::Add, (|a, b| a + b) as fn(i64, i64) -> i64),
            (BinaryOp::Sub, |a, b| a - b),
            (BinaryOp::Mul, |a, b| a * b),
            (BinaryOp::Div, |a, b| if b == 0 { 0 } else { a / b }),
            (BinaryOp::Rem, |a, b| if b == 0 { 0 } else { a % b }),
            (BinaryOp::Max, i64::max),
            (BinaryOp::Min, i64::min),
            (BinaryOp::And, |a, b| a & b),
            (BinaryOp::Or, |a, b| a | b),
            (BinaryOp::Xor, |a, b| a ^ b),
        ];
        let pairs = |low: i64, high: i64| (low..=high).flat_map(move |a| (a..=high).map(move |b| (a, b)));
        for (xl, xh) in pairs(-4, 5) {
            for (yl, yh) in pairs(-3, 4) {
                for (op, f) in ops {
                    let r = Range::binary(op, Range { low: xl, high: xh }, Range { low: yl, high: yh }).unwrap();
                    for x in xl..=xh {
                        for y in yl..=yh {
                            assert!(r.has(f(x, y)), "{op:?} {x} {y} not in {r:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_may_wrap_is_unbounded() {
        let big = Range::up_to(i64::MAX);
        assert_eq!(Range::binary(BinaryOp::Add, big, Range::of(1)), Some(Range::FULL));
        assert_eq!(Range::unary(UnaryOp::Neg, Range::FULL), Some(Range::FULL));
        assert!(!Range::binary(BinaryOp::Mul, Range::up_to(1 << 16), Range::up_to(1 << 16)).unwrap().fits_int());
    }
}
