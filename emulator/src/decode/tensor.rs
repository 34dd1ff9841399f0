//! Which operations do tensor-core instructions decode to?

use super::func::{Bank, Decoder};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

fn mma_ty(ty: Ty) -> Option<MmaTy> {
    Some(match ty {
        Ty::F16 => MmaTy::F16,
        Ty::Bf16 => MmaTy::Bf16,
        Ty::Tf32 => MmaTy::Tf32,
        Ty::S8 => MmaTy::S8,
        Ty::U8 => MmaTy::U8,
        Ty::E4m3 => MmaTy::E4m3,
        Ty::E5m2 => MmaTy::E5m2,
        _ => return None,
    })
}

/// Element types of `wmma` with this K.
fn wmma_ty(ty: Ty, k: u8) -> Option<MmaTy> {
    let is_known = |ty: &MmaTy| !matches!(ty, MmaTy::E4m3 | MmaTy::E5m2) && (*ty == MmaTy::Tf32) == (k == 8);
    mma_ty(ty).filter(is_known)
}

impl Decoder<'_> {
    /// Tensor-core instructions; `None` if `mods` names none of them.
    pub(crate) fn tensor(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        let name = mods.name();
        if !matches!(name, "mma" | "ldmatrix" | "stmatrix" | "movmatrix" | "wmma") {
            return Ok(None);
        }
        if !mods.take("sync") || !mods.take("aligned") {
            return Err(mods.unknown("forms without `.sync.aligned`"));
        }
        Ok(Some(match name {
            "mma" => self.mma(mods, ops)?,
            "movmatrix" => {
                if !mods.take("m8n8") || !mods.take("trans") {
                    return Err(mods.unknown("forms without `.m8n8.trans`"));
                }
                let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
                Op::MovMatrix { d, a: self.s32(self.arg(mods, ops, 1)?, mods)? }
            }
            "wmma" => self.wmma(mods, ops)?,
            _ => self.ldmatrix(mods, ops)?,
        }))
    }

    fn regs_in(&mut self, n: usize, operand: &Operand, mods: &Mods<'_>) -> Decoded<Vec<R>> {
        let parts = self.parts(n, operand, mods)?;
        parts.iter().map(|part| self.sf32(part, mods)).collect()
    }

    fn regs_out(&mut self, n: usize, operand: &Operand, mods: &Mods<'_>) -> Decoded<Vec<R>> {
        let parts = self.parts(n, operand, mods)?;
        parts.iter().map(|part| self.dst(Bank::Word, part, mods)).collect()
    }

    fn parts<'o>(&self, n: usize, operand: &'o Operand, mods: &Mods<'_>) -> Decoded<&'o [Operand]> {
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() == n {
            Ok(parts)
        } else {
            Err(self.bad(mods, "a fragment with the registers this shape has", operand))
        }
    }

    fn mma(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let k: u8 = mods.need_one(&[("m16n8k16", 16), ("m16n8k8", 8), ("m16n8k4", 4), ("m16n8k32", 32)], "shape")?;
        if !mods.take("row") || !mods.take("col") {
            return Err(mods.unknown("layouts other than row.col"));
        }
        let (d_ty, c_ty) = (mods.ty(0)?, mods.ty(3)?);
        let (Some(a_ty), Some(b_ty)) = (mma_ty(mods.ty(1)?), mma_ty(mods.ty(2)?)) else {
            return Err(mods.unknown("this element type"));
        };
        // Registers of A and B: PTX ISA 9.0, section 9.7.14.5, matrix fragments of each shape.
        let (n_a, n_b) = match (a_ty, k) {
            (MmaTy::F16 | MmaTy::Bf16, 16) => (4, 2),
            (MmaTy::F16 | MmaTy::Bf16, 8) => (2, 1),
            (MmaTy::Tf32, 8) => (4, 2),
            (MmaTy::Tf32, 4) => (2, 1),
            (MmaTy::S8 | MmaTy::U8 | MmaTy::E4m3 | MmaTy::E5m2, 32) => (4, 2),
            (MmaTy::S8 | MmaTy::U8 | MmaTy::E4m3 | MmaTy::E5m2, 16) => (2, 1),
            _ => return Err(mods.unknown("this shape with this element type")),
        };
        let integer = matches!(a_ty, MmaTy::S8 | MmaTy::U8);
        let fp8 = matches!(a_ty, MmaTy::E4m3 | MmaTy::E5m2);
        let sum_ok = |ty| match ty {
            Ty::F32 => !integer,
            Ty::F16 => a_ty == MmaTy::F16 || fp8,
            Ty::S32 => integer,
            _ => false,
        };
        if !sum_ok(d_ty)
            || !sum_ok(c_ty)
            || (a_ty != b_ty && !integer && !fp8)
            || fp8 != matches!(b_ty, MmaTy::E4m3 | MmaTy::E5m2)
        {
            return Err(mods.unknown("this mix of types"));
        }
        let saturate = integer && mods.take("satfinite");
        let (d_half, c_half) = (d_ty == Ty::F16, c_ty == Ty::F16);
        let size = |half| if half { 2 } else { 4 };
        let d = self.regs_out(size(d_half), self.arg(mods, ops, 0)?, mods)?;
        let a = self.regs_in(n_a, self.arg(mods, ops, 1)?, mods)?;
        let b = self.regs_in(n_b, self.arg(mods, ops, 2)?, mods)?;
        let c = self.regs_in(size(c_half), self.arg(mods, ops, 3)?, mods)?;
        Ok(Op::Mma(Box::new(Mma { a_ty, b_ty, k, d_half, c_half, saturate, d, a, b, c })))
    }

    fn ldmatrix(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let store = mods.name() == "stmatrix";
        if !mods.take("m8n8") {
            return Err(mods.unknown("shapes other than m8n8"));
        }
        let n = mods.need_one(&[("x1", 1), ("x2", 2), ("x4", 4)], "count")?;
        let trans = mods.take("trans");
        let _ = mods.take("shared") | mods.take("shared::cta");
        if mods.ty(0)? != Ty::B16 {
            return Err(mods.unknown("elements other than b16"));
        }
        let (reg_at, addr_at) = if store { (1, 0) } else { (0, 1) };
        let addr = self.address(MemSpace::Shared, self.arg(mods, ops, addr_at)?, mods)?;
        let operand = self.arg(mods, ops, reg_at)?;
        let regs = if store { self.regs_in(n, operand, mods)? } else { self.regs_out(n, operand, mods)? };
        Ok(Op::LdMatrix(Box::new(LdMatrix { store, trans, regs, addr })))
    }

    fn wmma(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (m, n, k) = mods.need_one(
            &[
                ("m16n16k16", (16u8, 16u8, 16u8)),
                ("m32n8k16", (32, 8, 16)),
                ("m8n32k16", (8, 32, 16)),
                ("m16n16k8", (16, 16, 8)),
            ],
            "shape",
        )?;
        if mods.take("mma") {
            mods.take("row");
            mods.take("col");
            mods.take("row");
            mods.take("col");
            // `.d.c` for f16 inputs, `.d.a.b.c` for the others.
            let (d_ty, a_ty, c_ty) = match *mods.types() {
                [d, c] => (d, Ty::F16, c),
                [d, a, b, c] if a == b => (d, a, c),
                _ => return Err(mods.unknown("this mix of types")),
            };
            let Some(ty) = wmma_ty(a_ty, k) else {
                return Err(mods.unknown(format!("elements {a_ty:?}")));
            };
            let integer = matches!(ty, MmaTy::S8 | MmaTy::U8);
            let saturate = integer && mods.take("satfinite");
            let ok = |t| match t {
                Ty::F32 => !integer,
                Ty::F16 => ty == MmaTy::F16,
                Ty::S32 => integer,
                _ => false,
            };
            if !ok(d_ty) || !ok(c_ty) {
                return Err(mods.unknown("this mix of types"));
            }
            let (d_half, c_half) = (d_ty == Ty::F16, c_ty == Ty::F16);
            let size = |half| if half { 4 } else { 8 };
            let d = self.regs_out(size(d_half), self.arg(mods, ops, 0)?, mods)?;
            let a = self.regs_in(frag_regs(m, k, ty), self.arg(mods, ops, 1)?, mods)?;
            let b = self.regs_in(frag_regs(k, n, ty), self.arg(mods, ops, 2)?, mods)?;
            let c = self.regs_in(size(c_half), self.arg(mods, ops, 3)?, mods)?;
            return Ok(Op::WmmaMma(Box::new(WmmaMma { m, n, k, ty, c_half, d_half, saturate, d, a, b, c })));
        }
        let store = mods.take("store");
        if !store && !mods.take("load") {
            return Err(mods.unknown("neither load, store nor mma"));
        }
        let frag = mods.need_one(&[("a", Frag::A), ("b", Frag::B), ("c", Frag::C), ("d", Frag::C)], "matrix")?;
        let row_major = mods.need_one(&[("row", true), ("col", false)], "layout")?;
        let space = mods
            .take_one(&[("global", MemSpace::Global), ("shared", MemSpace::Shared), ("shared::cta", MemSpace::Shared)])
            .unwrap_or(MemSpace::Generic);
        let ty = mods.ty(0)?;
        let (rows, cols) = match frag {
            Frag::A => (m, k),
            Frag::B => (k, n),
            Frag::C => (m, n),
        };
        let n_regs = match (frag, ty) {
            (Frag::C, Ty::F32 | Ty::S32) => 8,
            (Frag::C, Ty::F16) => 4,
            (Frag::A | Frag::B, _) => match wmma_ty(ty, k) {
                Some(ty) => frag_regs(rows, cols, ty),
                None => return Err(mods.unknown(format!("elements {ty:?}"))),
            },
            _ => return Err(mods.unknown(format!("elements {ty:?}"))),
        };
        let (reg_at, addr_at) = if store { (1, 0) } else { (0, 1) };
        let addr = self.address(space, self.arg(mods, ops, addr_at)?, mods)?;
        let operand = self.arg(mods, ops, reg_at)?;
        let regs = if store { self.regs_in(n_regs, operand, mods)? } else { self.regs_out(n_regs, operand, mods)? };
        let stride = match ops.get(2) {
            Some(operand) => Some(self.s32(operand, mods)?),
            None => None,
        };
        Ok(Op::WmmaMove(Box::new(WmmaMove { store, rows, cols, row_major, ty, regs, addr, stride })))
    }
}

/// Registers of a `wmma` input fragment: f16 fragments of every shape hold 8 (each element twice), others are packed once.
fn frag_regs(rows: u8, cols: u8, ty: MmaTy) -> usize {
    let n = usize::from(rows) * usize::from(cols);
    match ty {
        MmaTy::F16 => 8,
        MmaTy::Bf16 => n / 64,
        MmaTy::Tf32 => n / 32,
        MmaTy::S8 | MmaTy::U8 | MmaTy::E4m3 | MmaTy::E5m2 => n / 128,
    }
}
