//! The contract between compiler and runtime: what a kernel computes, which kernels a plan calls, how both are kept.
//!
//! Law: no graphs and no devices here. `program` is the scalar code of a kernel, `desc` one kernel's meaning per
//! family, `plan` the calls over buffers, `file` the bundle on disk.

mod desc;
mod file;
mod plan;
mod program;

pub use desc::{
    Acc, AccOp, Access, AttentionBody, Body, BufferRole, ContractBody, Desc, Dynamic, Extent, Fold, FpsBody, KnnBody,
    MapBody, ReduceBody, ScatterBody, ScatterMode, Store, TopKBody, Value,
};
pub use file::{Bundle, FORMAT_VERSION, Image, ImageKind};
pub use plan::{Buffer, BufferKind, Call, Config, Grid, Kernel, Launch, Plan, PlanError, Port, Step};
pub use program::{Instr, Kind, Program, Reg};
