//! Is a result near enough to its meaning? The tolerance follows from what honest rounding loses on the same data.
//!
//! **Source** the rule `|out - ref64| <= 2 |low - ref64| + small` is that of FlashAttention's tests, the bound on
//! `1 - 2 x.y / (x.x + y.y)` that of DeepGEMM's. No plain absolute tolerance: zeros would pass.

use crate::data::Data;
use crate::eval::{EvalError, Precision, Stored, evaluate};
use enel_bundle::{Access, BufferRole, Desc};
use enel_types::DType;

/// DeepGEMM's bound on how unlike two results may be.
const MAX_DIFFERENCE: f64 = 1e-5;

/// One call: a Desc, its sizes, and what its buffers hold before.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is computed.
    pub desc: Desc,
    /// A value per dynamic size.
    pub sizes: Vec<i64>,
    /// Contents in the Desc's order; of a buffer that is only written, its length counts.
    pub buffers: Vec<Data>,
}

/// How near the result has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Near {
    /// Equal bits (all NaNs are one).
    Exact,
    /// `|out - ref64| <= 2 |low - ref64| + slack * (scale of the reference)`, over the maximum of each buffer, before either
    /// is rounded to be stored; then what that rounding may move the element itself.
    Float {
        /// What an honest kernel computes in.
        low: Precision,
        /// Of the largest magnitude of the reference.
        slack: f64,
    },
    /// `|out - ref64| <= bound * |ref64|`, each element by itself.
    Relative(f64),
}

/// Sums in f32.
pub const F32: Near = Near::Float { low: Precision::Single, slack: 2e-6 };
/// Operands in bf16, sums in f32.
pub const BF16: Near = Near::Float { low: Precision::Bf16, slack: 2e-6 };

/// How much of the tolerance the worst element took: 0 is equal, 1 is the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Nearness(pub f64);

/// A result too far from its meaning.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// An element.
    #[error("buffer {buffer}, element {at}: {got}, expected {expected} within {within:e}")]
    Element {
        /// Buffer of the Desc.
        buffer: usize,
        /// Element.
        at: usize,
        /// What the device gave.
        got: f64,
        /// What it means.
        expected: f64,
        /// How far it may be.
        within: f64,
    },
    /// A whole buffer.
    #[error("buffer {buffer} differs by {difference:e} from its meaning, more than {limit:e} of its norm")]
    Whole {
        /// Buffer of the Desc.
        buffer: usize,
        /// `1 - 2 x.y / (x.x + y.y)`.
        difference: f64,
        /// The most it may be.
        limit: f64,
    },
    /// Another dtype or length.
    #[error("buffer {buffer} came back with {got} elements, not {expected}, or as another dtype")]
    Form {
        /// Buffer of the Desc.
        buffer: usize,
        /// Elements it has.
        got: usize,
        /// Elements it has to have.
        expected: usize,
    },
}

/// Why a result is not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The call has no meaning.
    #[error("the call has no meaning: {0}")]
    Eval(#[from] EvalError),
    /// It is wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// What the buffers of a case have to hold after a run.
#[derive(Clone, Debug)]
pub struct Expected {
    roles: Vec<BufferRole>,
    reference: Vec<Data>,
    low: Vec<Data>,
    near: Near,
}

impl Case {
    /// Evaluates the call, once for any number of results.
    ///
    /// # Errors
    /// [`EvalError`]: it has no meaning.
    pub fn expected(&self, near: Near) -> Result<Expected, EvalError> {
        let stored = if matches!(near, Near::Float { .. }) { Stored::Whole } else { Stored::Rounded };
        let evaluated = |precision| evaluate(&self.desc, &self.sizes, &self.buffers, (precision, stored));
        let reference = evaluated(Precision::Double)?;
        let low = evaluated(match near {
            Near::Exact | Near::Relative(_) => Precision::Single,
            Near::Float { low, .. } => low,
        })?;
        Ok(Expected { roles: self.desc.buffers.clone(), reference, low, near })
    }

    /// Compares what the buffers hold after a run with what they have to hold.
    ///
    /// # Errors
    /// [`CheckError`] of the first buffer that is not near.
    pub fn compare(&self, got: &[Data], near: Near) -> Result<Nearness, CheckError> {
        Ok(self.expected(near)?.compare(got)?)
    }
}

impl Expected {
    /// Compares a result.
    ///
    /// # Errors
    /// [`Mismatch`] of the first buffer that is not near.
    pub fn compare(&self, got: &[Data]) -> Result<Nearness, Mismatch> {
        let Expected { roles, reference, low, near } = self;
        let mut worst = Nearness::default();
        for (buffer, role) in roles.iter().enumerate() {
            if role.access == Access::Read {
                continue;
            }
            let expected = reference[buffer].len();
            let form = Mismatch::Form { buffer, got: got.get(buffer).map_or(0, Data::len), expected };
            let found = got.get(buffer).filter(|g| g.len() == expected && g.dtype() == role.dtype).ok_or(form)?;
            let near = match (found, &reference[buffer], &low[buffer]) {
                (Data::Float(dtype, got), Data::Float(_, reference), Data::Float(_, low)) => {
                    floats((buffer, *dtype), got, (reference, low), *near)?
                }
                (Data::Int(_, got), Data::Int(_, reference), Data::Int(_, low)) => {
                    integers(buffer, got, (reference, low))?
                }
                _ => return Err(Mismatch::Form { buffer, got: found.len(), expected }),
            };
            worst = if near > worst { near } else { worst };
        }
        Ok(worst)
    }
}

/// An integer follows exactly from the values it was made of: as f64 gives them, or as f32 does, where those fall on two
/// sides of a decision.
fn integers(buffer: usize, got: &[i64], (reference, low): (&[i64], &[i64])) -> Result<Nearness, Mismatch> {
    match got.iter().enumerate().find(|(at, x)| **x != reference[*at] && **x != low[*at]) {
        None => Ok(Nearness(0.0)),
        Some((at, x)) => {
            let (got, expected) = (*x as f64, reference[at] as f64);
            Err(Mismatch::Element { buffer, at, got, expected, within: 0.0 })
        }
    }
}

fn floats(
    (buffer, dtype): (usize, DType),
    got: &[f64],
    (reference, low): (&[f64], &[f64]),
    near: Near,
) -> Result<Nearness, Mismatch> {
    let target = if near == Near::Exact { low } else { reference };
    let loss = low.iter().zip(reference).map(|(x, y)| (x - y).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let scale = reference.iter().copied().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    let mut worst = 0.0;
    for (at, (&got, &expected)) in got.iter().zip(target).enumerate() {
        if got == expected || (got.is_nan() && expected.is_nan()) {
            continue;
        }
        let within = match near {
            Near::Exact => 0.0,
            Near::Float { slack, .. } => 2.0 * loss + slack * scale + roundoff(dtype) * expected.abs(),
            Near::Relative(bound) => bound * expected.abs(),
        };
        let ratio = (got - expected).abs() / within;
        // A NaN is never near.
        if ratio.is_nan() || ratio > 1.0 {
            return Err(Mismatch::Element { buffer, at, got, expected, within });
        }
        worst = f64::max(worst, ratio);
    }
    if matches!(near, Near::Float { .. }) {
        // The difference is of second order: twice the error is four times the difference.
        let limit = MAX_DIFFERENCE.max(4.0 * difference(low, reference));
        let difference = difference(got, reference);
        if difference > limit {
            return Err(Mismatch::Whole { buffer, difference, limit });
        }
    }
    Ok(Nearness(worst))
}

/// How far rounding to the nearest moves a number, relative to it, at most.
fn roundoff(dtype: DType) -> f64 {
    let digits = match dtype {
        DType::BF16 => 8,
        DType::F16 => 11,
        _ => 24,
    };
    0.5f64.powi(digits)
}

/// `1 - 2 x.y / (x.x + y.y)` over what is finite; 0 between zeros.
fn difference(x: &[f64], y: &[f64]) -> f64 {
    let (mut apart, mut norm) = (0.0, 0.0);
    for (x, y) in x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite()) {
        apart += (x - y) * (x - y);
        norm += x * x + y * y;
    }
    if norm == 0.0 { 0.0 } else { apart / norm }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: [f64; 3] = [1.0, -0.5, 0.25];

    fn near(got: &[f64]) -> Result<Nearness, Mismatch> {
        let low = REFERENCE.map(|x| x + 1e-7);
        floats((0, DType::F32), got, (&REFERENCE, &low), F32)
    }

    #[test]
    fn what_rounding_loses_is_allowed_twice_and_no_more() {
        let near_enough = near(&REFERENCE.map(|x| x + 1e-6)).unwrap();
        assert!(near_enough.0 > 0.4 && near_enough.0 < 0.5, "{near_enough:?}");
        assert!(matches!(near(&REFERENCE.map(|x| x + 2.3e-6)), Err(Mismatch::Element { at: 0, .. })));
    }

    #[test]
    fn zeros_and_nans_never_pass() {
        assert!(near(&[0.0; 3]).is_err());
        assert!(near(&[1.0, -0.5, f64::NAN]).is_err());
        assert!(near(&[1.0, -0.5, f64::INFINITY]).is_err());
    }

    #[test]
    fn a_tie_may_be_rounded_either_way_and_nothing_further() {
        // Between two bf16 numbers; sums that lose nothing say nothing of it.
        let tie = [1.0 + 2f64.powi(-8)];
        let stored = |x: f64| floats((0, DType::BF16), &[x], (&tie, &tie), BF16);
        assert!(stored(1.0).is_ok() && stored(1.0 + 2f64.powi(-7)).is_ok());
        assert!(stored(1.0 - 2f64.powi(-8)).is_err() && stored(1.0 + 2f64.powi(-6)).is_err());
    }

    #[test]
    fn exact_is_exact() {
        let low = REFERENCE;
        assert_eq!(floats((0, DType::F32), &low, (&REFERENCE, &low), Near::Exact), Ok(Nearness(0.0)));
        assert!(floats((0, DType::F32), &[1.0, -0.5, 0.25 + 1e-9], (&REFERENCE, &low), Near::Exact).is_err());
        assert!(integers(0, &[1, 3], (&[1, 2], &[1, 2])).is_err());
    }
}
