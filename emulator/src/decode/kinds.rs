//! Which arithmetic does an instruction do? The small enumerations that `op` is built from.

/// Rounding modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rnd {
    /// To nearest, ties to even.
    Near,
    /// Toward zero.
    Zero,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// To nearest, ties away from zero.
    NearAway,
}

/// Modifiers of a float instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FMod {
    pub(crate) ftz: bool,
    pub(crate) sat: bool,
    pub(crate) rnd: Rnd,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Un32 {
    Mov,
    Not,
    Not16,
    /// 1 for 0, else 0.
    Cnot,
    Neg,
    Neg16,
    Abs,
    Abs16,
    Popc,
    Clz,
    Brev,
    BfindU,
    BfindS,
    BfindShiftU,
    BfindShiftS,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bin32 {
    Add,
    Sub,
    Mul,
    MulHiS,
    MulHiU,
    Mul24S,
    Mul24U,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrS,
    ShrU,
    AddSat,
    SubSat,
    Add16,
    Sub16,
    Mul16,
    MulHiS16,
    MulHiU16,
    MulWideS16,
    MulWideU16,
    DivS16,
    RemS16,
    MinS16,
    MaxS16,
    Shl16,
    ShrS16,
    Bmsk,
    Add16x2,
    MinS16x2,
    MinU16x2,
    MaxS16x2,
    MaxU16x2,
    SzextS,
    SzextU,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Tri32 {
    MadLo,
    MadHiS,
    MadHiU,
    Mad16,
    MadWideS16,
    MadWideU16,
    BfeS,
    BfeU,
    Prmt(PrmtMode),
    /// Funnel shifts: low word, high word, amount.
    ShfLWrap,
    ShfLClamp,
    ShfRWrap,
    ShfRClamp,
    Lop3(u8),
    SadS,
    SadU,
    /// Mask, base, offset.
    Fns,
    /// Byte by byte; the sum of all bytes on top of the third operand, if it is added.
    AbsDiff4 {
        signed: bool,
        adds: bool,
    },
    Dp4a {
        a_signed: bool,
        b_signed: bool,
    },
    Dp2aLo {
        a_signed: bool,
        b_signed: bool,
    },
    Dp2aHi {
        a_signed: bool,
        b_signed: bool,
    },
    /// `c >= 0 ? a : b`
    Slct,
    SlctF,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrmtMode {
    Generic,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Un64 {
    Mov,
    Not,
    Neg,
    Abs,
    Brev,
    /// Adds the window tag of a space.
    AddTag(u64),
    /// Removes it.
    SubTag(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bin64 {
    Add,
    Sub,
    Mul,
    MulHiS,
    MulHiU,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Tri64 {
    MadLo,
    MadHiS,
    MadHiU,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shift64 {
    Shl,
    ShrS,
    ShrU,
}

/// 64-bit source, 32-bit result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count64 {
    Popc,
    Clz,
    BfindU,
    BfindS,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FBin {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    MinNan,
    MaxNan,
    CopySign,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FUn {
    Neg,
    Abs,
    Rcp,
    Sqrt,
    Rsqrt,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

/// 16-bit float formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfOp {
    Add,
    Sub,
    Mul,
    Fma,
    Min,
    Max,
    MinNan,
    MaxNan,
    Neg,
    Abs,
    Ex2,
    Tanh,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfInstr {
    pub(crate) op: HalfOp,
    pub(crate) half: Half,
    pub(crate) packed: bool,
    pub(crate) ftz: bool,
    pub(crate) sat: bool,
    pub(crate) relu: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CmpOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoolOp {
    And,
    Or,
    Xor,
}
