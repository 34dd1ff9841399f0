//! What is a program? Tensor operations in SSA over named dimensions, with a text form and a verifier.
//!
//! Law: graphs are append-only and a pass builds a new one; a [`Verified`] graph keeps every rule of [`OPS`].
//! Reading order: `graph` (nodes), `ops` (the table), `infer` (shape rules), `build` (writing graphs in Rust),
//! `compose` (what composites mean), `text` (the file form), `verify`.

mod build;
mod compose;
mod graph;
mod infer;
mod ops;
mod spec;
mod text;
mod verify;

pub use build::{BuildError, SliceSpec};
pub use compose::{Columns, Scores, decompose, linear_scores};
pub use enel_types::{BinaryOp, DType, Dim, DimError, ReduceOp, SymId, Symbol, Symbols, UnaryOp};
pub use graph::{Graph, IdMap, Node, NodeId, Output, Scalar, TensorType};
pub use infer::{Fault, infer};
pub use ops::{AttentionOperand, Class, Composite, InputKind, OPS, Op, OpSpec, ScatterMode, ops_markdown};
pub use spec::ContractSpec;
pub use text::{ParseError, parse};
pub use verify::{Verified, VerifyError, verify};
