//! How does a kernel run? Blocks of warps, warps of groups of lanes, one decoded instruction at a time.
//!
//! `warp` holds registers and divergence, `step` executes, `block` schedules and owns shared memory and barriers;
//! the rest is arithmetic and memory, by class.

mod access;
mod alu;
mod atomic;
mod bits;
pub(crate) mod block;
mod bulk;
mod call;
mod clock;
pub(crate) mod cluster;
pub(crate) mod count;
mod directed;
mod early;
mod flight;
mod float;
mod fp8;
mod hopper;
pub(crate) mod l1;
mod mbarrier;
mod num;
mod order;
pub(crate) mod print;
mod proxy;
pub(crate) mod race;
mod shadow;
mod shared;
mod step;
mod sync;
mod tensor;
mod warp;
mod wgmma;
