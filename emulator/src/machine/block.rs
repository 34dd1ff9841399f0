//! How does a block run? Warps take turns in an order drawn from the seed; barriers hold them; deadlocks are told.

use super::access::{Fault, MemoryFault};
use super::cluster::PEER_SHIFT;
use super::count::TallyRef;
use super::flight::Hub;
use super::l1::{L1, lines_of};
use super::order::Handoff;
use super::race::{Ledger, Races};
use super::shared::Shared;
use super::warp::{ALL, Base, LANES, Row64, State, Wait, Warp};
use crate::decode::Module;
use crate::decode::op::{BarKind, Const, Special};
use crate::error::{LaunchError, Place};
use crate::launch::Checks;
use crate::memory::{LOCAL_TAG, Memory, SHARED_TAG};
use crate::stats::Stats;
use std::collections::HashSet;
use std::sync::Mutex;

/// Named barriers of a block.
const BARRIERS: usize = 16;
/// Warp instructions of one turn, at least; the seed adds up to as many again.
const SLICE: u64 = 512;

/// What all blocks of a launch share.
#[derive(Clone, Copy)]
pub(crate) struct Grid<'a> {
    pub(crate) module: &'a Module,
    pub(crate) memory: &'a Memory,
    pub(crate) kernel: &'a str,
    pub(crate) function: usize,
    pub(crate) params: &'a [u8],
    pub(crate) globals: &'a [u64],
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) cluster: [u32; 3],
    pub(crate) static_smem: u32,
    pub(crate) dynamic_smem: u32,
    pub(crate) checks: Checks,
    pub(crate) max_instructions: u64,
    /// Accesses to global memory, where races are looked for.
    pub(crate) ledger: Option<&'a Mutex<Ledger>>,
    /// Bytes touched, where accesses are counted.
    pub(crate) tally: TallyRef<'a>,
    /// Shared variables of the kernel: indices into the module's.
    pub(crate) own_shared: (usize, usize),
}

/// One barrier between arrivals.
#[derive(Clone, Default)]
pub(crate) struct Barrier {
    /// Lanes of each warp that have arrived.
    arrived: Vec<u32>,
    /// Threads that complete it; `None` means all of the block.
    count: Option<u32>,
    /// Reduction so far: number of true predicates, and of all.
    n_true: u32,
    n_all: u32,
    is_open: bool,
}

/// A completed barrier: its number, how many predicates were true, of how many, and what it passes on.
pub(crate) struct Released {
    id: u32,
    n_true: u32,
    n_all: u32,
    handoff: Option<Box<Handoff>>,
}

/// What an instruction may touch besides its warp.
pub(crate) struct Env<'a> {
    pub(crate) grid: Grid<'a>,
    pub(crate) memory: &'a Memory,
    pub(crate) params: &'a [u8],
    pub(crate) checks: Checks,
    pub(crate) shared: Shared,
    pub(crate) block_idx: [u32; 3],
    pub(crate) barriers: Vec<Barrier>,
    pub(crate) n_warps: u32,
    /// Lanes alive in each warp, as barriers see them.
    pub(crate) alive: Vec<u32>,
    /// Barriers completed and not yet announced to the warps.
    pub(crate) released: Vec<Released>,
    pub(crate) races: Option<Box<Races>>,
    pub(crate) stats: Stats,
    /// Sectors of global memory this block has touched, twice the number, and one more for writes; where they are counted.
    pub(crate) sectors: HashSet<u64>,
    pub(crate) l1: L1,
    pub(crate) budget: u64,
    pub(crate) clock: u64,
    /// Atomics that changed memory.
    pub(crate) changes: u64,
    /// What it shares with the other blocks of its cluster, while it runs.
    pub(crate) hub: Hub,
    pub(crate) rank: usize,
    /// Registers per thread each warp has last asked for with `setmaxnreg`, and how often it has asked.
    pub(crate) registers: Vec<Option<(u32, u64)>>,
    /// For each warp, how many of its `wgmma` groups have read their operands.
    pub(crate) wgmma_read: Vec<u32>,
}

/// One block in flight.
pub(crate) struct Block<'a> {
    pub(crate) env: Env<'a>,
    pub(crate) warps: Vec<Warp>,
    order: Vec<usize>,
    rng: u64,
    /// Events of the cluster after which sleepers last looked.
    pub(crate) seen_events: u64,
}

/// What a round of turns achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Running,
    Finished,
    /// No warp can run on its own.
    Stuck,
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough to shuffle a schedule.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seeded permutation of `0..n`; seed 0 keeps the natural order.
pub(crate) fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = seed;
    if seed != 0 {
        for i in (1..n).rev() {
            order.swap(i, (next_random(&mut state) % (i as u64 + 1)) as usize);
        }
    }
    order
}

impl Grid<'_> {
    /// Values of a constant register in the lanes of warp `warp`.
    pub(crate) fn constants(&self, constant: Const, block_idx: [u32; 3], warp: u32, local: u32) -> Row64 {
        let varies = matches!(
            constant,
            Const::Special(
                Special::Tid(_)
                    | Special::LaneId
                    | Special::LaneMaskEq
                    | Special::LaneMaskLt
                    | Special::LaneMaskLe
                    | Special::LaneMaskGt
                    | Special::LaneMaskGe
            )
        );
        if !varies {
            return [self.constant(constant, block_idx, warp, 0, local); LANES];
        }
        let mut row = [0; LANES];
        for (lane, slot) in row.iter_mut().enumerate() {
            *slot = self.constant(constant, block_idx, warp, lane, local);
        }
        row
    }

    /// Value of a constant register in `lane` of warp `warp`.
    fn constant(&self, constant: Const, block_idx: [u32; 3], warp: u32, lane: usize, local: u32) -> u64 {
        match constant {
            Const::Bits(bits) => bits,
            Const::Special(special) => u64::from(self.special(special, block_idx, warp, lane as u32)),
            Const::Shared(id, offset) => {
                let var = &self.module.shared[id];
                let at = if var.is_dynamic { self.static_smem.next_multiple_of(var.align.max(16)) } else { var.offset };
                u64::from(at).wrapping_add_signed(offset)
            }
            Const::Global(id, offset) => self.globals.get(id).copied().unwrap_or(0).wrapping_add_signed(offset),
            Const::Local(offset) => u64::from(local).wrapping_add_signed(offset),
            Const::ParamAddr(offset) => offset as u64,
            Const::Param { offset, bytes, signed } => {
                let data = self.params.get(offset as usize..(offset + u32::from(bytes)) as usize).unwrap_or(&[]);
                let bits = data.iter().rev().fold(0u64, |acc, &b| acc << 8 | u64::from(b));
                let shift = 64 - 8 * u32::from(bytes);
                if signed { ((bits << shift) as i64 >> shift) as u64 } else { bits }
            }
        }
    }

    /// Number of a block from its place in the grid.
    fn linear(&self, [x, y, z]: [u32; 3]) -> u32 {
        x + self.grid[0] * (y + self.grid[1] * z)
    }

    /// Index of a thread from its place in the block.
    pub(crate) fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let linear = warp * 32 + lane;
        let [x, y, z] = self.block;
        if y == 1 && z == 1 {
            return [linear, 0, 0];
        }
        [linear % x, linear / x % y, linear / (x * y)]
    }

    /// Names the variable at byte `at` of shared memory.
    pub(crate) fn shared_object(&self, at: u64) -> String {
        let start = self.module.entry(self.kernel).map_or(0, |e| e.static_smem_bytes.into());
        let own = |index: usize| {
            index < self.module.n_common_shared || (self.own_shared.0..self.own_shared.1).contains(&index)
        };
        let vars = self.module.shared.iter().enumerate().filter(|(i, v)| own(*i) && !v.is_dynamic).map(|(_, v)| v);
        let inside = |from: u64, bytes: u64| (from..from + bytes).contains(&at);
        match vars.into_iter().find(|v| inside(v.offset.into(), v.bytes)) {
            Some(var) => format!("`{}` + {}", var.name, at - u64::from(var.offset)),
            None if at >= start => format!("dynamic shared memory + {}", at - start),
            None => "no variable".to_owned(),
        }
    }

    /// Names the variable or allocation at a global address.
    pub(crate) fn global_object(&self, at: u64) -> String {
        let vars = self.globals.iter().zip(&self.module.globals);
        match vars.into_iter().find(|(address, var)| (**address..**address + var.bytes).contains(&at)) {
            Some((address, var)) => format!("`{}` + {}", var.name, at - address),
            None => self.memory.nearest(at),
        }
    }

    fn special(&self, special: Special, block_idx: [u32; 3], warp: u32, lane: u32) -> u32 {
        let n_warps = self.block.iter().product::<u32>().div_ceil(32);
        match special {
            Special::Tid(axis) => self.thread(warp, lane)[usize::from(axis)],
            Special::Ntid(axis) => self.block[usize::from(axis)],
            Special::Ctaid(axis) => block_idx[usize::from(axis)],
            Special::Nctaid(axis) => self.grid[usize::from(axis)],
            Special::ClusterId(axis) => block_idx[usize::from(axis)] / self.cluster[usize::from(axis)],
            Special::NClusterId(axis) => self.grid[usize::from(axis)] / self.cluster[usize::from(axis)],
            Special::ClusterCtaid(axis) => block_idx[usize::from(axis)] % self.cluster[usize::from(axis)],
            Special::ClusterNctaid(axis) => self.cluster[usize::from(axis)],
            Special::ClusterCtarank => {
                let [cx, cy, cz] = self.cluster;
                block_idx[0] % cx + cx * (block_idx[1] % cy + cy * (block_idx[2] % cz))
            }
            Special::ClusterNctarank => self.cluster.iter().product(),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => n_warps,
            // One multiprocessor.
            Special::SmId | Special::GridId | Special::Zero => 0,
            Special::NSmId | Special::One => 1,
            Special::LaneMaskEq => 1 << lane,
            Special::LaneMaskLt => (1 << lane) - 1,
            Special::LaneMaskLe => u32::MAX >> (31 - lane),
            Special::LaneMaskGt => !(u32::MAX >> (31 - lane)),
            Special::LaneMaskGe => u32::MAX << lane,
            Special::DynamicSmem => self.dynamic_smem,
            Special::TotalSmem => self.static_smem + self.dynamic_smem,
        }
    }
}

impl<'a> Block<'a> {
    pub(crate) fn new(grid: Grid<'a>, block_idx: [u32; 3], smem_bytes: u32, seed: u64) -> Self {
        let threads: u32 = grid.block.iter().product();
        let n_warps = threads.div_ceil(32);
        let frame = &grid.module.functions[grid.function];
        let base = Base { function: grid.function, ..Base::default() };
        let mut warps = Vec::with_capacity(n_warps as usize);
        for index in 0..n_warps {
            let lanes = (threads - index * 32).min(32);
            let alive = ALL >> (32 - lanes);
            let mut warp = Warp::new(index, alive);
            warp.enter(frame, base, ALL, |constant| grid.constants(constant, block_idx, index, 0));
            warp.cur.pc = frame.entry_pc;
            warp.cur.base = base;
            warps.push(warp);
        }
        let alive: Vec<u32> = warps.iter().map(|w| w.alive).collect();
        let races = grid.ledger.map(|_| Box::new(Races::new(grid.linear(block_idx), n_warps, BARRIERS)));
        let env = Env {
            grid,
            memory: grid.memory,
            params: grid.params,
            checks: grid.checks,
            shared: Shared::new(smem_bytes),
            block_idx,
            barriers: vec![Barrier::default(); BARRIERS],
            n_warps,
            alive,
            released: Vec::new(),
            races,
            stats: Stats { blocks: 1, ..Stats::default() },
            sectors: HashSet::new(),
            l1: L1::new(grid.tally.map_or(0, |_| lines_of(&grid.module.target, threads, smem_bytes))),
            budget: 0,
            clock: 0,
            changes: 0,
            hub: Hub::default(),
            rank: 0,
            registers: vec![None; n_warps as usize],
            wgmma_read: vec![0; n_warps as usize],
        };
        Block { env, warps, order: permutation(n_warps as usize, seed), rng: seed, seen_events: 0 }
    }

    /// Gives every warp a turn. `limit` is the instruction budget left for this block.
    pub(crate) fn round(&mut self, limit: &mut u64) -> Result<Round, LaunchError> {
        self.wake_sleepers();
        let mut progress = false;
        for turn in 0..self.order.len() {
            let index = self.order[turn];
            if !self.warps[index].can_run() {
                continue;
            }
            progress = true;
            let random = next_random(&mut self.rng);
            self.env.budget = (SLICE + random % SLICE).min(*limit);
            let start = self.env.budget;
            if start == 0 {
                let warp = &self.warps[index];
                return Err(self.env.error(warp, warp.alive.trailing_zeros(), warp.cur.pc, Fault::TooManyInstructions));
            }
            let starving = self.warps[index].others.len() > 1 && random >> 32 & 3 == 0 || random >> 32 & 7 == 0;
            let result = self.env.run(&mut self.warps[index], starving);
            *limit -= start - self.env.budget;
            if let Err(fault) = result {
                let warp = &self.warps[index];
                return Err(self.env.error(warp, fault.0, warp.cur.pc, fault.1));
            }
            self.env.alive[index] = self.warps[index].alive;
            self.settle()?;
        }
        if self.warps.iter().all(|w| w.alive == 0) {
            self.check_end()?;
            return Ok(Round::Finished);
        }
        if progress || self.unstick()? { Ok(Round::Running) } else { Ok(Round::Stuck) }
    }

    /// Whoever sleeps looks again if something has happened.
    fn wake_sleepers(&mut self) {
        if self.seen_events == self.env.hub.events {
            return;
        }
        self.seen_events = self.env.hub.events;
        for group in self.warps.iter_mut().flat_map(|warp| &mut warp.others) {
            if matches!(group.state, State::Blocked(_)) {
                group.state = State::Running;
            }
        }
    }

    /// Completes barriers whose last missing warps have exited, and wakes who waits.
    fn settle(&mut self) -> Result<(), LaunchError> {
        for id in 0..BARRIERS as u32 {
            if self.env.barriers[id as usize].is_open {
                self.env.try_complete(id);
            }
        }
        for released in std::mem::take(&mut self.env.released) {
            for warp in &mut self.warps {
                let woken = wake(warp, &self.env.grid, &released);
                if let (Some(races), Some(handoff)) = (&mut self.env.races, &released.handoff)
                    && woken != 0
                {
                    races.leave(warp, woken, handoff);
                }
            }
        }
        Ok(())
    }

    /// Lanes of a warp wait for each other at different places: legal for `bar.warp.sync`, an error otherwise.
    fn unstick(&mut self) -> Result<bool, LaunchError> {
        let mut any = false;
        let asleep = self.warps.iter().flat_map(|w| &w.others).any(|g| matches!(g.state, State::Blocked(_)));
        for index in 0..self.warps.len() {
            let warp = &mut self.warps[index];
            if !warp.others.iter().any(|g| g.state == State::Meeting) {
                continue;
            }
            match self.env.meet_apart(warp) {
                Ok(moved) => any |= moved,
                // Who sleeps may still come; if not, that is a deadlock of the cluster.
                Err(_) if asleep => {}
                Err(fault) => {
                    let warp = &self.warps[index];
                    let pc = warp.others.iter().find(|g| g.mask >> fault.0 & 1 == 1).map_or(warp.cur.pc, |g| g.pc);
                    return Err(self.env.error(warp, fault.0, pc, fault.1));
                }
            }
        }
        if any {
            self.settle()?;
        }
        Ok(any)
    }

    fn check_end(&self) -> Result<(), LaunchError> {
        let open = self.env.barriers.iter().position(|b| b.is_open);
        match open {
            Some(id) if self.env.checks.barriers => {
                let warp = &self.warps[0];
                let detail = "threads arrived, but the block ended before it completed".to_owned();
                Err(self.env.error(warp, 0, warp.cur.pc, Fault::Barrier { barrier: id as u32, detail }))
            }
            _ => Ok(()),
        }
    }

    /// One line per group that cannot go on; `describe` tells what it sleeps for.
    pub(crate) fn waiting(&self, describe: impl Fn(Wait) -> String) -> Vec<String> {
        let mut waiting = Vec::new();
        for warp in &self.warps {
            for group in &warp.others {
                let line = self.env.grid.module.code[group.pc as usize].line;
                let what = match group.state {
                    State::Barrier(id) => {
                        let barrier = &self.env.barriers[id as usize];
                        let arrived: u32 = barrier.arrived.iter().map(|m| m.count_ones()).sum();
                        let want = barrier.count.map_or("all".to_owned(), |n| n.to_string());
                        format!("barrier {id} ({arrived} of {want} threads arrived)")
                    }
                    State::Meeting => "other lanes of its warp".to_owned(),
                    State::Blocked(wait) => describe(wait),
                    State::Running => "nothing".to_owned(),
                };
                let source =
                    self.env.grid.module.source(group.pc).map_or(String::new(), |(f, l)| format!(" ({f}:{l})"));
                waiting.push(format!(
                    "warp {} lanes {:#010x} at PTX line {line}{source} for {what}",
                    warp.index, group.mask
                ));
            }
        }
        waiting
    }
}

/// Lets the groups that wait at a completed barrier go on; their lanes.
fn wake(warp: &mut Warp, grid: &Grid<'_>, released: &Released) -> u32 {
    let &Released { id, n_true, n_all, .. } = released;
    let mut woken = 0;
    let mut groups = std::mem::take(&mut warp.others);
    for group in &mut groups {
        if group.state != State::Barrier(id) {
            continue;
        }
        if let crate::decode::op::Op::Bar(bar) = &grid.module.code[group.pc as usize].op {
            let preds = group.base.preds;
            let (d, yes) = match bar.kind {
                BarKind::RedAnd { d, .. } => (Some(d), n_true == n_all),
                BarKind::RedOr { d, .. } => (Some(d), n_true != 0),
                BarKind::RedPopc { d, .. } => {
                    let row = &mut warp.r32[(group.base.r32 + d) as usize];
                    for (_, slot) in row.iter_mut().enumerate().filter(|(lane, _)| group.mask >> lane & 1 == 1) {
                        *slot = n_true;
                    }
                    (None, false)
                }
                BarKind::Sync | BarKind::Arrive => (None, false),
            };
            if let Some(d) = d {
                let slot = &mut warp.preds[(preds + d) as usize];
                *slot = *slot & !group.mask | if yes { group.mask } else { 0 };
            }
        }
        woken |= group.mask;
        group.state = State::Running;
        group.pc += 1;
    }
    warp.others = groups;
    woken
}

impl Env<'_> {
    /// Number of its block in the grid.
    pub(crate) fn linear(&self) -> u32 {
        self.grid.linear(self.block_idx)
    }

    /// Lanes in `lanes` of `warp` arrive at barrier `id`; `yes` are those whose predicate holds.
    pub(crate) fn arrive(
        &mut self,
        warp: &Warp,
        id: u32,
        count: Option<u32>,
        lanes: u32,
        yes: u32,
    ) -> Result<(), Fault> {
        let bad = |detail: String| Fault::Barrier { barrier: id, detail };
        if id as usize >= BARRIERS {
            return Err(bad(format!("there are only {BARRIERS} barriers")));
        }
        let threads = self.n_warps * 32;
        match count {
            Some(n) if n == 0 || n % 32 != 0 => return Err(bad(format!("a count of {n} threads is not whole warps"))),
            Some(n) if n > threads => return Err(bad(format!("waits for {n} threads, the block has {threads}"))),
            _ => {}
        }
        self.alive[warp.index as usize] = warp.alive;
        let n_warps = self.n_warps as usize;
        let barrier = &mut self.barriers[id as usize];
        let opens = !barrier.is_open;
        if opens {
            *barrier = Barrier { arrived: vec![0; n_warps], count, n_true: 0, n_all: 0, is_open: true };
        } else if barrier.count != count {
            let name = |c: Option<u32>| c.map_or("all threads".to_owned(), |n| format!("{n} threads"));
            return Err(bad(format!("one warp waits for {}, another for {}", name(barrier.count), name(count))));
        }
        let seen = &mut barrier.arrived[warp.index as usize];
        if *seen & lanes != 0 {
            return Err(bad("a thread arrives a second time before the barrier completes".into()));
        }
        *seen |= lanes;
        barrier.n_true += yes.count_ones();
        barrier.n_all += lanes.count_ones();
        if let Some(races) = &mut self.races {
            races.arrive(warp.index, id, opens);
        }
        self.try_complete(id);
        Ok(())
    }

    /// Completes barrier `id` if everyone it waits for is there. Exited threads count as arrived.
    pub(crate) fn try_complete(&mut self, id: u32) {
        let barrier = &mut self.barriers[id as usize];
        let whole = |(&arrived, &alive): (&u32, &u32)| alive & !arrived == 0;
        let done = match barrier.count {
            None => barrier.arrived.iter().zip(&self.alive).all(whole),
            Some(count) => {
                let present = barrier
                    .arrived
                    .iter()
                    .zip(&self.alive)
                    .map(|pair| if *pair.0 != 0 && whole(pair) { 32 } else { pair.0.count_ones() });
                present.sum::<u32>() >= count
            }
        };
        if done {
            barrier.is_open = false;
            let handoff = self.races.as_ref().and_then(|races| races.handoff(id));
            self.released.push(Released { id, n_true: barrier.n_true, n_all: barrier.n_all, handoff });
        }
    }

    /// A fault with everything known about its place.
    #[cold]
    pub(crate) fn error(&self, warp: &Warp, lane: u32, pc: u32, fault: Fault) -> LaunchError {
        let module = self.grid.module;
        let at = |pc: u32| Place {
            kernel: self.grid.kernel.to_owned(),
            ptx_line: module.code.get(pc as usize).map_or(0, |i| i.line),
            source: module.source(pc),
            block: self.block_idx,
            thread: self.grid.thread(warp.index, lane.min(31)),
        };
        let place = Box::new(at(pc));
        match fault {
            Fault::Memory { kind, access, space, address, bytes } => match kind {
                MemoryFault::Misaligned => LaunchError::Misaligned { place, access, space, address, bytes },
                MemoryFault::Uninitialised => {
                    let object = match space {
                        crate::Space::Shared => self.grid.shared_object(address & ((1 << PEER_SHIFT) - 1)),
                        _ => self.grid.global_object(address),
                    };
                    LaunchError::Uninitialised { place, access, space, address, bytes, object }
                }
                MemoryFault::OutOfBounds if space == crate::Space::Global && self.memory.is_freed(address) => {
                    let allocation = self.memory.nearest(address);
                    LaunchError::UseAfterFree { place, access, address, bytes, allocation }
                }
                MemoryFault::OutOfBounds => {
                    let nearest = match space {
                        crate::Space::Shared => format!("the block has {} B of shared memory", self.shared.bytes),
                        crate::Space::Local => format!("the thread has {} B of local memory", warp.local.len() * 4),
                        crate::Space::Param => format!("the kernel has {} B of parameters", self.params.len()),
                        _ => match address & crate::memory::TAG_MASK {
                            0 => self.memory.nearest(address),
                            SHARED_TAG => "an address of shared memory".into(),
                            LOCAL_TAG => "an address of local memory".into(),
                            _ => "no allocation".into(),
                        },
                    };
                    LaunchError::OutOfBounds { place, access, space, address, bytes, nearest }
                }
            },
            Fault::At { pc, fault } => self.error(warp, lane, pc, *fault),
            Fault::Mbarrier { address, detail } => LaunchError::Mbarrier { place, address, detail },
            Fault::Assertion { message } => LaunchError::Assertion { place, message },
            Fault::AsyncCopy { detail } => LaunchError::AsyncCopy { place, detail },
            Fault::Barrier { barrier, detail } => LaunchError::Barrier { place, barrier, detail },
            Fault::WarpSync { detail } => LaunchError::WarpSync { place, detail },
            Fault::Accumulator { access, accumulator, pc } => {
                let finding = crate::Early { place: *place, access, accumulator, multiplication: at(pc) };
                LaunchError::Accumulator { finding: Box::new(finding) }
            }
            Fault::Race(conflict) => self.race(*place, &conflict),
            Fault::Wgmma { detail } => LaunchError::Wgmma { place, detail },
            Fault::Ended { access, address, of } => LaunchError::Ended { place, access, address, of },
            Fault::Trap => LaunchError::Trap { place },
            Fault::TooManyInstructions => LaunchError::TooManyInstructions { place, limit: self.grid.max_instructions },
            Fault::StackOverflow => LaunchError::StackOverflow { place, limit_bytes: crate::decode::MAX_LOCAL_BYTES },
        }
    }
}
