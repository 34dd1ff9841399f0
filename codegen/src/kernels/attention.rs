//! attention: tiles of tokens, or one token a block where there are few.

use crate::error::EmitError;
use crate::kernels::operand::{Lying, operand};
use crate::spell::float_literal;
use crate::unit::{Group, LaunchPlan, Text, Unit, config, counter_bytes, extent_max};
use enel_bundle::{AttentionBody, Desc, Extent, Kind};

/// Up to this many tokens each gets a block per head: a decode step.
const FEW_TOKENS: i64 = 64;
/// Blocks that a single token should make: two for each of an H100's 132 multiprocessors.
const WANTED_BLOCKS: i64 = 264;
/// Blocks that share one token and head, at most; each has at least `TEAM_KEYS` keys of the longest cache.
const LARGEST_TEAM: i64 = 16;
const TEAM_KEYS: i64 = 128;
/// Widest head whose results fit a warp's registers.
const MOST_TENSOR_CHANNELS: i64 = 256;
/// Largest head a block's shared memory holds with sensible tiles.
const MOST_CHANNELS: i64 = 1024;

pub(crate) fn render(desc: &Desc, body: &AttentionBody) -> Result<Text, EmitError> {
    check(body.heads, body.groups, body.head_size)?;
    let mut unit = functions(desc, body)?;
    unit.size("tokens_size", &[body.tokens]);
    unit.size("keys_size", &[body.keys]);
    let words = [("scale", float_literal(body.scale))];
    let d = body.head_size;
    let shape = [("heads", body.heads), ("groups", body.groups), ("head_size", d)];
    let heads = Extent::Const(body.heads);
    let n_tokens = extent_max(desc, body.tokens)?;
    if n_tokens <= FEW_TOKENS && body.v.is_some() {
        let (warps, ahead) = (8, if d <= 128 { 4 } else { 1 });
        let wanted = (WANTED_BLOCKS as u64).div_ceil(body.heads as u64) as i64;
        let team = wanted.min(extent_max(desc, body.keys)? / TEAM_KEYS).clamp(1, LARGEST_TEAM);
        let counter_bytes = counter_bytes(n_tokens * body.heads);
        let numbers = [("warps", warps), ("ahead", ahead), ("team", team), ("counter_bytes", counter_bytes)];
        let states = n_tokens * body.heads * team * 4 * (d + 2);
        let plan = LaunchPlan {
            config: config(&[&shape[..], &numbers].concat()),
            words: &words,
            lists: &[],
            grid: vec![(vec![body.tokens, heads], 1), (vec![Extent::Const(team)], 1)],
            blocks: 1,
            threads: 32 * warps as u32,
            smem_bytes: 4 * warps * (d + 2),
            scratch_bytes: if team > 1 { counter_bytes + states } else { 0 },
        };
        let template = if team > 1 { "attention_team.cu.tera" } else { "attention_token.cu.tera" };
        return unit.finish(template, plan);
    }
    if body.bf16 && d % 16 == 0 && d <= MOST_TENSOR_CHANNELS {
        return tensor_tiles(unit, body, &shape);
    }
    let (bq, bk, lanes) = match d {
        ..=256 => (16, 32, 8),
        257..=512 => (8, 16, 16),
        _ => (4, 8, 32),
    };
    let numbers = [("bq", bq), ("bk", bk), ("lanes", lanes), ("values", i64::from(body.v.is_some()))];
    let plan = LaunchPlan {
        config: config(&[&shape[..], &numbers].concat()),
        words: &words,
        lists: &[],
        grid: vec![(vec![body.tokens], bq), (vec![heads], 1)],
        blocks: 1,
        threads: (bq * lanes) as u32,
        smem_bytes: 4 * (bq * d + bk * (2 * d + 1) + bq * bk),
        scratch_bytes: 0,
    };
    unit.finish("attention_tile.cu.tera", plan)
}

fn tensor_tiles(mut unit: Unit<'_>, body: &AttentionBody, shape: &[(&str, i64)]) -> Result<Text, EmitError> {
    let (tokens, keys) = ([body.tokens], [body.keys]);
    let (heads, groups) = ([Extent::Const(body.heads)], [Extent::Const(body.groups)]);
    let channels = [Extent::Const(body.head_size)];
    let lying = Lying { along_rows: false, bf16_only: true };
    let channel = Group { name: "c", axes: &channels };
    let query = [Group { name: "t", axes: &tokens }, Group { name: "h", axes: &heads }, channel];
    let row = [Group { name: "s", axes: &keys }, Group { name: "g", axes: &groups }, channel];
    operand(&mut unit, "Queries", "query_at", query, &body.q, lying)?;
    operand(&mut unit, "Keys", "key_at", row, &body.k, lying)?;
    operand(&mut unit, "Values", "value_at", row, body.v.as_ref().unwrap_or(&body.k), lying)?;
    let d = body.head_size;
    // Results and scores of a lane are registers: half a tile of keys makes room for wide heads.
    let (warps, bk) = (4, if d <= 128 { 64 } else { 32 });
    let bq = 16 * warps;
    let smem_bytes = i64::max(2 * (bq + 2 * bk) * (d + 8), 4 * bq * (d + 4));
    let scale = f32::from_bits(body.scale) * std::f32::consts::LOG2_E;
    let plan = LaunchPlan {
        config: config(&[shape, &[("warps", warps), ("bk", bk), ("values", i64::from(body.v.is_some()))]].concat()),
        words: &[("scale_log2", float_literal(scale.to_bits())), ("smem_bytes", smem_bytes.to_string())],
        lists: &[],
        grid: vec![(vec![body.tokens], bq), (heads.to_vec(), 1)],
        blocks: 1,
        threads: 32 * warps as u32,
        smem_bytes,
        scratch_bytes: 0,
    };
    unit.finish("attention_tile_bf16.cu.tera", plan)
}

/// Refuses heads no template takes.
pub(super) fn check(heads: i64, groups: i64, head_size: i64) -> Result<(), EmitError> {
    if !(1..=MOST_CHANNELS).contains(&head_size) {
        return Err(EmitError::Size { what: "head size", got: head_size, expected: "1 to 1024" });
    }
    for (what, got) in [("query heads", heads), ("key heads", groups)] {
        if !(1..=1 << 16).contains(&got) {
            return Err(EmitError::Size { what, got, expected: "1 to 65536" });
        }
    }
    Ok(())
}

fn functions<'d>(desc: &'d Desc, body: &AttentionBody) -> Result<Unit<'d>, EmitError> {
    let (tokens, keys) = ([body.tokens], [body.keys]);
    let (heads, groups) = ([Extent::Const(body.heads)], [Extent::Const(body.groups)]);
    let channels = [Extent::Const(body.head_size)];
    let mut unit = Unit::new(desc, &[&[body.tokens, heads[0]], &keys, &channels])?;
    let token = Group { name: "t", axes: &tokens };
    let channel = Group { name: "c", axes: &channels };
    let query = [token, Group { name: "h", axes: &heads }, channel];
    let row = [Group { name: "s", axes: &keys }, Group { name: "g", axes: &groups }, channel];
    unit.value("query_at", &query, &body.q, Kind::Float)?;
    unit.value("key_at", &row, &body.k, Kind::Float)?;
    // A template names both kinds of result; what is not there is never called.
    unit.value("value_at", &row, body.v.as_ref().unwrap_or(&body.k), Kind::Float)?;
    unit.value("low", &[token], &body.low, Kind::Int)?;
    unit.value("high", &[token], &body.high, Kind::Int)?;
    let index = unit.index_type();
    if body.v.is_some() {
        unit.stores("result", &query, &[Kind::Float], &body.epilogue, &body.stores)?;
        unit.raw(&format!("__device__ void sum_result(const Args&, {index}, {index}, float) {{}}"));
    } else {
        unit.stores("sum_result", &query[..2], &[Kind::Float], &body.epilogue, &body.stores)?;
        unit.raw(&format!("__device__ void result(const Args&, {index}, {index}, {index}, float) {{}}"));
    }
    Ok(unit)
}
