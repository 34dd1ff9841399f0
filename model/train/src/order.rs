//! Which samples does a step see, which tokens are masked, how are clouds turned? What a seed draws.
//!
//! Law: everything follows from the seed and the step, never from what was drawn before, so a run that goes on draws
//! what one that was never stopped would have drawn.

use enel_text::philox4x32;

/// What numbers are drawn for; each purpose has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The order of an epoch.
    Order,
    /// The masked tokens of a cloud.
    Mask,
    /// The views of a cloud.
    View,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    left: Vec<u32>,
}

impl Draws {
    /// The stream of `purpose` at `(major, minor)`, such as an epoch, or a step and a cloud in it.
    pub fn new(seed: u64, purpose: Purpose, (major, minor): (u64, u32)) -> Draws {
        let key = [seed as u32, (seed >> 32) as u32];
        // Steps stay below 2^24, so the upper bits of the second word are free for the purpose.
        let purpose = match purpose {
            Purpose::Order => 0,
            Purpose::Mask => 1,
            Purpose::View => 2,
        };
        let high = ((major >> 32) as u32 & 0x00ff_ffff) | (purpose << 24);
        Draws { key, counter: [0, minor, major as u32, high], left: Vec::new() }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        loop {
            if let Some(next) = self.left.pop() {
                return next;
            }
            self.left.extend(philox4x32(self.key, self.counter));
            self.counter[0] = self.counter[0].wrapping_add(1);
        }
    }

    /// A whole number below `n`, 0 for `n = 0`.
    pub fn below(&mut self, n: u64) -> u64 {
        let wide = (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32());
        // The high half of the product; its bias is n / 2^64.
        ((u128::from(wide) * u128::from(n)) >> 64) as u64
    }

    /// A number in 0..1.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.next_u32()) / 4_294_967_296.0
    }

    /// `0..n` in a random order. **Source** Durstenfeld 1964, "Algorithm 235: Random permutation".
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }
}

/// The order of samples, epoch after epoch without a break.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    n_samples: usize,
    epoch: u64,
    shuffled: Vec<usize>,
}

impl Order {
    /// The order of `n_samples` samples, at least one.
    pub fn new(seed: u64, n_samples: usize) -> Order {
        let shuffled = Draws::new(seed, Purpose::Order, (0, 0)).shuffled(n_samples);
        Order { seed, n_samples, epoch: 0, shuffled }
    }

    /// The sample at `position`, counted from the first of the first epoch.
    pub fn at(&mut self, position: u64) -> usize {
        let n = self.n_samples.max(1) as u64;
        let epoch = position / n;
        if epoch != self.epoch {
            self.shuffled = Draws::new(self.seed, Purpose::Order, (epoch, 0)).shuffled(self.n_samples);
            self.epoch = epoch;
        }
        self.shuffled.get((position % n) as usize).copied().unwrap_or(0)
    }
}

/// Masked tokens and seen ones, of `n`, each in ascending order.
pub fn mask(seed: u64, (step, cloud): (u64, u32), n: usize, n_masked: usize) -> (Vec<i32>, Vec<i32>) {
    let order = Draws::new(seed, Purpose::Mask, (step, cloud)).shuffled(n);
    let sorted = |part: &[usize]| {
        let mut part: Vec<i32> = part.iter().map(|&token| token as i32).collect();
        part.sort_unstable();
        part
    };
    let (masked, seen) = order.split_at(n_masked.min(n));
    (sorted(masked), sorted(seen))
}

/// Turns points `[.., channels]` about y and moves them, by numbers of one view.
pub fn view(seed: u64, (step, cloud): (u64, u32), shift: f64, (points, channels): (&mut [f32], usize)) {
    let mut draws = Draws::new(seed, Purpose::View, (step, cloud));
    let (sin, cos) = (draws.unit() * std::f64::consts::TAU).sin_cos();
    let moved: [f64; 3] = std::array::from_fn(|_| (2.0 * draws.unit() - 1.0) * shift);
    for point in points.chunks_exact_mut(channels.max(3)) {
        let [x, y, z] = [point[0], point[1], point[2]].map(f64::from);
        point[0] = (x * cos + z * sin + moved[0]) as f32;
        point[1] = (y + moved[1]) as f32;
        point[2] = (z * cos - x * sin + moved[2]) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once_in_another_order() {
        let mut order = Order::new(7, 50);
        let mut epoch = |e: u64| -> Vec<usize> { (0..50).map(|i| order.at(50 * e + i)).collect() };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        assert_eq!(epoch(0), first, "an epoch can be looked at again");
        for mut seen in [first, second] {
            seen.sort_unstable();
            assert_eq!(seen, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(Order::new(8, 50).at_range(0..50), Order::new(7, 50).at_range(0..50));
    }

    impl Order {
        fn at_range(&mut self, range: std::ops::Range<u64>) -> Vec<usize> {
            range.map(|i| self.at(i)).collect()
        }
    }

    #[test]
    fn masked_and_seen_tokens_make_all() {
        let (masked, seen) = mask(1, (3, 2), 16, 4);
        assert_eq!((masked.len(), seen.len()), (4, 12));
        assert!(masked.is_sorted() && seen.is_sorted());
        let mut all = [masked.clone(), seen].concat();
        all.sort_unstable();
        assert_eq!(all, (0..16).collect::<Vec<_>>());
        assert_ne!(mask(1, (4, 2), 16, 4).0, masked, "another step masks others");
    }

    #[test]
    fn a_view_keeps_distances_and_colours() {
        let mut points = vec![1.0, 2.0, 3.0, 0.5, -1.0, 0.0, 2.0, 0.25];
        let distance = |p: &[f32]| (0..3).map(|i| f64::from(p[i] - p[4 + i]).powi(2)).sum::<f64>();
        let before = distance(&points);
        view(5, (0, 0), 0.2, (&mut points, 4));
        assert!((distance(&points) - before).abs() < 1e-5);
        assert_eq!((points[3], points[7]), (0.5, 0.25));
        assert_ne!(points[0], 1.0);
    }
}
