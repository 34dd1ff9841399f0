//! How is a graph written in Rust? One checked `push`, and a short method per op.
//!
//! Law: every method infers the result type and refuses what `verify` would refuse for that node.

use crate::graph::{Graph, Node, NodeId, Scalar, TensorType};
use crate::infer::{Fault, infer};
use crate::ops::{Composite, InputKind, Op, ScatterMode};
use crate::spec::ContractSpec;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, UnaryOp};

/// Why a node could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A rule of the op's row is broken.
    #[error("{op} breaks C{rule}: {message}")]
    Rule {
        /// Mnemonic.
        op: String,
        /// Number of the rule, 0 for operand count.
        rule: u8,
        /// Expected and found.
        message: String,
    },
    /// An operand is not a node of this graph.
    #[error("operand {0} is not in the graph")]
    Operand(NodeId),
    /// The letters of a contraction are malformed.
    #[error("contract letters: {0}")]
    Spec(String),
}

type Built = Result<NodeId, BuildError>;

/// First element, count and step along each axis.
#[derive(Clone, Debug)]
pub struct SliceSpec {
    /// Index of the first element.
    pub start: Dim,
    /// Number of elements.
    pub size: Dim,
    /// Distance between elements.
    pub stride: i64,
}

impl Graph {
    /// Appends `op` applied to `operands`.
    ///
    /// # Errors
    /// [`BuildError::Rule`] names the broken rule, [`BuildError::Operand`] an unknown operand.
    pub fn push(&mut self, op: Op, operands: &[NodeId]) -> Built {
        if let Some(&bad) = operands.iter().find(|o| o.index() >= self.len()) {
            return Err(BuildError::Operand(bad));
        }
        let types: Vec<&TensorType> = operands.iter().map(|&o| self.ty(o)).collect();
        let ty = infer(&op, &types, &self.symbols).map_err(|Fault { rule, message }| BuildError::Rule {
            op: op.name(),
            rule,
            message,
        })?;
        Ok(self.push_unchecked(Node { op, operands: operands.to_vec(), ty }))
    }

    /// A named input.
    pub fn input(&mut self, name: &str, kind: InputKind, ty: TensorType) -> Built {
        self.push(Op::Input { name: name.to_owned(), kind, ty }, &[])
    }

    /// A rank-0 float constant of dtype f32.
    pub fn scalar(&mut self, value: f64) -> Built {
        self.splat(Scalar::F(value), TensorType::new(DType::F32, vec![]))
    }

    /// A rank-0 i32 constant.
    pub fn scalar_i32(&mut self, value: i32) -> Built {
        self.splat(Scalar::I(i64::from(value)), TensorType::new(DType::I32, vec![]))
    }

    /// One value everywhere.
    pub fn splat(&mut self, value: Scalar, ty: TensorType) -> Built {
        self.push(Op::Const { values: vec![value], ty }, &[])
    }

    /// Index along `axis`.
    pub fn iota(&mut self, axis: usize, ty: TensorType) -> Built {
        self.push(Op::Iota { axis, ty }, &[])
    }

    /// A unary op.
    pub fn unary(&mut self, op: UnaryOp, x: NodeId) -> Built {
        self.push(Op::Unary(op), &[x])
    }

    /// A binary op; shapes broadcast.
    pub fn binary(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> Built {
        self.push(Op::Binary(op), &[x, y])
    }

    /// `x + y`.
    pub fn add(&mut self, x: NodeId, y: NodeId) -> Built {
        self.binary(BinaryOp::Add, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, x: NodeId, y: NodeId) -> Built {
        self.binary(BinaryOp::Sub, x, y)
    }

    /// `x * y`.
    pub fn mul(&mut self, x: NodeId, y: NodeId) -> Built {
        self.binary(BinaryOp::Mul, x, y)
    }

    /// `x / y`.
    pub fn div(&mut self, x: NodeId, y: NodeId) -> Built {
        self.binary(BinaryOp::Div, x, y)
    }

    /// `x` where `condition`, else `y`.
    pub fn select(&mut self, condition: NodeId, x: NodeId, y: NodeId) -> Built {
        self.push(Op::Select, &[condition, x, y])
    }

    /// Changes the dtype; `x` itself when it already fits.
    pub fn cast(&mut self, x: NodeId, to: DType) -> Built {
        if self.ty(x).dtype == to { Ok(x) } else { self.push(Op::Cast { to }, &[x]) }
    }

    /// The same elements in another shape; `x` itself when the shape is equal.
    pub fn reshape(&mut self, x: NodeId, shape: Vec<Dim>) -> Built {
        if self.ty(x).shape == shape { Ok(x) } else { self.push(Op::Reshape { shape }, &[x]) }
    }

    /// Permutes axes; `x` itself for the identity.
    pub fn transpose(&mut self, x: NodeId, perm: &[usize]) -> Built {
        if perm.iter().copied().eq(0..self.ty(x).rank()) {
            return Ok(x);
        }
        self.push(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Repeats along axes; `x` itself when nothing is repeated.
    pub fn broadcast(&mut self, x: NodeId, shape: Vec<Dim>) -> Built {
        if self.ty(x).shape == shape { Ok(x) } else { self.push(Op::Broadcast { shape }, &[x]) }
    }

    /// Elements along every axis.
    pub fn slice(&mut self, x: NodeId, axes: &[SliceSpec]) -> Built {
        let starts = axes.iter().map(|a| a.start.clone()).collect();
        let sizes = axes.iter().map(|a| a.size.clone()).collect();
        let strides = axes.iter().map(|a| a.stride).collect();
        self.push(Op::Slice { starts, sizes, strides }, &[x])
    }

    /// `size` elements from `start` along one axis, everything along the others.
    pub fn narrow(&mut self, x: NodeId, axis: usize, start: Dim, size: Dim) -> Built {
        let mut axes: Vec<SliceSpec> = Vec::new();
        for extent in &self.ty(x).shape {
            axes.push(SliceSpec { start: Dim::constant(0), size: extent.clone(), stride: 1 });
        }
        if let Some(a) = axes.get_mut(axis) {
            *a = SliceSpec { start, size, stride: 1 };
        }
        self.slice(x, &axes)
    }

    /// Operands one after the other along `axis`.
    pub fn concat(&mut self, operands: &[NodeId], axis: usize) -> Built {
        self.push(Op::Concat { axis }, operands)
    }

    /// Rows of `x` along `axis` at `index`; the first `batch` axes are shared.
    pub fn gather(&mut self, x: NodeId, index: NodeId, axis: usize, batch: usize) -> Built {
        self.push(Op::Gather { axis, batch }, &[x, index])
    }

    /// `base` with `rows` written at `index` along axis 0.
    pub fn scatter_rows(&mut self, base: NodeId, index: NodeId, rows: NodeId, mode: ScatterMode) -> Built {
        self.push(Op::Scatter { axis: 0, batch: 0, mode }, &[base, index, rows])
    }

    /// Combines along `axes`.
    pub fn reduce(&mut self, op: ReduceOp, x: NodeId, axes: &[usize], keep: bool) -> Built {
        self.push(Op::Reduce { op, axes: axes.to_vec(), keep }, &[x])
    }

    /// Sum of products by letters, as in `mk,nk->mn`.
    pub fn contract(&mut self, spec: &str, lhs: NodeId, rhs: NodeId) -> Built {
        let spec = ContractSpec::parse(spec).map_err(BuildError::Spec)?;
        self.push(Op::Contract { spec }, &[lhs, rhs])
    }

    /// A composite op.
    pub fn composite(&mut self, op: Composite, operands: &[NodeId]) -> Built {
        self.push(Op::Composite(op), operands)
    }
}
