//! Every differentiable op and composite against central differences in f64, over drawn shapes and operands.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod composites;
mod faults;
mod kit;
mod moves;
mod pointwise;
mod rows;
mod sums;
