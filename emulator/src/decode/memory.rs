//! Which operations do loads, stores, atomics and asynchronous copies decode to?

use super::func::{Bank, Decoder};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

const SPACES: [(&str, MemSpace); 9] = [
    ("global", MemSpace::Global),
    ("const", MemSpace::Global),
    ("shared", MemSpace::Shared),
    ("shared::cta", MemSpace::Shared),
    ("shared::cluster", MemSpace::Shared),
    ("local", MemSpace::Local),
    ("param", MemSpace::Param),
    ("param::entry", MemSpace::Param),
    ("param::func", MemSpace::Param),
];

/// Modifiers that change speed or ordering but not what one emulated access returns.
const HINTS: [&str; 20] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "weak",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L2::evict_first",
    "L2::evict_last",
    "noftz",
];

fn drop_hints(mods: &mut Mods<'_>) {
    for hint in HINTS {
        mods.take(hint);
    }
}

/// Ordering and scope; `volatile` is relaxed with the widest scope.
fn take_order(mods: &mut Mods<'_>) -> MemOrder {
    let both = mods.take("acq_rel");
    let (acquire, release) = (mods.take("acquire") | both, mods.take("release") | both);
    let plain = mods.take("volatile") | mods.take("mmio") | mods.take("relaxed");
    MemOrder { strong: plain | acquire | release, acquire, release, reach: take_reach(mods) }
}

/// Scope of an access or fence.
pub(crate) fn take_reach(mods: &mut Mods<'_>) -> Reach {
    let near = mods.take("cta");
    for wide in ["cluster", "gpu", "gl", "sys"] {
        mods.take(wide);
    }
    if near { Reach::Block } else { Reach::Device }
}

impl Decoder<'_> {
    /// Memory instructions; `None` if `mods` names none of them.
    pub(crate) fn memory(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        Ok(Some(match mods.name() {
            "ld" | "ldu" => self.load(mods, ops)?,
            "st" => self.store(mods, ops)?,
            "atom" | "red" if !mods.rest().any(|p| p == "async") => self.atom(mods, ops)?,
            "prefetch" | "prefetchu" | "applypriority" | "discard" => {
                let known = [
                    "global",
                    "local",
                    "L1",
                    "L2",
                    "L2::evict_last",
                    "L2::evict_normal",
                    "L2::128B",
                    "tensormap",
                    "param",
                    "const",
                ];
                for part in known {
                    mods.take(part);
                }
                Op::Nop
            }
            "cp" => return self.copy(mods, ops),
            _ => return Ok(None),
        }))
    }

    fn space(&mut self, mods: &mut Mods<'_>) -> MemSpace {
        mods.take_one(&SPACES).unwrap_or(MemSpace::Generic)
    }

    fn vector_len(mods: &mut Mods<'_>) -> u8 {
        mods.take_one(&[("v2", 2), ("v4", 4)]).unwrap_or(1)
    }

    /// Registers of a vector operand, or of a single one; all in one bank.
    fn vector<'o>(&mut self, n: u8, operand: &'o Operand, mods: &Mods<'_>) -> Decoded<&'o [Operand]> {
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() == usize::from(n) {
            Ok(parts)
        } else {
            Err(self.bad(mods, "as many registers as the vector has elements", operand))
        }
    }

    /// Whether the registers of an access are 64 bits wide: a register may be wider than the type.
    fn is_wide(&mut self, ty: Ty, parts: &[Operand], mods: &Mods<'_>) -> Decoded<bool> {
        let mut wide = ty.bytes() == 8;
        for part in parts {
            match self.bank(part) {
                Some(Bank::Pred) => return Err(self.bad(mods, "a data register", part)),
                Some(Bank::Word) if ty.bytes() == 8 => return Err(self.bad(mods, "a 64-bit register", part)),
                Some(Bank::Wide) => wide = true,
                Some(Bank::Word) | None => {}
            }
        }
        Ok(wide)
    }

    /// Operands without the cache policy at their end.
    fn without_policy<'o>(mods: &mut Mods<'_>, ops: &'o [Operand]) -> &'o [Operand] {
        if mods.take("L2::cache_hint") { &ops[..ops.len().saturating_sub(1)] } else { ops }
    }

    fn load(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let space = self.space(mods);
        let n = Self::vector_len(mods);
        let ops = Self::without_policy(mods, ops);
        let passes = mods.take("cg") | mods.take("cv") | mods.take("L1::no_allocate");
        drop_hints(mods);
        let order = take_order(mods);
        let parts = self.vector(n, self.arg(mods, ops, 0)?, mods)?;
        let wide = self.is_wide(ty, parts, mods)?;
        let mut dst = [0; 4];
        for (slot, part) in dst.iter_mut().zip(parts) {
            *slot = self.dst(if wide { Bank::Wide } else { Bank::Word }, part, mods)?;
        }
        let addr = self.address(space, self.arg(mods, ops, 1)?, mods)?;
        let elem = Elem {
            bytes: ty.bytes() as u8,
            signed: ty.is_signed(),
            wide,
            n,
            short: !wide && self.is_short(dst[0]),
            order,
            cached: !passes && !order.strong,
        };
        if let (MemSpace::Param, 1, Operand::Memory(base, offset)) = (space, n, self.arg(mods, ops, 1)?)
            && let Operand::Name(name) = base.as_ref()
            && let Some(super::func::Local::Param(at)) = self.lookup(name)
            && let Ok(offset) = u32::try_from(i64::from(at).saturating_add(*offset))
        {
            // A parameter at a fixed place is a constant of the launch.
            let value = Const::Param { offset, bytes: elem.bytes, signed: elem.signed };
            return Ok(if wide {
                Op::Un64(Un64::Mov, dst[0], self.const64(value))
            } else {
                Op::Un32(Un32::Mov, dst[0], self.const32(value))
            });
        }
        Ok(Op::Ld { elem, dst, addr })
    }

    fn store(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let ty = mods.ty(0)?;
        let space = self.space(mods);
        let n = Self::vector_len(mods);
        let ops = Self::without_policy(mods, ops);
        drop_hints(mods);
        let order = take_order(mods);
        let addr = self.address(space, self.arg(mods, ops, 0)?, mods)?;
        if addr.space == MemSpace::Param {
            return Err(mods.unknown("a store to kernel parameters"));
        }
        let parts = self.vector(n, self.arg(mods, ops, 1)?, mods)?;
        let wide = self.is_wide(ty, parts, mods)?;
        let mut src = [0; 4];
        for (slot, part) in src.iter_mut().zip(parts) {
            *slot = match (wide, ty) {
                (true, _) => self.s64(part, mods)?,
                (false, Ty::F32) => self.sf32(part, mods)?,
                (false, _) => self.s32(part, mods)?,
            };
        }
        Ok(Op::St {
            elem: Elem { bytes: ty.bytes() as u8, signed: false, wide, n, short: false, order, cached: false },
            src,
            addr,
        })
    }

    fn atom(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let (ty, is_red) = (mods.ty(0)?, mods.name() == "red");
        let space = self.space(mods);
        let n = Self::vector_len(mods);
        let ops = Self::without_policy(mods, ops);
        drop_hints(mods);
        let order = MemOrder { strong: true, ..take_order(mods) };
        let (signed, float) = (ty.is_signed(), !ty.is_int());
        let pick = |s, u, f| match (float, signed) {
            (true, _) => f,
            (false, true) => s,
            (false, false) => u,
        };
        let op = mods.need_one(
            &[
                ("add", pick(AtomOp::AddU, AtomOp::AddU, AtomOp::AddF)),
                ("min", pick(AtomOp::MinS, AtomOp::MinU, AtomOp::MinF)),
                ("max", pick(AtomOp::MaxS, AtomOp::MaxU, AtomOp::MaxF)),
                ("and", AtomOp::And),
                ("or", AtomOp::Or),
                ("xor", AtomOp::Xor),
                ("exch", AtomOp::Exch),
                ("cas", AtomOp::Cas),
                ("inc", AtomOp::Inc),
                ("dec", AtomOp::Dec),
            ],
            "operation",
        )?;
        let add_float =
            op == AtomOp::AddF && matches!(ty, Ty::F32 | Ty::F64 | Ty::F16x2 | Ty::Bf16x2 | Ty::F16 | Ty::Bf16);
        if ty.bytes() < 2 || (float && !add_float) || (ty.bytes() == 2 && op != AtomOp::Cas && !add_float) {
            return Err(mods.unknown(format!("type {ty:?}")));
        }
        let shift = usize::from(!is_red);
        let mut addr = self.address(space, self.arg(mods, ops, shift)?, mods)?;
        let values = self.vector(n, self.arg(mods, ops, shift + 1)?, mods)?;
        let results = if is_red { &[] } else { self.vector(n, self.arg(mods, ops, 0)?, mods)? };
        let mut atoms = Vec::new();
        // Each element of a vector is an atomic of its own.
        for (i, value) in values.iter().enumerate() {
            let d = results.get(i).map(|result| self.dst_ty(ty, result, mods)).transpose()?;
            let b = self.src(ty, value, mods)?;
            let c = if op == AtomOp::Cas { self.src(ty, self.arg(mods, ops, shift + 2)?, mods)? } else { b };
            atoms.push(Op::Atom(Box::new(Atom { op, ty, wide: ty.bytes() == 8, d, addr, b, c, order })));
            addr.offset = addr.offset.wrapping_add(ty.bytes() as i32);
        }
        let last = atoms.pop().ok_or_else(|| mods.unknown("a vector of nothing"))?;
        self.before = atoms;
        Ok(last)
    }

    fn copy(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        if !mods.take("async") {
            return Ok(None);
        }
        if mods.take("commit_group") {
            return Ok(Some(Op::CpCommit));
        }
        if mods.take("wait_all") {
            return Ok(Some(Op::CpWait(None)));
        }
        if mods.take("wait_group") {
            return match self.arg(mods, ops, 0)? {
                Operand::Int(n) => Ok(Some(Op::CpWait(Some((*n).min(u64::from(u32::MAX)) as u32)))),
                other => Err(self.bad(mods, "a constant", other)),
            };
        }
        let cg = mods.take("cg");
        if !cg && !mods.take("ca") {
            return Ok(None);
        }
        if !(mods.take("shared") | mods.take("shared::cta")) || !mods.take("global") {
            return Err(mods.unknown("copies other than global to shared"));
        }
        let ops = Self::without_policy(mods, ops);
        drop_hints(mods);
        let dst = self.address(MemSpace::Shared, self.arg(mods, ops, 0)?, mods)?;
        let src = self.address(MemSpace::Global, self.arg(mods, ops, 1)?, mods)?;
        let bytes = match self.arg(mods, ops, 2)? {
            Operand::Int(16) => 16,
            Operand::Int(n @ (4 | 8)) if !cg => *n as u8,
            other => return Err(self.bad(mods, "4, 8 or 16 bytes (16 for .cg)", other)),
        };
        let (mut size, mut ignore) = (None, None);
        if let Some(operand) = ops.get(3) {
            match self.bank(operand) {
                Some(Bank::Pred) => ignore = Some(self.pred(operand, mods)?),
                _ => size = Some(self.s32(operand, mods)?),
            }
        }
        Ok(Some(Op::CpAsync { dst, src, bytes, size, ignore, cached: !cg }))
    }
}
