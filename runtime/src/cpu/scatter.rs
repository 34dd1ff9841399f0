//! Scatter: rows replace or add to rows of `out`, in the order of their indices.
//!
//! Law: the rows meant for one row of `out` are listed first, in order; then each row of `out` is computed by one
//! task. Sums are f32 and rounded once, at the end.

use super::buffers::View;
use super::check::{Scope, Typed, malformed, product, sizes};
use super::code::{Code, compile};
use super::error::CpuError;
use super::strip::Exec;
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{Extent, Kind, Reg, ScatterBody, ScatterMode};
use std::sync::Arc;

/// Elements of `out` a task computes, at least a row.
const TASK: i64 = 8192;

pub(crate) struct Scatter {
    mode: ScatterMode,
    prefix: Vec<Extent>,
    batch: usize,
    extent: Extent,
    index_space: Vec<Extent>,
    suffix: Vec<Extent>,
    index: (Typed, Reg),
    rows: (Typed, Reg),
    kind: Kind,
    out: u32,
}

pub(crate) fn check(body: &ScatterBody, scope: &Scope<'_>) -> Result<Scatter, CpuError> {
    let ScatterBody { mode, prefix, batch, extent, index_space, suffix, index, rows, out } = body;
    for (part, extents) in [("prefix", prefix), ("index space", index_space), ("suffix", suffix)] {
        scope.extents(&format!("scatter {part}"), extents)?;
    }
    scope.extents("scatter extent", &[*extent])?;
    let batch = *batch as usize;
    if batch > prefix.len() {
        return Err(malformed("scatter", format!("{batch} batch axes of {} before the indexed one", prefix.len())));
    }
    let kind = Kind::of(scope.written("scatter out", *out)?);
    if kind == Kind::Bool && *mode == ScatterMode::Add {
        return Err(malformed("scatter", "truth values do not add"));
    }
    let typed_index = scope.value("scatter index", index, batch + index_space.len(), Kind::Int)?;
    let rank = prefix.len() + index_space.len() + suffix.len();
    Ok(Scatter {
        mode: *mode,
        prefix: prefix.clone(),
        batch,
        extent: *extent,
        index_space: index_space.clone(),
        suffix: suffix.clone(),
        index: (typed_index, index.reg),
        rows: (scope.value("scatter rows", rows, rank, kind)?, rows.reg),
        kind,
        out: *out,
    })
}

impl Face for Scatter {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let (prefix, suffix) = (sizes(&self.prefix, dynamics)?, sizes(&self.suffix, dynamics)?);
        let space = sizes(&self.index_space, dynamics)?;
        let extent = self.extent.value(dynamics);
        let index_extents = [&prefix[..self.batch], &space].concat();
        let row_extents = [prefix.as_slice(), &space, &suffix].concat();
        product(&[product(&prefix)?, extent, product(&suffix)?])?;
        Ok(Arc::new(BoundScatter {
            mode: self.mode,
            kind: self.kind,
            n_batch: product(&prefix[..self.batch])?,
            per_batch: product(&prefix[self.batch..])?,
            extent,
            n_rows: product(&space)?,
            row_len: product(&suffix)?,
            index: compile(&self.index.0, &index_extents, dynamics, &[self.index.1], &[])?,
            rows: compile(&self.rows.0, &row_extents, dynamics, &[self.rows.1], &[])?,
            out: self.out,
        }))
    }
}

struct BoundScatter {
    mode: ScatterMode,
    kind: Kind,
    /// Points of the prefix axes that the index depends on, and of the others.
    n_batch: i64,
    per_batch: i64,
    extent: i64,
    n_rows: i64,
    row_len: i64,
    index: Code,
    rows: Code,
    out: u32,
}

/// The rows meant for each row of `out` that is meant at all.
struct Inverted {
    /// (target, row), ascending.
    pairs: Vec<(u32, u32)>,
    /// Where each target's pairs begin, and the end.
    starts: Vec<usize>,
}

impl Inverted {
    fn new(index: &[i64], extent: i64) -> Inverted {
        let inside = index.iter().enumerate().filter(|(_, target)| (0..extent).contains(*target));
        let mut pairs: Vec<(u32, u32)> = inside.map(|(row, target)| (*target as u32, row as u32)).collect();
        pairs.sort_unstable();
        let first = |at: &usize| *at == 0 || pairs[at - 1].0 != pairs[*at].0;
        let starts = (0..pairs.len()).filter(first).chain([pairs.len()]).collect();
        Inverted { pairs, starts }
    }

    fn n_targets(&self) -> usize {
        self.starts.len() - 1
    }

    /// The pairs of the n-th target; at least one.
    fn pairs_of(&self, n: usize) -> &[(u32, u32)] {
        &self.pairs[self.starts[n]..self.starts[n + 1]]
    }
}

impl Bound for BoundScatter {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let n_prefix = self.n_batch * self.per_batch;
        check_room(n_prefix * self.extent * self.row_len, std::iter::once(self.out), views)?;
        if n_prefix * self.extent * self.row_len * self.n_rows == 0 {
            return Ok(());
        }
        for (what, value) in [("rows to scatter", self.n_rows), ("rows to scatter into", self.extent)] {
            if value > i64::from(u32::MAX) {
                return Err(CpuError::Size { what, value });
            }
        }
        let inverted = threads.collect(self.n_batch as usize, |batch| {
            let mut index = vec![0i64; self.n_rows as usize];
            Exec::new(&self.index, views).ints(batch as i64 * self.n_rows, &mut index)?;
            Ok(Inverted::new(&index, self.extent))
        })?;
        let per_task = (TASK / self.row_len).max(1) as usize;
        let most_targets = inverted.iter().map(Inverted::n_targets).max().unwrap_or(0);
        let blocks = n_tasks(most_targets as i64, per_task as i64);
        threads.each(n_prefix as usize * blocks, |task| {
            let (prefix, first) = (task / blocks, task % blocks * per_task);
            let inverted = &inverted[prefix / self.per_batch as usize];
            let last = inverted.n_targets().min(first + per_task);
            self.fill(prefix as i64, first..last, inverted, views)
        })
    }
}

impl BoundScatter {
    /// Computes some rows of `out` for one point of the prefix.
    fn fill(
        &self,
        prefix: i64,
        targets: std::ops::Range<usize>,
        inverted: &Inverted,
        views: &[View<'_>],
    ) -> Result<(), CpuError> {
        let mut exec = Exec::new(&self.rows, views);
        let len = self.row_len as usize;
        let out = &views[self.out as usize];
        let (mut floats, mut ints) = match self.kind {
            Kind::Float => (vec![0f32; len], Vec::new()),
            Kind::Int | Kind::Bool => (Vec::new(), vec![0i64; len]),
        };
        for target in targets {
            let mut pairs = inverted.pairs_of(target);
            let base = ((prefix * self.extent + i64::from(pairs[0].0)) * self.row_len) as usize;
            match self.mode {
                ScatterMode::Set => pairs = &pairs[pairs.len() - 1..],
                ScatterMode::Add => {
                    floats.iter_mut().enumerate().for_each(|(i, x)| *x = out.get_float(base + i));
                    ints.iter_mut().enumerate().for_each(|(i, x)| *x = out.get_int(base + i));
                }
            }
            for (_, row) in pairs {
                let start = (prefix * self.n_rows + i64::from(*row)) * self.row_len;
                self.meet(&mut exec, start, &mut floats, &mut ints)?;
            }
            floats.iter().enumerate().for_each(|(i, x)| out.set_float(base + i, *x));
            ints.iter().enumerate().for_each(|(i, x)| out.set_int(base + i, *x));
        }
        Ok(())
    }

    /// Adds or sets one row.
    fn meet(&self, exec: &mut Exec<'_>, start: i64, floats: &mut [f32], ints: &mut [i64]) -> Result<(), CpuError> {
        let set = self.mode == ScatterMode::Set;
        exec.range(start, self.row_len as usize, &[], &mut |at, n, results| {
            match self.kind {
                Kind::Float => {
                    let x = results.float(0);
                    let out = floats[at..at + n].iter_mut().enumerate();
                    out.for_each(|(i, o)| *o = if set { x.at(i) } else { *o + x.at(i) });
                }
                Kind::Int => {
                    let x = results.int(0);
                    let out = ints[at..at + n].iter_mut().enumerate();
                    out.for_each(|(i, o)| *o = if set { x.at(i) } else { o.wrapping_add(x.at(i)) });
                }
                Kind::Bool => {
                    let x = results.bool(0);
                    ints[at..at + n].iter_mut().enumerate().for_each(|(i, o)| *o = i64::from(x.at(i)));
                }
            }
            Ok(())
        })
    }
}
