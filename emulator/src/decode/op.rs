//! What does the machine execute? Decoded instructions: every operand is an index into a register bank.
//!
//! Constants, special registers and symbol addresses are registers too, filled when a frame is entered,
//! so no instruction needs to ask what kind of operand it has. 16-bit values live zero-extended in the 32-bit bank.

pub(crate) use super::kinds::*;
use crate::stats::Class;
use crate::syntax::ast::Ty;

/// Index into a register bank, relative to the frame.
pub(crate) type R = u32;

/// A predicate operand, possibly negated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PSrc {
    pub(crate) idx: R,
    pub(crate) neg: bool,
}

/// Comparison: what `setp` computes before it combines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cmp {
    pub(crate) op: CmpOp,
    pub(crate) ty: Ty,
    pub(crate) ftz: bool,
    pub(crate) a: R,
    pub(crate) b: R,
    pub(crate) combine: Option<(BoolOp, PSrc)>,
}

/// Float classes of `testp`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TestP {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cvt {
    pub(crate) d: R,
    pub(crate) a: R,
    pub(crate) to: Ty,
    pub(crate) from: Ty,
    pub(crate) d_wide: bool,
    pub(crate) a_wide: bool,
    /// The destination register has 16 bits.
    pub(crate) d_short: bool,
    /// Rounding; for integer rounding of a float in float format `to_int` is set too.
    pub(crate) rnd: Rnd,
    pub(crate) to_int: bool,
    pub(crate) ftz: bool,
    pub(crate) sat: bool,
    pub(crate) relu: bool,
}

/// Double-precision operations that can round in any direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directed {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Rcp,
    Sqrt,
}

/// 8-bit float formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fp8 {
    E4m3,
    E5m2,
}

/// Conversions of pairs of 8-bit floats.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CvtFp8 {
    FromF32 { ty: Fp8, relu: bool, d: R, hi: R, lo: R },
    FromF16 { ty: Fp8, relu: bool, d: R, a: R },
    ToF16 { ty: Fp8, relu: bool, d: R, a: R },
}

/// State space of an access, after decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemSpace {
    Global,
    Shared,
    Local,
    Param,
    Generic,
}

/// `[base + offset]`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addr {
    pub(crate) space: MemSpace,
    pub(crate) wide: bool,
    pub(crate) base: R,
    pub(crate) offset: i32,
}

/// Whom a fence or a strong access orders: the threads of the block, or all.
///
/// Cluster scope counts as all: what it leaves out is another cluster, which is rarely what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Block,
    Device,
}

/// How an access takes part in the order of memory (PTX ISA 9.0, sections 8.3 and 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemOrder {
    /// Relaxed, volatile or more.
    pub(crate) strong: bool,
    pub(crate) acquire: bool,
    pub(crate) release: bool,
    pub(crate) reach: Reach,
}

/// Element of a load or store: bytes in memory, bank of the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elem {
    pub(crate) bytes: u8,
    pub(crate) signed: bool,
    /// Registers are in the 64-bit bank.
    pub(crate) wide: bool,
    pub(crate) n: u8,
    /// Registers have 16 bits.
    pub(crate) short: bool,
    /// 64-bit strong accesses must not tear against atomics.
    pub(crate) order: MemOrder,
    /// Reads go through the first-level cache.
    pub(crate) cached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomOp {
    AddU,
    AddF,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
    MinF,
    MaxF,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Atom {
    pub(crate) op: AtomOp,
    pub(crate) ty: Ty,
    pub(crate) wide: bool,
    /// `None` for `red`.
    pub(crate) d: Option<R>,
    pub(crate) addr: Addr,
    pub(crate) b: R,
    pub(crate) c: R,
    pub(crate) order: MemOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReduxOp {
    Add,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
}

/// Instructions that need all lanes of a mask at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WarpOp {
    Sync,
    Shfl {
        mode: ShflMode,
        d: R,
        p: Option<R>,
        a: R,
        b: R,
        c: R,
    },
    VotePred {
        mode: VoteMode,
        d: R,
        a: PSrc,
    },
    Ballot {
        d: R,
        a: PSrc,
    },
    MatchAny {
        d: R,
        a: R,
        wide: bool,
    },
    MatchAll {
        d: R,
        p: Option<R>,
        a: R,
        wide: bool,
    },
    Redux {
        op: ReduxOp,
        d: R,
        a: R,
    },
    /// `elect.sync d|p`
    Elect {
        d: R,
        p: R,
    },
}

/// What `barrier` does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BarKind {
    Sync,
    Arrive,
    RedPopc { d: R, a: PSrc },
    RedAnd { d: R, a: PSrc },
    RedOr { d: R, a: PSrc },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) kind: BarKind,
    pub(crate) id: R,
    pub(crate) count: Option<R>,
    pub(crate) aligned: bool,
}

/// Element types of a tensor-core instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MmaTy {
    F16,
    Bf16,
    Tf32,
    S8,
    U8,
    E4m3,
    E5m2,
}

/// `mma.sync`; shapes m16n8kK.
#[derive(Clone, Debug)]
pub(crate) struct Mma {
    pub(crate) a_ty: MmaTy,
    pub(crate) b_ty: MmaTy,
    pub(crate) k: u8,
    /// Accumulators are packed f16 instead of f32.
    pub(crate) d_half: bool,
    pub(crate) c_half: bool,
    /// Integer sums stop at the ends of their range instead of wrapping.
    pub(crate) saturate: bool,
    pub(crate) d: Vec<R>,
    pub(crate) a: Vec<R>,
    pub(crate) b: Vec<R>,
    pub(crate) c: Vec<R>,
}

#[derive(Clone, Debug)]
pub(crate) struct LdMatrix {
    pub(crate) store: bool,
    pub(crate) trans: bool,
    pub(crate) regs: Vec<R>,
    pub(crate) addr: Addr,
}

/// Which matrix of `wmma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frag {
    A,
    B,
    C,
}

/// `wmma.load` and `wmma.store`.
#[derive(Clone, Debug)]
pub(crate) struct WmmaMove {
    pub(crate) store: bool,
    pub(crate) rows: u8,
    pub(crate) cols: u8,
    pub(crate) row_major: bool,
    pub(crate) ty: Ty,
    pub(crate) regs: Vec<R>,
    pub(crate) addr: Addr,
    pub(crate) stride: Option<R>,
}

/// `wmma.mma`.
#[derive(Clone, Debug)]
pub(crate) struct WmmaMma {
    pub(crate) m: u8,
    pub(crate) n: u8,
    pub(crate) k: u8,
    pub(crate) ty: MmaTy,
    pub(crate) c_half: bool,
    pub(crate) d_half: bool,
    pub(crate) saturate: bool,
    pub(crate) d: Vec<R>,
    pub(crate) a: Vec<R>,
    pub(crate) b: Vec<R>,
    pub(crate) c: Vec<R>,
}

/// Functions of the device's own library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Printf,
    AssertFail,
    Malloc,
    Free,
}

/// What a call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Function(usize),
    /// The address in a register of the 64-bit bank.
    Register(R),
    Builtin(Builtin),
}

/// A call: what it calls, and where arguments and results lie in the caller's frame (offset, bytes).
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: Target,
    /// Caller offsets of the arguments.
    pub(crate) args: Vec<(u32, u32)>,
    /// Caller offsets of the results.
    pub(crate) results: Vec<(u32, u32)>,
}

/// One decoded instruction.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Nop,
    Un32(Un32, R, R),
    Bin32(Bin32, R, R, R),
    Tri32(Tri32, R, [R; 3]),
    /// Base, insert, position, length.
    Bfi32(R, [R; 4]),
    Un64(Un64, R, R),
    Bin64(Bin64, R, R, R),
    Tri64(Tri64, R, [R; 3]),
    Bfi64(R, [R; 4]),
    Bfe64 {
        signed: bool,
        d: R,
        a: R,
        pos: R,
        len: R,
    },
    Shift64(Shift64, R, R, R),
    Count64(Count64, R, R),
    MulWide {
        signed: bool,
        d: R,
        a: R,
        b: R,
    },
    MadWide {
        signed: bool,
        d: R,
        a: R,
        b: R,
        c: R,
    },
    /// Add or subtract with carry.
    Carry {
        wide: bool,
        sub: bool,
        cin: bool,
        cout: bool,
        d: R,
        a: R,
        b: R,
    },
    MadCarry {
        hi: Option<bool>,
        cin: bool,
        cout: bool,
        d: R,
        s: [R; 3],
    },
    Pack64 {
        d: R,
        lo: R,
        hi: R,
    },
    Unpack64 {
        a: R,
        lo: R,
        hi: R,
    },
    Pack16x2 {
        d: R,
        lo: R,
        hi: R,
    },
    Unpack16x2 {
        a: R,
        lo: R,
        hi: R,
    },
    Pack16x4 {
        d: R,
        s: [R; 4],
    },
    Unpack16x4 {
        a: R,
        d: [R; 4],
    },
    F32Bin(FBin, FMod, R, R, R),
    F32Un(FUn, FMod, R, R),
    F32Fma(FMod, R, [R; 3]),
    F64Bin(FBin, R, R, R),
    F64Un(FUn, R, R),
    F64Fma(R, [R; 3]),
    /// Not to nearest; operands that do not count repeat the first.
    F64Directed(Directed, Rnd, R, [R; 3]),
    Half(HalfInstr, R, [R; 3]),
    Cvt(Cvt),
    /// `cvt.rn.f16x2.f32 d, hi, lo`.
    CvtPack {
        half: Half,
        rnd: Rnd,
        relu: bool,
        d: R,
        hi: R,
        lo: R,
    },
    CvtFp8(CvtFp8),
    SetP {
        cmp: Cmp,
        d: R,
        d2: Option<R>,
    },
    /// `setp` on packed halves: one predicate per half.
    SetP2 {
        cmp: Cmp,
        d: R,
        d2: R,
    },
    /// `set`: result in a register, all ones or 1.0.
    Set {
        cmp: Cmp,
        d: R,
        to: Ty,
    },
    TestP {
        test: TestP,
        d: R,
        a: R,
        wide: bool,
    },
    Sel32 {
        d: R,
        a: R,
        b: R,
        p: PSrc,
    },
    Sel64 {
        d: R,
        a: R,
        b: R,
        p: PSrc,
    },
    /// `c >= 0 ? a : b` on 64-bit values.
    Slct64 {
        d: R,
        a: R,
        b: R,
        c: R,
        float: bool,
    },
    PMov {
        d: R,
        a: PSrc,
    },
    PBool {
        op: BoolOp,
        d: R,
        a: PSrc,
        b: PSrc,
    },
    Ld {
        elem: Elem,
        dst: [R; 4],
        addr: Addr,
    },
    St {
        elem: Elem,
        src: [R; 4],
        addr: Addr,
    },
    Atom(Box<Atom>),
    /// `isspacep`
    IsSpace {
        space: MemSpace,
        d: R,
        a: R,
    },
    CpAsync {
        dst: Addr,
        src: Addr,
        bytes: u8,
        size: Option<R>,
        ignore: Option<PSrc>,
        /// As for an element.
        cached: bool,
    },
    CpCommit,
    /// Waits until at most so many groups are pending; `None` waits for everything.
    CpWait(Option<u32>),
    LdMatrix(Box<LdMatrix>),
    /// `movmatrix.trans`
    MovMatrix {
        d: R,
        a: R,
    },
    Mma(Box<Mma>),
    WmmaMove(Box<WmmaMove>),
    WmmaMma(Box<WmmaMma>),
    /// Instructions of compute capability 9.0.
    Hopper(Box<super::hopper_op::Hopper>),
    ActiveMask {
        d: R,
    },
    Clock {
        d: R,
        wide: bool,
    },
    Warp {
        op: WarpOp,
        mask: R,
    },
    Bar(Bar),
    Fence(Reach),
    Bra(u32),
    BrxIdx {
        idx: R,
        targets: Box<[u32]>,
    },
    Call(Box<Call>),
    Ret,
    Exit,
    Trap,
}

/// Special registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskGt,
    LaneMaskGe,
    DynamicSmem,
    TotalSmem,
    Zero,
    One,
}

/// What a constant register holds; some are known only at launch or call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Const {
    Bits(u64),
    Special(Special),
    /// Address in the shared window of variable `id`, plus offset.
    Shared(usize, i64),
    /// Address of module variable `id`, plus offset.
    Global(usize, i64),
    /// Offset in the frame's local memory.
    Local(i64),
    /// Offset in the kernel's parameters.
    ParamAddr(i64),
    /// Value of kernel parameter bytes.
    Param {
        offset: u32,
        bytes: u8,
        signed: bool,
    },
}

/// A decoded instruction with its guard and origin.
#[derive(Clone, Debug)]
pub(crate) struct Instr {
    pub(crate) op: Op,
    /// 0 for none; else index*2 + negated + 1.
    pub(crate) guard: u32,
    pub(crate) line: u32,
    pub(crate) class: Class,
    /// Index into the module's locations, 0 for none.
    pub(crate) loc: u32,
}
