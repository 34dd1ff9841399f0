//! How do groups of a graph become Descs and a Plan? Index arithmetic replaces every move, programs every expression.
//!
//! Law: target-independent; the same Desc serves every device. Reading order: `emit` (one element of one value),
//! `group` (one Desc), `share` (which of them one launch runs), `plan` (all of them, buffers and order).

mod emit;
mod front;
mod group;
mod join;
mod plan;
mod share;

pub use front::{Divided, FrontConfig, FrontError, compile, divide};
pub use plan::{Compiled, LowerError, lower};
