//! Can a compiled program be trusted to be well formed? Everything a runtime relies on is proved here once.
//!
//! Law: a device may index by what passed these checks without asking again, except element indices, which are data.
//! `desc` holds one kernel's rules, `plan` the rules of calls over buffers.

mod desc;
mod plan;

pub use desc::{DescFault, check_desc};
pub(crate) use plan::check_launch;
pub use plan::check_plan;
