//! Farthest points, nearest neighbours and largest values, on clouds where rounding and ties decide.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use enel_interp::{InterpError, Tensor};
use enel_ir::Op;
use enel_types::{DType, Dim};
use kit::{apply, f, i, try_apply};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn cloud(points: &[[f32; 3]]) -> Tensor {
    Tensor::from_f32(&[1, points.len(), 3], &points.concat()).unwrap()
}

fn fps(points: &[[f32; 3]], n: usize) -> Vec<i64> {
    apply(Op::Fps { n: Dim::constant(n as i64) }, &[&cloud(points)]).to_i64().unwrap().to_vec()
}

fn knn(queries: &[[f32; 3]], points: &[[f32; 3]], k: usize) -> Vec<i64> {
    apply(Op::Knn { k: Dim::constant(k as i64) }, &[&cloud(queries), &cloud(points)]).to_i64().unwrap().to_vec()
}

/// The f32 distance through f64: each fma is an exact product and sum, rounded once to f32.
///
/// The product of two f32 is exact in f64, and the sum of two such has its tie bits kept here by rounding to odd.
fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    let d: Vec<f64> = (0..3).map(|k| f64::from(a[k] - b[k])).collect();
    let x = d[0] * d[0];
    let xy = sum_to_f32(d[1] * d[1], f64::from(x as f32));
    sum_to_f32(d[2] * d[2], f64::from(xy))
}

/// `a + b` of positive numbers rounded once to f32: the f64 sum is made odd when it is not exact.
///
/// Source: Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums": round to odd, then to nearest.
fn sum_to_f32(a: f64, b: f64) -> f32 {
    let sum = a + b;
    // Knuth's two-sum gives the error of the addition exactly.
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let odd = match error {
        e if e == 0.0 || sum.to_bits() & 1 == 1 => sum,
        e if e > 0.0 => f64::from_bits(sum.to_bits() + 1),
        _ => f64::from_bits(sum.to_bits() - 1),
    };
    odd as f32
}

/// Quadratic and from the definition: the distance to the chosen set is computed anew each time.
fn naive_fps(points: &[[f32; 3]], n: usize) -> Vec<i64> {
    let mut chosen = vec![0usize];
    while chosen.len() < n {
        let near = |i: usize| chosen.iter().map(|&c| distance(points[i], points[c])).fold(f32::INFINITY, f32::min);
        let all: Vec<f32> = (0..points.len()).map(near).collect();
        let top = all.iter().copied().fold(0.0, f32::max);
        chosen.push(all.iter().position(|&d| d == top).unwrap());
    }
    chosen.into_iter().map(|c| c as i64).collect()
}

fn naive_knn(queries: &[[f32; 3]], points: &[[f32; 3]], k: usize) -> Vec<i64> {
    let mut all = Vec::new();
    for &q in queries {
        let mut taken = BTreeSet::new();
        for _ in 0..k {
            let mut best: Option<usize> = None;
            for i in (0..points.len()).filter(|i| !taken.contains(i)) {
                if best.is_none_or(|b| distance(q, points[i]) < distance(q, points[b])) {
                    best = Some(i);
                }
            }
            taken.insert(best.unwrap());
            all.push(best.unwrap() as i64);
        }
    }
    all
}

fn lattice(side: i32, pitch: f32) -> Vec<[f32; 3]> {
    let axis = move || (0..side).map(move |i| i as f32 * pitch - 0.7);
    axis().flat_map(|x| axis().flat_map(move |y| axis().map(move |z| [x, y, z]))).collect()
}

/// Points on the faces of a box, in a grid whose pitch is no power of two.
fn box_grid(side: i32) -> Vec<[f32; 3]> {
    let edge = |p: &[f32; 3]| p.iter().any(|&c| c == -0.7 || c == (side - 1) as f32 * 0.1 - 0.7);
    lattice(side, 0.1).into_iter().filter(edge).collect()
}

#[test]
fn hard_clouds_agree_with_the_definition() {
    for points in [lattice(5, 0.1), lattice(4, 1.0 / 3.0), box_grid(6)] {
        assert_eq!(fps(&points, 40), naive_fps(&points, 40));
        let k = 27;
        assert_eq!(knn(&points[..20], &points, k), naive_knn(&points[..20], &points, k));
    }
}

#[test]
fn f32_decides_not_f64() {
    // In f64 the two candidates of some step differ by an ulp of f32 or less; the exact rule must break such ties.
    let points = lattice(6, 0.1);
    let wide = |i: usize, j: usize| -> f64 {
        (0..3).map(|k| (f64::from(points[i][k]) - f64::from(points[j][k])).powi(2)).sum()
    };
    let mut chosen = vec![0usize];
    while chosen.len() < 60 {
        let near = |i: usize| chosen.iter().map(|&c| wide(i, c)).fold(f64::INFINITY, f64::min);
        let all: Vec<f64> = (0..points.len()).map(near).collect();
        let top = all.iter().copied().fold(0.0, f64::max);
        chosen.push(all.iter().position(|&d| d == top).unwrap());
    }
    let in_f64: Vec<i64> = chosen.into_iter().map(|c| c as i64).collect();
    assert_ne!(fps(&points, 60), in_f64, "this cloud tells the two rules apart");
    assert_eq!(fps(&points, 60), naive_fps(&points, 60));
}

#[test]
fn duplicates_and_single_points() {
    assert_eq!(fps(&[[0.3, 0.1, 0.2]], 1), [0]);
    assert_eq!(fps(&[[0.5; 3]; 4], 3), [0, 0, 0], "all distances are 0: the lowest index again");
    let pair = [[0.0; 3], [0.0; 3], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]];
    assert_eq!(fps(&pair, 4), [0, 2, 0, 0]);
    assert_eq!(knn(&[[1.0, 0.0, 0.0]], &pair, 4), [2, 3, 0, 1]);
}

#[test]
fn clouds_of_a_batch_do_not_mix() {
    let both = Tensor::from_f32(&[2, 2, 3], &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 5.0, 0.0, 0.0, 1.0, 0.0, 0.0]).unwrap();
    let queries = Tensor::from_f32(&[2, 1, 3], &[0.9, 0.0, 0.0, 4.0, 0.0, 0.0]).unwrap();
    assert_eq!(apply(Op::Knn { k: Dim::constant(2) }, &[&queries, &both]).to_i64().unwrap(), [1, 0, 0, 1]);
    assert_eq!(apply(Op::Fps { n: Dim::constant(2) }, &[&both]).to_i64().unwrap(), [0, 1, 0, 1]);
}

#[test]
fn what_has_no_order_is_refused() {
    let fps_of = |p: &[[f32; 3]]| try_apply(Op::Fps { n: Dim::constant(2) }, &[&cloud(p)]);
    let nan = fps_of(&[[0.0; 3], [0.0, f32::NAN, 0.0]]).unwrap_err();
    assert!(matches!(nan, InterpError::NanPoint { point: 1, .. }), "{nan}");
    let far = [[0.0; 3], [f32::INFINITY, 0.0, 0.0]];
    assert_eq!(fps_of(&far).unwrap().to_i64().unwrap(), [0, 1]);
    assert_eq!(knn(&[[0.0; 3]], &far, 2), [0, 1], "an infinite point is simply the farthest");
    let op = Op::Knn { k: Dim::constant(1) };
    let pair = try_apply(op, &[&cloud(&far[1..]), &cloud(&far)]).unwrap_err();
    assert!(matches!(pair, InterpError::NanDistance { first: 0, second: 1, .. }), "{pair}");
}

#[test]
fn topk_puts_nan_last_either_way() {
    let x = f(&[1, 6], &[2.0, f64::NAN, -0.0, 0.0, 2.0, f64::NEG_INFINITY]);
    let k = |largest| apply(Op::TopK { k: Dim::constant(6), largest }, &[&x]).to_i64().unwrap().to_vec();
    assert_eq!(k(true), [0, 4, 2, 3, 5, 1]);
    assert_eq!(k(false), [5, 2, 3, 0, 4, 1]);
    // 2^53 + 1 is no f64: integers are compared as integers.
    let big = i(DType::I64, &[3], &[1 << 53, (1 << 53) + 1, i64::MIN]);
    assert_eq!(apply(Op::TopK { k: Dim::constant(2), largest: true }, &[&big]).to_i64().unwrap(), [1, 0]);
}

proptest! {
    #[test]
    fn any_cloud_agrees_with_the_definition(
        points in prop::collection::vec(prop::array::uniform3(-1.0f32..1.0), 1..40), coarse in any::<bool>(), part in 1usize..40,
    ) {
        let snap = |c: f32| if coarse { (c * 2.0).round() / 2.0 } else { c };
        let points: Vec<[f32; 3]> = points.into_iter().map(|p| p.map(snap)).collect();
        let n = part.min(points.len());
        prop_assert_eq!(fps(&points, n), naive_fps(&points, n));
        prop_assert_eq!(knn(&points, &points, n), naive_knn(&points, &points, n));
    }

    #[test]
    fn topk_is_a_stable_sort(values in prop::collection::vec(-4i64..5, 1..20), part in 1usize..20, largest in any::<bool>()) {
        let k = part.min(values.len());
        let mut order: Vec<i64> = (0..values.len() as i64).collect();
        order.sort_by_key(|&i| if largest { -values[i as usize] } else { values[i as usize] });
        let op = || Op::TopK { k: Dim::constant(k as i64), largest };
        let floats = f(&[values.len()], &values.iter().map(|&v| v as f64).collect::<Vec<_>>());
        let want = i(DType::I32, &[k], &order[..k]);
        prop_assert_eq!(&apply(op(), &[&floats]), &want);
        prop_assert_eq!(&apply(op(), &[&i(DType::I32, &[values.len()], &values)]), &want);
    }
}
