//! What can go wrong, and everything needed to act on it.

/// Why a PTX text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Characters that form no token.
    #[error("line {line}: cannot read {found}")]
    Token {
        /// PTX line, from 1.
        line: u32,
        /// What stands there.
        found: String,
    },
    /// The grammar wants something else.
    #[error("line {line}: expected {expected}, found {found}")]
    Syntax {
        /// PTX line, from 1.
        line: u32,
        /// What the grammar wants.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// An instruction, or a modifier of one, that this machine does not know.
    #[error("line {line}: unknown instruction `{text}`: {what}")]
    UnknownInstruction {
        /// PTX line, from 1.
        line: u32,
        /// The opcode as written.
        text: String,
        /// Which part is unknown.
        what: String,
    },
    /// Known PTX that this machine does not execute.
    #[error("line {line}: not supported: {text}")]
    Unsupported {
        /// PTX line, from 1.
        line: u32,
        /// What it is.
        text: String,
    },
    /// An operand of the wrong kind or width.
    #[error("line {line}: `{text}`: expected {expected}, found {found}")]
    Operand {
        /// PTX line, from 1.
        line: u32,
        /// The opcode as written.
        text: String,
        /// What the instruction wants.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name nobody declared.
    #[error("line {line}: `{name}` is not declared")]
    Undeclared {
        /// PTX line, from 1.
        line: u32,
        /// The name.
        name: String,
    },
    /// A name declared twice in one scope.
    #[error("line {line}: `{name}` is declared twice")]
    Duplicate {
        /// PTX line, from 1.
        line: u32,
        /// The name.
        name: String,
    },
    /// Something larger than any device allows.
    #[error("line {line}: {what} needs {need_bytes} B, at most {limit_bytes} B are allowed")]
    TooLarge {
        /// PTX line, from 1.
        line: u32,
        /// What is too large.
        what: String,
        /// Its size.
        need_bytes: u64,
        /// The largest size allowed.
        limit_bytes: u64,
    },
}

impl ParseError {
    /// Whether one instruction is at fault, not the text around it.
    pub(crate) fn is_of_instruction(&self) -> bool {
        matches!(self, Self::UnknownInstruction { .. } | Self::Unsupported { .. } | Self::Operand { .. })
    }
}

/// Why a host-side memory operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The allocation is too large for this emulated device.
    #[error("cannot allocate {bytes} B, at most {limit_bytes} B are allowed")]
    TooLarge {
        /// Size asked for.
        bytes: u64,
        /// Largest size of one allocation.
        limit_bytes: u64,
    },
    /// The address is not the start of a live allocation.
    #[error("address {address:#x} is not the start of an allocation")]
    NotAllocated {
        /// The address given.
        address: u64,
    },
    /// A range that is not inside one live allocation.
    #[error("range of {bytes} B at {address:#x} is outside any allocation ({nearest})")]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Length.
        bytes: u64,
        /// The allocation the address points at or behind.
        nearest: String,
    },
}

/// As CUDA writes places.
fn triple([x, y, z]: [u32; 3]) -> String {
    format!("({x}, {y}, {z})")
}

/// Where in a launch something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the kernel.
    pub kernel: String,
    /// PTX line, from 1.
    pub ptx_line: u32,
    /// Source file and line, where the PTX has `.loc`.
    pub source: Option<(String, u32)>,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index inside the block.
    pub thread: [u32; 3],
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(f, "kernel `{}`, PTX line {}", self.kernel, self.ptx_line)?;
        if let Some((file, line)) = &self.source {
            write!(f, " ({file}:{line})")?;
        }
        write!(f, ", block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})")
    }
}

/// A state space, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Device memory.
    Global,
    /// Memory of one block.
    Shared,
    /// Memory of one thread.
    Local,
    /// Kernel parameters.
    Param,
    /// Decided by the address.
    Generic,
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Param => "param",
            Space::Generic => "generic",
        })
    }
}

/// What a memory access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Read-modify-write.
    Atomic,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Atomic => "atomic",
        })
    }
}

/// Why a launch was refused or stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The module has no such kernel.
    #[error("no kernel `{kernel}` in the module")]
    NoKernel {
        /// Name asked for.
        kernel: String,
    },
    /// The kernel, or a function it calls, holds an instruction this machine does not know.
    #[error("kernel `{kernel}`{}", place.as_ref().map_or(String::new(), |(file, line)| format!(", from {file}:{line}")))]
    Instruction {
        /// Name of the kernel.
        kernel: String,
        /// Source file and line, where the PTX has `.loc`.
        place: Option<(String, u32)>,
        /// Which, and where.
        #[source]
        source: Box<ParseError>,
    },
    /// Grid or block dimensions outside what devices allow.
    #[error("kernel `{kernel}`: {what} {found:?}, {expected}")]
    Dimensions {
        /// Name of the kernel.
        kernel: String,
        /// `grid` or `block`.
        what: &'static str,
        /// What was asked for.
        found: [u32; 3],
        /// What is allowed.
        expected: String,
    },
    /// More shared memory than a block may have.
    #[error(
        "kernel `{kernel}` needs {need_bytes} B of shared memory per block, at most {limit_bytes} B are allowed on {target}"
    )]
    SharedMemory {
        /// Name of the kernel.
        kernel: String,
        /// Static and dynamic bytes together.
        need_bytes: u64,
        /// Largest size allowed.
        limit_bytes: u64,
        /// The architecture the PTX names.
        target: String,
    },
    /// Number or size of the arguments does not match the kernel.
    #[error("kernel `{kernel}`, argument {index}: expected {expected}, found {found}")]
    Argument {
        /// Name of the kernel.
        kernel: String,
        /// Position, from 0.
        index: usize,
        /// What the kernel declares.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// Module variables could not be placed in memory.
    #[error("module variables of kernel `{kernel}`")]
    ModuleVariables {
        /// Name of the kernel.
        kernel: String,
        /// Why.
        #[source]
        source: MemoryError,
    },
    /// An access outside every allocation.
    #[error("{place}: {access} of {bytes} B at {space} address {address:#x} is out of bounds ({nearest})")]
    OutOfBounds {
        /// Where.
        place: Box<Place>,
        /// What it did.
        access: Access,
        /// Which memory.
        space: Space,
        /// The address.
        address: u64,
        /// Size of the access.
        bytes: u32,
        /// The allocation the address points at or behind.
        nearest: String,
    },
    /// An access to an allocation that was freed before the launch.
    #[error("{place}: {access} of {bytes} B at global address {address:#x} after it was freed ({allocation})")]
    UseAfterFree {
        /// Where.
        place: Box<Place>,
        /// What it did.
        access: Access,
        /// The address.
        address: u64,
        /// Size of the access.
        bytes: u32,
        /// The allocation that was there.
        allocation: String,
    },
    /// An address that is not a multiple of the access size.
    #[error("{place}: {access} at {space} address {address:#x} is not aligned to {bytes} B")]
    Misaligned {
        /// Where.
        place: Box<Place>,
        /// What it did.
        access: Access,
        /// Which memory.
        space: Space,
        /// The address.
        address: u64,
        /// Alignment wanted.
        bytes: u32,
    },
    /// A read of bytes nobody wrote, or that an asynchronous copy has not delivered yet.
    #[error(
        "{place}: {access} of {bytes} B at {space} address {address:#x} ({object}), which holds bytes never written or still \
         in flight"
    )]
    Uninitialised {
        /// Where.
        place: Box<Place>,
        /// What it did.
        access: Access,
        /// Which memory.
        space: Space,
        /// The address.
        address: u64,
        /// Size of the access.
        bytes: u32,
        /// The variable or allocation it lies in, with the offset.
        object: String,
    },
    /// A barrier used in a way the hardware leaves undefined.
    #[error("{place}: barrier {barrier}: {detail}")]
    Barrier {
        /// Where.
        place: Box<Place>,
        /// Barrier number.
        barrier: u32,
        /// What is wrong.
        detail: String,
    },
    /// An mbarrier used in a way the hardware leaves undefined.
    #[error("{place}: mbarrier at shared address {address:#x}: {detail}")]
    Mbarrier {
        /// Where.
        place: Box<Place>,
        /// Offset in the shared memory of its block.
        address: u64,
        /// What is wrong.
        detail: String,
    },
    /// An asynchronous copy with operands no device accepts.
    #[error("{place}: {detail}")]
    AsyncCopy {
        /// Where.
        place: Box<Place>,
        /// What is wrong.
        detail: String,
    },
    /// A warp-wide instruction whose lanes do not agree or never meet.
    #[error("{place}: {detail}")]
    WarpSync {
        /// Where.
        place: Box<Place>,
        /// What is wrong.
        detail: String,
    },
    /// Nothing can run any more.
    #[error("kernel `{kernel}`, block {}: deadlock: {}", triple(*block), waiting.join("; "))]
    Deadlock {
        /// Name of the kernel.
        kernel: String,
        /// Block index.
        block: [u32; 3],
        /// One line per waiting group of lanes.
        waiting: Vec<String>,
    },
    /// An `assert` of the kernel failed.
    #[error("{place}: assertion {message}")]
    Assertion {
        /// Where.
        place: Box<Place>,
        /// The condition, its file, line and function.
        message: String,
    },
    /// The kernel executed `trap`.
    #[error("{place}: trap")]
    Trap {
        /// Where.
        place: Box<Place>,
    },
    /// The instruction budget ran out.
    #[error("{place}: still running after {limit} warp instructions")]
    TooManyInstructions {
        /// Where it was.
        place: Box<Place>,
        /// The budget.
        limit: u64,
    },
    /// Two accesses that nothing orders.
    #[error("{finding}")]
    Race {
        /// Both of them.
        finding: Box<crate::Race>,
    },
    /// Registers of `wgmma` that no fence, or no wait, keeps apart from what else is done with them.
    #[error("{place}: {detail}")]
    Wgmma {
        /// Where.
        place: Box<Place>,
        /// What is wrong.
        detail: String,
    },
    /// Shared memory of another block of the cluster, which nothing keeps from ending first.
    #[error(
        "{place}: {access} at shared address {address:#x} of block {}, which may have ended: no barrier of the cluster \
         comes between this and its end", triple(*of)
    )]
    Ended {
        /// Where.
        place: Box<Place>,
        /// What it did.
        access: Access,
        /// Offset in that block's shared memory.
        address: u64,
        /// The block whose memory it is.
        of: [u32; 3],
    },
    /// An accumulator of `wgmma` touched before the wait that completes it.
    #[error("{finding}")]
    Accumulator {
        /// Where, and of which multiplication.
        finding: Box<crate::Early>,
    },
    /// Calls nest deeper than the local memory of a thread allows.
    #[error("{place}: call stack needs more than {limit_bytes} B of local memory")]
    StackOverflow {
        /// Where.
        place: Box<Place>,
        /// Largest local memory of a thread.
        limit_bytes: u32,
    },
}
