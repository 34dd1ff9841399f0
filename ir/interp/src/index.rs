//! Which elements are chosen from a whole operand? Farthest points, nearest neighbours, largest values.
//!
//! Law: geometry is exact in f32. Coordinates round to f32, differences are f32, and the squared distance is
//! `fma(dz, dz, fma(dy, dy, dx * dx))`, so every device chooses the same points bit for bit.

use crate::tensor::{Tensor, Values};
use std::cmp::Ordering;

/// What a geometry op cannot order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unordered {
    /// A coordinate of this point is NaN.
    Point(usize),
    /// The distance of these two points is NaN: both have the same infinite coordinate.
    Pair(usize, usize),
}

type Point = [f32; 3];

fn points(x: &Tensor) -> Result<Vec<Point>, Unordered> {
    let list: Vec<Point> = x.floats().chunks_exact(3).map(|p| [p[0] as f32, p[1] as f32, p[2] as f32]).collect();
    match list.iter().position(|p| p.iter().any(|c| c.is_nan())) {
        Some(i) => Err(Unordered::Point(i)),
        None => Ok(list),
    }
}

fn distance(a: Point, b: Point) -> f32 {
    let [dx, dy, dz] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    dz.mul_add(dz, dy.mul_add(dy, dx * dx))
}

/// Farthest point sampling of each cloud: starts at 0, then the point farthest from all chosen, lowest index on ties.
pub(crate) fn fps(xyz: &Tensor, n: usize) -> Result<Values, Unordered> {
    let all = points(xyz)?;
    let size = xyz.shape[1];
    let mut out = Vec::with_capacity(xyz.shape[0] * n);
    for (b, cloud) in all.chunks_exact(size).enumerate() {
        let mut nearest = vec![f32::INFINITY; size];
        let mut chosen = 0;
        for step in 0..n {
            out.push(chosen as i64);
            if step + 1 == n {
                break;
            }
            for (i, (near, &p)) in nearest.iter_mut().zip(cloud).enumerate() {
                let d = distance(p, cloud[chosen]);
                if d.is_nan() {
                    return Err(Unordered::Pair(b * size + chosen, b * size + i));
                }
                *near = near.min(d);
            }
            let mut far = 0;
            for (i, &d) in nearest.iter().enumerate() {
                if d > nearest[far] {
                    far = i;
                }
            }
            chosen = far;
        }
    }
    Ok(Values::I(out))
}

/// The k points nearest to each query, ordered by (squared distance, index).
pub(crate) fn knn(queries: &Tensor, candidates: &Tensor, k: usize) -> Result<Values, Unordered> {
    let (q, p) = (points(queries)?, points(candidates)?);
    let (groups, size) = (queries.shape[1], candidates.shape[1]);
    let mut out = Vec::with_capacity(q.len() * k);
    for (g, &query) in q.iter().enumerate() {
        let first = g / groups * size;
        let mut order = Vec::with_capacity(size);
        for (i, &point) in p[first..first + size].iter().enumerate() {
            let d = distance(query, point);
            if d.is_nan() {
                return Err(Unordered::Pair(g, first + i));
            }
            order.push((d, i as i64));
        }
        let by = |a: &(f32, i64), b: &(f32, i64)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        out.extend(smallest(order, k, by).map(|(_, i)| i));
    }
    Ok(Values::I(out))
}

/// Indices of the k largest or smallest along the last axis, lowest index on ties, NaN last either way.
pub(crate) fn topk(x: &Tensor, k: usize, largest: bool) -> Values {
    let n = x.shape[x.shape.len() - 1];
    let mut out = Vec::with_capacity(x.elems() / n * k);
    let turn = |o: Ordering| if largest { o.reverse() } else { o };
    match &x.values {
        Values::F(list) => {
            for row in list.chunks_exact(n) {
                let by = |a: &i64, b: &i64| {
                    let (x, y) = (row[*a as usize], row[*b as usize]);
                    let value = match x.partial_cmp(&y) {
                        Some(order) => turn(order),
                        None => x.is_nan().cmp(&y.is_nan()),
                    };
                    value.then(a.cmp(b))
                };
                out.extend(smallest((0..n as i64).collect(), k, by));
            }
        }
        Values::I(list) => {
            for row in list.chunks_exact(n) {
                let by = |a: &i64, b: &i64| turn(row[*a as usize].cmp(&row[*b as usize])).then(a.cmp(b));
                out.extend(smallest((0..n as i64).collect(), k, by));
            }
        }
    }
    Values::I(out)
}

/// The first `k` of the list in the order of `by`, which must be total; `1 <= k <= len`.
fn smallest<T>(mut list: Vec<T>, k: usize, by: impl Fn(&T, &T) -> Ordering) -> impl Iterator<Item = T> {
    list.select_nth_unstable_by(k - 1, &by);
    list.truncate(k);
    list.sort_unstable_by(&by);
    list.into_iter()
}
