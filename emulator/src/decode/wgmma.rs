//! Which operations does `wgmma` decode to?

use super::func::{Bank, Decoder};
use super::hopper_op::*;
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

fn element(ty: Ty) -> Option<WgTy> {
    Some(match ty {
        Ty::F16 => WgTy::F16,
        Ty::Bf16 => WgTy::Bf16,
        Ty::Tf32 => WgTy::Tf32,
        Ty::E4m3 => WgTy::E4m3,
        Ty::E5m2 => WgTy::E5m2,
        Ty::S8 => WgTy::S8,
        Ty::U8 => WgTy::U8,
        _ => return None,
    })
}

/// N of `m64nNkK`, where K is 32 bytes of elements of `bits` bits.
fn columns(shape: &str, k: u32) -> Option<u16> {
    let rest = shape.strip_prefix("m64n")?;
    let n = rest.strip_suffix(&format!("k{k}"))?.parse().ok()?;
    (n % 8 == 0 && (8..=256).contains(&n)).then_some(n)
}

impl Decoder<'_> {
    /// `wgmma` in all its forms.
    pub(super) fn wgmma(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        if !mods.take("sync") || !mods.take("aligned") {
            return Err(mods.unknown("forms without `.sync.aligned`"));
        }
        if mods.take("fence") {
            return Ok(Hopper::WgmmaFence);
        }
        if mods.take("commit_group") {
            return Ok(Hopper::WgmmaCommit);
        }
        if mods.take("wait_group") {
            return match self.arg(mods, ops, 0)? {
                Operand::Int(n) => Ok(Hopper::WgmmaWait((*n).min(u64::from(u32::MAX)) as u32)),
                other => Err(self.bad(mods, "a constant", other)),
            };
        }
        if !mods.take("mma_async") {
            return Err(mods.unknown("neither fence, mma_async, commit_group nor wait_group"));
        }
        self.wgmma_multiply(mods, ops)
    }

    fn wgmma_multiply(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        let (Some(a_ty), Some(b_ty)) = (element(mods.ty(1)?), element(mods.ty(2)?)) else {
            return Err(mods.unknown("this element type"));
        };
        let (k, integer) = match a_ty {
            WgTy::F16 | WgTy::Bf16 => (16, false),
            WgTy::Tf32 => (8, false),
            WgTy::E4m3 | WgTy::E5m2 => (32, false),
            WgTy::S8 | WgTy::U8 => (32, true),
        };
        let fp8 = |ty| matches!(ty, WgTy::E4m3 | WgTy::E5m2);
        let same = a_ty == b_ty || (fp8(a_ty) && fp8(b_ty)) || (integer && matches!(b_ty, WgTy::S8 | WgTy::U8));
        let sum = match mods.ty(0)? {
            Ty::F32 if !integer => WgSum::F32,
            Ty::F16 if a_ty == WgTy::F16 || fp8(a_ty) => WgSum::F16,
            Ty::S32 if integer => WgSum::S32,
            _ => return Err(mods.unknown("this mix of types")),
        };
        let shape = mods.rest().find(|p| p.starts_with("m64n")).unwrap_or("");
        let Some(n) = columns(shape, k).filter(|_| same) else {
            return Err(mods.unknown("this shape with these types"));
        };
        mods.take(shape);
        let saturate = integer && mods.take("satfinite");
        let n_d = usize::from(n) / if sum == WgSum::F16 { 4 } else { 2 };
        let d = self.fragment(n_d, self.arg(mods, ops, 0)?, mods)?;
        let (a, from_regs) = match self.arg(mods, ops, 1)? {
            operand @ Operand::Vector(_) => {
                let regs = self.fragment(4, operand, mods)?;
                (WgA::Regs([regs[0], regs[1], regs[2], regs[3]]), true)
            }
            operand => (WgA::Desc(self.s64(operand, mods)?), false),
        };
        let b = self.s64(self.arg(mods, ops, 2)?, mods)?;
        let scale_d = self.pred(self.arg(mods, ops, 3)?, mods)?;
        let mut flags = ops[4..].iter();
        let mut flag = |low: i64, what: &'static str| match flags.next() {
            Some(Operand::Int(value)) if matches!(*value as i64, 1) || *value as i64 == low => Ok(*value as i64 == low),
            Some(other) => Err(self.bad(mods, what, other)),
            None => Err(mods.unknown("a constant operand is missing")),
        };
        let (mut negate_a, mut negate_b, mut trans_a, mut trans_b) = (false, false, false, false);
        if !integer {
            negate_a = flag(-1, "1 or -1")?;
            negate_b = flag(-1, "1 or -1")?;
        }
        if matches!(a_ty, WgTy::F16 | WgTy::Bf16) {
            trans_a = !from_regs && !flag(0, "0 or 1")?;
            trans_b = !flag(0, "0 or 1")?;
        }
        if let Some(extra) = flags.next() {
            return Err(self.bad(mods, "no further operand", extra));
        }
        let wgmma = Wgmma { n, a_ty, b_ty, sum, d, a, b, scale_d, negate_a, negate_b, trans_a, trans_b, saturate };
        Ok(Hopper::Wgmma(Box::new(wgmma)))
    }

    fn fragment(&mut self, n: usize, operand: &Operand, mods: &Mods<'_>) -> Decoded<Vec<R>> {
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() != n {
            return Err(self.bad(mods, "a fragment with the registers this shape has", operand));
        }
        parts.iter().map(|part| self.dst(Bank::Word, part, mods)).collect()
    }
}
