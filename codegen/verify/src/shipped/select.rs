//! Kernels of fps, knn and topk.

use super::{Part, Shipped, d, drawn, floats};
use crate::build::{axes, c, loaded, read, write};
use crate::check::{Case, Near};
use enel_bundle::{Body, FpsBody, KnnBody, TopKBody};
use enel_types::DType;

pub(super) fn kernels() -> Vec<Shipped> {
    let (f32, i32, i64) = (DType::F32, DType::I32, DType::I64);
    // Sizes are points and chosen ones. Sorting networks want many orders of few elements.
    let kept = [
        [1, 1],
        [33, 30],
        [50, 9],
        [64, 30],
        [97, 16],
        [99, 24],
        [100, 1],
        [100, 2],
        [100, 4],
        [100, 7],
        [100, 28],
        [100, 30],
    ];
    let near = [[1, 1], [90, 7], [128, 33], [200, 1], [256, 16], [290, 2], [290, 21], [290, 40]];
    vec![
        farthest(60).alone("fps_warp", &[[1, 1], [37, 9], [60, 60]], lattice),
        farthest(500).alone("fps_block", &[[1, 1], [37, 9], [150, 20], [500, 60]], lattice),
        farthest(8000).alone("fps_registers", &[[1, 1], [37, 9], [1100, 12], [7900, 6]], lattice),
        farthest(9000).alone("fps_shared", &[[1, 1], [37, 9], [700, 12], [3000, 9]], lattice),
        farthest(60_000).alone("fps_recompute", &[[1, 1], [37, 9], [700, 12], [3000, 6]], lattice),
        nearest(300, 40).alone("knn_registers", &near, lattice),
        nearest(2000, 300).alone("knn_stream", &[[1, 1], [90, 7], [1200, 150]], lattice),
        nearest(60_000, 100_000).alone("knn_rounds", &[[1, 1], [90, 7], [1300, 5]], lattice),
        top(f32, 4000, 100, true).alone("topk_registers", &[[1, 1], [300, 70], [1000, 33], [4000, 100]], stripes),
        top(f32, 100, 30, false).alone("topk_few", &kept, stripes),
        top(i32, 100_000, 50, false).alone("topk_stream", &[[1, 1], [300, 9], [3000, 50]], drawn),
        top(i64, 3000, 50, true).alone("topk_rounds", &[[1, 1], [300, 9], [1300, 20]], drawn),
    ]
}

/// Chosen ones of two clouds whose number of points is at most `most`.
fn farthest(most: i64) -> Part {
    let (batch, points, chosen) = (c(2), d(0), d(1));
    let xyz = axes(&[batch, points, c(3)]);
    let body = FpsBody { batch, points, n: chosen, xyz: loaded(0, &xyz), out: 1 };
    let buffers = vec![(read(DType::F32), vec![batch, points, c(3)]), (write(DType::I32), vec![batch, chosen])];
    Part::new(buffers, &[(most, 1), (100, 1)], Body::Fps(body), Near::Exact)
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

/// The first of two rows each.
fn top(dtype: DType, most: i64, most_kept: i64, largest: bool) -> Part {
    let (rows, n, k) = (c(2), d(0), d(1));
    let body = TopKBody { outer: vec![rows], n, k, largest, value: loaded(0, &axes(&[rows, n])), out: 1 };
    let buffers = vec![(read(dtype), vec![rows, n]), (write(DType::I32), vec![rows, k])];
    Part::new(buffers, &[(most, 1), (most_kept, 1)], Body::TopK(body), Near::Exact)
}

/// Coordinates on a coarse grid, where distances tie.
fn lattice(case: &mut Case) {
    for buffer in 0..case.buffers.len() {
        floats(case, buffer, |_, x| (x * 4.0).round() / 4.0 + 0.037);
    }
}

/// The elements of one thread are equal, so that far more than wanted lie below the bound its threads' smallest give; and
/// both zeros, infinities and NaN.
fn stripes(case: &mut Case) {
    let many = case.buffers[0].len() > 4000;
    floats(case, 0, |at, x| match at % 64 {
        _ if many => (at % 128) as f64 - 20.0,
        5 => f64::NAN,
        6 | 23 => -0.0,
        7 | 29 => 0.0,
        8 => f64::INFINITY,
        9 => f64::NEG_INFINITY,
        _ => (x * 16.0).round(),
    });
}
