//! What may an arm do? Read the node and the derivative of its result, build nodes, and give derivatives of operands.

use crate::{attention, composite, entropy, moves, norms, pointwise, rows, sums};
use enel_ir::{BuildError, Composite, Graph, NodeId, Op, ReduceOp, TensorType};

/// What an arm returns.
pub(crate) type Done = Result<(), BuildError>;
type Built = Result<NodeId, BuildError>;

/// An operand of a node on the way back.
pub(crate) struct Operand {
    /// The value.
    pub(crate) id: NodeId,
    /// What may be read in its place after every update.
    pub(crate) read: NodeId,
    /// True when a derivative by it is used.
    pub(crate) wanted: bool,
}

/// One node on the way back.
pub(crate) struct Vjp<'g> {
    /// The graph under construction.
    pub(crate) g: &'g mut Graph,
    /// What the node does.
    pub(crate) op: Op,
    /// Its result.
    pub(crate) y: NodeId,
    /// Derivative of the loss by its result, of the result's type.
    pub(crate) dy: NodeId,
    operands: Vec<Operand>,
    found: Vec<(NodeId, NodeId)>,
}

impl<'g> Vjp<'g> {
    pub(crate) fn new(g: &'g mut Graph, (y, dy): (NodeId, NodeId), operands: Vec<Operand>) -> Vjp<'g> {
        let op = g.node(y).op.clone();
        Vjp { g, op, y, dy, operands, found: Vec::new() }
    }

    /// Derivatives by operands, in the order given; an operand that stands twice comes twice.
    pub(crate) fn finish(self) -> Vec<(NodeId, NodeId)> {
        self.found
    }

    /// How many operands there are.
    pub(crate) fn arity(&self) -> usize {
        self.operands.len()
    }

    /// An operand, to read.
    pub(crate) fn x(&self, slot: usize) -> NodeId {
        self.operands[slot].read
    }

    /// Type of an operand.
    pub(crate) fn x_ty(&self, slot: usize) -> TensorType {
        self.g.ty(self.x(slot)).clone()
    }

    /// True when a derivative by this operand is used.
    pub(crate) fn wants(&self, slot: usize) -> bool {
        self.operands[slot].wanted
    }

    /// Gives the derivative by an operand: summed over axes along which the operand was repeated, in its dtype.
    pub(crate) fn give(&mut self, slot: usize, cotangent: NodeId) -> Done {
        if !self.wants(slot) {
            return Ok(());
        }
        let ty = self.x_ty(slot);
        let summed = sum_to(self.g, cotangent, &ty)?;
        let cast = self.g.cast(summed, ty.dtype)?;
        self.found.push((self.operands[slot].id, cast));
        Ok(())
    }

    /// A rank-0 float.
    pub(crate) fn scalar(&mut self, value: f64) -> Built {
        self.g.scalar(value)
    }

    /// `x * factor`.
    pub(crate) fn scale(&mut self, x: NodeId, factor: f64) -> Built {
        let factor = self.g.scalar(factor)?;
        self.g.mul(x, factor)
    }
}

/// Sums the axes along which a value of type `ty` would be repeated to have the shape of `x`.
fn sum_to(g: &mut Graph, x: NodeId, ty: &TensorType) -> Built {
    let shape = g.ty(x).shape.clone();
    let n_new = shape.len() - ty.rank();
    let leading: Vec<usize> = (0..n_new).collect();
    let x = if leading.is_empty() { x } else { g.reduce(ReduceOp::Sum, x, &leading, false)? };
    let is_repeated = |&axis: &usize| ty.shape[axis].is(1) && !shape[n_new + axis].is(1);
    let repeated: Vec<usize> = (0..ty.rank()).filter(is_repeated).collect();
    if repeated.is_empty() { Ok(x) } else { g.reduce(ReduceOp::Sum, x, &repeated, true) }
}

/// Runs the arm of the node's op. Ops whose results are integers or that have no operands never come here.
#[warn(clippy::wildcard_enum_match_arm)]
pub(crate) fn push_vjps(v: &mut Vjp<'_>) -> Done {
    let op = v.op.clone();
    match &op {
        // Leaves have no operands; indices and counts do not vary with what they were found in.
        Op::Input { .. } | Op::Const { .. } | Op::Iota { .. } | Op::SizeOf { .. } => Ok(()),
        Op::Fps { .. } | Op::Knn { .. } | Op::TopK { .. } => Ok(()),
        Op::Unary(op) => pointwise::unary(v, *op),
        Op::Binary(op) => pointwise::binary(v, *op),
        Op::Select => pointwise::select(v),
        Op::Cast { .. } => v.give(0, v.dy),
        Op::Reshape { .. } => moves::reshape(v),
        Op::Transpose { perm } => moves::transpose(v, perm),
        // `give` sums over what was repeated.
        Op::Broadcast { .. } => v.give(0, v.dy),
        Op::Slice { starts, sizes, strides } => moves::slice(v, (starts, sizes, strides)),
        Op::Concat { axis } => moves::concat(v, *axis),
        Op::Pad { low, .. } => moves::pad(v, low),
        Op::Reverse { axes } => moves::reverse(v, axes),
        Op::Window { axis, size, stride, dilation } => rows::window(v, *axis, [*size, *stride, *dilation]),
        Op::Gather { axis, batch } => rows::gather(v, (*axis, *batch)),
        Op::Scatter { axis, batch, mode } => rows::scatter(v, (*axis, *batch), *mode),
        Op::Reduce { op, axes, .. } => sums::reduce(v, *op, axes),
        Op::Contract { spec } => sums::contract(v, spec),
        Op::Composite(c) => composite_vjp(v, c),
    }
}

#[warn(clippy::wildcard_enum_match_arm)]
fn composite_vjp(v: &mut Vjp<'_>, c: &Composite) -> Done {
    match c {
        Composite::StopGradient | Composite::RandomBits { .. } => Ok(()),
        Composite::Relu => composite::relu(v),
        Composite::Sigmoid => composite::sigmoid(v),
        Composite::Silu => composite::silu(v),
        Composite::Gelu { tanh: false } => composite::gelu(v),
        Composite::Gelu { tanh: true } => composite::gelu_tanh(v),
        Composite::Softmax { axis } => composite::softmax(v, *axis),
        Composite::LogSoftmax { axis } => composite::log_softmax(v, *axis),
        Composite::Mean { axes, .. } => norms::mean(v, axes),
        Composite::Variance { axes, ddof, .. } => norms::variance(v, axes, *ddof),
        Composite::RmsNorm { eps } => norms::rms_norm(v, eps.as_f64()),
        Composite::LayerNorm { eps } => norms::layer_norm(v, eps.as_f64()),
        Composite::BatchNorm { axis, eps } => norms::batch_norm(v, *axis, eps.as_f64()),
        Composite::Attention { scale } => attention::attention(v, *scale),
        Composite::AttentionGrad { .. } | Composite::AttentionLse { .. } => unreachable!("the copy holds its meaning"),
        Composite::CrossEntropy { ignore } => entropy::cross_entropy(v, *ignore),
        Composite::LinearCrossEntropy { ignore, columns } => entropy::linear_cross_entropy(v, *ignore, *columns),
    }
}
