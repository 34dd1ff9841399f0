//! What do constants and counters hold?

use crate::tensor::Values;
use crate::view::{elems, row_major};
use enel_ir::Scalar;
use enel_types::DType;

/// One literal everywhere, or a list of all elements.
pub(crate) fn constant(literals: &[Scalar], dtype: DType, shape: &[usize]) -> Values {
    let all = literals.iter().cycle().take(elems(shape));
    if dtype.is_float() { Values::F(all.map(|x| x.as_f64()).collect()) } else { Values::I(all.map(int).collect()) }
}

fn int(literal: &Scalar) -> i64 {
    match literal {
        Scalar::I(x) => *x,
        Scalar::F(_) => unreachable!("C1 of const: a float literal fits float dtypes only"),
    }
}

/// Index along `axis`; integers wrap.
pub(crate) fn iota(axis: usize, dtype: DType, shape: &[usize]) -> Values {
    let inner = row_major(shape)[axis] as usize;
    let index = (0..elems(shape)).map(|i| i / inner % shape[axis]);
    if dtype.is_float() {
        Values::F(index.map(|i| i as f64).collect())
    } else {
        Values::I(index.map(|i| dtype.wrap(i as i64)).collect())
    }
}

/// A size as a scalar; integers wrap.
pub(crate) fn size_of(size: i64, dtype: DType) -> Values {
    if dtype.is_float() { Values::F(vec![size as f64]) } else { Values::I(vec![dtype.wrap(size)]) }
}
