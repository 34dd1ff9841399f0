//! What is each term of the loss? Builders over point tokens: nearest points, errors, heads, contrast.
//!
//! Law: every term is a mean over all it compares, so it does not grow with the batch; all sums are f32.

use crate::scope::{ModelError, Scope, dim};
use enel_ir::{BuildError, Composite, DType, Dim, Graph, NodeId, Op, ReduceOp, Scalar, TensorType, UnaryOp};

type Made = Result<NodeId, ModelError>;
type Built = Result<NodeId, BuildError>;

/// The nearest point of another set.
#[derive(Clone, Copy, Debug)]
pub struct Nearest {
    /// `i32[B, N]`: which one; chosen by exact geometry, ties to the lowest index.
    pub index: NodeId,
    /// `f32[B, N]`: squared distance, through which derivatives pass to both points.
    pub distance: NodeId,
}

/// For each of `x: f32[B, N, 3]` the nearest of `y: f32[B, M, 3]`.
///
/// # Errors
/// [`BuildError`] when the operands are no such sets.
pub fn nearest(graph: &mut Graph, x: NodeId, y: NodeId) -> Result<Nearest, BuildError> {
    let index = graph.push(Op::Knn { k: dim(1) }, &[x, y])?;
    let list = graph.ty(index).shape[..2].to_vec();
    let index = graph.reshape(index, list)?;
    let found = graph.gather(y, index, 1, 1)?;
    let off = graph.sub(x, found)?;
    let squares = graph.mul(off, off)?;
    let distance = graph.reduce(ReduceOp::Sum, squares, &[2], false)?;
    Ok(Nearest { index, distance })
}

/// l2-Chamfer of sets `f32[B, N, 3]` and `f32[B, M, 3]`: the mean squared distance to the nearest point, both ways.
///
/// **Source** Fan, Su and Guibas 2017, arXiv:1612.00603; means over points as in the extension the released code uses.
///
/// # Errors
/// [`BuildError`] when the operands are no such sets.
pub fn chamfer(graph: &mut Graph, x: NodeId, y: NodeId) -> Built {
    let to_y = nearest(graph, x, y)?;
    let to_x = nearest(graph, y, x)?;
    let [there, back] = [mean(graph, to_y.distance)?, mean(graph, to_x.distance)?];
    graph.add(there, back)
}

/// Mean over everything.
pub(super) fn mean(graph: &mut Graph, x: NodeId) -> Built {
    let x = graph.cast(x, DType::F32)?;
    let axes = (0..graph.ty(x).rank()).collect();
    graph.composite(Composite::Mean { axes, keep: false }, &[x])
}

/// Mean squared difference over everything.
pub(super) fn squared_error(graph: &mut Graph, x: NodeId, y: NodeId) -> Built {
    let [x, y] = [graph.cast(x, DType::F32)?, graph.cast(y, DType::F32)?];
    let off = graph.sub(x, y)?;
    let squares = graph.mul(off, off)?;
    mean(graph, squares)
}

/// Linear layers with GELU between them, named by their places in the released sequence: `name.0`, `name.2`, ...
pub(super) fn head(scope: &mut Scope, x: NodeId, name: &str, widths: &[usize]) -> Made {
    let mut x = x;
    for (i, pair) in widths.windows(2).enumerate() {
        if i > 0 {
            x = scope.gelu(x)?;
        }
        let layer = format!("{name}.{}", 2 * i);
        let matrix = scope.weight(&format!("{layer}.weight"), &[pair[1], pair[0]])?;
        x = scope.matmul(x, matrix)?;
        x = scope.add_bias(x, &layer, pair[1])?;
    }
    Ok(x)
}

/// Added to squared lengths before they divide, so that a vector of zeros has a direction of zeros.
const LENGTH_EPS: f64 = 1e-12;

/// Cross-entropy of similarities between views `[2 B, C]`: row `i` of one half belongs to row `i` of the other.
///
/// Directions are compared, over `temperature`; every row of the first half has all rows of the second to choose from.
/// **Source** arXiv 2502.09620 v4, equation 3; NCE loss over logits as in PointContrast, arXiv 2007.10985.
pub(super) fn contrast(
    graph: &mut Graph,
    tokens: NodeId,
    (clouds, temperature): (&Dim, f64),
) -> Result<NodeId, BuildError> {
    let tokens = graph.cast(tokens, DType::F32)?;
    let pooled = graph.composite(Composite::Mean { axes: vec![1], keep: false }, &[tokens])?;
    let squares = graph.mul(pooled, pooled)?;
    let length = graph.reduce(ReduceOp::Sum, squares, &[1], true)?;
    let eps = graph.scalar(LENGTH_EPS)?;
    let length = graph.add(length, eps)?;
    let scale = graph.unary(UnaryOp::Rsqrt, length)?;
    let unit = graph.mul(pooled, scale)?;
    let first = graph.narrow(unit, 0, dim(0), clouds.clone())?;
    let second = graph.narrow(unit, 0, clouds.clone(), clouds.clone())?;
    let scores = graph.contract("ac,bc->ab", first, second)?;
    let factor = graph.scalar(1.0 / temperature)?;
    let scores = graph.mul(scores, factor)?;
    let own = graph.iota(0, TensorType::new(DType::I32, vec![clouds.clone()]))?;
    graph.composite(Composite::CrossEntropy { ignore: i64::from(crate::names::IGNORE) }, &[scores, own])
}

/// `x * factor`.
pub(super) fn scaled(graph: &mut Graph, x: NodeId, factor: f64) -> Built {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = graph.splat(Scalar::F(factor), TensorType::new(DType::F32, vec![]))?;
    graph.mul(x, factor)
}
