//! The contract between compiler and runtime: what a kernel computes, which kernels a plan calls, how both are kept.
//!
//! Law: no graphs and no devices here. `program` is the scalar code of a kernel, `desc` one kernel's meaning per
//! family, `plan` the calls over buffers, `file` the bundle on disk. `check` proves both well formed, `arena` places
//! a plan's temps, `show` prints, `flops` counts.

mod arena;
mod check;
mod desc;
mod file;
mod flops;
mod plan;
mod program;
mod show;

pub use arena::{ARENA_ALIGNMENT, Layout, check_layout, layout};
pub use check::{DescFault, check_desc, check_plan};
pub use desc::{
    Acc, AccOp, Access, AttentionBody, AttentionGradBody, Body, BufferRole, By, ContractBody, Desc, Dynamic, Extent,
    Fold, FpsBody, KnnBody, MapBody, ReduceBody, ScatterBody, ScatterMode, Store, TopKBody, Value,
};
pub use file::{Bundle, BundleError, BundleFault, FORMAT_VERSION, Image, ImageKind};
pub use flops::flops;
pub use plan::{Buffer, BufferKind, Call, Config, Grid, Kernel, Launch, Part, Piece, Plan, PlanError, Port, Step};
pub use program::{Instr, Kind, Program, Reg};
