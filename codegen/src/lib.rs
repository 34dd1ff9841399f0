//! How groups become CUDA kernels and bundles.
//!
//! Reading order: `kernels` chooses a configuration per family and fills its template, `unit` holds what all kernels
//! share, `spell` writes scalar programs as C++, `range` bounds their integers, `affine` sees how operands are laid
//! out, `quad` what four neighbouring elements share. Law: Rust decides, the templates in `templates/` spell; no device
//! is needed or known here.

mod affine;
mod build;
mod error;
mod kernels;
mod quad;
mod range;
mod spell;
mod unit;

pub use build::{BuildError, Compilation, Forge, add_images};
pub use error::EmitError;
pub use kernels::{Rendered, render, templates};
