//! What does writing rows into a copy give? Rows in order, so the last one wins and sums have one order.

use crate::moves::Rows;
use crate::tensor::{Tensor, Values};
use enel_ir::ScatterMode;

/// Axis, batch and mode of a scatter.
pub(crate) type ScatterAttrs = (usize, usize, ScatterMode);

/// `base` with `rows` written or added at `index`; rows outside the axis are dropped.
pub(crate) fn scatter(base: &Tensor, index: &Tensor, rows: &Tensor, (axis, batch, mode): ScatterAttrs) -> Values {
    let extents = Rows::new(&base.shape, &index.shape, axis, batch);
    let dtype = base.dtype;
    match &base.values {
        Values::F(list) => {
            let mut out = list.clone();
            write_rows(&mut out, index.ints(), rows.floats(), extents, |old, new| match mode {
                ScatterMode::Set => new,
                ScatterMode::Add => old + new,
            });
            Values::F(out)
        }
        Values::I(list) => {
            let mut out = list.clone();
            write_rows(&mut out, index.ints(), rows.ints(), extents, |old, new| match mode {
                ScatterMode::Set => new,
                ScatterMode::Add => dtype.wrap(old.wrapping_add(new)),
            });
            Values::I(out)
        }
    }
}

fn write_rows<T: Copy>(out: &mut [T], index: &[i64], rows: &[T], extents: Rows, combine: impl Fn(T, T) -> T) {
    let n = extents.after;
    extents.for_each(|first, at, row| {
        let inside = usize::try_from(index[at]).ok().filter(|&i| i < extents.extent);
        let Some(i) = inside else { return };
        let target = &mut out[(first + i) * n..(first + i + 1) * n];
        for (old, &new) in target.iter_mut().zip(&rows[row * n..(row + 1) * n]) {
            *old = combine(*old, new);
        }
    });
}
