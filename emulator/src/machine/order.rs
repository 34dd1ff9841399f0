//! What comes before what? The order of one warp's accesses against all others, as the PTX memory model has it.
//!
//! Lanes are apart too: only `bar.warp.sync` and block barriers order them, whatever the schedule. Across warps the
//! knowledge is the warp's, not the lane's: what one lane acquires, all lanes of its warp are taken to know. Lenient in
//! two more places, as common idioms are: an `atom` followed by a block barrier acquires without a fence, and a fence
//! before a block barrier counts for whoever publishes behind it.
//!
//! **Source** PTX ISA 9.0, chapter 8 (memory consistency model).

use super::clock::{Clock, Who};
use super::shadow::Stamp;
use super::warp::LANES;
use crate::decode::op::{MemOrder, Reach};

/// What passes from those who arrive at a barrier to those who leave it.
#[derive(Clone, Debug)]
pub(crate) struct Handoff {
    clock: Clock,
    fenced: [Clock; 2],
    has_fenced: bool,
    proxied: Clock,
}

impl Handoff {
    /// Nothing to pass on, for a barrier that no block owns.
    pub(crate) fn anywhere() -> Self {
        let clock = Clock::shared();
        Handoff { fenced: [clock.clone(), clock.clone()], has_fenced: false, proxied: clock.clone(), clock }
    }

    /// `who` got through `period`.
    pub(crate) fn note(&mut self, who: Who, period: u32) {
        self.clock.raise(who, period);
    }

    /// Nothing to pass on, for a barrier of block `block`.
    pub(crate) fn new(block: u32) -> Self {
        let clock = Clock::of_block(block);
        Handoff { fenced: [clock.clone(), clock.clone()], has_fenced: false, proxied: clock.clone(), clock }
    }
}

/// What a reader of one place in memory may learn there: the releases its value stands for.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    device: Clock,
    block: Clock,
    of_block: u32,
}

/// Order of one warp.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) who: Who,
    /// Counts from 1.
    pub(crate) period: u32,
    clock: Clock,
    /// Up to this period all lanes know each other.
    synced: u32,
    /// `lanes[i][j]`: the period up to which lane i knows lane j; `None` where `synced` says it all.
    lanes: Option<Box<[[u32; LANES]; LANES]>>,
    /// What the last fence covered, by reach.
    fenced: [Clock; 2],
    has_fenced: bool,
    /// Releases observed by strong loads, and by read-modify-writes, that no fence has acquired yet.
    seen: Clock,
    updated: Clock,
    /// What a proxy fence has made visible to asynchronous copies.
    proxied: Clock,
    agent_period: u32,
}

impl Order {
    pub(crate) fn new(who: Who) -> Self {
        let clock = Clock::of_block(who.block());
        Order {
            who,
            period: 1,
            synced: 0,
            lanes: None,
            fenced: [clock.clone(), clock.clone()],
            has_fenced: false,
            seen: clock.clone(),
            updated: clock.clone(),
            proxied: clock.clone(),
            agent_period: 0,
            clock,
        }
    }

    /// Whether the access `stamp` comes before what `lanes` do now; all lanes at once follow all lanes at once.
    #[inline(always)]
    pub(crate) fn knows(&self, stamp: &Stamp, lanes: u32) -> bool {
        if stamp.who != self.who {
            return stamp.period <= self.clock.get(stamp.who);
        }
        stamp.period <= self.synced || stamp.lanes == lanes || self.lanes_know(stamp, lanes)
    }

    /// Whether an ordinary write is visible to asynchronous copies.
    pub(crate) fn knows_proxied(&self, stamp: &Stamp) -> bool {
        stamp.period <= self.proxied.get(stamp.who)
    }

    #[cold]
    fn lanes_know(&self, stamp: &Stamp, lanes: u32) -> bool {
        let Some(known) = &self.lanes else { return false };
        let pairs = |i: usize| (0..LANES).filter(move |&j| stamp.lanes >> j & 1 == 1 && i != j);
        (0..LANES).filter(|i| lanes >> i & 1 == 1).all(|i| pairs(i).all(|j| stamp.period <= known[i][j]))
    }

    /// Lanes in `mask` synchronise; `alive` are all that have not exited.
    pub(crate) fn sync_lanes(&mut self, mask: u32, alive: u32) {
        if alive & !mask == 0 {
            self.synced = self.period;
            self.lanes = None;
        } else {
            let synced = self.synced;
            let known = self.lanes.get_or_insert_with(|| Box::new([[synced; LANES]; LANES]));
            let mut row = [0; LANES];
            for i in (0..LANES).filter(|i| mask >> i & 1 == 1) {
                for (x, y) in row.iter_mut().zip(&known[i]) {
                    *x = (*x).max(*y);
                }
            }
            for (j, x) in row.iter_mut().enumerate().filter(|(j, _)| mask >> j & 1 == 1) {
                *x = self.period;
                known[j][j] = self.period;
            }
            for i in (0..LANES).filter(|i| mask >> i & 1 == 1) {
                known[i] = row;
            }
        }
        self.period += 1;
    }

    /// Everything up to here, as others may learn it; a new period begins.
    fn release(&mut self, reach: Reach, to: &mut [Clock; 2]) {
        self.clock.raise(self.who, self.period);
        self.period += 1;
        to[0].join(&self.clock);
        if reach == Reach::Device {
            to[1].join(&self.clock);
        }
    }

    /// `fence` or `membar`: acquires what strong accesses observed, and covers what came before.
    pub(crate) fn fence(&mut self, reach: Reach) {
        let (seen, updated, block) = (&mut self.seen, &mut self.updated, self.who.block());
        if reach == Reach::Device {
            for from in [seen, updated] {
                self.clock.join(from);
                from.clear();
            }
        } else {
            self.clock.join_block(seen, block);
            self.clock.join_block(updated, block);
        }
        let mut fenced = self.fenced.clone();
        self.release(reach, &mut fenced);
        self.fenced = fenced;
        self.has_fenced = true;
    }

    /// `fence.proxy.async`: what is known now becomes visible to asynchronous copies.
    pub(crate) fn proxy_fence(&mut self) {
        self.clock.raise(self.who, self.period);
        self.period += 1;
        self.proxied.join(&self.clock);
    }

    /// Arrives at a barrier.
    pub(crate) fn arrive(&mut self, to: &mut Handoff) {
        self.clock.join(&self.updated);
        self.updated.clear();
        self.clock.raise(self.who, self.period);
        self.period += 1;
        to.clock.join(&self.clock);
        to.proxied.join(&self.proxied);
        to.has_fenced |= self.has_fenced;
        for (to, from) in to.fenced.iter_mut().zip(&self.fenced) {
            to.join(from);
        }
    }

    /// Leaves a completed barrier.
    pub(crate) fn leave(&mut self, from: &Handoff) {
        self.clock.join(&from.clock);
        self.proxied.join(&from.proxied);
        for (to, from) in self.fenced.iter_mut().zip(&from.fenced) {
            to.join(from);
        }
        self.has_fenced |= from.has_fenced;
    }

    /// Whether a strong write without release semantics has anything to publish.
    pub(crate) fn has_fenced(&self) -> bool {
        self.has_fenced
    }

    /// A strong write puts a value where others read it. Plain stores end what was published there before.
    pub(crate) fn publish(&mut self, channel: &mut Channel, how: MemOrder, is_update: bool) {
        let mut fenced = self.fenced.clone();
        if how.release {
            self.release(how.reach, &mut fenced);
        }
        if !is_update {
            channel.device.clear();
            channel.block.clear();
        }
        channel.device.join(&fenced[1]);
        channel.block.join(&fenced[0]);
        channel.of_block = self.who.block();
    }

    /// A strong read observes the value of a channel.
    pub(crate) fn observe(&mut self, channel: &Channel, how: MemOrder, is_update: bool) {
        let to = match (how.acquire, is_update) {
            (true, _) => &mut self.clock,
            (false, true) => &mut self.updated,
            (false, false) => &mut self.seen,
        };
        to.join(&channel.device);
        if channel.of_block == self.who.block() {
            to.join_block(&channel.block, channel.of_block);
        }
    }

    /// Begins an asynchronous copy: the period of its agent.
    pub(crate) fn begin_async(&mut self) -> u32 {
        self.agent_period += 1;
        self.agent_period
    }

    /// The period of the agent's last copy.
    pub(crate) fn agent_period(&self) -> u32 {
        self.agent_period
    }

    /// What `agent` has started up to `period` is complete.
    pub(crate) fn complete_async(&mut self, agent: Who, period: u32) {
        self.clock.raise(agent, period);
    }
}

impl Channel {
    pub(crate) fn new() -> Self {
        Channel { device: Clock::shared(), block: Clock::shared(), of_block: u32::MAX }
    }
}
