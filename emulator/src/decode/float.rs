//! Which operations do float and conversion instructions decode to?

use super::func::{Bank, Decoder};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

fn half_of(ty: Ty) -> Option<(Half, bool)> {
    Some(match ty {
        Ty::F16 => (Half::F16, false),
        Ty::F16x2 => (Half::F16, true),
        Ty::Bf16 => (Half::Bf16, false),
        Ty::Bf16x2 => (Half::Bf16, true),
        _ => return None,
    })
}

impl Decoder<'_> {
    /// Float and conversion instructions; `None` if `mods` names none of them or the type is an integer.
    pub(crate) fn float(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        let name = mods.name();
        match name {
            "cvt" => return self.cvt(mods, ops).map(Some),
            "testp" => return self.testp(mods, ops).map(Some),
            "add" | "sub" | "mul" | "fma" | "mad" | "div" | "min" | "max" | "copysign" | "neg" | "abs" | "rcp"
            | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => {}
            _ => return Ok(None),
        }
        let ty = mods.ty(0)?;
        if let Some((half, packed)) = half_of(ty) {
            return self.half(half, packed, mods, ops).map(Some);
        }
        if ty != Ty::F32 && ty != Ty::F64 {
            return Ok(None);
        }
        let approx = mods.take("approx") | mods.take("full");
        let nan = mods.take("NaN");
        let m = mods.float();
        if ty == Ty::F64 && m.rnd != Rnd::Near {
            return self.directed(m.rnd, mods, ops).map(Some);
        }
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        if matches!(name, "fma" | "mad") {
            let mut s = [0; 3];
            for (i, slot) in s.iter_mut().enumerate() {
                *slot = self.src(ty, self.arg(mods, ops, i + 1)?, mods)?;
            }
            return Ok(Some(if ty == Ty::F64 { Op::F64Fma(d, s) } else { Op::F32Fma(m, d, s) }));
        }
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let unary = match name {
            "neg" => Some(FUn::Neg),
            "abs" => Some(FUn::Abs),
            "rcp" => Some(FUn::Rcp),
            "sqrt" => Some(FUn::Sqrt),
            "rsqrt" => Some(FUn::Rsqrt),
            "ex2" => Some(FUn::Ex2),
            "lg2" => Some(FUn::Lg2),
            "sin" => Some(FUn::Sin),
            "cos" => Some(FUn::Cos),
            "tanh" => Some(FUn::Tanh),
            _ => None,
        };
        if let Some(op) = unary {
            if ty == Ty::F64 && matches!(op, FUn::Ex2 | FUn::Lg2 | FUn::Sin | FUn::Cos | FUn::Tanh) {
                return Err(mods.unknown("double precision"));
            }
            return Ok(Some(if ty == Ty::F64 { Op::F64Un(op, d, a) } else { Op::F32Un(op, m, d, a) }));
        }
        let op = match name {
            "add" => FBin::Add,
            "sub" => FBin::Sub,
            "mul" => FBin::Mul,
            "div" => FBin::Div,
            "min" if nan => FBin::MinNan,
            "max" if nan => FBin::MaxNan,
            "min" => FBin::Min,
            "max" => FBin::Max,
            "copysign" => FBin::CopySign,
            _ => return Ok(None),
        };
        // An approximate quotient is computed exactly; `approx` only widens what a device may return.
        let _ = approx;
        let b = self.src(ty, self.arg(mods, ops, 2)?, mods)?;
        Ok(Some(if ty == Ty::F64 { Op::F64Bin(op, d, a, b) } else { Op::F32Bin(op, m, d, a, b) }))
    }

    fn half(&mut self, half: Half, packed: bool, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let nan = mods.take("NaN");
        mods.take("approx");
        let relu = mods.take("relu");
        let m = mods.float();
        if m.rnd != Rnd::Near {
            return Err(mods.unknown("this rounding of halves"));
        }
        let (op, n) = match mods.name() {
            "add" => (HalfOp::Add, 2),
            "sub" => (HalfOp::Sub, 2),
            "mul" => (HalfOp::Mul, 2),
            "fma" => (HalfOp::Fma, 3),
            "min" if nan => (HalfOp::MinNan, 2),
            "max" if nan => (HalfOp::MaxNan, 2),
            "min" => (HalfOp::Min, 2),
            "max" => (HalfOp::Max, 2),
            "neg" => (HalfOp::Neg, 1),
            "abs" => (HalfOp::Abs, 1),
            "ex2" => (HalfOp::Ex2, 1),
            "tanh" => (HalfOp::Tanh, 1),
            _ => return Err(mods.unknown("half precision")),
        };
        let ty = mods.ty(0)?;
        let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
        let mut s = [0; 3];
        for (i, slot) in s.iter_mut().enumerate().take(n) {
            *slot = self.src(ty, self.arg(mods, ops, i + 1)?, mods)?;
        }
        Ok(Op::Half(HalfInstr { op, half, packed, ftz: m.ftz, sat: m.sat, relu }, d, s))
    }

    fn testp(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let test = mods.need_one(
            &[
                ("finite", TestP::Finite),
                ("infinite", TestP::Infinite),
                ("number", TestP::Number),
                ("notanumber", TestP::NotANumber),
                ("normal", TestP::Normal),
                ("subnormal", TestP::Subnormal),
            ],
            "test",
        )?;
        let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
        match ty {
            Ty::F32 | Ty::F64 => {
                Ok(Op::TestP { test, d, a: self.src(ty, self.arg(mods, ops, 1)?, mods)?, wide: ty == Ty::F64 })
            }
            _ => Err(mods.unknown(format!("type {ty:?}"))),
        }
    }

    fn cvt(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (to, from) = (mods.ty(0)?, mods.ty(1)?);
        let int_rounding =
            mods.take_one(&[("rni", Rnd::Near), ("rzi", Rnd::Zero), ("rmi", Rnd::Down), ("rpi", Rnd::Up)]);
        let rnd = int_rounding.unwrap_or_else(|| mods.rounding());
        let (ftz, sat, relu) = (mods.take("ftz"), mods.take("sat") | mods.take("satfinite"), mods.take("relu"));
        if let (Ty::F16x2 | Ty::Bf16x2, Ty::F32) = (to, from) {
            if sat {
                return Err(mods.unknown("saturation of a packed conversion"));
            }
            let half = if to == Ty::F16x2 { Half::F16 } else { Half::Bf16 };
            let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
            let hi = self.sf32(self.arg(mods, ops, 1)?, mods)?;
            let lo = self.sf32(self.arg(mods, ops, 2)?, mods)?;
            return Ok(Op::CvtPack { half, rnd, relu, d, hi, lo });
        }
        if let Some(op) = self.cvt_fp8((to, from, relu), mods, ops)? {
            return Ok(op);
        }
        let packed = |ty| matches!(ty, Ty::F16x2 | Ty::Bf16x2 | Ty::Pred);
        if packed(to) || packed(from) || from == Ty::Tf32 || (to == Ty::Tf32 && from != Ty::F32) {
            return Err(mods.unknown(format!("conversion from {from:?} to {to:?}")));
        }
        // Integer conversions allow registers wider than the type.
        let (to_op, from_op) = (self.arg(mods, ops, 0)?, self.arg(mods, ops, 1)?);
        let a_wide = self.bank(from_op).map_or(from.bytes() == 8, |bank| bank == Bank::Wide);
        let a = match (a_wide, from) {
            (true, _) => self.s64(from_op, mods)?,
            (false, Ty::F32) => self.sf32(from_op, mods)?,
            (false, _) => self.s32(from_op, mods)?,
        };
        let d_wide = self.bank(to_op).map_or(to.bytes() == 8, |bank| bank == Bank::Wide);
        let (narrow_to, narrow_from) = (!d_wide && to.bytes() == 8, !a_wide && from.bytes() == 8);
        if narrow_to || narrow_from {
            return Err(self.bad(
                mods,
                "registers at least as wide as the types",
                if narrow_to { to_op } else { from_op },
            ));
        }
        let d = self.dst(if d_wide { Bank::Wide } else { Bank::Word }, to_op, mods)?;
        let d_short = !d_wide && self.is_short(d);
        Ok(Op::Cvt(Cvt {
            d,
            a,
            to,
            from,
            d_wide,
            a_wide,
            d_short,
            rnd,
            to_int: int_rounding.is_some(),
            ftz,
            sat,
            relu,
        }))
    }

    /// Conversions of pairs of 8-bit floats; `None` for others. Narrowing ones always saturate.
    fn cvt_fp8(&mut self, (to, from, relu): (Ty, Ty, bool), mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        let fp8 = |ty| match ty {
            Ty::E4m3x2 => Some(Fp8::E4m3),
            Ty::E5m2x2 => Some(Fp8::E5m2),
            _ => None,
        };
        let cvt = match (fp8(to), fp8(from), to, from) {
            (Some(ty), None, _, Ty::F32) => {
                let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
                let hi = self.sf32(self.arg(mods, ops, 1)?, mods)?;
                CvtFp8::FromF32 { ty, relu, d, hi, lo: self.sf32(self.arg(mods, ops, 2)?, mods)? }
            }
            (Some(ty), None, _, Ty::F16x2) => {
                let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
                CvtFp8::FromF16 { ty, relu, d, a: self.s32(self.arg(mods, ops, 1)?, mods)? }
            }
            (None, Some(ty), Ty::F16x2, _) => {
                let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
                CvtFp8::ToF16 { ty, relu, d, a: self.s16(self.arg(mods, ops, 1)?, mods)? }
            }
            (None, None, ..) => return Ok(None),
            _ => return Err(mods.unknown(format!("conversion from {from:?} to {to:?}"))),
        };
        Ok(Some(Op::CvtFp8(cvt)))
    }

    /// Double precision, not rounded to nearest.
    fn directed(&mut self, rnd: Rnd, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (op, n) = match mods.name() {
            "add" => (Directed::Add, 2),
            "sub" => (Directed::Sub, 2),
            "mul" => (Directed::Mul, 2),
            "fma" | "mad" => (Directed::Fma, 3),
            "div" => (Directed::Div, 2),
            "rcp" => (Directed::Rcp, 1),
            "sqrt" => (Directed::Sqrt, 1),
            _ => return Err(mods.unknown("this rounding in double precision")),
        };
        let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
        let first = self.s64(self.arg(mods, ops, 1)?, mods)?;
        let mut s = [first; 3];
        for (i, slot) in s.iter_mut().enumerate().take(n).skip(1) {
            *slot = self.s64(self.arg(mods, ops, i + 1)?, mods)?;
        }
        Ok(Op::F64Directed(op, rnd, d, s))
    }
}
