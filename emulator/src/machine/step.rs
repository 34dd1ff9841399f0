//! What does one instruction do to a warp? Dispatch, branches, calls, meeting points.

use super::access::{Fault, Lane};
use super::block::Env;
use super::warp::{ALL, LANES, State, Warp};
use crate::decode::op::*;
use crate::memory::{LOCAL_TAG, PARAM_TAG, SHARED_TAG, TAG_MASK};

/// What to do after an instruction.
pub(crate) enum Next {
    /// Go on with the following one.
    Advance,
    /// The running group changed or jumped.
    Moved,
}

pub(crate) fn fail<T>(lane: u32, fault: Fault) -> Lane<T> {
    Err(Box::new((lane, fault)))
}

/// Whether an instruction needs all lanes of a warp, named by no mask.
fn needs_all(op: &Op) -> bool {
    matches!(op, Op::LdMatrix(_) | Op::MovMatrix { .. } | Op::Mma(_) | Op::WmmaMove(_) | Op::WmmaMma(_))
}

impl Env<'_> {
    /// Runs `warp` until it has to wait or its budget is spent. `starving` lets the oldest group go first.
    pub(crate) fn run(&mut self, warp: &mut Warp, starving: bool) -> Lane<()> {
        let module = self.grid.module;
        if (warp.cur.mask == 0 || starving) && !warp.regroup(starving) {
            return Ok(());
        }
        while self.budget > 0 {
            let pc = warp.cur.pc;
            if pc >= warp.limit {
                if !warp.regroup(false) {
                    return Ok(());
                }
                continue;
            }
            let instr = &module.code[pc as usize];
            let m = warp.cur.mask & warp.guard(instr.guard);
            self.budget -= 1;
            self.clock += 1;
            self.stats.warp_instructions += 1;
            self.stats.by_class[instr.class as usize] += 1;
            self.stats.lane_instructions += u64::from(m.count_ones());
            if m == 0 {
                warp.cur.pc = pc + 1;
                continue;
            }
            match self.checked_step(warp, &instr.op, m)? {
                Next::Advance => warp.cur.pc = pc + 1,
                Next::Moved => {
                    let alone = warp.others.is_empty() && warp.cur.mask != 0 && warp.cur.state == State::Running;
                    if alone {
                        warp.limit = u32::MAX;
                    } else if warp.cur.mask != 0 && warp.cur.state == State::Running && starving {
                        // Stay with the group that waited so long, whatever lies lower in the text.
                        let ahead = warp.others.iter().filter(|g| g.pc > warp.cur.pc && g.stack == warp.cur.stack);
                        warp.limit = ahead
                            .filter(|g| !matches!(g.state, State::Barrier(_)))
                            .map(|g| g.pc)
                            .min()
                            .unwrap_or(u32::MAX);
                    } else if !warp.regroup(false) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn step(&mut self, warp: &mut Warp, op: &Op, m: u32) -> Lane<Next> {
        match *op {
            Op::Un32(op, d, a) => warp.un32(op, m, d, a),
            Op::Bin32(op, d, a, b) => warp.bin32(op, m, d, a, b),
            Op::Tri32(op, d, s) => warp.tri32(op, m, d, s),
            Op::F32Bin(op, fm, d, a, b) => warp.f32_bin(op, fm, m, d, (a, b)),
            Op::F32Fma(fm, d, s) => warp.f32_fma(fm, m, d, s),
            Op::Un64(op, d, a) => warp.un64(op, m, d, a),
            Op::Bin64(op, d, a, b) => warp.bin64(op, m, d, a, b),
            Op::Ld { elem, dst, addr } => {
                self.stats.loads += u64::from(m.count_ones());
                self.exec_load(warp, m, elem, dst, addr)?;
            }
            Op::St { elem, src, addr } => {
                self.stats.stores += u64::from(m.count_ones());
                self.exec_store(warp, m, elem, src, addr)?;
            }
            Op::Bra(target) => return Ok(Self::branch(warp, m, target)),
            _ => return self.rare(warp, op, m),
        }
        Ok(Next::Advance)
    }

    fn rare(&mut self, warp: &mut Warp, op: &Op, m: u32) -> Lane<Next> {
        if warp.other_int(op, m) {
            return Ok(Next::Advance);
        }
        match *op {
            Op::F32Un(op, fm, d, a) => warp.f32_un(op, fm, m, d, a),
            Op::F64Bin(op, d, a, b) => warp.f64_bin(op, m, d, a, b),
            Op::F64Un(op, d, a) => warp.f64_un(op, m, d, a),
            Op::F64Fma(d, s) => {
                warp.wide3(m, d, s, |x, y, z| f64::from_bits(x).mul_add(f64::from_bits(y), f64::from_bits(z)).to_bits())
            }
            Op::F64Directed(op, rnd, d, s) => warp.f64_directed((op, rnd), m, d, s),
            Op::Half(h, d, s) => warp.half_op(h, m, d, s),
            Op::Cvt(c) => warp.cvt(c, m),
            Op::CvtPack { half, rnd, relu, d, hi, lo } => warp.cvt_pack((half, rnd, relu), m, d, hi, lo),
            Op::CvtFp8(c) => warp.cvt_fp8(c, m),
            Op::TestP { test, d, a, wide } => warp.testp(test, m, d, a, wide),
            Op::Atom(ref atom) => {
                self.stats.atomics += u64::from(m.count_ones());
                self.exec_atom(warp, m, atom)?;
            }
            Op::IsSpace { space, d, a } => {
                let tag = match space {
                    MemSpace::Shared => SHARED_TAG,
                    MemSpace::Local => LOCAL_TAG,
                    MemSpace::Param => PARAM_TAG,
                    MemSpace::Global | MemSpace::Generic => 0,
                };
                let row = *warp.get64(a);
                let found = (0..LANES).filter(|&i| row[i] & TAG_MASK == tag).fold(0, |acc, i| acc | 1 << i);
                warp.set_pred(d, m, found);
            }
            Op::CpAsync { .. } => self.exec_cp_async(warp, m, op)?,
            Op::CpCommit => {
                for (lane, n) in warp.committed.iter_mut().enumerate() {
                    *n += m >> lane & 1;
                }
            }
            Op::CpWait(keep) => {
                self.land_arrivals(warp, m)?;
                self.exec_cp_wait(warp, m, keep);
            }
            Op::ActiveMask { d } => warp.fill32(m, d, |_, _| m),
            Op::Clock { d, wide } => {
                let clock = self.clock;
                if wide {
                    warp.fill64(m, d, |_, _| clock);
                } else {
                    warp.fill32(m, d, |_, _| clock as u32);
                }
            }
            Op::LdMatrix(_) | Op::MovMatrix { .. } | Op::Mma(_) | Op::WmmaMove(_) | Op::WmmaMma(_) => {
                if !self.together(warp, m, warp.alive) {
                    return Ok(Next::Moved);
                }
                if m != ALL && self.checks.barriers {
                    let detail = format!("needs all 32 lanes of a warp, of which lanes {:#010x} have ended", !m);
                    return fail(m.trailing_zeros(), Fault::WarpSync { detail });
                }
                self.tensor(warp, op, m)?;
            }
            Op::Fence(reach) => {
                if let Some(races) = self.races.as_deref_mut() {
                    races.fence(warp.index, reach);
                }
            }
            Op::Hopper(ref op) => return self.hopper(warp, op, m),
            Op::Warp { op, mask } => return self.meet(warp, op, mask, m),
            Op::Bar(bar) => return self.barrier(warp, bar, m),
            Op::BrxIdx { idx, ref targets } => return Self::indexed(warp, m, idx, targets),
            Op::Call(ref call) => return self.call(warp, call, m),
            Op::Ret => return self.ret(warp, m),
            Op::Exit => {
                self.end(warp, m)?;
                return Ok(Next::Moved);
            }
            Op::Trap => return fail(m.trailing_zeros(), Fault::Trap),
            _ => {}
        }
        Ok(Next::Advance)
    }

    fn branch(warp: &mut Warp, m: u32, target: u32) -> Next {
        if m != warp.cur.mask {
            let next = warp.cur.pc + 1;
            if target == next {
                return Next::Advance;
            }
            warp.split(m, target, State::Running);
            warp.cur.pc = next;
        } else {
            warp.cur.pc = target;
        }
        Next::Moved
    }

    fn indexed(warp: &mut Warp, m: u32, idx: R, targets: &[u32]) -> Lane<Next> {
        Self::leave_behind(warp, m);
        let row = *warp.get32(idx);
        let mut rest = m;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let value = row[first as usize];
            let same = (0..LANES).filter(|&i| rest >> i & 1 == 1 && row[i] == value).fold(0u32, |acc, i| acc | 1 << i);
            rest &= !same;
            let Some(&target) = targets.get(value as usize) else {
                let detail = format!("brx.idx with index {value} of {} targets", targets.len());
                return fail(first, Fault::WarpSync { detail });
            };
            if rest == 0 {
                warp.cur.pc = target;
            } else {
                warp.split(same, target, State::Running);
            }
        }
        Ok(Next::Moved)
    }

    /// Lanes whose guard is false go on without the others.
    pub(crate) fn leave_behind(warp: &mut Warp, m: u32) {
        let rest = warp.cur.mask & !m;
        if rest != 0 {
            let next = warp.cur.pc + 1;
            warp.split(rest, next, State::Running);
        }
    }

    /// True if all lanes in `needed` are among `m`; else parks the running group until they come.
    pub(crate) fn together(&self, warp: &mut Warp, m: u32, needed: u32) -> bool {
        let missing = needed & !m;
        if missing == 0 {
            warp.owing &= !needed;
            return true;
        }
        Self::leave_behind(warp, m);
        warp.cur.state = State::Meeting;
        let leaving = warp.others.iter().filter(|g| g.stack.is_empty() && self.leads_out(g.pc));
        warp.owing |= missing & !leaving.fold(0, |all, g| all | g.mask);
        false
    }

    /// Whether nothing but the end comes at `pc`: lanes that return early do not count as missing.
    fn leads_out(&self, mut pc: u32) -> bool {
        // As many jumps as compilers leave behind one another.
        for _ in 0..8 {
            let Some(instr) = self.grid.module.code.get(pc as usize).filter(|i| i.guard == 0) else { return false };
            match instr.op {
                Op::Exit | Op::Ret => return true,
                Op::Bra(target) => pc = target,
                Op::Nop => pc += 1,
                _ => return false,
            }
        }
        false
    }

    /// Lanes `m` of the running group end.
    pub(crate) fn end(&self, warp: &mut Warp, m: u32) -> Lane<()> {
        Self::leave_behind(warp, m);
        let late = warp.owing & m;
        let code = &self.grid.module.code;
        let needs = |pc: u32| matches!(code[pc as usize].op, Op::Warp { .. }) || needs_all(&code[pc as usize].op);
        let waiting = warp.others.iter().find(|g| g.state == State::Meeting && needs(g.pc));
        if let Some(group) = waiting.filter(|_| late != 0 && self.checks.barriers) {
            let detail =
                format!("lanes {:#010x} wait here for lanes {late:#010x}, which end without coming", group.mask);
            let fault = Box::new(Fault::WarpSync { detail });
            return fail(group.mask.trailing_zeros(), Fault::At { pc: group.pc, fault });
        }
        self.check_stores(warp, m)?;
        warp.exit(m);
        Ok(())
    }

    fn meet(&mut self, warp: &mut Warp, op: WarpOp, mask: R, m: u32) -> Lane<Next> {
        let masks = *warp.get32(mask);
        let class = |lane: usize| {
            (0..LANES).filter(|&i| m >> i & 1 == 1 && masks[i] == masks[lane]).fold(0u32, |acc, i| acc | 1 << i)
        };
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            // Usually all lanes name one mask; lanes with different masks are separate groups that happen to meet.
            let same = class(lane);
            let stranger = same & !masks[lane];
            if stranger != 0 {
                let detail =
                    format!("lane executes a warp-wide instruction whose mask {:#010x} leaves it out", masks[lane]);
                return fail(stranger.trailing_zeros(), Fault::WarpSync { detail });
            }
            if !self.together(warp, same, masks[lane] & warp.alive) {
                // Only the incomplete class waits; what is left of the group runs on from here.
                let others = m & !same;
                if others != 0 {
                    let pc = warp.cur.pc;
                    let skipped: u32 = warp.others.last().map_or(0, |g| g.mask);
                    if let Some(behind) = warp.others.last_mut() {
                        behind.mask = skipped & !others;
                    }
                    warp.others.retain(|g| g.mask != 0);
                    let mut group = warp.cur.clone();
                    group.mask = others;
                    group.pc = pc;
                    group.state = State::Meeting;
                    warp.others.push(group);
                    // Classes that are complete must not be held up: they meet again as a group of their own.
                    return self.meet_classes(warp, op, &masks);
                }
                return Ok(Next::Moved);
            }
            rest &= !same;
        }
        rest = m;
        while rest != 0 {
            let same = class(rest.trailing_zeros() as usize);
            self.warp_op(warp, op, same)?;
            rest &= !same;
        }
        Ok(Next::Advance)
    }

    fn warp_op(&mut self, warp: &mut Warp, op: WarpOp, lanes: u32) -> Lane<()> {
        // Only `bar.warp.sync` orders memory; shuffles and votes just meet.
        if let (WarpOp::Sync, Some(races)) = (op, self.races.as_deref_mut()) {
            races.sync_lanes(warp.index, lanes, warp.alive);
        }
        let astray = warp.warp_op(op, lanes);
        // Up, down and crosswise the ends read beyond as a matter of course, and drop what they got.
        let is_named = matches!(op, WarpOp::Shfl { mode: ShflMode::Idx, .. });
        if astray != 0 && is_named && self.checks.barriers {
            let detail =
                format!("lanes {astray:#010x} ask for values of lanes that do not take part, lanes {lanes:#010x} do");
            return fail(astray.trailing_zeros(), Fault::WarpSync { detail });
        }
        Ok(())
    }

    /// Several masks meet at one instruction and the running one is incomplete: complete ones execute now.
    fn meet_classes(&mut self, warp: &mut Warp, op: WarpOp, masks: &[u32; LANES]) -> Lane<Next> {
        let Some(mut waiting) = warp.others.pop() else { return Ok(Next::Moved) };
        let mut rest = waiting.mask;
        let mut ready = 0;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            let same =
                (0..LANES).filter(|&i| rest >> i & 1 == 1 && masks[i] == masks[lane]).fold(0u32, |acc, i| acc | 1 << i);
            rest &= !same;
            if masks[lane] & warp.alive & !same == 0 {
                self.warp_op(warp, op, same)?;
                ready |= same;
            }
        }
        waiting.mask &= !ready;
        if ready != 0 {
            let mut moved = waiting.clone();
            moved.mask = ready;
            moved.pc += 1;
            moved.state = State::Running;
            warp.others.push(moved);
        }
        if waiting.mask != 0 {
            warp.others.push(waiting);
        }
        Ok(Next::Moved)
    }

    fn barrier(&mut self, warp: &mut Warp, bar: Bar, m: u32) -> Lane<Next> {
        if bar.aligned && !self.together(warp, m, warp.alive) {
            return Ok(Next::Moved);
        }
        self.arrive_at(warp, bar, m)?;
        if matches!(bar.kind, BarKind::Arrive) {
            return Ok(Next::Advance);
        }
        Self::leave_behind(warp, m);
        warp.cur.state = State::Barrier(warp.get32(bar.id)[m.trailing_zeros() as usize]);
        self.stats.barriers += 1;
        Ok(Next::Moved)
    }

    fn arrive_at(&mut self, warp: &mut Warp, bar: Bar, m: u32) -> Lane<()> {
        let first = m.trailing_zeros() as usize;
        let (id, count) = (warp.get32(bar.id)[first], bar.count.map(|r| warp.get32(r)[first]));
        let yes = match bar.kind {
            BarKind::RedPopc { a, .. } | BarKind::RedAnd { a, .. } | BarKind::RedOr { a, .. } => warp.pred(a) & m,
            BarKind::Sync | BarKind::Arrive => 0,
        };
        self.arrive(warp, id, count, m, yes).map_err(|fault| Box::new((first as u32, fault)))
    }

    /// All groups of a warp are stuck at different places; true if some could go on after all.
    pub(crate) fn meet_apart(&mut self, warp: &mut Warp) -> Lane<bool> {
        let code = &self.grid.module.code;
        let meeting: Vec<usize> = (0..warp.others.len()).filter(|&i| warp.others[i].state == State::Meeting).collect();
        let mut at_sync = 0;
        let mut wanted = 0;
        for &i in &meeting {
            let group = &warp.others[i];
            if let Op::Warp { op: WarpOp::Sync, mask } = code[group.pc as usize].op {
                at_sync |= group.mask;
                wanted |= warp.r32[(group.base.r32 + mask) as usize][group.mask.trailing_zeros() as usize];
            }
        }
        if at_sync != 0 && wanted & warp.alive & !at_sync == 0 {
            if let Some(races) = self.races.as_deref_mut() {
                races.sync_lanes(warp.index, at_sync, warp.alive);
            }
            for i in meeting {
                let group = &mut warp.others[i];
                if matches!(code[group.pc as usize].op, Op::Warp { op: WarpOp::Sync, .. }) {
                    group.pc += 1;
                    group.state = State::Running;
                }
            }
            return Ok(true);
        }
        let Some(&index) = meeting.first() else { return Ok(false) };
        let group = warp.others[index].clone();
        let lane = group.mask.trailing_zeros();
        let elsewhere: Vec<String> = warp
            .others
            .iter()
            .filter(|g| g.pc != group.pc)
            .map(|g| format!("lanes {:#010x} wait at PTX line {}", g.mask, code[g.pc as usize].line))
            .collect();
        let detail = format!(
            "lanes {:#010x} need the other lanes of their warp here, but {}",
            group.mask,
            if elsewhere.is_empty() { "these are not coming".to_owned() } else { elsewhere.join(", ") }
        );
        match code[group.pc as usize].op {
            Op::Bar(bar) if !self.checks.barriers => {
                let cur = std::mem::replace(&mut warp.cur, group);
                warp.others.swap_remove(index);
                let mask = warp.cur.mask;
                let result = self.arrive_at(warp, bar, mask);
                let mut group = std::mem::replace(&mut warp.cur, cur);
                result?;
                if matches!(bar.kind, BarKind::Arrive) {
                    group.pc += 1;
                    group.state = State::Running;
                } else {
                    group.state = State::Barrier(warp.r32[(group.base.r32 + bar.id) as usize][lane as usize]);
                }
                warp.others.push(group);
                Ok(true)
            }
            Op::Bar(bar) => {
                let barrier = warp.r32[(group.base.r32 + bar.id) as usize][lane as usize];
                fail(lane, Fault::Barrier { barrier, detail })
            }
            _ => fail(lane, Fault::WarpSync { detail }),
        }
    }
}
