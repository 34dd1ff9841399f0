//! contract: a warp per column for few rows, else tiles in shared memory; results stored, or folded over row segments. Where
//! tiles are few and sums long, a team of blocks shares each tile.

use crate::affine::stride;
use crate::error::EmitError;
use crate::kernels::operand::{Lying, Run, operand};
use crate::kernels::reduce::accumulator;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, counter_bytes, size_const, size_max};
use enel_bundle::{AccOp, ContractBody, Desc, Extent, Kind};

/// Up to this many rows are a matrix-vector product: there is nothing to gain from tiles.
const FEW_ROWS: i64 = 8;
/// More columns than a large card holds warps of a product of few rows, several times over.
const MANY_COLUMNS: i64 = 8192;
/// Blocks that leave no multiprocessor of a large card idle, roughly.
const FULL_CARD: i64 = 128;
/// More rows than this are not reckoned with where their number is not fixed.
const USUAL_ROWS: i64 = 1024;
/// Elements of the summed axis for a block of a team, at least: its sums have to be worth their way through memory.
const STRETCH: i64 = 256;

pub(crate) fn render(desc: &Desc, body: &ContractBody) -> Result<Text, EmitError> {
    let rows_max = size_max(desc, &body.rows)?;
    if body.fold.is_none() && rows_max <= FEW_ROWS { vector(desc, body, rows_max) } else { tiles(desc, body) }
}

/// Row axes kept and folded.
fn split_rows(body: &ContractBody) -> Result<(&[Extent], &[Extent]), EmitError> {
    let folded = body.fold.as_ref().map_or(0, |fold| fold.axes as usize);
    let count = body.rows.len();
    if folded > count {
        return Err(EmitError::Reference { function: "fold".to_owned(), what: "row axis", index: folded, count });
    }
    Ok(body.rows.split_at(count - folded))
}

fn functions<'d>(desc: &'d Desc, body: &ContractBody) -> Result<Unit<'d>, EmitError> {
    let mut unit = Unit::new(desc, &[&body.batch, &body.rows, &body.cols, &body.summed])?;
    unit.size("rows_size", &body.rows);
    unit.size("cols_size", &body.cols);
    unit.size("summed_size", &body.summed);
    let [batch, rows, cols, summed] = groups(body);
    unit.value("lhs", &[batch, rows, summed], &body.lhs, Kind::Float)?;
    unit.value("rhs", &[batch, cols, summed], &body.rhs, Kind::Float)?;
    let (kept, folded) = split_rows(body)?;
    match &body.fold {
        None => unit.stores("result", &[batch, rows, cols], &[Kind::Float], &body.epilogue, &body.stores)?,
        Some(fold) => {
            unit.size("kept_size", kept);
            unit.size("fold_size", folded);
            let (outer, inner) = (Group { name: "m", axes: kept }, Group { name: "f", axes: folded });
            let groups = [batch, outer, inner, cols];
            let kind = unit.value_of_acc("folded_value", &groups, &body.epilogue, fold.value)?;
            if kind != Kind::Float {
                let (function, reg) = ("fold".to_owned(), fold.value.0);
                return Err(EmitError::Kind { function, reg, expected: Kind::Float, got: kind });
            }
            unit.stores("result", &[batch, outer, cols], &[Kind::Float], &fold.epilogue, &body.stores)?;
        }
    }
    Ok(unit)
}

fn groups(body: &ContractBody) -> [Group<'_>; 4] {
    [
        Group { name: "b", axes: &body.batch },
        Group { name: "m", axes: &body.rows },
        Group { name: "n", axes: &body.cols },
        Group { name: "k", axes: &body.summed },
    ]
}

/// Sizes of a tile and of the threads that work on it.
#[derive(Clone, Copy)]
struct Shape {
    bm: i64,
    bn: i64,
    bk: i64,
    threads: i64,
    blocks: i64,
    smem_bytes: i64,
}

fn tiles(desc: &Desc, body: &ContractBody) -> Result<Text, EmitError> {
    let mut unit = functions(desc, body)?;
    let (kept, folded) = split_rows(body)?;
    let sizes = Sizes {
        batch: size_max(desc, &body.batch)?,
        rows: size_max(desc, &body.rows)?,
        usual_rows: usual_rows(desc, body)?,
        cols: size_max(desc, &body.cols)?,
        summed: size_max(desc, &body.summed)?,
        folds: body.fold.is_some(),
    };
    let (shape, mut numbers) = if body.bf16 {
        tensor_shape(&mut unit, body, &sizes)?
    } else {
        let [batch, rows, cols, summed] = groups(body);
        let lying = Lying { along_rows: false, bf16_only: false };
        operand(&mut unit, "Lhs", "lhs", [batch, rows, summed], &body.lhs, lying)?;
        operand(&mut unit, "Rhs", "rhs", [batch, cols, summed], &body.rhs, lying)?;
        scalar_shape(&sizes)
    };
    let segments = segments(body, folded, shape.bm);
    let segment_rows = size_max(desc, folded)?.min(shape.bm);
    numbers.extend([("bm", shape.bm), ("bn", shape.bn), ("bk", shape.bk), ("segments", segments)]);
    numbers.push(("segment_rows", segment_rows));
    let acc = match &body.fold {
        None => String::new(),
        Some(fold) => accumulator(fold_op(fold.op)?, Kind::Float)?.0.to_owned(),
    };
    let along = |axis: usize| {
        let strides = body.stores.iter().map(|s| stride(&body.epilogue, s.index, axis as u32));
        strides.filter(|s| *s == Some(1)).count()
    };
    let (last_row, last_col) =
        (body.batch.len() + body.rows.len(), body.batch.len() + body.rows.len() + body.cols.len());
    let along_rows = body.fold.is_none() && !body.rows.is_empty() && along(last_row - 1) > along(last_col - 1);
    let words = [
        ("results_along_rows", along_rows.to_string()),
        ("smem_bytes", shape.smem_bytes.to_string()),
        ("one_tile", size_const(folded).is_some_and(|length| segments * length <= shape.bm).to_string()),
        ("acc", acc),
    ];
    let row_tiles = if body.fold.is_some() { (kept.to_vec(), segments) } else { (body.rows.clone(), shape.bm) };
    let (tiles, team) = (sizes.tiles(shape.bm, shape.bn), sizes.team(shape.bm, shape.bn));
    let mut grid = vec![(body.batch.clone(), 1), row_tiles, (body.cols.clone(), shape.bn)];
    let mut scratch_bytes = 0;
    if team > 1 {
        let counters = counter_bytes(tiles);
        numbers.extend([("team", team), ("counter_bytes", counters)]);
        grid.push((vec![Extent::Const(team)], 1));
        scratch_bytes = counters + 4 * tiles * team * shape.bm * shape.bn;
    }
    let plan = LaunchPlan {
        config: config(&numbers),
        words: &words,
        lists: &[],
        grid,
        blocks: shape.blocks,
        threads: shape.threads as u32,
        smem_bytes: shape.smem_bytes,
        scratch_bytes,
    };
    let template = match (body.bf16, body.fold.is_some(), team > 1) {
        (false, true, _) => "contract_fold_f32.cu.tera",
        (true, true, _) => "contract_fold_bf16.cu.tera",
        (false, false, false) => "contract_store_f32.cu.tera",
        (true, false, false) => "contract_store_bf16.cu.tera",
        (false, false, true) => "contract_team_f32.cu.tera",
        (true, false, true) => "contract_team_bf16.cu.tera",
    };
    unit.finish(template, plan)
}

/// The largest a product may be.
struct Sizes {
    batch: i64,
    rows: i64,
    /// What a tile is chosen for.
    usual_rows: i64,
    cols: i64,
    summed: i64,
    folds: bool,
}

/// Rows of a usual call: what is not fixed can be very large, and seldom is.
fn usual_rows(desc: &Desc, body: &ContractBody) -> Result<i64, EmitError> {
    let fixed = body.rows.iter().filter_map(|&extent| size_const(&[extent])).fold(1, i64::saturating_mul);
    Ok(size_max(desc, &body.rows)?.min(fixed.max(USUAL_ROWS)))
}

impl Sizes {
    /// Tiles of the results, of as many rows.
    fn tiles_of(&self, rows: i64, bm: i64, bn: i64) -> i64 {
        let of = |n: i64, size: i64| (n as u64).div_ceil(size as u64) as i64;
        self.batch.saturating_mul(of(rows, bm)).saturating_mul(of(self.cols, bn))
    }

    /// Most tiles of the results.
    fn tiles(&self, bm: i64, bn: i64) -> i64 {
        self.tiles_of(self.rows, bm, bn)
    }

    /// True when tiles of this size keep a card busy.
    fn fill(&self, bm: i64, bn: i64) -> bool {
        let divided = self.team(bm, bn) > 1;
        let enough = divided || self.tiles_of(self.usual_rows, bm, bn) >= FULL_CARD;
        self.rows >= bm && self.cols >= bn && (self.folds || enough)
    }

    /// Blocks that share a tile.
    fn team(&self, bm: i64, bn: i64) -> i64 {
        let tiles = self.tiles(bm, bn);
        if self.folds || tiles == 0 || tiles > FULL_CARD / 2 {
            return 1;
        }
        (2 * FULL_CARD / tiles).min(self.summed / STRETCH).max(1)
    }
}

fn scalar_shape(sizes: &Sizes) -> (Shape, Vec<(&'static str, i64)>) {
    let (bm, bn, bk, tm, tn) = match (sizes.fill(128, 128), sizes.rows) {
        (true, _) => (128, 128, 8, 8, 8),
        (false, ..=16) => (16, 64, 16, 4, 4),
        (false, _) => (64, 64, 16, 4, 4),
    };
    let smem_bytes = i64::max(4 * bk * (bm + bn + 8), 4 * bm * (bn + 4));
    let shape = Shape { bm, bn, bk, threads: (bm / tm) * (bn / tn), blocks: 1, smem_bytes };
    (shape, vec![("tm", tm), ("tn", tn)])
}

type Chosen = (Shape, Vec<(&'static str, i64)>);

fn tensor_shape(unit: &mut Unit<'_>, body: &ContractBody, sizes: &Sizes) -> Result<Chosen, EmitError> {
    let (_, folded) = split_rows(body)?;
    // One segment of 81 rows wastes less of 96 rows than of 128.
    let narrow_fold = size_const(folded).is_some_and(|length| (65..=96).contains(&length)) && body.fold.is_some();
    let (bm, bn, bk, warps_m, warps_n) = match (narrow_fold, sizes.fill(128, 128), sizes.rows) {
        (true, ..) => (96, 64, 32, 2, 2),
        (false, true, _) => (128, 128, 32, 2, 4),
        (false, false, ..=16) => (16, 64, 64, 1, 4),
        (false, false, _) => (64, 64, 32, 2, 2),
    };
    let [batch, rows, cols, summed] = groups(body);
    // A segment may begin anywhere, so rows that are folded have no aligned runs along them.
    let lhs = Lying { along_rows: body.fold.is_none(), bf16_only: true };
    let rhs = Lying { along_rows: true, bf16_only: true };
    let lhs = operand(unit, "Lhs", "lhs", [batch, rows, summed], &body.lhs, lhs)?;
    let rhs = operand(unit, "Rhs", "rhs", [batch, cols, summed], &body.rhs, rhs)?;
    let stages = match (lhs.vector > 1 || rhs.vector > 1, sizes.rows) {
        (false, _) => 2,
        (true, ..=16) => 4,
        (true, _) => 3,
    };
    let side = |run: Run, rows: i64| if run.along_rows { bk * (rows + 8) } else { rows * (bk + 8) };
    let smem_bytes = i64::max(2 * stages * (side(lhs, bm) + side(rhs, bn)), 4 * bm * (bn + 4));
    // Asynchronous copies leave the registers to the sums, so that two blocks of 128 registers a thread fit.
    let blocks = if lhs.vector > 1 && rhs.vector > 1 { 2 } else { 1 };
    let shape = Shape { bm, bn, bk, threads: 32 * warps_m * warps_n, blocks, smem_bytes };
    Ok((shape, vec![("warps_m", warps_m), ("warps_n", warps_n), ("stages", stages)]))
}

fn fold_op(op: AccOp) -> Result<AccOp, EmitError> {
    match op {
        AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min => Ok(op),
        AccOp::ArgMax | AccOp::ArgMin | AccOp::Deviations => Err(EmitError::Operation {
            function: "fold".to_owned(),
            op: "an index or deviation fold",
            kind: Kind::Float,
        }),
    }
}

/// How many whole segments a block takes: as many as its rows hold, at least one.
fn segments(body: &ContractBody, folded: &[Extent], bm: i64) -> i64 {
    match (&body.fold, size_const(folded)) {
        (Some(_), Some(length)) => (bm / length).max(1),
        (Some(_), None) | (None, _) => 1,
    }
}

fn vector(desc: &Desc, body: &ContractBody, rows: i64) -> Result<Text, EmitError> {
    let mut unit = functions(desc, body)?;
    let [batch, m, n, k] = groups(body);
    let lying = Lying { along_rows: false, bf16_only: false };
    let lhs = operand(&mut unit, "Lhs", "lhs", [batch, m, k], &body.lhs, lying)?;
    let rhs = operand(&mut unit, "Rhs", "rhs", [batch, n, k], &body.rhs, lying)?;
    let columns = size_max(desc, &body.cols)?.saturating_mul(size_max(desc, &body.batch)?);
    // With enough columns for every warp of a card, a warp's columns share what is loaded, or computed, of the rows.
    let cols = if columns > MANY_COLUMNS { 2 } else { 1 };
    let (warps, chunk) = (4, lhs.vector.max(rhs.vector).max(4));
    let ahead = (size_max(desc, &body.summed)? / (32 * chunk)).clamp(1, 4);
    let plan = LaunchPlan {
        config: config(&[("rows", rows), ("cols", cols), ("warps", warps), ("chunk", chunk), ("ahead", ahead)]),
        words: &[],
        lists: &[],
        grid: vec![(body.batch.clone(), 1), (body.cols.clone(), cols * warps)],
        blocks: 4,
        threads: 32 * warps as u32,
        smem_bytes: 0,
        scratch_bytes: 0,
    };
    unit.finish("contract_vector.cu.tera", plan)
}
