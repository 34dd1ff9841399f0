//! Farthest point sampling and k nearest neighbours, exact in f32.
//!
//! Law: `d = fma(dz, dz, fma(dy, dy, dx * dx))` of rounded differences, total order on (d, index); so indices are the
//! same on every device. NaN coordinates give some order, never a crash.

use super::buffers::View;
use super::check::{Scope, Typed, malformed, product};
use super::code::{Code, compile};
use super::error::CpuError;
use super::strip::Exec;
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{Extent, FpsBody, Kind, KnnBody, Reg, Value};
use std::sync::Arc;

/// Queries of a task.
const QUERIES: i64 = 16;
/// Points whose distances are computed before any is looked at.
const BLOCK: usize = 512;

struct Coords {
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
}

impl Coords {
    /// Points `first..first + n` of the space `[cloud, point, 3]` flattened to points.
    fn read(code: &Code, first: i64, n: usize, views: &[View<'_>]) -> Result<Coords, CpuError> {
        let mut packed = vec![0f32; 3 * n];
        Exec::new(code, views).floats(3 * first, &mut packed)?;
        let axis = |a: usize| packed.iter().skip(a).step_by(3).copied().collect();
        Ok(Coords { x: axis(0), y: axis(1), z: axis(2) })
    }

    fn at(&self, i: usize) -> [f32; 3] {
        [self.x[i], self.y[i], self.z[i]]
    }
}

#[inline(always)]
fn distance(a: [f32; 3], x: f32, y: f32, z: f32) -> f32 {
    let (dx, dy, dz) = (x - a[0], y - a[1], z - a[2]);
    dz.mul_add(dz, dy.mul_add(dy, dx * dx))
}

type Point = (Typed, Reg);

fn coordinates(part: &str, value: &Value, scope: &Scope<'_>) -> Result<Point, CpuError> {
    Ok((scope.value(part, value, 3, Kind::Float)?, value.reg))
}

fn index_buffer(part: &str, out: u32, scope: &Scope<'_>) -> Result<u32, CpuError> {
    match scope.written(part, out)? {
        dtype if dtype.is_int() => Ok(out),
        dtype => Err(malformed(part, format!("indices are written to a buffer of {dtype}"))),
    }
}

pub(crate) struct Fps {
    extents: [Extent; 3],
    xyz: Point,
    out: u32,
}

pub(crate) fn check_fps(body: &FpsBody, scope: &Scope<'_>) -> Result<Fps, CpuError> {
    let FpsBody { batch, points, n, xyz, out } = body;
    let extents = [*batch, *points, *n];
    scope.extents("fps sizes", &extents)?;
    Ok(Fps { extents, xyz: coordinates("fps xyz", xyz, scope)?, out: index_buffer("fps out", *out, scope)? })
}

impl Face for Fps {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let [batch, points, n] = self.extents.map(|e| e.value(dynamics));
        product(&[batch, n])?;
        if points == 0 && batch * n > 0 {
            return Err(CpuError::Size { what: "points to sample", value: 0 });
        }
        let xyz = compile(&self.xyz.0, &[batch, points, 3], dynamics, &[self.xyz.1], &[])?;
        Ok(Arc::new(BoundFps { batch, points, n, xyz, out: self.out }))
    }
}

struct BoundFps {
    batch: i64,
    points: i64,
    n: i64,
    xyz: Code,
    out: u32,
}

impl Bound for BoundFps {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        check_room(self.batch * self.n, std::iter::once(self.out), views)?;
        let (n, out) = (self.n as usize, &views[self.out as usize]);
        let arch = pulp::Arch::new();
        threads.each(self.batch as usize, |cloud| {
            let points = Coords::read(&self.xyz, cloud as i64 * self.points, self.points as usize, views)?;
            let mut nearest = vec![f32::INFINITY; self.points as usize];
            let mut chosen = 0;
            for i in 0..n {
                out.set_int(cloud * n + i, chosen as i64);
                chosen = arch.dispatch(Farthest { points: &points, chosen, nearest: &mut nearest });
            }
            Ok(())
        })
    }
}

/// One step: lowers each point's distance to the chosen ones, gives the lowest index of the largest.
struct Farthest<'a> {
    points: &'a Coords,
    chosen: usize,
    nearest: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Farthest<'_> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let Coords { x, y, z } = self.points;
        let from = self.points.at(self.chosen);
        let lower = |near: &mut f32, x: f32, y: f32, z: f32| {
            let d = distance(from, x, y, z);
            // Never NaN: a NaN distance is not smaller.
            *near = if d < *near { d } else { *near };
            *near
        };
        let mut lanes = [-1f32; 16];
        let blocks = x.as_chunks::<16>().0.iter().zip(y.as_chunks::<16>().0).zip(z.as_chunks::<16>().0);
        let (near, near_rest) = self.nearest.as_chunks_mut::<16>();
        for (((x, y), z), near) in blocks.zip(near.iter_mut()) {
            for i in 0..16 {
                let d = lower(&mut near[i], x[i], y[i], z[i]);
                lanes[i] = if d > lanes[i] { d } else { lanes[i] };
            }
        }
        let done = x.len() - near_rest.len();
        for (i, near) in near_rest.iter_mut().enumerate() {
            let at = done + i;
            let d = lower(near, x[at], y[at], z[at]);
            lanes[0] = if d > lanes[0] { d } else { lanes[0] };
        }
        let most = lanes.iter().fold(-1f32, |m, d| if *d > m { *d } else { m });
        self.nearest.iter().position(|d| *d == most).unwrap_or(0)
    }
}

pub(crate) struct Knn {
    extents: [Extent; 4],
    query: Point,
    point: Point,
    out: u32,
}

pub(crate) fn check_knn(body: &KnnBody, scope: &Scope<'_>) -> Result<Knn, CpuError> {
    let KnnBody { batch, queries, points, k, query, point, out } = body;
    let extents = [*batch, *queries, *points, *k];
    scope.extents("knn sizes", &extents)?;
    Ok(Knn {
        extents,
        query: coordinates("knn query", query, scope)?,
        point: coordinates("knn point", point, scope)?,
        out: index_buffer("knn out", *out, scope)?,
    })
}

impl Face for Knn {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let [batch, queries, points, k] = self.extents.map(|e| e.value(dynamics));
        if k > points || points > i64::from(u32::MAX) {
            return Err(CpuError::Size { what: "neighbours among the points", value: k });
        }
        product(&[batch, queries, k])?;
        let coords = |(typed, reg): &Point, n| compile(typed, &[batch, n, 3], dynamics, &[*reg], &[]);
        let (query, point) = (coords(&self.query, queries)?, coords(&self.point, points)?);
        Ok(Arc::new(BoundKnn { batch, queries, points, k, query, point, out: self.out }))
    }
}

struct BoundKnn {
    batch: i64,
    queries: i64,
    points: i64,
    k: i64,
    query: Code,
    point: Code,
    out: u32,
}

impl Bound for BoundKnn {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        check_room(self.batch * self.queries * self.k, std::iter::once(self.out), views)?;
        if self.k == 0 || self.batch == 0 || self.queries == 0 {
            return Ok(());
        }
        let clouds = threads.collect(self.batch as usize, |cloud| {
            Coords::read(&self.point, cloud as i64 * self.points, self.points as usize, views)
        })?;
        let blocks = n_tasks(self.queries, QUERIES);
        let (k, out) = (self.k as usize, &views[self.out as usize]);
        threads.each(self.batch as usize * blocks, |task| {
            let (cloud, first) = (task / blocks, (task % blocks) as i64 * QUERIES);
            let n = QUERIES.min(self.queries - first) as usize;
            let row = cloud as i64 * self.queries + first;
            let queries = Coords::read(&self.query, row, n, views)?;
            let mut nearest = Nearest::new(k);
            for q in 0..n {
                for (j, index) in nearest.find(&clouds[cloud], queries.at(q)).enumerate() {
                    out.set_int((row as usize + q) * k + j, index);
                }
            }
            Ok(())
        })
    }
}

/// The k smallest (distance, index), each as one number: distances are not negative, so their bits order them.
struct Nearest {
    k: usize,
    kept: Vec<u64>,
    keys: [u32; BLOCK],
    arch: pulp::Arch,
}

impl Nearest {
    fn new(k: usize) -> Nearest {
        Nearest { k, kept: Vec::with_capacity(5 * k + 2 * BLOCK), keys: [0; BLOCK], arch: pulp::Arch::new() }
    }

    fn find(&mut self, points: &Coords, from: [f32; 3]) -> impl Iterator<Item = i64> {
        self.kept.clear();
        // Larger than the bits of any distance, even NaN without its sign.
        let mut bound = u32::MAX;
        let n = points.x.len();
        for start in (0..n).step_by(BLOCK) {
            let len = BLOCK.min(n - start);
            self.arch.dispatch(Distances { points, start, from, keys: &mut self.keys[..len] });
            for (i, key) in self.keys[..len].iter().enumerate() {
                if *key < bound {
                    self.kept.push(u64::from(*key) << 32 | (start + i) as u64);
                }
            }
            if self.kept.len() >= 4 * self.k + BLOCK {
                bound = self.shrink();
            }
        }
        if self.kept.len() > self.k {
            self.shrink();
        }
        self.kept.sort_unstable();
        self.kept.iter().map(|key| (key & u64::from(u32::MAX)) as i64)
    }

    /// Keeps the k smallest. A later point as far as the last of them comes after it, so it may be left out.
    fn shrink(&mut self) -> u32 {
        let (_, last, _) = self.kept.select_nth_unstable(self.k - 1);
        let bound = (*last >> 32) as u32;
        self.kept.truncate(self.k);
        bound
    }
}

struct Distances<'a> {
    points: &'a Coords,
    start: usize,
    from: [f32; 3],
    keys: &'a mut [u32],
}

impl pulp::NullaryFnOnce for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let part = self.start..self.start + self.keys.len();
        let Coords { x, y, z } = self.points;
        let (x, y, z) = (&x[part.clone()], &y[part.clone()], &z[part]);
        for (((key, x), y), z) in self.keys.iter_mut().zip(x).zip(y).zip(z) {
            *key = distance(self.from, *x, *y, *z).to_bits() & 0x7fff_ffff;
        }
    }
}
