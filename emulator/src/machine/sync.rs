//! What do instructions that need several lanes compute: shuffles, votes, matches, reductions?

use super::warp::{LANES, Warp};
use crate::decode::op::{R, ReduxOp, ShflMode, VoteMode, WarpOp};

/// What a shuffle gives where it has no value to give.
const NO_VALUE: u32 = 0xffff_dead;

impl Warp {
    /// Executes `op` for the lanes in `m`, which all stand here; lanes that got the value of a lane that does not.
    pub(crate) fn warp_op(&mut self, op: WarpOp, m: u32) -> u32 {
        match op {
            WarpOp::Sync => {}
            WarpOp::Shfl { mode, d, p, a, b, c } => return self.shfl(mode, m, (d, p), a, (b, c)),
            WarpOp::VotePred { mode, d, a } => {
                let yes = self.pred(a) & m;
                let result = match mode {
                    VoteMode::All => yes == m,
                    VoteMode::Any => yes != 0,
                    VoteMode::Uni | VoteMode::Ballot => yes == m || yes == 0,
                };
                self.set_pred(d, m, if result { m } else { 0 });
            }
            WarpOp::Ballot { d, a } => {
                let yes = self.pred(a) & m;
                self.fill32(m, d, |_, _| yes);
            }
            WarpOp::MatchAny { d, a, wide } => {
                let values = self.values(a, wide);
                self.fill32(m, d, |_, i| equal_lanes(&values, values[i], m));
            }
            WarpOp::MatchAll { d, p, a, wide } => {
                let values = self.values(a, wide);
                let first = values[m.trailing_zeros() as usize % LANES];
                let all = equal_lanes(&values, first, m) == m;
                self.fill32(m, d, |_, _| if all { m } else { 0 });
                if let Some(p) = p {
                    self.set_pred(p, m, if all { m } else { 0 });
                }
            }
            WarpOp::Redux { op, d, a } => {
                let row = *self.get32(a);
                let lanes = (0..LANES).filter(|i| m >> i & 1 == 1).map(|i| row[i]);
                let result = lanes.reduce(|x, y| match op {
                    ReduxOp::Add => x.wrapping_add(y),
                    ReduxOp::MinS => (x as i32).min(y as i32) as u32,
                    ReduxOp::MinU => x.min(y),
                    ReduxOp::MaxS => (x as i32).max(y as i32) as u32,
                    ReduxOp::MaxU => x.max(y),
                    ReduxOp::And => x & y,
                    ReduxOp::Or => x | y,
                    ReduxOp::Xor => x ^ y,
                });
                self.fill32(m, d, |_, _| result.unwrap_or(0));
            }
            WarpOp::Elect { d, p } => {
                let leader = m.trailing_zeros();
                self.fill32(m, d, |_, _| leader);
                self.set_pred(p, m, 1 << (leader % 32));
            }
        }
        0
    }

    fn values(&self, a: R, wide: bool) -> [u64; LANES] {
        if wide { *self.get64(a) } else { self.get32(a).map(u64::from) }
    }

    /// PTX ISA 9.0, section 9.7.9.6: `c` packs a clamp (bits 0-4) and a segment mask (bits 8-12).
    ///
    /// The value of a lane that does not take part is undefined: what comes instead is a NaN, and no lane's number.
    fn shfl(&mut self, mode: ShflMode, m: u32, (d, p): (R, Option<R>), a: R, (b, c): (R, R)) -> u32 {
        let (source, by, control) = (*self.get32(a), *self.get32(b), *self.get32(c));
        let (mut in_range, mut astray) = (0u32, 0u32);
        let mut out = [0; LANES];
        for lane in 0..LANES as u32 {
            let (bval, cval) = (by[lane as usize] & 0x1f, control[lane as usize] & 0x1f);
            let segment = control[lane as usize] >> 8 & 0x1f;
            let max_lane = lane & segment | cval & !segment;
            let min_lane = lane & segment;
            let (from, ok) = match mode {
                ShflMode::Up => (lane as i32 - bval as i32, lane as i32 - bval as i32 >= max_lane as i32),
                ShflMode::Down => ((lane + bval) as i32, lane + bval <= max_lane),
                ShflMode::Bfly => ((lane ^ bval) as i32, lane ^ bval <= max_lane),
                ShflMode::Idx => {
                    let from = min_lane | bval & !segment;
                    (from as i32, from <= max_lane)
                }
            };
            let from = if ok { from as usize % LANES } else { lane as usize };
            let is_here = m >> from & 1 == 1;
            out[lane as usize] = if is_here { source[from] } else { NO_VALUE };
            astray |= u32::from(!is_here) << lane;
            in_range |= u32::from(ok) << lane;
        }
        self.set32(d, m, &out);
        if let Some(p) = p {
            self.set_pred(p, m, in_range);
        }
        astray & m
    }
}

fn equal_lanes(values: &[u64; LANES], value: u64, m: u32) -> u32 {
    (0..LANES).filter(|i| m >> i & 1 == 1 && values[*i] == value).fold(0, |acc, i| acc | 1 << i)
}
