//! Which 32-bit registers does an instruction read and write? Predicates and 64-bit registers are left out.
//!
//! Law: every operation is listed, so a new one says what it touches. The accumulators of `wgmma` are left out too:
//! they have rules of their own. Operands an operation has no use for are not visited.

use super::hopper_op::{Count, Hopper, Phase, Report, WgA};
use super::op::*;
use crate::error::Access;

/// Calls `visit` with each register of the 32-bit bank and what `op` does with it.
pub(crate) fn words(op: &Op, visit: &mut impl FnMut(R, Access)) {
    let (r, w) = (Access::Read, Access::Write);
    let mut all = |what: Access, list: &[R]| list.iter().for_each(|&reg| visit(reg, what));
    match op {
        Op::Nop | Op::Un64(..) | Op::Bin64(..) | Op::Tri64(..) | Op::Sel64 { .. } => {}
        Op::F64Bin(..) | Op::F64Un(..) | Op::F64Fma(..) | Op::F64Directed(..) => {}
        Op::PMov { .. } | Op::PBool { .. } | Op::IsSpace { .. } | Op::CpCommit | Op::CpWait(_) => {}
        Op::Fence(_) | Op::Bra(_) | Op::Call(_) | Op::Ret | Op::Exit | Op::Trap => {}
        Op::Un32(_, d, a) | Op::F32Un(_, _, d, a) | Op::MovMatrix { d, a } => {
            all(r, &[*a]);
            all(w, &[*d]);
        }
        Op::Bin32(_, d, a, b) | Op::F32Bin(_, _, d, a, b) | Op::Sel32 { d, a, b, .. } => {
            all(r, &[*a, *b]);
            all(w, &[*d]);
        }
        Op::Tri32(_, d, s) | Op::F32Fma(_, d, s) | Op::MadCarry { d, s, .. } => {
            all(r, s);
            all(w, &[*d]);
        }
        Op::Half(half, d, s) => {
            let n = match half.op {
                HalfOp::Neg | HalfOp::Abs | HalfOp::Ex2 | HalfOp::Tanh => 1,
                HalfOp::Add | HalfOp::Sub | HalfOp::Mul => 2,
                HalfOp::Min | HalfOp::Max | HalfOp::MinNan | HalfOp::MaxNan => 2,
                HalfOp::Fma => 3,
            };
            all(r, &s[..n]);
            all(w, &[*d]);
        }
        Op::Bfi32(d, s) => {
            all(r, s);
            all(w, &[*d]);
        }
        Op::Bfi64(_, [_, _, pos, len]) | Op::Bfe64 { pos, len, .. } => all(r, &[*pos, *len]),
        Op::Shift64(_, _, _, b) => all(r, &[*b]),
        Op::Count64(_, d, _) | Op::ActiveMask { d } => all(w, &[*d]),
        Op::MulWide { a, b, .. } | Op::MadWide { a, b, .. } => all(r, &[*a, *b]),
        Op::Carry { wide, d, a, b, .. } => {
            if !wide {
                all(r, &[*a, *b]);
                all(w, &[*d]);
            }
        }
        Op::Pack64 { lo, hi, .. } => all(r, &[*lo, *hi]),
        Op::Unpack64 { lo, hi, .. } => all(w, &[*lo, *hi]),
        Op::Pack16x2 { d, lo, hi } | Op::CvtPack { d, hi, lo, .. } => {
            all(r, &[*lo, *hi]);
            all(w, &[*d]);
        }
        Op::Unpack16x2 { a, lo, hi } => {
            all(r, &[*a]);
            all(w, &[*lo, *hi]);
        }
        Op::Pack16x4 { s, .. } => all(r, s),
        Op::Unpack16x4 { d, .. } => all(w, d),
        Op::Cvt(cvt) => {
            all(r, if cvt.a_wide { &[] } else { std::slice::from_ref(&cvt.a) });
            all(w, if cvt.d_wide { &[] } else { std::slice::from_ref(&cvt.d) });
        }
        Op::CvtFp8(cvt) => match cvt {
            CvtFp8::FromF32 { d, hi, lo, .. } => {
                all(r, &[*hi, *lo]);
                all(w, &[*d]);
            }
            CvtFp8::FromF16 { d, a, .. } | CvtFp8::ToF16 { d, a, .. } => {
                all(r, &[*a]);
                all(w, &[*d]);
            }
        },
        Op::SetP { cmp, .. } | Op::SetP2 { cmp, .. } => compared(cmp, &mut all),
        Op::Set { cmp, d, .. } => {
            compared(cmp, &mut all);
            all(w, &[*d]);
        }
        Op::TestP { a, wide, .. } => all(r, if *wide { &[] } else { std::slice::from_ref(a) }),
        Op::Slct64 { c, .. } => all(r, &[*c]),
        Op::Ld { elem, dst, addr } => {
            address(addr, &mut all);
            all(w, if elem.wide { &[] } else { &dst[..usize::from(elem.n)] });
        }
        Op::St { elem, src, addr } => {
            address(addr, &mut all);
            all(r, if elem.wide { &[] } else { &src[..usize::from(elem.n)] });
        }
        Op::Atom(atom) => {
            address(&atom.addr, &mut all);
            if !atom.wide {
                all(r, &[atom.b, atom.c]);
                all(w, atom.d.as_slice());
            }
        }
        Op::CpAsync { dst, src, size, .. } => {
            address(dst, &mut all);
            address(src, &mut all);
            all(r, size.as_slice());
        }
        Op::LdMatrix(matrix) => {
            address(&matrix.addr, &mut all);
            all(if matrix.store { r } else { w }, &matrix.regs);
        }
        Op::WmmaMove(tile) => {
            address(&tile.addr, &mut all);
            all(r, tile.stride.as_slice());
            all(if tile.store { r } else { w }, &tile.regs);
        }
        Op::Mma(mma) => {
            [&mma.a, &mma.b, &mma.c].into_iter().for_each(|regs| all(r, regs));
            all(w, &mma.d);
        }
        Op::WmmaMma(mma) => {
            [&mma.a, &mma.b, &mma.c].into_iter().for_each(|regs| all(r, regs));
            all(w, &mma.d);
        }
        Op::Hopper(op) => hopper(op, &mut all),
        Op::Clock { d, wide } => all(w, if *wide { &[] } else { std::slice::from_ref(d) }),
        Op::Warp { op, mask } => {
            all(r, &[*mask]);
            warp(op, &mut all);
        }
        Op::Bar(bar) => {
            all(r, &[bar.id]);
            all(r, bar.count.as_slice());
            match &bar.kind {
                BarKind::RedPopc { d, .. } => all(w, &[*d]),
                BarKind::Sync | BarKind::Arrive | BarKind::RedAnd { .. } | BarKind::RedOr { .. } => {}
            }
        }
        Op::BrxIdx { idx, .. } => all(r, &[*idx]),
    }
}

fn compared(cmp: &Cmp, all: &mut impl FnMut(Access, &[R])) {
    if cmp.ty.bytes() < 8 {
        all(Access::Read, &[cmp.a, cmp.b]);
    }
}

fn address(addr: &Addr, all: &mut impl FnMut(Access, &[R])) {
    if !addr.wide {
        all(Access::Read, &[addr.base]);
    }
}

fn warp(op: &WarpOp, all: &mut impl FnMut(Access, &[R])) {
    let (r, w) = (Access::Read, Access::Write);
    match op {
        WarpOp::Sync | WarpOp::VotePred { .. } => {}
        WarpOp::Shfl { d, a, b, c, .. } => {
            all(r, &[*a, *b, *c]);
            all(w, &[*d]);
        }
        WarpOp::Ballot { d, .. } | WarpOp::Elect { d, .. } => all(w, &[*d]),
        WarpOp::MatchAny { d, a, wide } | WarpOp::MatchAll { d, a, wide, .. } => {
            all(r, if *wide { &[] } else { std::slice::from_ref(a) });
            all(w, &[*d]);
        }
        WarpOp::Redux { d, a, .. } => {
            all(r, &[*a]);
            all(w, &[*d]);
        }
    }
}

fn hopper(op: &Hopper, all: &mut impl FnMut(Access, &[R])) {
    let (r, w) = (Access::Read, Access::Write);
    let report = |report: &Report, all: &mut _| match report {
        Report::Mbarrier(addr) => address(addr, all),
        Report::Group => {}
    };
    match op {
        Hopper::BulkCommit | Hopper::BulkWait { .. } | Hopper::ClusterArrive(_) | Hopper::ClusterWait(_) => {}
        Hopper::ProxyFence | Hopper::Order | Hopper::WgmmaFence | Hopper::WgmmaCommit | Hopper::WgmmaWait(_) => {}
        Hopper::SetMaxNReg { .. } | Hopper::IsOwnShared { .. } => {}
        Hopper::Mbar(mbar) => {
            address(&mbar.addr, all);
            match mbar.count {
                Count::Reg(count) => all(r, &[count]),
                Count::One => {}
            }
        }
        Hopper::MbarWait(wait) => {
            address(&wait.addr, all);
            match wait.phase {
                Phase::Parity(parity) => all(r, &[parity]),
                Phase::State(_) => {}
            }
        }
        Hopper::PendingCount { d, .. } => all(w, &[*d]),
        Hopper::CpArrive { addr, .. } => address(addr, all),
        Hopper::Bulk(bulk) => {
            address(&bulk.dst, all);
            address(&bulk.src, all);
            report(&bulk.report, all);
            all(r, &[bulk.size]);
            all(r, bulk.multicast.as_slice());
        }
        Hopper::Tensor(copy) => {
            address(&copy.map, all);
            address(&copy.shared, all);
            report(&copy.report, all);
            all(r, &copy.coords);
            all(r, copy.multicast.as_slice());
        }
        Hopper::RemoteStore(store) => {
            address(&store.addr, all);
            address(&store.mbar, all);
            all(r, if store.ty.bytes() == 8 { &[] } else { &store.values[..usize::from(store.n)] });
        }
        Hopper::Mapa { d, a, rank, wide } => {
            all(r, &[*rank]);
            if !wide {
                all(r, &[*a]);
                all(w, &[*d]);
            }
        }
        Hopper::GetCtaRank { d, a, wide } => {
            all(r, if *wide { &[] } else { std::slice::from_ref(a) });
            all(w, &[*d]);
        }
        Hopper::Wgmma(wgmma) => match &wgmma.a {
            WgA::Regs(regs) => all(r, regs),
            WgA::Desc(_) => {}
        },
        Hopper::MapReplace { addr, ord, value, wide, .. } => {
            address(addr, all);
            all(r, &[*ord]);
            all(r, if *wide { &[] } else { std::slice::from_ref(value) });
        }
        Hopper::MapCopy { dst, src } => {
            address(dst, all);
            address(src, all);
        }
    }
}
