//! What is a warp? Registers as rows of 32 lanes, and groups of lanes that share a program counter.
//!
//! Lanes that diverge form groups. The group deepest in calls, then lowest in the text, runs first, and merges
//! with any group it reaches: compilers lay code out so that this reconverges where the branch ends. Instructions
//! that need several lanes (`shfl.sync`, `bar.warp.sync`, `mma.sync`, ...) park a group until all of them stand at
//! the same place. Now and then the group that waited longest goes first, so a lane spinning on a lock cannot
//! starve the lane that holds it.

use crate::decode::Frame;
use crate::decode::op::{Const, PSrc, R};

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// All lanes.
pub(crate) const ALL: u32 = u32::MAX;

pub(crate) type Row32 = [u32; LANES];
pub(crate) type Row64 = [u64; LANES];

/// What a group of lanes is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Waits for other lanes of the warp at an instruction that needs them.
    Meeting,
    /// Has arrived at this barrier.
    Barrier(u32),
    /// Runs its instruction again after the next event.
    Blocked(Wait),
}

/// What a group sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The end of phase `phase` (0 or 1) of the mbarrier at offset `at` of block `rank`.
    Mbarrier { rank: u32, at: u32, phase: u32 },
    /// Its bulk copies.
    Bulk { keep: u32, read: bool },
    /// The other threads of the cluster.
    Cluster,
    /// The other warps of the warpgroup, to read what their `wgmma` groups below this one multiply.
    Wgmma(u32),
}

/// Where a frame's registers start, and where to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Base {
    pub(crate) function: usize,
    pub(crate) r32: u32,
    pub(crate) r64: u32,
    pub(crate) preds: u32,
    pub(crate) local: u32,
}

/// A caller waiting for its callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Return {
    pub(crate) base: Base,
    /// The call instruction.
    pub(crate) call_pc: u32,
}

/// Lanes that share a program counter and a call stack.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    pub(crate) state: State,
    pub(crate) base: Base,
    pub(crate) stack: Vec<Return>,
    /// Turn in which it last ran.
    pub(crate) last_run: u64,
}

/// A copy that `cp.async` has started and nobody has waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) lane: u8,
    pub(crate) bytes: u8,
    pub(crate) written: u16,
    pub(crate) group: u32,
    pub(crate) dst: u32,
    pub(crate) data: [u8; 16],
}

/// One warp of a block.
pub(crate) struct Warp {
    pub(crate) index: u32,
    pub(crate) r32: Vec<Row32>,
    pub(crate) r64: Vec<Row64>,
    pub(crate) preds: Vec<u32>,
    /// Local memory: word by word, a row of lanes each.
    pub(crate) local: Vec<Row32>,
    /// Lanes that exist and have not exited.
    pub(crate) alive: u32,
    /// The running group; its mask is 0 when none runs.
    pub(crate) cur: Group,
    pub(crate) others: Vec<Group>,
    /// Program counter at which the running group meets another.
    pub(crate) limit: u32,
    /// Strong reads, and atomics that changed nothing, since somebody last asked.
    pub(crate) polls: u32,
    /// Lanes that others of the warp wait for, and that have more to do than to end.
    pub(crate) owing: u32,
    /// Carry flags.
    pub(crate) carry: u32,
    pub(crate) pending: Vec<Pending>,
    /// Groups of asynchronous copies each lane has committed.
    pub(crate) committed: Row32,
    pub(crate) turn: u64,
    /// Bulk copies each lane has started and not waited for, and groups it has committed.
    pub(crate) bulk: Vec<super::bulk::Grouped>,
    pub(crate) bulk_committed: Row32,
    pub(crate) wgmma: super::wgmma::Queue,
    /// Lanes whose wait for an mbarrier must return, done or not.
    pub(crate) expired: u32,
    /// Lanes that have arrived at the cluster barrier and not waited, and the barriers completed when they did.
    pub(crate) cluster_arrived: u32,
    pub(crate) cluster_generation: Row64,
}

fn set_row<T: Copy>(row: &mut [T; LANES], mask: u32, values: &[T; LANES]) {
    if mask == ALL {
        *row = *values;
        return;
    }
    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
        row[lane] = values[lane];
    }
}

impl Warp {
    /// A warp whose lanes in `alive` are about to run the kernel.
    pub(crate) fn new(index: u32, alive: u32) -> Self {
        let cur =
            Group { pc: 0, mask: alive, state: State::Running, base: Base::default(), stack: Vec::new(), last_run: 0 };
        Warp {
            index,
            r32: Vec::new(),
            r64: Vec::new(),
            preds: Vec::new(),
            local: Vec::new(),
            alive,
            cur,
            others: Vec::new(),
            limit: u32::MAX,
            polls: 0,
            owing: 0,
            carry: 0,
            pending: Vec::new(),
            committed: [0; LANES],
            turn: 0,
            bulk: Vec::new(),
            bulk_committed: [0; LANES],
            wgmma: super::wgmma::Queue::default(),
            expired: 0,
            cluster_arrived: 0,
            cluster_generation: [0; LANES],
        }
    }

    /// Makes room for `frame` above `base` and writes its constants for lanes in `mask`.
    pub(crate) fn enter(&mut self, frame: &Frame, base: Base, mask: u32, values: impl Fn(Const) -> Row64) {
        let need = |base: u32, n: u32| (base + n) as usize;
        if self.r32.len() < need(base.r32, frame.n32) {
            self.r32.resize(need(base.r32, frame.n32), [0; LANES]);
        }
        if self.r64.len() < need(base.r64, frame.n64) {
            self.r64.resize(need(base.r64, frame.n64), [0; LANES]);
        }
        if self.preds.len() < need(base.preds, frame.n_preds) {
            self.preds.resize(need(base.preds, frame.n_preds), 0);
        }
        let words = (base.local + frame.local_bytes).div_ceil(4) as usize;
        if self.local.len() < words {
            self.local.resize(words, [0xffff_ffff; LANES]);
        }
        for &(idx, constant) in &frame.consts32 {
            set_row(&mut self.r32[(base.r32 + idx) as usize], mask, &values(constant).map(|x| x as u32));
        }
        for &(idx, constant) in &frame.consts64 {
            set_row(&mut self.r64[(base.r64 + idx) as usize], mask, &values(constant));
        }
        for &(idx, constant) in &frame.const_preds {
            let slot = &mut self.preds[(base.preds + idx) as usize];
            *slot = *slot & !mask | if constant { mask } else { 0 };
        }
    }

    #[inline(always)]
    pub(crate) fn get32(&self, r: R) -> &Row32 {
        &self.r32[(self.cur.base.r32 + r) as usize]
    }

    #[inline(always)]
    pub(crate) fn get64(&self, r: R) -> &Row64 {
        &self.r64[(self.cur.base.r64 + r) as usize]
    }

    #[inline(always)]
    pub(crate) fn set32(&mut self, r: R, mask: u32, value: &Row32) {
        let row = &mut self.r32[(self.cur.base.r32 + r) as usize];
        if mask == ALL {
            *row = *value;
        } else {
            for lane in 0..LANES {
                let keep = (mask >> lane & 1).wrapping_sub(1);
                row[lane] = row[lane] & keep | value[lane] & !keep;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn set64(&mut self, r: R, mask: u32, value: &Row64) {
        let row = &mut self.r64[(self.cur.base.r64 + r) as usize];
        if mask == ALL {
            *row = *value;
        } else {
            for lane in 0..LANES {
                let keep = u64::from(mask >> lane & 1).wrapping_sub(1);
                row[lane] = row[lane] & keep | value[lane] & !keep;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn pred(&self, p: PSrc) -> u32 {
        let value = self.preds[(self.cur.base.preds + p.idx) as usize];
        if p.neg { !value } else { value }
    }

    #[inline(always)]
    pub(crate) fn set_pred(&mut self, r: R, mask: u32, value: u32) {
        let slot = &mut self.preds[(self.cur.base.preds + r) as usize];
        *slot = *slot & !mask | value & mask;
    }

    /// Guard of an instruction as a lane mask.
    #[inline(always)]
    pub(crate) fn guard(&self, code: u32) -> u32 {
        if code == 0 {
            return ALL;
        }
        let code = code - 1;
        self.pred(PSrc { idx: code / 2, neg: code & 1 == 1 })
    }

    /// True while some group can execute its next instruction.
    pub(crate) fn can_run(&self) -> bool {
        let runs = |g: &Group| g.mask != 0 && g.state == State::Running;
        runs(&self.cur) || self.others.iter().any(runs)
    }

    /// Merges groups that stand at the same place and picks the next to run; false if none can.
    pub(crate) fn regroup(&mut self, oldest_first: bool) -> bool {
        if self.cur.mask != 0 {
            let cur = self.cur.clone();
            self.others.push(cur);
            self.cur.mask = 0;
        }
        let mut merged: Vec<Group> = Vec::with_capacity(self.others.len());
        for group in self.others.drain(..) {
            let twin = merged.iter_mut().find(|g| {
                g.pc == group.pc
                    && g.base == group.base
                    && !matches!(g.state, State::Barrier(_))
                    && !matches!(group.state, State::Barrier(_))
                    && g.stack == group.stack
            });
            match twin {
                Some(twin) => {
                    twin.mask |= group.mask;
                    twin.state = State::Running;
                    twin.last_run = twin.last_run.min(group.last_run);
                }
                None => merged.push(group),
            }
        }
        self.others = merged;
        let ready = self.others.iter().enumerate().filter(|(_, g)| g.state == State::Running);
        let best = if oldest_first {
            ready.min_by_key(|(_, g)| g.last_run).map(|(i, _)| i)
        } else {
            ready.min_by_key(|(_, g)| (std::cmp::Reverse(g.stack.len()), g.pc)).map(|(i, _)| i)
        };
        let Some(best) = best else { return false };
        self.cur = self.others.swap_remove(best);
        self.turn += 1;
        self.cur.last_run = self.turn;
        self.limit = self
            .others
            .iter()
            .filter(|g| {
                g.pc > self.cur.pc && g.stack.len() == self.cur.stack.len() && !matches!(g.state, State::Barrier(_))
            })
            .map(|g| g.pc)
            .min()
            .unwrap_or(u32::MAX);
        true
    }

    /// Splits lanes in `mask` off the running group, to go on at `pc`.
    pub(crate) fn split(&mut self, mask: u32, pc: u32, state: State) {
        let mut group = self.cur.clone();
        group.mask = mask;
        group.pc = pc;
        group.state = state;
        self.cur.mask &= !mask;
        self.others.push(group);
    }

    /// Lanes in `mask` are done for good.
    pub(crate) fn exit(&mut self, mask: u32) {
        self.alive &= !mask;
        self.cur.mask &= !mask;
        // Whoever waited for them need not any more.
        for group in &mut self.others {
            if group.state == State::Meeting {
                group.state = State::Running;
            }
        }
    }
}
