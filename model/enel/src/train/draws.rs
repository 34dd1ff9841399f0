//! Which numbers round the values of a step? Few random bits, added so that any two values have independent sums.
//!
//! Law: a value's draw is a sum, modulo 1, of three: one for each digit of its place to base 256. Places that differ have
//! a digit that differs, and its numbers make their draws independent of each other: what is rounded by them adds up with
//! the mean and the variance of draws of their own, at a thousandth of the work.
//! **Source** Carter and Wegman 1979, Universal Classes of Hash Functions, for pairs being all that variances ask for.

use enel_ir::{BinaryOp, BuildError, Composite, DType, Dim, Graph, NodeId, Scalar, TensorType};

type Built = Result<NodeId, BuildError>;

/// Numbers of the last two digits; the first has as many as there are places.
pub(super) const BASE: i64 = 256;

/// Draws for tensors that come one after the other, each from a place whose last digit is 0.
pub(super) struct Draws {
    /// `u32[rows, 1]`: sums of the first two digits.
    rows: NodeId,
    /// `u32[BASE]`: the last digit.
    columns: NodeId,
    n_taken: i64,
}

/// Rows of `BASE` places that `n_elems` values take.
pub(super) const fn n_rows(n_elems: i64) -> i64 {
    (n_elems + BASE - 1) / BASE
}

impl Draws {
    /// Draws of so many rows by the seed and the step, `f32[]`.
    pub(super) fn new(g: &mut Graph, (seed, step): (u64, NodeId), rows: i64) -> Result<Draws, BuildError> {
        let first = n_rows(rows);
        let seed = g.splat(Scalar::I(seed as i64), TensorType::new(DType::I64, vec![]))?;
        let step = g.cast(step, DType::I64)?;
        let shape = vec![Dim::constant(first + 2 * BASE)];
        let bits = g.composite(Composite::RandomBits { stream: 0, shape }, &[seed, step])?;
        let mut digit = |from: i64, n: i64| g.narrow(bits, 0, Dim::constant(from), Dim::constant(n));
        let (high, low, columns) = (digit(0, first)?, digit(first, BASE)?, digit(first + BASE, BASE)?);
        let high = g.reshape(high, vec![Dim::constant(first), Dim::constant(1)])?;
        let sums = g.add(high, low)?;
        let rows = g.reshape(sums, vec![Dim::constant(first * BASE), Dim::constant(1)])?;
        Ok(Draws { rows, columns, n_taken: 0 })
    }

    /// The draws of the next tensor, of constant `shape`: multiples of 2^-16 from 0 up and below 1.
    pub(super) fn take(&mut self, g: &mut Graph, shape: &[Dim]) -> Built {
        let n_elems = Dim::product(shape);
        let fixed = || BuildError::Spec("a weight of no fixed size".to_owned());
        let n_rows = n_rows(n_elems.as_const().ok_or_else(fixed)?);
        let rows = g.narrow(self.rows, 0, Dim::constant(self.n_taken), Dim::constant(n_rows))?;
        self.n_taken += n_rows;
        let bits = g.add(rows, self.columns)?;
        let bits = g.reshape(bits, vec![Dim::constant(n_rows * BASE)])?;
        let bits = g.narrow(bits, 0, Dim::constant(0), n_elems)?;
        let bits = g.reshape(bits, shape.to_vec())?;
        let low_half = g.splat(Scalar::I(1 << 16), TensorType::new(DType::U32, vec![]))?;
        let high_half = g.binary(BinaryOp::Div, bits, low_half)?;
        let whole = g.cast(high_half, DType::F32)?;
        let unit = g.scalar(1.0 / f64::from(1 << 16))?;
        g.mul(whole, unit)
    }
}
