//! Runs any CUDA kernel on arrays, without a GPU, and says what is wrong with it.
//!
//! [`Program`] is a PTX text, or CUDA C++ compiled by NVRTC with small stand-ins for the toolkit's headers;
//! [`Program::run`] gives a kernel its arguments and returns the arrays it wrote, or the first mistake found.
//! Meant for tests: same seed, same schedule, same result on every machine. Read `program`, then `run`.
//!
//! ```
//! use enel_emulate::{Array, ArrayType, Job, Program, Value};
//!
//! let ptx = "
//!     .version 8.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry twice(.param .u64 x, .param .u64 y)
//!     {
//!         .reg .b32 %r<4>;
//!         .reg .b64 %rd<6>;
//!         ld.param.u64 %rd0, [x];
//!         ld.param.u64 %rd1, [y];
//!         mov.u32 %r0, %tid.x;
//!         mul.wide.u32 %rd2, %r0, 4;
//!         add.u64 %rd3, %rd0, %rd2;
//!         add.u64 %rd4, %rd1, %rd2;
//!         ld.global.u32 %r1, [%rd3];
//!         add.u32 %r2, %r1, %r1;
//!         st.global.u32 [%rd4], %r2;
//!         ret;
//!     }";
//! let program = Program::from_ptx("twice.ptx", ptx)?;
//! let args = [Value::In(Array::from_i32(&[1, 2, 3, 4])), Value::Out(ArrayType::I32, 4)];
//! let report = program.run(&Job { block: [4, 1, 1], seed: 7, ..Job::new("twice", &args) })?;
//! assert_eq!(report.array(1)?.to_i32()?, [2, 4, 6, 8]);
//! assert_eq!(report.stats.stores, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A mistake in the kernel is an error of the run, with the kernel's line, block and thread:
//!
//! ```
//! # use enel_emulate::{Array, Job, Program, RunError, Value};
//! let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry bad(.param .u64 x)\n{\n\
//!     .reg .b64 %rd<2>;\nld.param.u64 %rd0, [x];\nst.global.u64 [%rd0+8], %rd0;\nret;\n}";
//! let program = Program::from_ptx("bad.ptx", ptx)?;
//! let args = [Value::InOut(Array::from_i32(&[0, 0]))];
//! let Err(RunError::Finding { finding, .. }) = program.run(&Job::new("bad", &args)) else { panic!() };
//! assert!(finding.to_string().contains("PTX line 8"), "{finding}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod array;
mod finding;
mod headers;
mod host;
mod includes;
mod names;
mod program;
mod refuse;
mod run;
mod scan;

pub use array::{Array, ArrayError, ArrayType};
pub use enel_emulator::{Access, Checks, Fill, LaunchError, MapElement, ParseError, Place, Space, Stats, Swizzle};
pub use enel_nvrtc::{Arch, CompileError, Compiler};
pub use finding::Finding;
pub use names::readable;
pub use program::{CudaOptions, Program, ProgramError};
pub use run::{Job, MapOf, Report, RunError, Value};
