//! How do bulk copies, tensor copies and remote stores start? Everything is checked here; `flight` moves the bytes.
//!
//! Each active lane starts a copy of its own, as on the device: kernels elect one lane first.

use super::access::{Fault, Home, Lane, MemoryFault, Request, resolve};
use super::block::Env;
use super::clock::Who;
use super::flight::{Copy, Owner, Piece, Source, Target, arrive};
use super::warp::{LANES, Warp};
use crate::decode::hopper_op::{Bulk, MapField, RemoteStore, Report, Route, TensorCopy};
use crate::decode::op::{Addr, AtomOp, MemSpace, R};
use crate::error::Access;
use crate::syntax::ast::Ty;
use crate::tensor_map::{Fill, MAP_BYTES, MapElement, Swizzle, TensorMap};

/// A copy a thread has put into a bulk group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grouped {
    pub(crate) lane: usize,
    pub(crate) group: u32,
    pub(crate) flight: u64,
    /// Of its reads; its writes have the next.
    pub(crate) period: u32,
    pub(crate) pc: u32,
    /// Whether a wait has told its thread that shared memory has been read.
    pub(crate) is_read: bool,
}

/// Alignment of a tensor copy's shared memory (PTX ISA 9.0, section 9.7.9.27).
const TENSOR_ALIGN: usize = 128;

fn fault<T>(lane: usize, detail: String) -> Lane<T> {
    Err(Box::new((lane as u32, Fault::AsyncCopy { detail })))
}

fn lanes(m: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| m >> lane & 1 == 1)
}

fn align<T>(lane: usize, home: Home, address: u64, bytes: u32) -> Lane<T> {
    Request { lane, access: Access::Write, home, address, bytes }.fault(MemoryFault::Misaligned)
}

impl Env<'_> {
    fn owner(&self, warp: &Warp, lane: usize, agent: (Who, u32)) -> Owner {
        Owner { rank: self.rank, warp: warp.index as usize, lane, pc: warp.cur.pc, agent }
    }

    /// Ranks a copy goes to: the one its destination names, or those of the mask.
    fn target(&self, warp: &Warp, lane: usize, rank: usize, multicast: Option<R>) -> Lane<u16> {
        let Some(mask) = multicast else { return Ok(1 << rank) };
        let mask = warp.get32(mask)[lane] & 0xffff;
        let n_blocks = self.hub.shared.len() as u32;
        if mask == 0 || mask >> n_blocks != 0 {
            return fault(lane, format!("a multicast to blocks {mask:#06x} of a cluster of {n_blocks}"));
        }
        Ok(mask as u16)
    }

    /// The mbarrier's offset, which counts in every target's memory.
    fn mbarrier(&self, warp: &Warp, lane: usize, addr: Addr, (rank, multicast): (usize, bool)) -> Lane<u32> {
        let (of, at) = self.mbar_spot(addr, lane, warp.addresses(addr)[lane])?;
        if of != rank && !multicast {
            return fault(lane, format!("data goes to block {rank} of the cluster, but the mbarrier is in block {of}"));
        }
        Ok(at as u32)
    }

    /// Bytes an asynchronous copy will write count as unwritten until it lands.
    fn forget(&mut self, copy: &Copy, ranks: u16) {
        if !self.checks.uninitialised || copy.reduce.is_some() {
            return;
        }
        for rank in (0..self.hub.shared.len()).filter(|rank| ranks >> rank & 1 == 1) {
            let shared = self.smem_mut(rank);
            for piece in &copy.pieces {
                shared.forget(piece.shared as usize, piece.bytes);
            }
        }
    }

    /// Lanes `m` are about to end: what their copies from shared memory read has to be read by then.
    pub(crate) fn check_stores(&self, warp: &Warp, m: u32) -> Lane<()> {
        if !self.checks.uninitialised {
            return Ok(());
        }
        let of_ending = |grouped: &&Grouped| m >> grouped.lane & 1 == 1 && !grouped.is_read;
        let Some(late) = warp.bulk.iter().find(of_ending) else { return Ok(()) };
        let detail =
            "its thread ends, and no `cp.async.bulk.wait_group` says that the copy has read shared memory".to_owned();
        let fault = Box::new(Fault::AsyncCopy { detail });
        Err(Box::new((late.lane as u32, Fault::At { pc: late.pc, fault })))
    }

    fn global_range(&self, lane: usize, access: Access, address: u64, bytes: u32) -> Lane<()> {
        match self.memory.find(address, bytes.into()) {
            Some(_) => Ok(()),
            None => Request { lane, access, home: Home::Global, address, bytes }.fault(MemoryFault::OutOfBounds),
        }
    }

    pub(crate) fn exec_bulk(&mut self, warp: &mut Warp, m: u32, bulk: &Bulk) -> Lane<()> {
        for lane in lanes(m) {
            let (to, from) = (warp.addresses(bulk.dst)[lane], warp.addresses(bulk.src)[lane]);
            let size = warp.get32(bulk.size)[lane];
            if size == 0 || !size.is_multiple_of(16) {
                return fault(lane, format!("a bulk copy of {size} B, expected a multiple of 16"));
            }
            for (addr, address) in [(bulk.dst, to), (bulk.src, from)] {
                let (home, address) = resolve(addr.space, address);
                if !address.is_multiple_of(16) {
                    return align(lane, home, address, 16);
                }
            }
            let mut piece = Piece { global: None, shared: 0, from: 0, bytes: size };
            let (mut ranks, mut source) = (0, Source::Global);
            let mut mbarrier = None;
            if bulk.route == Route::SharedToGlobal {
                self.global_range(lane, Access::Write, to, size)?;
                let (rank, at) = self.shared_spot(Access::Read, bulk.src.space, lane, (from, size))?;
                (piece.global, piece.shared, source) = (Some(to), at as u32, Source::Shared(rank));
            } else {
                let (rank, at) = self.shared_spot(Access::Write, bulk.dst.space, lane, (to, size))?;
                piece.shared = at as u32;
                ranks = self.target(warp, lane, rank, bulk.multicast)?;
                if let Report::Mbarrier(addr) = bulk.report {
                    let at = self.mbarrier(warp, lane, addr, (rank, bulk.multicast.is_some()))?;
                    mbarrier = Some((at, size));
                }
                if bulk.route == Route::GlobalToShared {
                    self.global_range(lane, Access::Read, from, size)?;
                    piece.global = Some(from);
                } else {
                    let (rank, at) = self.shared_spot(Access::Read, bulk.src.space, lane, (from, size))?;
                    (piece.from, source) = (at as u32, Source::Shared(rank));
                }
            }
            let target = if ranks == 0 { Target::Global } else { Target::Shared(ranks) };
            let copy = Copy { pieces: vec![piece], source, target, fill: (0, 1), reduce: bulk.reduce, mbarrier };
            self.depart(warp, lane, copy, ranks)?;
        }
        Ok(())
    }

    fn depart(&mut self, warp: &mut Warp, lane: usize, copy: Copy, ranks: u16) -> Lane<()> {
        let (agent, period) = self.next_copy(warp);
        self.count_copy(&copy);
        self.watch_copy(warp, lane, period, &copy)?;
        self.forget(&copy, ranks);
        let to_group = matches!(copy.target, Target::Global);
        let flight = self.hub.start(self.owner(warp, lane, (agent, period + 1)), copy);
        self.stats.async_copies += 1;
        if to_group {
            let (group, pc) = (warp.bulk_committed[lane], warp.cur.pc);
            warp.bulk.push(Grouped { lane, group, flight, period, pc, is_read: false });
        }
        Ok(())
    }

    /// The tensor map at a generic address: a kernel parameter, global or shared memory.
    fn tensor_map(&self, warp: &Warp, lane: usize, addr: Addr) -> Lane<TensorMap> {
        let (home, address) = resolve(addr.space, warp.addresses(addr)[lane]);
        let req = Request { lane, access: Access::Read, home, address, bytes: MAP_BYTES as u32 };
        if home == Home::Local {
            let detail =
                "the tensor map lies in local memory; a kernel takes it as `const __grid_constant__ CUtensorMap`";
            return fault(lane, detail.to_owned());
        }
        if !address.is_multiple_of(64) {
            return Request { bytes: 64, ..req }.fault(MemoryFault::Misaligned);
        }
        let mut words = [0; MAP_BYTES / 8];
        for (i, word) in words.iter_mut().enumerate() {
            let part = Request { address: address.wrapping_add(8 * i as u64), bytes: 8, ..req };
            self.load(warp, part, 8, std::slice::from_mut(word))?;
        }
        let mut bytes = [0; MAP_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        match TensorMap::decode(&bytes) {
            Some(map) => Ok(map),
            None => fault(lane, format!("the 128 B at address {address:#x} are no tensor map")),
        }
    }

    pub(crate) fn exec_tensor_copy(&mut self, warp: &mut Warp, m: u32, tensor: &TensorCopy) -> Lane<()> {
        for lane in lanes(m) {
            let map = self.tensor_map(warp, lane, tensor.map)?;
            if map.dims.len() != tensor.coords.len() {
                let (rank, found) = (map.dims.len(), tensor.coords.len());
                return fault(lane, format!("{found} coordinates for a tensor of {rank} dimensions"));
            }
            let coords: Vec<i32> = tensor.coords.iter().map(|&r| warp.get32(r)[lane] as i32).collect();
            let bytes = map.box_counts().iter().product::<u32>() * map.element.bytes();
            let address = warp.addresses(tensor.shared)[lane];
            let access = if tensor.route == Route::SharedToGlobal { Access::Read } else { Access::Write };
            let (rank, at) = self.shared_spot(access, tensor.shared.space, lane, (address, bytes))?;
            if !at.is_multiple_of(TENSOR_ALIGN) {
                return align(lane, Home::Shared, at as u64, TENSOR_ALIGN as u32);
            }
            let pieces = boxed(&map, &coords, at as u32);
            let access = if tensor.route == Route::SharedToGlobal { Access::Write } else { Access::Read };
            for piece in &pieces {
                if let Some(global) = piece.global {
                    self.global_range(lane, access, global, piece.bytes)?;
                }
                if piece.shared + piece.bytes > self.smem(rank).bytes {
                    let address = piece.shared.into();
                    let req = Request { lane, access, home: Home::Shared, address, bytes: piece.bytes };
                    return req.fault(MemoryFault::OutOfBounds);
                }
            }
            let nan = if map.fill == Fill::Nan { map.element.nan() } else { 0 };
            let mut copy = Copy {
                pieces,
                source: Source::Shared(rank),
                target: Target::Global,
                fill: (nan, map.element.bytes()),
                reduce: None,
                mbarrier: None,
            };
            let mut ranks = 0;
            match tensor.report {
                Report::Mbarrier(addr) => {
                    ranks = self.target(warp, lane, rank, tensor.multicast)?;
                    let at = self.mbarrier(warp, lane, addr, (rank, tensor.multicast.is_some()))?;
                    copy.mbarrier = Some((at, bytes));
                    copy.source = Source::Global;
                    copy.target = Target::Shared(ranks);
                }
                Report::Group => copy.reduce = reduction(tensor.reduce, map.element),
            }
            self.depart(warp, lane, copy, ranks)?;
        }
        Ok(())
    }

    pub(crate) fn exec_remote_store(&mut self, warp: &mut Warp, m: u32, store: &RemoteStore) -> Lane<()> {
        let size = store.ty.bytes();
        let bytes = size * u32::from(store.n);
        for lane in lanes(m) {
            let address = warp.addresses(store.addr)[lane];
            let (rank, at) = self.shared_spot(Access::Write, store.addr.space, lane, (address, bytes))?;
            if !at.is_multiple_of(bytes as usize) {
                return align(lane, Home::Shared, at as u64, bytes);
            }
            let mbarrier = self.mbarrier(warp, lane, store.mbar, (rank, false))?;
            let mut data = Vec::new();
            for &r in &store.values[..usize::from(store.n)] {
                let value = if size == 8 { warp.get64(r)[lane] } else { warp.get32(r)[lane].into() };
                data.extend_from_slice(&value.to_le_bytes()[..size as usize]);
            }
            let copy = Copy {
                pieces: vec![Piece { global: None, shared: at as u32, from: 0, bytes }],
                source: Source::Value(data),
                target: Target::Shared(1 << rank),
                fill: (0, 1),
                reduce: store.reduce.map(|op| (op, store.ty)),
                mbarrier: Some((mbarrier, bytes)),
            };
            self.depart(warp, lane, copy, 1 << rank)?;
        }
        Ok(())
    }

    /// True if all but the last `keep` groups of lanes in `m` are done; `read` asks for their sources only.
    pub(crate) fn bulk_done(&mut self, warp: &mut Warp, m: u32, keep: u32, read: bool) -> bool {
        let flights = &self.hub.flights;
        let committed = warp.bulk_committed;
        let is_over = |g: &Grouped| flights.iter().find(|f| f.id == g.flight).is_none_or(|f| read && f.is_read);
        let due = |g: &Grouped| m >> g.lane & 1 == 1 && g.group < committed[g.lane].saturating_sub(keep);
        let done = warp.bulk.iter().filter(|g| due(g)).all(is_over);
        if done {
            let last = warp.bulk.iter().filter(|g| due(g)).map(|g| g.period).max();
            if let Some(last) = last {
                self.complete_copies(warp, if read { last } else { last + 1 });
            }
            warp.bulk.retain(|g| read || !due(g));
            for grouped in warp.bulk.iter_mut().filter(|g| due(g)) {
                grouped.is_read = true;
            }
        }
        done
    }

    /// The lane's `cp.async` copies so far will land on their own and then arrive at the mbarrier.
    pub(crate) fn exec_cp_arrive(&mut self, warp: &mut Warp, m: u32, addr: Addr, noinc: bool) -> Lane<()> {
        let addresses = warp.addresses(addr);
        for lane in lanes(m) {
            let spot = self.mbar_spot(addr, lane, addresses[lane])?;
            if !noinc {
                // The arrival to come is one more than those the phase waits for.
                self.expect_arrival(lane, spot)?;
            }
            let (mine, rest) = std::mem::take(&mut warp.pending).into_iter().partition(|p| usize::from(p.lane) == lane);
            warp.pending = rest;
            // The copies were stamped when they started: the agent has not begun anything since.
            let agent = self.last_copy(warp);
            let owner = self.owner(warp, lane, agent);
            self.hub.start_arrival(owner, mine, spot);
        }
        Ok(())
    }

    /// A thread that waits for its `cp.async` copies also gets those an mbarrier was to announce.
    pub(crate) fn land_arrivals(&mut self, warp: &Warp, m: u32) -> Lane<()> {
        if self.hub.flights.is_empty() {
            return Ok(());
        }
        for (copies, (rank, at), owner) in self.hub.take_arrivals(self.rank, warp.index as usize, m) {
            copies.iter().for_each(|p| p.land(&mut self.shared));
            for p in &copies {
                self.land_async(warp, owner.lane, (p.dst.into(), p.bytes.into()));
            }
            let shared = if rank == self.rank { &mut self.shared } else { &mut self.hub.shared[rank] };
            arrive((shared, &mut self.hub.shadows[rank]), at, owner).map_err(|e| Box::new((e.0.lane as u32, e.1)))?;
            self.hub.events += 1;
        }
        Ok(())
    }

    pub(crate) fn exec_map_replace(
        &mut self,
        warp: &mut Warp,
        m: u32,
        addr: Addr,
        (field, ord, value): (MapField, R, u64),
    ) -> Lane<()> {
        let lane = m.trailing_zeros() as usize;
        let mut map = self.tensor_map(warp, lane, addr)?;
        let ord = warp.get32(ord)[lane] as usize;
        let rank = map.dims.len();
        let is_known = replace(&mut map, field, ord, value);
        let Some(bytes) = is_known.then(|| map.encode().ok()).flatten() else {
            return fault(lane, format!("{field:?} {ord} of a tensor map of {rank} dimensions cannot be {value:#x}"));
        };
        self.write_map(warp, lane, addr, &bytes)
    }

    fn write_map(&mut self, warp: &mut Warp, lane: usize, addr: Addr, bytes: &[u8; MAP_BYTES]) -> Lane<()> {
        let (home, address) = resolve(addr.space, warp.addresses(addr)[lane]);
        for (i, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = chunk.iter().rev().fold(0, |acc, &b| acc << 8 | u64::from(b));
            let req = Request { lane, access: Access::Write, home, address: address + 8 * i as u64, bytes: 8 };
            self.store(warp, req, 8, &[word])?;
        }
        Ok(())
    }

    pub(crate) fn exec_map_copy(&mut self, warp: &mut Warp, m: u32, dst: Addr, src: Addr) -> Lane<()> {
        let lane = m.trailing_zeros() as usize;
        match self.tensor_map(warp, lane, src)?.encode() {
            Ok(bytes) => self.write_map(warp, lane, Addr { space: MemSpace::Global, ..dst }, &bytes),
            Err(error) => fault(lane, error.to_string()),
        }
    }
}

/// Writes one field; false if there is no such field or value.
fn replace(map: &mut TensorMap, field: MapField, ord: usize, value: u64) -> bool {
    fn set<T: TryFrom<u64>>(list: &mut [T], ord: usize, value: u64) -> bool {
        match (list.get_mut(ord), T::try_from(value)) {
            (Some(slot), Ok(value)) => {
                *slot = value;
                true
            }
            _ => false,
        }
    }
    match field {
        MapField::Address => map.address = value,
        MapField::Box => return set(&mut map.box_dims, ord, value),
        MapField::Dim => return set(&mut map.dims, ord, value),
        MapField::Stride => return set(&mut map.strides_bytes, ord, value),
        MapField::ElemStride => return set(&mut map.elem_strides, ord, value),
        MapField::Interleave => return value == 0,
        MapField::Swizzle => match value {
            0 => map.swizzle = Swizzle::None,
            1 => map.swizzle = Swizzle::B32,
            2 => map.swizzle = Swizzle::B64,
            3 => map.swizzle = Swizzle::B128,
            _ => return false,
        },
        MapField::Fill => match value {
            0 => map.fill = Fill::Zeros,
            1 => map.fill = Fill::Nan,
            _ => return false,
        },
        // The element type and the rank of a map stay what they were.
        MapField::Rank => return value + 1 == map.dims.len() as u64,
        MapField::ElemType => return true,
    }
    true
}

/// A tensor reduction, for the element type of its map.
fn reduction(op: Option<AtomOp>, element: MapElement) -> Option<(AtomOp, Ty)> {
    let (ty, signed, float) = match element {
        MapElement::U8 => (Ty::U8, false, false),
        MapElement::U16 => (Ty::U16, false, false),
        MapElement::U32 => (Ty::U32, false, false),
        MapElement::I32 => (Ty::S32, true, false),
        MapElement::U64 => (Ty::U64, false, false),
        MapElement::I64 => (Ty::S64, true, false),
        MapElement::F16 => (Ty::F16, false, true),
        MapElement::Bf16 => (Ty::Bf16, false, true),
        MapElement::F64 => (Ty::F64, false, true),
        MapElement::F32 | MapElement::F32Ftz | MapElement::Tf32 | MapElement::Tf32Ftz => (Ty::F32, false, true),
    };
    let op = match (op?, signed, float) {
        (AtomOp::AddU, _, true) => AtomOp::AddF,
        (AtomOp::MinU, true, _) => AtomOp::MinS,
        (AtomOp::MaxU, true, _) => AtomOp::MaxS,
        (AtomOp::MinU, _, true) => AtomOp::MinF,
        (AtomOp::MaxU, _, true) => AtomOp::MaxF,
        (op, ..) => op,
    };
    Some((op, ty))
}

/// The pieces of a box at `coords` whose shared memory starts at `at`.
///
/// In shared memory the box is dense, dimension 0 innermost, its 16-byte chunks permuted by the swizzle. In global
/// memory elements lie `elem_strides` apart; those outside the tensor have no address.
fn boxed(map: &TensorMap, coords: &[i32], at: u32) -> Vec<Piece> {
    let counts = map.box_counts();
    let size = map.element.bytes();
    let row_bytes = counts[0] * size;
    // Only elements that lie side by side can be copied together.
    let chunk = if map.elem_strides[0] > 1 {
        size
    } else {
        row_bytes.min(if map.swizzle == Swizzle::None { row_bytes } else { 16 })
    };
    let n_rows: u32 = counts[1..].iter().product();
    let mut pieces = Vec::with_capacity((n_rows * row_bytes.div_ceil(chunk)) as usize);
    for row in 0..n_rows {
        let (mut rest, mut inside, mut base) = (row, true, map.address);
        for (dim, &count) in counts.iter().enumerate().skip(1) {
            let index = i64::from(coords[dim]) + i64::from(rest % count) * i64::from(map.elem_strides[dim]);
            rest /= count;
            inside &= (0..map.dims[dim] as i64).contains(&index);
            base = base.wrapping_add((index as u64).wrapping_mul(map.strides_bytes[dim - 1]));
        }
        for start in (0..row_bytes).step_by(chunk as usize) {
            let shared = map.swizzle.apply(at + row * row_bytes + start);
            let first = i64::from(coords[0]) + i64::from(start / size) * i64::from(map.elem_strides[0]);
            let n = i64::from(chunk.min(row_bytes - start) / size);
            push_clipped(&mut pieces, (first, n, if inside { map.dims[0] as i64 } else { 0 }), size, (base, shared));
        }
    }
    pieces
}

/// Elements `first..first + n` of a row of `extent`, cut where they leave it.
fn push_clipped(pieces: &mut Vec<Piece>, (first, n, extent): (i64, i64, i64), size: u32, (base, shared): (u64, u32)) {
    let low = (-first).clamp(0, n);
    let high = (extent - first).clamp(low, n);
    for (from, to, is_inside) in [(0, low, false), (low, high, true), (high, n, false)] {
        if to > from {
            let address = base.wrapping_add(((first + from) as u64).wrapping_mul(size.into()));
            pieces.push(Piece {
                global: is_inside.then_some(address),
                shared: shared + from as u32 * size,
                from: 0,
                bytes: (to - from) as u32 * size,
            });
        }
    }
}
