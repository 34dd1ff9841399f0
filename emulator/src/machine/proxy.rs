//! What orders asynchronous copies? Mbarriers, cluster barriers, bulk groups, and fences between the two proxies.
//!
//! A copy belongs to the agent of the warp that starts it: what it reads and writes counts as in flight until the warp
//! that uses it has waited where the copy reports. Ordinary writes are visible to it only behind a
//! `fence.proxy.async` that follows them, in the writer or in whoever starts the copy. Arrivals at a cluster barrier all
//! release, `.relaxed` or not.

use std::collections::HashMap;

use super::access::{Home, Lane};
use super::block::Env;
use super::clock::Who;
use super::flight::{Copy, Source, Target};
use super::order::{Channel, Handoff, Order};
use super::race::{Ledger, Range, conflict, find, keep, lock, words};
use super::shadow::{How, Region, Stamp};
use super::warp::{LANES, Warp};
use crate::error::Access;
use crate::finding::Cause;
use crate::memory::Memory;

/// What passes through a barrier with phases: of the one that fills, and of those that are complete.
pub(crate) struct Phases {
    filling: Handoff,
    complete: Handoff,
}

impl Default for Phases {
    fn default() -> Self {
        Phases { filling: Handoff::anywhere(), complete: Handoff::anywhere() }
    }
}

impl Phases {
    /// A phase ends.
    pub(crate) fn flip(&mut self) {
        self.complete.clone_from(&self.filling);
    }

    /// A copy reports here.
    pub(crate) fn land(&mut self, (agent, period): (Who, u32)) {
        self.filling.note(agent, period);
    }
}

/// What is known of one block's shared memory.
#[derive(Default)]
pub(crate) struct Shadow {
    pub(crate) region: Region,
    pub(crate) channels: HashMap<u64, Channel>,
    /// By offset.
    pub(crate) mbarriers: HashMap<usize, Phases>,
}

/// One range of an asynchronous copy.
struct Part {
    range: Range,
    how: How,
    period: u32,
    /// Whether ordinary writes need a proxy fence to be seen.
    is_proxied: bool,
}

impl Env<'_> {
    /// A new mbarrier at offset `at` of block `rank`.
    pub(crate) fn reset_mbarrier(&mut self, (rank, at): (usize, usize)) {
        if self.races.is_some() {
            self.hub.shadows[rank].mbarriers.insert(at, Phases::default());
        }
    }

    /// An arrival at an mbarrier releases; `flips` where it ends the phase.
    pub(crate) fn release_mbarrier(&mut self, warp: &Warp, (rank, at): (usize, usize), flips: bool) {
        let Some(races) = self.races.as_deref_mut() else { return };
        let phases = self.hub.shadows[rank].mbarriers.entry(at).or_default();
        races.order(warp.index).arrive(&mut phases.filling);
        if flips {
            phases.flip();
        }
    }

    /// A wait for an mbarrier that has succeeded acquires.
    pub(crate) fn acquire_mbarrier(&mut self, warp: &Warp, (rank, at): (usize, usize)) {
        let Some(races) = self.races.as_deref_mut() else { return };
        if let Some(phases) = self.hub.shadows[rank].mbarriers.get(&at) {
            races.order(warp.index).leave(&phases.complete);
        }
    }

    /// Arrives at the cluster barrier.
    pub(crate) fn release_cluster(&mut self, warp: &Warp) {
        if let Some(races) = self.races.as_deref_mut() {
            races.order(warp.index).arrive(&mut self.hub.barrier.filling);
        }
    }

    /// Lanes in `m` leave the cluster barrier.
    pub(crate) fn acquire_cluster(&mut self, warp: &Warp, m: u32) {
        if let Some(races) = self.races.as_deref_mut() {
            let order = races.order(warp.index);
            order.leave(&self.hub.barrier.complete);
            order.sync_lanes(m, warp.alive);
        }
    }

    pub(crate) fn proxy_fence(&mut self, warp: &Warp) {
        if let Some(races) = self.races.as_deref_mut() {
            races.order(warp.index).proxy_fence();
        }
    }

    /// The agent of `warp`, and the period of the copies it starts next: reads carry it, writes the one after.
    pub(crate) fn next_copy(&mut self, warp: &Warp) -> (Who, u32) {
        let Some(races) = self.races.as_deref_mut() else { return (Who::NONE, 0) };
        let order = races.order(warp.index);
        let period = order.begin_async();
        order.begin_async();
        (order.who.agent(), period)
    }

    /// The agent of `warp` and the period of what it has started last.
    pub(crate) fn last_copy(&mut self, warp: &Warp) -> (Who, u32) {
        let Some(races) = self.races.as_deref_mut() else { return (Who::NONE, 0) };
        let order = races.order(warp.index);
        (order.who.agent(), order.agent_period())
    }

    /// An mbarrier is initialised or used: both have to be ordered.
    pub(crate) fn watch_mbarrier(
        &mut self,
        warp: &Warp,
        lane: usize,
        access: Access,
        (rank, at): (usize, usize),
    ) -> Lane<()> {
        let Some(races) = self.races.as_deref_mut() else { return Ok(()) };
        let order = races.order(warp.index);
        let range = Range { home: Home::Shared, rank, address: at as u64, bytes: 8 };
        let how = match access {
            Access::Write => How::WRITE,
            Access::Read | Access::Atomic => How::READ.and(How::WRITE).strong(true),
        };
        let stamp = Stamp::new(order.who, order.period, 1 << lane, warp.cur.pc);
        let region = &mut self.hub.shadows[rank].region;
        if let Some(other) = find(region, at / 4, order, (&range, stamp, how)) {
            return conflict(lane, &range, access, other, Cause::Unordered);
        }
        keep(region, at / 4, order, (&range, stamp, how));
        Ok(())
    }

    /// The warp has waited for its agent's work up to `period`.
    pub(crate) fn complete_copies(&mut self, warp: &Warp, period: u32) {
        if let Some(races) = self.races.as_deref_mut() {
            let order = races.order(warp.index);
            order.complete_async(order.who.agent(), period);
        }
    }

    /// The multiplications of `warp` so far form a group.
    pub(crate) fn group_wgmma(&mut self, warp: &Warp) {
        if let Some(races) = self.races.as_deref_mut() {
            let period = races.order(warp.index).agent_period();
            races.wgmma_groups[warp.index as usize].push(period);
        }
    }

    /// `warp` has waited for the first `due` groups of its warpgroup: none of its warps reads for them any more.
    pub(crate) fn acquire_wgmma(&mut self, warp: &Warp, due: u32) {
        let Some(races) = self.races.as_deref_mut() else { return };
        let first = warp.index / 4 * 4;
        for other in first..(first + 4).min(races.wgmma_groups.len() as u32) {
            let ended = (due as usize).checked_sub(1).and_then(|at| races.wgmma_groups[other as usize].get(at));
            if let Some(&period) = ended {
                let agent = races.order(other).who.agent();
                races.order(warp.index).complete_async(agent, period);
            }
        }
    }

    /// Checks and remembers all that a copy will read and write.
    pub(crate) fn watch_copy(&mut self, warp: &Warp, lane: usize, period: u32, copy: &Copy) -> Lane<()> {
        if self.races.is_none() {
            return Ok(());
        }
        let is_proxied = !matches!(copy.source, Source::Value(_));
        let write = match copy.reduce {
            Some(_) => How::READ.and(How::WRITE).strong(true),
            None => How::WRITE,
        };
        let shared = |rank, at: u32, bytes| Range { home: Home::Shared, rank, address: at.into(), bytes };
        let mut parts = Vec::new();
        for piece in &copy.pieces {
            let global = piece.global.map(|address| Range { home: Home::Global, rank: 0, address, bytes: piece.bytes });
            let mut add = |range, how: How| {
                let period = if how.writes() { period + 1 } else { period };
                parts.push(Part { range, how, period, is_proxied });
            };
            match (&copy.source, global) {
                (Source::Global, Some(range)) => add(range, How::READ),
                (Source::Shared(rank), Some(_)) => add(shared(*rank, piece.shared, piece.bytes), How::READ),
                (Source::Shared(rank), None) => add(shared(*rank, piece.from, piece.bytes), How::READ),
                (Source::Global, None) | (Source::Value(_), _) => {}
            }
            match (copy.target, global) {
                (Target::Global, Some(range)) => add(range, write),
                (Target::Global, None) => {}
                (Target::Shared(ranks), _) => {
                    for rank in (0..16).filter(|rank| ranks >> rank & 1 == 1) {
                        add(shared(rank, piece.shared, piece.bytes), write);
                    }
                }
            }
        }
        parts.iter().try_for_each(|part| self.watch_part(warp, lane, part))
    }

    /// A tensor core will read a range of this block's shared memory.
    pub(crate) fn watch_operand(&mut self, warp: &Warp, period: u32, (address, bytes): (u64, u32)) -> Lane<()> {
        let range = Range { home: Home::Shared, rank: self.rank, address, bytes };
        let part = Part { range, how: How::READ, period, is_proxied: true };
        self.watch_part(warp, warp.alive.trailing_zeros() as usize % LANES, &part)
    }

    fn watch_part(&mut self, warp: &Warp, lane: usize, part: &Part) -> Lane<()> {
        let (Some(races), Some(ledger)) = (self.races.as_deref_mut(), self.grid.ledger) else { return Ok(()) };
        let mut ledger = lock(ledger);
        let order = races.order(warp.index);
        let Part { range, how, period, is_proxied } = part;
        let (region, first) = match range.home {
            Home::Shared => (&mut self.hub.shadows[range.rank].region, range.address as usize / 4),
            _ => global_region(&mut ledger, range.address),
        };
        let access = if how.writes() { Access::Write } else { Access::Read };
        let own = Stamp::new(order.who, order.period, 1 << lane, warp.cur.pc);
        let flying = Stamp::new(order.who.agent(), *period, 1 << lane, warp.cur.pc);
        for (word, bytes) in words(first, range) {
            let own = own.on(bytes, *how);
            if let Some(other) = region.conflict(word, order, &own) {
                return conflict(lane, range, access, other, Cause::Unordered);
            }
            if *is_proxied && let Some(other) = unfenced(region, word, order, &own) {
                return conflict(lane, range, access, other, Cause::ProxyFence);
            }
        }
        keep(region, first, order, (range, flying, *how));
        Ok(())
    }
}

/// Stamps of the allocation of `address`, and the word in it.
pub(crate) fn global_region(ledger: &mut Ledger, address: u64) -> (&mut Region, usize) {
    let (slot, offset) = Memory::split(address);
    (ledger.region(slot), offset as usize / 4)
}

/// An ordinary write to `word` that no proxy fence has made visible.
fn unfenced(region: &mut Region, word: usize, order: &Order, new: &Stamp) -> Option<Stamp> {
    region.find(word, |old| old.how().writes() && !old.who.is_agent() && old.meets(new) && !order.knows_proxied(old))
}
