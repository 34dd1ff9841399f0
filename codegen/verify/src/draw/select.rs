//! Calls of fps, knn and topk. Lattices and box grids, where distances tie: random clouds cannot show a missing fma.

use super::{Drawn, seed, size};
use crate::build::{Random, axes, c, desc, loaded, read, write};
use crate::check::{Case, Near};
use crate::data::Data;
use enel_bundle::{Body, Dynamic, Extent, FpsBody, KnnBody, TopKBody};
use enel_types::DType;
use proptest::prelude::*;

/// How points lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    /// Anywhere.
    Random,
    /// On a coarse grid, where most distances tie exactly.
    Lattice,
    /// On a grid whose pitch no float holds exactly.
    BoxGrid,
}

impl Cloud {
    /// Coordinates of `n` points.
    fn draw(self, random: &mut Random, n: i64) -> Data {
        match self {
            Cloud::Random => random.data(DType::F32, n * 3),
            Cloud::Lattice => random.grid(DType::F32, n * 3),
            Cloud::BoxGrid => {
                let mut side = 1;
                while side * side * side < n {
                    side += 1;
                }
                let Data::Float(dtype, mut values) = box_grid(side) else { return box_grid(side) };
                values.truncate(n as usize * 3);
                Data::Float(dtype, values)
            }
        }
    }
}

fn cloud() -> impl Strategy<Value = Cloud> {
    prop_oneof![Just(Cloud::Random), Just(Cloud::Lattice), Just(Cloud::BoxGrid)]
}

/// A box grid of `side`³ points whose pitch no float holds exactly: distances that are equal on paper differ in their last
/// bit, and which way depends on every rounding.
pub fn box_grid(side: i64) -> Data {
    let at = |i: i64| [i % side, i / side % side, i / side / side].map(|x| 0.1 * x as f64 + 0.037);
    Data::float(DType::F32, (0..side * side * side).flat_map(at))
}

/// `n` of the points of each of `b` clouds; `max` bounds the points, which chooses the template.
pub fn fps_case(b: i64, n: i64, max: i64, points: Data) -> Case {
    let n_points = points.len() as i64 / 3 / b;
    let extent = Extent::Dyn(0);
    let body = FpsBody { batch: c(b), points: extent, n: c(n), xyz: loaded(0, &axes(&[c(b), extent, c(3)])), out: 1 };
    let buffers = vec![points, Data::zeros(DType::I32, (b * n) as usize)];
    let roles = [read(DType::F32), write(DType::I32)];
    Case { desc: desc(&roles, &[Dynamic { max, multiple: 1 }], Body::Fps(body)), sizes: vec![n_points], buffers }
}

/// Points in registers, in shared memory, and computed anew.
pub fn fps() -> impl Strategy<Value = Drawn> {
    let max = prop_oneof![Just(80), Just(600), Just(9000), Just(60_000)];
    (1..3i64, size(), 1..20i64, max, cloud(), seed()).prop_map(|(b, n_points, n, max, cloud, seed)| {
        let points = cloud.draw(&mut Random(seed), b * n_points);
        let what = format!("fps {n} of {b} x {n_points} points, bound {max}, cloud {cloud:?}, seed {seed}");
        Drawn { what, case: fps_case(b, n, max, points), near: Near::Exact }
    })
}

/// Ranks in registers, a stream of keys, and rounds for any k.
pub fn knn() -> impl Strategy<Value = Drawn> {
    let sizes = (1..3i64, 1..6i64, prop_oneof![size(), 100..600i64], 1..90i64);
    (sizes, cloud(), 0..3usize, seed()).prop_map(|((b, nq, np, k), cloud, template, seed)| {
        let k = k.min(np);
        // Bounds choose the template.
        let dynamics = [Dynamic { max: [k, 2000, 100_000][template], multiple: 1 }];
        let coordinate = c(3);
        let body = KnnBody {
            batch: c(b),
            queries: c(nq),
            points: c(np),
            k: Extent::Dyn(0),
            query: loaded(0, &axes(&[c(b), c(nq), coordinate])),
            point: loaded(1, &axes(&[c(b), c(np), coordinate])),
            out: 2,
        };
        let mut random = Random(seed);
        let (queries, points) = (cloud.draw(&mut random, b * nq), cloud.draw(&mut random, b * np));
        let buffers = vec![queries, points, Data::zeros(DType::I32, (b * nq * k) as usize)];
        let roles = [read(DType::F32), read(DType::F32), write(DType::I32)];
        let max = dynamics[0].max;
        let what = format!("knn {k} (bound {max}) of {np} points for {b} x {nq} queries, cloud {cloud:?}, seed {seed}");
        let case = Case { desc: desc(&roles, &dynamics, Body::Knn(body)), sizes: vec![k], buffers };
        Drawn { what, case, near: Near::Exact }
    })
}

/// Floats with ties, both zeros, infinities and NaN; integers.
pub fn top_k() -> impl Strategy<Value = Drawn> {
    let dtype = prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::I32), Just(DType::I64)];
    let sizes = (1..4i64, prop_oneof![size(), 100..900i64], 1..70i64);
    (sizes, dtype, any::<[bool; 2]>(), seed()).prop_map(|((o, n, k), dtype, [largest, nan], seed)| {
        let k = k.min(n);
        let body =
            TopKBody { outer: vec![c(o)], n: c(n), k: c(k), largest, value: loaded(0, &axes(&[c(o), c(n)])), out: 1 };
        let mut random = Random(seed);
        let mut input = if dtype.is_float() { random.grid(dtype, o * n) } else { random.data(dtype, o * n) };
        if let Data::Float(_, values) = &mut input {
            for x in values {
                *x = match random.below(12) {
                    0 if nan => f64::NAN,
                    1 => -0.0,
                    2 => f64::INFINITY,
                    3 => f64::NEG_INFINITY,
                    _ => *x,
                };
            }
        }
        let buffers = vec![input, Data::zeros(DType::I32, (o * k) as usize)];
        let desc = desc(&[read(dtype), write(DType::I32)], &[], Body::TopK(body));
        let what = format!("topk {k} of [{o}, {n}] {dtype}, largest {largest}, NaN {nan}, seed {seed}");
        Drawn { what, case: Case { desc, sizes: vec![], buffers }, near: Near::Exact }
    })
}
