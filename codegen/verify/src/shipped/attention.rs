//! Kernels of attention: tiles of tokens in f32 and on tensor cores, one token a block, and teams.

use super::{Bound, Part, Shipped, d, floats, integers};
use crate::build::{axes, c, loaded, read, store_accs, write};
use crate::check::{BF16, Case, F32};
use crate::draw::{Heads, grad_case};
use enel_bundle::{AttentionBody, Body, By, Instr};
use enel_types::{BinaryOp, DType};

pub(super) fn kernels() -> Vec<Shipped> {
    let (f32, bf16) = (DType::F32, DType::BF16);
    // Sizes are tokens and keys; the bounds of either choose the template.
    let (tiles, token, team): ([Bound; 2], [Bound; 2], [Bound; 2]) =
        ([(4096, 1), (300, 1)], [(60, 1), (200, 1)], [(60, 1), (4096, 1)]);
    // Of 200 tokens few see all keys, of two with one key neither sees it, of twelve none sees many.
    let any = [[1, 1], [2, 1], [12, 150], [17, 40], [33, 70], [200, 70]];
    let few = [[1, 1], [3, 70], [2, 190], [9, 33], [12, 150]];
    let wide = [[1, 1], [9, 20], [5, 70], [12, 150], [200, 30]];
    vec![
        attend(f32, tiles, [4, 2, 20], false).alone("attention_f32", &any, ranges),
        attend(f32, tiles, [1, 1, 300], false).alone("attention_f32_300", &wide, ranges),
        attend(f32, tiles, [1, 1, 700], false).alone("attention_f32_700", &wide, ranges),
        attend(bf16, tiles, [2, 1, 16], false).alone(
            "attention_bf16_16",
            &[[1, 1], [2, 1], [12, 250], [65, 130], [17, 70], [200, 150]],
            ranges,
        ),
        attend(bf16, tiles, [4, 2, 64], false).alone(
            "attention_bf16_64",
            &[[1, 1], [2, 1], [12, 250], [65, 66], [200, 150]],
            ranges,
        ),
        attend(bf16, tiles, [1, 1, 160], false).alone(
            "attention_bf16_160",
            &[[1, 1], [2, 1], [12, 250], [66, 40], [200, 70]],
            ranges,
        ),
        attend(bf16, tiles, [2, 1, 32], true).alone(
            "attention_bf16_computed",
            &[[1, 1], [12, 250], [65, 70], [200, 150]],
            ranges,
        ),
        attend(f32, token, [3, 1, 40], false).alone("attention_token_f32", &few, ranges),
        attend(bf16, token, [2, 1, 160], false).alone("attention_token_bf16", &few, ranges),
        attend(bf16, team, [4, 2, 40], false).alone("attention_team_bf16", &[[1, 1], [3, 70], [1, 600]], ranges),
        attend(f32, team, [1, 1, 64], false).alone("attention_team_f32", &[[1, 1], [3, 70], [1, 600]], ranges),
        grad("attention_grad_q_f32", (f32, By::Query)),
        grad("attention_grad_k_f32", (f32, By::Key)),
        grad("attention_grad_v_f32", (f32, By::Value)),
        grad("attention_grad_q_bf16", (bf16, By::Query)),
        grad("attention_grad_k_bf16", (bf16, By::Key)),
        grad("attention_grad_v_bf16", (bf16, By::Value)),
    ]
}

/// A derivative, over one token that sees nothing, one that does, over samples longer and shorter than a tile, and over
/// tokens few of which see anything.
fn grad(name: &'static str, (dtype, by): (DType, By)) -> Shipped {
    let call = |samples: &[i64], seed| {
        let mut case = grad_case(samples, Heads(4, 2, 16), (dtype, by), seed);
        for dynamic in &mut case.desc.dynamics {
            dynamic.max = 300;
        }
        vec![case]
    };
    let mut blind = call(&[1], 1);
    for buffer in [4, 5] {
        integers(&mut blind[0], buffer, |_| 0);
    }
    let calls = vec![blind, call(&[1], 1), call(&[9, 2, 20], 2), call(&[70, 33, 5], 3), sparse(call(&[200], 4))];
    let near = if dtype == DType::BF16 { BF16 } else { F32 };
    Shipped { name, descs: vec![calls[0][0].desc.clone()], near: vec![near], calls }
}

/// One token a tile sees all keys but the last ten, the others one of them or none; what nothing meets holds nothing that a
/// sum may touch.
fn sparse(mut call: Vec<Case>) -> Vec<Case> {
    let case = &mut call[0];
    let tokens = case.sizes[0] as usize;
    let range = |t: usize| if t % 65 == 6 { (30, 30) } else { one_of_a_tile(t as i64, 190) };
    integers(case, 4, |t| range(t).0);
    integers(case, 5, |t| range(t).1);
    for buffer in [0, 1, 2, 3, 6, 7] {
        let width = case.buffers[buffer].len() / tokens;
        let of_key = buffer == 1 || buffer == 2;
        let meets = |at: usize| if of_key { at < 190 } else { at % 65 != 6 };
        floats(case, buffer, |at, x| if meets(at / width) { x } else { f64::NAN });
    }
    call
}

/// Query heads, key heads and channels; `computed` operands are halved on the way.
fn attend(dtype: DType, bounds: [Bound; 2], [heads, groups, channels]: [i64; 3], computed: bool) -> Part {
    let (token, key) = (d(0), d(1));
    let [h, g, ch] = [heads, groups, channels].map(c);
    let operand = |buffer, extents: [enel_bundle::Extent; 3]| {
        let mut value = loaded(buffer, &axes(&extents));
        if computed {
            let half = value.program.push(Instr::Float(0.5f32.to_bits()));
            value.reg = value.program.push(Instr::Binary(BinaryOp::Mul, value.reg, half));
        }
        value
    };
    let (epilogue, stores) = store_accs(&[token, h, ch], 5, 1);
    let body = AttentionBody {
        tokens: token,
        keys: key,
        heads,
        groups,
        head_size: channels,
        scale: (2.0 / (channels as f32).sqrt()).to_bits(),
        q: operand(0, [token, h, ch]),
        k: operand(1, [key, g, ch]),
        v: Some(operand(2, [key, g, ch])),
        low: loaded(3, &[(0, token)]),
        high: loaded(4, &[(0, token)]),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let buffers = vec![
        (read(dtype), vec![token, h, ch]),
        (read(dtype), vec![key, g, ch]),
        (read(dtype), vec![key, g, ch]),
        (read(DType::I32), vec![token]),
        (read(DType::I32), vec![token]),
        (write(DType::F32), vec![token, h, ch]),
    ];
    Part::new(buffers, &bounds, Body::Attention(body), if dtype == DType::BF16 { BF16 } else { F32 })
}

/// Ranges of all lengths: all keys, a few in the middle, none, and none beyond either end. Keys no token sees hold nothing
/// that a sum may touch.
fn ranges(case: &mut Case) {
    let (tokens, keys) = (case.sizes[0], case.sizes[1]);
    let range = |t: usize| {
        let t = t as i64;
        match t % 7 {
            _ if tokens == 200 => one_of_a_tile(t, keys),
            _ if tokens == 2 && keys == 1 => (t, t),
            // Of three one is before the first key.
            _ if tokens == 3 => [(0, keys), (-3, -4), (2, keys / 2)][t as usize],
            // Twelve see one or two each, far apart.
            _ if tokens == 12 => (t * keys / 12, t * keys / 12 + 1 + t % 2),
            3 => (keys / 2, keys / 2),
            5 => (keys + 9, keys + 2),
            6 => (-3, -4),
            1 => (keys / 3, (keys / 3 + 1 + t % 5).min(keys)),
            _ => (t % keys.min(5), keys - t % 3 * (keys / 4)),
        }
    };
    integers(case, 3, |t| range(t).0);
    integers(case, 4, |t| range(t).1);
    for buffer in [1, 2] {
        let width = case.buffers[buffer].len() / keys as usize;
        let is_seen = |key: i64| (0..tokens as usize).any(|t| (range(t).0..range(t).1).contains(&key));
        floats(case, buffer, |at, x| if is_seen((at / width) as i64) { x } else { f64::NAN });
    }
}

/// One token a tile sees all keys, each time at another place in it, of the first tile one their beginning and one their
/// end; the others see one in the middle. The last tile is no whole one.
fn one_of_a_tile(token: i64, keys: i64) -> (i64, i64) {
    match token {
        0 => (keys / 2, keys),
        3 => (0, keys / 2 + 1),
        65 | 130 | 195 => (0, keys),
        _ => (keys / 2, keys / 2 + 1),
    }
}
