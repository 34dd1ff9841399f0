//! How does a cloud of any size become what a model takes?
//!
//! Order: too many points are sub-sampled, positions are normalised, too few points are repeated, colours are set
//! beside. Law: defined in f32 to the bit, so every device and every run sees the same input.

use crate::cloud::Cloud;

/// The sizes a model accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareConfig {
    /// Fewer points are repeated cyclically up to this many.
    pub min_points: usize,
    /// More points are sub-sampled down to this many.
    pub max_points: usize,
}

impl PrepareConfig {
    /// Every cloud gets exactly `n_points`.
    pub fn exactly(n_points: usize) -> Self {
        Self { min_points: n_points, max_points: n_points }
    }
}

/// Why a cloud cannot be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No points at all.
    #[error("the cloud has no points")]
    NoPoints,
    /// Positions and colours differ in number.
    #[error("the cloud has {n_points} points and {n_colours} colours")]
    ColourCount {
        /// Positions.
        n_points: usize,
        /// Colours.
        n_colours: usize,
    },
    /// A coordinate that is no number, or distances whose squares f32 cannot hold.
    #[error("the cloud's coordinates are not finite, or too near or far apart for f32; rescale it")]
    NotFinite,
    /// Bounds without any size between them.
    #[error("no cloud has at least {min_points} and at most {max_points} points")]
    Bounds {
        /// Lower bound.
        min_points: usize,
        /// Upper bound.
        max_points: usize,
    },
}

/// What was done to a cloud, to be told to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareReport {
    /// Points of the file.
    pub n_given: usize,
    /// Points of it that are left; less than given after sub-sampling.
    pub n_kept: usize,
    /// Points of the result; more than kept after repetition.
    pub n_points: usize,
    /// Whether the file has colours; without, they are 0.
    pub has_colour: bool,
}

/// A model's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// `[points, 6]`: x, y, z, red, green, blue.
    pub points: Vec<f32>,
    /// What was done.
    pub report: PrepareReport,
}

/// Makes `cloud` a model's input of a size within `config`.
///
/// Sub-sampling keeps point `floor(i * given / kept)` for each i, so a cloud in random order stays a fair sample.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(cloud: &Cloud, config: PrepareConfig) -> Result<Prepared, PrepareError> {
    let PrepareConfig { min_points, max_points } = config;
    if max_points == 0 || min_points > max_points {
        return Err(PrepareError::Bounds { min_points, max_points });
    }
    let n_given = cloud.xyz.len();
    if n_given == 0 {
        return Err(PrepareError::NoPoints);
    }
    if let Some(n_colours) = cloud.rgb.as_ref().map(Vec::len).filter(|&n| n != n_given) {
        return Err(PrepareError::ColourCount { n_points: n_given, n_colours });
    }
    let n_kept = n_given.min(max_points);
    // In u128 the product cannot overflow.
    let source = |index: usize| (index as u128 * n_given as u128 / n_kept as u128) as usize;
    let mut xyz: Vec<[f32; 3]> = (0..n_kept).map(|index| cloud.xyz[source(index)]).collect();
    pc_norm(&mut xyz);
    if !xyz.as_flattened().iter().all(|value| value.is_finite()) {
        return Err(PrepareError::NotFinite);
    }
    let n_points = n_kept.max(min_points);
    let mut points = Vec::with_capacity(n_points.saturating_mul(6));
    for index in (0..n_kept).cycle().take(n_points) {
        points.extend_from_slice(&xyz[index]);
        points.extend_from_slice(&cloud.rgb.as_ref().map_or([0.0; 3], |rgb| rgb[source(index)]));
    }
    let report = PrepareReport { n_given, n_kept, n_points, has_colour: cloud.rgb.is_some() };
    Ok(Prepared { points, report })
}

/// Moves the mean to the origin and scales the farthest point to distance 1.
///
/// The mean of each axis is its sum in f32, in the order of the points, over their number: the released code sums so,
/// and its clouds are only met to the last bits that way. Squared lengths are `fma(z, z, fma(y, y, x * x))`.
/// Points that all coincide, one point among them, come to the origin; where the released code divides 0 by 0.
/// Points too far apart, or too near, for their squares become NaN.
pub fn pc_norm(xyz: &mut [[f32; 3]]) {
    let is_one_place = xyz.first().is_none_or(|first| xyz.iter().all(|point| point == first));
    if is_one_place {
        xyz.fill([0.0; 3]);
        return;
    }
    let mut sum = [0.0f32; 3];
    for point in &*xyz {
        for (sum, value) in sum.iter_mut().zip(point) {
            *sum += value;
        }
    }
    let n_points = xyz.len() as f32;
    let mean = sum.map(|sum| sum / n_points);
    let mut farthest = 0.0f32;
    for point in &mut *xyz {
        for (value, mean) in point.iter_mut().zip(mean) {
            *value -= mean;
        }
        let [x, y, z] = *point;
        farthest = farthest.max(z.mul_add(z, y.mul_add(y, x * x)));
    }
    let radius = farthest.sqrt();
    let is_normal = radius.is_finite() && radius > 0.0;
    for value in xyz.as_flattened_mut() {
        *value = if is_normal { *value / radius } else { f32::NAN };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cloud(n: usize) -> Cloud {
        let xyz = (0..n).map(|i| [i as f32, (i * i % 17) as f32, 1.0]).collect();
        Cloud { xyz, rgb: Some((0..n).map(|i| [i as f32 / n as f32, 0.5, 0.25]).collect()) }
    }

    #[test]
    fn one_point_and_equal_points_come_to_the_origin() {
        let mut xyz = [[3.0, -4.0, 5.0]];
        pc_norm(&mut xyz);
        assert_eq!(xyz, [[0.0; 3]]);
        // A third of the sum of three times 0.1 is not 0.1 in f32; the noise must not be scaled up.
        let mut xyz = [[0.1, 2.7, -1.3]; 3];
        pc_norm(&mut xyz);
        assert_eq!(xyz, [[0.0; 3]; 3]);
        pc_norm(&mut []);
    }

    #[test]
    fn few_points_are_repeated_in_turn() {
        let cloud = Cloud { xyz: vec![[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], rgb: None };
        let prepared = prepare(&cloud, PrepareConfig { min_points: 5, max_points: 9 }).unwrap();
        let x: Vec<f32> = prepared.points.chunks(6).map(|p| p[0]).collect();
        assert_eq!(x, [-1.0, 1.0, -1.0, 1.0, -1.0]);
        assert!(prepared.points.chunks(6).all(|p| p[3..] == [0.0; 3]));
        let report = PrepareReport { n_given: 2, n_kept: 2, n_points: 5, has_colour: false };
        assert_eq!(prepared.report, report);
    }

    #[test]
    fn many_points_are_thinned_evenly_and_said() {
        let prepared = prepare(&cloud(10), PrepareConfig { min_points: 2, max_points: 4 }).unwrap();
        let red: Vec<f32> = prepared.points.chunks(6).map(|p| p[3]).collect();
        assert_eq!(red, [0.0, 0.2, 0.5, 0.7]);
        assert_eq!((prepared.report.n_given, prepared.report.n_kept, prepared.report.n_points), (10, 4, 4));
        let all = prepare(&cloud(10), PrepareConfig { min_points: 2, max_points: 10 }).unwrap();
        assert_eq!(all.points.len(), 60);
    }

    #[test]
    fn clouds_that_cannot_be_prepared_are_told_apart() {
        let exactly = PrepareConfig::exactly(4);
        assert_eq!(prepare(&Cloud::default(), exactly).unwrap_err(), PrepareError::NoPoints);
        let mut broken = cloud(3);
        broken.xyz[1][2] = f32::NAN;
        assert_eq!(prepare(&broken, exactly).unwrap_err(), PrepareError::NotFinite);
        broken.xyz[1][2] = f32::MAX;
        assert_eq!(prepare(&broken, exactly).unwrap_err(), PrepareError::NotFinite);
        broken.rgb = Some(vec![]);
        assert!(matches!(prepare(&broken, exactly).unwrap_err(), PrepareError::ColourCount { .. }));
        let bounds = PrepareConfig { min_points: 5, max_points: 4 };
        assert!(matches!(prepare(&cloud(3), bounds).unwrap_err(), PrepareError::Bounds { .. }));
    }

    proptest! {
        #[test]
        fn normalised_clouds_touch_the_unit_sphere(
            points in proptest::collection::vec(proptest::array::uniform3(-100.0f32..100.0), 2..60),
        ) {
            let mut xyz = points.clone();
            pc_norm(&mut xyz);
            let length = |p: &[f32; 3]| p.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let farthest = xyz.iter().map(length).fold(0.0, f64::max);
            let is_point = points.iter().all(|p| *p == points[0]);
            // Three roundings of half an ulp each: the square's sum, its root, the division.
            prop_assert!(is_point || (farthest - 1.0).abs() < 4e-7, "{farthest}");
        }

        #[test]
        fn any_size_fits_the_bounds(n in 1usize..50, min in 0usize..40, more in 1usize..40) {
            let config = PrepareConfig { min_points: min, max_points: min + more };
            let prepared = prepare(&cloud(n), config).unwrap();
            prop_assert_eq!(prepared.points.len(), 6 * prepared.report.n_points);
            prop_assert!((min..=min + more).contains(&prepared.report.n_points));
            prop_assert!(n < min || n > min + more || prepared.report.n_points == n);
        }
    }
}
