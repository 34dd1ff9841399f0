//! Is a register of `wgmma` touched too early? An accumulator before the wait that completes it, or A before that.
//!
//! Moves may copy an accumulator, nothing else may touch it; and only moves may write over what held A.
//!
//! An accumulator in flight is a token (see `wgmma`). Reading one is a mistake. Writing over one is a mistake where no
//! copy is left: compilers move accumulators between registers and then use the old ones for something else.
//! **Source** PTX ISA 9.0, section 9.7.15.7: accessing the registers of `wgmma.mma_async` before it is complete is
//! undefined.

use super::access::{Fault, Lane};
use super::block::Env;
use super::step::{Next, fail};
use super::warp::{Row32, Warp};
use crate::decode::op::{Op, R, Un32};
use crate::decode::registers;
use crate::error::Access;

impl Env<'_> {
    /// Runs one instruction unless it touches an accumulator too early; costs one comparison where none is in flight.
    #[inline(always)]
    pub(super) fn checked_step(&mut self, warp: &mut Warp, op: &Op, m: u32) -> Lane<Next> {
        if warp.wgmma.is_watched() && self.checks.uninitialised {
            self.check_accumulators(warp, op, m)?;
            self.check_fragments(warp, op, m)?;
        }
        self.step(warp, op, m)
    }

    /// Refuses what `op` must not do in lanes `m` while multiplications of this warp run.
    #[inline(never)]
    fn check_accumulators(&self, warp: &Warp, op: &Op, m: u32) -> Lane<()> {
        let is_move = matches!(op, Op::Un32(Un32::Mov, ..));
        let mut found = None;
        registers::words(op, &mut |r: R, access| {
            if found.is_some() || (is_move && access == Access::Read) {
                return;
            }
            let row = warp.get32(r);
            let Some(origin) = warp.wgmma.origin(row[0]).filter(|_| row.iter().all(|&x| x == row[0])) else { return };
            if access == Access::Read || !is_elsewhere(warp, row[0]) {
                found = Some((origin, access));
            }
        });
        match found {
            None => Ok(()),
            Some(((pc, accumulator), access)) => {
                fail(m.trailing_zeros(), Fault::Accumulator { access, accumulator, pc })
            }
        }
    }

    /// Refuses to write over A while a multiplication reads it, and remembers what else is written.
    #[inline(never)]
    fn check_fragments(&self, warp: &mut Warp, op: &Op, m: u32) -> Lane<()> {
        if matches!(op, Op::Un32(Un32::Mov, ..)) {
            return Ok(());
        }
        let mut reader = None;
        let base = warp.cur.base.r32;
        registers::words(op, &mut |r: R, access| {
            if access == Access::Write {
                reader = reader.or(warp.wgmma.reader(base + r));
                warp.wgmma.write(base + r);
            }
        });
        let Some(pc) = reader else { return Ok(()) };
        let line = self.grid.module.code[pc as usize].line;
        let source = self.grid.module.source(pc).map_or(String::new(), |(file, line)| format!(" ({file}:{line})"));
        let detail = format!(
            "write of a register that holds A of the `wgmma.mma_async` at PTX line {line}{source}, whose group no \
             `wgmma.wait_group` has completed"
        );
        fail(m.trailing_zeros(), Fault::Wgmma { detail })
    }
}

/// Whether a token in one register is in a second one, or what a later multiplication starts from.
fn is_elsewhere(warp: &Warp, token: u32) -> bool {
    let holds = |row: &&Row32| row.iter().all(|&x| x == token);
    warp.r32.iter().filter(holds).count() > 1 || warp.wgmma.is_start(token)
}
