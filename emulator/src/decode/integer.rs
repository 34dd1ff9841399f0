//! Which operations do integer, bit, move, compare and select instructions decode to?

use super::func::{Bank, Decoder};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

const BOOL_OPS: [(&str, BoolOp); 3] = [("and", BoolOp::And), ("or", BoolOp::Or), ("xor", BoolOp::Xor)];

/// 32-bit, 16-bit and 64-bit forms of a two-operand instruction, signed and unsigned.
fn binary(name: &str, ty: Ty) -> Option<(Bin32, Bin64)> {
    let (signed, short) = (ty.is_signed(), ty.bytes() == 2);
    let pick = |s: Bin32, u: Bin32| if signed { s } else { u };
    let pick64 = |s: Bin64, u: Bin64| if signed { s } else { u };
    let sized = |word: Bin32, half: Bin32| if short { half } else { word };
    Some(match name {
        "add" => (sized(Bin32::Add, Bin32::Add16), Bin64::Add),
        "sub" => (sized(Bin32::Sub, Bin32::Sub16), Bin64::Sub),
        "mul.lo" => (sized(Bin32::Mul, Bin32::Mul16), Bin64::Mul),
        "mul.hi" if short => (pick(Bin32::MulHiS16, Bin32::MulHiU16), Bin64::MulHiS),
        "mul.hi" => (pick(Bin32::MulHiS, Bin32::MulHiU), pick64(Bin64::MulHiS, Bin64::MulHiU)),
        "div" => (pick(sized(Bin32::DivS, Bin32::DivS16), Bin32::DivU), pick64(Bin64::DivS, Bin64::DivU)),
        "rem" => (pick(sized(Bin32::RemS, Bin32::RemS16), Bin32::RemU), pick64(Bin64::RemS, Bin64::RemU)),
        "min" => (pick(sized(Bin32::MinS, Bin32::MinS16), Bin32::MinU), pick64(Bin64::MinS, Bin64::MinU)),
        "max" => (pick(sized(Bin32::MaxS, Bin32::MaxS16), Bin32::MaxU), pick64(Bin64::MaxS, Bin64::MaxU)),
        "and" => (Bin32::And, Bin64::And),
        "or" => (Bin32::Or, Bin64::Or),
        "xor" => (Bin32::Xor, Bin64::Xor),
        _ => return None,
    })
}

impl Decoder<'_> {
    /// Integer, move, compare and select instructions; `None` if `mods` names none of them.
    pub(crate) fn integer(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        let name = mods.name();
        Ok(Some(match name {
            "mov" => self.mov(mods, ops)?,
            "add" | "min" | "max" if matches!(mods.types(), [Ty::S16x2 | Ty::U16x2]) => {
                let op = match (name, mods.ty(0)? == Ty::S16x2) {
                    ("add", _) => Bin32::Add16x2,
                    ("min", true) => Bin32::MinS16x2,
                    ("min", false) => Bin32::MinU16x2,
                    (_, true) => Bin32::MaxS16x2,
                    (_, false) => Bin32::MaxU16x2,
                };
                let is_relu = name != "add" && mods.take("relu");
                let op = self.bin32(op, Ty::B32, mods, ops)?;
                if is_relu { self.relu(op, Bin32::MaxS16x2) } else { op }
            }
            "min" | "max" if mods.types() == [Ty::S32] && mods.take("relu") => {
                let op = self.sized_binary(name, Ty::S32, mods, ops)?;
                self.relu(op, Bin32::MaxS)
            }
            "add" | "sub" if mods.types() == [Ty::S32] && mods.take("sat") => {
                let op = if name == "add" { Bin32::AddSat } else { Bin32::SubSat };
                self.bin32(op, Ty::S32, mods, ops)?
            }
            "add" | "sub" | "addc" | "subc" if name.ends_with('c') || mods.rest().any(|p| p == "cc") => {
                self.carry(mods, ops)?
            }
            "add" | "sub" | "div" | "rem" | "min" | "max" | "and" | "or" | "xor" => {
                self.simple_binary(name, mods, ops)?
            }
            "mul" => self.mul(mods, ops)?,
            "mul24" => {
                mods.take("lo");
                let op = if mods.ty(0)?.is_signed() { Bin32::Mul24S } else { Bin32::Mul24U };
                self.bin32(op, Ty::U32, mods, ops)?
            }
            "mad" | "madc" => self.mad(mods, ops)?,
            "sad" => {
                let ty = mods.ty(0)?;
                let op = if ty.is_signed() { Tri32::SadS } else { Tri32::SadU };
                self.need_word(ty, mods)?;
                self.tri32(op, mods, ops)?
            }
            "not" | "neg" | "abs" | "cnot" => self.simple_unary(name, mods, ops)?,
            "popc" | "clz" | "bfind" => self.count(mods, ops)?,
            "brev" => match mods.ty(0)?.bytes() {
                8 => self.un64(Un64::Brev, mods, ops)?,
                _ => self.un32(Un32::Brev, mods, ops)?,
            },
            "shl" | "shr" => self.shift(name, mods, ops)?,
            "shf" => {
                let right = mods.need_one(&[("l", false), ("r", true)], "direction")?;
                let clamp = mods.need_one(&[("clamp", true), ("wrap", false)], "mode")?;
                self.tri32(
                    match (right, clamp) {
                        (false, false) => Tri32::ShfLWrap,
                        (false, true) => Tri32::ShfLClamp,
                        (true, false) => Tri32::ShfRWrap,
                        (true, true) => Tri32::ShfRClamp,
                    },
                    mods,
                    ops,
                )?
            }
            "lop3" => {
                let Operand::Int(table @ 0..=255) = self.arg(mods, ops, 4)? else {
                    return Err(self.bad(mods, "a table of 8 bits", &ops[4]));
                };
                if mods.rest().next().is_some() {
                    return Ok(None);
                }
                self.tri32(Tri32::Lop3(*table as u8), mods, ops)?
            }
            "prmt" => {
                let mode = mods.take_one(&[
                    ("f4e", PrmtMode::F4e),
                    ("b4e", PrmtMode::B4e),
                    ("rc8", PrmtMode::Rc8),
                    ("ecl", PrmtMode::Ecl),
                    ("ecr", PrmtMode::Ecr),
                    ("rc16", PrmtMode::Rc16),
                ]);
                self.tri32(Tri32::Prmt(mode.unwrap_or(PrmtMode::Generic)), mods, ops)?
            }
            "bfe" => self.bfe(mods, ops)?,
            "bfi" => self.bfi(mods, ops)?,
            "bmsk" => {
                if mods.take("wrap") {
                    return Err(mods.unknown("modifier `.wrap`"));
                }
                mods.take("clamp");
                self.bin32(Bin32::Bmsk, Ty::B32, mods, ops)?
            }
            "szext" => {
                if !mods.take("clamp") {
                    return Err(mods.unknown("forms without `.clamp`"));
                }
                let op = if mods.ty(0)?.is_signed() { Bin32::SzextS } else { Bin32::SzextU };
                self.bin32(op, Ty::B32, mods, ops)?
            }
            "vabsdiff4" if mods.types().len() == 3 => {
                let adds = mods.take("add");
                self.tri32(Tri32::AbsDiff4 { signed: mods.ty(1)?.is_signed(), adds }, mods, ops)?
            }
            "fns" => self.tri32(Tri32::Fns, mods, ops)?,
            "dp4a" | "dp2a" => {
                let a_signed = mods.ty(0)?.is_signed();
                let b_signed = mods.ty(1)?.is_signed();
                let op = match (name, mods.take("hi")) {
                    ("dp4a", _) => Tri32::Dp4a { a_signed, b_signed },
                    (_, true) => Tri32::Dp2aHi { a_signed, b_signed },
                    (_, false) => {
                        mods.take("lo");
                        Tri32::Dp2aLo { a_signed, b_signed }
                    }
                };
                self.tri32(op, mods, ops)?
            }
            "setp" => self.setp(mods, ops)?,
            "set" => self.set(mods, ops)?,
            "selp" => self.selp(mods, ops)?,
            "slct" => self.slct(mods, ops)?,
            "cvta" => self.cvta(mods, ops)?,
            "isspacep" => {
                let space = mods.need_one(
                    &[
                        ("global", MemSpace::Global),
                        ("shared", MemSpace::Shared),
                        ("shared::cluster", MemSpace::Shared),
                        ("local", MemSpace::Local),
                        ("const", MemSpace::Global),
                        ("param", MemSpace::Param),
                    ],
                    "state space",
                )?;
                let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
                Op::IsSpace { space, d, a: self.s64(self.arg(mods, ops, 1)?, mods)? }
            }
            _ => return Ok(None),
        }))
    }

    /// `op`, and what is below zero of its result as zero.
    fn relu(&mut self, op: Op, max: Bin32) -> Op {
        let Op::Bin32(_, d, ..) = op else { return op };
        self.before.push(op);
        Op::Bin32(max, d, d, self.const32(Const::Bits(0)))
    }

    fn need_word(&self, ty: Ty, mods: &Mods<'_>) -> Decoded<()> {
        if ty.bytes() == 4 && ty.is_int() { Ok(()) } else { Err(mods.unknown(format!("type {ty:?}"))) }
    }

    pub(crate) fn un32(&mut self, op: Un32, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
        Ok(Op::Un32(op, d, self.s32(self.arg(mods, ops, 1)?, mods)?))
    }

    pub(crate) fn un64(&mut self, op: Un64, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
        Ok(Op::Un64(op, d, self.s64(self.arg(mods, ops, 1)?, mods)?))
    }

    fn bin32(&mut self, op: Bin32, ty: Ty, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        Ok(Op::Bin32(op, d, a, self.src(ty, self.arg(mods, ops, 2)?, mods)?))
    }

    fn bin64(&mut self, op: Bin64, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
        let a = self.s64(self.arg(mods, ops, 1)?, mods)?;
        Ok(Op::Bin64(op, d, a, self.s64(self.arg(mods, ops, 2)?, mods)?))
    }

    fn tri32(&mut self, op: Tri32, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
        let mut s = [0; 3];
        for (i, slot) in s.iter_mut().enumerate() {
            *slot = self.s32(self.arg(mods, ops, i + 1)?, mods)?;
        }
        Ok(Op::Tri32(op, d, s))
    }

    fn simple_binary(&mut self, name: &str, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        if ty == Ty::Pred {
            let Some((_, op)) = BOOL_OPS.iter().find(|(n, _)| *n == name) else {
                return Err(mods.unknown("type pred"));
            };
            let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
            let a = self.pred(self.arg(mods, ops, 1)?, mods)?;
            return Ok(Op::PBool { op: *op, d, a, b: self.pred(self.arg(mods, ops, 2)?, mods)? });
        }
        self.sized_binary(name, ty, mods, ops)
    }

    fn sized_binary(&mut self, name: &str, ty: Ty, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let bytes = ty.bytes();
        let Some((op32, op64)) = binary(name, ty).filter(|_| ty.is_int() && bytes >= 2) else {
            return Err(mods.unknown(format!("`{name}` on {ty:?}")));
        };
        if bytes == 8 { self.bin64(op64, mods, ops) } else { self.bin32(op32, ty, mods, ops) }
    }

    fn mul(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        if mods.take("wide") {
            let signed = ty.is_signed();
            if ty.bytes() == 2 {
                return self.bin32(if signed { Bin32::MulWideS16 } else { Bin32::MulWideU16 }, ty, mods, ops);
            }
            self.need_word(ty, mods)?;
            let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
            let a = self.s32(self.arg(mods, ops, 1)?, mods)?;
            return Ok(Op::MulWide { signed, d, a, b: self.s32(self.arg(mods, ops, 2)?, mods)? });
        }
        let name = mods.need_one(&[("lo", "mul.lo"), ("hi", "mul.hi")], "half of the product")?;
        self.sized_binary(name, ty, mods, ops)
    }

    fn mad(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (ty, cin) = (mods.ty(0)?, mods.name() == "madc");
        let signed = ty.is_signed();
        let cout = mods.take("cc");
        let hi = match (mods.take("hi"), mods.take("lo"), mods.take("wide")) {
            (true, false, false) => true,
            (false, true, false) => false,
            (false, false, true) if !cin && !cout => return self.mad_wide(ty, mods, ops),
            _ => return Err(mods.unknown("neither lo, hi nor wide")),
        };
        if cin || cout {
            self.need_word(ty, mods)?;
            let Op::Tri32(_, d, s) = self.tri32(Tri32::MadLo, mods, ops)? else { return Err(mods.unknown("operands")) };
            return Ok(Op::MadCarry { hi: hi.then_some(signed), cin, cout, d, s });
        }
        match ty.bytes() {
            8 => {
                let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
                let mut s = [0; 3];
                for (i, slot) in s.iter_mut().enumerate() {
                    *slot = self.s64(self.arg(mods, ops, i + 1)?, mods)?;
                }
                let op = match (hi, signed) {
                    (false, _) => Tri64::MadLo,
                    (true, true) => Tri64::MadHiS,
                    (true, false) => Tri64::MadHiU,
                };
                Ok(Op::Tri64(op, d, s))
            }
            4 => {
                let op = match (hi, signed) {
                    (false, _) => Tri32::MadLo,
                    (true, true) => Tri32::MadHiS,
                    (true, false) => Tri32::MadHiU,
                };
                self.tri32(op, mods, ops)
            }
            2 if !hi => self.tri32(Tri32::Mad16, mods, ops),
            _ => Err(mods.unknown(format!("type {ty:?}"))),
        }
    }

    fn mad_wide(&mut self, ty: Ty, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let signed = ty.is_signed();
        if ty.bytes() == 2 {
            return self.tri32(if signed { Tri32::MadWideS16 } else { Tri32::MadWideU16 }, mods, ops);
        }
        self.need_word(ty, mods)?;
        let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
        let a = self.s32(self.arg(mods, ops, 1)?, mods)?;
        let b = self.s32(self.arg(mods, ops, 2)?, mods)?;
        Ok(Op::MadWide { signed, d, a, b, c: self.s64(self.arg(mods, ops, 3)?, mods)? })
    }

    fn carry(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (ty, name) = (mods.ty(0)?, mods.name());
        let (cin, cout) = (name.ends_with('c'), mods.take("cc"));
        if !ty.is_int() || ty.bytes() < 4 {
            return Err(mods.unknown(format!("type {ty:?}")));
        }
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let b = self.src(ty, self.arg(mods, ops, 2)?, mods)?;
        Ok(Op::Carry { wide: ty.bytes() == 8, sub: name.starts_with("sub"), cin, cout, d, a, b })
    }

    fn simple_unary(&mut self, name: &str, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        if ty == Ty::Pred && name == "not" {
            let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
            let a = self.pred(self.arg(mods, ops, 1)?, mods)?;
            return Ok(Op::PMov { d, a: PSrc { idx: a.idx, neg: !a.neg } });
        }
        if !ty.is_int() {
            return Err(mods.unknown(format!("`{name}` on {ty:?}")));
        }
        let word = |half: Un32, word: Un32| if ty.bytes() == 2 { half } else { word };
        let (op32, op64) = match name {
            "not" => (word(Un32::Not16, Un32::Not), Un64::Not),
            "neg" => (word(Un32::Neg16, Un32::Neg), Un64::Neg),
            "abs" => (word(Un32::Abs16, Un32::Abs), Un64::Abs),
            "cnot" if ty.bytes() < 8 => (Un32::Cnot, Un64::Not),
            _ => return Err(mods.unknown(format!("`{name}`"))),
        };
        if ty.bytes() == 8 { self.un64(op64, mods, ops) } else { self.un32(op32, mods, ops) }
    }

    fn count(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (ty, shift) = (mods.ty(0)?, mods.take("shiftamt"));
        let signed = ty.is_signed();
        if ty.bytes() == 8 {
            let op = match (mods.name(), signed, shift) {
                ("popc", ..) => Count64::Popc,
                ("clz", ..) => Count64::Clz,
                (_, false, false) => Count64::BfindU,
                (_, true, false) => Count64::BfindS,
                _ => return Err(mods.unknown("64-bit `.shiftamt`")),
            };
            let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
            return Ok(Op::Count64(op, d, self.s64(self.arg(mods, ops, 1)?, mods)?));
        }
        self.need_word(ty, mods)?;
        let op = match (mods.name(), signed, shift) {
            ("popc", ..) => Un32::Popc,
            ("clz", ..) => Un32::Clz,
            (_, false, false) => Un32::BfindU,
            (_, true, false) => Un32::BfindS,
            (_, false, true) => Un32::BfindShiftU,
            (_, true, true) => Un32::BfindShiftS,
        };
        self.un32(op, mods, ops)
    }

    fn shift(&mut self, name: &str, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let (left, signed) = (name == "shl", ty.is_signed());
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let b = self.s32(self.arg(mods, ops, 2)?, mods)?;
        Ok(match (ty.bytes(), left, signed) {
            (8, true, _) => Op::Shift64(Shift64::Shl, d, a, b),
            (8, false, true) => Op::Shift64(Shift64::ShrS, d, a, b),
            (8, false, false) => Op::Shift64(Shift64::ShrU, d, a, b),
            (4, true, _) => Op::Bin32(Bin32::Shl, d, a, b),
            (2, true, _) => Op::Bin32(Bin32::Shl16, d, a, b),
            (4, false, true) => Op::Bin32(Bin32::ShrS, d, a, b),
            (2, false, true) => Op::Bin32(Bin32::ShrS16, d, a, b),
            (2 | 4, false, false) => Op::Bin32(Bin32::ShrU, d, a, b),
            _ => return Err(mods.unknown(format!("type {ty:?}"))),
        })
    }

    fn bfe(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let signed = ty.is_signed();
        if ty.bytes() == 8 {
            let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
            let a = self.s64(self.arg(mods, ops, 1)?, mods)?;
            let pos = self.s32(self.arg(mods, ops, 2)?, mods)?;
            return Ok(Op::Bfe64 { signed, d, a, pos, len: self.s32(self.arg(mods, ops, 3)?, mods)? });
        }
        self.need_word(ty, mods)?;
        self.tri32(if signed { Tri32::BfeS } else { Tri32::BfeU }, mods, ops)
    }

    fn bfi(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let wide = mods.ty(0)?.bytes() == 8;
        let ty = if wide { Ty::B64 } else { Ty::B32 };
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        // Order in the text: insert, base, position, length.
        let insert = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let base = self.src(ty, self.arg(mods, ops, 2)?, mods)?;
        let pos = self.s32(self.arg(mods, ops, 3)?, mods)?;
        let len = self.s32(self.arg(mods, ops, 4)?, mods)?;
        let s = [base, insert, pos, len];
        Ok(if wide { Op::Bfi64(d, s) } else { Op::Bfi32(d, s) })
    }

    fn mov(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let (to, from) = (self.arg(mods, ops, 0)?, self.arg(mods, ops, 1)?);
        match (to, from) {
            (_, Operand::Vector(parts)) => self.pack(ty, to, parts, mods),
            (Operand::Vector(parts), _) => self.unpack(ty, parts, from, mods),
            (_, Operand::Name(name))
                if matches!(
                    name.as_str(),
                    "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo"
                ) =>
            {
                let wide = ty.bytes() == 8;
                Ok(Op::Clock { d: self.dst_ty(ty, to, mods)?, wide })
            }
            _ if ty == Ty::Pred => {
                let d = self.dst(Bank::Pred, to, mods)?;
                Ok(Op::PMov { d, a: self.pred(from, mods)? })
            }
            _ => {
                let a = self.src(ty, from, mods)?;
                let d = self.dst_ty(ty, to, mods)?;
                Ok(if ty.bytes() == 8 { Op::Un64(Un64::Mov, d, a) } else { Op::Un32(Un32::Mov, d, a) })
            }
        }
    }

    fn pack(&mut self, ty: Ty, to: &Operand, parts: &[Operand], mods: &Mods<'_>) -> Decoded<Op> {
        let d = self.dst_ty(ty, to, mods)?;
        Ok(match (ty.bytes(), parts) {
            (8, [lo, hi]) => Op::Pack64 { d, lo: self.s32(lo, mods)?, hi: self.s32(hi, mods)? },
            (4, [lo, hi]) => Op::Pack16x2 { d, lo: self.s16(lo, mods)?, hi: self.s16(hi, mods)? },
            (8, [w, x, y, z]) => {
                Op::Pack16x4 { d, s: [self.s16(w, mods)?, self.s16(x, mods)?, self.s16(y, mods)?, self.s16(z, mods)?] }
            }
            _ => return Err(mods.unknown("vector of this shape")),
        })
    }

    fn unpack(&mut self, ty: Ty, parts: &[Operand], from: &Operand, mods: &Mods<'_>) -> Decoded<Op> {
        let a = self.src(ty, from, mods)?;
        Ok(match (ty.bytes(), parts) {
            (8, [lo, hi]) => {
                Op::Unpack64 { a, lo: self.dst(Bank::Word, lo, mods)?, hi: self.dst(Bank::Word, hi, mods)? }
            }
            (4, [lo, hi]) => {
                Op::Unpack16x2 { a, lo: self.dst(Bank::Word, lo, mods)?, hi: self.dst(Bank::Word, hi, mods)? }
            }
            (8, [_, _, _, _]) => {
                let mut d = [0; 4];
                for (slot, part) in d.iter_mut().zip(parts) {
                    *slot = self.dst(Bank::Word, part, mods)?;
                }
                Op::Unpack16x4 { a, d }
            }
            _ => return Err(mods.unknown("vector of this shape")),
        })
    }

    /// Comparison operator, boolean combination and operands from index `first` on.
    fn cmp(&mut self, ty: Ty, first: usize, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Cmp> {
        let unsigned_words =
            [("lo", CmpOp::Lt), ("ls", CmpOp::Le), ("hi", CmpOp::Gt), ("hs", CmpOp::Ge)].map(|(n, op)| (n, (op, true)));
        let op = mods.take_one(&[
            ("eq", CmpOp::Eq),
            ("ne", CmpOp::Ne),
            ("lt", CmpOp::Lt),
            ("le", CmpOp::Le),
            ("gt", CmpOp::Gt),
            ("ge", CmpOp::Ge),
            ("equ", CmpOp::Equ),
            ("neu", CmpOp::Neu),
            ("ltu", CmpOp::Ltu),
            ("leu", CmpOp::Leu),
            ("gtu", CmpOp::Gtu),
            ("geu", CmpOp::Geu),
            ("num", CmpOp::Num),
            ("nan", CmpOp::Nan),
        ]);
        let (op, unsigned) = match op {
            Some(op) => (op, false),
            None => mods.need_one(&unsigned_words, "comparison")?,
        };
        let ty = match (unsigned, ty.bytes()) {
            (true, 8) => Ty::U64,
            (true, 2) => Ty::U16,
            (true, _) => Ty::U32,
            (false, _) => ty,
        };
        let float_only = matches!(
            op,
            CmpOp::Equ | CmpOp::Neu | CmpOp::Ltu | CmpOp::Leu | CmpOp::Gtu | CmpOp::Geu | CmpOp::Num | CmpOp::Nan
        );
        if (float_only && ty.is_int()) || ty.bytes() < 2 {
            return Err(mods.unknown(format!("this comparison on {ty:?}")));
        }
        let ftz = mods.take("ftz");
        let bool_op = mods.take_one(&BOOL_OPS);
        let a = self.src(ty, self.arg(mods, ops, first)?, mods)?;
        let b = self.src(ty, self.arg(mods, ops, first + 1)?, mods)?;
        let combine = match bool_op {
            Some(op) => Some((op, self.pred(self.arg(mods, ops, first + 2)?, mods)?)),
            None => None,
        };
        Ok(Cmp { op, ty, ftz, a, b, combine })
    }

    fn setp(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let cmp = self.cmp(ty, 1, mods, ops)?;
        let (d, d2) = match self.arg(mods, ops, 0)? {
            Operand::Pair(p, q) => (self.dst(Bank::Pred, p, mods)?, Some(self.dst(Bank::Pred, q, mods)?)),
            single => (self.dst(Bank::Pred, single, mods)?, None),
        };
        match (ty, d2) {
            (Ty::F16x2 | Ty::Bf16x2, Some(d2)) => Ok(Op::SetP2 { cmp, d, d2 }),
            (Ty::F16x2 | Ty::Bf16x2, None) => Err(mods.unknown("one predicate for two halves")),
            _ => Ok(Op::SetP { cmp, d, d2 }),
        }
    }

    fn set(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (to, from) = (mods.ty(0)?, mods.ty(1)?);
        let cmp = self.cmp(from, 1, mods, ops)?;
        if to.bytes() == 8 {
            return Err(mods.unknown(format!("result type {to:?}")));
        }
        Ok(Op::Set { cmp, d: self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?, to })
    }

    fn selp(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let b = self.src(ty, self.arg(mods, ops, 2)?, mods)?;
        let p = self.pred(self.arg(mods, ops, 3)?, mods)?;
        Ok(if ty.bytes() == 8 { Op::Sel64 { d, a, b, p } } else { Op::Sel32 { d, a, b, p } })
    }

    fn slct(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (ty, by) = (mods.ty(0)?, mods.ty(1)?);
        let float = match by {
            Ty::S32 => false,
            Ty::F32 => true,
            _ => return Err(mods.unknown(format!("selection by {by:?}"))),
        };
        mods.take("ftz");
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let b = self.src(ty, self.arg(mods, ops, 2)?, mods)?;
        let c = self.src(by, self.arg(mods, ops, 3)?, mods)?;
        if ty.bytes() == 8 {
            return Ok(Op::Slct64 { d, a, b, c, float });
        }
        Ok(Op::Tri32(if float { Tri32::SlctF } else { Tri32::Slct }, d, [a, b, c]))
    }

    fn cvta(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let to = mods.take("to");
        let tag = mods.need_one(
            &[
                ("global", 0),
                ("const", 0),
                ("shared", crate::memory::SHARED_TAG),
                ("shared::cta", crate::memory::SHARED_TAG),
                ("shared::cluster", crate::memory::SHARED_TAG),
                ("local", crate::memory::LOCAL_TAG),
                ("param", crate::memory::PARAM_TAG),
            ],
            "state space",
        )?;
        if mods.ty(0)? != Ty::U64 {
            return Err(mods.unknown("a width other than 64 bits"));
        }
        self.un64(if to { Un64::SubTag(tag) } else { Un64::AddTag(tag) }, mods, ops)
    }
}
