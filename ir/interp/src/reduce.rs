//! What do elements along axes combine to? Float sums and products are f64, integers are exact modulo 2^64.

use crate::pointwise::larger;
use crate::tensor::{Tensor, Values};
use crate::view::{View, elems};
use enel_types::ReduceOp;

/// Combines along `axes`, in row-major order of the axes as they stand in `x`.
pub(crate) fn reduce(op: ReduceOp, x: &Tensor, axes: &[usize]) -> Values {
    let kept = (0..x.shape.len()).filter(|a| !axes.contains(a));
    let summed = (0..x.shape.len()).filter(|a| axes.contains(a));
    let order: Vec<usize> = kept.chain(summed).collect();
    let row = elems(&axes.iter().map(|&a| x.shape[a]).collect::<Vec<_>>());
    match x.values.read(&View::permuted(&x.shape, &order)) {
        Values::F(list) => floats(op, list.chunks_exact(row)),
        Values::I(list) => Values::I(list.chunks_exact(row).map(|r| ints(op, r, x)).collect()),
    }
}

fn floats<'a>(op: ReduceOp, rows: impl Iterator<Item = &'a [f64]>) -> Values {
    let all = |f: fn(&[f64]) -> f64, rows: &mut dyn Iterator<Item = &'a [f64]>| Values::F(rows.map(f).collect());
    let mut rows = rows;
    match op {
        ReduceOp::Sum => all(|r| r.iter().sum(), &mut rows),
        ReduceOp::Prod => all(|r| r.iter().product(), &mut rows),
        ReduceOp::Max => all(|r| r.iter().copied().fold(f64::NEG_INFINITY, larger), &mut rows),
        ReduceOp::Min => all(|r| -r.iter().map(|x| -x).fold(f64::NEG_INFINITY, larger), &mut rows),
        ReduceOp::ArgMax => Values::I(rows.map(|r| first(r, |new, best| new > best)).collect()),
        ReduceOp::ArgMin => Values::I(rows.map(|r| first(r, |new, best| new < best)).collect()),
    }
}

/// Index of the best element, the lowest on ties; the first NaN beats every number.
fn first(row: &[f64], better: fn(f64, f64) -> bool) -> i64 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if !row[best].is_nan() && (x.is_nan() || better(x, row[best])) {
            best = i;
        }
    }
    best as i64
}

fn ints(op: ReduceOp, row: &[i64], x: &Tensor) -> i64 {
    // A row has at least one element: extents of a verified graph are at least 1.
    let largest = || row.iter().copied().fold(i64::MIN, i64::max);
    let smallest = || row.iter().copied().fold(i64::MAX, i64::min);
    let place = |value: i64| row.iter().position(|&v| v == value).map_or(0, |i| i as i64);
    match op {
        ReduceOp::Sum => x.dtype.wrap(row.iter().fold(0, |a, &b| a.wrapping_add(b))),
        ReduceOp::Prod => x.dtype.wrap(row.iter().fold(1, |a, &b| a.wrapping_mul(b))),
        ReduceOp::Max => largest(),
        ReduceOp::Min => smallest(),
        ReduceOp::ArgMax => place(largest()),
        ReduceOp::ArgMin => place(smallest()),
    }
}
