//! attention_grad: blocks own rows of one operand, tokens for q and keys for k and v, and walk the other side.

use crate::error::EmitError;
use crate::kernels::attention::check;
use crate::kernels::operand::{Lying, operand};
use crate::spell::float_literal;
use crate::unit::{Group, LaunchPlan, Text, Unit, config};
use enel_bundle::{AttentionGradBody, By, Desc, Extent, Kind, Value};

/// Widest head whose results and weights fit a warp's registers.
const MOST_TENSOR_CHANNELS: i64 = 128;

/// Rows and columns of a call: each side's two operands, those that make the scores first.
struct Sides<'b> {
    rows: [&'b Value; 2],
    cols: [&'b Value; 2],
    token_rows: bool,
}

fn sides(body: &AttentionGradBody) -> Sides<'_> {
    let AttentionGradBody { q, k, v, dy, .. } = body;
    match body.by {
        By::Query => Sides { rows: [q, dy], cols: [k, v], token_rows: true },
        By::Key | By::Value => Sides { rows: [k, v], cols: [q, dy], token_rows: false },
    }
}

pub(crate) fn render(desc: &Desc, body: &AttentionGradBody) -> Result<Text, EmitError> {
    check(body.heads, body.groups, body.head_size)?;
    if body.heads % body.groups != 0 {
        return Err(EmitError::Size { what: "query heads", got: body.heads, expected: "a multiple of key heads" });
    }
    let Sides { rows, cols, token_rows } = sides(body);
    let (tokens, keys) = ([body.tokens], [body.keys]);
    let (heads, groups) = ([Extent::Const(body.heads)], [Extent::Const(body.groups)]);
    let channels = [Extent::Const(body.head_size)];
    let mut unit = Unit::new(desc, &[&[body.tokens, heads[0]], &keys, &channels])?;
    let (token, channel) = (Group { name: "t", axes: &tokens }, Group { name: "c", axes: &channels });
    let head = Group { name: "h", axes: &heads };
    let token_side = [token, head, channel];
    let key_side = [Group { name: "s", axes: &keys }, Group { name: "g", axes: &groups }, channel];
    let (row, col) = if token_rows { (token_side, key_side) } else { (key_side, token_side) };
    let parts = [("row_first", row, rows[0]), ("row_second", row, rows[1])];
    let parts = parts.into_iter().chain([("col_first", col, cols[0]), ("col_second", col, cols[1])]);
    for (name, groups, value) in parts.clone() {
        unit.value(name, &groups, value, Kind::Float)?;
    }
    unit.value("low", &[token], &body.low, Kind::Int)?;
    unit.value("high", &[token], &body.high, Kind::Int)?;
    unit.value("lse", &[token, head], &body.lse, Kind::Float)?;
    unit.value("delta", &[token, head], &body.delta, Kind::Float)?;
    unit.stores("result", &row, &[Kind::Float], &body.epilogue, &body.stores)?;
    unit.size("tokens_size", &[body.tokens]);
    unit.size("keys_size", &[body.keys]);

    let d = body.head_size;
    let shape = [
        ("heads", body.heads),
        ("groups", body.groups),
        ("head_size", d),
        ("token_rows", i64::from(token_rows)),
        ("by_value", i64::from(body.by == By::Value)),
    ];
    let (n_rows, own) = if token_rows { (tokens, heads) } else { (keys, groups) };
    let scale_log2 = f32::from_bits(body.scale) * std::f32::consts::LOG2_E;
    let mut words = vec![("scale", float_literal(body.scale)), ("scale_log2", float_literal(scale_log2.to_bits()))];
    if body.bf16 && d % 16 == 0 && d <= MOST_TENSOR_CHANNELS {
        let lying = Lying { along_rows: false, bf16_only: true };
        let types = ["RowFirst", "RowSecond", "ColFirst", "ColSecond"];
        for (ty, (name, groups, value)) in types.into_iter().zip(parts) {
            operand(&mut unit, ty, name, groups, value, lying)?;
        }
        // Results, scores and their derivatives of a lane are registers.
        let (warps, bc) = (4, if d <= 64 { 64 } else { 32 });
        let br = 16 * warps;
        let smem_bytes = i64::max(4 * (br + bc) * (d + 8), 4 * br * (d + 4));
        words.push(("smem_bytes", smem_bytes.to_string()));
        let plan = LaunchPlan {
            config: config(&[&shape[..], &[("warps", warps), ("bc", bc)]].concat()),
            words: &words,
            lists: &[],
            grid: vec![(n_rows.to_vec(), br), (own.to_vec(), 1)],
            blocks: 1,
            threads: 32 * warps as u32,
            smem_bytes,
            scratch_bytes: 0,
        };
        return unit.finish("attention_grad_tile_bf16.cu.tera", plan);
    }
    let (br, bc, lanes) = match d {
        ..=128 => (16, 32, 8),
        129..=256 => (16, 16, 8),
        257..=512 => (8, 8, 16),
        _ => (4, 4, 32),
    };
    let plan = LaunchPlan {
        config: config(&[&shape[..], &[("br", br), ("bc", bc), ("lanes", lanes)]].concat()),
        words: &words,
        lists: &[],
        grid: vec![(n_rows.to_vec(), br), (own.to_vec(), 1)],
        blocks: 1,
        threads: (br * lanes) as u32,
        smem_bytes: 4 * (2 * br * d + 2 * bc * (d + 1) + br * bc),
        scratch_bytes: 0,
    };
    unit.finish("attention_grad_tile.cu.tera", plan)
}
