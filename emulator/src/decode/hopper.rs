//! Which operations do mbarriers, clusters and the other instructions of compute capability 9.0 decode to?

use super::func::{Bank, Decoder};
use super::hopper_op::*;
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

/// Scopes and orders of an mbarrier instruction: every emulated one is ordered.
const ORDERS: [&str; 8] = ["relaxed", "acquire", "release", "weak", "cta", "cluster", "gpu", "sys"];

pub(super) fn drop_orders(mods: &mut Mods<'_>) {
    for order in ORDERS {
        mods.take(order);
    }
}

impl Decoder<'_> {
    /// Instructions of compute capability 9.0; `None` if `mods` names none of them.
    pub(crate) fn hopper(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        let cluster = mods.rest().any(|p| p == "cluster");
        let found = match mods.name() {
            "mbarrier" => self.mbarrier(mods, ops)?,
            "cp" => return Ok(self.bulk(mods, ops)?.map(|h| Op::Hopper(Box::new(h)))),
            "st" | "red" if mods.take("async") => self.remote_store(mods, ops)?,
            "mapa" => self.mapa(mods, ops)?,
            "getctarank" => {
                mods.take("shared::cluster");
                let ty = mods.ty(0)?;
                let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
                Hopper::GetCtaRank { d, a: self.src(ty, self.arg(mods, ops, 1)?, mods)?, wide: ty.bytes() == 8 }
            }
            "barrier" if cluster && !mods.take("warp") => self.cluster_barrier(mods)?,
            "fence" if mods.text.contains(".proxy.") || mods.text.contains(".mbarrier_init") => self.fence(mods)?,
            "wgmma" => self.wgmma(mods, ops)?,
            "setmaxnreg" => self.registers(mods, ops)?,
            "tensormap" => self.tensormap(mods, ops)?,
            "isspacep" if mods.take("shared::cta") => {
                let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
                Hopper::IsOwnShared { d, a: self.s64(self.arg(mods, ops, 1)?, mods)? }
            }
            // Launches never overlap here, and caches have no policy.
            "griddepcontrol" => {
                mods.need_one(&[("launch_dependents", ()), ("wait", ())], "action")?;
                return Ok(Some(Op::Nop));
            }
            "createpolicy" => return self.policy(mods, ops).map(Some),
            _ => return Ok(None),
        };
        Ok(Some(Op::Hopper(Box::new(found))))
    }

    fn policy(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        mods.need_one(&[("fractional", ()), ("range", ()), ("cvt", ())], "kind")?;
        for part in mods.rest().collect::<Vec<_>>() {
            if part == "L2" || part == "global" || part.starts_with("L2::") {
                mods.take(part);
            }
        }
        let d = self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?;
        Ok(Op::Un64(Un64::Mov, d, self.const64(Const::Bits(0))))
    }

    fn mbarrier(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        if mods.take("pending_count") {
            let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
            return Ok(Hopper::PendingCount { d, state: self.s64(self.arg(mods, ops, 1)?, mods)? });
        }
        let space = mods
            .take_one(&[
                ("shared", MemSpace::Shared),
                ("shared::cta", MemSpace::Shared),
                ("shared::cluster", MemSpace::Shared),
            ])
            .unwrap_or(MemSpace::Generic);
        drop_orders(mods);
        let (test, try_wait) = (mods.take("test_wait"), mods.take("try_wait"));
        if test || try_wait {
            let is_parity = mods.take("parity");
            let d = self.dst(Bank::Pred, self.arg(mods, ops, 0)?, mods)?;
            let addr = self.address(space, self.arg(mods, ops, 1)?, mods)?;
            let phase = self.arg(mods, ops, 2)?;
            let phase =
                if is_parity { Phase::Parity(self.s32(phase, mods)?) } else { Phase::State(self.s64(phase, mods)?) };
            return Ok(Hopper::MbarWait(MbarWait { d, addr, phase }));
        }
        let (arrive, expect) = (mods.take("arrive"), mods.take("expect_tx"));
        let kind = match (arrive, expect) {
            (true, true) => MbarKind::ArriveExpectTx,
            (true, false) if mods.take("noComplete") => MbarKind::ArriveNoComplete,
            (true, false) => MbarKind::Arrive,
            (false, true) if mods.take("arrive_drop") => return Err(mods.unknown("arrive_drop.expect_tx")),
            (false, true) => MbarKind::ExpectTx,
            (false, false) => mods.need_one(
                &[
                    ("init", MbarKind::Init),
                    ("inval", MbarKind::Inval),
                    ("complete_tx", MbarKind::CompleteTx),
                    ("arrive_drop", MbarKind::ArriveDrop),
                ],
                "action",
            )?,
        };
        let returns = !matches!(kind, MbarKind::Init | MbarKind::Inval | MbarKind::ExpectTx | MbarKind::CompleteTx)
            && !matches!(ops.first(), Some(Operand::Memory(..)));
        let state = if returns { Some(self.dst(Bank::Wide, self.arg(mods, ops, 0)?, mods)?) } else { None };
        let at = usize::from(returns);
        let addr = self.address(space, self.arg(mods, ops, at)?, mods)?;
        let needs_count = !matches!(kind, MbarKind::Inval | MbarKind::Arrive | MbarKind::ArriveDrop);
        let count = match ops.get(at + 1) {
            Some(operand) => Count::Reg(self.s32(operand, mods)?),
            None if needs_count => return Err(mods.unknown("no count")),
            None => Count::One,
        };
        Ok(Hopper::Mbar(Mbar { kind, addr, count, state }))
    }

    fn mapa(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        mods.take("shared::cluster");
        let ty = mods.ty(0)?;
        let d = self.dst_ty(ty, self.arg(mods, ops, 0)?, mods)?;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let rank = self.s32(self.arg(mods, ops, 2)?, mods)?;
        Ok(Hopper::Mapa { d, a, rank, wide: ty.bytes() == 8 })
    }

    fn cluster_barrier(&mut self, mods: &mut Mods<'_>) -> Decoded<Hopper> {
        mods.take("cluster");
        for order in ["acquire", "release", "relaxed"] {
            mods.take(order);
        }
        let aligned = mods.take("aligned");
        let arrives = mods.need_one(&[("arrive", true), ("wait", false)], "action")?;
        Ok(if arrives { Hopper::ClusterArrive(aligned) } else { Hopper::ClusterWait(aligned) })
    }

    fn fence(&mut self, mods: &mut Mods<'_>) -> Decoded<Hopper> {
        drop_orders(mods);
        if mods.take("mbarrier_init") {
            return Ok(Hopper::Order);
        }
        mods.take("proxy");
        let is_async = mods.need_one(
            &[
                ("async", true),
                ("async::generic", true),
                ("alias", false),
                ("tensormap", false),
                ("tensormap::generic", false),
            ],
            "proxy",
        )?;
        for space in ["global", "shared", "shared::cta", "shared::cluster", "sync_restrict::shared::cta"] {
            mods.take(space);
        }
        mods.take("sync_restrict::shared::cluster");
        Ok(if is_async { Hopper::ProxyFence } else { Hopper::Order })
    }

    fn registers(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        let increase = mods.need_one(&[("inc", true), ("dec", false)], "direction")?;
        if !mods.take("sync") || !mods.take("aligned") || mods.ty(0)? != Ty::U32 {
            return Err(mods.unknown("forms without `.sync.aligned.u32`"));
        }
        // PTX ISA 9.0, section 9.7.19.5: 24 to 256, a multiple of 8.
        match self.arg(mods, ops, 0)? {
            Operand::Int(n @ 24..=256) if n % 8 == 0 => Ok(Hopper::SetMaxNReg { increase, n: *n as u32 }),
            other => Err(self.bad(mods, "a multiple of 8 from 24 to 256", other)),
        }
    }

    fn tensormap(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        if mods.take("cp_fenceproxy") {
            for part in ["global", "shared::cta", "tensormap::generic", "release", "sync", "aligned", "gpu", "cta"] {
                mods.take(part);
            }
            for part in ["sys", "cluster"] {
                mods.take(part);
            }
            let dst = self.address(MemSpace::Global, self.arg(mods, ops, 0)?, mods)?;
            let src = self.address(MemSpace::Shared, self.arg(mods, ops, 1)?, mods)?;
            return Ok(Hopper::MapCopy { dst, src });
        }
        if !mods.take("replace") || !mods.take("tile") || !mods.take("b1024") {
            return Err(mods.unknown("forms other than `.replace.tile.b1024`"));
        }
        let space = mods
            .take_one(&[("global", MemSpace::Global), ("shared", MemSpace::Shared), ("shared::cta", MemSpace::Shared)])
            .unwrap_or(MemSpace::Generic);
        let field = mods.need_one(
            &[
                ("global_address", MapField::Address),
                ("rank", MapField::Rank),
                ("box_dim", MapField::Box),
                ("global_dim", MapField::Dim),
                ("global_stride", MapField::Stride),
                ("element_stride", MapField::ElemStride),
                ("elemtype", MapField::ElemType),
                ("interleave_layout", MapField::Interleave),
                ("swizzle_mode", MapField::Swizzle),
                ("fill_mode", MapField::Fill),
            ],
            "field",
        )?;
        let addr = self.address(space, self.arg(mods, ops, 0)?, mods)?;
        let has_ord = matches!(field, MapField::Box | MapField::Dim | MapField::Stride | MapField::ElemStride);
        let ord = match has_ord {
            true => self.s32(self.arg(mods, ops, 1)?, mods)?,
            false => self.const32(Const::Bits(0)),
        };
        let wide = mods.ty(0)?.bytes() == 8;
        let operand = self.arg(mods, ops, 1 + usize::from(has_ord))?;
        let value = if wide { self.s64(operand, mods)? } else { self.s32(operand, mods)? };
        Ok(Hopper::MapReplace { addr, field, ord, value, wide })
    }

    fn remote_store(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        drop_orders(mods);
        if !mods.take("shared::cluster") || !mods.take("mbarrier::complete_tx::bytes") {
            return Err(mods.unknown("forms without `.shared::cluster.mbarrier::complete_tx::bytes`"));
        }
        let ty = mods.ty(0)?;
        let n: u8 = mods.take_one(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let reduce = match mods.name() {
            "red" => Some(self.reduction(ty, mods)?),
            _ => None,
        };
        if ty.bytes() < 4 || (reduce.is_some() && n > 1) {
            return Err(mods.unknown(format!("type {ty:?}")));
        }
        let addr = self.address(MemSpace::Shared, self.arg(mods, ops, 0)?, mods)?;
        let operand = self.arg(mods, ops, 1)?;
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() != usize::from(n) {
            return Err(self.bad(mods, "as many registers as the vector has elements", operand));
        }
        let mut values = [0; 4];
        for (slot, part) in values.iter_mut().zip(parts) {
            *slot = self.src(ty, part, mods)?;
        }
        let mbar = self.address(MemSpace::Shared, self.arg(mods, ops, 2)?, mods)?;
        Ok(Hopper::RemoteStore(RemoteStore { addr, ty, n, values, mbar, reduce }))
    }

    /// Operation of a reduction on `ty`.
    pub(super) fn reduction(&mut self, ty: Ty, mods: &mut Mods<'_>) -> Decoded<AtomOp> {
        let float = !ty.is_int();
        let pick = |s, u, f| match (float, ty.is_signed()) {
            (true, _) => f,
            (false, true) => s,
            (false, false) => u,
        };
        mods.take("noftz");
        let op = mods.need_one(
            &[
                ("add", pick(AtomOp::AddU, AtomOp::AddU, AtomOp::AddF)),
                ("min", pick(AtomOp::MinS, AtomOp::MinU, AtomOp::MinF)),
                ("max", pick(AtomOp::MaxS, AtomOp::MaxU, AtomOp::MaxF)),
                ("inc", AtomOp::Inc),
                ("dec", AtomOp::Dec),
                ("and", AtomOp::And),
                ("or", AtomOp::Or),
                ("xor", AtomOp::Xor),
            ],
            "reduction",
        )?;
        let bits_of_float = float && !matches!(op, AtomOp::AddF | AtomOp::MinF | AtomOp::MaxF);
        let wide_minimum = matches!(op, AtomOp::MinF | AtomOp::MaxF) && ty.bytes() > 2;
        if ty.bytes() < 2 || bits_of_float || wide_minimum {
            return Err(mods.unknown(format!("this reduction of {ty:?}")));
        }
        Ok(op)
    }
}
