//! Are two accesses of a launch ordered? Every load, store, copy and synchronisation passes through here.
//!
//! Blocks share one ledger of global memory, so a launch that is watched runs on one host thread: its first finding is
//! the same every time. Read `order` for what orders accesses, `shadow` for what is remembered of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::access::{Fault, Home, Lane, is_run, resolve};
use super::block::Env;
use super::clock::Who;
use super::cluster::PEER_SHIFT;
use super::order::{Channel, Handoff, Order};
use super::proxy::{Shadow, global_region};
use super::shadow::{How, Region, Stamp};
use super::warp::{ALL, LANES, Row64, Warp};
use crate::decode::op::{MemOrder, MemSpace, Reach};
use crate::error::{Access, LaunchError, Place, Space};
use crate::finding::{Cause, Race};

/// What all blocks know of global memory.
#[derive(Default)]
pub(crate) struct Ledger {
    regions: Vec<Region>,
    channels: HashMap<u64, Channel>,
}

impl Ledger {
    /// Stamps of allocation number `slot`.
    #[inline(always)]
    pub(crate) fn region(&mut self, slot: usize) -> &mut Region {
        if self.regions.len() <= slot {
            self.regions.resize_with(slot + 1, Region::global);
        }
        &mut self.regions[slot]
    }
}

/// What one block knows of its warps.
pub(crate) struct Races {
    orders: Vec<Order>,
    /// By barrier number, once it has been open.
    barriers: Vec<Option<Box<Handoff>>>,
    /// For each warp, the period of its agent at the end of each group of `wgmma`.
    pub(crate) wgmma_groups: Vec<Vec<u32>>,
    block: u32,
}

/// Accesses of the lanes of one instruction.
pub(crate) struct Touch<'a> {
    pub(crate) space: MemSpace,
    pub(crate) addresses: &'a Row64,
    pub(crate) bytes: u32,
    pub(crate) access: Access,
    pub(crate) order: MemOrder,
    /// A compare-and-swap.
    pub(crate) is_swap: bool,
}

/// Two accesses in conflict, before their places have names.
#[derive(Debug)]
pub(crate) struct Conflict {
    access: Access,
    is_shared: bool,
    address: u64,
    bytes: u32,
    other: Stamp,
    cause: Cause,
}

/// One range of bytes that one lane, or all together, touch.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) home: Home,
    /// Whose shared memory.
    pub(crate) rank: usize,
    /// An offset in shared memory.
    pub(crate) address: u64,
    pub(crate) bytes: u32,
}

pub(crate) const WEAK: MemOrder = MemOrder { strong: false, acquire: false, release: false, reach: Reach::Device };

fn how(access: Access, order: MemOrder) -> How {
    let how = match access {
        Access::Read => How::READ,
        Access::Write => How::WRITE,
        Access::Atomic => How::READ.and(How::WRITE),
    };
    if order.strong { how.strong(order.reach == Reach::Device) } else { how }
}

pub(crate) fn access_of(how: How) -> Access {
    match (how.reads(), how.writes()) {
        (true, true) => Access::Atomic,
        (_, true) => Access::Write,
        _ => Access::Read,
    }
}

impl Races {
    pub(crate) fn new(block: u32, n_warps: u32, n_barriers: usize) -> Self {
        Races {
            orders: (0..n_warps).map(|warp| Order::new(Who::warp(block, warp))).collect(),
            barriers: vec![None; n_barriers],
            wgmma_groups: vec![Vec::new(); n_warps as usize],
            block,
        }
    }

    /// Order of warp `warp`.
    pub(crate) fn order(&mut self, warp: u32) -> &mut Order {
        &mut self.orders[warp as usize]
    }

    /// Whether some warp of this block follows an access, or made it.
    pub(crate) fn is_known(&self, stamp: &Stamp) -> bool {
        stamp.who.block() == self.block || self.orders.iter().any(|order| order.knows(stamp, ALL))
    }

    /// Lanes in `mask` of warp `warp` synchronise.
    pub(crate) fn sync_lanes(&mut self, warp: u32, mask: u32, alive: u32) {
        self.orders[warp as usize].sync_lanes(mask, alive);
    }

    /// A warp arrives at barrier `id`, which it opens if `opens`.
    pub(crate) fn arrive(&mut self, warp: u32, id: u32, opens: bool) {
        let slot = &mut self.barriers[id as usize];
        if opens {
            *slot = None;
        }
        let handoff = slot.get_or_insert_with(|| Box::new(Handoff::new(self.block)));
        self.orders[warp as usize].arrive(handoff);
    }

    /// What barrier `id`, which has completed, passes on.
    pub(crate) fn handoff(&self, id: u32) -> Option<Box<Handoff>> {
        self.barriers[id as usize].clone()
    }

    /// Lanes `woken` of a warp leave a completed barrier.
    pub(crate) fn leave(&mut self, warp: &Warp, woken: u32, from: &Handoff) {
        let order = &mut self.orders[warp.index as usize];
        order.leave(from);
        order.sync_lanes(woken, warp.alive);
    }

    pub(crate) fn fence(&mut self, warp: u32, reach: Reach) {
        self.orders[warp as usize].fence(reach);
    }
}

/// Where stamps of a range lie: the region and the first word in it.
#[inline(always)]
fn place_in<'a>(shadows: &'a mut [Shadow], ledger: &'a mut Ledger, range: &Range) -> (&'a mut Region, usize) {
    if range.home == Home::Shared {
        return (&mut shadows[range.rank].region, range.address as usize / 4);
    }
    global_region(ledger, range.address)
}

/// Words of a range and the bytes of each, as a mask.
pub(crate) fn words(first: usize, range: &Range) -> impl Iterator<Item = (usize, u32)> + use<> {
    let start = (range.address % 4) as u32;
    let end = start + range.bytes;
    (0..end.div_ceil(4)).map(move |i| {
        let from = start.saturating_sub(4 * i).min(4);
        let to = (end - 4 * i).min(4);
        (first + i as usize, ((1 << to) - 1) & !((1 << from) - 1))
    })
}

/// Checks a range against what is remembered, then remembers it; the access it conflicts with, if there is one.
pub(crate) fn touch_range(
    region: &mut Region,
    first: usize,
    order: &Order,
    what: (&Range, Stamp, How),
) -> Option<Stamp> {
    let (range, stamp, how) = what;
    if range.address.is_multiple_of(4) && range.bytes.is_multiple_of(4) {
        let stamp = stamp.on(15, how);
        match region.touch_words((first, range.bytes as usize / 4), order, (&stamp, &stamp)) {
            Some(Ok(())) => return None,
            Some(Err(other)) => return Some(other),
            None => {}
        }
    }
    let found = find(region, first, order, what);
    if found.is_none() {
        keep(region, first, order, what);
    }
    found
}

pub(crate) fn find(
    region: &mut Region,
    first: usize,
    order: &Order,
    (range, stamp, how): (&Range, Stamp, How),
) -> Option<Stamp> {
    words(first, range).find_map(|(word, bytes)| region.conflict(word, order, &stamp.on(bytes, how)))
}

pub(crate) fn keep(region: &mut Region, first: usize, order: &Order, (range, stamp, how): (&Range, Stamp, How)) {
    for (word, bytes) in words(first, range) {
        region.record(word, order, &stamp.on(bytes, how));
    }
}

pub(crate) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lanes of a mask, ascending.
fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 == 1)
}

impl Env<'_> {
    /// Whether anybody wants to know of accesses.
    pub(crate) fn is_watched(&self) -> bool {
        self.races.is_some() || self.grid.tally.is_some()
    }

    /// Checks and remembers an instruction's accesses, all of them inside their memory.
    pub(crate) fn watch(&mut self, warp: &Warp, m: u32, touch: &Touch<'_>) -> Lane<()> {
        let (Some(races), Some(ledger)) = (self.races.as_deref_mut(), self.grid.ledger) else { return Ok(()) };
        let mut ledger = lock(ledger);
        let how = how(touch.access, touch.order);
        let how = if touch.is_swap { how.swap() } else { how };
        if let Some(range) = line(m, touch, self.rank) {
            let order = &races.orders[warp.index as usize];
            let stamp = Stamp::new(order.who, order.period, ALL, warp.cur.pc).on(15, how);
            let (region, first) = place_in(&mut self.hub.shadows, &mut ledger, &range);
            match region.touch_line(first, order, &stamp) {
                Some(Ok(())) => return Ok(()),
                Some(Err(other)) => return conflict(0, &range, touch.access, other, Cause::Unordered),
                None => {}
            }
        }
        if let Some(range) = broadcast(m, touch, self.rank) {
            let order = &races.orders[warp.index as usize];
            let stamp = Stamp::new(order.who, order.period, m, warp.cur.pc);
            let (region, first) = place_in(&mut self.hub.shadows, &mut ledger, &range);
            return match touch_range(region, first, order, (&range, stamp, how)) {
                Some(other) => conflict(m.trailing_zeros() as usize, &range, touch.access, other, Cause::Unordered),
                None => Ok(()),
            };
        }
        // Lanes of one weak store do not conflict with each other here: see `watch_values`.
        let is_plain_store = how == How::WRITE;
        for lane in lanes(m) {
            let Some(range) = range(touch, lane, self.rank) else { continue };
            let order = &races.orders[warp.index as usize];
            let stamp = Stamp::new(order.who, order.period, 1 << lane, warp.cur.pc);
            let (region, first) = place_in(&mut self.hub.shadows, &mut ledger, &range);
            let found = match is_plain_store {
                true => find(region, first, order, (&range, stamp, how)),
                false => touch_range(region, first, order, (&range, stamp, how)),
            };
            if let Some(other) = found {
                return conflict(lane, &range, touch.access, other, Cause::Unordered);
            }
            if touch.order.strong {
                let channels = match range.home {
                    Home::Shared => &mut self.hub.shadows[range.rank].channels,
                    _ => &mut ledger.channels,
                };
                talk(&mut races.orders[warp.index as usize], channels, range.address, touch);
            }
        }
        if is_plain_store {
            for lane in lanes(m) {
                let Some(range) = range(touch, lane, self.rank) else { continue };
                let order = &races.orders[warp.index as usize];
                let stamp = Stamp::new(order.who, order.period, 1 << lane, warp.cur.pc);
                let (region, first) = place_in(&mut self.hub.shadows, &mut ledger, &range);
                keep(region, first, order, (&range, stamp, how));
            }
        }
        Ok(())
    }

    /// Rows of `bytes` bytes that belong to all lanes of a warp-wide instruction together; row `i` is lane `lane + i`'s to name.
    pub(crate) fn watch_rows(
        &mut self,
        warp: &Warp,
        lane: usize,
        access: Access,
        (rows, bytes): (&[(Home, u64)], u32),
    ) -> Lane<()> {
        let (Some(races), Some(ledger)) = (self.races.as_deref_mut(), self.grid.ledger) else { return Ok(()) };
        let mut ledger = lock(ledger);
        let order = &races.orders[warp.index as usize];
        let stamp = Stamp::new(order.who, order.period, ALL, warp.cur.pc);
        let how = how(access, WEAK);
        for (i, &(home, address)) in rows.iter().enumerate() {
            let (rank, address) = match home {
                Home::Shared => spot(address, self.rank),
                Home::Global => (0, address),
                Home::Local | Home::Param => continue,
            };
            let range = Range { home, rank, address, bytes };
            let (region, first) = place_in(&mut self.hub.shadows, &mut ledger, &range);
            if let Some(other) = touch_range(region, first, order, (&range, stamp, how)) {
                return conflict(lane + i, &range, access, other, Cause::Unordered);
            }
        }
        Ok(())
    }

    /// Lanes of one weak store may write the same bytes only with the same value.
    pub(crate) fn watch_values(
        &mut self,
        warp: &Warp,
        m: u32,
        touch: &Touch<'_>,
        same: impl Fn(usize, usize) -> bool,
    ) -> Lane<()> {
        let Some(races) = self.races.as_deref() else { return Ok(()) };
        let mut end = 0;
        let is_ascending = lanes(m).all(|lane| {
            let ok = touch.addresses[lane] >= end;
            end = touch.addresses[lane].saturating_add(u64::from(touch.bytes));
            ok
        });
        if is_ascending || touch.order.strong {
            return Ok(());
        }
        for lane in lanes(m) {
            let Some(range) = range(touch, lane, self.rank) else { continue };
            let twin = lanes(m)
                .take_while(|&i| i < lane)
                .find(|&i| touch.addresses[i] == touch.addresses[lane] && !same(i, lane));
            if let Some(twin) = twin {
                let order = &races.orders[warp.index as usize];
                let other = Stamp::new(order.who, order.period, 1 << twin, warp.cur.pc).on(15, How::WRITE);
                return conflict(lane, &range, touch.access, other, Cause::SameInstruction);
            }
        }
        Ok(())
    }

    /// The period of the asynchronous copies an instruction is about to start.
    pub(crate) fn begin_async(&mut self, warp: &Warp) -> u32 {
        self.races.as_deref_mut().map_or(0, |races| races.orders[warp.index as usize].begin_async())
    }

    /// An asynchronous write to shared memory starts: it is in flight until [`Self::land_async`].
    pub(crate) fn watch_async(
        &mut self,
        warp: &Warp,
        lane: usize,
        period: u32,
        (address, bytes): (u64, u32),
    ) -> Lane<()> {
        let Some(races) = self.races.as_deref_mut() else { return Ok(()) };
        let range = Range { home: Home::Shared, rank: self.rank, address, bytes };
        let order = &races.orders[warp.index as usize];
        let (first, own) = (address as usize / 4, Stamp::new(order.who, order.period, 1 << lane, warp.cur.pc));
        let flying = Stamp::new(order.who.agent(), period, 1 << lane, warp.cur.pc);
        let region = &mut self.hub.shadows[self.rank].region;
        let (check, kept) = (own.on(15, How::WRITE), flying.on(15, How::WRITE));
        match region.touch_words((first, bytes as usize / 4), order, (&check, &kept)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(other)) => return conflict(lane, &range, Access::Write, other, Cause::Unordered),
            None => {}
        }
        if let Some(other) = find(region, first, order, (&range, own, How::WRITE)) {
            return conflict(lane, &range, Access::Write, other, Cause::Unordered);
        }
        keep(region, first, order, (&range, flying, How::WRITE));
        Ok(())
    }

    /// The lane that started an asynchronous write has waited for it: from now on the write is its own.
    pub(crate) fn land_async(&mut self, warp: &Warp, lane: usize, (address, bytes): (u64, u32)) {
        let Some(races) = self.races.as_deref_mut() else { return };
        let order = &races.orders[warp.index as usize];
        let stamp = Stamp::new(order.who, order.period, 1 << lane, 0);
        let first = address as usize / 4;
        let n = (address as usize + bytes as usize).div_ceil(4) - first;
        self.hub.shadows[self.rank].region.land((first, n), order.who.agent(), &stamp);
    }

    /// A conflict with everything known about its places.
    #[cold]
    pub(crate) fn race(&self, place: Place, conflict: &Conflict) -> LaunchError {
        let Conflict { access, is_shared, address, bytes, other, cause } = *conflict;
        let module = self.grid.module;
        let [x, y, _] = self.grid.grid;
        let block = other.who.block();
        let other_place = Place {
            kernel: place.kernel.clone(),
            ptx_line: module.code.get(other.pc() as usize).map_or(0, |i| i.line),
            source: module.source(other.pc()),
            block: [block % x, block / x % y, block / (x * y)],
            thread: self.grid.thread(other.who.index(), other.lanes.trailing_zeros().min(31)),
        };
        let (space, object) = if is_shared {
            (Space::Shared, self.grid.shared_object(address))
        } else {
            (Space::Global, self.grid.global_object(address))
        };
        let other_access = access_of(other.how());
        let race = Race { place, access, space, address, bytes, object, other: other_place, other_access, cause };
        LaunchError::Race { finding: Box::new(race) }
    }
}

/// Whose shared memory an address in the shared window means, and the offset in it; `own` where it names nobody.
#[inline(always)]
pub(crate) fn spot(address: u64, own: usize) -> (usize, u64) {
    match address >> PEER_SHIFT {
        0 => (own, address),
        peer => (peer as usize - 1, address & ((1 << PEER_SHIFT) - 1)),
    }
}

#[inline(always)]
fn range(touch: &Touch<'_>, lane: usize, own: usize) -> Option<Range> {
    let bytes = touch.bytes;
    match resolve(touch.space, touch.addresses[lane]) {
        (Home::Shared, address) => {
            let (rank, address) = spot(address, own);
            Some(Range { home: Home::Shared, rank, address, bytes })
        }
        (Home::Global, address) => Some(Range { home: Home::Global, rank: 0, address, bytes }),
        (Home::Local | Home::Param, _) => None,
    }
}

/// The range of lane 0 if a whole warp touches one aligned line of 128 bytes, each lane its own word.
#[inline(always)]
fn line(m: u32, touch: &Touch<'_>, own: usize) -> Option<Range> {
    let is_line = m == ALL && touch.bytes == 4 && !touch.order.strong && touch.addresses[0].is_multiple_of(128);
    if is_line && is_run(touch.addresses) { range(touch, 0, own) } else { None }
}

/// The range if several lanes load the same bytes.
#[inline(always)]
fn broadcast(m: u32, touch: &Touch<'_>, own: usize) -> Option<Range> {
    if touch.access != Access::Read || touch.order.strong || m.count_ones() < 2 {
        return None;
    }
    let first = m.trailing_zeros() as usize;
    let address = touch.addresses[first];
    if lanes(m).any(|lane| touch.addresses[lane] != address) { None } else { range(touch, first, own) }
}

/// Acquires and releases what a strong access passes through its place in memory.
fn talk(order: &mut Order, channels: &mut HashMap<u64, Channel>, address: u64, touch: &Touch<'_>) {
    let is_update = touch.access == Access::Atomic;
    if touch.access != Access::Write
        && let Some(channel) = channels.get(&address)
    {
        order.observe(channel, touch.order, is_update);
    }
    if touch.access == Access::Read {
        return;
    }
    if touch.order.release || order.has_fenced() {
        order.publish(channels.entry(address).or_insert_with(Channel::new), touch.order, is_update);
    } else if !is_update {
        channels.remove(&address);
    }
}

#[cold]
pub(crate) fn conflict<T>(lane: usize, range: &Range, access: Access, mut other: Stamp, cause: Cause) -> Lane<T> {
    // Nobody is in conflict with himself: of several lanes another one is meant.
    other.lanes = match other.lanes & !(1 << lane) {
        0 => other.lanes,
        others => others,
    };
    let cause = if other.who.is_agent() { Cause::InFlight } else { cause };
    let (address, bytes, is_shared) = (range.address, range.bytes, range.home == Home::Shared);
    let found = Conflict { access, is_shared, address, bytes, other, cause };
    Err(Box::new((lane as u32, Fault::Race(found))))
}
