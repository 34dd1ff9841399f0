//! How is any kernel run from files? PTX or CUDA in, arrays in, arrays, findings and counters out; no GPU.
//!
//! Exit code 1 says that the kernel has a mistake, 2 that the command line has one.

mod given;
mod told;

use crate::Usage;
use crate::compile::toolchain;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use enel_emulate::{Arch, Checks, Compiler, CudaOptions, Finding, Job, Program, ProgramError, RunError};
use enel_nvrtc::locate;
use std::path::{Path, PathBuf};

pub use given::Given;
use given::{argument, extents};

/// Runs a CUDA or PTX kernel on .npy arrays on the emulator and reports its mistakes and counters.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct EmulateArgs {
    /// The kernels: a .ptx file, or a .cu file that NVRTC compiles. No CUDA toolkit is needed: small stand-ins
    /// answer for its headers, and host code in the file is left out.
    pub file: PathBuf,
    /// Kernel to run: its name in C++ or PTX, 'scale(float*, int)' where it is overloaded, or an instance of a template
    /// such as 'axpy<float, 4>'.
    #[arg(long, value_name = "NAME")]
    pub entry: String,
    /// Blocks.
    #[arg(long, value_name = "X,Y,Z", default_value = "1", value_parser = extents)]
    pub grid: [u32; 3],
    /// Threads of a block.
    #[arg(long, value_name = "X,Y,Z", default_value = "1", value_parser = extents)]
    pub block: [u32; 3],
    /// Blocks of a cluster; else what the kernel asks for.
    #[arg(long, value_name = "X,Y,Z", value_parser = extents)]
    pub cluster: Option<[u32; 3]>,
    /// Dynamic shared memory.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub smem: u32,
    /// An argument, in the kernel's order: in:PATH.npy, out:DTYPE:COUNT:PATH.npy, inout:PATH.npy:OUT.npy, i32:N, u32:N,
    /// i64:N, u64:N, f32:X, f64:X, bytes:PATH.npy, or
    /// tmap:ARG_INDEX:DTYPE:dims=..:strides=..:box=..:swizzle=0|32|64|128[:elem=..][:fill=zero|nan].
    #[arg(long = "arg", value_name = "ARG", value_parser = argument, allow_hyphen_values = true)]
    pub args: Vec<Given>,
    /// Draws the order of warps, blocks and asynchronous copies; 0 is the natural order.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Mistakes to look for; bounds are always checked.
    #[arg(long, value_enum, default_value = "all")]
    pub checks: ChecksArg,
    /// Architecture a .cu file is compiled for.
    #[arg(long, value_name = "ARCH", default_value = "sm_90a")]
    pub target: Arch,
    /// Folder with headers a .cu file includes; its own folder is always searched.
    #[arg(long, value_name = "DIR")]
    pub include: Vec<PathBuf>,
    /// Macro for a .cu file.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub define: Vec<String>,
    /// Blocks that run at the same time; more join them while those wait for others.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub resident: usize,
    /// Warp instructions after which a kernel counts as endless.
    #[arg(long, value_name = "N", default_value_t = 1 << 36)]
    pub max_instructions: u64,
    /// Write the PTX that findings give lines of.
    #[arg(long, value_name = "FILE")]
    pub ptx: Option<PathBuf>,
    /// Print one JSON object, of a run or of what prevented it.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Arrays are passed as pointers. DTYPE: u8 i8 u16 i16 i32 u32 i64 u64 f16 f32 f64; bf16 travels as u16.
bytes passes the elements of an array by value, as they lie in memory: a struct, whose size must match.
A tmap argument makes a tensor map over the array of argument ARG_INDEX (from 0). dims and box count elements, innermost
first; strides count bytes, of all dimensions but the innermost. An array that only maps use need not be a parameter.

Examples:
  enel-compile emulate saxpy.cu --entry saxpy --grid 4 --block 256 \\
      --arg f32:2.5 --arg in:x.npy --arg inout:y.npy:y_out.npy --arg i32:1000
  enel-compile emulate kernel.ptx --entry reduce --block 128 --smem 512 --seed 7 \\
      --arg in:x.npy --arg out:f32:1:sum.npy --json
  enel-compile emulate matmul.cu --entry 'matmul<128, 128>' --grid 2,2 --block 384 --smem 98304 \\
      --arg tmap:2:bf16:dims=512,256:strides=1024:box=64,128:swizzle=128 \\
      --arg tmap:3:bf16:dims=512,256:strides=1024:box=64,128:swizzle=128 \\
      --arg in:a.npy --arg in:b.npy --arg out:f32:65536:c.npy

What the kernel prints comes first, or is the field `printed` of the JSON object, beside `passed`, `findings` (each with
kind, kernel, ptx_line, source, block, thread, access, space, address, bytes, object, other, text), `notes`, `counters` and
`outputs`. If there was no run, the object has `error` instead.

Exit codes: 0 the kernel ran, 1 it has a mistake or cannot be compiled, 2 the command line makes no sense.";

/// Which mistakes are looked for, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChecksArg {
    /// Everything.
    All,
    /// Bounds only.
    None,
}

/// Runs the subcommand.
///
/// # Errors
/// [`Usage`] for a command line that makes no sense, [`Mistake`](crate::Mistake) after a finding was printed, unreadable
/// files, and what the compiler says.
pub fn emulate(args: &EmulateArgs) -> Result<()> {
    let result = run(args);
    match &result {
        Err(error) if args.json && !error.is::<crate::Mistake>() && !error.is::<crate::out::Closed>() => {
            told::show_error(error)?;
        }
        _ => {}
    }
    result
}

/// Says on stdout, as JSON, why a command line was not understood, if it asks for that.
pub fn refuse(words: &[std::ffi::OsString], error: &clap::Error) {
    let asks = |word: &str| words.iter().any(|w| w == word);
    if error.use_stderr() && asks("emulate") && asks("--json") {
        // Whoever does not listen is told by the exit code.
        let _ = told::show_error(&anyhow::anyhow!("{}", error.to_string().trim_end()));
    }
}

fn run(args: &EmulateArgs) -> Result<()> {
    check_targets(args)?;
    let program = program(args).inspect_err(|error| {
        // Whoever asks for the PTX may look up the line that is not understood.
        if let Some(ProgramError::Parse { ptx, .. }) = error.downcast_ref()
            && let Err(failed) = leave_ptx(args, ptx)
        {
            eprintln!("note: {failed:#}");
        }
    })?;
    leave_ptx(args, program.ptx())?;
    let (values, shapes) = given::read(&args.args)?;
    let job = Job {
        kernel: &args.entry,
        grid: args.grid,
        block: args.block,
        cluster: args.cluster,
        smem_bytes: args.smem,
        args: &values,
        seed: args.seed,
        checks: if args.checks == ChecksArg::All { Checks::all() } else { Checks::none() },
        resident_blocks: args.resident,
        max_instructions: Some(args.max_instructions),
    };
    match program.run(&job) {
        Ok(report) => {
            let written = told::write(args, &report, &shapes)?;
            told::show(args, &report, &written)
        }
        Err(RunError::Finding { finding, printed }) => {
            told::show_finding(args, &Finding::of(&finding), &printed)?;
            Err(crate::Mistake.into())
        }
        Err(error) => Err(Usage(full(&error)).into()),
    }
}

/// Writes the PTX where it is asked for.
fn leave_ptx(args: &EmulateArgs, ptx: &str) -> Result<()> {
    let Some(path) = &args.ptx else { return Ok(()) };
    std::fs::write(path, ptx).with_context(|| format!("cannot write {}", path.display()))
}

/// Refuses two outputs to one file: one of them would be lost.
fn check_targets(args: &EmulateArgs) -> Result<()> {
    let whole = |path: &Path| {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().unwrap_or(folder.to_owned());
        path.file_name().map_or(folder.clone(), |name| folder.join(name))
    };
    let mut seen = Vec::new();
    for path in args.args.iter().filter_map(Given::target).chain(args.ptx.as_deref()) {
        let whole = whole(path);
        if seen.contains(&whole) {
            return Err(Usage(format!("two outputs go to {}", path.display())).into());
        }
        seen.push(whole);
    }
    Ok(())
}

/// An error and its causes on one line.
fn full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", full(source)),
        None => error.to_string(),
    }
}

fn program(args: &EmulateArgs) -> Result<Program> {
    let file = args.file.display().to_string();
    let source = std::fs::read_to_string(&args.file).map_err(|e| Usage(format!("cannot read {file}: {e}")))?;
    let program = match args.file.extension().and_then(|e| e.to_str()) {
        Some("ptx") => Program::from_ptx(&file, &source)?,
        Some("cu" | "cuh" | "cpp") => {
            let compiler = Compiler::open(&locate(&toolchain::search())?)?;
            let own = args.file.parent().unwrap_or(Path::new(".")).to_owned();
            let options = CudaOptions {
                target: args.target,
                folders: [vec![own], args.include.clone()].concat(),
                defines: args.define.clone(),
                instances: args.entry.contains('<').then(|| args.entry.clone()).into_iter().collect(),
            };
            let program = Program::from_cuda(&compiler, &file, &source, &options)?;
            let absent = program.absent_headers();
            if !absent.is_empty() {
                eprintln!("note: compiled without {}, found nowhere; --include DIR adds a folder", absent.join(", "));
            }
            program
        }
        _ => return Err(Usage(format!("{file} is neither a .ptx nor a .cu file")).into()),
    };
    match program.kernel(&args.entry) {
        Ok(_) => Ok(program),
        Err(error @ (ProgramError::NoKernel { .. } | ProgramError::Ambiguous { .. })) => {
            Err(Usage(error.to_string()).into())
        }
        Err(error) => Err(error.into()),
    }
}
