//! Contract: blocks of the result, each a GEMM of packed or viewed operands, an epilogue and perhaps a fold.
//!
//! Few rows are dot products straight from the right operand's strips. A long sum with a small result is cut into
//! parts by size alone, added in order.

use super::buffers::View;
use super::cells::Cells;
use super::check::{Scope, Typed, acc_kind, malformed, product, sizes};
use super::code::{Code, compile};
use super::error::CpuError;
use super::gemm::{Axes, Block, Operand, Panel, dot_src, line_dots, multiply};
use super::strip::{AccIn, Exec};
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{AccOp, ContractBody, Extent, Fold, Kind, Reg, Store};
use faer::Accum;
use std::sync::Arc;

/// Rows of a block of the result: with `K_BLOCK`, 512 KiB of left panel.
const ROW_BLOCK: i64 = 256;
/// Columns of a block; up to twice as many stay together, so that the left side is packed once.
const COL_BLOCK: i64 = 512;
/// Summed elements of a panel.
const K_BLOCK: i64 = 512;
/// With fewer blocks than this they are made smaller, so that there is work for several threads.
const ENOUGH_TASKS: i64 = 16;
/// Results with fewer blocks than this and sums longer than `LONG_SUM` are cut along the sum.
const FEW_TASKS: i64 = 8;
const LONG_SUM: i64 = 8192;
/// Most parts of a sum.
const MOST_SPLITS: i64 = 16;
/// A right side of at most this many elements (64 MiB) is packed once for all row blocks.
const SHARED_ELEMS: i64 = 1 << 24;
/// A batch's right side smaller than this is packed by each task: a parallel step per batch would cost more.
const WORTH_SHARING: i64 = 1 << 18;
/// Up to this many rows the product is read along the right side once, without panels.
const FEW_ROWS: i64 = 4;

pub(crate) struct Contract {
    batch: Vec<Extent>,
    rows: Vec<Extent>,
    cols: Vec<Extent>,
    summed: Vec<Extent>,
    lhs: (Typed, Reg),
    rhs: (Typed, Reg),
    epilogue: Typed,
    fold: Option<CheckedFold>,
    stores: Vec<Store>,
}

struct CheckedFold {
    op: AccOp,
    axes: usize,
    value: Reg,
    kind: Kind,
    epilogue: Typed,
}

pub(crate) fn check(body: &ContractBody, scope: &Scope<'_>) -> Result<Contract, CpuError> {
    let ContractBody { batch, rows, cols, summed, lhs, rhs, bf16: _, epilogue, fold, stores } = body;
    for (part, extents) in [("batch", batch), ("rows", rows), ("cols", cols), ("summed", summed)] {
        scope.extents(part, extents)?;
    }
    let lhs_rank = batch.len() + rows.len() + summed.len();
    let rhs_rank = batch.len() + cols.len() + summed.len();
    let rank = batch.len() + rows.len() + cols.len();
    let left = scope.value("contract lhs", lhs, lhs_rank, Kind::Float)?;
    let right = scope.value("contract rhs", rhs, rhs_rank, Kind::Float)?;
    let own: &[Store] = if fold.is_some() { &[] } else { stores };
    let epilogue = scope.storing("contract epilogue", epilogue, rank, (&[Kind::Float], own))?;
    let fold = fold.as_ref().map(|fold| check_fold((fold, stores), &epilogue, rows.len(), rank, scope)).transpose()?;
    Ok(Contract {
        batch: batch.clone(),
        rows: rows.clone(),
        cols: cols.clone(),
        summed: summed.clone(),
        lhs: (left, lhs.reg),
        rhs: (right, rhs.reg),
        epilogue,
        fold,
        stores: stores.clone(),
    })
}

fn check_fold(
    (fold, stores): (&Fold, &[Store]),
    epilogue: &Typed,
    n_rows: usize,
    rank: usize,
    scope: &Scope<'_>,
) -> Result<CheckedFold, CpuError> {
    let Fold { op, axes, value, epilogue: after } = fold;
    let axes = *axes as usize;
    if axes == 0 || axes > n_rows || !matches!(op, AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min) {
        return Err(malformed("contract fold", format!("{op:?} over {axes} of {n_rows} row axes")));
    }
    let kind = epilogue.kind("contract fold", *value)?;
    let result =
        acc_kind(*op, kind).ok_or_else(|| malformed("contract fold", "its operation does not take its value"))?;
    let after = scope.storing("contract fold epilogue", after, rank - axes, (&[result], stores))?;
    Ok(CheckedFold { op: *op, axes, value: *value, kind, epilogue: after })
}

impl Face for Contract {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let (batch, rows) = (sizes(&self.batch, dynamics)?, sizes(&self.rows, dynamics)?);
        let (cols, summed) = (sizes(&self.cols, dynamics)?, sizes(&self.summed, dynamics)?);
        let axes = |rows| Axes { batch: &batch, rows, summed: &summed };
        let lhs = Operand::bind(&self.lhs.0, self.lhs.1, &axes(&rows), dynamics)?;
        let rhs = Operand::bind(&self.rhs.0, self.rhs.1, &axes(&cols), dynamics)?;
        let [b, m, n, k] = [product(&batch)?, product(&rows)?, product(&cols)?, product(&summed)?];
        let space = [batch.as_slice(), &rows, &cols].concat();
        let roots: Vec<Reg> = self.fold.iter().map(|f| f.value).collect();
        let own_stores: &[Store] = if self.fold.is_some() { &[] } else { &self.stores };
        let epilogue = compile(&self.epilogue, &space, dynamics, &roots, own_stores)?;
        let fold = match &self.fold {
            None => None,
            Some(fold) => {
                let kept = rows.len() - fold.axes;
                let space = [batch.as_slice(), &rows[..kept], &cols].concat();
                let size = product(&rows[kept..])?;
                if size == 0 {
                    return Err(CpuError::Size { what: "folded rows", value: 0 });
                }
                let after = compile(&fold.epilogue, &space, dynamics, &[], &self.stores)?;
                Some(BoundFold { op: fold.op, kind: fold.kind, size, after })
            }
        };
        let blocks = Blocks::new(b, m, n, k, fold.as_ref().map_or(1, |f| f.size));
        Ok(Arc::new(BoundContract { b, m, n, k, lhs, rhs, epilogue, fold, blocks }))
    }
}

/// How the result is cut.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// Rows per block: a multiple of the folded rows, or a part of them.
    rows: i64,
    cols: i64,
    n_rows: i64,
    n_cols: i64,
    /// Parts of the sum, 1 with a cut fold.
    splits: i64,
    split_k: i64,
    /// A segment of folded rows spans several blocks.
    cut_fold: bool,
}

impl Blocks {
    fn new(b: i64, m: i64, n: i64, k: i64, fold: i64) -> Blocks {
        let fold = fold.max(1);
        let cut_fold = fold > 2 * ROW_BLOCK;
        let whole = |rows: i64| (rows / fold).max(1) * fold;
        let mut cols = if n <= 2 * COL_BLOCK { n.max(1) } else { COL_BLOCK };
        let mut rows = if cut_fold { ROW_BLOCK } else { whole(ROW_BLOCK).min(m.max(1)) };
        let segment = if cut_fold { fold } else { m };
        let count = |rows: i64, cols: i64| {
            let n_rows = n_tasks(segment, rows) as i64 * if cut_fold { m / fold } else { 1 };
            b.saturating_mul(n_rows).saturating_mul(n_tasks(n, cols) as i64)
        };
        // The longer side is halved: square blocks pack the fewest elements for their work.
        while count(rows, cols) < ENOUGH_TASKS {
            let rows_shrink = !cut_fold && rows > 32 && whole(rows / 2) < rows;
            match (rows_shrink, cols > 128) {
                (true, false) => rows = whole(rows / 2),
                (true, true) if rows >= cols => rows = whole(rows / 2),
                (_, true) => cols = (cols + 1) / 2,
                (false, false) => break,
            }
        }
        let cut_sum = !cut_fold && count(rows, cols) < FEW_TASKS && k > LONG_SUM;
        let splits = if cut_sum { (k / (LONG_SUM / 4)).min(MOST_SPLITS) } else { 1 };
        let split_k = (k.max(1) as u64).div_ceil(splits as u64) as i64;
        let splits = (n_tasks(k, split_k) as i64).max(1);
        let n_rows = n_tasks(segment, rows) as i64 * if cut_fold { m / fold } else { 1 };
        Blocks { rows, cols, n_rows, n_cols: n_tasks(n, cols) as i64, splits, split_k, cut_fold }
    }
}

struct BoundFold {
    op: AccOp,
    kind: Kind,
    /// Rows folded into one.
    size: i64,
    after: Code,
}

struct BoundContract {
    b: i64,
    m: i64,
    n: i64,
    k: i64,
    lhs: Operand,
    rhs: Operand,
    epilogue: Code,
    fold: Option<BoundFold>,
    blocks: Blocks,
}

/// A block of the result.
#[derive(Clone, Copy, Debug)]
struct Tile {
    batch: i64,
    row: i64,
    n_rows: usize,
    col: i64,
    n_cols: usize,
}

/// What one kernel call works with.
#[derive(Clone, Copy)]
struct Call<'a> {
    views: &'a [View<'a>],
    /// The whole left side of a batch, packed.
    lhs: Option<&'a [f32]>,
    /// The whole right side of a batch, packed.
    rhs: Option<&'a [f32]>,
}

impl Bound for BoundContract {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let last = self.fold.as_ref().map_or(&self.epilogue, |f| &f.after);
        if last.stores.is_empty() || last.total == 0 {
            return Ok(());
        }
        check_room(last.total, last.stores.iter().map(|s| s.buffer), views)?;
        let few = self.m <= FEW_ROWS && self.fold.is_none() && (self.rhs.walks_rows() || self.rhs.has_lines());
        if few && (128..=1 << 16).contains(&self.k) {
            return self.run_few_rows(views, threads);
        }
        // A side that several blocks would compute each for itself is computed once.
        let shared = |side: &Operand, n: i64, n_blocks: i64| {
            let elems = n * self.k;
            let worth = self.b == 1 || elems >= WORTH_SHARING;
            !side.is_direct() && n_blocks > 1 && (1..=SHARED_ELEMS).contains(&elems) && worth
        };
        let lhs = shared(&self.lhs, self.m, self.blocks.n_cols);
        let rhs = shared(&self.rhs, self.n, self.blocks.n_rows);
        if !lhs && !rhs {
            return self.run_tiles(0..self.b, Call { views, lhs: None, rhs: None }, threads);
        }
        for batch in 0..self.b {
            let left = if lhs { Some(self.pack(&self.lhs, self.m, batch, (views, threads))?) } else { None };
            let right = if rhs { Some(self.pack(&self.rhs, self.n, batch, (views, threads))?) } else { None };
            let call = Call { views, lhs: left.as_deref(), rhs: right.as_deref() };
            self.run_tiles(batch..batch + 1, call, threads)?;
        }
        Ok(())
    }
}

impl BoundContract {
    /// One side of a batch, `n` rows, as a panel of its own.
    fn pack(
        &self,
        side: &Operand,
        n: i64,
        batch: i64,
        (views, threads): (&[View<'_>], &CpuThreads),
    ) -> Result<Panel, CpuError> {
        let mut panel = Panel::new((n * self.k) as usize);
        let lines = if side.walks_rows() { n } else { self.k };
        let line = (n * self.k / lines) as usize;
        let per_task = (SHARED_ELEMS / 1024 / line as i64).max(1);
        let chunks: Vec<std::sync::Mutex<&mut [f32]>> =
            panel.chunks_mut(per_task as usize * line).map(std::sync::Mutex::new).collect();
        threads.each(chunks.len(), |task| {
            let mut chunk = chunks[task].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (from, n_lines) = (task as i64 * per_task, chunk.len() / line);
            let block = if side.walks_rows() {
                Block { batch, row: from, n_rows: n_lines, k: 0, n_k: self.k as usize }
            } else {
                Block { batch, row: 0, n_rows: n as usize, k: from, n_k: n_lines }
            };
            side.pack(&mut side.exec(views), block, &mut chunk)
        })?;
        drop(chunks);
        Ok(panel)
    }

    fn run_tiles(&self, batches: std::ops::Range<i64>, call: Call<'_>, threads: &CpuThreads) -> Result<(), CpuError> {
        let Blocks { n_rows, n_cols, splits, split_k, cut_fold, .. } = self.blocks;
        let n_tiles = ((batches.end - batches.start) * n_rows * n_cols) as usize;
        let tile = |at: usize| self.tile(batches.start, at as i64);
        if cut_fold {
            return self.run_cut_fold(n_tiles, &tile, call, threads);
        }
        if splits == 1 {
            return threads.each(n_tiles, |at| {
                let tile = tile(at);
                let mut out = Panel::new(tile.n_rows * tile.n_cols);
                self.product(tile, (0, self.k), call, &mut out)?;
                self.finish(tile, &out, call.views)
            });
        }
        let parts = threads.collect(n_tiles * splits as usize, |task| {
            let tile = tile(task / splits as usize);
            let from = (task as i64 % splits) * split_k;
            let mut out = vec![0.0; tile.n_rows * tile.n_cols];
            self.product(tile, (from, self.k.min(from + split_k)), call, &mut out)?;
            Ok(out)
        })?;
        threads.each(n_tiles, |at| {
            let parts = &parts[at * splits as usize..(at + 1) * splits as usize];
            let total = |i: usize| parts.iter().map(|p| f64::from(p[i])).sum::<f64>() as f32;
            let out: Vec<f32> = (0..parts[0].len()).map(total).collect();
            self.finish(tile(at), &out, call.views)
        })
    }

    fn tile(&self, first_batch: i64, at: i64) -> Tile {
        let Blocks { rows, cols, n_rows, n_cols, cut_fold, .. } = self.blocks;
        let (batch, row_block, col_block) = (first_batch + at / n_cols / n_rows, at / n_cols % n_rows, at % n_cols);
        // With a cut fold, row blocks never cross a segment of folded rows.
        let segment = self.fold.as_ref().filter(|_| cut_fold).map_or(self.m, |f| f.size);
        let per_segment = n_tasks(segment, rows) as i64;
        let start = row_block % per_segment * rows;
        let (row, col) = (row_block / per_segment * segment + start, col_block * cols);
        let n_rows = rows.min(segment - start) as usize;
        Tile { batch, row, n_rows, col, n_cols: cols.min(self.n - col) as usize }
    }

    /// The sums of a tile over `from..to`.
    fn product(&self, tile: Tile, range: (i64, i64), call: Call<'_>, out: &mut [f32]) -> Result<(), CpuError> {
        let (from, to) = range;
        if from >= to {
            out.fill(0.0);
            return Ok(());
        }
        let unpacked = (self.lhs.is_direct() || call.lhs.is_some()) && (self.rhs.is_direct() || call.rhs.is_some());
        let step = if unpacked { to - from } else { K_BLOCK.min(to - from) };
        let (mut left_exec, mut right_exec) = (self.lhs.exec(call.views), self.rhs.exec(call.views));
        let panel = |side: &Operand, shared: Option<&[f32]>, n: usize| {
            let elems = if side.is_direct() || shared.is_some() { 0 } else { n * step as usize };
            Panel::new(elems)
        };
        let mut left_panel = panel(&self.lhs, call.lhs, tile.n_rows);
        let mut right_panel = panel(&self.rhs, call.rhs, tile.n_cols);
        let mut k = from;
        while k < to {
            let n_k = step.min(to - k) as usize;
            let left = Block { batch: tile.batch, row: tile.row, n_rows: tile.n_rows, k, n_k };
            let right = Block { batch: tile.batch, row: tile.col, n_rows: tile.n_cols, k, n_k };
            let lhs = match (self.lhs.view(call.views, left)?, call.lhs) {
                (Some(view), _) => view,
                (None, Some(shared)) => self.lhs.part_of_whole(shared, left),
                (None, None) => {
                    self.lhs.pack(&mut left_exec, left, &mut left_panel)?;
                    self.lhs.packed(&left_panel, left)
                }
            };
            let rhs = match (self.rhs.view(call.views, right)?, call.rhs) {
                (Some(view), _) => view,
                (None, Some(shared)) => self.rhs.part_of_whole(shared, right),
                (None, None) => {
                    self.rhs.pack(&mut right_exec, right, &mut right_panel)?;
                    self.rhs.packed(&right_panel, right)
                }
            };
            multiply(out, lhs, rhs, if k == from { Accum::Replace } else { Accum::Add });
            k += n_k as i64;
        }
        Ok(())
    }

    /// Epilogue and stores of a tile, or its folds and theirs.
    fn finish(&self, tile: Tile, out: &[f32], views: &[View<'_>]) -> Result<(), CpuError> {
        let Some(fold) = &self.fold else {
            let mut exec = Exec::new(&self.epilogue, views);
            return self.each_range(tile, self.m, |start, from, len| {
                exec.stores(start, len, &[AccIn::Float(&out[from..from + len])])
            });
        };
        let n_segments = tile.n_rows / fold.size.max(1) as usize;
        let mut cells = Cells::new(fold.op, fold.kind, n_segments * tile.n_cols);
        self.fold_tile(tile, out, fold.size as usize, &mut cells, views)?;
        let folded = Tile { row: tile.row / fold.size, n_rows: n_segments, ..tile };
        self.finish_fold(fold, folded, &cells, views)
    }

    fn finish_fold(&self, fold: &BoundFold, tile: Tile, cells: &Cells, views: &[View<'_>]) -> Result<(), CpuError> {
        let values = cells.finish(tile.n_rows * tile.n_cols);
        let mut exec = Exec::new(&fold.after, views);
        self.each_range(tile, self.m / fold.size, |start, from, len| {
            exec.stores(start, len, &[values.as_input().part(from, len)])
        })
    }

    /// Calls `f(first point, its place in the tile, points)` for runs of a tile that are consecutive in the space.
    fn each_range(
        &self,
        tile: Tile,
        m: i64,
        mut f: impl FnMut(i64, usize, usize) -> Result<(), CpuError>,
    ) -> Result<(), CpuError> {
        let first = (tile.batch * m + tile.row) * self.n + tile.col;
        if tile.n_cols as i64 == self.n {
            return f(first, 0, tile.n_rows * tile.n_cols);
        }
        (0..tile.n_rows).try_for_each(|row| f(first + row as i64 * self.n, row * tile.n_cols, tile.n_cols))
    }

    /// Runs the epilogue of a tile and folds each `size` rows into one row of cells.
    fn fold_tile(
        &self,
        tile: Tile,
        out: &[f32],
        size: usize,
        cells: &mut Cells,
        views: &[View<'_>],
    ) -> Result<(), CpuError> {
        let mut exec = Exec::new(&self.epilogue, views);
        let width = tile.n_cols;
        self.each_range(tile, self.m, |start, from, len| {
            exec.range(start, len, &[AccIn::Float(&out[from..from + len])], &mut |at, n, results| {
                let mut done = 0;
                while done < n {
                    let (row, col) = ((from + at + done) / width, (from + at + done) % width);
                    let len = (width - col).min(n - done);
                    cells.columns(results, 0, (done, len), row / size * width + col, row as i64);
                    done += len;
                }
                Ok(())
            })
        })
    }

    /// Folds over segments of rows that span several tiles.
    fn run_cut_fold(
        &self,
        n_tiles: usize,
        tile: &(dyn Fn(usize) -> Tile + Sync),
        call: Call<'_>,
        threads: &CpuThreads,
    ) -> Result<(), CpuError> {
        let Some(fold) = &self.fold else { return Ok(()) };
        let parts = threads.collect(n_tiles, |at| {
            let tile = tile(at);
            let mut out = Panel::new(tile.n_rows * tile.n_cols);
            self.product(tile, (0, self.k), call, &mut out)?;
            let mut cells = Cells::new(fold.op, fold.kind, tile.n_cols);
            self.fold_tile(tile, &out, tile.n_rows, &mut cells, call.views)?;
            Ok(cells)
        })?;
        let n_cols = self.blocks.n_cols as usize;
        let per_segment = n_tasks(fold.size, self.blocks.rows);
        threads.each(n_tiles / per_segment, |at| {
            let (segment, col) = (at / n_cols, at % n_cols);
            let part = |i: usize| (segment * per_segment + i) * n_cols + col;
            let first = tile(part(0));
            let mut cells = parts[part(0)].clone();
            for i in 1..per_segment {
                (0..first.n_cols).for_each(|cell| cells.merge(cell, &parts[part(i)], cell));
            }
            let folded = Tile { row: first.row / fold.size, n_rows: 1, ..first };
            self.finish_fold(fold, folded, &cells, call.views)
        })
    }

    /// A few rows: each column's strips meet all rows while in L1.
    fn run_few_rows(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let (m, k) = (self.m as usize, self.k as usize);
        let cols = (SHARED_ELEMS / 256 / self.k).clamp(1, COL_BLOCK);
        let n_blocks = n_tasks(self.n, cols);
        let arch = pulp::Arch::new();
        let lines = |batch: i64, to: &mut [f32]| {
            let mut each = to.chunks_exact_mut(k).enumerate();
            each.try_for_each(|(row, line)| self.row_of(&self.lhs, batch, row as i64, views, line))
        };
        // One batch's rows are computed once for all tasks; those of many batches by the tasks that use them.
        let mut rows = Panel::new(if self.b == 1 { m * k } else { 0 });
        lines(0, &mut rows)?;
        let rows = &*rows;
        threads.each(self.b as usize * n_blocks, |task| {
            let (batch, col) = ((task / n_blocks) as i64, (task % n_blocks) as i64 * cols);
            let tile = Tile { batch, row: 0, n_rows: m, col, n_cols: cols.min(self.n - col) as usize };
            let mut own = Panel::new(if self.b == 1 { 0 } else { m * k });
            lines(batch, &mut own)?;
            let left = if self.b == 1 { rows } else { &*own };
            let mut out = Panel::new(m * tile.n_cols);
            if let Some(lines) = self.rhs.lines(views, batch, (col, tile.n_cols))? {
                line_dots(arch, left, lines, &mut out);
                return self.finish(tile, &out, views);
            }
            let mut exec = self.rhs.exec(views);
            for j in 0..tile.n_cols {
                let mut sums = [0f64; FEW_ROWS as usize];
                let start = (batch * self.n + col + j as i64) * self.k;
                exec.range(start, k, &[], &mut |at, n, results| {
                    for (row, sum) in sums.iter_mut().enumerate().take(m) {
                        *sum += f64::from(dot_src(arch, &left[row * k + at..row * k + at + n], results.float(0)));
                    }
                    Ok(())
                })?;
                (0..m).for_each(|row| out[row * tile.n_cols + j] = sums[row] as f32);
            }
            self.finish(tile, &out, views)
        })
    }

    fn row_of(
        &self,
        side: &Operand,
        batch: i64,
        row: i64,
        views: &[View<'_>],
        line: &mut [f32],
    ) -> Result<(), CpuError> {
        let block = Block { batch, row, n_rows: 1, k: 0, n_k: line.len() };
        side.pack(&mut side.exec(views), block, line)
    }
}
