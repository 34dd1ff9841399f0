//! How do the blocks of a cluster run together? They take turns, see each other's shared memory and share a barrier.
//!
//! Law: the cluster ends when all its blocks have; it is stuck when no warp can run, nothing is in flight, and waits
//! that gave up led nowhere.

use super::access::{Fault, Home, Lane, MemoryFault, Request};
use super::block::{Block, Env, Grid, Round, permutation};
use super::flight::{Hub, Owner};
use super::mbarrier::Object;
use super::race::access_of;
use super::shadow::Stamp;
use super::shared::Shared;
use super::warp::{LANES, State, Wait, Warp};
use crate::decode::hopper_op::Hopper;
use crate::decode::op::{Op, R};
use crate::error::LaunchError;
use crate::memory::{SHARED_TAG, TAG_MASK};
use crate::stats::Stats;

/// Bits of an address inside one block's shared memory. Above them stands 0 for the block itself, or a rank plus one.
pub(crate) const PEER_SHIFT: u32 = 24;
/// Rounds in which waits give up and nothing changes before the cluster counts as stuck.
const PATIENCE: u32 = 3;

/// Blocks that run at the same time.
pub(crate) struct Cluster<'a> {
    blocks: Vec<Block<'a>>,
    is_finished: Vec<bool>,
    hub: Hub,
    order: Vec<usize>,
    /// What had been achieved when waits last gave up, and how often that was so.
    mark: u64,
    idle: u32,
}

impl<'a> Cluster<'a> {
    /// The cluster whose first block is `first`.
    pub(crate) fn new(grid: Grid<'a>, first: [u32; 3], smem_bytes: u32, seed: u64) -> Self {
        let [cx, cy, cz] = grid.cluster;
        let n = (cx * cy * cz) as usize;
        let mut blocks = Vec::with_capacity(n);
        for rank in 0..n as u32 {
            let place = [first[0] + rank % cx, first[1] + rank / cx % cy, first[2] + rank / (cx * cy)];
            let seed = if seed == 0 { 0 } else { seed ^ u64::from(rank + 1) << 44 };
            let mut block = Block::new(grid, place, smem_bytes, seed);
            block.env.rank = rank as usize;
            blocks.push(block);
        }
        let shared = blocks.iter_mut().map(|b| std::mem::replace(&mut b.env.shared, Shared::new(0))).collect();
        let hub = Hub::new(shared, blocks[0].env.n_warps as usize, seed);
        Cluster { blocks, is_finished: vec![false; n], hub, order: permutation(n, seed), mark: 0, idle: 0 }
    }

    /// What its blocks have executed so far.
    pub(crate) fn stats(&self) -> impl Iterator<Item = &Stats> + '_ {
        self.blocks.iter().map(|b| &b.env.stats)
    }

    /// Grows with everything another block may wait for.
    pub(crate) fn achieved(&self) -> u64 {
        let own = |b: &Block<'_>| b.env.stats.stores + b.env.stats.barriers + b.env.changes;
        self.blocks.iter().map(own).sum::<u64>() + self.hub.events
    }

    /// Whether all that can run have looked at memory in vain since this was last asked: a line for each, or nothing.
    pub(crate) fn polling(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        let mut is_all = true;
        for block in &mut self.blocks {
            let [x, y, z] = block.env.block_idx;
            for warp in block.warps.iter_mut().filter(|warp| warp.can_run()) {
                is_all &= std::mem::take(&mut warp.polls) > 0;
                let groups = std::iter::once(&warp.cur).chain(&warp.others).filter(|g| g.mask != 0);
                if let Some(group) = groups.filter(|g| g.state == State::Running).min_by_key(|g| g.pc) {
                    let line = block.env.grid.module.code[group.pc as usize].line;
                    let source = block.env.grid.module.source(group.pc);
                    let source = source.map_or(String::new(), |(file, line)| format!(" ({file}:{line})"));
                    lines.push(format!("block ({x}, {y}, {z}), warp {} near PTX line {line}{source}", warp.index));
                }
            }
        }
        is_all.then_some(lines)
    }

    /// Where its first block is in the grid.
    pub(crate) fn place(&self) -> [u32; 3] {
        self.blocks[0].env.block_idx
    }

    /// Gives every block a turn. `limit` is the instruction budget left.
    pub(crate) fn round(&mut self, limit: &mut u64) -> Result<Round, LaunchError> {
        let mut progress = false;
        for turn in 0..self.order.len() {
            let rank = self.order[turn];
            if self.is_finished[rank] {
                continue;
            }
            let block = &mut self.blocks[rank];
            std::mem::swap(&mut block.env.hub, &mut self.hub);
            std::mem::swap(&mut block.env.shared, &mut block.env.hub.shared[rank]);
            let result = block.round(limit);
            std::mem::swap(&mut block.env.shared, &mut block.env.hub.shared[rank]);
            std::mem::swap(&mut block.env.hub, &mut self.hub);
            match result? {
                Round::Running => progress = true,
                Round::Stuck => {}
                Round::Finished => {
                    progress = true;
                    self.is_finished[rank] = true;
                    self.check_readers(rank)?;
                }
            }
            self.meet();
            let memory = self.blocks[rank].env.memory;
            self.hub.pass_turn(memory).map_err(|fault| self.landing_error(*fault))?;
        }
        if self.is_finished.iter().all(|&done| done) {
            while self.jump()? {}
            return Ok(Round::Finished);
        }
        if progress || self.blocks.iter().any(|b| b.seen_events != self.hub.events) || self.jump()? || self.give_up() {
            return Ok(Round::Running);
        }
        Err(self.deadlock())
    }

    /// The block of this rank has ended: what the others did in its shared memory has to come before that. Arrivals at its
    /// mbarriers may come late: nobody waits for the last ones of a ring, and kernels in use leave them behind.
    fn check_readers(&mut self, rank: usize) -> Result<(), LaunchError> {
        let ended = &self.blocks[rank];
        self.hub.ended[rank] = Some(ended.env.block_idx);
        let Some(races) = ended.env.races.as_deref().filter(|_| self.blocks.len() > 1) else { return Ok(()) };
        let code = &ended.env.grid.module.code;
        let is_arrival = |stamp: &Stamp| matches!(&code[stamp.pc() as usize].op, Op::Hopper(op) if matches!(**op, Hopper::Mbar(_) | Hopper::MbarWait(_)));
        let mut stamps = self.hub.shadows[rank].region.stamps();
        let late = stamps.find(|(_, stamp)| !races.is_known(stamp) && !is_arrival(stamp));
        let Some((word, stamp)) = late else { return Ok(()) };
        let linear = |b: &&Block<'_>| b.env.linear() == stamp.who.block();
        let by = self.blocks.iter().find(linear).unwrap_or(ended);
        let warp = &by.warps[stamp.who.index() as usize % by.warps.len()];
        let fault = Fault::Ended { access: access_of(stamp.how()), address: 4 * word as u64, of: ended.env.block_idx };
        Err(by.env.error(warp, stamp.lanes.trailing_zeros(), stamp.pc(), fault))
    }

    fn jump(&mut self) -> Result<bool, LaunchError> {
        let memory = self.blocks[0].env.memory;
        self.hub.jump(memory).map_err(|fault| self.landing_error(*fault))
    }

    fn landing_error(&self, (owner, fault): (Owner, Fault)) -> LaunchError {
        let block = &self.blocks[owner.rank];
        block.env.error(&block.warps[owner.warp], owner.lane as u32, owner.pc, fault)
    }

    /// Completes the cluster barrier when every living thread has arrived.
    fn meet(&mut self) {
        let everyone = |rank: usize, alive: &[u32]| {
            self.is_finished[rank] || alive.iter().zip(&self.hub.arrived[rank]).all(|(alive, here)| alive & !here == 0)
        };
        let any = self.hub.arrived.iter().flatten().any(|&lanes| lanes != 0);
        if any && self.blocks.iter().enumerate().all(|(rank, b)| everyone(rank, &b.env.alive)) {
            self.hub.arrived.iter_mut().for_each(|lanes| lanes.fill(0));
            self.hub.generation += 1;
            self.hub.events += 1;
            self.hub.barrier.flip();
        }
    }

    /// Lets waits for mbarriers return without success; false when that has led nowhere before.
    fn give_up(&mut self) -> bool {
        let achieved: u64 = self.stats().map(|s| s.stores + s.atomics).sum::<u64>() + self.hub.events;
        self.idle = if achieved == self.mark { self.idle + 1 } else { 0 };
        self.mark = achieved;
        if self.idle > PATIENCE {
            return false;
        }
        let mut any = false;
        for warp in self.blocks.iter_mut().flat_map(|b| &mut b.warps) {
            for group in &mut warp.others {
                if matches!(group.state, State::Blocked(Wait::Mbarrier { .. })) {
                    group.state = State::Running;
                    warp.expired |= group.mask;
                    any = true;
                }
            }
        }
        any
    }

    fn deadlock(&self) -> LaunchError {
        let many = self.blocks.len() > 1;
        let mut waiting = Vec::new();
        for (rank, block) in self.blocks.iter().enumerate().filter(|(rank, _)| !self.is_finished[*rank]) {
            for line in block.waiting(|wait| self.describe(wait)) {
                waiting.push(if many { format!("block of rank {rank}, {line}") } else { line });
            }
        }
        let first = self.is_finished.iter().position(|done| !done).unwrap_or(0);
        let env = &self.blocks[first].env;
        LaunchError::Deadlock { kernel: env.grid.kernel.to_owned(), block: env.block_idx, waiting }
    }

    fn describe(&self, wait: Wait) -> String {
        match wait {
            Wait::Mbarrier { rank, at, phase } => {
                let state = match Object::load(&self.hub.shared[rank as usize], at as usize) {
                    Some(o) => format!("{} arrivals pending, {} B in flight", o.pending, o.tx_bytes),
                    None => "no longer initialised".to_owned(),
                };
                format!("phase {phase} of the mbarrier at shared address {at:#x} of rank {rank} ({state})")
            }
            Wait::Bulk { keep, .. } => format!("bulk copies, until {keep} groups are left"),
            Wait::Wgmma(due) => format!("the other warps of its warpgroup, to start wgmma group {}", due.max(1) - 1),
            Wait::Cluster => {
                let here: u32 = self.hub.arrived.iter().flatten().map(|lanes| lanes.count_ones()).sum();
                format!("the cluster barrier ({here} threads arrived)")
            }
        }
    }
}

impl Env<'_> {
    /// Rank and offset of an address in the shared window; `None` if there is no such block.
    pub(crate) fn locate(&self, address: u64) -> Option<(usize, u32)> {
        let offset = (address & ((1 << PEER_SHIFT) - 1)) as u32;
        match address >> PEER_SHIFT {
            0 => Some((self.rank, offset)),
            peer => Some((peer as usize - 1, offset)).filter(|(rank, _)| *rank < self.hub.shared.len()),
        }
    }

    /// Shared memory of block `rank` of the cluster.
    pub(crate) fn smem(&self, rank: usize) -> &Shared {
        if rank == self.rank { &self.shared } else { &self.hub.shared[rank] }
    }

    pub(crate) fn smem_mut(&mut self, rank: usize) -> &mut Shared {
        if rank == self.rank { &mut self.shared } else { &mut self.hub.shared[rank] }
    }

    /// The access `req` with the address of a block of the cluster: whose memory, and which offset in it.
    fn peer(&self, req: Request) -> Lane<(usize, usize)> {
        match self.locate(req.address) {
            Some((rank, offset)) if self.checks.races && self.hub.ended[rank].is_some() && rank != self.rank => {
                let of = self.hub.ended[rank].unwrap_or_default();
                let fault = Fault::Ended { access: req.access, address: offset.into(), of };
                Err(Box::new((req.lane as u32, fault)))
            }
            Some((rank, offset)) if u64::from(offset) + u64::from(req.bytes) <= u64::from(self.smem(rank).bytes) => {
                Ok((rank, offset as usize))
            }
            _ => req.fault(MemoryFault::OutOfBounds),
        }
    }

    /// A load whose address names a block.
    #[cold]
    pub(crate) fn load_peer(&self, req: Request, bytes: u32, out: &mut [u64]) -> Lane<()> {
        let (rank, at) = self.peer(req)?;
        let shared = self.smem(rank);
        if self.checks.uninitialised && !shared.is_written(at, req.bytes) {
            return req.fault(MemoryFault::Uninitialised);
        }
        for (i, slot) in out.iter_mut().enumerate() {
            *slot = shared.load(at + i * bytes as usize, bytes);
        }
        Ok(())
    }

    /// A store whose address names a block.
    #[cold]
    pub(crate) fn store_peer(&mut self, req: Request, bytes: u32, values: &[u64]) -> Lane<()> {
        let (rank, at) = self.peer(req)?;
        let shared = self.smem_mut(rank);
        for (i, &value) in values.iter().enumerate() {
            shared.store(at + i * bytes as usize, bytes, value);
        }
        Ok(())
    }

    pub(crate) fn exec_mapa(&self, warp: &mut Warp, m: u32, (d, a, rank): (R, R, R), wide: bool) -> Lane<()> {
        let ranks = *warp.get32(rank);
        let mut out = [0u64; LANES];
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let address = if wide { warp.get64(a)[lane] } else { warp.get32(a)[lane].into() };
            let in_window = address & !TAG_MASK;
            let is_shared = !wide || address & TAG_MASK == SHARED_TAG;
            let n_blocks = self.hub.shared.len() as u32;
            if !is_shared || ranks[lane] >= n_blocks {
                let detail = format!("mapa of address {address:#x} to rank {} of {n_blocks}", ranks[lane]);
                return Err(Box::new((lane as u32, Fault::WarpSync { detail })));
            }
            let offset = in_window & ((1 << PEER_SHIFT) - 1);
            out[lane] = address & TAG_MASK | u64::from(ranks[lane] + 1) << PEER_SHIFT | offset;
        }
        if wide {
            warp.set64(d, m, &out);
        } else {
            warp.set32(d, m, &out.map(|x| x as u32));
        }
        Ok(())
    }

    pub(crate) fn exec_getctarank(&self, warp: &mut Warp, m: u32, d: R, (a, wide): (R, bool)) {
        warp.fill32(m, d, |w, lane| {
            let address = if wide { w.get64(a)[lane] & !TAG_MASK } else { w.get32(a)[lane].into() };
            self.locate(address).map_or(0, |(rank, _)| rank as u32)
        });
    }

    /// Lanes of `m` whose generic address lies in this block's own shared memory.
    pub(crate) fn own_shared(&self, warp: &Warp, m: u32, a: R) -> u32 {
        let is_own = |address: u64| {
            address & TAG_MASK == SHARED_TAG && self.locate(address & !TAG_MASK).is_some_and(|(r, _)| r == self.rank)
        };
        let row = warp.get64(a);
        (0..LANES).filter(|&lane| m >> lane & 1 == 1 && is_own(row[lane])).fold(0, |acc, lane| acc | 1 << lane)
    }

    pub(crate) fn cluster_arrive(&mut self, warp: &mut Warp, m: u32) -> Lane<()> {
        let here = &mut self.hub.arrived[self.rank][warp.index as usize];
        let twice = *here & m | warp.cluster_arrived & m;
        if twice != 0 {
            let detail = "a thread arrives at the cluster barrier again before it has waited".to_owned();
            return Err(Box::new((twice.trailing_zeros(), Fault::WarpSync { detail })));
        }
        *here |= m;
        warp.cluster_arrived |= m;
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            warp.cluster_generation[lane] = self.hub.generation;
        }
        self.release_cluster(warp);
        // Whether that completes the barrier is seen when the turn ends.
        self.hub.events += 1;
        Ok(())
    }

    /// True if the barrier that lanes in `m` arrived at is complete.
    pub(crate) fn cluster_wait(&mut self, warp: &mut Warp, m: u32) -> Lane<bool> {
        let missing = m & !warp.cluster_arrived;
        if missing != 0 {
            let detail = "a thread waits at the cluster barrier without having arrived".to_owned();
            return Err(Box::new((missing.trailing_zeros(), Fault::WarpSync { detail })));
        }
        let generation = self.hub.generation;
        let done = (0..LANES).all(|lane| m >> lane & 1 == 0 || warp.cluster_generation[lane] < generation);
        if done {
            warp.cluster_arrived &= !m;
            self.acquire_cluster(warp, m);
        }
        Ok(done)
    }
}

/// A shared-memory address that names a block other than by being its own.
#[inline(always)]
pub(crate) fn names_peer(home: Home, address: u64) -> bool {
    home == Home::Shared && address >> PEER_SHIFT != 0
}
