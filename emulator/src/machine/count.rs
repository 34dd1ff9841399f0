//! What does an access cost? Sectors, coalescing, bank conflicts, and which bytes were touched at all.

use std::sync::{Mutex, PoisonError};

use super::access::{Home, resolve};
use super::block::Env;
use super::flight::{Copy, Target};
use super::race::Touch;
use super::warp::LANES;
use crate::error::Access;
use crate::memory::Memory;
use crate::stats::{Stats, Touched};

/// Bytes of a sector: what device memory moves at least.
const SECTOR: u64 = 32;
/// Banks of shared memory, of four bytes each.
const BANKS: usize = 32;

/// Which bytes of global memory a launch touched: a nibble of a byte per word for reads, one for writes.
#[derive(Default)]
pub(crate) struct Tally(Vec<Vec<u8>>);

impl Tally {
    fn mark(&mut self, address: u64, bytes: u32, access: Access) {
        let (slot, offset) = Memory::split(address);
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, Vec::new);
        }
        let marks = &mut self.0[slot];
        let (first, end) = (offset as usize, offset as usize + bytes as usize);
        if marks.len() * 4 < end {
            marks.resize(end.div_ceil(4).next_power_of_two(), 0);
        }
        let shift = match access {
            Access::Read => 0x01,
            Access::Write => 0x10,
            Access::Atomic => 0x11,
        };
        if first.is_multiple_of(4) && bytes.is_multiple_of(4) {
            marks[first / 4..end / 4].iter_mut().for_each(|mark| *mark |= 15 * shift);
            return;
        }
        for at in first..end {
            marks[at / 4] |= shift << (at % 4);
        }
    }

    /// Distinct bytes by allocation.
    pub(crate) fn touched(&self) -> Vec<Touched> {
        let count = |marks: &[u8], nibble: u8| marks.iter().map(|m| u64::from((m & nibble).count_ones())).sum();
        let all = self.0.iter().enumerate().filter(|(_, marks)| !marks.is_empty());
        all.map(|(slot, marks)| Touched {
            address: Memory::join(slot),
            read_bytes: count(marks, 0x0f),
            written_bytes: count(marks, 0xf0),
        })
        .collect()
    }
}

/// Addresses of the lanes that touch one memory.
struct Lanes {
    addresses: [u64; LANES],
    n: usize,
}

/// Sectors touched by accesses of `bytes` bytes, and how few could hold the distinct ones.
fn sectors(lanes: &mut Lanes, bytes: u64) -> (u64, u64) {
    let list = &mut lanes.addresses[..lanes.n];
    if !list.is_sorted() {
        list.sort_unstable();
    }
    let (mut n_sectors, mut distinct, mut next, mut last) = (0, 0, 0, None);
    for &address in list.iter() {
        distinct += u64::from(last != Some(address));
        last = Some(address);
        let (from, to) = (address / SECTOR, (address + bytes - 1) / SECTOR);
        n_sectors += (to + 1).saturating_sub(from.max(next));
        next = next.max(to + 1);
    }
    (n_sectors, (distinct * bytes).div_ceil(SECTOR))
}

/// Passes over the banks for one phase: the most distinct words in one bank.
fn passes(addresses: &[u64], bytes: u64) -> u64 {
    let mut words: Vec<u64> = Vec::with_capacity(BANKS);
    for &address in addresses {
        words.extend(address / 4..=(address + bytes - 1) / 4);
    }
    words.sort_unstable();
    words.dedup();
    let mut banks = [0u64; BANKS];
    for word in words {
        banks[word as usize % BANKS] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}

impl Env<'_> {
    /// Counts an instruction's accesses; `cached` reads go through the first-level cache.
    pub(crate) fn count(&mut self, m: u32, touch: &Touch<'_>, cached: bool) {
        let Some(tally) = self.grid.tally else { return };
        let bytes = u64::from(touch.bytes);
        let mut global = Lanes { addresses: [0; LANES], n: 0 };
        let mut shared = [None; LANES];
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            match resolve(touch.space, touch.addresses[lane]) {
                (Home::Global, address) => {
                    global.addresses[global.n] = address;
                    global.n += 1;
                }
                (Home::Shared, address) => shared[lane] = Some(address),
                (Home::Local, _) => self.stats.local_bytes += bytes,
                (Home::Param, _) => {}
            }
        }
        if global.n > 0 {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            for &address in &global.addresses[..global.n] {
                tally.mark(address, touch.bytes, touch.access);
            }
            drop(tally);
            self.count_global(&mut global, bytes, (touch.access, cached));
        }
        if shared.iter().any(Option::is_some) {
            count_shared(&mut self.stats, &shared, bytes);
        }
    }

    /// Counts pieces of `bytes` bytes that a warp-wide instruction moves.
    pub(crate) fn count_rows(&mut self, home: Home, rows: &[u64], (bytes, access, cached): (u32, Access, bool)) {
        let Some(tally) = self.grid.tally else { return };
        let n_bytes = u64::from(bytes);
        match home {
            Home::Global => {
                for chunk in rows.chunks(LANES) {
                    let mut lanes = Lanes { addresses: [0; LANES], n: chunk.len() };
                    lanes.addresses[..chunk.len()].copy_from_slice(chunk);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    chunk.iter().for_each(|&address| tally.mark(address, bytes, access));
                    drop(tally);
                    self.count_global(&mut lanes, n_bytes, (access, cached));
                }
            }
            Home::Shared => {
                let stats = &mut self.stats.shared;
                let per_pass = (128 / n_bytes.max(1)).max(1) as usize;
                stats.requests += 1;
                stats.bytes += n_bytes * rows.len() as u64;
                for chunk in rows.chunks(per_pass) {
                    stats.ideal_wavefronts += (n_bytes * chunk.len() as u64).div_ceil(128);
                    stats.wavefronts += passes(chunk, n_bytes);
                }
            }
            Home::Local | Home::Param => {}
        }
    }
}

impl Env<'_> {
    fn count_global(&mut self, lanes: &mut Lanes, bytes: u64, (access, cached): (Access, bool)) {
        let n = lanes.n as u64;
        let (n_sectors, ideal) = sectors(lanes, bytes);
        let is_read = access == Access::Read;
        let traffic = if is_read { &mut self.stats.read } else { &mut self.stats.written };
        traffic.requests += 1;
        traffic.bytes += n * bytes;
        traffic.sectors += n_sectors;
        traffic.ideal_sectors += ideal;
        // Addresses are sorted now.
        let mut next = 0;
        for &address in &lanes.addresses[..lanes.n] {
            let (from, to) = (address / SECTOR, (address + bytes - 1) / SECTOR);
            for sector in from.max(next)..=to {
                traffic.block_sectors += u64::from(self.sectors.insert(2 * sector + u64::from(!is_read)));
                if access == Access::Atomic {
                    self.l1.forget(sector);
                }
                traffic.l2_sectors += u64::from(!(is_read && cached && self.l1.read(sector)));
            }
            next = next.max(to + 1);
        }
    }

    /// Counts what an asynchronous copy moves.
    pub(crate) fn count_copy(&mut self, copy: &Copy) {
        let to_global = matches!(copy.target, Target::Global);
        let access = if to_global { Access::Write } else { Access::Read };
        for piece in &copy.pieces {
            if let Some(address) = piece.global {
                self.count_rows(Home::Global, &[address], (piece.bytes, access, false));
            }
            self.count_rows(Home::Shared, &[piece.shared.into()], (piece.bytes, access, false));
        }
    }
}

fn count_shared(stats: &mut Stats, lanes: &[Option<u64>; LANES], bytes: u64) {
    // Lanes that share a pass: 32 of up to 4 bytes, 16 of 8, 8 of 16.
    let per_phase = (128 / bytes.max(4)).max(1) as usize;
    stats.shared.requests += 1;
    for phase in lanes.chunks(per_phase) {
        let addresses: Vec<u64> = phase.iter().flatten().copied().collect();
        if addresses.is_empty() {
            continue;
        }
        stats.shared.bytes += bytes * addresses.len() as u64;
        stats.shared.ideal_wavefronts += 1;
        stats.shared.wavefronts += passes(&addresses, bytes);
    }
}

/// Where touched bytes are tallied, if they are.
pub(crate) type TallyRef<'a> = Option<&'a Mutex<Tally>>;
