//! How is any kernel run from files? PTX or CUDA in, arrays in, arrays, findings and counters out; no GPU.
//!
//! Exit code 1 says that the kernel has a mistake, 2 that the command line has one.

use crate::compile::toolchain;
use crate::{Usage, outln};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use enel_emulate::{
    Arch, Array, ArrayType, Checks, Compiler, CudaOptions, Fill, Job, MapElement, MapOf, Program, ProgramError, Report,
    RunError, Stats, Swizzle, Value,
};
use enel_io::npy::{NpyArray, NpyData};
use enel_nvrtc::locate;
use half::f16;
use std::path::{Path, PathBuf};

/// Runs a CUDA or PTX kernel on .npy arrays on the emulator and reports its mistakes and counters.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct EmulateArgs {
    /// The kernels: a .ptx file, or a .cu file that NVRTC compiles. No CUDA toolkit is needed: small stand-ins
    /// answer for its headers, and host code in the file is left out.
    pub file: PathBuf,
    /// Kernel to run: its name in C++ or PTX, or an instance of a template such as 'axpy<float, 4>'.
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
    /// i64:N, u64:N, f32:X, f64:X, or
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
    /// Blocks that run at the same time, for kernels whose blocks wait for each other.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub resident: usize,
    /// Warp instructions after which a kernel counts as endless.
    #[arg(long, value_name = "N", default_value_t = 1 << 36)]
    pub max_instructions: u64,
    /// Write the PTX that findings give lines of.
    #[arg(long, value_name = "FILE")]
    pub ptx: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Arrays are passed as pointers. DTYPE: u8 i8 u16 i16 i32 u32 i64 u64 f16 f32 f64; bf16 travels as u16.
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

Exit codes: 0 the kernel ran, 1 it has a mistake or cannot be compiled, 2 the command line makes no sense.";

/// Which mistakes are looked for, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChecksArg {
    /// Everything.
    All,
    /// Bounds only.
    None,
}

/// An argument as the command line gives it; arrays are read later.
#[derive(Clone, Debug)]
pub enum Given {
    /// Read from a file.
    In(PathBuf),
    /// Written to a file.
    Out(ArrayType, usize, PathBuf),
    /// Read from one and written to another.
    InOut(PathBuf, PathBuf),
    /// No array.
    Plain(Value),
}

fn extents(text: &str) -> Result<[u32; 3], String> {
    let mut out = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err(format!("{} numbers, at most 3 are expected", parts.len()));
    }
    for (slot, part) in out.iter_mut().zip(parts) {
        *slot = part.trim().parse().map_err(|e| format!("`{part}`: {e}"))?;
    }
    Ok(out)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e| format!("`{text}`: {e}"))
}

fn argument(text: &str) -> Result<Given, String> {
    let (kind, rest) = text.split_once(':').ok_or("expected KIND:..., such as in:x.npy or i32:5")?;
    Ok(match kind {
        "in" => Given::In(rest.into()),
        "out" => {
            let mut parts = rest.splitn(3, ':');
            let (Some(ty), Some(count), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err("expected out:DTYPE:COUNT:PATH.npy".into());
            };
            let ty = ArrayType::from_name(ty).ok_or_else(|| format!("`{ty}` is no element type"))?;
            Given::Out(ty, number(count)?, path.into())
        }
        "inout" => {
            let (from, to) = rest.rsplit_once(':').ok_or("expected inout:PATH.npy:OUT.npy")?;
            Given::InOut(from.into(), to.into())
        }
        "i32" => Given::Plain(Value::I32(number(rest)?)),
        "u32" => Given::Plain(Value::U32(number(rest)?)),
        "i64" => Given::Plain(Value::I64(number(rest)?)),
        "u64" => Given::Plain(Value::U64(number(rest)?)),
        "f32" => Given::Plain(Value::F32(number(rest)?)),
        "f64" => Given::Plain(Value::F64(number(rest)?)),
        "tmap" => Given::Plain(Value::Map(map(rest)?)),
        _ => return Err(format!("`{kind}` is none of in, out, inout, i32, u32, i64, u64, f32, f64, tmap")),
    })
}

/// `ARG_INDEX:DTYPE:dims=..:strides=..:box=..:swizzle=..`
fn map(text: &str) -> Result<MapOf, String> {
    let mut parts = text.split(':');
    let argument = number(parts.next().unwrap_or(""))?;
    let name = parts.next().ok_or("expected tmap:ARG_INDEX:DTYPE:dims=..:box=..")?;
    let element = match name {
        "u8" => MapElement::U8,
        "u16" => MapElement::U16,
        "u32" => MapElement::U32,
        "i32" => MapElement::I32,
        "u64" => MapElement::U64,
        "i64" => MapElement::I64,
        "f16" => MapElement::F16,
        "bf16" => MapElement::Bf16,
        "f32" => MapElement::F32,
        "tf32" => MapElement::Tf32,
        "f64" => MapElement::F64,
        _ => return Err(format!("`{name}` is no element type of a tensor map")),
    };
    let mut made = MapOf {
        argument,
        element,
        dims: Vec::new(),
        strides_bytes: Vec::new(),
        box_dims: Vec::new(),
        elem_strides: Vec::new(),
        swizzle: Swizzle::None,
        fill: Fill::Zeros,
    };
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
        match key {
            "dims" => made.dims = list(value)?,
            "strides" => made.strides_bytes = list(value)?,
            "box" => made.box_dims = list(value)?,
            "elem" => made.elem_strides = list(value)?,
            "swizzle" => {
                made.swizzle = match value {
                    "0" | "none" => Swizzle::None,
                    "32" => Swizzle::B32,
                    "64" => Swizzle::B64,
                    "128" => Swizzle::B128,
                    _ => return Err(format!("swizzle `{value}` is none of 0, 32, 64, 128")),
                }
            }
            "fill" => {
                made.fill = match value {
                    "zero" => Fill::Zeros,
                    "nan" => Fill::Nan,
                    _ => return Err(format!("fill `{value}` is neither zero nor nan")),
                }
            }
            _ => return Err(format!("`{key}` is none of dims, strides, box, swizzle, elem, fill")),
        }
    }
    if made.dims.is_empty() || made.box_dims.is_empty() {
        return Err("a tensor map needs dims=.. and box=..".into());
    }
    Ok(made)
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    text.split(',').filter(|part| !part.is_empty()).map(|part| number(part.trim())).collect()
}

/// Runs the subcommand.
///
/// # Errors
/// [`Usage`] for a command line that makes no sense, [`Mistake`] after a finding was printed, unreadable files, and
/// what the compiler says.
pub fn emulate(args: &EmulateArgs) -> Result<()> {
    let program = program(args)?;
    if let Some(path) = &args.ptx {
        std::fs::write(path, program.ptx()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let (values, shapes) = read(&args.args)?;
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
            let written = write(args, &report, &shapes)?;
            show(args, &report.stats, &written)
        }
        Err(RunError::Finding { finding }) => {
            if args.json {
                let json = serde_json::json!({
                    "kernel": args.entry, "seed": args.seed, "findings": [finding.to_string()], "outputs": [],
                });
                crate::out::json(&json)?;
            } else {
                outln!("finding: {finding}\nno outputs are written")?;
            }
            Err(crate::Mistake.into())
        }
        Err(error) => Err(Usage(full(&error)).into()),
    }
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
            Program::from_cuda(&compiler, &file, &source, &options)?
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

/// Values of the arguments, and the shape of each array that was read.
fn read(given: &[Given]) -> Result<(Vec<Value>, Vec<Vec<usize>>)> {
    let mut values = Vec::with_capacity(given.len());
    let mut shapes = Vec::with_capacity(given.len());
    for arg in given {
        let (value, shape) = match arg {
            Given::In(path) => {
                let (array, shape) = read_array(path)?;
                (Value::In(array), shape)
            }
            Given::InOut(path, _) => {
                let (array, shape) = read_array(path)?;
                (Value::InOut(array), shape)
            }
            Given::Out(ty, count, _) => (Value::Out(*ty, *count), vec![*count]),
            Given::Plain(value) => (value.clone(), Vec::new()),
        };
        values.push(value);
        shapes.push(shape);
    }
    Ok((values, shapes))
}

fn read_array(path: &Path) -> Result<(Array, Vec<usize>)> {
    let bad = |error: &dyn std::error::Error| Usage(format!("cannot read {}: {}", path.display(), full(error)));
    let bytes = std::fs::read(path).map_err(|e| bad(&e))?;
    let array = NpyArray::parse(&bytes).map_err(|e| bad(&e))?;
    let read = match array.data() {
        NpyData::Bool(v) => Array::from_u8(&v.iter().map(|&b| u8::from(b)).collect::<Vec<_>>()),
        NpyData::U8(v) => Array::from_u8(v),
        NpyData::U16(v) => Array::from_u16(v),
        NpyData::U32(v) => Array::from_u32(v),
        NpyData::U64(v) => Array::from_u64(v),
        NpyData::I8(v) => Array { ty: ArrayType::I8, bytes: v.iter().map(|&x| x as u8).collect() },
        NpyData::I16(v) => Array { ty: ArrayType::I16, bytes: v.iter().flat_map(|x| x.to_le_bytes()).collect() },
        NpyData::I32(v) => Array::from_i32(v),
        NpyData::I64(v) => Array::from_i64(v),
        NpyData::F16(v) => Array { ty: ArrayType::F16, bytes: v.iter().flat_map(|x| x.to_le_bytes()).collect() },
        NpyData::F32(v) => Array::from_f32(v),
        NpyData::F64(v) => Array::from_f64(v),
    };
    Ok((read, array.shape().to_vec()))
}

/// An array that was written: where, what, and how many elements the kernel left alone.
struct Written {
    path: PathBuf,
    ty: ArrayType,
    shape: Vec<usize>,
    unwritten: usize,
}

fn write(args: &EmulateArgs, report: &Report, shapes: &[Vec<usize>]) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for ((given, found), shape) in args.args.iter().zip(&report.arrays).zip(shapes) {
        let (Given::Out(.., path) | Given::InOut(_, path), Some((array, unwritten))) = (given, found) else { continue };
        let data = npy_data(array);
        let npy = NpyArray::new(shape.clone(), data).context("an array has as many elements as its shape says")?;
        npy.write(path).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(Written { path: path.clone(), ty: array.ty, shape: shape.clone(), unwritten: *unwritten });
    }
    Ok(written)
}

fn npy_data(array: &Array) -> NpyData {
    fn each<T, const N: usize>(bytes: &[u8], make: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| make(*chunk)).collect()
    }
    let bytes = &array.bytes;
    match array.ty {
        ArrayType::U8 => NpyData::U8(bytes.clone()),
        ArrayType::I8 => NpyData::I8(each(bytes, i8::from_le_bytes)),
        ArrayType::U16 => NpyData::U16(each(bytes, u16::from_le_bytes)),
        ArrayType::I16 => NpyData::I16(each(bytes, i16::from_le_bytes)),
        ArrayType::U32 => NpyData::U32(each(bytes, u32::from_le_bytes)),
        ArrayType::I32 => NpyData::I32(each(bytes, i32::from_le_bytes)),
        ArrayType::U64 => NpyData::U64(each(bytes, u64::from_le_bytes)),
        ArrayType::I64 => NpyData::I64(each(bytes, i64::from_le_bytes)),
        ArrayType::F16 => NpyData::F16(each(bytes, f16::from_le_bytes)),
        ArrayType::F32 => NpyData::F32(each(bytes, f32::from_le_bytes)),
        ArrayType::F64 => NpyData::F64(each(bytes, f64::from_le_bytes)),
    }
}

/// Names and values of the counters.
fn counters(stats: &Stats) -> [(&'static str, u64); 8] {
    [
        ("warp_instructions", stats.warp_instructions),
        ("lane_instructions", stats.lane_instructions),
        ("loads", stats.loads),
        ("stores", stats.stores),
        ("atomics", stats.atomics),
        ("mma", stats.mma),
        ("barriers", stats.barriers),
        ("async_copies", stats.async_copies),
    ]
}

fn show(args: &EmulateArgs, stats: &Stats, written: &[Written]) -> Result<()> {
    if args.json {
        let counters: serde_json::Map<String, serde_json::Value> =
            counters(stats).into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let outputs: Vec<serde_json::Value> = written
            .iter()
            .map(|w| {
                serde_json::json!({
                    "path": w.path, "dtype": w.ty.name(), "shape": w.shape, "unwritten_elements": w.unwritten,
                })
            })
            .collect();
        return crate::out::json(&serde_json::json!({
            "kernel": args.entry, "seed": args.seed, "findings": [], "counters": counters, "outputs": outputs,
        }));
    }
    outln!("{}: no findings", args.entry)?;
    for (name, n) in counters(stats) {
        outln!("  {:<18} {n}", name.replace('_', " "))?;
    }
    for w in written {
        let left = if w.unwritten > 0 { format!(", {} elements never written", w.unwritten) } else { String::new() };
        outln!("  wrote {} ({} {:?}{left})", w.path.display(), w.ty.name(), w.shape)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        assert!(matches!(argument("i32:-5").unwrap(), Given::Plain(Value::I32(-5))));
        assert!(matches!(argument("out:bf16:12:c.npy").unwrap(), Given::Out(ArrayType::U16, 12, _)));
        let Given::InOut(from, to) = argument("inout:a:b.npy:c.npy").unwrap() else { panic!() };
        assert_eq!((from, to), ("a:b.npy".into(), "c.npy".into()));
        let Given::Plain(Value::Map(map)) =
            argument("tmap:2:bf16:dims=64,256:strides=128:box=64,32:swizzle=128:fill=nan").unwrap()
        else {
            panic!()
        };
        assert_eq!((map.argument, map.dims, map.strides_bytes), (2, vec![64, 256], vec![128]));
        assert_eq!((map.swizzle, map.fill, map.box_dims), (Swizzle::B128, Fill::Nan, vec![64, 32]));
        for bad in ["x", "in", "i32:1.5", "out:f32:x:y", "out:f99:1:y", "tmap:0:f32:dims=4", "tmap:0:f32:box", "z:1"] {
            assert!(argument(bad).is_err(), "{bad}");
        }
        assert_eq!(extents("3,2").unwrap(), [3, 2, 1]);
        assert!(extents("1,2,3,4").is_err() && extents("a").is_err());
    }
}
