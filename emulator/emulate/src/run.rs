//! How does a kernel get its arguments, and what comes back?

use enel_emulator::{
    Arg, Checks, Fill, Launch, LaunchError, MapElement, Memory, MemoryError, Options, Param, Stats, Swizzle, TensorMap,
    TensorMapError, Ty, launch,
};

use crate::array::{Array, ArrayError, ArrayType};
use crate::names::readable;
use crate::program::{Program, ProgramError};

/// A tensor map over the array of another argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapOf {
    /// Which argument's array, from 0.
    pub argument: usize,
    /// Element type.
    pub element: MapElement,
    /// Extents, innermost first.
    pub dims: Vec<u64>,
    /// Pitches in bytes of all dimensions but the innermost; empty for a dense tensor.
    pub strides_bytes: Vec<u64>,
    /// Extents of a box.
    pub box_dims: Vec<u32>,
    /// Steps inside a box; empty for ones.
    pub elem_strides: Vec<u32>,
    /// Layout in shared memory.
    pub swizzle: Swizzle,
    /// What lies outside.
    pub fill: Fill,
}

/// One argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A pointer to an array.
    In(Array),
    /// A pointer to room for an array, which comes back.
    Out(ArrayType, usize),
    /// A pointer to an array, which comes back.
    InOut(Array),
    /// A tensor map, by value or behind a pointer, whichever the kernel declares.
    Map(MapOf),
    /// 32-bit signed integer.
    I32(i32),
    /// 32-bit unsigned integer.
    U32(u32),
    /// 64-bit signed integer.
    I64(i64),
    /// 64-bit unsigned integer.
    U64(u64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Anything else passed by value, as it lies in memory.
    Bytes(Vec<u8>),
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The kernel: its PTX name, its C++ name, or an instance the program was made with.
    pub kernel: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; `None` for what the kernel asks for.
    pub cluster: Option<[u32; 3]>,
    /// Dynamic shared memory, in bytes.
    pub smem_bytes: u32,
    /// Arguments in order. An array that only tensor maps use and the kernel does not take is left out of the call.
    pub args: &'a [Value],
    /// Draws the schedule; 0 is the natural one.
    pub seed: u64,
    /// Mistakes to look for.
    pub checks: Checks,
    /// Blocks that take turns, for kernels whose blocks wait for each other.
    pub resident_blocks: usize,
    /// Warp instructions the launch may execute.
    pub max_instructions: Option<u64>,
}

impl<'a> Job<'a> {
    /// One block of one thread, all checks, natural order.
    pub fn new(kernel: &'a str, args: &'a [Value]) -> Job<'a> {
        let Options { seed, checks, max_instructions, resident_blocks, .. } = Options::default();
        Job {
            kernel,
            grid: [1; 3],
            block: [1; 3],
            cluster: None,
            smem_bytes: 0,
            args,
            seed,
            checks,
            resident_blocks,
            max_instructions,
        }
    }
}

/// What a launch did.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was executed.
    pub stats: Stats,
    /// For each argument the array that comes back, and how many of its elements nobody has written.
    pub arrays: Vec<Option<(Array, usize)>>,
    /// What the kernel printed, in order; cut after 1 MiB, with a line that says so.
    pub printed: String,
    /// Arguments, from 0, whose arrays only go in and were written nevertheless: what was written is lost.
    pub lost: Vec<usize>,
}

impl Report {
    /// The array that came back through argument `index`.
    ///
    /// # Errors
    /// [`ArrayError::None`] if the argument gives none.
    pub fn array(&self, index: usize) -> Result<&Array, ArrayError> {
        self.arrays.get(index).and_then(Option::as_ref).map(|(array, _)| array).ok_or(ArrayError::None { index })
    }
}

/// Why a launch gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no such kernel.
    #[error(transparent)]
    Kernel(#[from] ProgramError),
    /// The arguments are not what the kernel takes.
    #[error("`{}` takes ({}), the arguments are ({}){}", readable(kernel), expected.join(", "), found.join(", "), hint(*differs))]
    Arguments {
        /// The kernel.
        kernel: String,
        /// Type of each parameter, or its size.
        expected: Vec<String>,
        /// Kind of each argument.
        found: Vec<String>,
        /// The first argument that does not fit, from 0, if there are as many as parameters.
        differs: Option<usize>,
    },
    /// A tensor map over an argument that is no array, or is not there.
    #[error("argument {index} is a tensor map of argument {argument}, which {what}; arguments count from 0")]
    MapTarget {
        /// The map.
        index: usize,
        /// What it names.
        argument: usize,
        /// What is wrong with that.
        what: &'static str,
    },
    /// Integers have no NaN.
    #[error("argument {index}: a tensor map of integers cannot be filled with NaN")]
    MapFill {
        /// The map.
        index: usize,
    },
    /// A tensor map no driver would make.
    #[error("argument {index}, a tensor map")]
    Map {
        /// Which argument, from 0.
        index: usize,
        /// Why.
        #[source]
        source: TensorMapError,
    },
    /// A tensor map over something that is no array, or too small.
    #[error("argument {index} maps {need_bytes} B of argument {argument}, which has {have_bytes} B")]
    Mapped {
        /// The map.
        index: usize,
        /// What it maps.
        argument: usize,
        /// Bytes it may touch.
        need_bytes: u64,
        /// Bytes there are.
        have_bytes: u64,
    },
    /// No room.
    #[error("argument {index}")]
    Memory {
        /// Which argument, from 0.
        index: usize,
        /// Why.
        #[source]
        source: MemoryError,
    },
    /// A launch no device would accept.
    #[error("the launch is refused")]
    Refused(#[source] LaunchError),
    /// A mistake in the kernel.
    #[error("{}", readable(&finding.to_string()))]
    Finding {
        /// What and where; [`Finding::of`](crate::Finding::of) takes it apart.
        finding: LaunchError,
        /// What the kernel printed before.
        printed: String,
    },
}

fn hint(differs: Option<usize>) -> String {
    differs.map_or(String::new(), |index| format!(": argument {index}, from 0, does not fit"))
}

/// A parameter's type as PTX has it, or the size of a struct.
fn spelled(param: &Param) -> String {
    let ty = format!("{:?}", param.ty).to_lowercase();
    let bits = ty.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<u64>();
    if bits == Ok(8 * u64::from(param.bytes)) && param.ty != Ty::B8 {
        ty
    } else {
        format!("{} B by value", param.bytes)
    }
}

impl Value {
    fn kind(&self) -> String {
        match self {
            Value::In(_) | Value::Out(..) | Value::InOut(_) => "array".to_owned(),
            Value::Map(_) => "tensor map".to_owned(),
            Value::I32(_) => "i32".to_owned(),
            Value::U32(_) => "u32".to_owned(),
            Value::I64(_) => "i64".to_owned(),
            Value::U64(_) => "u64".to_owned(),
            Value::F32(_) => "f32".to_owned(),
            Value::F64(_) => "f64".to_owned(),
            Value::Bytes(data) => format!("{} B by value", data.len()),
        }
    }

    /// Whether a parameter takes this: by its size, and by its type where that leaves no doubt.
    fn fits(&self, param: &Param) -> bool {
        let (bytes, ty) = (param.bytes, param.ty);
        let is_whole = matches!(ty, Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64 | Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64);
        let is_real = matches!(ty, Ty::F32 | Ty::F64);
        match self {
            Value::In(_) | Value::Out(..) | Value::InOut(_) | Value::I64(_) | Value::U64(_) => bytes == 8 && !is_real,
            Value::F64(_) => bytes == 8 && !is_whole,
            Value::Map(_) => bytes == 128 || bytes == 8 && !is_real,
            // Narrower parameters take the low bytes of an integer.
            Value::I32(_) | Value::U32(_) => matches!(bytes, 1 | 2 | 4) && !is_real,
            Value::F32(_) => bytes == 4 && !is_whole,
            Value::Bytes(data) => data.len() == bytes as usize,
        }
    }

    fn byte_size(&self) -> Option<usize> {
        match self {
            Value::In(array) | Value::InOut(array) => Some(array.bytes.len()),
            Value::Out(ty, count) => Some(ty.bytes().saturating_mul(*count)),
            _ => None,
        }
    }
}

/// Which arguments are passed: all, less arrays that only serve maps, so that sizes match the parameters.
fn passed(args: &[Value], params: &[Param]) -> Option<Vec<usize>> {
    fn rest(args: &[Value], at: usize, params: &[Param], is_mapped: &[bool], taken: &mut Vec<usize>) -> bool {
        let Some(value) = args.get(at) else { return params.is_empty() };
        if let Some((first, others)) = params.split_first()
            && value.fits(first)
        {
            taken.push(at);
            if rest(args, at + 1, others, is_mapped, taken) {
                return true;
            }
            taken.pop();
        }
        is_mapped[at] && rest(args, at + 1, params, is_mapped, taken)
    }
    // A parameter more or less decides, so hopeless searches end at once.
    if params.len() > args.len() {
        return None;
    }
    let mut is_mapped = vec![false; args.len()];
    for value in args {
        if let Value::Map(map) = value
            && let Some(slot) = is_mapped.get_mut(map.argument)
        {
            *slot = args[map.argument].byte_size().is_some();
        }
    }
    if args.len() - params.len() > is_mapped.iter().filter(|m| **m).count() {
        return None;
    }
    let mut taken = Vec::new();
    rest(args, 0, params, &is_mapped, &mut taken).then_some(taken)
}

impl Program {
    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// [`RunError::Finding`] for a mistake in the kernel; the others for a job that makes no sense.
    pub fn run(&self, job: &Job<'_>) -> Result<Report, RunError> {
        let kernel = self.kernel(job.kernel)?;
        let entry = self.module.entry(kernel);
        let params = entry.map_or(&[][..], |e| &e.params);
        check_maps(job.args)?;
        let Some(order) = passed(job.args, params) else {
            let is_same = job.args.len() == params.len();
            let differs = job.args.iter().zip(params).position(|(value, param)| !value.fits(param));
            return Err(RunError::Arguments {
                kernel: kernel.to_owned(),
                expected: params.iter().map(spelled).collect(),
                found: job.args.iter().map(Value::kind).collect(),
                differs: differs.filter(|_| is_same),
            });
        };
        let mut memory = Memory::new();
        let addresses = place(&mut memory, job.args)?;
        let mut args = Vec::with_capacity(order.len());
        for (&index, param) in order.iter().zip(params) {
            args.push(argument(&mut memory, job.args, &addresses, (index, param.bytes))?);
        }
        let what = Launch {
            entry: kernel,
            grid: job.grid,
            block: job.block,
            cluster: job.cluster,
            dynamic_smem_bytes: job.smem_bytes,
            args: &args,
        };
        let n_blocks = job.grid.iter().map(|&n| n as usize).product::<usize>();
        let options = Options {
            seed: job.seed,
            checks: job.checks,
            max_instructions: job.max_instructions,
            resident_blocks: if self.syncs_grid() { n_blocks.max(job.resident_blocks) } else { job.resident_blocks },
            ..Options::default()
        };
        let ran = launch(&self.module, &mut memory, &what, &options);
        let printed = memory.take_printed();
        let stats = ran.map_err(|error| match error {
            LaunchError::NoKernel { .. }
            | LaunchError::Instruction { .. }
            | LaunchError::Dimensions { .. }
            | LaunchError::SharedMemory { .. }
            | LaunchError::Argument { .. }
            | LaunchError::ModuleVariables { .. } => RunError::Refused(error),
            finding => RunError::Finding { finding, printed: printed.clone() },
        })?;
        let lost = lost(&memory, job.args, &addresses);
        let mut arrays = Vec::with_capacity(job.args.len());
        for (index, value) in job.args.iter().enumerate() {
            arrays
                .push(collect(&memory, value, addresses[index]).map_err(|source| RunError::Memory { index, source })?);
        }
        Ok(Report { stats, arrays, printed, lost })
    }
}

/// Refuses maps of what is no array, and of integers filled with NaN.
fn check_maps(args: &[Value]) -> Result<(), RunError> {
    for (index, value) in args.iter().enumerate() {
        let Value::Map(map) = value else { continue };
        let argument = map.argument;
        match args.get(argument) {
            None => return Err(RunError::MapTarget { index, argument, what: "is not there" }),
            Some(target) if target.byte_size().is_none() => {
                return Err(RunError::MapTarget { index, argument, what: "is no array" });
            }
            Some(_) => {}
        }
        let is_whole = matches!(
            map.element,
            MapElement::U8 | MapElement::U16 | MapElement::U32 | MapElement::I32 | MapElement::U64 | MapElement::I64
        );
        if is_whole && map.fill == Fill::Nan {
            return Err(RunError::MapFill { index });
        }
    }
    Ok(())
}

/// Arrays that only go in and are not what they were.
fn lost(memory: &Memory, args: &[Value], addresses: &[u64]) -> Vec<usize> {
    let is_changed = |(index, value): (usize, &Value)| {
        let Value::In(array) = value else { return None };
        let mut now = vec![0; array.bytes.len()];
        let is_read = memory.read(addresses[index], &mut now).is_ok();
        (is_read && now != array.bytes).then_some(index)
    };
    args.iter().enumerate().filter_map(is_changed).collect()
}

/// Puts every array into memory; 0 for arguments that have none.
fn place(memory: &mut Memory, args: &[Value]) -> Result<Vec<u64>, RunError> {
    let mut addresses = Vec::with_capacity(args.len());
    for (index, value) in args.iter().enumerate() {
        let failed = |source| RunError::Memory { index, source };
        let address = match value.byte_size() {
            Some(bytes) => memory.alloc(bytes).map_err(failed)?,
            None => 0,
        };
        if let Value::In(array) | Value::InOut(array) = value {
            memory.write(address, &array.bytes).map_err(failed)?;
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn argument(
    memory: &mut Memory,
    args: &[Value],
    addresses: &[u64],
    (index, bytes): (usize, u32),
) -> Result<Arg, RunError> {
    let cut = |bits: u32| Arg::Bytes(bits.to_le_bytes()[..bytes as usize].to_vec());
    Ok(match &args[index] {
        Value::In(_) | Value::Out(..) | Value::InOut(_) => Arg::U64(addresses[index]),
        Value::I32(x) => cut(*x as u32),
        Value::U32(x) => cut(*x),
        Value::I64(x) => Arg::I64(*x),
        Value::U64(x) => Arg::U64(*x),
        Value::F32(x) => Arg::F32(*x),
        Value::F64(x) => Arg::F64(*x),
        Value::Bytes(data) => Arg::Bytes(data.clone()),
        Value::Map(map) => {
            let encoded = encode(map, args, addresses, index)?;
            if bytes == 128 {
                return Ok(Arg::Bytes(encoded.to_vec()));
            }
            let failed = |source| RunError::Memory { index, source };
            let address = memory.alloc(encoded.len()).map_err(failed)?;
            memory.write(address, &encoded).map_err(failed)?;
            Arg::U64(address)
        }
    })
}

fn encode(map: &MapOf, args: &[Value], addresses: &[u64], index: usize) -> Result<[u8; 128], RunError> {
    let size = u64::from(map.element.bytes());
    let mut strides_bytes = map.strides_bytes.clone();
    if strides_bytes.is_empty() {
        let mut pitch = size;
        for extent in &map.dims[..map.dims.len().saturating_sub(1)] {
            pitch = pitch.saturating_mul(*extent);
            strides_bytes.push(pitch);
        }
    } else if strides_bytes.len() == map.dims.len() && strides_bytes[0] == size {
        // The innermost pitch is the element itself.
        strides_bytes.remove(0);
    }
    let have_bytes = args.get(map.argument).and_then(Value::byte_size).unwrap_or(0) as u64;
    let elem_strides = if map.elem_strides.is_empty() { vec![1; map.dims.len()] } else { map.elem_strides.clone() };
    let tensor = TensorMap {
        address: addresses.get(map.argument).copied().unwrap_or(0),
        element: map.element,
        dims: map.dims.clone(),
        strides_bytes,
        box_dims: map.box_dims.clone(),
        elem_strides,
        swizzle: map.swizzle,
        fill: map.fill,
    };
    let encoded = tensor.encode().map_err(|source| RunError::Map { index, source })?;
    let reach = |(extent, pitch): (&u64, &u64)| (extent - 1).saturating_mul(*pitch);
    let outer: u64 = tensor.dims[1..].iter().zip(&tensor.strides_bytes).map(reach).fold(0, u64::saturating_add);
    let need_bytes = outer.saturating_add(tensor.dims[0].saturating_mul(size));
    if need_bytes > have_bytes {
        return Err(RunError::Mapped { index, argument: map.argument, need_bytes, have_bytes });
    }
    Ok(encoded)
}

fn collect(memory: &Memory, value: &Value, address: u64) -> Result<Option<(Array, usize)>, MemoryError> {
    let ty = match value {
        Value::Out(ty, _) => *ty,
        Value::InOut(array) => array.ty,
        _ => return Ok(None),
    };
    let mut bytes = vec![0; value.byte_size().unwrap_or(0)];
    memory.read(address, &mut bytes)?;
    let mut unwritten = 0;
    for at in (0..bytes.len()).step_by(ty.bytes()) {
        unwritten += usize::from(!memory.is_written(address + at as u64, ty.bytes())?);
    }
    Ok(Some((Array { ty, bytes }, unwritten)))
}
