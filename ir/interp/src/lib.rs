//! What does a program mean? The reference interpreter: the oracle every device is compared with.
//!
//! Law: obvious beats fast; floats are f64 and rounded only where the caller says; geometry is exact in f32.
//! Reading order: `tensor` (values), `run` (the loop over nodes), one file per class of op, `expand` (composites),
//! `random` (seeded programs for property tests).

#![warn(clippy::wildcard_enum_match_arm)]

mod contract;
mod expand;
mod index;
mod leaf;
mod moves;
mod pointwise;
pub mod random;
mod reduce;
mod run;
mod scatter;
mod tensor;
mod view;

pub use run::{InterpError, MAX_ELEMS, Outcome, Rounding, Run, run};
pub use tensor::{Tensor, TensorError, Values};
