//! The words every room shares: storage dtypes, size expressions over named dimensions, scalar operations.
//!
//! Law: nothing here knows of graphs, kernels or devices. Each enum is the single spelling of its concept; what an
//! operation computes is defined once per concern elsewhere (interpreter, native faces, CUDA spelling).
//! Read next: `enel-ir` for programs over these words, `enel-bundle` for compiled ones.

mod dim;
mod dtype;
mod scalar;

pub use dim::{Dim, DimError, MAX_TERMS, SymId, Symbol, Symbols};
pub use dtype::DType;
pub use scalar::{BinaryOp, ReduceOp, UnaryOp};
