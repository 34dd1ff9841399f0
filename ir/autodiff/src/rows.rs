//! What are the derivatives of gathers and scatters? Rows added where they were read, and read where they were written.
//!
//! Law: rows with one index are added in the order of their places, so sums have one order on every device.

use crate::splat;
use crate::vjp::{Done, Vjp};
use enel_ir::{BinaryOp, BuildError, DType, Dim, Graph, NodeId, Op, Scalar, ScatterMode, TensorType};

type Built = Result<NodeId, BuildError>;

/// dx = 0 with the rows of dy added at the indices that were read.
pub(crate) fn gather(v: &mut Vjp<'_>, (axis, batch): (usize, usize)) -> Done {
    let ty = v.x_ty(0);
    let index = inside(v.g, v.x(1), &ty.shape[axis])?;
    let zeros = splat(v.g, 0.0, ty)?;
    let dx = v.g.push(Op::Scatter { axis, batch, mode: ScatterMode::Add }, &[zeros, index, v.dy])?;
    v.give(0, dx)
}

/// Gather clamps indices, scatter drops rows outside: the clamped index. Index ops count in their operand already.
fn inside(g: &mut Graph, index: NodeId, extent: &Dim) -> Built {
    let in_range = match &g.node(index).op {
        Op::Knn { .. } => g.ty(g.node(index).operands[1]).shape[1] == *extent,
        Op::Fps { .. } => g.ty(g.node(index).operands[0]).shape[1] == *extent,
        _ => false,
    };
    if in_range {
        return Ok(index);
    }
    let dtype = g.ty(index).dtype;
    let last = g.push(Op::SizeOf { size: extent.sub(&Dim::constant(1)), dtype }, &[])?;
    let zero = g.splat(Scalar::I(0), TensorType::new(dtype, vec![]))?;
    let index = g.binary(BinaryOp::Min, index, last)?;
    g.binary(BinaryOp::Max, index, zero)
}

/// A window is a gather of `n * stride + i * dilation` along its axis.
pub(crate) fn window(v: &mut Vjp<'_>, axis: usize, [size, stride, dilation]: [i64; 3]) -> Done {
    let n = v.g.ty(v.y).shape[axis].clone();
    let column = TensorType::new(DType::I32, vec![n, Dim::constant(1)]);
    let row = TensorType::new(DType::I32, vec![Dim::constant(size)]);
    let first = v.g.iota(0, column)?;
    let offset = v.g.iota(0, row)?;
    let times = |g: &mut Graph, x: NodeId, factor: i64| -> Built {
        let factor = g.splat(Scalar::I(factor), TensorType::new(DType::I32, vec![]))?;
        g.binary(BinaryOp::Mul, x, factor)
    };
    let first = times(v.g, first, stride)?;
    let offset = times(v.g, offset, dilation)?;
    let index = v.g.binary(BinaryOp::Add, first, offset)?;
    let ty = v.x_ty(0);
    let zeros = splat(v.g, 0.0, ty)?;
    let dx = v.g.push(Op::Scatter { axis, batch: 0, mode: ScatterMode::Add }, &[zeros, index, v.dy])?;
    v.give(0, dx)
}

/// `add`: both get dy, rows where they were added. `set`: the base gets 0 where rows were set, a row gets dy only if it
/// is the one that stayed.
pub(crate) fn scatter(v: &mut Vjp<'_>, (axis, batch): (usize, usize), mode: ScatterMode) -> Done {
    let (index, rows_ty) = (v.x(1), v.x_ty(2));
    if v.wants(0) {
        let base = match mode {
            ScatterMode::Add => v.dy,
            ScatterMode::Set => {
                let zeros = splat(v.g, 0.0, rows_ty.clone())?;
                v.g.push(Op::Scatter { axis, batch, mode }, &[v.dy, index, zeros])?
            }
        };
        v.give(0, base)?;
    }
    if !v.wants(2) {
        return Ok(());
    }
    let extent = v.x_ty(0).shape[axis].clone();
    let stayed = match mode {
        ScatterMode::Add => in_range(v.g, index, &extent)?,
        ScatterMode::Set => winners(v.g, index, (&extent, batch))?,
    };
    // The index axes of the rows stand at `axis`, after the shared ones.
    let n_after = rows_ty.rank() - axis - (v.g.ty(index).rank() - batch);
    let mut shape = v.g.ty(stayed).shape.clone();
    shape.splice(batch..batch, vec![Dim::constant(1); axis - batch]);
    shape.extend(vec![Dim::constant(1); n_after]);
    let stayed = v.g.reshape(stayed, shape)?;
    let read = v.g.gather(v.dy, index, axis, batch)?;
    let zero = v.scalar(0.0)?;
    let rows = v.g.select(stayed, read, zero)?;
    v.give(2, rows)
}

/// True for indices of `0..extent`.
fn in_range(g: &mut Graph, index: NodeId, extent: &Dim) -> Built {
    let dtype = g.ty(index).dtype;
    let zero = g.splat(Scalar::I(0), TensorType::new(dtype, vec![]))?;
    let extent = g.push(Op::SizeOf { size: extent.clone(), dtype }, &[])?;
    let above = g.binary(BinaryOp::Ge, index, zero)?;
    let below = g.binary(BinaryOp::Lt, index, extent)?;
    g.binary(BinaryOp::And, above, below)
}

/// True for the last index of each value: its place is what stays when all places are written where the rows go.
fn winners(g: &mut Graph, index: NodeId, (extent, batch): (&Dim, usize)) -> Built {
    let shape = g.ty(index).shape.clone();
    let places = TensorType::new(DType::I32, vec![Dim::product(&shape)]);
    let place = g.iota(0, places)?;
    let place = g.reshape(place, shape.clone())?;
    let mut table = shape[..batch].to_vec();
    table.push(extent.clone());
    let nobody = g.splat(Scalar::I(-1), TensorType::new(DType::I32, table))?;
    let written = Op::Scatter { axis: batch, batch, mode: ScatterMode::Set };
    let written = g.push(written, &[nobody, index, place])?;
    let found = g.gather(written, index, batch, batch)?;
    // A gather clamps: an index outside finds the place of another row, never its own.
    g.binary(BinaryOp::Eq, found, place)
}
