//! contract: a warp per column for few rows, else tiles in shared memory; results stored, or folded over row segments.

use crate::affine::stride;
use crate::error::EmitError;
use crate::kernels::operand::{Lying, Run, operand};
use crate::kernels::reduce::accumulator;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, size_const, size_max};
use enel_bundle::{AccOp, ContractBody, Desc, Extent, Kind};

/// Up to this many rows are a matrix-vector product: there is nothing to gain from tiles.
const FEW_ROWS: i64 = 8;

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
    let (m, n) = (size_max(desc, &body.rows)?, size_max(desc, &body.cols)?);
    let (shape, mut numbers) = if body.bf16 {
        tensor_shape(&mut unit, body, m, n)?
    } else {
        let [batch, rows, cols, summed] = groups(body);
        let lying = Lying { along_rows: false, bf16_only: false };
        operand(&mut unit, "Lhs", "lhs", [batch, rows, summed], &body.lhs, lying)?;
        operand(&mut unit, "Rhs", "rhs", [batch, cols, summed], &body.rhs, lying)?;
        scalar_shape(m, n)
    };
    let segments = segments(body, folded, shape.bm);
    numbers.extend([("bm", shape.bm), ("bn", shape.bn), ("bk", shape.bk), ("segments", segments)]);
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
    let plan = LaunchPlan {
        config: config(&numbers),
        words: &words,
        lists: &[],
        grid: vec![(body.batch.clone(), 1), row_tiles, (body.cols.clone(), shape.bn)],
        blocks: shape.blocks,
        threads: shape.threads as u32,
        smem_bytes: shape.smem_bytes,
        scratch_bytes: 0,
    };
    let template = match (body.bf16, body.fold.is_some()) {
        (false, false) => "contract_store_f32.cu.tera",
        (false, true) => "contract_fold_f32.cu.tera",
        (true, false) => "contract_store_bf16.cu.tera",
        (true, true) => "contract_fold_bf16.cu.tera",
    };
    unit.finish(template, plan)
}

fn scalar_shape(m: i64, n: i64) -> (Shape, Vec<(&'static str, i64)>) {
    let (bm, bn, bk, tm, tn) = match (m >= 512 && n >= 128, m) {
        (true, _) => (128, 128, 8, 8, 8),
        (false, ..=16) => (16, 64, 16, 4, 4),
        (false, _) => (64, 64, 16, 4, 4),
    };
    let smem_bytes = i64::max(4 * bk * (bm + bn + 8), 4 * bm * (bn + 4));
    let shape = Shape { bm, bn, bk, threads: (bm / tm) * (bn / tn), blocks: 1, smem_bytes };
    (shape, vec![("tm", tm), ("tn", tn)])
}

type Chosen = (Shape, Vec<(&'static str, i64)>);

fn tensor_shape(unit: &mut Unit<'_>, body: &ContractBody, m: i64, n: i64) -> Result<Chosen, EmitError> {
    let (_, folded) = split_rows(body)?;
    // One segment of 81 rows wastes less of 96 rows than of 128.
    let narrow_fold = size_const(folded).is_some_and(|length| (65..=96).contains(&length)) && body.fold.is_some();
    let (bm, bn, bk, warps_m, warps_n) = match (narrow_fold, m >= 512 && n >= 128, m) {
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
    let stages = match (lhs.vector > 1 || rhs.vector > 1, m) {
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
    let n_cols = size_max(desc, &body.cols)?;
    let cols = match n_cols.saturating_mul(size_max(desc, &body.batch)?) {
        ..=4096 => 1,
        4097..=16384 => 2,
        _ => 4,
    };
    let (warps, chunk) = (4, lhs.vector.max(rhs.vector).max(4));
    let plan = LaunchPlan {
        config: config(&[("rows", rows), ("cols", cols), ("warps", warps), ("chunk", chunk)]),
        words: &[],
        lists: &[],
        grid: vec![(body.batch.clone(), 1), (body.cols.clone(), cols * warps)],
        blocks: 1,
        threads: 32 * warps as u32,
        smem_bytes: 0,
        scratch_bytes: 0,
    };
    unit.finish("contract_vector.cu.tera", plan)
}
