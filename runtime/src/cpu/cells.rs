//! How do elements combine? Accumulators of every kind, many side by side, merged in a fixed order.
//!
//! Law: floats are summed and multiplied in f64; elements reach a cell in rising index order within a part, and parts
//! merge in rising order, so a result depends on the split into parts and on nothing else.
//! **Source** Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", for merging deviations.

use super::ops::Src;
use super::strip::{AccIn, Results};
use enel_bundle::{AccOp, Kind};

/// Accumulators of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    op: AccOp,
    kind: Kind,
    /// Sum, product, extremum or mean of floats.
    f: Vec<f64>,
    /// Squared deviations.
    g: Vec<f64>,
    /// Sum, product or extremum of integers.
    i: Vec<i64>,
    /// Index of the extremum.
    at: Vec<i64>,
    /// Elements seen, where the operation asks for it.
    n: Vec<i64>,
}

/// Finished values.
pub(crate) enum AccOut {
    Float(Vec<f32>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
}

impl AccOut {
    pub(crate) fn as_input(&self) -> AccIn<'_> {
        match self {
            AccOut::Float(values) => AccIn::Float(values),
            AccOut::Int(values) => AccIn::Int(values),
            AccOut::Bool(values) => AccIn::Bool(values),
        }
    }
}

/// Floats combined each into its own cell, where the loop can use all of the machine's lanes.
struct Columns<'a> {
    cells: &'a mut Cells,
    x: Src<'a, f32>,
    n: usize,
    cell: usize,
    index: i64,
}

impl pulp::NullaryFnOnce for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.cells.float_columns(self.x, self.n, self.cell, self.index);
    }
}

enum Elems<'a> {
    Float(Src<'a, f32>),
    Int(Src<'a, i64>),
    Bool(Src<'a, bool>),
}

fn elems<'a>(results: &'a Results<'_>, root: usize) -> Elems<'a> {
    match results.kind(root) {
        Kind::Float => Elems::Float(results.float(root)),
        Kind::Int => Elems::Int(results.int(root)),
        Kind::Bool => Elems::Bool(results.bool(root)),
    }
}

impl Cells {
    pub(crate) fn new(op: AccOp, kind: Kind, width: usize) -> Cells {
        let (f, i) = match (op, kind) {
            (AccOp::Prod, _) => (1.0, 1),
            (AccOp::Max, Kind::Bool) => (0.0, 0),
            (AccOp::Min, Kind::Bool) => (0.0, 1),
            (AccOp::Max, _) => (f64::NEG_INFINITY, i64::MIN),
            (AccOp::Min, _) => (f64::INFINITY, i64::MAX),
            (AccOp::Sum | AccOp::ArgMax | AccOp::ArgMin | AccOp::Deviations, _) => (0.0, 0),
        };
        let arg = matches!(op, AccOp::ArgMax | AccOp::ArgMin);
        let float = kind == Kind::Float;
        let when = |used: bool| if used { width } else { 0 };
        Cells {
            op,
            kind,
            f: vec![f; when(float)],
            g: vec![0.0; when(op == AccOp::Deviations)],
            i: vec![i; when(!float)],
            at: vec![0; when(arg)],
            n: vec![0; when(arg || op == AccOp::Deviations)],
        }
    }

    /// Combines points `from..from + n` of a strip, each into its own cell from `cell` on; `index` is theirs.
    pub(crate) fn columns(
        &mut self,
        results: &Results<'_>,
        root: usize,
        part: (usize, usize),
        cell: usize,
        index: i64,
    ) {
        let (from, n) = part;
        match elems(results, root) {
            Elems::Float(x) => {
                let x = x.part(from, n);
                pulp::Arch::new().dispatch(Columns { cells: self, x, n, cell, index });
            }
            Elems::Int(x) => (0..n).for_each(|j| self.int(cell + j, x.at(from + j), index)),
            Elems::Bool(x) => (0..n).for_each(|j| self.int(cell + j, i64::from(x.at(from + j)), index)),
        }
    }

    /// Combines points `from..from + n` of a strip into one cell; `index` is that of the first.
    pub(crate) fn segment(
        &mut self,
        results: &Results<'_>,
        root: usize,
        part: (usize, usize),
        cell: usize,
        index: i64,
    ) {
        let (from, n) = part;
        match elems(results, root) {
            Elems::Float(x) => self.float_segment(x.part(from, n), n, cell, index),
            Elems::Int(x) => (0..n).for_each(|j| self.int(cell, x.at(from + j), index + j as i64)),
            Elems::Bool(x) => (0..n).for_each(|j| self.int(cell, i64::from(x.at(from + j)), index + j as i64)),
        }
    }

    #[inline(always)]
    fn float_columns(&mut self, x: Src<'_, f32>, n: usize, cell: usize, index: i64) {
        match self.op {
            AccOp::Sum => each(&mut self.f[cell..cell + n], x, |f, x| f + x),
            AccOp::Prod => each(&mut self.f[cell..cell + n], x, |f, x| f * x),
            AccOp::Max => each(&mut self.f[cell..cell + n], x, max),
            AccOp::Min => each(&mut self.f[cell..cell + n], x, min),
            AccOp::ArgMax | AccOp::ArgMin => {
                (0..n).for_each(|j| self.arg_float(cell + j, f64::from(x.at(j)), index));
            }
            AccOp::Deviations => self.deviation_columns(x, n, cell),
        }
    }

    /// One more element in each of `n` cells, which have all seen equally many: the factors are theirs together. The
    /// first has a factor of 0, which leaves a NaN of what is not finite.
    #[inline(always)]
    fn deviation_columns(&mut self, x: Src<'_, f32>, n: usize, cell: usize) {
        let seen = &mut self.n[cell..cell + n];
        let before = seen.first().copied().unwrap_or(0);
        debug_assert!(seen.iter().all(|n| *n == before), "columns rise together");
        seen.fill(before + 1);
        let share = 1.0 / (before + 1) as f64;
        let factor = before as f64 * share;
        let (mean, squares) = (&mut self.f[cell..cell + n], &mut self.g[cell..cell + n]);
        let add = |f: &mut f64, g: &mut f64, x: f32| {
            let delta = f64::from(x) - *f;
            *f += delta * share;
            *g += delta * delta * factor;
        };
        match x {
            Src::Strip(x) => mean.iter_mut().zip(squares).zip(x).for_each(|((f, g), x)| add(f, g, *x)),
            Src::One(x) => mean.iter_mut().zip(squares).for_each(|(f, g)| add(f, g, x)),
        }
    }

    fn float_segment(&mut self, x: Src<'_, f32>, n: usize, cell: usize, index: i64) {
        match self.op {
            AccOp::Sum => self.f[cell] += sum(x, n, |x| x),
            AccOp::Prod => self.f[cell] = (0..n).fold(self.f[cell], |f, j| f * f64::from(x.at(j))),
            AccOp::Max => self.f[cell] = (0..n).fold(self.f[cell], |f, j| max(f, f64::from(x.at(j)))),
            AccOp::Min => self.f[cell] = (0..n).fold(self.f[cell], |f, j| min(f, f64::from(x.at(j)))),
            AccOp::ArgMax | AccOp::ArgMin => {
                (0..n).for_each(|j| self.arg_float(cell, f64::from(x.at(j)), index + j as i64));
            }
            AccOp::Deviations => {
                let mean = sum(x, n, |x| x) / n as f64;
                let squares = sum(x, n, |x| (x - mean) * (x - mean));
                self.merge_deviations(cell, n as i64, mean, squares);
            }
        }
    }

    fn int(&mut self, cell: usize, x: i64, index: i64) {
        match self.op {
            AccOp::Sum => self.i[cell] = self.i[cell].wrapping_add(x),
            AccOp::Prod => self.i[cell] = self.i[cell].wrapping_mul(x),
            AccOp::Max => self.i[cell] = self.i[cell].max(x),
            AccOp::Min => self.i[cell] = self.i[cell].min(x),
            AccOp::ArgMax | AccOp::ArgMin => {
                let better = if self.op == AccOp::ArgMax { x > self.i[cell] } else { x < self.i[cell] };
                if self.n[cell] == 0 || better {
                    (self.i[cell], self.at[cell], self.n[cell]) = (x, index, 1);
                }
            }
            AccOp::Deviations => {}
        }
    }

    fn arg_float(&mut self, cell: usize, x: f64, index: i64) {
        let best = self.f[cell];
        let beyond = if self.op == AccOp::ArgMax { x > best } else { x < best };
        if self.n[cell] == 0 || beyond || (x.is_nan() && !best.is_nan()) {
            (self.f[cell], self.at[cell], self.n[cell]) = (x, index, 1);
        }
    }

    fn merge_deviations(&mut self, cell: usize, n: i64, mean: f64, squares: f64) {
        let before = self.n[cell];
        let total = before + n;
        if n == 0 {
            return;
        }
        let delta = mean - self.f[cell];
        let share = n as f64 / total as f64;
        if before == 0 {
            (self.f[cell], self.g[cell]) = (mean, squares);
        } else {
            self.f[cell] += delta * share;
            self.g[cell] += squares + delta * delta * (before as f64 * share);
        }
        self.n[cell] = total;
    }

    /// Combines a later part's cell into one of this.
    pub(crate) fn merge(&mut self, cell: usize, other: &Cells, from: usize) {
        match (self.op, self.kind) {
            (AccOp::Sum, Kind::Float) => self.f[cell] += other.f[from],
            (AccOp::Prod, Kind::Float) => self.f[cell] *= other.f[from],
            (AccOp::Max, Kind::Float) => self.f[cell] = max(self.f[cell], other.f[from]),
            (AccOp::Min, Kind::Float) => self.f[cell] = min(self.f[cell], other.f[from]),
            (AccOp::Deviations, _) => self.merge_deviations(cell, other.n[from], other.f[from], other.g[from]),
            (AccOp::ArgMax | AccOp::ArgMin, _) if other.n[from] == 0 => {}
            (AccOp::ArgMax | AccOp::ArgMin, Kind::Float) => self.arg_float(cell, other.f[from], other.at[from]),
            (AccOp::ArgMax | AccOp::ArgMin, Kind::Int | Kind::Bool) => self.int(cell, other.i[from], other.at[from]),
            (AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min, Kind::Int | Kind::Bool) => {
                self.int(cell, other.i[from], 0);
            }
        }
    }

    /// The values of the first `width` cells.
    pub(crate) fn finish(&self, width: usize) -> AccOut {
        let floats = |f: &[f64]| AccOut::Float(f[..width].iter().map(|x| *x as f32).collect());
        match (self.op, self.kind) {
            (AccOp::ArgMax | AccOp::ArgMin, _) => AccOut::Int(self.at[..width].to_vec()),
            (AccOp::Deviations, _) => floats(&self.g),
            (_, Kind::Float) => floats(&self.f),
            (_, Kind::Int) => AccOut::Int(self.i[..width].to_vec()),
            (_, Kind::Bool) => AccOut::Bool(self.i[..width].iter().map(|x| *x != 0).collect()),
        }
    }
}

#[inline(always)]
fn each(cells: &mut [f64], x: Src<'_, f32>, combine: impl Fn(f64, f64) -> f64) {
    match x {
        Src::Strip(x) => cells.iter_mut().zip(x).for_each(|(f, x)| *f = combine(*f, f64::from(*x))),
        Src::One(x) => cells.iter_mut().for_each(|f| *f = combine(*f, f64::from(x))),
    }
}

#[inline(always)]
fn max(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

#[inline(always)]
fn min(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

/// Sum of `f(x)` in eight lanes, so that the additions do not wait for one another.
fn sum(x: Src<'_, f32>, n: usize, f: impl Fn(f64) -> f64) -> f64 {
    let x = match x {
        Src::Strip(x) => x,
        Src::One(x) => return f(f64::from(x)) * n as f64,
    };
    let mut lanes = [0f64; 8];
    let (blocks, rest) = x.as_chunks::<8>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += f(f64::from(*x)));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += f(f64::from(*x)));
    let halves = |a: usize| lanes[a] + lanes[a + 4];
    (halves(0) + halves(2)) + (halves(1) + halves(3))
}
