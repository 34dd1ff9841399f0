//! Which operand element stands where after a move? Views for all but concat, pad and gather.

use crate::tensor::{Tensor, Values};
use crate::view::{View, elems, row_major};
use enel_ir::Scalar;

/// Result axis i is operand axis `perm[i]`.
pub(crate) fn transpose(x: &Tensor, perm: &[usize]) -> Values {
    x.values.read(&View::permuted(&x.shape, perm))
}

/// Repeats along new leading axes and axes of extent 1.
pub(crate) fn broadcast(x: &Tensor, shape: &[usize]) -> Values {
    x.values.read(&View::broadcast(&x.shape, shape))
}

/// Elements start + i * stride of every axis.
pub(crate) fn slice(x: &Tensor, starts: &[usize], strides: &[i64], shape: &[usize]) -> Values {
    let dense = row_major(&x.shape);
    let base = starts.iter().zip(&dense).map(|(&s, &d)| s * d as usize).sum();
    let strides = strides.iter().zip(&dense).map(|(&s, &d)| s as isize * d).collect();
    x.values.read(&View { shape: shape.to_vec(), base, strides })
}

/// Counts `axes` down.
pub(crate) fn reverse(x: &Tensor, axes: &[usize]) -> Values {
    let mut strides = row_major(&x.shape);
    let mut base = 0;
    for &axis in axes {
        base += (x.shape[axis] - 1) * strides[axis] as usize;
        strides[axis] = -strides[axis];
    }
    x.values.read(&View { shape: x.shape.clone(), base, strides })
}

/// Sliding windows: element (n, i) along the axis is n * stride + i * dilation.
pub(crate) fn window(x: &Tensor, axis: usize, [stride, dilation]: [i64; 2], shape: &[usize]) -> Values {
    let mut strides = row_major(&x.shape);
    let step = strides[axis];
    strides[axis] = step * stride as isize;
    strides.insert(axis + 1, step * dilation as isize);
    x.values.read(&View { shape: shape.to_vec(), base: 0, strides })
}

/// Operands one after the other along `axis`.
pub(crate) fn concat(operands: &[&Tensor], axis: usize, shape: &[usize]) -> Values {
    let float = operands[0].dtype.is_float();
    if float {
        Values::F(concat_rows(operands, axis, shape, Tensor::floats))
    } else {
        Values::I(concat_rows(operands, axis, shape, Tensor::ints))
    }
}

fn concat_rows<T: Copy>(operands: &[&Tensor], axis: usize, shape: &[usize], of: fn(&Tensor) -> &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(elems(shape));
    for outer in 0..elems(&shape[..axis]) {
        for x in operands {
            let row = elems(&x.shape[axis..]);
            out.extend_from_slice(&of(x)[outer * row..(outer + 1) * row]);
        }
    }
    out
}

/// Surrounds with `value`, `low[i]` elements before axis i.
pub(crate) fn pad(x: &Tensor, low: &[usize], value: Scalar, shape: &[usize]) -> Values {
    let strides = row_major(shape);
    let base = low.iter().zip(&strides).map(|(&l, &s)| l * s as usize).sum();
    let inner = View { shape: x.shape.clone(), base, strides };
    match (&x.values, value) {
        (Values::F(list), value) => Values::F(fill(&inner, list, value.as_f64(), shape)),
        (Values::I(list), Scalar::I(value)) => Values::I(fill(&inner, list, value, shape)),
        (Values::I(_), Scalar::F(_)) => unreachable!("C2 of pad: the value fits the dtype"),
    }
}

fn fill<T: Copy>(inner: &View, list: &[T], value: T, shape: &[usize]) -> Vec<T> {
    let mut out = vec![value; elems(shape)];
    for (&x, at) in list.iter().zip(inner.offsets()) {
        out[at] = x;
    }
    out
}

/// The four extents a gather or scatter walks: result `[batch, before, rows, after]`, source axis of `extent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) batch: usize,
    pub(crate) before: usize,
    pub(crate) extent: usize,
    pub(crate) rows: usize,
    pub(crate) after: usize,
}

impl Rows {
    /// Extents for rows of a tensor of shape `x` chosen by an index of shape `index`.
    pub(crate) fn new(x: &[usize], index: &[usize], axis: usize, batch: usize) -> Rows {
        Rows {
            batch: elems(&x[..batch]),
            before: elems(&x[batch..axis]),
            extent: x[axis],
            rows: elems(&index[batch..]),
            after: elems(&x[axis + 1..]),
        }
    }

    /// Calls `f(source row, index position, result row)`, rows counted in units of `after` elements; the source row is
    /// that of index 0, and result rows come in order.
    pub(crate) fn for_each(self, mut f: impl FnMut(usize, usize, usize)) {
        let mut out = 0;
        for b in 0..self.batch {
            for p in 0..self.before {
                for i in 0..self.rows {
                    f((b * self.before + p) * self.extent, b * self.rows + i, out);
                    out += 1;
                }
            }
        }
    }
}

/// Rows of `x` along `axis` at `index`, clamped into the axis.
pub(crate) fn gather(x: &Tensor, index: &Tensor, axis: usize, batch: usize) -> Values {
    let rows = Rows::new(&x.shape, &index.shape, axis, batch);
    match &x.values {
        Values::F(list) => Values::F(gather_rows(list, index.ints(), rows)),
        Values::I(list) => Values::I(gather_rows(list, index.ints(), rows)),
    }
}

fn gather_rows<T: Copy>(list: &[T], index: &[i64], rows: Rows) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.batch * rows.before * rows.rows * rows.after);
    rows.for_each(|first, at, _| {
        let row = first + index[at].clamp(0, rows.extent as i64 - 1) as usize;
        out.extend_from_slice(&list[row * rows.after..(row + 1) * rows.after]);
    });
    out
}
