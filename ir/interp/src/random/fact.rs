//! What is known of every element of a node? Range, exactness, and how far f32 arithmetic may stray.

use enel_types::DType;

/// Bounds that hold for every element, for every input [`super::random_inputs`] draws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact {
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    /// `Some(s)`: all values are multiples of 2^-s and computed without rounding.
    pub(crate) grid: Option<u32>,
    /// Largest error of f32 arithmetic, first order, absolute, in units of 2^-24.
    pub(crate) err: f64,
}

/// Largest magnitude of a float node.
pub(crate) const MAX_MAG: f64 = 1e4;
/// Largest error of a node: 2000 * 2^-24 is 1.2e-4.
pub(crate) const MAX_ERR: f64 = 2000.0;

impl Fact {
    /// Multiples of 2^-s in a range.
    pub(crate) fn exact(lo: f64, hi: f64, s: u32) -> Fact {
        Fact { lo, hi, grid: Some(s), err: 0.0 }
    }

    /// Any numbers in a range, with the error the operands bring; the op's own rounding is added by [`Fact::settle`].
    pub(crate) fn smooth(lo: f64, hi: f64, err: f64) -> Fact {
        Fact { lo, hi, grid: None, err }
    }

    pub(crate) fn mag(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    pub(crate) fn is_exact(self) -> bool {
        self.grid.is_some()
    }

    /// True for values at least `gap` above 0.
    pub(crate) fn above(self, gap: f64) -> bool {
        self.lo >= gap
    }

    /// Everything a dtype holds; floats are never asked.
    pub(crate) fn full(dtype: DType) -> Fact {
        let (lo, hi) = match dtype {
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::U32 => (0.0, f64::from(u32::MAX)),
            DType::U8 => (0.0, 255.0),
            DType::Bool => (0.0, 1.0),
            DType::I64 | DType::F32 | DType::BF16 | DType::F16 => (i64::MIN as f64, i64::MAX as f64),
        };
        Fact::exact(lo, hi, 0)
    }

    /// Either this or the other.
    pub(crate) fn or(self, other: Fact) -> Fact {
        Fact {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
            grid: self.grid.zip(other.grid).map(|(a, b)| a.max(b)),
            err: self.err.max(other.err),
        }
    }

    pub(crate) fn plus(self, other: Fact) -> Fact {
        let grid = self.grid.zip(other.grid).map(|(a, b)| a.max(b));
        Fact { lo: self.lo + other.lo, hi: self.hi + other.hi, grid, err: self.err + other.err }
    }

    pub(crate) fn negated(self) -> Fact {
        Fact { lo: -self.hi, hi: -self.lo, ..self }
    }

    pub(crate) fn times(self, other: Fact) -> Fact {
        let (lo, hi) = extremes([self.lo * other.lo, self.lo * other.hi, self.hi * other.lo, self.hi * other.hi]);
        let grid = self.grid.zip(other.grid).map(|(a, b)| a + b);
        Fact { lo, hi, grid, err: self.err * other.mag() + other.err * self.mag() }
    }

    /// The sum of `n` values like this; each partial sum rounds once.
    pub(crate) fn sum_of(self, n: f64) -> Fact {
        let rounding = if self.is_exact() { 0.0 } else { self.mag() * n };
        let spread = |x: f64| if n > 1.0 { x * n } else { x };
        Fact {
            lo: spread(self.lo).min(self.lo),
            hi: spread(self.hi).max(self.hi),
            grid: self.grid,
            err: self.err * n + rounding,
        }
    }

    /// The fact after the result is kept in `dtype`: integers wrap, floats round unless the value is exact in it.
    pub(crate) fn settle(self, dtype: DType) -> Fact {
        if !dtype.is_float() {
            let full = Fact::full(dtype);
            let inside = self.lo >= full.lo && self.hi <= full.hi;
            return if inside { Fact::exact(self.lo, self.hi, 0) } else { full };
        }
        // Bits of the significand, less a few for f32 so that short sums stay exact too.
        let limit = match dtype {
            DType::BF16 => 256.0,
            DType::F16 => 2048.0,
            DType::F32 | DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => 1_048_576.0,
        };
        match self.grid {
            Some(s) if s <= 12 && self.mag() * f64::from(1u32 << s) <= limit => Fact { err: 0.0, ..self },
            Some(_) | None => Fact { grid: None, err: self.err + self.mag(), ..self },
        }
    }
}

/// Smallest and largest of four corners.
pub(crate) fn extremes(corners: [f64; 4]) -> (f64, f64) {
    corners.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &c| (lo.min(c), hi.max(c)))
}
