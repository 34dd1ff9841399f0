//! knn and topk: the same selection over ordered keys.

use crate::error::EmitError;
use crate::unit::{Group, LaunchPlan, SMEM_LIMIT_BYTES, Text, Unit, config, extent_max};
use enel_bundle::{Desc, Extent, Kind, KnnBody, TopKBody};

pub(crate) fn render_knn(desc: &Desc, body: &KnnBody) -> Result<Text, EmitError> {
    let outer = [body.batch, body.queries];
    let mut unit = Unit::new(desc, &[&outer, &[body.points], &[body.batch, body.queries, body.k]])?;
    let (batch, queries, points) = ([body.batch], [body.queries], [body.points]);
    let coordinate = [Extent::Const(3)];
    let cloud = Group { name: "b", axes: &batch };
    let axis = Group { name: "c", axes: &coordinate };
    unit.value("query", &[cloud, Group { name: "g", axes: &queries }, axis], &body.query, Kind::Float)?;
    unit.value("point", &[cloud, Group { name: "i", axes: &points }, axis], &body.point, Kind::Float)?;
    unit.size("queries_size", &queries);
    finish(unit, Selection { outer: &outer, n: body.points, k: body.k, out: body.out, rank: ("u32", "") })
}

pub(crate) fn render_top_k(desc: &Desc, body: &TopKBody) -> Result<Text, EmitError> {
    let elements = [body.n];
    let results: Vec<Extent> = body.outer.iter().copied().chain([body.k]).collect();
    let mut unit = Unit::new(desc, &[&body.outer, &elements, &results])?;
    let groups = [Group { name: "o", axes: &body.outer }, Group { name: "i", axes: &elements }];
    let kind = unit.kind("value", &groups, &body.value)?;
    unit.value("value", &groups, &body.value, kind)?;
    let narrow_int = unit.range(&groups, &body.value)?.fits_int();
    let rank = match (kind, narrow_int, body.largest) {
        (Kind::Float, _, true) => ("u32", "falling_rank_of(value(a, o, i))"),
        (Kind::Float, _, false) => ("u32", "rank_of(value(a, o, i))"),
        (Kind::Int, true, true) => ("u32", "~((u32)(int)value(a, o, i) ^ 0x80000000u)"),
        (Kind::Int, true, false) => ("u32", "(u32)(int)value(a, o, i) ^ 0x80000000u"),
        (Kind::Int, false, true) => ("u64", "~wide_rank_of(value(a, o, i))"),
        (Kind::Int, false, false) => ("u64", "wide_rank_of(value(a, o, i))"),
        (Kind::Bool, ..) => {
            return Err(EmitError::Operation { function: "topk".to_owned(), op: "topk", kind });
        }
    };
    finish(unit, Selection { outer: &body.outer, n: body.n, k: body.k, out: body.out, rank })
}

struct Selection<'a> {
    outer: &'a [Extent],
    n: Extent,
    k: Extent,
    out: u32,
    /// C++ type of a rank, and the expression of element (o, i) that rises with what is wanted later; none where points
    /// are ranked by distance.
    rank: (&'static str, &'static str),
}

fn finish(mut unit: Unit<'_>, selection: Selection<'_>) -> Result<Text, EmitError> {
    let Selection { outer, n, k, out, rank: (rank_type, rank) } = selection;
    let narrow = rank_type == "u32";
    unit.size("elements_size", &[n]);
    unit.size("kept_size", &[k]);
    unit.result_buffer("selection", out, Kind::Int)?;
    let (n_max, k_max) = (extent_max(unit.desc, n)?, extent_max(unit.desc, k)?);
    let words = [("out", format!("b{out}")), ("rank_type", rank_type.to_owned()), ("rank", rank.to_owned())];
    if narrow && let Some((threads, each)) = registers(n_max, k_max) {
        // No more than there are elements.
        let all = ((threads * each) as u64).next_power_of_two() as i64;
        let length = threads.max(4 * (k_max as u64).next_power_of_two() as i64).min(all);
        let words = [&words[..], &[("crowds", ((k_max - 1) * each + 1 > length).to_string())]].concat();
        let plan = LaunchPlan {
            config: config(&[("each", each), ("length", length)]),
            words: &words,
            lists: &[],
            grid: vec![(outer.to_vec(), 1)],
            blocks: 1,
            threads: threads as u32,
            smem_bytes: 8 * length,
            scratch_bytes: 0,
        };
        return unit.finish("select_registers.cu.tera", plan);
    }
    let threads = match n_max {
        ..=256 => 32,
        257..=2048 => 128,
        2049..=65536 => 256,
        _ => 512,
    };
    let best = (k_max as u64).next_power_of_two() as i64;
    let length = ((best + 2 * threads) as u64).next_power_of_two() as i64;
    let streams = narrow && n_max < 1 << 31 && 8 * length + 64 <= SMEM_LIMIT_BYTES;
    let (template, numbers, smem_bytes) = if streams {
        ("select_stream.cu.tera", config(&[("best", best), ("length", length)]), 8 * length)
    } else {
        ("select_rounds.cu.tera", config(&[]), 0)
    };
    let plan = LaunchPlan {
        config: numbers,
        words: &words,
        lists: &[],
        grid: vec![(outer.to_vec(), 1)],
        blocks: 1,
        threads: threads as u32,
        smem_bytes,
        scratch_bytes: 0,
    };
    unit.finish(template, plan)
}

/// Ranks a thread keeps, at most.
const MOST_RANKS: i64 = 32;
/// Threads of a block that ranks, at most: more would take registers from the parts that share its launch.
const MOST_RANKERS: i64 = 256;

/// Threads and ranks of each, where all ranks fit a block's registers and every wanted one may be a thread's smallest.
fn registers(n_max: i64, k_max: i64) -> Option<(i64, i64)> {
    let power = |n: i64| (n.max(1) as u64).next_power_of_two() as i64;
    let threads = power((n_max + MOST_RANKS - 1) / MOST_RANKS).max(power(k_max)).max(128);
    (threads <= MOST_RANKERS).then(|| (threads, (n_max + threads - 1) / threads))
}
