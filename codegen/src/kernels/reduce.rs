//! reduce: lanes along the inner axes, or along the outer ones where that is how memory runs; a team of blocks where few
//! points combine many elements each.

use crate::affine::load_strides;
use crate::error::EmitError;
use crate::spell::register_type;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, counter_bytes, size_max};
use enel_bundle::{AccOp, Desc, Extent, Kind, ReduceBody, Reg};

/// Elements of a team's block, at least: 64 for each of its threads hide the cost of meeting.
const STRETCH: i64 = 1 << 14;
/// Elements of a lane of a team that runs along the outer axes, at least.
const LEAST_EACH: i64 = 32;
/// With more points than this there are blocks enough without teams.
const MOST_TEAMS: i64 = 256;
/// Blocks of a team, at most: nearly two for each of an H100's 132 multiprocessors.
const LARGEST_TEAM: i64 = 256;
/// Room for one accumulator: the largest holds a value and an index of 8 B each.
const STATE_BYTES: i64 = 16;

pub(crate) fn render(desc: &Desc, body: &ReduceBody) -> Result<Text, EmitError> {
    let mut unit = Unit::new(desc, &[&body.outer, &body.inner])?;
    let outer = Group { name: "o", axes: &body.outer };
    let inner = Group { name: "i", axes: &body.inner };
    unit.size("outer_size", &body.outer);
    unit.size("inner_size", &body.inner);
    let regs: Vec<Reg> = body.accs.iter().map(|acc| acc.value).collect();
    let kinds = unit.values("element", &[outer, inner], &body.element, &regs)?;
    let mut types = Vec::new();
    let mut results = Vec::new();
    for (acc, kind) in body.accs.iter().zip(&kinds) {
        let (ty, result) = accumulator(acc.op, *kind)?;
        types.push(ty.to_owned());
        results.push(result);
    }
    unit.stores("epilogue", &[outer], &results, &body.epilogue, &body.stores)?;
    let lists = [("accs", types), ("kinds", kinds.iter().map(|k| register_type(*k).to_owned()).collect())];

    let (n_outer, n_inner) = (size_max(desc, &body.outer)?, size_max(desc, &body.inner)?);
    let state_bytes = body.accs.len() as i64 * STATE_BYTES;
    if runs_along_outer(body) && n_outer >= 32 {
        // Static shared memory holds one set of accumulators per thread: at most 32 KiB of it.
        let most = (32 * 1024 / (32 * state_bytes.max(1))).clamp(1, 16);
        let wanted = if n_outer >= 1 << 16 || n_inner <= 32 { 4 } else { 16 };
        let warps = i64::min(wanted, 1 << most.ilog2());
        let columns = (n_outer as u64).div_ceil(32) as i64;
        let team = (LARGEST_TEAM / columns).min(n_inner / (warps * LEAST_EACH));
        let mut plan = LaunchPlan {
            config: config(&[("warps", warps)]),
            words: &[],
            lists: &lists,
            grid: vec![(body.outer.clone(), 32)],
            blocks: 1,
            threads: 32 * warps as u32,
            smem_bytes: 0,
            scratch_bytes: 0,
        };
        if team < 2 || warps < 2 {
            return unit.finish("reduce_column.cu.tera", plan);
        }
        let counter_bytes = counter_bytes(columns);
        let numbers =
            [("warps", warps), ("team", team), ("counter_bytes", counter_bytes), ("state_bytes", state_bytes)];
        plan.config = config(&numbers);
        plan.grid.push((vec![Extent::Const(team)], 1));
        plan.scratch_bytes = counter_bytes + columns * team * 32 * state_bytes;
        return unit.finish("reduce_column_team.cu.tera", plan);
    }
    let team = (n_inner / STRETCH).min(LARGEST_TEAM);
    if team >= 2 && n_outer <= MOST_TEAMS {
        let counter_bytes = counter_bytes(n_outer);
        // Lanes beyond the team have nothing to hand over.
        let join = (team as u64).next_power_of_two().min(32) as i64 / 2;
        let numbers = [("team", team), ("join", join), ("counter_bytes", counter_bytes), ("state_bytes", state_bytes)];
        let plan = LaunchPlan {
            config: config(&numbers),
            words: &[],
            lists: &lists,
            grid: vec![(body.outer.clone(), 1), (vec![Extent::Const(team)], 1)],
            blocks: 1,
            threads: 256,
            smem_bytes: 0,
            scratch_bytes: counter_bytes + n_outer * team * state_bytes,
        };
        return unit.finish("reduce_team.cu.tera", plan);
    }
    let (lanes, threads) = row_shape(n_inner);
    let plan = LaunchPlan {
        config: config(&[("lanes", lanes)]),
        words: &[],
        lists: &lists,
        grid: vec![(body.outer.clone(), threads / lanes)],
        blocks: 1,
        threads: threads as u32,
        smem_bytes: 0,
        scratch_bytes: 0,
    };
    unit.finish("reduce_row.cu.tera", plan)
}

/// C++ type of an accumulator and the kind of its result.
pub(crate) fn accumulator(op: AccOp, kind: Kind) -> Result<(&'static str, Kind), EmitError> {
    let none = |op| Err(EmitError::Operation { function: "accumulator".to_owned(), op, kind });
    let ty = match (op, kind) {
        (AccOp::Sum, Kind::Float) => "SumFloat",
        (AccOp::Sum, Kind::Int) => "SumInt",
        (AccOp::Sum, Kind::Bool) => return none("sum"),
        (AccOp::Prod, Kind::Float) => "ProdFloat",
        (AccOp::Prod, Kind::Int) => "ProdInt",
        (AccOp::Prod, Kind::Bool) => return none("prod"),
        (AccOp::Max, Kind::Float) => "ExtremeFloat<true>",
        (AccOp::Max, Kind::Int) => "ExtremeInt<true>",
        (AccOp::Max, Kind::Bool) => "ExtremeBool<true>",
        (AccOp::Min, Kind::Float) => "ExtremeFloat<false>",
        (AccOp::Min, Kind::Int) => "ExtremeInt<false>",
        (AccOp::Min, Kind::Bool) => "ExtremeBool<false>",
        (AccOp::ArgMax, Kind::Float) => return Ok(("ArgExtreme<float, true>", Kind::Int)),
        (AccOp::ArgMax, Kind::Int) => return Ok(("ArgExtreme<long long, true>", Kind::Int)),
        (AccOp::ArgMax, Kind::Bool) => return none("argmax"),
        (AccOp::ArgMin, Kind::Float) => return Ok(("ArgExtreme<float, false>", Kind::Int)),
        (AccOp::ArgMin, Kind::Int) => return Ok(("ArgExtreme<long long, false>", Kind::Int)),
        (AccOp::ArgMin, Kind::Bool) => return none("argmin"),
        (AccOp::Deviations, Kind::Float) => "Deviations",
        (AccOp::Deviations, Kind::Int | Kind::Bool) => return none("deviations"),
    };
    Ok((ty, kind))
}

/// True when more loads have their unit stride along the innermost outer axis than along the innermost inner one.
fn runs_along_outer(body: &ReduceBody) -> bool {
    let (n_outer, n_inner) = (body.outer.len() as u32, body.inner.len() as u32);
    let count = |axis: u32| load_strides(&body.element, axis).filter(|s| *s == Some(1)).count();
    let along_outer = if n_outer == 0 { 0 } else { count(n_outer - 1) };
    let along_inner = if n_inner == 0 { 0 } else { count(n_outer + n_inner - 1) };
    along_outer > along_inner
}

/// Lanes per outer point and threads per block.
fn row_shape(n_inner: i64) -> (i64, i64) {
    match n_inner {
        ..=8 => (1, 128),
        9..=64 => (8, 128),
        65..=1024 => (32, 128),
        _ => (256, 256),
    }
}
