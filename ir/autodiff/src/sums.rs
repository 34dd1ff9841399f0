//! What are the derivatives of sums, products, largest elements and contractions?
//!
//! A largest (or smallest) element sends its derivative to the first place where it stands, as PyTorch's max does; a tie
//! counts once.

use crate::vjp::{Done, Vjp};
use enel_ir::{BinaryOp, BuildError, ContractSpec, DType, Dim, Graph, NodeId, ReduceOp, TensorType};

type Built = Result<NodeId, BuildError>;

/// `y`, a reduction of `shape` along `axes`, with extents of 1 where they were.
pub(crate) fn kept(g: &mut Graph, y: NodeId, shape: &[Dim], axes: &[usize]) -> Built {
    let extent = |(axis, d): (usize, &Dim)| if axes.contains(&axis) { Dim::constant(1) } else { d.clone() };
    let shape = shape.iter().enumerate().map(extent).collect();
    g.reshape(y, shape)
}

pub(crate) fn reduce(v: &mut Vjp<'_>, op: ReduceOp, axes: &[usize]) -> Done {
    let shape = v.x_ty(0).shape;
    let dy = kept(v.g, v.dy, &shape, axes)?;
    let dx = match op {
        ReduceOp::Sum => v.g.broadcast(dy, shape)?,
        ReduceOp::Prod => product(v, dy, axes)?,
        ReduceOp::Max => first(v, dy, (ReduceOp::ArgMax, axes))?,
        ReduceOp::Min => first(v, dy, (ReduceOp::ArgMin, axes))?,
        // Places are integers.
        ReduceOp::ArgMax | ReduceOp::ArgMin => return Ok(()),
    };
    v.give(0, dx)
}

/// The product of the others: y / x; with one zero only that element's, with more none.
fn product(v: &mut Vjp<'_>, dy: NodeId, axes: &[usize]) -> Built {
    let x = v.x(0);
    let (zero, one) = (v.scalar(0.0)?, v.scalar(1.0)?);
    let is_zero = v.g.binary(BinaryOp::Eq, x, zero)?;
    let zeros = v.g.cast(is_zero, DType::I32)?;
    let n_zeros = v.g.reduce(ReduceOp::Sum, zeros, axes, true)?;
    let without = v.g.select(is_zero, one, x)?;
    let product = v.g.reduce(ReduceOp::Prod, without, axes, true)?;
    let others = v.g.div(product, without)?;
    // An element counts when every other one is not zero.
    let zeros_but_it = v.g.binary(BinaryOp::Sub, n_zeros, zeros)?;
    let none = v.g.scalar_i32(0)?;
    let counts = v.g.binary(BinaryOp::Eq, zeros_but_it, none)?;
    let slope = v.g.select(counts, others, zero)?;
    v.g.mul(dy, slope)
}

/// `dy` where the first largest or smallest element stands, in the order the reduction reads its axes, else 0.
fn first(v: &mut Vjp<'_>, dy: NodeId, (arg, axes): (ReduceOp, &[usize])) -> Built {
    let x = v.x(0);
    let shape = v.x_ty(0).shape;
    // Reduced axes in their own order: they are read row by row.
    let mut axes = axes.to_vec();
    axes.sort_unstable();
    let (found, place) = match axes.as_slice() {
        [] => return Ok(dy),
        &[axis] => {
            let mut along = vec![Dim::constant(1); shape.len()];
            along[axis] = shape[axis].clone();
            let place = v.g.iota(axis, TensorType::new(DType::I32, along))?;
            (v.g.reduce(arg, x, &[axis], true)?, place)
        }
        several => {
            let others = (0..shape.len()).filter(|a| !several.contains(a));
            let perm: Vec<usize> = others.chain(several.iter().copied()).collect();
            let n_kept = shape.len() - several.len();
            let moved = v.g.transpose(x, &perm)?;
            let mut flat: Vec<Dim> = perm[..n_kept].iter().map(|&a| shape[a].clone()).collect();
            let count = Dim::product(several.iter().map(|&a| &shape[a]));
            flat.push(count.clone());
            let flat = v.g.reshape(moved, flat)?;
            let found = v.g.reduce(arg, flat, &[n_kept], false)?;
            let found = kept(v.g, found, &shape, several)?;
            let places = v.g.iota(0, TensorType::new(DType::I32, vec![count]))?;
            let mut along = vec![Dim::constant(1); shape.len()];
            for &axis in several {
                along[axis] = shape[axis].clone();
            }
            (found, v.g.reshape(places, along)?)
        }
    };
    let is_first = v.g.binary(BinaryOp::Eq, found, place)?;
    let zero = v.scalar(0.0)?;
    v.g.select(is_first, dy, zero)
}

/// Each operand's derivative is the result's, contracted with the other operand over the letters the operand lacks.
pub(crate) fn contract(v: &mut Vjp<'_>, spec: &ContractSpec) -> Done {
    let text = |letters: &[char]| letters.iter().collect::<String>();
    let (lhs, rhs, out) = (text(spec.lhs()), text(spec.rhs()), text(spec.out()));
    if v.wants(0) {
        let dx = v.g.contract(&format!("{out},{rhs}->{lhs}"), v.dy, v.x(1))?;
        v.give(0, dx)?;
    }
    if v.wants(1) {
        let dy = v.g.contract(&format!("{out},{lhs}->{rhs}"), v.dy, v.x(0))?;
        v.give(1, dy)?;
    }
    Ok(())
}
