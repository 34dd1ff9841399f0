//! Reduce: elements combined along axes, then an epilogue per point kept.
//!
//! Strips run along the combined axes, or along the kept ones where that walks memory in order or the combined axes
//! are short. Long reductions are cut into parts by size alone and merged in order.

use super::buffers::View;
use super::cells::Cells;
use super::check::{Scope, Typed, acc_kind, malformed, product, sizes};
use super::code::{Code, STRIP, Space, compile, compile_ordered};
use super::error::CpuError;
use super::strip::{AccIn, Exec, Results};
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{Acc, AccOp, Extent, Kind, ReduceBody, Reg, Store};
use std::sync::Arc;

/// Elements of a part of a long reduction, and of a task over short ones.
const PART: i64 = 32_768;

/// With this many groups of points no reduction is cut into parts: there is work for every thread already.
const ENOUGH_GROUPS: i64 = 64;

/// Reductions up to this long always run along the kept axes, if there are as many points.
const SHORT: i64 = 16;

pub(crate) struct Reduce {
    outer: Vec<Extent>,
    inner: Vec<Extent>,
    element: Typed,
    accs: Vec<Acc>,
    kinds: Vec<Kind>,
    epilogue: Typed,
    stores: Vec<Store>,
}

pub(crate) fn check(body: &ReduceBody, scope: &Scope<'_>) -> Result<Reduce, CpuError> {
    let ReduceBody { outer, inner, element, accs, epilogue, stores } = body;
    scope.extents("reduce outer", outer)?;
    scope.extents("reduce inner", inner)?;
    let element = scope.program("reduce element", element, outer.len() + inner.len(), &[])?;
    let kinds: Vec<Kind> =
        accs.iter().map(|acc| element.kind("reduce accumulators", acc.value)).collect::<Result<_, _>>()?;
    let results: Option<Vec<Kind>> = accs.iter().zip(&kinds).map(|(acc, kind)| acc_kind(acc.op, *kind)).collect();
    let results = results.ok_or_else(|| malformed("reduce accumulators", "an operation does not take its element"))?;
    let epilogue = scope.storing("reduce epilogue", epilogue, outer.len(), (&results, stores))?;
    let (outer, inner) = (outer.clone(), inner.clone());
    Ok(Reduce { outer, inner, element, accs: accs.clone(), kinds, epilogue, stores: stores.clone() })
}

impl Face for Reduce {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let (outer, inner) = (sizes(&self.outer, dynamics)?, sizes(&self.inner, dynamics)?);
        let (n_outer, n_inner) = (product(&outer)?, product(&inner)?);
        let extents = [outer.as_slice(), &inner].concat();
        let roots: Vec<Reg> = self.accs.iter().map(|acc| acc.value).collect();
        let (kept, all) = (outer.len(), extents.len());
        let along = |loops: Vec<usize>| {
            compile_ordered(&self.element, Space { extents: &extents, loops: &loops, dynamics }, &roots, &[])
        };
        let inside = along((0..all).collect())?;
        let across = along((kept..all).chain(0..kept).collect())?;
        let short = n_inner <= SHORT && n_outer >= 4 * SHORT;
        let columns = n_outer > 1 && (short || across.load_cost() < inside.load_cost());
        let split = Split::new(n_outer, n_inner, columns);
        Ok(Arc::new(BoundReduce {
            n_outer,
            n_inner,
            columns,
            split,
            element: if columns { across } else { inside },
            accs: self.accs.iter().map(|a| a.op).zip(self.kinds.iter().copied()).collect(),
            epilogue: compile(&self.epilogue, &outer, dynamics, &[], &self.stores)?,
        }))
    }
}

/// How the work is cut.
#[derive(Clone, Copy, Debug)]
struct Split {
    /// Points kept per group.
    group: i64,
    n_groups: i64,
    /// Elements combined per part.
    part: i64,
    n_parts: i64,
}

impl Split {
    fn new(n_outer: i64, n_inner: i64, columns: bool) -> Split {
        let widest = STRIP as i64;
        let group = if columns {
            widest.min(n_outer)
        } else if n_inner > PART {
            1
        } else {
            (PART / n_inner.max(1)).clamp(1, widest).min(n_outer)
        };
        let group = group.max(1);
        let n_groups = n_tasks(n_outer, group) as i64;
        let smallest = (PART / group).max(1);
        let part = if n_groups >= ENOUGH_GROUPS { n_inner } else { smallest.max(n_inner / ENOUGH_GROUPS + 1) };
        let part = part.clamp(1, n_inner.max(1));
        Split { group, n_groups, part, n_parts: (n_tasks(n_inner, part) as i64).max(1) }
    }
}

struct BoundReduce {
    n_outer: i64,
    n_inner: i64,
    /// Strips run along the kept axes.
    columns: bool,
    split: Split,
    element: Code,
    accs: Vec<(AccOp, Kind)>,
    epilogue: Code,
}

impl Bound for BoundReduce {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let Split { n_groups, n_parts, .. } = self.split;
        if self.epilogue.stores.is_empty() {
            return Ok(());
        }
        check_room(self.n_outer, self.epilogue.stores.iter().map(|s| s.buffer), views)?;
        if n_parts == 1 {
            return threads.each(n_groups as usize, |group| {
                let cells = self.combine(group as i64, 0, views)?;
                self.finish(group as i64, &cells, views)
            });
        }
        let parts = threads.collect((n_groups * n_parts) as usize, |task| {
            self.combine(task as i64 / n_parts, task as i64 % n_parts, views)
        })?;
        threads.each(n_groups as usize, |group| {
            let mut parts = parts[group * n_parts as usize..(group + 1) * n_parts as usize].iter();
            let mut cells = parts.next().cloned().unwrap_or_default();
            for part in parts {
                for (into, from) in cells.iter_mut().zip(part) {
                    (0..self.width(group as i64)).for_each(|cell| into.merge(cell, from, cell));
                }
            }
            self.finish(group as i64, &cells, views)
        })
    }
}

impl BoundReduce {
    fn width(&self, group: i64) -> usize {
        self.split.group.min(self.n_outer - group * self.split.group) as usize
    }

    /// Combines one part of a group's elements.
    fn combine(&self, group: i64, part: i64, views: &[View<'_>]) -> Result<Vec<Cells>, CpuError> {
        let width = self.width(group);
        let mut cells: Vec<Cells> = self.accs.iter().map(|(op, kind)| Cells::new(*op, *kind, width)).collect();
        if self.n_inner == 0 || cells.is_empty() {
            return Ok(cells);
        }
        let first = group * self.split.group;
        let from = part * self.split.part;
        let n = self.split.part.min(self.n_inner - from);
        let mut exec = Exec::new(&self.element, views);
        if self.columns && width as i64 == self.n_outer {
            let mut sink = cycled(&mut cells, width, from);
            exec.range(from * self.n_outer, (n as usize) * width, &[], &mut sink)?;
        } else if self.columns {
            for i in from..from + n {
                exec.range(i * self.n_outer + first, width, &[], &mut |at, n, results| {
                    cells.iter_mut().enumerate().for_each(|(root, c)| c.columns(results, root, (0, n), at, i));
                    Ok(())
                })?;
            }
        } else if self.split.n_parts > 1 {
            for o in 0..width {
                let start = (first + o as i64) * self.n_inner + from;
                exec.range(start, n as usize, &[], &mut |at, n, results| {
                    let index = from + at as i64;
                    cells.iter_mut().enumerate().for_each(|(root, c)| c.segment(results, root, (0, n), o, index));
                    Ok(())
                })?;
            }
        } else {
            let mut sink = segmented(&mut cells, self.n_inner as usize);
            exec.range(first * self.n_inner, width * self.n_inner as usize, &[], &mut sink)?;
        }
        Ok(cells)
    }

    /// Runs the epilogue of a group.
    fn finish(&self, group: i64, cells: &[Cells], views: &[View<'_>]) -> Result<(), CpuError> {
        let width = self.width(group);
        let values: Vec<_> = cells.iter().map(|c| c.finish(width)).collect();
        let accs: Vec<AccIn<'_>> = values.iter().map(|v| v.as_input()).collect();
        Exec::new(&self.epilogue, views).stores(group * self.split.group, width, &accs)
    }
}

/// Point `p` of the range is element `first + p / width` of cell `p % width`.
fn cycled(
    cells: &mut [Cells],
    width: usize,
    first: i64,
) -> impl FnMut(usize, usize, &Results<'_>) -> Result<(), CpuError> {
    move |at, n, results| {
        let mut done = 0;
        while done < n {
            let cell = (at + done) % width;
            let len = (width - cell).min(n - done);
            let index = first + ((at + done) / width) as i64;
            cells.iter_mut().enumerate().for_each(|(root, c)| c.columns(results, root, (done, len), cell, index));
            done += len;
        }
        Ok(())
    }
}

/// Point `p` of the range is element `p % n_inner` of cell `p / n_inner`.
fn segmented(cells: &mut [Cells], n_inner: usize) -> impl FnMut(usize, usize, &Results<'_>) -> Result<(), CpuError> {
    move |at, n, results| {
        let mut done = 0;
        while done < n {
            let index = (at + done) % n_inner;
            let len = (n_inner - index).min(n - done);
            let cell = (at + done) / n_inner;
            cells
                .iter_mut()
                .enumerate()
                .for_each(|(root, c)| c.segment(results, root, (done, len), cell, index as i64));
            done += len;
        }
        Ok(())
    }
}
