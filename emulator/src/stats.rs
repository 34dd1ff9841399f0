//! What did a launch do? Counts a profiler would show, and more exact: every instruction, sector and bank.

/// Kinds of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Integer and bit arithmetic.
    Integer,
    /// Single precision.
    Float,
    /// Double precision.
    Double,
    /// 16-bit floats.
    Half,
    /// Conversions.
    Convert,
    /// Moves, selections, comparisons and predicates.
    Move,
    /// Loads, of any memory.
    Load,
    /// Stores, of any memory.
    Store,
    /// `atom` and `red`.
    Atomic,
    /// Asynchronous copies, their commits and waits.
    Copy,
    /// `ldmatrix`, `stmatrix`, `movmatrix`, `wmma.load` and `wmma.store`.
    Matrix,
    /// Tensor-core multiplications.
    Tensor,
    /// Shuffles, votes and other exchanges inside a warp.
    Warp,
    /// Barriers and fences.
    Barrier,
    /// Branches, calls and exits.
    Control,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Class; 15] = [
        Class::Integer,
        Class::Float,
        Class::Double,
        Class::Half,
        Class::Convert,
        Class::Move,
        Class::Load,
        Class::Store,
        Class::Atomic,
        Class::Copy,
        Class::Matrix,
        Class::Tensor,
        Class::Warp,
        Class::Barrier,
        Class::Control,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Class::Integer => "integer",
            Class::Float => "float",
            Class::Double => "double",
            Class::Half => "half",
            Class::Convert => "convert",
            Class::Move => "move",
            Class::Load => "load",
            Class::Store => "store",
            Class::Atomic => "atomic",
            Class::Copy => "copy",
            Class::Matrix => "matrix",
            Class::Tensor => "tensor",
            Class::Warp => "warp",
            Class::Barrier => "barrier",
            Class::Control => "control",
        }
    }
}

/// Accesses to global memory in one direction: as if no cache held anything between two instructions, and past a
/// first-level cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Warp instructions that touch global memory.
    pub requests: u64,
    /// Bytes the lanes ask for, broadcasts counted for every lane.
    pub bytes: u64,
    /// 32-byte sectors touched, each once per instruction.
    pub sectors: u64,
    /// Sectors the same distinct bytes would fill, packed.
    pub ideal_sectors: u64,
    /// Sectors touched, each once per block: the least that this division into blocks can move.
    pub block_sectors: u64,
    /// Sectors asked of the second-level cache. Ordinary loads (`ld.global`, `cp.async.ca`, `wmma.load`) are looked up
    /// in a first level first, each block in its share of it (`machine/l1.rs` says how large and why); strong loads,
    /// `.cg`, atomics, bulk and `.cg` copies pass it by, and stores write through.
    pub l2_sectors: u64,
}

/// Accesses to shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Warp instructions that touch shared memory.
    pub requests: u64,
    /// Bytes the lanes ask for.
    pub bytes: u64,
    /// Passes over the 32 banks of 4 bytes.
    pub wavefronts: u64,
    /// Passes without bank conflicts: one for each 32 lanes of 4 bytes, 16 of 8 or 8 of 16.
    pub ideal_wavefronts: u64,
}

/// Distinct bytes of one allocation that a launch touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Where the allocation starts.
    pub address: u64,
    /// Bytes read, each counted once.
    pub read_bytes: u64,
    /// Bytes written, each counted once.
    pub written_bytes: u64,
}

/// What a launch executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks that ran.
    pub blocks: u64,
    /// Instructions, once per warp.
    pub warp_instructions: u64,
    /// Instructions, once per active lane; divided by 32 times the above, the share of lanes that work.
    pub lane_instructions: u64,
    /// Instructions of each class, once per warp.
    pub by_class: [u64; Class::ALL.len()],
    /// Load instructions, once per active lane.
    pub loads: u64,
    /// Store instructions, once per active lane.
    pub stores: u64,
    /// Atomic instructions, once per active lane.
    pub atomics: u64,
    /// Tensor-core multiplications, once per warp.
    pub mma: u64,
    /// Their operations: two for each multiplication of elements.
    pub tensor_flops: u64,
    /// Waits at block barriers, once per warp.
    pub barriers: u64,
    /// Bulk and tensor copies and remote stores, once per lane that starts one.
    pub async_copies: u64,
    /// Reads of global memory. This and what follows only where [`crate::Options::counters`] is set.
    pub read: Traffic,
    /// Writes and atomics of global memory.
    pub written: Traffic,
    /// Shared memory.
    pub shared: Shared,
    /// Bytes of local memory read and written by lanes.
    pub local_bytes: u64,
    /// Allocations touched, by address.
    pub touched: Vec<Touched>,
}

impl Traffic {
    fn add(&mut self, other: Traffic) {
        let Traffic { requests, bytes, sectors, ideal_sectors, block_sectors, l2_sectors } = other;
        self.requests += requests;
        self.bytes += bytes;
        self.sectors += sectors;
        self.ideal_sectors += ideal_sectors;
        self.block_sectors += block_sectors;
        self.l2_sectors += l2_sectors;
    }
}

impl Stats {
    /// Instructions of `class`, once per warp.
    pub fn of_class(&self, class: Class) -> u64 {
        self.by_class[class as usize]
    }

    /// Bytes that have to pass between device memory and the chip: each distinct byte once.
    pub fn distinct_bytes(&self) -> u64 {
        self.touched.iter().map(|t| t.read_bytes + t.written_bytes).sum()
    }

    /// Passes over the banks that conflicts cost.
    pub fn bank_conflicts(&self) -> u64 {
        self.shared.wavefronts - self.shared.ideal_wavefronts
    }

    /// Adds another launch. What each touched stays listed by itself: bytes touched by both move twice.
    pub fn add(&mut self, other: &Stats) {
        self.blocks += other.blocks;
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        for (to, from) in self.by_class.iter_mut().zip(&other.by_class) {
            *to += from;
        }
        self.loads += other.loads;
        self.stores += other.stores;
        self.atomics += other.atomics;
        self.mma += other.mma;
        self.tensor_flops += other.tensor_flops;
        self.barriers += other.barriers;
        self.async_copies += other.async_copies;
        self.read.add(other.read);
        self.written.add(other.written);
        let Shared { requests, bytes, wavefronts, ideal_wavefronts } = other.shared;
        self.shared.requests += requests;
        self.shared.bytes += bytes;
        self.shared.wavefronts += wavefronts;
        self.shared.ideal_wavefronts += ideal_wavefronts;
        self.local_bytes += other.local_bytes;
        self.touched.extend(&other.touched);
    }
}
