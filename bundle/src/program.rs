//! What does a kernel compute for one element? A straight line of scalar instructions in SSA.
//!
//! Law: instruction i defines register i from earlier ones; there are no side effects and no branches, so a program may
//! be evaluated for any element at any time, on a lane, a strip or a tile. Float registers are f32, integer registers
//! i64 (narrow dtypes are kept in range by explicit casts), bool registers truth values.

use enel_types::{BinaryOp, DType, UnaryOp};
use serde::{Deserialize, Serialize};

/// Index of a register, which is the index of the instruction defining it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reg(pub u32);

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// f32.
    Float,
    /// i64.
    Int,
    /// Truth value.
    Bool,
}

impl Kind {
    /// The kind a value of this storage dtype has once loaded.
    pub const fn of(dtype: DType) -> Kind {
        match dtype {
            DType::F32 | DType::BF16 | DType::F16 => Kind::Float,
            DType::I64 | DType::I32 | DType::U32 | DType::U8 => Kind::Int,
            DType::Bool => Kind::Bool,
        }
    }
}

/// One scalar instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Instr {
    /// Coordinate along axis n of the space the program runs over; Int.
    Axis(u32),
    /// A float literal, as bits of an f32 so that equal programs are equal bytes.
    Float(u32),
    /// An integer literal.
    Int(i64),
    /// A truth literal.
    Bool(bool),
    /// Value of the Desc's dynamic size n; Int.
    Size(u32),
    /// Element `index` of buffer n, widened to its kind. The index is inside the buffer for every coordinate.
    Load {
        /// Buffer of the Desc.
        buffer: u32,
        /// Linear element index, an Int register.
        index: Reg,
    },
    /// Value the family hands over: accumulator n.
    Acc(u32),
    /// One operand.
    Unary(UnaryOp, Reg),
    /// Two operands of one kind.
    Binary(BinaryOp, Reg, Reg),
    /// The second where the first (Bool) holds, else the third.
    Select(Reg, Reg, Reg),
    /// Change of dtype. To float dtypes: no rounding to storage happens here, floats stay f32. To integer dtypes:
    /// floats truncate and saturate (NaN is 0), integers wrap. To bool: `x != 0`.
    Cast(DType, Reg),
}

impl Instr {
    /// The registers read.
    pub fn operands(&self) -> impl Iterator<Item = Reg> {
        let list = match *self {
            Instr::Axis(_) | Instr::Float(_) | Instr::Int(_) | Instr::Bool(_) | Instr::Size(_) | Instr::Acc(_) => {
                [None; 3]
            }
            Instr::Load { index, .. } => [Some(index), None, None],
            Instr::Unary(_, x) | Instr::Cast(_, x) => [Some(x), None, None],
            Instr::Binary(_, x, y) => [Some(x), Some(y), None],
            Instr::Select(c, x, y) => [Some(c), Some(x), Some(y)],
        };
        list.into_iter().flatten()
    }
}

/// A straight line of instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Program {
    instrs: Vec<Instr>,
}

impl Program {
    /// An empty program.
    pub fn new() -> Program {
        Program::default()
    }

    /// The instructions; position i defines register i.
    pub fn instrs(&self) -> &[Instr] {
        &self.instrs
    }

    /// The instruction that defines `reg`.
    pub fn get(&self, reg: Reg) -> Instr {
        self.instrs[reg.0 as usize]
    }

    /// Appends an instruction, or returns the register that already holds its value; literals fold.
    pub fn push(&mut self, instr: Instr) -> Reg {
        let instr = self.fold(instr);
        if let Some(at) = self.instrs.iter().position(|i| *i == instr) {
            return Reg(at as u32);
        }
        self.instrs.push(instr);
        Reg(self.instrs.len() as u32 - 1)
    }

    /// An integer literal.
    pub fn int(&mut self, value: i64) -> Reg {
        self.push(Instr::Int(value))
    }

    /// `x op y` on integers, simplified where a literal decides it.
    pub fn int_op(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Reg {
        let (a, b) = (self.literal(x), self.literal(y));
        match (op, a, b) {
            (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => y,
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0)) | (BinaryOp::Mul | BinaryOp::Div, _, Some(1)) => x,
            (BinaryOp::Mul, Some(0), _) | (BinaryOp::Mul, _, Some(0)) | (BinaryOp::Rem, _, Some(1)) => self.int(0),
            _ => self.push(Instr::Binary(op, x, y)),
        }
    }

    /// The value of an integer literal register.
    pub fn literal(&self, reg: Reg) -> Option<i64> {
        match self.get(reg) {
            Instr::Int(value) => Some(value),
            _ => None,
        }
    }

    fn fold(&self, instr: Instr) -> Instr {
        let Instr::Binary(op, x, y) = instr else { return instr };
        let (Some(a), Some(b)) = (self.literal(x), self.literal(y)) else { return instr };
        let value = match op {
            BinaryOp::Add => a.checked_add(b),
            BinaryOp::Sub => a.checked_sub(b),
            BinaryOp::Mul => a.checked_mul(b),
            BinaryOp::Div if b != 0 => a.checked_div(b),
            BinaryOp::Rem if b != 0 => a.checked_rem(b),
            _ => None,
        };
        value.map_or(instr, Instr::Int)
    }

    /// Kind of every register, given the dtypes of buffers and the kinds of accumulators.
    ///
    /// # Errors
    /// The position of the first instruction that reads a later register, an unknown buffer or accumulator, or mixes
    /// kinds.
    pub fn kinds(&self, buffers: &[DType], accs: &[Kind]) -> Result<Vec<Kind>, usize> {
        let mut kinds: Vec<Kind> = Vec::with_capacity(self.instrs.len());
        for (at, instr) in self.instrs.iter().enumerate() {
            if instr.operands().any(|r| r.0 as usize >= at) {
                return Err(at);
            }
            let kind = |r: &Reg| kinds[r.0 as usize];
            let found = match instr {
                Instr::Axis(_) | Instr::Int(_) | Instr::Size(_) => Some(Kind::Int),
                Instr::Float(_) => Some(Kind::Float),
                Instr::Bool(_) => Some(Kind::Bool),
                Instr::Load { buffer, index } => {
                    buffers.get(*buffer as usize).filter(|_| kind(index) == Kind::Int).map(|d| Kind::of(*d))
                }
                Instr::Acc(n) => accs.get(*n as usize).copied(),
                Instr::Unary(_, x) => Some(kind(x)),
                Instr::Binary(op, x, y) => {
                    let result = if op.is_comparison() { Kind::Bool } else { kind(x) };
                    (kind(x) == kind(y)).then_some(result)
                }
                Instr::Select(c, x, y) => (kind(c) == Kind::Bool && kind(x) == kind(y)).then_some(kind(x)),
                Instr::Cast(to, _) => Some(Kind::of(*to)),
            };
            kinds.push(found.ok_or(at)?);
        }
        Ok(kinds)
    }
}
