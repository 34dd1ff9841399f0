//! What do the instructions of compute capability 9.0 execute: mbarriers, bulk copies, wgmma, clusters?
//!
//! Decoded by `hopper`, `bulk` and `wgmma`; executed by `machine/hopper` and the files it names.

use super::op::{Addr, AtomOp, PSrc, R};
use crate::syntax::ast::Ty;

/// A 32-bit operand that may be absent, with the value it then has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Reg(R),
    One,
}

/// What an `mbarrier` instruction does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MbarKind {
    Init,
    Inval,
    Arrive,
    /// `expect_tx` first, then one arrival.
    ArriveExpectTx,
    ArriveNoComplete,
    ArriveDrop,
    ExpectTx,
    CompleteTx,
}

/// `mbarrier` other than waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mbar {
    pub(crate) kind: MbarKind,
    pub(crate) addr: Addr,
    /// Arrivals, expected arrivals or bytes, whichever the kind counts.
    pub(crate) count: Count,
    /// Where the state goes that was current before the arrival.
    pub(crate) state: Option<R>,
}

/// `mbarrier.test_wait` and `mbarrier.try_wait`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MbarWait {
    pub(crate) d: R,
    pub(crate) addr: Addr,
    pub(crate) phase: Phase,
}

/// Which phase a wait is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// A state an arrival returned, in the 64-bit bank.
    State(R),
    /// 0 or 1, in the 32-bit bank.
    Parity(R),
}

/// Where an asynchronous copy reports that it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    /// Bytes on an mbarrier.
    Mbarrier(Addr),
    /// The thread's bulk group.
    Group,
}

/// Direction of an asynchronous copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    GlobalToShared,
    SharedToShared,
    SharedToGlobal,
}

/// `cp.async.bulk` and `cp.reduce.async.bulk`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    pub(crate) route: Route,
    pub(crate) dst: Addr,
    pub(crate) src: Addr,
    pub(crate) size: R,
    pub(crate) report: Report,
    /// Ranks of the blocks that receive the data.
    pub(crate) multicast: Option<R>,
    pub(crate) reduce: Option<(AtomOp, Ty)>,
}

/// `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`, tiled.
#[derive(Clone, Debug)]
pub(crate) struct TensorCopy {
    pub(crate) route: Route,
    pub(crate) map: Addr,
    pub(crate) coords: Vec<R>,
    pub(crate) shared: Addr,
    pub(crate) report: Report,
    pub(crate) multicast: Option<R>,
    pub(crate) reduce: Option<AtomOp>,
}

/// `st.async` and `red.async`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteStore {
    pub(crate) addr: Addr,
    pub(crate) ty: Ty,
    pub(crate) n: u8,
    pub(crate) values: [R; 4],
    pub(crate) mbar: Addr,
    pub(crate) reduce: Option<AtomOp>,
}

/// Element types of `wgmma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WgTy {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

/// Type of the accumulators of `wgmma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WgSum {
    F32,
    F16,
    S32,
}

/// The A operand of `wgmma`.
#[derive(Clone, Debug)]
pub(crate) enum WgA {
    /// Matrix descriptor, in the 64-bit bank.
    Desc(R),
    /// This warp's 16 rows.
    Regs([R; 4]),
}

/// `wgmma.mma_async` of shape m64nNkK; K is 32 bytes of A.
#[derive(Clone, Debug)]
pub(crate) struct Wgmma {
    pub(crate) n: u16,
    pub(crate) a_ty: WgTy,
    pub(crate) b_ty: WgTy,
    pub(crate) sum: WgSum,
    pub(crate) d: Vec<R>,
    pub(crate) a: WgA,
    pub(crate) b: R,
    /// False clears the accumulators first.
    pub(crate) scale_d: PSrc,
    pub(crate) negate_a: bool,
    pub(crate) negate_b: bool,
    pub(crate) trans_a: bool,
    pub(crate) trans_b: bool,
    pub(crate) saturate: bool,
}

/// Which field `tensormap.replace` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapField {
    Address,
    Rank,
    Box,
    Dim,
    Stride,
    ElemStride,
    ElemType,
    Interleave,
    Swizzle,
    Fill,
}

/// One instruction of compute capability 9.0.
#[derive(Clone, Debug)]
pub(crate) enum Hopper {
    Mbar(Mbar),
    MbarWait(MbarWait),
    /// `mbarrier.pending_count d, state`
    PendingCount {
        d: R,
        state: R,
    },
    /// `cp.async.mbarrier.arrive`; `noinc` counts as one of the expected arrivals.
    CpArrive {
        addr: Addr,
        noinc: bool,
    },
    Bulk(Bulk),
    Tensor(Box<TensorCopy>),
    BulkCommit,
    BulkWait {
        keep: u32,
        read: bool,
    },
    RemoteStore(RemoteStore),
    /// `mapa d, a, rank`
    Mapa {
        d: R,
        a: R,
        rank: R,
        wide: bool,
    },
    GetCtaRank {
        d: R,
        a: R,
        wide: bool,
    },
    /// The flag says that all lanes of the warp must meet.
    ClusterArrive(bool),
    ClusterWait(bool),
    /// `fence.proxy.async`: ordinary accesses before, asynchronous ones after, or the other way round.
    ProxyFence,
    /// Other proxy fences and `fence.mbarrier_init`, and prefetches: they change what may be seen, not what is there.
    Order,
    WgmmaFence,
    Wgmma(Box<Wgmma>),
    WgmmaCommit,
    WgmmaWait(u32),
    SetMaxNReg {
        increase: bool,
        n: u32,
    },
    MapReplace {
        addr: Addr,
        field: MapField,
        ord: R,
        value: R,
        wide: bool,
    },
    /// `tensormap.cp_fenceproxy`: copies a map from shared to global memory.
    MapCopy {
        dst: Addr,
        src: Addr,
    },
    /// `isspacep.shared::cta`
    IsOwnShared {
        d: R,
        a: R,
    },
}
