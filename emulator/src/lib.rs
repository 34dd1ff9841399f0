//! A PTX parser and SIMT machine: runs compiled CUDA kernels on a CPU and checks them.
//!
//! [`Module::parse`] reads what NVRTC prints for `compute_80`, [`Memory`] is the device's memory, [`launch`] runs a
//! kernel. Every access is checked against real allocations; reads of unwritten bytes, misused barriers and data races
//! are errors, [`Stats`] counts what ran, [`Gpu`] bounds its time.
//! Knows PTX and nothing of who made it. Read `syntax`, `decode`, `machine` in that order.

mod decode;
mod error;
mod finding;
mod launch;
mod machine;
mod memory;
mod mutant;
mod roofline;
mod stats;
mod syntax;
mod tensor_map;

pub use decode::{Entry, Module, Param};
pub use error::{Access, LaunchError, MemoryError, ParseError, Place, Space};
pub use finding::{Cause, Early, Race};
pub use launch::{Arg, Checks, Launch, Options, launch};
pub use memory::Memory;
pub use mutant::{Fault, Mutant, mutants};
pub use roofline::{GPUS, Gpu, Roofline};
pub use stats::{Class, Shared, Stats, Touched, Traffic};
pub use syntax::ast::Ty;
pub use tensor_map::{Fill, MapElement, Swizzle, TensorMap, TensorMapError};
