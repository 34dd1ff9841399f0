//! contract: a warp per column for few rows, else tiles in shared memory; results stored, or folded over row segments.

use crate::affine::{divisor, extent_divisor, load_strides, plain_load, stride};
use crate::error::EmitError;
use crate::kernels::reduce::accumulator;
use crate::unit::{Group, LaunchPlan, Rendered, Unit, config, size_const, size_max};
use enel_bundle::{AccOp, ContractBody, Desc, Extent, Kind, Value};
use enel_types::DType;

/// Up to this many rows are a matrix-vector product: there is nothing to gain from tiles.
const FEW_ROWS: i64 = 8;

pub(crate) fn render(name: &str, desc: &Desc, body: &ContractBody) -> Result<Rendered, EmitError> {
    let rows_max = size_max(desc, &body.rows)?;
    if body.fold.is_none() && rows_max <= FEW_ROWS {
        vector(name, desc, body, rows_max)
    } else {
        tiles(name, desc, body)
    }
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

fn functions<'d>(name: &str, desc: &'d Desc, body: &ContractBody) -> Result<Unit<'d>, EmitError> {
    let mut unit = Unit::new(name, desc, &[&body.batch, &body.rows, &body.cols, &body.summed])?;
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
            let kind = unit.value_of_acc("folded_value", &[batch, rows, cols], &body.epilogue, fold.value)?;
            if kind != Kind::Float {
                let (function, reg) = ("fold".to_owned(), fold.value.0);
                return Err(EmitError::Kind { function, reg, expected: Kind::Float, got: kind });
            }
            let kept = Group { name: "m", axes: kept };
            unit.stores("result", &[batch, kept, cols], &[Kind::Float], &fold.epilogue, &body.stores)?;
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

fn tiles(name: &str, desc: &Desc, body: &ContractBody) -> Result<Rendered, EmitError> {
    let unit = functions(name, desc, body)?;
    let (kept, folded) = split_rows(body)?;
    let (m, n) = (size_max(desc, &body.rows)?, size_max(desc, &body.cols)?);
    let large = m >= 512 && n >= 128;
    let (bm, bn, tm, tn) = match (large, m) {
        (true, _) => (128, 128, 8, 8),
        (false, ..=16) => (16, 64, 4, 4),
        (false, _) => (64, 64, 4, 4),
    };
    let bk = if large { 8 } else { 16 };
    let threads = (bm / tm) * (bn / tn);
    let smem_bytes = i64::max(4 * bk * (bm + bn + 8), 4 * bm * (bn + 4));
    let segments = segments(body, folded, bm);
    let numbers = [("bm", bm), ("bn", bn), ("bk", bk), ("tm", tm), ("tn", tn), ("segments", segments)];
    let fast =
        |value: &Value, axes: usize| (!runs_along_rows(value, body.batch.len() + axes, body.summed.len())).to_string();
    let acc = match &body.fold {
        None => String::new(),
        Some(fold) => accumulator(fold_op(fold.op)?, Kind::Float)?.0.to_owned(),
    };
    let words = [
        ("lhs_fast_k", fast(&body.lhs, body.rows.len())),
        ("rhs_fast_k", fast(&body.rhs, body.cols.len())),
        ("smem_bytes", smem_bytes.to_string()),
        ("acc", acc),
    ];
    let row_tiles = if body.fold.is_some() { (kept.to_vec(), segments) } else { (body.rows.clone(), bm) };
    let plan = LaunchPlan {
        config: config(&numbers),
        words: &words,
        lists: &[],
        grid: vec![(body.batch.clone(), 1), row_tiles, (body.cols.clone(), bn)],
        threads: threads as u32,
        smem_bytes,
    };
    unit.finish(if body.fold.is_some() { "contract_fold_f32.cu.tera" } else { "contract_store_f32.cu.tera" }, plan)
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

/// True when more loads run along the last row axis than along the last summed one.
fn runs_along_rows(value: &Value, n_before_summed: usize, n_summed: usize) -> bool {
    let count = |axis: usize| load_strides(&value.program, axis as u32).filter(|s| *s == Some(1)).count();
    let along_rows = if n_before_summed == 0 { 0 } else { count(n_before_summed - 1) };
    let along_summed = if n_summed == 0 { 0 } else { count(n_before_summed + n_summed - 1) };
    along_rows > along_summed
}

fn vector(name: &str, desc: &Desc, body: &ContractBody, rows: i64) -> Result<Rendered, EmitError> {
    let mut unit = functions(name, desc, body)?;
    let [batch, m, n, k] = groups(body);
    let lhs = operand(&mut unit, "Lhs", "lhs", [batch, m, k], &body.lhs)?;
    let rhs = operand(&mut unit, "Rhs", "rhs", [batch, n, k], &body.rhs)?;
    let n_cols = size_max(desc, &body.cols)?;
    let cols = match n_cols.saturating_mul(size_max(desc, &body.batch)?) {
        ..=4096 => 1,
        4097..=16384 => 2,
        _ => 4,
    };
    let (warps, chunk) = (4, lhs.max(rhs).max(4));
    let plan = LaunchPlan {
        config: config(&[("rows", rows), ("cols", cols), ("warps", warps), ("chunk", chunk)]),
        words: &[],
        lists: &[],
        grid: vec![(body.batch.clone(), 1), (body.cols.clone(), cols * warps)],
        threads: 32 * warps as u32,
        smem_bytes: 0,
    };
    unit.finish("contract_vector.cu.tera", plan)
}

/// Struct `ty`: how an operand lies along the summed axis; returns how many elements are one aligned 16-byte run.
fn operand(
    unit: &mut Unit<'_>,
    ty: &str,
    function: &str,
    groups: [Group<'_>; 3],
    value: &Value,
) -> Result<i64, EmitError> {
    let index = unit.index_type();
    let run = aligned_run(unit.desc, groups, value);
    let at = match run {
        None => "nullptr".to_owned(),
        Some((buffer, at, _)) => {
            let name = format!("{function}_index");
            unit.value(&name, &groups, &Value { program: value.program.clone(), reg: at }, Kind::Int)?;
            format!("a.b{buffer} + {name}(a, b, i, k)")
        }
    };
    let (vector, element) = match run {
        None => (1, "float"),
        Some((_, _, 4)) => (4, "float"),
        Some((_, _, n)) => (n, "u16"),
    };
    unit.raw(&format!(
        "struct {ty} {{\n  static constexpr int VECTOR = {vector};\n  static __device__ __forceinline__ float value(const \
         Args& a, {index} b, {index} i, {index} k) {{ return {function}(a, b, i, k); }}\n  static __device__ \
         __forceinline__ const {element}* at(const Args& a, {index} b, {index} i, {index} k) {{ return {at}; }}\n}};"
    ));
    Ok(vector)
}

/// Buffer, index register and length of the aligned runs along the last summed axis, where the operand is such a load.
fn aligned_run(desc: &Desc, groups: [Group<'_>; 3], value: &Value) -> Option<(u32, enel_bundle::Reg, i64)> {
    let (buffer, index) = plain_load(value)?;
    let length = match desc.buffers.get(buffer as usize)?.dtype {
        DType::F32 => 4,
        DType::BF16 => 8,
        DType::F16 | DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => return None,
    };
    let last = groups[2].axes.last()?;
    let axis = groups.iter().map(|g| g.axes.len() as u32).sum::<u32>() - 1;
    let unit_stride = stride(&value.program, index, axis) == Some(1);
    let aligned = divisor(&value.program, index, axis, &desc.dynamics) % length == 0;
    let whole = extent_divisor(*last, &desc.dynamics) % length == 0;
    (unit_stride && aligned && whole).then_some((buffer, index, length))
}
