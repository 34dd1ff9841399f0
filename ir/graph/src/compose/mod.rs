//! What does a composite mean? Its graph of primitives: what the interpreter runs and what unclaimed composites become.

mod attention;
mod entropy;
mod philox;

pub use entropy::{Columns, Scores, linear_scores};

use crate::build::BuildError;
use crate::graph::{Graph, NodeId, Scalar, TensorType};
use crate::ops::Composite;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

type Built = Result<NodeId, BuildError>;

/// Appends the meaning of `composite` to `graph` and returns its result, of the dtype the composite has.
///
/// # Errors
/// [`BuildError`] when the operands do not fit the composite's row.
pub fn decompose(graph: &mut Graph, composite: &Composite, operands: &[NodeId]) -> Built {
    let g = graph;
    let &[x, ..] = operands else {
        return Err(BuildError::Rule { op: composite.name().into(), rule: 0, message: "takes operands".into() });
    };
    let y = match composite {
        Composite::Relu => {
            let zero = constant(g, 0.0)?;
            g.binary(BinaryOp::Max, x, zero)?
        }
        Composite::Sigmoid => sigmoid(g, x)?,
        Composite::Silu => {
            let s = sigmoid(g, x)?;
            g.mul(x, s)?
        }
        Composite::Gelu { tanh } => gelu(g, x, *tanh)?,
        Composite::Softmax { axis } => {
            let (e, sum) = exponentials(g, x, *axis)?;
            g.div(e, sum)?
        }
        Composite::LogSoftmax { axis } => {
            let top = g.reduce(ReduceOp::Max, x, &[*axis], true)?;
            let shifted = g.sub(x, top)?;
            let e = g.unary(UnaryOp::Exp, shifted)?;
            let sum = g.reduce(ReduceOp::Sum, e, &[*axis], true)?;
            let log = g.unary(UnaryOp::Log, sum)?;
            g.sub(shifted, log)?
        }
        Composite::Mean { axes, keep } => mean(g, x, axes, *keep)?,
        Composite::Variance { axes, keep, ddof } => {
            let m = mean(g, x, axes, true)?;
            let d = g.sub(x, m)?;
            let d2 = g.mul(d, d)?;
            let sum = g.reduce(ReduceOp::Sum, d2, axes, *keep)?;
            let n = count(g, x, axes).sub(&Dim::constant(*ddof));
            let n = g.push(crate::Op::SizeOf { size: n, dtype: DType::F32 }, &[])?;
            g.div(sum, n)?
        }
        Composite::RmsNorm { eps } => {
            let axis = g.ty(x).rank().saturating_sub(1);
            let x2 = g.mul(x, x)?;
            let m = mean(g, x2, &[axis], true)?;
            let r = rsqrt_plus(g, m, *eps)?;
            let y = g.mul(x, r)?;
            g.mul(y, operand(operands, 1)?)?
        }
        Composite::LayerNorm { eps } => {
            let axis = g.ty(x).rank().saturating_sub(1);
            let m = mean(g, x, &[axis], true)?;
            let d = g.sub(x, m)?;
            let d2 = g.mul(d, d)?;
            let v = mean(g, d2, &[axis], true)?;
            let r = rsqrt_plus(g, v, *eps)?;
            let y = g.mul(d, r)?;
            let y = g.mul(y, operand(operands, 1)?)?;
            g.add(y, operand(operands, 2)?)?
        }
        Composite::BatchNorm { axis, eps } => batch_norm(g, operands, *axis, *eps)?,
        Composite::Attention { scale } => attention::attention(g, operands, scale.as_f64())?,
        Composite::AttentionLse { scale } => attention::attention_lse(g, operands, scale.as_f64())?,
        Composite::AttentionGrad { scale, by } => attention::attention_grad(g, operands, (scale.as_f64(), *by))?,
        Composite::CrossEntropy { ignore } => entropy::cross_entropy(g, x, operand(operands, 1)?, *ignore)?,
        Composite::LinearCrossEntropy { ignore, columns } => {
            let of = [x, operand(operands, 1)?, operand(operands, 2)?];
            entropy::linear_cross_entropy(g, of, (*ignore, *columns))?
        }
        // A node of its own: a state it copies may be updated before the copy is read.
        Composite::StopGradient => {
            let shape = g.ty(x).shape.clone();
            g.push(crate::Op::Reshape { shape }, &[x])?
        }
        Composite::RandomBits { stream, shape } => philox::bits(g, [x, operand(operands, 1)?], (*stream, shape))?,
    };
    // Mixed float operands join to f32 on the way; the composite's own result type is the contract.
    let types: Vec<&TensorType> = operands.iter().map(|&o| g.ty(o)).collect();
    let op = crate::Op::Composite(composite.clone());
    let ty = crate::infer(&op, &types, &g.symbols).map_err(|f| BuildError::Rule {
        op: op.name(),
        rule: f.rule,
        message: f.message,
    })?;
    g.cast(y, ty.dtype)
}

fn operand(operands: &[NodeId], i: usize) -> Built {
    let missing = || BuildError::Rule { op: "composite".into(), rule: 0, message: format!("no operand {i}") };
    operands.get(i).copied().ok_or_else(missing)
}

fn constant(g: &mut Graph, value: f64) -> Built {
    g.scalar(value)
}

fn sigmoid(g: &mut Graph, x: NodeId) -> Built {
    let minus = g.unary(UnaryOp::Neg, x)?;
    let e = g.unary(UnaryOp::Exp, minus)?;
    let one = constant(g, 1.0)?;
    let d = g.add(e, one)?;
    g.unary(UnaryOp::Recip, d)
}

/// Hendrycks and Gimpel 2016, arXiv:1606.08415: x Phi(x), or its tanh approximation.
fn gelu(g: &mut Graph, x: NodeId, tanh: bool) -> Built {
    let one = constant(g, 1.0)?;
    let half = constant(g, 0.5)?;
    let phi = if tanh {
        let c = constant(g, 0.044_715)?;
        let k = constant(g, (2.0 / std::f64::consts::PI).sqrt())?;
        let x2 = g.mul(x, x)?;
        let x3 = g.mul(x2, x)?;
        let cx3 = g.mul(x3, c)?;
        let inner = g.add(x, cx3)?;
        let inner = g.mul(inner, k)?;
        g.unary(UnaryOp::Tanh, inner)?
    } else {
        let k = constant(g, std::f64::consts::FRAC_1_SQRT_2)?;
        let inner = g.mul(x, k)?;
        g.unary(UnaryOp::Erf, inner)?
    };
    let phi = g.add(phi, one)?;
    let hx = g.mul(x, half)?;
    g.mul(hx, phi)
}

fn exponentials(g: &mut Graph, x: NodeId, axis: usize) -> Result<(NodeId, NodeId), BuildError> {
    let top = g.reduce(ReduceOp::Max, x, &[axis], true)?;
    let shifted = g.sub(x, top)?;
    let e = g.unary(UnaryOp::Exp, shifted)?;
    let sum = g.reduce(ReduceOp::Sum, e, &[axis], true)?;
    Ok((e, sum))
}

fn count(g: &Graph, x: NodeId, axes: &[usize]) -> Dim {
    Dim::product(axes.iter().map(|&a| &g.ty(x).shape[a]))
}

fn mean(g: &mut Graph, x: NodeId, axes: &[usize], keep: bool) -> Built {
    let sum = g.reduce(ReduceOp::Sum, x, axes, keep)?;
    let n = count(g, x, axes);
    let n = g.push(crate::Op::SizeOf { size: n, dtype: DType::F32 }, &[])?;
    g.div(sum, n)
}

fn rsqrt_plus(g: &mut Graph, x: NodeId, eps: Scalar) -> Built {
    let eps = constant(g, eps.as_f64())?;
    let sum = g.add(x, eps)?;
    g.unary(UnaryOp::Rsqrt, sum)
}

fn batch_norm(g: &mut Graph, operands: &[NodeId], axis: usize, eps: Scalar) -> Built {
    let x = operand(operands, 0)?;
    let rank = g.ty(x).rank();
    // [C] aligned with `axis`: trailing axes of extent 1.
    let along = |g: &mut Graph, i: usize| -> Built {
        let v = operand(operands, i)?;
        let mut shape = vec![Dim::constant(1); rank - axis];
        shape[0] = g.ty(v).shape[0].clone();
        g.reshape(v, shape)
    };
    let (gain, bias) = (along(g, 1)?, along(g, 2)?);
    let (m, v) = (along(g, 3)?, along(g, 4)?);
    let r = rsqrt_plus(g, v, eps)?;
    let scale = g.mul(gain, r)?;
    let d = g.sub(x, m)?;
    let y = g.mul(d, scale)?;
    g.add(y, bias)
}
