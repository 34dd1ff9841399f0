//! How do the points of a file become a checked cloud of bounded size?
//!
//! Points come one by one. Beyond a bound a random choice of them is left, the same for the same seed, in the order
//! of the file. Law: memory follows the bound and the points seen, never what a header promises.
//! **Source** Vitter 1985, "Random sampling with a reservoir", Algorithm R.

use crate::cloud::Cloud;
use crate::fault::Fault;
use crate::random::SplitMix64;

/// Rounding of a writer may push a full channel this far above 1.
const COLOUR_SLACK: f32 = 1e-3;
/// Coordinates beyond this are taken relative to the first point: 2^12, where f32 still steps by 2^-12 of a unit.
const FAR: f64 = 4096.0;

/// What a full colour channel is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ColourScale {
    /// This number.
    Full(f32),
    /// 1 if no channel is above it, else 255.
    Unknown,
    /// 255 if no channel is above it, else 65535: 16-bit fields that writers fill with 8 bits.
    Wide,
}

/// What a reader says about its points before the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) colour: Option<ColourScale>,
    /// Coordinates are f32 already, so nothing is gained by moving them.
    pub(crate) is_f32: bool,
    /// Points the rest of the file can hold at most.
    pub(crate) n_max: usize,
}

/// What was collected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collected {
    pub(crate) cloud: Cloud,
    pub(crate) n_seen: u64,
    /// What was subtracted from every point.
    pub(crate) origin: [f64; 3],
}

/// Takes points.
#[derive(Debug)]
pub(crate) struct Collector {
    limit: usize,
    random: SplitMix64,
    layout: Layout,
    n_seen: u64,
    origin: [f64; 3],
    xyz: Vec<[f32; 3]>,
    rgb: Vec<[f32; 3]>,
    /// Positions in the file of the points held, once not all are.
    chosen: Vec<u64>,
    /// The largest channel so far: value, point, channel.
    brightest: (f32, u64, usize),
}

impl Collector {
    /// Holds at most `limit` points.
    pub(crate) fn new(limit: usize, seed: u64) -> Self {
        Self {
            limit: limit.max(1),
            random: SplitMix64::new(seed),
            layout: Layout { colour: None, is_f32: true, n_max: 0 },
            n_seen: 0,
            origin: [0.0; 3],
            xyz: Vec::new(),
            rgb: Vec::new(),
            chosen: Vec::new(),
            brightest: (0.0, 0, 0),
        }
    }

    /// Says what follows.
    pub(crate) fn begin(&mut self, layout: Layout) {
        self.layout = layout;
        let capacity = layout.n_max.min(self.limit);
        self.xyz.reserve(capacity);
        if layout.colour.is_some() {
            self.rgb.reserve(capacity);
        }
    }

    /// Points so far.
    pub(crate) fn n_seen(&self) -> u64 {
        self.n_seen
    }

    /// Takes a point; `rgb` is ignored where the layout has no colour.
    pub(crate) fn push(&mut self, xyz: [f64; 3], rgb: [f32; 3]) -> Result<(), Fault> {
        let index = self.n_seen;
        if let Some(axis) = xyz.iter().position(|value| !value.is_finite()) {
            return Err(Fault::NotFinite { index, channel: ["x", "y", "z"][axis], value: xyz[axis] });
        }
        if self.layout.colour.is_some() {
            self.check_colour(index, rgb)?;
        }
        if index == 0 && !self.layout.is_f32 {
            self.origin = origin_of(xyz);
        }
        self.n_seen += 1;
        let moved = [xyz[0] - self.origin[0], xyz[1] - self.origin[1], xyz[2] - self.origin[2]].map(|v| v as f32);
        if let Some(axis) = moved.iter().position(|value| !value.is_finite()) {
            return Err(Fault::NotFinite { index, channel: ["x", "y", "z"][axis], value: xyz[axis] });
        }
        self.keep(index, moved, rgb);
        Ok(())
    }

    fn check_colour(&mut self, index: u64, rgb: [f32; 3]) -> Result<(), Fault> {
        for (channel, &value) in rgb.iter().enumerate() {
            if !value.is_finite() {
                return Err(Fault::NotFinite { index, channel: CHANNELS[channel], value: f64::from(value) });
            }
            if value < 0.0 {
                return Err(Fault::Colour { index, channel: CHANNELS[channel], value, full: self.full() });
            }
            if value > self.brightest.0 {
                self.brightest = (value, index, channel);
            }
        }
        Ok(())
    }

    fn keep(&mut self, index: u64, xyz: [f32; 3], rgb: [f32; 3]) {
        let has_colour = self.layout.colour.is_some();
        if self.xyz.len() < self.limit {
            self.xyz.push(xyz);
            if has_colour {
                self.rgb.push(rgb);
            }
            return;
        }
        if self.chosen.is_empty() {
            self.chosen = (0..self.limit as u64).collect();
        }
        let place = self.random.below(index + 1);
        if place < self.limit as u64 {
            let place = place as usize;
            self.xyz[place] = xyz;
            self.chosen[place] = index;
            if has_colour {
                self.rgb[place] = rgb;
            }
        }
    }

    fn full(&self) -> f32 {
        match self.layout.colour {
            Some(ColourScale::Full(full)) => full,
            Some(ColourScale::Wide) => {
                if self.brightest.0 <= 255.0 {
                    255.0
                } else {
                    65535.0
                }
            }
            Some(ColourScale::Unknown) if self.brightest.0 > 1.0 + COLOUR_SLACK => 255.0,
            Some(ColourScale::Unknown) | None => 1.0,
        }
    }

    /// The cloud.
    pub(crate) fn finish(mut self) -> Result<Collected, Fault> {
        if self.xyz.is_empty() {
            return Err(Fault::NoPoints);
        }
        let full = self.full();
        let (value, index, channel) = self.brightest;
        if value > full * (1.0 + COLOUR_SLACK) {
            return Err(Fault::Colour { index, channel: CHANNELS[channel], value, full });
        }
        if !self.chosen.is_empty() {
            let mut order: Vec<usize> = (0..self.chosen.len()).collect();
            order.sort_unstable_by_key(|&place| self.chosen[place]);
            self.xyz = order.iter().map(|&place| self.xyz[place]).collect();
            if self.layout.colour.is_some() {
                self.rgb = order.iter().map(|&place| self.rgb[place]).collect();
            }
        }
        self.rgb.as_flattened_mut().iter_mut().for_each(|value| *value = (*value / full).min(1.0));
        let rgb = self.layout.colour.is_some().then_some(self.rgb);
        Ok(Collected { cloud: Cloud { xyz: self.xyz, rgb }, n_seen: self.n_seen, origin: self.origin })
    }
}

const CHANNELS: [&str; 3] = ["red", "green", "blue"];

/// What to subtract from every point when the first is `first`: nothing near the origin, whole units far from it.
pub(crate) fn origin_of(first: [f64; 3]) -> [f64; 3] {
    let is_far = first.iter().any(|value| value.abs() > FAR);
    if is_far { first.map(f64::round) } else { [0.0; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(n: usize, limit: usize, seed: u64) -> Collected {
        let mut out = Collector::new(limit, seed);
        out.begin(Layout { colour: Some(ColourScale::Unknown), is_f32: false, n_max: 4 });
        for i in 0..n {
            out.push([i as f64, 0.0, 0.0], [i as f32 / n as f32; 3]).unwrap();
        }
        out.finish().unwrap()
    }

    #[test]
    fn a_choice_is_of_the_limits_size_in_file_order_and_follows_the_seed() {
        let chosen = collect(1000, 100, 1);
        assert_eq!((chosen.cloud.xyz.len(), chosen.n_seen), (100, 1000));
        assert!(chosen.cloud.xyz.is_sorted_by(|a, b| a[0] < b[0]));
        let rgb = chosen.cloud.rgb.as_ref().unwrap();
        assert!(chosen.cloud.xyz.iter().zip(rgb).all(|(p, c)| (p[0] / 1000.0 - c[0]).abs() < 1e-6));
        assert_eq!(chosen, collect(1000, 100, 1));
        assert_ne!(chosen, collect(1000, 100, 2));
        let mean: f32 = chosen.cloud.xyz.iter().map(|p| p[0]).sum::<f32>() / 100.0;
        // The mean of 100 of 0..1000 has a standard deviation of 27.
        assert!((mean - 500.0).abs() < 110.0, "{mean}");
    }

    #[test]
    fn far_points_keep_their_distances() {
        let mut out = Collector::new(10, 0);
        out.begin(Layout { colour: None, is_f32: false, n_max: 2 });
        out.push([4_500_000.25, 1.0, 2.0], [0.0; 3]).unwrap();
        out.push([4_500_000.5, 1.0, 2.0], [0.0; 3]).unwrap();
        let Collected { cloud, origin, .. } = out.finish().unwrap();
        assert_eq!(origin, [4_500_000.0, 1.0, 2.0]);
        assert_eq!(cloud.xyz, [[0.25, 0.0, 0.0], [0.5, 0.0, 0.0]]);
    }

    #[test]
    fn wide_channels_are_of_8_bits_when_none_is_above() {
        for (value, expected) in [(255.0, 1.0), (65535.0, 1.0), (256.0, 256.0 / 65535.0)] {
            let mut out = Collector::new(10, 0);
            out.begin(Layout { colour: Some(ColourScale::Wide), is_f32: true, n_max: 1 });
            out.push([0.0; 3], [value, 0.0, 0.0]).unwrap();
            assert_eq!(out.finish().unwrap().cloud.rgb.unwrap()[0][0], expected);
        }
    }
}
