//! Which kind of instruction is it, for counting?

use super::hopper_op::Hopper;
use super::op::{Op, Un32, Un64};
use crate::stats::Class;

/// The class of an operation.
pub(crate) fn class(op: &Op) -> Class {
    match op {
        Op::Un32(Un32::Mov, ..) | Op::Un64(Un64::Mov, ..) => Class::Move,
        Op::Un32(..) | Op::Bin32(..) | Op::Tri32(..) | Op::Bfi32(..) => Class::Integer,
        Op::Un64(..) | Op::Bin64(..) | Op::Tri64(..) | Op::Bfi64(..) | Op::Bfe64 { .. } => Class::Integer,
        Op::Shift64(..) | Op::Count64(..) | Op::MulWide { .. } | Op::MadWide { .. } => Class::Integer,
        Op::Carry { .. } | Op::MadCarry { .. } => Class::Integer,
        Op::Nop | Op::Pack64 { .. } | Op::Unpack64 { .. } | Op::Pack16x2 { .. } | Op::Unpack16x2 { .. } => Class::Move,
        Op::Pack16x4 { .. } | Op::Unpack16x4 { .. } | Op::Sel32 { .. } | Op::Sel64 { .. } => Class::Move,
        Op::Slct64 { .. } | Op::PMov { .. } | Op::PBool { .. } | Op::SetP { .. } | Op::SetP2 { .. } => Class::Move,
        Op::Set { .. } | Op::TestP { .. } | Op::IsSpace { .. } | Op::ActiveMask { .. } => Class::Move,
        Op::Clock { .. } => Class::Move,
        Op::F32Bin(..) | Op::F32Un(..) | Op::F32Fma(..) => Class::Float,
        Op::F64Bin(..) | Op::F64Un(..) | Op::F64Fma(..) | Op::F64Directed(..) => Class::Double,
        Op::Half(..) => Class::Half,
        Op::Hopper(op) => hopper_class(op),
        Op::Cvt(_) | Op::CvtFp8(_) | Op::CvtPack { .. } => Class::Convert,
        Op::Ld { .. } => Class::Load,
        Op::St { .. } => Class::Store,
        Op::Atom(_) => Class::Atomic,
        Op::CpAsync { .. } | Op::CpCommit | Op::CpWait(_) => Class::Copy,
        Op::LdMatrix(_) | Op::MovMatrix { .. } | Op::WmmaMove(_) => Class::Matrix,
        Op::Mma(_) | Op::WmmaMma(_) => Class::Tensor,
        Op::Warp { .. } => Class::Warp,
        Op::Bar(_) | Op::Fence(_) => Class::Barrier,
        Op::Bra(_) | Op::BrxIdx { .. } | Op::Call(_) | Op::Ret | Op::Exit | Op::Trap => Class::Control,
    }
}

fn hopper_class(op: &Hopper) -> Class {
    match op {
        Hopper::Mbar(_) | Hopper::MbarWait(_) | Hopper::PendingCount { .. } | Hopper::CpArrive { .. } => Class::Barrier,
        Hopper::ClusterArrive(_) | Hopper::ClusterWait(_) | Hopper::ProxyFence | Hopper::Order => Class::Barrier,
        Hopper::Bulk(_) | Hopper::Tensor(_) | Hopper::BulkCommit | Hopper::BulkWait { .. } => Class::Copy,
        Hopper::RemoteStore(_) => Class::Store,
        Hopper::Mapa { .. } | Hopper::GetCtaRank { .. } | Hopper::IsOwnShared { .. } => Class::Move,
        Hopper::Wgmma(_) | Hopper::WgmmaFence | Hopper::WgmmaCommit | Hopper::WgmmaWait(_) => Class::Tensor,
        Hopper::SetMaxNReg { .. } => Class::Control,
        Hopper::MapReplace { .. } | Hopper::MapCopy { .. } => Class::Store,
    }
}
