//! What does a PTX text look like before names mean anything?

use std::collections::HashMap;

/// Scalar type suffix of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named exactly as PTX spells them")]
pub enum Ty {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    B8,
    B16,
    B32,
    B64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    E4m3,
    E5m2,
    E4m3x2,
    E5m2x2,
    S16x2,
    U16x2,
    F32,
    F64,
    Pred,
}

impl Ty {
    /// Reads a suffix such as `u32`.
    pub(crate) fn from_suffix(text: &str) -> Option<Ty> {
        Some(match text {
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::Bf16,
            "bf16x2" => Ty::Bf16x2,
            "tf32" => Ty::Tf32,
            "e4m3" => Ty::E4m3,
            "e5m2" => Ty::E5m2,
            "e4m3x2" => Ty::E4m3x2,
            "e5m2x2" => Ty::E5m2x2,
            "s16x2" => Ty::S16x2,
            "u16x2" => Ty::U16x2,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            "pred" => Ty::Pred,
            _ => return None,
        })
    }

    /// Size in memory.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Ty::U8 | Ty::S8 | Ty::B8 | Ty::Pred | Ty::E4m3 | Ty::E5m2 => 1,
            Ty::U16 | Ty::S16 | Ty::B16 | Ty::F16 | Ty::Bf16 | Ty::E4m3x2 | Ty::E5m2x2 => 2,
            Ty::U32 | Ty::S32 | Ty::B32 | Ty::F32 | Ty::F16x2 | Ty::Bf16x2 | Ty::Tf32 | Ty::S16x2 | Ty::U16x2 => 4,
            Ty::U64 | Ty::S64 | Ty::B64 | Ty::F64 => 8,
        }
    }

    /// True for `.s8` to `.s64`.
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }

    /// True for integer and untyped-bits types.
    pub(crate) fn is_int(self) -> bool {
        use Ty::*;
        matches!(self, U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64 | B8 | B16 | B32 | B64)
    }
}

/// State space of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarSpace {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// One element of an initialiser.
#[derive(Clone, Debug)]
pub(crate) enum Init {
    Bits(u64),
    Symbol { name: String, offset: i64 },
}

/// A variable declaration.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    pub(crate) line: u32,
    pub(crate) space: VarSpace,
    pub(crate) align: u32,
    pub(crate) ty: Ty,
    pub(crate) name: String,
    /// Number of elements; zero for `name[]`.
    pub(crate) count: u64,
    pub(crate) init: Vec<Init>,
}

impl Var {
    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.count.saturating_mul(u64::from(self.ty.bytes()))
    }
}

/// Operand of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// Register, symbol, label, special register or `_`.
    Name(String),
    /// Symbol plus constant.
    Offset(String, i64),
    Int(u64),
    F32(u32),
    F64(u64),
    Vector(Vec<Operand>),
    /// `[base + offset]`.
    Memory(Box<Operand>, i64),
    /// `[map, {coordinates}]`: the address of a tensor map, and coordinates.
    Tensor(Box<Operand>, Vec<Operand>),
    /// `!p`.
    Not(Box<Operand>),
    /// `a|b`.
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |f: &mut std::fmt::Formatter<'_>, parts: &[Operand]| {
            parts.iter().enumerate().try_for_each(|(i, part)| write!(f, "{}{part}", if i == 0 { "" } else { ", " }))
        };
        match self {
            Operand::Name(name) => f.write_str(name),
            Operand::Offset(name, offset) => write!(f, "{name}{offset:+}"),
            Operand::Int(bits) => write!(f, "{}", *bits as i64),
            Operand::F32(bits) => write!(f, "{}", f32::from_bits(*bits)),
            Operand::F64(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Operand::Memory(base, 0) => write!(f, "[{base}]"),
            Operand::Memory(base, offset) => write!(f, "[{base}{offset:+}]"),
            Operand::Not(inner) => write!(f, "!{inner}"),
            Operand::Pair(a, b) => write!(f, "{a}|{b}"),
            Operand::Vector(parts) => {
                f.write_str("{")?;
                list(f, parts)?;
                f.write_str("}")
            }
            Operand::List(parts) => {
                f.write_str("(")?;
                list(f, parts)?;
                f.write_str(")")
            }
            Operand::Tensor(map, coordinates) => {
                write!(f, "[{map}, {{")?;
                list(f, coordinates)?;
                f.write_str("}]")
            }
        }
    }
}

/// A predicate guard: register name and whether it is negated.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) name: String,
    pub(crate) negated: bool,
}

/// One statement of a function body.
#[derive(Clone, Debug)]
pub(crate) struct Stmt {
    pub(crate) line: u32,
    pub(crate) kind: StmtKind,
}

/// What a statement is.
#[derive(Clone, Debug)]
pub(crate) enum StmtKind {
    Label(String),
    Open,
    Close,
    /// `.reg .b32 %r<5>` has range `Some(5)`.
    Reg {
        ty: Ty,
        name: String,
        range: Option<u64>,
    },
    Var(Var),
    Loc {
        file: u32,
        line: u32,
    },
    /// `name: .branchtargets a, b;`
    Targets(String, Vec<String>),
    Instr {
        guard: Option<Guard>,
        opcode: String,
        operands: Vec<Operand>,
    },
}

/// A kernel or a device function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) line: u32,
    pub(crate) name: String,
    pub(crate) is_entry: bool,
    pub(crate) returns: Vec<Var>,
    pub(crate) params: Vec<Var>,
    pub(crate) reqntid: Option<[u32; 3]>,
    pub(crate) maxntid: Option<[u32; 3]>,
    pub(crate) reqnctapercluster: Option<[u32; 3]>,
    /// `None` for a declaration.
    pub(crate) body: Option<Vec<Stmt>>,
}

/// A whole PTX text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) vars: Vec<Var>,
    pub(crate) functions: Vec<Function>,
    pub(crate) files: HashMap<u32, String>,
    /// First word of `.target`.
    pub(crate) target: String,
}
