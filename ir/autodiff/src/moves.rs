//! What are the derivatives of moves? The move back; elements that nothing read get 0.

use crate::splat;
use crate::vjp::{Done, Vjp};
use enel_ir::{BuildError, Dim, Graph, NodeId, Op, Scalar, SliceSpec, TensorType};

pub(crate) fn reshape(v: &mut Vjp<'_>) -> Done {
    let shape = v.x_ty(0).shape;
    let dx = v.g.reshape(v.dy, shape)?;
    v.give(0, dx)
}

pub(crate) fn transpose(v: &mut Vjp<'_>, perm: &[usize]) -> Done {
    let mut inverse = vec![0; perm.len()];
    for (to, &from) in perm.iter().enumerate() {
        inverse[from] = to;
    }
    let dx = v.g.transpose(v.dy, &inverse)?;
    v.give(0, dx)
}

pub(crate) fn reverse(v: &mut Vjp<'_>, axes: &[usize]) -> Done {
    let dx = v.g.push(Op::Reverse { axes: axes.to_vec() }, &[v.dy])?;
    v.give(0, dx)
}

pub(crate) fn concat(v: &mut Vjp<'_>, axis: usize) -> Done {
    let mut start = Dim::constant(0);
    for slot in 0..v.arity() {
        let size = v.x_ty(slot).shape[axis].clone();
        if v.wants(slot) {
            let part = v.g.narrow(v.dy, axis, start.clone(), size.clone())?;
            v.give(slot, part)?;
        }
        start = start.add(&size);
    }
    Ok(())
}

pub(crate) fn pad(v: &mut Vjp<'_>, low: &[Dim]) -> Done {
    let shape = v.x_ty(0).shape;
    let inside = low.iter().zip(shape).map(|(start, size)| SliceSpec { start: start.clone(), size, stride: 1 });
    let inside: Vec<SliceSpec> = inside.collect();
    let dx = v.g.slice(v.dy, &inside)?;
    v.give(0, dx)
}

/// Zeros between the elements along strided axes, then around all.
pub(crate) fn slice(v: &mut Vjp<'_>, (starts, sizes, strides): (&[Dim], &[Dim], &[i64])) -> Done {
    let mut dx = v.dy;
    for (axis, &stride) in strides.iter().enumerate().filter(|(_, stride)| **stride > 1) {
        dx = spread(v.g, dx, (axis, stride))?;
    }
    let spans = sizes.iter().zip(strides).map(|(n, &s)| n.sub(&Dim::constant(1)).mul(&Dim::constant(s)));
    let ends = starts.iter().zip(spans).map(|(start, span)| start.add(&span).add(&Dim::constant(1)));
    let high = v.x_ty(0).shape.iter().zip(ends).map(|(extent, end)| extent.sub(&end)).collect();
    let dx = v.g.push(Op::Pad { low: starts.to_vec(), high, value: Scalar::F(0.0) }, &[dx])?;
    v.give(0, dx)
}

/// `[.., n, ..]` as `[.., (n - 1) stride + 1, ..]` with zeros between the elements.
fn spread(g: &mut Graph, x: NodeId, (axis, stride): (usize, i64)) -> Result<NodeId, BuildError> {
    let TensorType { dtype, shape } = g.ty(x).clone();
    let n = shape[axis].clone();
    let mut column = shape.clone();
    column.insert(axis + 1, Dim::constant(1));
    let x = g.reshape(x, column.clone())?;
    column[axis + 1] = Dim::constant(stride - 1);
    let zeros = splat(g, 0.0, TensorType::new(dtype, column))?;
    let rows = g.concat(&[x, zeros], axis + 1)?;
    let mut flat = shape;
    flat[axis] = n.mul(&Dim::constant(stride));
    let flat = g.reshape(rows, flat)?;
    let span = n.sub(&Dim::constant(1)).mul(&Dim::constant(stride)).add(&Dim::constant(1));
    g.narrow(flat, axis, Dim::constant(0), span)
}
