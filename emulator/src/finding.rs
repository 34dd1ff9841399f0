//! What do a data race and a result touched too early look like to whoever must mend them? Both instructions, where
//! they are, and what was missing.

use crate::error::{Access, Place, Space};

/// Why two accesses are a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No barrier, fence, release or warp synchronisation orders them.
    Unordered,
    /// Two lanes of one store write different values.
    SameInstruction,
    /// The other access is an asynchronous copy nobody has waited for.
    InFlight,
    /// An ordinary write, and an asynchronous copy without `fence.proxy.async` between them.
    ProxyFence,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cause::Unordered => "nothing orders it after",
            Cause::SameInstruction => "another value than, in the same instruction,",
            Cause::InFlight => "nobody has waited for",
            Cause::ProxyFence => "no `fence.proxy.async` follows",
        })
    }
}

/// Two accesses to the same bytes, at least one of them a write, that nothing orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Race {
    /// The access at which the race showed.
    pub place: Place,
    /// What it does.
    pub access: Access,
    /// Which memory.
    pub space: Space,
    /// Its address: in shared memory an offset.
    pub address: u64,
    /// Its size.
    pub bytes: u32,
    /// The variable or allocation it lies in, with the offset.
    pub object: String,
    /// The earlier access.
    pub other: Place,
    /// What that did.
    pub other_access: Access,
    /// What is wrong between them.
    pub cause: Cause,
}

impl std::fmt::Display for Race {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Race { place, access, space, address, bytes, object, other, other_access, cause } = self;
        let ([bx, by, bz], [tx, ty, tz]) = (other.block, other.thread);
        write!(f, "{place}: race: {access} of {bytes} B at {space} address {address:#x} ({object}): {cause} ")?;
        write!(f, "the {other_access} at PTX line {}", other.ptx_line)?;
        if let Some((file, line)) = &other.source {
            write!(f, " ({file}:{line})")?;
        }
        write!(f, " by block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})")
    }
}

/// An accumulator of an asynchronous `wgmma` that another instruction touches before its group is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Early {
    /// The instruction that touches it.
    pub place: Place,
    /// What it does.
    pub access: Access,
    /// Position among the accumulators.
    pub accumulator: usize,
    /// The `wgmma.mma_async` whose result it will be.
    pub multiplication: Place,
}

impl std::fmt::Display for Early {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Early { place, access, accumulator, multiplication } = self;
        write!(f, "{place}: {access} of accumulator {accumulator} of the `wgmma.mma_async` at PTX line ")?;
        write!(f, "{}", multiplication.ptx_line)?;
        if let Some((file, line)) = &multiplication.source {
            write!(f, " ({file}:{line})")?;
        }
        f.write_str(", whose group no `wgmma.wait_group` has completed")
    }
}
