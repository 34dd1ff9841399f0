//! What do instructions of compute capability 9.0 do to a warp? Dispatch, and what sleeps until when.

use super::access::{Fault, Lane};
use super::block::Env;
use super::step::Next;
use super::warp::{State, Wait, Warp};
use crate::decode::hopper_op::Hopper;

/// Registers of a multiprocessor that one block can have (CUDA programming guide, compute capability 9.0).
const MAX_REGISTERS: u32 = 64 * 1024;

impl Env<'_> {
    pub(crate) fn hopper(&mut self, warp: &mut Warp, op: &Hopper, m: u32) -> Lane<Next> {
        let whole_warp = matches!(
            op,
            Hopper::WgmmaFence
                | Hopper::Wgmma(_)
                | Hopper::WgmmaCommit
                | Hopper::WgmmaWait(_)
                | Hopper::SetMaxNReg { .. }
                | Hopper::ClusterArrive(true)
                | Hopper::ClusterWait(true)
                | Hopper::MapCopy { .. }
        );
        if whole_warp && !self.together(warp, m, warp.alive) {
            return Ok(Next::Moved);
        }
        match *op {
            Hopper::Mbar(mbar) => self.exec_mbar(warp, m, mbar)?,
            Hopper::MbarWait(wait) => {
                if let Some(wait) = self.exec_mbar_wait(warp, m, wait)? {
                    return Ok(self.sleep(warp, m, wait));
                }
            }
            Hopper::PendingCount { d, state } => self.exec_pending_count(warp, m, d, state),
            Hopper::CpArrive { addr, noinc } => self.exec_cp_arrive(warp, m, addr, noinc)?,
            Hopper::Bulk(ref bulk) => self.exec_bulk(warp, m, bulk)?,
            Hopper::Tensor(ref tensor) => self.exec_tensor_copy(warp, m, tensor)?,
            Hopper::BulkCommit => {
                for (lane, n) in warp.bulk_committed.iter_mut().enumerate() {
                    *n += m >> lane & 1;
                }
            }
            Hopper::BulkWait { keep, read } => {
                if !self.bulk_done(warp, m, keep, read) {
                    return Ok(self.sleep(warp, m, Wait::Bulk { keep, read }));
                }
            }
            Hopper::RemoteStore(ref store) => self.exec_remote_store(warp, m, store)?,
            Hopper::Mapa { d, a, rank, wide } => self.exec_mapa(warp, m, (d, a, rank), wide)?,
            Hopper::GetCtaRank { d, a, wide } => self.exec_getctarank(warp, m, d, (a, wide)),
            Hopper::ClusterArrive(_) => self.cluster_arrive(warp, m)?,
            Hopper::ClusterWait(_) => {
                if !self.cluster_wait(warp, m)? {
                    return Ok(self.sleep(warp, m, Wait::Cluster));
                }
            }
            Hopper::ProxyFence => self.proxy_fence(warp),
            // Copies read and write memory itself: there is nothing to flush.
            Hopper::Order => {}
            Hopper::WgmmaFence => warp.wgmma.fence(),
            Hopper::Wgmma(ref wgmma) => self.start_wgmma(warp, wgmma)?,
            Hopper::WgmmaCommit => self.commit_wgmma(warp),
            Hopper::WgmmaWait(keep) => {
                if let Some(wait) = self.wait_wgmma(warp, keep)? {
                    return Ok(self.sleep(warp, m, wait));
                }
            }
            Hopper::SetMaxNReg { increase, n } => self.set_registers(warp, increase, n)?,
            Hopper::MapReplace { addr, field, ord, value, wide } => {
                let lane = m.trailing_zeros() as usize;
                let bits = if wide { warp.get64(value)[lane] } else { warp.get32(value)[lane].into() };
                self.exec_map_replace(warp, m, addr, (field, ord, bits))?;
            }
            Hopper::MapCopy { dst, src } => self.exec_map_copy(warp, m, dst, src)?,
            Hopper::IsOwnShared { d, a } => {
                let found = self.own_shared(warp, m, a);
                warp.set_pred(d, m, found);
            }
        }
        Ok(Next::Advance)
    }

    /// Lanes of `m` stay at this instruction, which runs again after the next event.
    fn sleep(&mut self, warp: &mut Warp, m: u32, wait: Wait) -> Next {
        Self::leave_behind(warp, m);
        warp.cur.state = State::Blocked(wait);
        // The attempt does not count as an instruction.
        self.stats.warp_instructions -= 1;
        self.stats.by_class[self.grid.module.code[warp.cur.pc as usize].class as usize] -= 1;
        self.stats.lane_instructions -= u64::from(m.count_ones());
        Next::Moved
    }

    /// `setmaxnreg` has no effect on data, but the warps of a warpgroup ask alike, and the block's registers must suffice.
    ///
    /// **Source** PTX ISA 9.0, section 9.7.19.5: all threads of the warpgroup execute the same instruction.
    fn set_registers(&mut self, warp: &mut Warp, increase: bool, n: u32) -> Lane<()> {
        let index = warp.index as usize;
        let bad = |detail: String| Err(Box::new((0, Fault::WarpSync { detail })));
        let asked = self.registers[index];
        if let Some((have, _)) = asked
            && (increase && n < have || !increase && n > have)
        {
            let direction = if increase { "inc" } else { "dec" };
            return bad(format!("setmaxnreg.{direction} to {n} registers, the warp has {have}"));
        }
        let times = asked.map_or(0, |(_, times)| times) + 1;
        let mut group = self.registers[index / 4 * 4..].iter().take(4).flatten();
        if let Some((other, _)) = group.find(|(other, at)| *at == times && *other != n) {
            return bad(format!("setmaxnreg to {n} registers, another warp of the warpgroup has asked for {other}"));
        }
        self.registers[index] = Some((n, times));
        let total: u32 = self.registers.iter().flatten().map(|(n, _)| n * 32).sum();
        if total > MAX_REGISTERS {
            return bad(format!("setmaxnreg: the block's warps ask for {total} registers, there are {MAX_REGISTERS}"));
        }
        Ok(())
    }
}
