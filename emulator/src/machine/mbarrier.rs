//! What is an mbarrier? Eight bytes of shared memory: phase, arrivals still pending, arrivals expected, bytes in flight.
//!
//! The hardware's layout is opaque; here, from bit 0: pending (20), expected (20), bytes (21, signed), phase (1), and
//! two bits that mark an initialised object. A phase ends when nobody is pending and no bytes are in flight.

use super::access::{Fault, Home, Lane, MemoryFault, Request, resolve};
use super::block::Env;
use super::shared::Shared;
use super::warp::{LANES, Wait, Warp};
use crate::decode::hopper_op::{Count, Mbar, MbarKind, MbarWait, Phase};
use crate::decode::op::{Addr, MemSpace, R};
use crate::error::Access;

/// Largest count and largest number of bytes in flight (PTX ISA 9.0, section 9.7.13.15).
const MAX_COUNT: u32 = (1 << 20) - 1;
/// The upper bits of an initialised object.
const MARK: u64 = 0b10;

/// A decoded object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) pending: u32,
    expected: u32,
    pub(crate) tx_bytes: i32,
    pub(crate) phase: u32,
}

/// What an access to an object may find wrong with it.
type Checked<T> = Result<T, String>;

impl Object {
    fn new(count: u32) -> Object {
        Object { pending: count, expected: count, tx_bytes: 0, phase: 0 }
    }

    fn pack(self) -> u64 {
        let tx = self.tx_bytes as u64 & 0x1f_ffff;
        u64::from(self.pending) | u64::from(self.expected) << 20 | tx << 40 | u64::from(self.phase) << 61 | MARK << 62
    }

    fn unpack(bits: u64) -> Option<Object> {
        let tx_bytes = ((bits >> 40) as i32) << 11 >> 11;
        (bits >> 62 == MARK).then_some(Object {
            pending: bits as u32 & MAX_COUNT,
            expected: (bits >> 20) as u32 & MAX_COUNT,
            tx_bytes,
            phase: (bits >> 61) as u32 & 1,
        })
    }

    /// The object at `at`, if there is one.
    pub(crate) fn load(shared: &Shared, at: usize) -> Option<Object> {
        if !shared.is_written(at, 8) {
            return None;
        }
        Object::unpack(shared.load(at, 8))
    }

    /// Ends the phase if it is complete; true if it was.
    fn settle(&mut self) -> bool {
        let done = self.pending == 0 && self.tx_bytes == 0;
        if done {
            self.phase ^= 1;
            self.pending = self.expected;
        }
        done
    }

    fn arrive(&mut self, count: u32) -> Checked<bool> {
        if count == 0 || count > self.pending {
            return Err(format!("{count} arrivals, but {} are pending of {}", self.pending, self.expected));
        }
        self.pending -= count;
        Ok(self.settle())
    }

    fn add_tx(&mut self, bytes: i64) -> Checked<()> {
        let sum = i64::from(self.tx_bytes) + bytes;
        if sum.unsigned_abs() > u64::from(MAX_COUNT) {
            return Err(format!("{sum} bytes in flight, at most {MAX_COUNT} can be counted"));
        }
        self.tx_bytes = sum as i32;
        Ok(())
    }

    fn apply(&mut self, kind: MbarKind, count: u32) -> Checked<bool> {
        match kind {
            MbarKind::Init | MbarKind::Inval => Ok(false),
            MbarKind::Arrive => self.arrive(count),
            MbarKind::ArriveExpectTx => {
                self.add_tx(count.into())?;
                self.arrive(1)
            }
            MbarKind::ArriveNoComplete if count >= self.pending => {
                Err(format!("{count} arrivals that must not complete the phase, {} are pending", self.pending))
            }
            MbarKind::ArriveNoComplete => self.arrive(count),
            MbarKind::ArriveDrop => {
                let left = self.expected.checked_sub(count);
                self.expected = left.ok_or_else(|| format!("drops {count} of {} arrivals", self.expected))?;
                self.arrive(count)
            }
            MbarKind::ExpectTx => self.add_tx(count.into()).map(|()| false),
            MbarKind::CompleteTx => self.complete_tx(count),
        }
    }

    fn complete_tx(&mut self, bytes: u32) -> Checked<bool> {
        self.add_tx(-i64::from(bytes))?;
        Ok(self.settle())
    }
}

/// An update of the object at `at` that comes from outside an instruction; true if a phase ended.
pub(crate) fn update(shared: &mut Shared, at: usize, kind: MbarKind, count: u32) -> Checked<bool> {
    let mut object = Object::load(shared, at).ok_or("there is no initialised mbarrier")?;
    let flipped = object.apply(kind, count)?;
    shared.store(at, 8, object.pack());
    Ok(flipped)
}

impl Env<'_> {
    /// The place in some block's shared memory that lane `lane` means: rank and offset.
    pub(crate) fn shared_spot(
        &self,
        access: Access,
        space: MemSpace,
        lane: usize,
        (address, bytes): (u64, u32),
    ) -> Lane<(usize, usize)> {
        let (home, address) = resolve(space, address);
        let req = Request { lane, access, home, address, bytes };
        if home != Home::Shared {
            return req.fault(MemoryFault::OutOfBounds);
        }
        let Some((rank, offset)) = self.locate(address) else { return req.fault(MemoryFault::OutOfBounds) };
        if u64::from(offset) + u64::from(bytes) > u64::from(self.smem(rank).bytes) {
            return req.fault(MemoryFault::OutOfBounds);
        }
        Ok((rank, offset as usize))
    }

    /// The spot of an mbarrier, which must be a multiple of 8.
    pub(crate) fn mbar_spot(&self, addr: Addr, lane: usize, address: u64) -> Lane<(usize, usize)> {
        let spot = self.shared_spot(Access::Atomic, addr.space, lane, (address, 8))?;
        if !spot.1.is_multiple_of(8) {
            let (home, address) = resolve(addr.space, address);
            return Request { lane, access: Access::Atomic, home, address, bytes: 8 }.fault(MemoryFault::Misaligned);
        }
        Ok(spot)
    }

    pub(crate) fn exec_mbar(&mut self, warp: &mut Warp, m: u32, mbar: Mbar) -> Lane<()> {
        let addresses = warp.addresses(mbar.addr);
        let mut states = [0; LANES];
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let (rank, at) = self.mbar_spot(mbar.addr, lane, addresses[lane])?;
            let count = match mbar.count {
                Count::Reg(r) => warp.get32(r)[lane],
                Count::One => 1,
            };
            let broken = |detail| Box::new((lane as u32, Fault::Mbarrier { address: at as u64, detail }));
            if count > MAX_COUNT || (count == 0 && mbar.kind == MbarKind::Init) {
                return Err(broken(format!("a count of {count}, expected at most {MAX_COUNT}")));
            }
            let kind = if mbar.kind == MbarKind::Init || mbar.kind == MbarKind::Inval {
                Access::Write
            } else {
                Access::Atomic
            };
            self.watch_mbarrier(warp, lane, kind, (rank, at))?;
            let shared = self.smem_mut(rank);
            match mbar.kind {
                MbarKind::Init => {
                    shared.store(at, 8, Object::new(count).pack());
                    self.reset_mbarrier((rank, at));
                }
                MbarKind::Inval => {
                    Object::load(shared, at).ok_or_else(|| broken("there is no initialised mbarrier".into()))?;
                    shared.store(at, 8, 0);
                    shared.forget(at, 8);
                }
                kind => {
                    states[lane] = shared.load(at, 8);
                    let flips = update(shared, at, kind, count).map_err(broken)?;
                    self.hub.events += u64::from(flips);
                    self.release_mbarrier(warp, (rank, at), flips);
                }
            }
        }
        if let Some(d) = mbar.state {
            warp.set64(d, m, &states);
        }
        Ok(())
    }

    /// Tests a phase; `Some` is what to wait for when it is not over and the warp should sleep.
    pub(crate) fn exec_mbar_wait(&mut self, warp: &mut Warp, m: u32, wait: MbarWait) -> Lane<Option<Wait>> {
        let addresses = warp.addresses(wait.addr);
        let (mut over, mut open) = (0, None);
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let (rank, at) = self.mbar_spot(wait.addr, lane, addresses[lane])?;
            self.watch_mbarrier(warp, lane, Access::Atomic, (rank, at))?;
            let object = Object::load(self.smem(rank), at).ok_or_else(|| {
                let detail = "waits, but there is no initialised mbarrier".into();
                Box::new((lane as u32, Fault::Mbarrier { address: at as u64, detail }))
            })?;
            let phase = match wait.phase {
                Phase::Parity(r) => warp.get32(r)[lane] & 1,
                Phase::State(r) => (warp.get64(r)[lane] >> 61) as u32 & 1,
            };
            if object.phase == phase {
                open = open.or(Some(Wait::Mbarrier { rank: rank as u32, at: at as u32, phase }));
            } else {
                over |= 1 << lane;
                self.acquire_mbarrier(warp, (rank, at));
            }
        }
        // Asleep until the phase ends. A wait may also give up: when nothing else can run, or at the seed's whim.
        let gives_up = warp.expired & m != 0 || self.hub.whim();
        if open.is_some() && !gives_up {
            return Ok(open);
        }
        warp.expired &= !m;
        warp.set_pred(wait.d, m, over);
        Ok(None)
    }

    /// One arrival more than the phase expected: the one that `cp.async.mbarrier.arrive` will cause.
    pub(crate) fn expect_arrival(&mut self, lane: usize, (rank, at): (usize, usize)) -> Lane<()> {
        let shared = self.smem_mut(rank);
        let broken = |detail: &str| {
            Err(Box::new((lane as u32, Fault::Mbarrier { address: at as u64, detail: detail.to_owned() })))
        };
        match Object::load(shared, at) {
            None => broken("there is no initialised mbarrier"),
            Some(object) if object.pending == MAX_COUNT => broken("too many arrivals are pending"),
            Some(object) => {
                shared.store(at, 8, Object { pending: object.pending + 1, ..object }.pack());
                Ok(())
            }
        }
    }

    pub(crate) fn exec_pending_count(&mut self, warp: &mut Warp, m: u32, d: R, state: R) {
        warp.fill32(m, d, |w, lane| w.get64(state)[lane] as u32 & MAX_COUNT);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn a_phase_ends_when_arrivals_and_bytes_are_both_in() {
        let mut object = Object::new(2);
        assert_eq!(object.apply(MbarKind::ArriveExpectTx, 64), Ok(false));
        assert_eq!(object.apply(MbarKind::Arrive, 1), Ok(false));
        assert_eq!(object.apply(MbarKind::CompleteTx, 48), Ok(false));
        assert_eq!(object.apply(MbarKind::CompleteTx, 16), Ok(true));
        assert_eq!((object.phase, object.pending), (1, 2));
        assert!(object.apply(MbarKind::Arrive, 3).is_err());
    }

    #[test]
    fn bytes_may_arrive_before_they_are_expected() {
        let mut object = Object::new(1);
        assert_eq!(object.apply(MbarKind::CompleteTx, 1000), Ok(false));
        assert_eq!(Object::unpack(object.pack()), Some(object));
        assert_eq!(object.apply(MbarKind::ArriveExpectTx, 1000), Ok(true));
        assert_eq!(object.phase, 1);
    }

    #[test]
    fn a_dropped_arrival_is_not_expected_again() {
        let mut object = Object::new(3);
        object.apply(MbarKind::ArriveDrop, 1).unwrap();
        assert_eq!(object.apply(MbarKind::Arrive, 2), Ok(true));
        assert_eq!(object.pending, 2);
        assert!(object.apply(MbarKind::ArriveNoComplete, 2).is_err());
    }
}
