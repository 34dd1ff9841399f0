//! scatter: rows look for later ones with their index, or destinations list the rows that hit them.

use crate::error::EmitError;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, size_max};
use enel_bundle::{Desc, Extent, Kind, ScatterBody, ScatterMode};

pub(crate) fn render(desc: &Desc, body: &ScatterBody) -> Result<Text, EmitError> {
    let n_batch = body.batch as usize;
    if n_batch > body.prefix.len() {
        let (index, count) = (n_batch, body.prefix.len());
        return Err(EmitError::Reference { function: "scatter".to_owned(), what: "prefix axis", index, count });
    }
    let (batch, inner) = body.prefix.split_at(n_batch);
    let rows: Vec<Extent> = body.prefix.iter().chain(&body.index_space).copied().collect();
    let whole: Vec<Extent> = body.prefix.iter().chain([&body.extent]).chain(&body.suffix).copied().collect();
    let source: Vec<Extent> = rows.iter().chain(&body.suffix).copied().collect();
    let mut unit = Unit::new(desc, &[&rows, &whole, &source])?;
    unit.size("prefix_size", &body.prefix);
    unit.size("inner_prefix_size", inner);
    unit.size("index_size", &body.index_space);
    unit.size("suffix_size", &body.suffix);
    unit.size("extent_size", &[body.extent]);
    unit.raw("__device__ __forceinline__ idx batch_of(const Args& a, idx p) { return p / inner_prefix_size(a); }");
    let index = Group { name: "i", axes: &body.index_space };
    unit.value("index_at", &[Group { name: "b", axes: batch }, index], &body.index, Kind::Int)?;
    let row_groups = [Group { name: "p", axes: &body.prefix }, index, Group { name: "s", axes: &body.suffix }];
    let kind = unit.kind("row_at", &row_groups, &body.rows)?;
    unit.value("row_at", &row_groups, &body.rows, kind)?;
    unit.accessors("scatter", body.out, kind)?;

    let n_suffix = size_max(desc, &body.suffix)?;
    let threads = if n_suffix <= 64 && body.mode == ScatterMode::Add { 64 } else { 128 };
    match body.mode {
        ScatterMode::Set => {
            let lanes = if n_suffix <= 64 { 32 } else { 128 };
            let plan = LaunchPlan {
                config: config(&[("lanes", lanes)]),
                words: &[],
                lists: &[],
                grid: vec![(rows, threads / lanes)],
                blocks: 1,
                threads: threads as u32,
                smem_bytes: 0,
                scratch_bytes: 0,
            };
            unit.finish("scatter_set.cu.tera", plan)
        }
        ScatterMode::Add => {
            let (ty, sum) = match kind {
                Kind::Float => ("float", "x + y"),
                Kind::Int => ("long long", "wrap_add(x, y)"),
                Kind::Bool => return Err(EmitError::Operation { function: "scatter".to_owned(), op: "add", kind }),
            };
            unit.raw(&format!("__device__ __forceinline__ {ty} plus({ty} x, {ty} y) {{ return {sum}; }}"));
            let each = if n_suffix <= threads { 1 } else { 4 };
            let grid: Vec<Extent> = body.prefix.iter().copied().chain([body.extent]).collect();
            let plan = LaunchPlan {
                config: config(&[("each", each)]),
                words: &[("kind", ty.to_owned())],
                lists: &[],
                grid: vec![(grid, 1)],
                blocks: 1,
                threads: threads as u32,
                smem_bytes: 0,
                scratch_bytes: 0,
            };
            unit.finish("scatter_add.cu.tera", plan)
        }
    }
}
