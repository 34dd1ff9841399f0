//! Which operations do bulk and tensor copies decode to?

use super::func::Decoder;
use super::hopper_op::*;
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

/// Destination and source of a copy, as they follow each other in the opcode.
const ROUTES: [(&str, Route); 8] = [
    (".shared::cluster.global", Route::GlobalToShared),
    (".shared::cta.global", Route::GlobalToShared),
    (".shared::cluster.shared::cta", Route::SharedToShared),
    (".global.shared::cta", Route::SharedToGlobal),
    (".shared.global", Route::GlobalToShared),
    (".global.shared", Route::SharedToGlobal),
    (".shared::cluster.shared", Route::SharedToShared),
    (".shared::cta.shared::cta", Route::SharedToShared),
];

impl Decoder<'_> {
    /// Copies that are not the per-thread `cp.async`; `None` for those.
    pub(super) fn bulk(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Hopper>> {
        let is_arrive = mods.text.contains(".mbarrier.arrive");
        if !is_arrive && !mods.rest().any(|p| p == "bulk") {
            return Ok(None);
        }
        if !mods.take("async") {
            return Err(mods.unknown("no `.async`"));
        }
        if is_arrive {
            mods.take("mbarrier");
            mods.take("arrive");
            let noinc = mods.take("noinc");
            let space = mods
                .take_one(&[("shared", MemSpace::Shared), ("shared::cta", MemSpace::Shared)])
                .unwrap_or(MemSpace::Generic);
            return Ok(Some(Hopper::CpArrive { addr: self.address(space, self.arg(mods, ops, 0)?, mods)?, noinc }));
        }
        mods.take("bulk");
        if mods.take("commit_group") {
            return Ok(Some(Hopper::BulkCommit));
        }
        if mods.take("wait_group") {
            let read = mods.take("read");
            return match self.arg(mods, ops, 0)? {
                Operand::Int(n) => Ok(Some(Hopper::BulkWait { keep: (*n).min(u64::from(u32::MAX)) as u32, read })),
                other => Err(self.bad(mods, "a constant", other)),
            };
        }
        if mods.take("prefetch") {
            return self.prefetch(mods, ops).map(Some);
        }
        let hint = mods.take("L2::cache_hint");
        let rank = Self::tensor_rank(mods);
        let is_reduce = mods.take("reduce") | (mods.text.starts_with("cp.reduce"));
        let route = ROUTES.iter().find(|(text, _)| mods.text.contains(text)).map(|&(_, route)| route);
        let Some(route) = route else { return Err(mods.unknown("a direction this machine does not know")) };
        for space in ["shared::cluster", "shared::cta", "shared", "global", "shared::cta"] {
            mods.take(space);
        }
        let to_group = mods.take("bulk_group");
        if to_group != (route == Route::SharedToGlobal)
            || mods.take("mbarrier::complete_tx::bytes") != (route != Route::SharedToGlobal)
        {
            return Err(mods.unknown("a way to report completion that does not go with the direction"));
        }
        let multicast = mods.take("multicast::cluster");
        if multicast && route != Route::GlobalToShared {
            return Err(mods.unknown("multicast of shared memory"));
        }
        let copy = Parts { route, is_reduce, multicast, hint };
        match rank {
            Some(rank) => self.tensor_copy(rank, copy, mods, ops).map(Some),
            None => self.bulk_copy(copy, mods, ops).map(Some),
        }
    }

    fn tensor_rank(mods: &mut Mods<'_>) -> Option<usize> {
        mods.take("tensor").then_some(())?;
        mods.take("tile");
        mods.take_one(&[("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)]).or(Some(0))
    }

    /// A prefetch moves nothing, but its operands must still be sound.
    fn prefetch(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        for part in ["L2", "global", "tensor", "tile", "1d", "2d", "3d", "4d", "5d", "L2::cache_hint"] {
            mods.take(part);
        }
        match self.arg(mods, ops, 0)? {
            Operand::Memory(..) | Operand::Tensor(..) => Ok(Hopper::Order),
            other => Err(self.bad(mods, "an address", other)),
        }
    }

    /// Operands behind the fixed ones: a mask of blocks, then a cache policy.
    fn trailing(&mut self, copy: &Parts, at: usize, mods: &Mods<'_>, ops: &[Operand]) -> Decoded<Option<R>> {
        let want = at + usize::from(copy.multicast) + usize::from(copy.hint);
        if ops.len() != want {
            return Err(mods.unknown(format!("{} operands where {want} are expected", ops.len())));
        }
        if copy.multicast { Ok(Some(self.s16(&ops[at], mods)?)) } else { Ok(None) }
    }

    fn bulk_copy(&mut self, copy: Parts, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        let reduce = match copy.is_reduce {
            true => {
                let ty = mods.ty(0)?;
                Some((self.reduction(ty, mods)?, ty))
            }
            false => None,
        };
        let (to, from) = match copy.route {
            Route::GlobalToShared => (MemSpace::Shared, MemSpace::Global),
            Route::SharedToShared => (MemSpace::Shared, MemSpace::Shared),
            Route::SharedToGlobal => (MemSpace::Global, MemSpace::Shared),
        };
        let dst = self.address(to, self.arg(mods, ops, 0)?, mods)?;
        let src = self.address(from, self.arg(mods, ops, 1)?, mods)?;
        let size = self.s32(self.arg(mods, ops, 2)?, mods)?;
        let (report, at) = match copy.route {
            Route::SharedToGlobal => (Report::Group, 3),
            _ => (Report::Mbarrier(self.address(MemSpace::Shared, self.arg(mods, ops, 3)?, mods)?), 4),
        };
        let multicast = self.trailing(&copy, at, mods, ops)?;
        Ok(Hopper::Bulk(Bulk { route: copy.route, dst, src, size, report, multicast, reduce }))
    }

    fn tensor_copy(&mut self, rank: usize, copy: Parts, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Hopper> {
        // The element type of a tensor reduction is the map's.
        let reduce = if copy.is_reduce { Some(self.reduction(Ty::U32, mods)?) } else { None };
        let (map_at, shared_at) = match copy.route {
            Route::GlobalToShared => (1, 0),
            Route::SharedToGlobal => (0, 1),
            Route::SharedToShared => return Err(mods.unknown("a tensor copy inside shared memory")),
        };
        let operand = self.arg(mods, ops, map_at)?;
        let Operand::Tensor(base, coords) = operand else {
            return Err(self.bad(mods, "[map, {coordinates}]", operand));
        };
        if coords.len() != rank {
            return Err(self.bad(mods, "as many coordinates as the tensor has dimensions", operand));
        }
        let map = self.address(MemSpace::Generic, base, mods)?;
        let coords = coords.iter().map(|c| self.s32(c, mods)).collect::<Decoded<Vec<R>>>()?;
        let shared = self.address(MemSpace::Shared, self.arg(mods, ops, shared_at)?, mods)?;
        let (report, at) = match copy.route {
            Route::SharedToGlobal => (Report::Group, 2),
            _ => (Report::Mbarrier(self.address(MemSpace::Shared, self.arg(mods, ops, 2)?, mods)?), 3),
        };
        let multicast = self.trailing(&copy, at, mods, ops)?;
        Ok(Hopper::Tensor(Box::new(TensorCopy { route: copy.route, map, coords, shared, report, multicast, reduce })))
    }
}

/// What the modifiers of a copy say.
struct Parts {
    route: Route,
    is_reduce: bool,
    multicast: bool,
    hint: bool,
}
