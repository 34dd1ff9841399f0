//! How does CUDA C++ text become PTX and cubins on a machine that may have no GPU?
//!
//! Reading order: `locate` finds an NVRTC, `install` fetches one, `binding` is the only unsafe file, `compile` is one
//! call (`foreign` one for texts of others), `diagnose` and `report` read what the compiler said, `cache` remembers it, `queue` runs many.
//! Law: same text, options, headers and compiler give the same bytes on every machine and from every folder.
//!
//! # What was found out about NVRTC 13.0 (V13.0.88) and is relied on here
//!
//! - **Loading.** NVRTC opens `libnvrtc-builtins.so.13.x` by its bare name in the middle of a compile and answers
//!   `NVRTC_ERROR_BUILTIN_OPERATION_FAILURE` when that fails. A library already opened by absolute path satisfies the
//!   bare name through its soname, so [`Compiler::open`] opens the builtins first and then compiles an empty kernel.
//! - **One call.** With `--gpu-architecture=sm_XX` one compile yields PTX and cubin; with `compute_XX` only PTX,
//!   and no assembler runs, so there is nothing to report about registers.
//! - **The report.** `--ptxas-options=-v` makes the assembler write registers, spills, stack and static shared memory
//!   into the program log. A function that was not inlined is listed after the kernel that calls it, with spills of
//!   its own. The log also holds `Compile time = ..` lines, which are dropped: they differ from run to run.
//! - **A silent failure.** More than 48 KiB of static shared memory fails the compile with status 6 and a log in which
//!   no line says `error`. [`CompileError::Assembly`] states the reason from the report.
//! - **Paths.** With `-lineinfo`, a relative program name and every header that was used are written into PTX and cubin
//!   with the absolute working directory in front. Programs are therefore named `/enel/<name>.cu`, and the headers are
//!   handed over in memory behind a `#line 1 "/enel/<header>"`: PTX and cubin then hold no path of the machine.
//! - **Headers.** `cuda_fp16.h` and `cuda_bf16.h` with their `.hpp` halves compile without any other file (under NVRTC
//!   they include nothing else), so the `nvidia-cuda-crt` package is not needed. NVRTC would read an absolute path in
//!   spite of `--no-source-include`, so other includes are refused before it sees them.
//! - **Threads.** Programs are independent of each other and may be compiled from several threads at once.

mod arch;
mod binding;
mod cache;
mod compile;
mod diagnose;
mod elf;
mod foreign;
mod install;
mod locate;
mod queue;
mod report;

pub use arch::{Arch, ArchError};
pub use binding::{CallError, LoadError};
pub use cache::{Cache, CacheError, CacheKey, Lookup, Pruned};
pub use compile::{CompileError, Compiled, Compiler, OpenError, Options, Unit};
pub use diagnose::{Diagnostic, Severity};
pub use elf::ElfError;
pub use foreign::{Foreign, Translated};
pub use install::{EnsureError, InstallError, InstallEvent, Package, ensure, install, install_with};
pub use locate::{HEADERS, LocateError, Looked, MAJOR, Search, Source, Toolchain, Why, locate};
pub use queue::{Finished, Outcome, compile_all};
pub use report::{GateFault, KernelReport, Limits, STATIC_SMEM_LIMIT_BYTES, gate};
