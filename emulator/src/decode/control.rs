//! Which operations do branches, calls, barriers and warp-wide instructions decode to?

use super::func::{Bank, Decoder};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::{Operand, Ty};

type Decoded<T> = Result<T, ParseError>;

impl Decoder<'_> {
    /// Control, barrier and warp instructions; `None` if `mods` names none of them.
    pub(crate) fn control(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Option<Op>> {
        Ok(Some(match mods.name() {
            "bra" => {
                mods.take("uni");
                match self.arg(mods, ops, 0)? {
                    Operand::Name(label) => self.fix_later(vec![label.clone()], mods.line),
                    other => return Err(self.bad(mods, "a label", other)),
                }
                Op::Bra(0)
            }
            "brx" => self.indexed_branch(mods, ops)?,
            "call" => self.call(mods, ops)?,
            "ret" => {
                mods.take("uni");
                Op::Ret
            }
            "exit" => Op::Exit,
            "trap" => Op::Trap,
            "brkpt" => Op::Trap,
            "membar" | "fence" => {
                for part in ["sc", "acq_rel", "acquire", "release"] {
                    mods.take(part);
                }
                Op::Fence(super::memory::take_reach(mods))
            }
            "nanosleep" | "pmevent" => {
                mods.take("mask");
                Op::Nop
            }
            "bar" | "barrier" => self.barrier(mods, ops)?,
            "shfl" => self.shfl(mods, ops)?,
            "vote" => self.vote(mods, ops)?,
            "match" => self.match_lanes(mods, ops)?,
            "redux" => self.redux(mods, ops)?,
            "activemask" => Op::ActiveMask { d: self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)? },
            "elect" => {
                mods.take("sync");
                let Operand::Pair(d, p) = self.arg(mods, ops, 0)? else { return Err(self.bad(mods, "d|p", &ops[0])) };
                let (d, p) = (self.dst(Bank::Word, d, mods)?, self.dst(Bank::Pred, p, mods)?);
                Op::Warp { op: WarpOp::Elect { d, p }, mask: self.s32(self.arg(mods, ops, 1)?, mods)? }
            }
            _ => return Ok(None),
        }))
    }

    fn indexed_branch(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        mods.take("uni");
        if !mods.take("idx") {
            return Err(mods.unknown("no `.idx`"));
        }
        let idx = self.s32(self.arg(mods, ops, 0)?, mods)?;
        let Operand::Name(list) = self.arg(mods, ops, 1)? else { return Err(self.bad(mods, "a target list", &ops[1])) };
        let Some(labels) = self.branch_targets(list) else {
            return Err(ParseError::Undeclared { line: mods.line, name: list.clone() });
        };
        self.fix_later(labels, mods.line);
        Ok(Op::BrxIdx { idx, targets: Box::default() })
    }

    fn barrier(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        let is_bar = mods.name() == "bar";
        if mods.take("warp") {
            mods.take("sync");
            return Ok(Op::Warp { op: WarpOp::Sync, mask: self.s32(self.arg(mods, ops, 0)?, mods)? });
        }
        if mods.rest().any(|p| p == "cluster") {
            return Err(mods.unknown("clusters"));
        }
        mods.take("cta");
        let aligned = mods.take("aligned") | is_bar;
        let (sync, arrive, red) = (mods.take("sync"), mods.take("arrive"), mods.take("red"));
        if red {
            let kind = mods.need_one(&[("popc", 0), ("and", 1), ("or", 2)], "reduction")?;
            let d_bank = if kind == 0 { Bank::Word } else { Bank::Pred };
            let d = self.dst(d_bank, self.arg(mods, ops, 0)?, mods)?;
            let id = self.s32(self.arg(mods, ops, 1)?, mods)?;
            let last = ops.len().saturating_sub(1).max(2);
            let count = if last == 3 { Some(self.s32(&ops[2], mods)?) } else { None };
            let a = self.pred(self.arg(mods, ops, last)?, mods)?;
            let kind = match kind {
                0 => BarKind::RedPopc { d, a },
                1 => BarKind::RedAnd { d, a },
                _ => BarKind::RedOr { d, a },
            };
            return Ok(Op::Bar(Bar { kind, id, count, aligned }));
        }
        let kind = match (sync, arrive) {
            (true, false) => BarKind::Sync,
            (false, true) => BarKind::Arrive,
            _ => return Err(mods.unknown("neither sync, arrive nor red")),
        };
        let id = self.s32(self.arg(mods, ops, 0)?, mods)?;
        let count = match ops.get(1) {
            Some(count) => Some(self.s32(count, mods)?),
            None => None,
        };
        if count.is_none() && arrive {
            return Err(mods.unknown("arrive without a thread count"));
        }
        Ok(Op::Bar(Bar { kind, id, count, aligned }))
    }

    /// `d|p` or `d`.
    fn with_pred(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<(R, Option<R>)> {
        match operand {
            Operand::Pair(d, p) => Ok((self.dst(Bank::Word, d, mods)?, Some(self.dst(Bank::Pred, p, mods)?))),
            d => Ok((self.dst(Bank::Word, d, mods)?, None)),
        }
    }

    fn need_sync(mods: &mut Mods<'_>) -> Decoded<()> {
        if mods.take("sync") { Ok(()) } else { Err(mods.unknown("forms without `.sync`")) }
    }

    fn shfl(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        Self::need_sync(mods)?;
        let mode = mods.need_one(
            &[("up", ShflMode::Up), ("down", ShflMode::Down), ("bfly", ShflMode::Bfly), ("idx", ShflMode::Idx)],
            "mode",
        )?;
        let (d, p) = self.with_pred(self.arg(mods, ops, 0)?, mods)?;
        let a = self.sf32(self.arg(mods, ops, 1)?, mods)?;
        let b = self.s32(self.arg(mods, ops, 2)?, mods)?;
        let c = self.s32(self.arg(mods, ops, 3)?, mods)?;
        Ok(Op::Warp { op: WarpOp::Shfl { mode, d, p, a, b, c }, mask: self.s32(self.arg(mods, ops, 4)?, mods)? })
    }

    fn vote(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        Self::need_sync(mods)?;
        let mode = mods.need_one(
            &[("all", VoteMode::All), ("any", VoteMode::Any), ("uni", VoteMode::Uni), ("ballot", VoteMode::Ballot)],
            "mode",
        )?;
        let a = self.pred(self.arg(mods, ops, 1)?, mods)?;
        let bank = if mode == VoteMode::Ballot { Bank::Word } else { Bank::Pred };
        let d = self.dst(bank, self.arg(mods, ops, 0)?, mods)?;
        let op = if mode == VoteMode::Ballot { WarpOp::Ballot { d, a } } else { WarpOp::VotePred { mode, d, a } };
        Ok(Op::Warp { op, mask: self.s32(self.arg(mods, ops, 2)?, mods)? })
    }

    fn match_lanes(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        Self::need_sync(mods)?;
        let all = mods.need_one(&[("all", true), ("any", false)], "mode")?;
        let ty = mods.ty(0)?;
        let wide = ty.bytes() == 8;
        let a = self.src(ty, self.arg(mods, ops, 1)?, mods)?;
        let (d, p) = self.with_pred(self.arg(mods, ops, 0)?, mods)?;
        let op = if all { WarpOp::MatchAll { d, p, a, wide } } else { WarpOp::MatchAny { d, a, wide } };
        Ok(Op::Warp { op, mask: self.s32(self.arg(mods, ops, 2)?, mods)? })
    }

    fn redux(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        Self::need_sync(mods)?;
        let ty = mods.ty(0)?;
        if !matches!(ty, Ty::S32 | Ty::U32 | Ty::B32) {
            return Err(mods.unknown(format!("type {ty:?}")));
        }
        let pick = |s, u| if ty.is_signed() { s } else { u };
        let op = mods.need_one(
            &[
                ("add", ReduxOp::Add),
                ("min", pick(ReduxOp::MinS, ReduxOp::MinU)),
                ("max", pick(ReduxOp::MaxS, ReduxOp::MaxU)),
                ("and", ReduxOp::And),
                ("or", ReduxOp::Or),
                ("xor", ReduxOp::Xor),
            ],
            "operation",
        )?;
        let d = self.dst(Bank::Word, self.arg(mods, ops, 0)?, mods)?;
        let a = self.s32(self.arg(mods, ops, 1)?, mods)?;
        Ok(Op::Warp { op: WarpOp::Redux { op, d, a }, mask: self.s32(self.arg(mods, ops, 2)?, mods)? })
    }
}
