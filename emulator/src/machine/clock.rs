//! What does a warp know of the others? Vector clocks (Mattern 1989), a row of periods per block.
//!
//! Every warp counts its periods: a period ends where others may learn of it (a barrier, a fence, a release). An entry
//! says up to which period everything another warp did comes before what happens next here.

use std::collections::BTreeMap;

/// Entries of one block: its warps, then the asynchronous agent of each.
const PER_BLOCK: u32 = 64;
/// Distance from a warp to its asynchronous agent.
const AGENTS: u32 = 32;
/// Owner of a clock that belongs to no block.
const NOBODY: u32 = u32::MAX;

/// A warp of a launch, or the agent that carries out its asynchronous copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(u32);

impl Who {
    /// Nobody: the who of an empty entry.
    pub(crate) const NONE: Who = Who(u32::MAX);

    /// Warp `warp` of the block with linear index `block`.
    pub(crate) fn warp(block: u32, warp: u32) -> Self {
        Who(block.wrapping_mul(PER_BLOCK) | (warp % AGENTS))
    }

    /// The agent of this warp.
    pub(crate) fn agent(self) -> Self {
        Who(self.0 | AGENTS)
    }

    pub(crate) fn is_agent(self) -> bool {
        self.0 & AGENTS != 0
    }

    /// Linear index of the block.
    pub(crate) fn block(self) -> u32 {
        self.0 / PER_BLOCK
    }

    /// Index of the warp in its block.
    pub(crate) fn index(self) -> u32 {
        self.0 % AGENTS
    }

    fn column(self) -> usize {
        (self.0 % PER_BLOCK) as usize
    }
}

/// A vector clock: the own block's row at hand, those of other blocks where anything is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    owner: u32,
    /// `None` while nothing is known.
    near: Option<Box<Row>>,
    far: BTreeMap<u32, Row>,
}

type Row = [u32; PER_BLOCK as usize];

impl Clock {
    /// A clock of block `owner` that knows nothing.
    pub(crate) fn of_block(owner: u32) -> Self {
        Clock { owner, near: None, far: BTreeMap::new() }
    }

    /// A clock of a place in memory that any block may pass through.
    pub(crate) fn shared() -> Self {
        Clock::of_block(NOBODY)
    }

    /// The period up to which `who` is known.
    #[inline(always)]
    pub(crate) fn get(&self, who: Who) -> u32 {
        if who.block() == self.owner {
            return self.near.as_ref().map_or(0, |row| row[who.column()]);
        }
        self.far.get(&who.block()).map_or(0, |row| row[who.column()])
    }

    /// Learns that `who` got through `period`.
    pub(crate) fn raise(&mut self, who: Who, period: u32) {
        let row = self.row(who.block());
        row[who.column()] = row[who.column()].max(period);
    }

    /// Learns all that `other` knows.
    pub(crate) fn join(&mut self, other: &Clock) {
        if let Some(near) = &other.near {
            raise_row(self.row(other.owner), near);
        }
        for (&block, row) in &other.far {
            raise_row(self.row(block), row);
        }
    }

    /// Learns what `other` knows of block `block` only.
    pub(crate) fn join_block(&mut self, other: &Clock, block: u32) {
        let near = other.near.as_deref().filter(|_| other.owner == block);
        if let Some(row) = near.or_else(|| other.far.get(&block)) {
            raise_row(self.row(block), row);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.near = None;
        self.far.clear();
    }

    fn row(&mut self, block: u32) -> &mut Row {
        if block == self.owner {
            return self.near.get_or_insert_with(|| Box::new([0; PER_BLOCK as usize]));
        }
        self.far.entry(block).or_insert([0; PER_BLOCK as usize])
    }
}

fn raise_row(to: &mut Row, from: &Row) {
    for (x, y) in to.iter_mut().zip(from) {
        *x = (*x).max(*y);
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Who};

    #[test]
    fn a_joined_clock_knows_the_later_of_both() {
        let (near, far) = (Who::warp(3, 1), Who::warp(9, 31).agent());
        let (mut a, mut b) = (Clock::of_block(3), Clock::shared());
        a.raise(near, 5);
        b.raise(near, 4);
        b.raise(far, 7);
        a.join(&b);
        assert_eq!((a.get(near), a.get(far), a.get(near.agent())), (5, 7, 0));
        let mut c = Clock::of_block(9);
        c.join_block(&a, 3);
        assert_eq!((c.get(near), c.get(far)), (5, 0));
        assert_eq!((far.block(), far.index(), far.is_agent()), (9, 31, true));
    }
}
