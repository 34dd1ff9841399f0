//! Kernels of fps, knn and topk.

use super::{Part, Shipped, d, floats, integers};
use crate::build::{Random, axes, c, loaded, read, write};
use crate::check::{Case, Near};
use enel_bundle::{Body, FpsBody, KnnBody, TopKBody};
use enel_types::DType;

pub(super) fn kernels() -> Vec<Shipped> {
    let (f32, i32, i64) = (DType::F32, DType::I32, DType::I64);
    // Sizes are points and chosen ones; of elements, the kept ones, and rows.
    let near = [[1, 1], [90, 7], [128, 33], [200, 1], [256, 16], [290, 2], [290, 21], [290, 40]];
    // The last point is each round's of 512 threads in turn, and read first, second or third by its warp.
    let ends = (2..16).flat_map(|round| [100, 113, 123].map(|last| [512 * round + last, 4]));
    let ends: Vec<[i64; 2]> = ends.collect();
    let few = [[1, 1, 1], [33, 30, 8], [64, 30, 8], [99, 24, 8], [100, 1, 8], [100, 7, 8], [100, 90, 16]];
    vec![
        farthest(60).alone("fps_warp", &[[1, 1], [37, 9], [60, 60], [60, 50]], cloud),
        farthest(500).alone(
            "fps_block",
            &[[1, 1], [37, 9], [170, 20], [301, 50], [311, 50], [429, 50], [439, 50], [500, 60], [500, 50]],
            cloud,
        ),
        farthest(8192).alone("fps_registers", &[&[[1, 1], [37, 9], [1100, 12], [8192, 50]], &ends[..]].concat(), cloud),
        farthest(9000).alone("fps_shared", &[[1, 1], [37, 9], [700, 12], [3500, 50], [9000, 50]], cloud),
        farthest(60_000).alone("fps_recompute", &[[1, 1], [37, 9], [700, 12], [3000, 6], [700, 50]], cloud),
        nearest(300, 40).alone("knn_registers", &near, lattice),
        nearest(2000, 500).alone("knn_stream", &[[1, 1], [90, 7], [600, 150], [1200, 450]], lattice),
        nearest(60_000, 100_000).alone("knn_rounds", &[[1, 1], [90, 7], [640, 5], [1300, 5]], lattice),
        top(f32, 4096, 100, true).alone(
            "topk_registers",
            &[[1, 1, 1], [300, 70, 4], [1000, 33, 8], [4096, 100, 6]],
            orders,
        ),
        top(f32, 100, 100, false).alone("topk_few", &few, orders),
        top(i32, 100_000, 50, false).alone("topk_stream", &[[1, 1, 1], [300, 9, 2], [4200, 50, 6]], orders),
        top(i64, 3000, 50, true).alone("topk_rounds", &[[1, 1, 1], [300, 9, 5], [40, 40, 6], [2600, 20, 6]], orders),
    ]
}

/// Chosen ones of two clouds whose number of points is at most `most`.
fn farthest(most: i64) -> Part {
    let (batch, points, chosen) = (c(2), d(0), d(1));
    let xyz = axes(&[batch, points, c(3)]);
    let body = FpsBody { batch, points, n: chosen, xyz: loaded(0, &xyz), out: 1 };
    let buffers = vec![(read(DType::F32), vec![batch, points, c(3)]), (write(DType::I32), vec![batch, chosen])];
    Part::new(buffers, &[(most, 1), (600, 1)], Body::Fps(body), Near::Exact)
}

/// Neighbours among points of two clouds, of three queries each.
fn nearest(most_points: i64, most: i64) -> Part {
    let (batch, queries, points, k, coordinate) = (c(2), c(3), d(0), d(1), c(3));
    let body = KnnBody {
        batch,
        queries,
        points,
        k,
        query: loaded(0, &axes(&[batch, queries, coordinate])),
        point: loaded(1, &axes(&[batch, points, coordinate])),
        out: 2,
    };
    let buffers = vec![
        (read(DType::F32), vec![batch, queries, coordinate]),
        (read(DType::F32), vec![batch, points, coordinate]),
        (write(DType::I32), vec![batch, queries, k]),
    ];
    Part::new(buffers, &[(most_points, 1), (most, 1)], Body::Knn(body), Near::Exact)
}

/// The first of rows each.
fn top(dtype: DType, most: i64, most_kept: i64, largest: bool) -> Part {
    let (rows, n, k) = (d(2), d(0), d(1));
    let body = TopKBody { outer: vec![rows], n, k, largest, value: loaded(0, &axes(&[rows, n])), out: 1 };
    let buffers = vec![(read(dtype), vec![rows, n]), (write(DType::I32), vec![rows, k])];
    Part::new(buffers, &[(most, 1), (most_kept, 1), (40, 1)], Body::TopK(body), Near::Exact)
}

/// Coordinates on a coarse grid, where distances tie.
fn lattice(case: &mut Case) {
    for buffer in 0..case.buffers.len() {
        floats(case, buffer, |_, x| (x * 4.0).round() / 4.0 + 0.037);
    }
}

/// A lattice; or, where 50 are chosen, points near the middle and 49 far out, one beyond the other along an axis each, so
/// that every chosen one is another thread's and each of its coordinates decides. The last point is among them. Where four
/// are chosen, the last three are far out.
fn cloud(case: &mut Case) {
    let n = case.sizes[0] as usize;
    if case.sizes[1] == 4 {
        // Of the last nine coordinates the first, fifth and ninth: another one of each point.
        let from_end = |i: usize| 3 * n - 1 - i % (3 * n);
        return floats(case, 0, |i, x| if [0, 4, 8].contains(&from_end(i)) { 9.0 } else { x * 0.01 });
    }
    if case.sizes[1] != 50 {
        return lattice(case);
    }
    floats(case, 0, |_, x| x * 0.01);
    for far in 0..49 {
        // Of 16 points of each of 16 warps of 512 threads, each of three lanes a third of a warp apart.
        let axis = (far / 16).min(2);
        let (point, warp, lane) = (far % 16, (far + 5 * axis) % 16, (far * 7 + 5 * axis) % 32);
        let at = if far == 48 { n - 1 } else { (point * 512 + warp * 32 + lane) % n };
        floats(case, 0, |i, x| if i % (3 * n) == 3 * at + axis { (2 + far) as f64 } else { x });
    }
}

/// Rows in many orders: those whose first ones are few threads', all of them or three of each, those with both zeros,
/// infinities and NaN, rising and falling ones, and ones without order.
fn orders(case: &mut Case) {
    let n = case.sizes[0] as usize;
    let is_float = case.buffers[0].dtype().is_float();
    let value = |at: usize, x: f64| match (at / n % 6, at % n) {
        (0, i) => (i % 128) as f64 - 20.0,
        (1, i) => match i % 64 {
            5 if is_float => f64::NAN,
            8 if is_float => f64::INFINITY,
            9 if is_float => f64::NEG_INFINITY,
            6 | 23 => -0.0,
            7 | 29 => 0.0,
            _ => (x * 16.0).round(),
        },
        (2, i) => i as f64,
        (3, i) => -(i as f64),
        (4, i) if i < 384 => 500.0 - (i % 128) as f64,
        _ => x,
    };
    if is_float {
        return floats(case, 0, value);
    }
    // Whole numbers that differ in their upper halves, as far as they have any.
    let mut random = Random(n as u64);
    integers(case, 0, |at| match at / n % 6 {
        // The first of all ranks, and it stands first.
        5 if at % n == 0 => i64::MAX,
        5 => random.bits() as i64 >> (8 * (at % 8)),
        1 => (random.below(33) as i64 - 16) << 32,
        _ => value(at, 0.0) as i64,
    });
}
