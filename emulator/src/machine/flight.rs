//! Which asynchronous copies are on their way? They read late and land late, in an order drawn from the seed.
//!
//! The [`Hub`] is what the blocks of a cluster share: each other's shared memory, copies in flight, the cluster
//! barrier. It travels into the block whose turn it is; while it is there, that block's own memory is outside of it.

use super::access::{Fault, MemoryFault};
use super::atomic;
use super::block::next_random;
use super::clock::Who;
use super::mbarrier;
use super::proxy::{Phases, Shadow};
use super::shared::Shared;
use super::warp::Pending;
use crate::decode::hopper_op::MbarKind;
use crate::decode::op::AtomOp;
use crate::error::{Access, Space};
use crate::memory::Memory;
use crate::syntax::ast::Ty;

/// Longest delay of a copy, in turns of a block.
const MAX_DELAY: u64 = 24;

/// The thread a copy belongs to, and the instruction that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) rank: usize,
    pub(crate) warp: usize,
    pub(crate) lane: usize,
    pub(crate) pc: u32,
    /// The agent of its warp, and the period of what it writes.
    pub(crate) agent: (Who, u32),
}

/// A contiguous part of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Address in global memory; `None` where a box leaves its tensor.
    pub(crate) global: Option<u64>,
    /// Offset in shared memory: of the destination, or of the only one.
    pub(crate) shared: u32,
    /// Offset in shared memory the data comes from, when it goes from block to block.
    pub(crate) from: u32,
    pub(crate) bytes: u32,
}

/// Where the data of a copy comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Global,
    /// Shared memory of this rank.
    Shared(usize),
    /// Registers: the bytes themselves.
    Value(Vec<u8>),
}

/// Where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Global,
    /// Shared memory of every rank whose bit is set.
    Shared(u16),
}

/// Everything about a copy that is about to start.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) source: Source,
    pub(crate) target: Target,
    /// What pieces without an address bring: the bits of one element and its size.
    pub(crate) fill: (u64, u32),
    pub(crate) reduce: Option<(AtomOp, Ty)>,
    /// Offset of the mbarrier, in the memory of each target, and the bytes to report there.
    pub(crate) mbarrier: Option<(u32, u32)>,
}

/// What is in flight.
#[derive(Clone, Debug)]
enum Cargo {
    Copy(Copy),
    /// Copies of `cp.async`, and the arrival they cause: rank, offset.
    Arrival(Vec<Pending>, (usize, usize)),
}

#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) id: u64,
    pub(crate) owner: Owner,
    read_due: u64,
    due: u64,
    pub(crate) is_read: bool,
    cargo: Cargo,
    data: Vec<u8>,
    /// Which bytes of `data` have ever been written.
    known: Vec<bool>,
}

/// What the blocks of a cluster share.
#[derive(Default)]
pub(crate) struct Hub {
    /// By rank; the running block's own is in its `Env`.
    pub(crate) shared: Vec<Shared>,
    pub(crate) flights: Vec<Flight>,
    /// Who touched that memory, by rank, and who arrived at the cluster barrier.
    pub(crate) shadows: Vec<Shadow>,
    pub(crate) barrier: Phases,
    /// Blocks that have ended, by rank, and where they were in the grid.
    pub(crate) ended: Vec<Option<[u32; 3]>>,
    /// Counts whatever may let a sleeper go on.
    pub(crate) events: u64,
    /// Lanes of each warp of each block that have arrived at the cluster barrier.
    pub(crate) arrived: Vec<Vec<u32>>,
    /// Cluster barriers completed.
    pub(crate) generation: u64,
    tick: u64,
    rng: u64,
    next_id: u64,
}

/// A fault of a copy, with the thread it belongs to.
pub(crate) type Landed = Result<(), Box<(Owner, Fault)>>;

impl Hub {
    pub(crate) fn new(shared: Vec<Shared>, n_warps: usize, seed: u64) -> Hub {
        let arrived = vec![vec![0; n_warps]; shared.len()];
        let shadows = shared.iter().map(|_| Shadow::default()).collect();
        let ended = vec![None; shared.len()];
        Hub { shared, arrived, shadows, ended, rng: seed, ..Hub::default() }
    }

    /// A wait that need not be patient gives up now and then.
    pub(crate) fn whim(&mut self) -> bool {
        self.rng != 0 && next_random(&mut self.rng).is_multiple_of(8)
    }

    /// A coin; always false without a seed.
    pub(crate) fn coin(&mut self) -> bool {
        self.rng != 0 && next_random(&mut self.rng).is_multiple_of(2)
    }

    fn depart(&mut self, owner: Owner, cargo: Cargo) -> u64 {
        let delay = |rng: &mut u64| match *rng {
            0 => 1,
            // Mostly soon, sometimes very late.
            _ => match next_random(rng) {
                r if r % 4 == 0 => 1 + (r >> 8) % MAX_DELAY,
                r => 1 + (r >> 8) % 3,
            },
        };
        let read_due = self.tick + delay(&mut self.rng) - 1;
        let due = read_due.max(self.tick) + delay(&mut self.rng);
        self.next_id += 1;
        let flight = Flight {
            id: self.next_id,
            owner,
            read_due,
            due,
            is_read: false,
            cargo,
            data: Vec::new(),
            known: Vec::new(),
        };
        self.flights.push(flight);
        self.next_id
    }

    /// Starts a copy; its number stays in `flights` until it has landed.
    pub(crate) fn start(&mut self, owner: Owner, copy: Copy) -> u64 {
        self.depart(owner, Cargo::Copy(copy))
    }

    /// Starts the landing of `cp.async` copies, which ends with an arrival at an mbarrier.
    pub(crate) fn start_arrival(&mut self, owner: Owner, copies: Vec<Pending>, mbarrier: (usize, usize)) {
        self.depart(owner, Cargo::Arrival(copies, mbarrier));
    }

    /// Lets one turn pass and lands what is due. All shared memory must be here.
    pub(crate) fn pass_turn(&mut self, memory: &Memory) -> Landed {
        self.tick += 1;
        self.land_due(memory)
    }

    /// Nothing else can happen: time jumps to the next landing. False if nothing is in flight.
    pub(crate) fn jump(&mut self, memory: &Memory) -> Result<bool, Box<(Owner, Fault)>> {
        let next = self.flights.iter().map(|f| if f.is_read { f.due } else { f.read_due }).min();
        let Some(next) = next else { return Ok(false) };
        self.tick = self.tick.max(next);
        self.land_due(memory)?;
        Ok(true)
    }

    fn land_due(&mut self, memory: &Memory) -> Landed {
        let mut at = 0;
        while at < self.flights.len() {
            let flight = &self.flights[at];
            if !flight.is_read && flight.read_due <= self.tick {
                self.read(at, memory)?;
            }
            if self.flights[at].is_read && self.flights[at].due <= self.tick {
                let flight = self.flights.remove(at);
                self.land(flight, memory)?;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Lands arrivals of `cp.async` of lanes in `m` at once: their thread waits for the copies.
    pub(crate) fn take_arrivals(
        &mut self,
        rank: usize,
        warp: usize,
        m: u32,
    ) -> Vec<(Vec<Pending>, (usize, usize), Owner)> {
        let is_due = |f: &Flight| {
            let o = f.owner;
            matches!(f.cargo, Cargo::Arrival(..)) && o.rank == rank && o.warp == warp && m >> o.lane & 1 == 1
        };
        let mut found = Vec::new();
        self.flights.retain_mut(|flight| {
            if !is_due(flight) {
                return true;
            }
            if let Cargo::Arrival(copies, mbarrier) = &mut flight.cargo {
                found.push((std::mem::take(copies), *mbarrier, flight.owner));
            }
            false
        });
        found
    }

    fn read(&mut self, at: usize, memory: &Memory) -> Landed {
        let Hub { flights, shared, events, .. } = self;
        let flight = &mut flights[at];
        flight.is_read = true;
        *events += 1;
        let Cargo::Copy(copy) = &flight.cargo else { return Ok(()) };
        let total: usize = copy.pieces.iter().map(|p| p.bytes as usize).sum();
        let (mut data, mut known) = (Vec::with_capacity(total), vec![true; total]);
        if let Source::Value(bytes) = &copy.source {
            data.clone_from(bytes);
        }
        for piece in &copy.pieces {
            let start = data.len();
            match (&copy.source, piece.global) {
                (Source::Value(_), _) => {}
                (Source::Global, None) => {
                    let element = copy.fill.0.to_le_bytes();
                    data.extend(element[..copy.fill.1 as usize].iter().cycle().take(piece.bytes as usize));
                }
                (Source::Global, Some(address)) => {
                    let Some((allocation, offset)) = memory.find(address, piece.bytes.into()) else {
                        data.resize(start + piece.bytes as usize, 0);
                        continue;
                    };
                    for i in (0..piece.bytes as usize).step_by(4) {
                        let n = (piece.bytes as usize - i).min(4);
                        let bits =
                            (0..n).fold(0u64, |acc, j| acc | allocation.load(offset as usize + i + j, 1) << (8 * j));
                        let bits = if n == 4 { allocation.load(offset as usize + i, 4) } else { bits };
                        data.extend_from_slice(&bits.to_le_bytes()[..n]);
                        if !allocation.is_written(offset as usize + i, n as u32) {
                            for j in 0..n {
                                known[start + i + j] = allocation.is_written(offset as usize + i + j, 1);
                            }
                        }
                    }
                }
                (Source::Shared(rank), global) => {
                    let from = if global.is_some() { piece.shared } else { piece.from } as usize;
                    let source = &shared[*rank];
                    for i in 0..piece.bytes as usize {
                        known[start + i] = source.is_written(from + i, 1);
                        data.push(source.load(from + i, 1) as u8);
                    }
                }
            }
        }
        flight.data = data;
        flight.known = known;
        Ok(())
    }

    fn land(&mut self, flight: Flight, memory: &Memory) -> Landed {
        self.events += 1;
        let owner = flight.owner;
        let copy = match flight.cargo {
            Cargo::Copy(ref copy) => copy,
            Cargo::Arrival(copies, (rank, at)) => {
                let own = &mut self.shared[owner.rank];
                copies.iter().for_each(|p| p.land(own));
                return arrive((&mut self.shared[rank], &mut self.shadows[rank]), at, owner);
            }
        };
        match copy.target {
            Target::Global => land_in_global(&flight, copy, memory),
            Target::Shared(ranks) => {
                for rank in (0..self.shared.len()).filter(|rank| ranks >> rank & 1 == 1) {
                    let shared = &mut self.shared[rank];
                    land_in_shared(&flight, copy, shared);
                    if let Some((at, bytes)) = copy.mbarrier {
                        complete((shared, &mut self.shadows[rank]), at, bytes, owner)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The arrival at the end of some `cp.async` copies.
pub(crate) fn arrive((shared, shadow): (&mut Shared, &mut Shadow), at: usize, owner: Owner) -> Landed {
    match mbarrier::update(shared, at, MbarKind::Arrive, 1) {
        Ok(flips) => {
            report(shadow, at, owner, flips);
            Ok(())
        }
        Err(detail) => Err(Box::new((owner, Fault::Mbarrier { address: at as u64, detail }))),
    }
}

/// A copy reports at an mbarrier: who waits there learns of it.
fn report(shadow: &mut Shadow, at: usize, owner: Owner, flips: bool) {
    if owner.agent.0 == Who::NONE {
        return;
    }
    let phases = shadow.mbarriers.entry(at).or_default();
    phases.land(owner.agent);
    if flips {
        phases.flip();
    }
}

fn complete((shared, shadow): (&mut Shared, &mut Shadow), at: u32, bytes: u32, owner: Owner) -> Landed {
    match mbarrier::update(shared, at as usize, MbarKind::CompleteTx, bytes) {
        Ok(flips) => {
            report(shadow, at as usize, owner, flips);
            Ok(())
        }
        Err(detail) => {
            let detail = format!("a copy lands, but {detail}");
            Err(Box::new((owner, Fault::Mbarrier { address: at.into(), detail })))
        }
    }
}

fn element(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |acc, &b| acc << 8 | u64::from(b))
}

fn land_in_shared(flight: &Flight, copy: &Copy, shared: &mut Shared) {
    let mut start = 0;
    for piece in &copy.pieces {
        let (to, n) = (piece.shared as usize, piece.bytes as usize);
        let data = &flight.data[start..start + n];
        if let Some((op, ty)) = copy.reduce {
            let size = ty.bytes() as usize;
            for (i, b) in data.chunks_exact(size).enumerate() {
                let old = shared.load(to + i * size, size as u32);
                shared.store(to + i * size, size as u32, atomic::reduce(op, ty, old, element(b)));
            }
        } else {
            for (i, word) in data.chunks(4).enumerate() {
                match word.len() {
                    4 => shared.store(to + 4 * i, 4, element(word)),
                    _ => word.iter().enumerate().for_each(|(j, &b)| shared.store(to + 4 * i + j, 1, b.into())),
                }
            }
            for (i, _) in flight.known[start..start + n].iter().enumerate().filter(|(_, known)| !**known) {
                shared.forget(to + i, 1);
            }
        }
        start += n;
    }
}

fn land_in_global(flight: &Flight, copy: &Copy, memory: &Memory) -> Landed {
    let mut start = 0;
    for piece in &copy.pieces {
        let n = piece.bytes as usize;
        let range = start..start + n;
        start += n;
        // A box may leave its tensor; what lies outside is not written.
        let Some(address) = piece.global else { continue };
        let Some((allocation, offset)) = memory.find(address, n as u64) else { continue };
        if let Some(i) = flight.known[range.clone()].iter().position(|known| !known) {
            let address = u64::from(piece.shared) + i as u64;
            let fault = Fault::Memory {
                kind: MemoryFault::Uninitialised,
                access: Access::Read,
                space: Space::Shared,
                address,
                bytes: 1,
            };
            return Err(Box::new((flight.owner, fault)));
        }
        let data = &flight.data[range];
        match copy.reduce {
            Some((op, ty)) => {
                let size = ty.bytes() as usize;
                for (i, b) in data.chunks_exact(size).enumerate() {
                    atomic::update_global(memory, allocation, offset as usize + i * size, (op, ty), element(b));
                }
            }
            None => {
                for (i, word) in data.chunks(4).enumerate() {
                    match word.len() {
                        4 => allocation.store(offset as usize + 4 * i, 4, element(word)),
                        _ => {
                            for (j, &b) in word.iter().enumerate() {
                                allocation.store(offset as usize + 4 * i + j, 1, b.into());
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}
