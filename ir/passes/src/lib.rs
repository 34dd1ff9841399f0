//! How does a program change on its way to kernels? Clean-up, named rewrites, and the partition into groups.
//!
//! Law: a pass is a function from a verified graph to a new graph (or to data about it) and keeps its meaning; each
//! rewrite is a named row that can be switched off. Read next: `rebuild` (the walk every pass shares), `clean`,
//! `rewrite`, `recompute`, `partition`.

mod clean;
mod partition;
mod pipeline;
mod rebuild;
mod recompute;
mod rewrite;

pub use clean::{clean, expand};
pub use partition::{Group, Mode, Partition, partition};
pub use pipeline::{Passes, pipeline};
pub use rebuild::PassError;
pub use recompute::{Memory, recompute};
pub use rewrite::{REWRITES, Rewrite, hoist, rewrite};
