//! How do loads, stores and asynchronous copies reach memory? Every lane's address is checked before it is used.

use super::block::Env;
use super::cluster::names_peer;
use super::race::{Touch, WEAK};
use super::shared::Shared;
use super::warp::{ALL, LANES, Pending, Row32, Row64, Warp};
use crate::decode::op::{Addr, Elem, MemSpace, Op, PSrc, R};
use crate::error::{Access, Space};
use crate::memory::{LOCAL_TAG, PARAM_TAG, SHARED_TAG, TAG_MASK};

/// What stopped a lane.
#[derive(Debug)]
pub(crate) enum Fault {
    Assertion {
        message: String,
    },
    Memory {
        kind: MemoryFault,
        access: Access,
        space: Space,
        address: u64,
        bytes: u32,
    },
    Barrier {
        barrier: u32,
        detail: String,
    },
    Mbarrier {
        address: u64,
        detail: String,
    },
    AsyncCopy {
        detail: String,
    },
    /// Seen now, caused by the instruction at `pc`.
    At {
        pc: u32,
        fault: Box<Fault>,
    },
    WarpSync {
        detail: String,
    },
    Race(super::race::Conflict),
    /// Registers of a `wgmma`, other than accumulators in flight.
    Wgmma {
        detail: String,
    },
    /// Shared memory at offset `address` of block `of`, which may have ended.
    Ended {
        access: Access,
        address: u64,
        of: [u32; 3],
    },
    /// Accumulator number `accumulator` of the `wgmma` at `pc` is still in flight.
    Accumulator {
        access: Access,
        accumulator: usize,
        pc: u32,
    },
    Trap,
    TooManyInstructions,
    StackOverflow,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum MemoryFault {
    OutOfBounds,
    Misaligned,
    Uninitialised,
}

/// A fault and the lane it happened in.
pub(crate) type Lane<T> = Result<T, Box<(u32, Fault)>>;

/// A resolved place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Global,
    Shared,
    Local,
    Param,
}

impl Home {
    fn space(self) -> Space {
        match self {
            Home::Global => Space::Global,
            Home::Shared => Space::Shared,
            Home::Local => Space::Local,
            Home::Param => Space::Param,
        }
    }
}

impl Warp {
    /// Addresses of all lanes.
    #[inline(always)]
    pub(crate) fn addresses(&self, addr: Addr) -> Row64 {
        let mut out = [0; LANES];
        if addr.wide {
            let row = self.get64(addr.base);
            for lane in 0..LANES {
                out[lane] = row[lane].wrapping_add_signed(i64::from(addr.offset));
            }
        } else {
            let row = self.get32(addr.base);
            for lane in 0..LANES {
                out[lane] = u64::from(row[lane].wrapping_add_signed(addr.offset));
            }
        }
        out
    }
}

/// Which memory an address means.
#[inline(always)]
pub(crate) fn resolve(space: MemSpace, address: u64) -> (Home, u64) {
    match space {
        MemSpace::Global => (Home::Global, address),
        MemSpace::Shared => {
            (Home::Shared, if address & TAG_MASK == SHARED_TAG { address & !TAG_MASK } else { address })
        }
        MemSpace::Local => (Home::Local, address),
        MemSpace::Param => (Home::Param, address),
        MemSpace::Generic => match address & TAG_MASK {
            SHARED_TAG => (Home::Shared, address & !TAG_MASK),
            LOCAL_TAG => (Home::Local, address & !TAG_MASK),
            PARAM_TAG => (Home::Param, address & !TAG_MASK),
            _ => (Home::Global, address),
        },
    }
}

/// Whether the lanes' addresses are those of 32 aligned words side by side.
#[inline(always)]
pub(crate) fn is_run(addresses: &Row64) -> bool {
    let first = addresses[0];
    let mut apart = 0;
    for (lane, address) in addresses.iter().enumerate() {
        apart |= address ^ first.wrapping_add(4 * lane as u64);
    }
    apart == 0 && first.is_multiple_of(4)
}

/// An access being checked.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) lane: usize,
    pub(crate) access: Access,
    pub(crate) home: Home,
    pub(crate) address: u64,
    pub(crate) bytes: u32,
}

impl Request {
    #[cold]
    pub(crate) fn fault<T>(&self, kind: MemoryFault) -> Lane<T> {
        let fault = Fault::Memory {
            kind,
            access: self.access,
            space: self.home.space(),
            address: self.address,
            bytes: self.bytes,
        };
        Err(Box::new((self.lane as u32, fault)))
    }
}

impl Env<'_> {
    /// Reads `n` elements of `bytes` bytes for one lane into `out`.
    #[inline(always)]
    pub(crate) fn load(&self, warp: &Warp, req: Request, bytes: u32, out: &mut [u64]) -> Lane<()> {
        let at = req.address as usize;
        if self.checks.alignment && !req.address.is_multiple_of(u64::from(req.bytes)) {
            return req.fault(MemoryFault::Misaligned);
        }
        match req.home {
            Home::Global => {
                let Some((allocation, offset)) = self.memory.find(req.address, req.bytes.into()) else {
                    return req.fault(MemoryFault::OutOfBounds);
                };
                if self.checks.uninitialised && !allocation.is_written(offset as usize, req.bytes) {
                    return req.fault(MemoryFault::Uninitialised);
                }
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = allocation.load(offset as usize + i * bytes as usize, bytes);
                }
            }
            Home::Shared => {
                if names_peer(req.home, req.address) {
                    return self.load_peer(req, bytes, out);
                }
                if req.address.saturating_add(req.bytes.into()) > u64::from(self.shared.bytes) {
                    return req.fault(MemoryFault::OutOfBounds);
                }
                if self.checks.uninitialised && !self.shared.is_written(at, req.bytes) {
                    return req.fault(MemoryFault::Uninitialised);
                }
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = self.shared.load(at + i * bytes as usize, bytes);
                }
            }
            Home::Local => {
                if req.address.saturating_add(req.bytes.into()) > warp.local.len() as u64 * 4 {
                    return req.fault(MemoryFault::OutOfBounds);
                }
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = warp.local_load(req.lane, at + i * bytes as usize, bytes);
                }
            }
            Home::Param => {
                for (i, slot) in out.iter_mut().enumerate() {
                    let from = at.saturating_add(i * bytes as usize);
                    let Some(data) = self.params.get(from..from.saturating_add(bytes as usize)) else {
                        return req.fault(MemoryFault::OutOfBounds);
                    };
                    *slot = data.iter().rev().fold(0, |acc, &b| acc << 8 | u64::from(b));
                }
            }
        }
        Ok(())
    }

    /// Writes elements of `bytes` bytes for one lane.
    #[inline(always)]
    pub(crate) fn store(&mut self, warp: &mut Warp, req: Request, bytes: u32, values: &[u64]) -> Lane<()> {
        let at = req.address as usize;
        if self.checks.alignment && !req.address.is_multiple_of(u64::from(req.bytes)) {
            return req.fault(MemoryFault::Misaligned);
        }
        match req.home {
            Home::Global => {
                let Some((allocation, offset)) = self.memory.find(req.address, req.bytes.into()) else {
                    return req.fault(MemoryFault::OutOfBounds);
                };
                for (i, &value) in values.iter().enumerate() {
                    allocation.store(offset as usize + i * bytes as usize, bytes, value);
                }
            }
            Home::Shared => {
                if names_peer(req.home, req.address) {
                    return self.store_peer(req, bytes, values);
                }
                if req.address.saturating_add(req.bytes.into()) > u64::from(self.shared.bytes) {
                    return req.fault(MemoryFault::OutOfBounds);
                }
                for (i, &value) in values.iter().enumerate() {
                    self.shared.store(at + i * bytes as usize, bytes, value);
                }
            }
            Home::Local => {
                if req.address.saturating_add(req.bytes.into()) > warp.local.len() as u64 * 4 {
                    return req.fault(MemoryFault::OutOfBounds);
                }
                for (i, &value) in values.iter().enumerate() {
                    warp.local_store(req.lane, at + i * bytes as usize, bytes, value);
                }
            }
            Home::Param => return req.fault(MemoryFault::OutOfBounds),
        }
        Ok(())
    }

    pub(crate) fn exec_load(&mut self, warp: &mut Warp, m: u32, elem: Elem, dst: [R; 4], addr: Addr) -> Lane<()> {
        let addresses = warp.addresses(addr);
        let n = usize::from(elem.n);
        let bytes = u32::from(elem.bytes);
        warp.polls = warp.polls.saturating_add(elem.order.strong.into());
        if bytes == 4 && n == 1 && !elem.wide {
            self.load_words(warp, m, dst[0], (addr.space, &addresses))?;
            return self.watch_elements(warp, m, elem, (addr.space, &addresses, Access::Read));
        }
        let mut rows = [[0u64; LANES]; 4];
        let memory = self.memory;
        let _guard = (elem.order.strong && bytes == 8).then(|| memory.wide_lock.lock());
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let (home, address) = resolve(addr.space, addresses[lane]);
            let req = Request { lane, access: Access::Read, home, address, bytes: bytes * n as u32 };
            let mut out = [0; 4];
            self.load(warp, req, bytes, &mut out[..n])?;
            for (row, value) in rows.iter_mut().zip(&out[..n]) {
                row[lane] = *value;
            }
        }
        for (row, &d) in rows.iter_mut().zip(&dst[..n]) {
            if elem.signed && bytes < 8 {
                let shift = 64 - 8 * bytes;
                for x in row.iter_mut() {
                    *x = ((*x << shift) as i64 >> shift) as u64;
                }
            }
            if elem.wide {
                warp.set64(d, m, row);
            } else {
                let keep = if elem.short { 0xffff } else { u32::MAX };
                warp.set32(d, m, &row.map(|x| x as u32 & keep));
            }
        }
        self.watch_elements(warp, m, elem, (addr.space, &addresses, Access::Read))
    }

    /// The most common load: one 32-bit word per lane.
    fn load_words(&mut self, warp: &mut Warp, m: u32, d: R, (space, addresses): (MemSpace, &Row64)) -> Lane<()> {
        let mut row = [0u32; LANES];
        if m == ALL && is_run(addresses) && self.load_run(resolve(space, addresses[0]), &mut row) {
            warp.set32(d, m, &row);
            return Ok(());
        }
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let (home, address) = resolve(space, addresses[lane]);
            let mut out = [0];
            self.load(warp, Request { lane, access: Access::Read, home, address, bytes: 4 }, 4, &mut out)?;
            row[lane] = out[0] as u32;
        }
        warp.set32(d, m, &row);
        Ok(())
    }

    /// Loads 32 words that lie side by side; false where something has to be looked at more closely.
    fn load_run(&self, (home, address): (Home, u64), row: &mut Row32) -> bool {
        const BYTES: u64 = 4 * LANES as u64;
        let at = address as usize;
        match home {
            Home::Global => match self.memory.find(address, BYTES) {
                Some((allocation, offset)) => allocation.load_run(offset as usize, row, self.checks.uninitialised),
                None => false,
            },
            Home::Shared if address + BYTES <= self.shared.bytes.into() => {
                self.shared.load_run(at, row, self.checks.uninitialised)
            }
            Home::Shared | Home::Local | Home::Param => false,
        }
    }

    /// Stores 32 words that lie side by side; false where something has to be looked at more closely.
    fn store_run(&mut self, (home, address): (Home, u64), row: &Row32) -> bool {
        const BYTES: u64 = 4 * LANES as u64;
        match home {
            Home::Global => match self.memory.find(address, BYTES) {
                Some((allocation, offset)) => {
                    allocation.store_run(offset as usize, row);
                    true
                }
                None => false,
            },
            Home::Shared if address + BYTES <= self.shared.bytes.into() => {
                self.shared.store_run(address as usize, row);
                true
            }
            Home::Shared | Home::Local | Home::Param => false,
        }
    }

    pub(crate) fn exec_store(&mut self, warp: &mut Warp, m: u32, elem: Elem, src: [R; 4], addr: Addr) -> Lane<()> {
        let addresses = warp.addresses(addr);
        let n = usize::from(elem.n);
        let bytes = u32::from(elem.bytes);
        if bytes == 4 && n == 1 && !elem.wide && m == ALL && is_run(&addresses) {
            let row = *warp.get32(src[0]);
            if self.store_run(resolve(addr.space, addresses[0]), &row) {
                return self.watch_elements(warp, m, elem, (addr.space, &addresses, Access::Write));
            }
        }
        let memory = self.memory;
        let _guard = (elem.order.strong && bytes == 8).then(|| memory.wide_lock.lock());
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let (home, address) = resolve(addr.space, addresses[lane]);
            let req = Request { lane, access: Access::Write, home, address, bytes: bytes * n as u32 };
            let mut values = [0; 4];
            for (slot, &r) in values.iter_mut().zip(&src[..n]) {
                *slot = if elem.wide { warp.get64(r)[lane] } else { u64::from(warp.get32(r)[lane]) };
            }
            self.store(warp, req, bytes, &values[..n])?;
        }
        if self.is_watched() {
            let touch = Touch {
                space: addr.space,
                addresses: &addresses,
                bytes: bytes * n as u32,
                access: Access::Write,
                order: elem.order,
                is_swap: false,
            };
            let equal = |r: R, i: usize, j: usize| {
                if elem.wide { warp.get64(r)[i] == warp.get64(r)[j] } else { warp.get32(r)[i] == warp.get32(r)[j] }
            };
            self.watch_values(warp, m, &touch, |i, j| src[..n].iter().all(|&r| equal(r, i, j)))?;
            self.watch(warp, m, &touch)?;
            self.count(m, &touch, false);
        }
        Ok(())
    }

    /// Tells the race checker and the counters of a load or store.
    #[inline(always)]
    fn watch_elements(
        &mut self,
        warp: &Warp,
        m: u32,
        elem: Elem,
        (space, addresses, access): (MemSpace, &Row64, Access),
    ) -> Lane<()> {
        if !self.is_watched() {
            return Ok(());
        }
        let bytes = u32::from(elem.bytes) * u32::from(elem.n);
        let touch = Touch { space, addresses, bytes, access, order: elem.order, is_swap: false };
        self.count(m, &touch, elem.cached);
        self.watch(warp, m, &touch)
    }

    /// Starts one asynchronous copy per lane; the data is read now and lands at the wait.
    pub(crate) fn exec_cp_async(&mut self, warp: &mut Warp, m: u32, op: &Op) -> Lane<()> {
        let &Op::CpAsync { dst, src, bytes, size, ignore, cached } = op else { return Ok(()) };
        let (to, from) = (warp.addresses(dst), warp.addresses(src));
        let ignored = ignore.map_or(0, |p: PSrc| warp.pred(p));
        let total = u32::from(bytes);
        let period = self.begin_async(warp);
        let mut reads = 0u32;
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let (home, address) = resolve(MemSpace::Shared, to[lane]);
            let target = Request { lane, access: Access::Write, home, address, bytes: total };
            if self.checks.alignment && !address.is_multiple_of(total.into()) {
                return target.fault(MemoryFault::Misaligned);
            }
            if address.saturating_add(total.into()) > u64::from(self.shared.bytes) {
                return target.fault(MemoryFault::OutOfBounds);
            }
            let wanted = size.map_or(total, |r| warp.get32(r)[lane]);
            let source = Request { lane, access: Access::Read, home: Home::Global, address: from[lane], bytes: wanted };
            if wanted > total {
                let detail = format!("cp.async of {total} B with a source size of {wanted} B");
                return Err(Box::new((lane as u32, Fault::WarpSync { detail })));
            }
            let take = if ignored >> lane & 1 == 1 { 0 } else { wanted };
            let mut pending = Pending {
                lane: lane as u8,
                bytes,
                written: u16::MAX,
                group: warp.committed[lane],
                dst: address as u32,
                data: [0; 16],
            };
            if self.checks.alignment && take > 0 && !from[lane].is_multiple_of(total.into()) {
                return source.fault(MemoryFault::Misaligned);
            }
            if take > 0 {
                let Some((allocation, offset)) = self.memory.find(from[lane], take.into()) else {
                    return source.fault(MemoryFault::OutOfBounds);
                };
                let step = if take.is_multiple_of(4) && offset.is_multiple_of(4) { 4 } else { 1 };
                for i in (0..take as usize).step_by(step) {
                    let bits = allocation.load(offset as usize + i, step as u32);
                    pending.data[i..i + step].copy_from_slice(&bits.to_le_bytes()[..step]);
                }
                if !allocation.is_written(offset as usize, take) {
                    for j in (0..take as usize).filter(|j| !allocation.is_written(offset as usize + j, 1)) {
                        pending.written &= !(1 << j);
                    }
                }
            }
            if self.checks.uninitialised {
                self.shared.forget(address as usize, total);
            }
            self.watch_async(warp, lane, period, (address, total))?;
            if take == total {
                reads |= 1 << lane;
            } else if take > 0 {
                let part = Touch { bytes: take, ..source_touch(&from, total) };
                self.count(1 << lane, &part, cached);
                self.watch(warp, 1 << lane, &part)?;
            }
            warp.pending.push(pending);
        }
        let touch = source_touch(&from, total);
        self.count(reads, &touch, cached);
        self.count(m, &Touch { space: MemSpace::Shared, addresses: &to, access: Access::Write, ..touch }, false);
        self.watch(warp, reads, &touch)
    }

    /// Lands the copies of lanes in `m` until at most `keep` committed groups are pending; `None` lands all.
    pub(crate) fn exec_cp_wait(&mut self, warp: &mut Warp, m: u32, keep: Option<u32>) {
        let committed = warp.committed;
        let mut pending = std::mem::take(&mut warp.pending);
        pending.retain(|p| {
            let lane = usize::from(p.lane);
            let due = match keep {
                None => true,
                Some(keep) => p.group < committed[lane].saturating_sub(keep),
            };
            if m >> lane & 1 == 0 || !due {
                return true;
            }
            p.land(&mut self.shared);
            self.land_async(warp, lane, (p.dst.into(), p.bytes.into()));
            false
        });
        warp.pending = pending;
    }
}

/// What an asynchronous copy reads.
fn source_touch(addresses: &Row64, bytes: u32) -> Touch<'_> {
    Touch { space: MemSpace::Global, addresses, bytes, access: Access::Read, order: WEAK, is_swap: false }
}

impl Pending {
    /// Puts the data where it was to go.
    pub(crate) fn land(&self, shared: &mut Shared) {
        for (i, word) in self.data[..usize::from(self.bytes)].chunks(4).enumerate() {
            let bits = word.iter().rev().fold(0, |acc, &b| acc << 8 | u64::from(b));
            shared.store(self.dst as usize + 4 * i, 4, bits);
        }
        if self.written != u16::MAX {
            for i in (0..usize::from(self.bytes)).filter(|i| self.written >> i & 1 == 0) {
                shared.forget(self.dst as usize + i, 1);
            }
        }
    }
}

impl Warp {
    pub(crate) fn local_load(&self, lane: usize, at: usize, bytes: u32) -> u64 {
        if bytes >= 4 && at.is_multiple_of(4) {
            let low = u64::from(self.local[at / 4][lane]);
            return if bytes == 8 { low | u64::from(self.local[at / 4 + 1][lane]) << 32 } else { low };
        }
        (0..bytes as usize)
            .rev()
            .fold(0, |acc, i| acc << 8 | u64::from((self.local[(at + i) / 4][lane] >> ((at + i) % 4 * 8)) as u8))
    }

    pub(crate) fn local_store(&mut self, lane: usize, at: usize, bytes: u32, value: u64) {
        if bytes >= 4 && at.is_multiple_of(4) {
            self.local[at / 4][lane] = value as u32;
            if bytes == 8 {
                self.local[at / 4 + 1][lane] = (value >> 32) as u32;
            }
            return;
        }
        for i in 0..bytes as usize {
            let shift = (at + i) % 4 * 8;
            let word = &mut self.local[(at + i) / 4][lane];
            *word = *word & !(0xff << shift) | u32::from((value >> (8 * i)) as u8) << shift;
        }
    }
}
