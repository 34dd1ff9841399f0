//! Calls of attention: packed samples whose tokens see their own past, or one token each that sees a whole cache.

use super::{Drawn, seed};
use crate::build::{Random, axes, c, desc, loaded, read, store_accs, write};
use crate::check::{BF16, Case, F32};
use crate::data::Data;
use enel_bundle::{AttentionBody, AttentionGradBody, Body, By, Dynamic, Extent};
use enel_types::DType;
use proptest::prelude::*;

/// Which template serves a call; its bounds choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Tiles of tokens.
    Tiles,
    /// A block per token.
    Token,
    /// Teams of blocks per token.
    Team,
}

/// Query heads, groups, channels of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads(pub i64, pub i64, pub i64);

/// Packed samples: token t of sample s sees the sample's keys up to its own position; some tokens see nothing.
pub fn attention_case(samples: &[i64], heads: Heads, dtype: DType, template: Template, seed: u64) -> Case {
    let Heads(n_heads, n_groups, d) = heads;
    let tokens: i64 = samples.iter().sum();
    let (more_tokens, more_keys) = match template {
        Template::Tiles => (100, 0),
        Template::Token => (0, 0),
        Template::Team => (0, 4096),
    };
    let dynamics = [more_tokens, more_keys].map(|more| Dynamic { max: tokens + more, multiple: 1 });
    let (token, key) = (Extent::Dyn(0), Extent::Dyn(1));
    let [h, g, ch] = [n_heads, n_groups, d].map(c);
    let (epilogue, stores) = store_accs(&[token, h, ch], 5, 1);
    let body = AttentionBody {
        tokens: token,
        keys: key,
        heads: n_heads,
        groups: n_groups,
        head_size: d,
        scale: (1.0 / (d as f32).sqrt()).to_bits(),
        q: loaded(0, &axes(&[token, h, ch])),
        k: loaded(1, &axes(&[key, g, ch])),
        v: Some(loaded(2, &axes(&[key, g, ch]))),
        low: loaded(3, &[(0, token)]),
        high: loaded(4, &[(0, token)]),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let mut random = Random(seed);
    let (low, high) = ranges(samples, &mut random);
    let mut buffers = vec![random.data(dtype, tokens * n_heads * d)];
    buffers.extend([0, 1].map(|_| random.data(dtype, tokens * n_groups * d)));
    buffers.extend([low, high]);
    buffers.push(Data::zeros(DType::F32, (tokens * n_heads * d) as usize));
    let roles = [read(dtype), read(dtype), read(dtype), read(DType::I32), read(DType::I32), write(DType::F32)];
    Case { desc: desc(&roles, &dynamics, Body::Attention(body)), sizes: vec![tokens, tokens], buffers }
}

/// What each token of packed samples sees.
fn ranges(samples: &[i64], random: &mut Random) -> (Data, Data) {
    let (mut low, mut high, mut start) = (Vec::new(), Vec::new(), 0);
    for n in samples {
        for i in 0..*n {
            low.push(start);
            high.push(if random.below(9) == 0 { start } else { start + i + 1 });
        }
        start += n;
    }
    (Data::int(DType::I32, low), Data::int(DType::I32, high))
}

/// One token each, which sees all keys of its sample.
fn decode_case(samples: &[i64], heads: Heads, dtype: DType, seed: u64) -> Case {
    let mut case = attention_case(samples, heads, dtype, Template::Team, seed);
    let (tokens, width) = (samples.len(), (heads.0 * heads.2) as usize);
    let starts = samples.iter().scan(0, |at, n| {
        *at += n;
        Some(*at - n)
    });
    case.sizes[0] = tokens as i64;
    case.desc.dynamics[0].max = 64;
    case.buffers[3] = Data::int(DType::I32, starts.clone());
    case.buffers[4] = Data::int(DType::I32, starts.zip(samples).map(|(start, n)| start + n));
    case.buffers[0] = Random(seed).data(dtype, (tokens * width) as i64);
    case.buffers[5] = Data::zeros(DType::F32, tokens * width);
    case
}

/// In f32, by every template.
pub fn attention() -> impl Strategy<Value = Drawn> {
    let heads = prop_oneof![Just((1, 1)), Just((4, 2)), Just((3, 1))];
    let width = prop_oneof![Just(16), Just(64), 1..70i64];
    let template = prop_oneof![Just(Template::Tiles), Just(Template::Token), Just(Template::Team)];
    let drawn = (prop::collection::vec(1..20i64, 1..4), heads, width, template, seed());
    drawn.prop_map(|(samples, (h, g), d, template, seed)| {
        let heads = Heads(h, g, d);
        let what = format!("attention over samples of {samples:?}, {heads:?}, {template:?}, seed {seed}");
        Drawn { what, case: attention_case(&samples, heads, DType::F32, template, seed), near: F32 }
    })
}

/// One token a sample over long caches, which blocks share in teams.
pub fn attention_decode() -> impl Strategy<Value = Drawn> {
    let dtype = prop_oneof![Just((DType::F32, F32)), Just((DType::BF16, BF16))];
    let heads =
        prop_oneof![Just(Heads(1, 1, 64)), Just(Heads(4, 2, 16)), Just(Heads(3, 1, 40)), Just(Heads(2, 2, 128))];
    let drawn = (prop::collection::vec(1..600i64, 1..4), heads, dtype, seed());
    drawn.prop_map(|(samples, heads, (dtype, near), seed)| {
        let what = format!("attention of a token over caches of {samples:?}, {heads:?}, {dtype}, seed {seed}");
        Drawn { what, case: decode_case(&samples, heads, dtype, seed), near }
    })
}

/// In bf16, on tensor cores.
pub fn attention_tensor() -> impl Strategy<Value = Drawn> {
    let heads = prop_oneof![Just((1, 1)), Just((4, 2))];
    let width = prop_oneof![Just(16), Just(48), Just(64), Just(128), Just(160)];
    let drawn = (prop::collection::vec(1..100i64, 1..4), heads, width, seed());
    drawn.prop_map(|(samples, (h, g), d, seed)| {
        let heads = Heads(h, g, d);
        let what = format!("attention on tensor cores over samples of {samples:?}, {heads:?}, seed {seed}");
        Drawn { what, case: attention_case(&samples, heads, DType::BF16, Template::Tiles, seed), near: BF16 }
    })
}

/// The logarithms of sums alone, in f32 and on tensor cores.
pub fn attention_lse() -> impl Strategy<Value = Drawn> {
    let dtype = prop_oneof![Just((DType::F32, F32)), Just((DType::BF16, BF16))];
    let heads = prop_oneof![Just(Heads(1, 1, 64)), Just(Heads(4, 2, 16)), Just(Heads(3, 1, 40))];
    let drawn = (prop::collection::vec(1..50i64, 1..4), heads, dtype, seed());
    drawn.prop_map(|(samples, heads, (dtype, near), seed)| {
        let mut case = attention_case(&samples, heads, dtype, Template::Tiles, seed);
        let Body::Attention(body) = &mut case.desc.body else { unreachable!("a case of attention") };
        let (epilogue, stores) = store_accs(&[Extent::Dyn(0), c(heads.0)], 4, 1);
        (body.low, body.high) = (loaded(2, &[(0, Extent::Dyn(0))]), loaded(3, &[(0, Extent::Dyn(0))]));
        (body.v, body.epilogue, body.stores) = (None, epilogue, stores);
        case.desc.buffers.remove(2);
        case.buffers.remove(2);
        case.buffers[4] = Data::zeros(DType::F32, (case.sizes[0] * heads.0) as usize);
        let what = format!("attention without values over samples of {samples:?}, {heads:?}, {dtype}, seed {seed}");
        Drawn { what, case, near }
    })
}

/// Each derivative, in f32 and on tensor cores; lse is that of likely scores.
pub fn attention_grad() -> impl Strategy<Value = Drawn> {
    let by = prop_oneof![Just(By::Query), Just(By::Key), Just(By::Value)];
    let dtype = prop_oneof![Just((DType::F32, F32)), Just((DType::BF16, BF16))];
    let heads = prop_oneof![Just((1, 1)), Just((4, 2)), Just((3, 1))];
    let width = prop_oneof![Just(16), Just(64), Just(128), Just(144), 1..70i64];
    let drawn = (prop::collection::vec(1..80i64, 1..4), heads, width, dtype, by, seed());
    drawn.prop_map(|(samples, (h, g), d, (dtype, near), by, seed)| {
        let heads = Heads(h, g, d);
        let what =
            format!("attention_grad by {} over samples of {samples:?}, {heads:?}, {dtype}, seed {seed}", by.name());
        Drawn { what, case: grad_case(&samples, heads, (dtype, by), seed), near }
    })
}

/// A derivative over packed samples; lse is that of likely scores.
pub fn grad_case(samples: &[i64], heads: Heads, (dtype, by): (DType, By), seed: u64) -> Case {
    let Heads(n_heads, n_groups, d) = heads;
    let tokens: i64 = samples.iter().sum();
    let dynamics = [Dynamic { max: tokens + 100, multiple: 1 }; 2];
    let (token, key) = (Extent::Dyn(0), Extent::Dyn(1));
    let [h, g, ch] = [n_heads, n_groups, d].map(c);
    let own = if by == By::Query { [token, h, ch] } else { [key, g, ch] };
    let (epilogue, stores) = store_accs(&own, 8, 1);
    let body = AttentionGradBody {
        tokens: token,
        keys: key,
        heads: n_heads,
        groups: n_groups,
        head_size: d,
        scale: (1.0 / (d as f32).sqrt()).to_bits(),
        by,
        q: loaded(0, &axes(&[token, h, ch])),
        k: loaded(1, &axes(&[key, g, ch])),
        v: loaded(2, &axes(&[key, g, ch])),
        dy: loaded(3, &axes(&[token, h, ch])),
        low: loaded(4, &[(0, token)]),
        high: loaded(5, &[(0, token)]),
        lse: loaded(6, &axes(&[token, h])),
        delta: loaded(7, &axes(&[token, h])),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let mut random = Random(seed);
    let (low, high) = ranges(samples, &mut random);
    let buffers = vec![
        random.data(dtype, tokens * n_heads * d),
        random.data(dtype, tokens * n_groups * d),
        random.data(dtype, tokens * n_groups * d),
        random.data(dtype, tokens * n_heads * d),
        low,
        high,
        random.data(DType::F32, tokens * n_heads),
        random.data(DType::F32, tokens * n_heads),
        Data::zeros(DType::F32, (tokens * if by == By::Query { n_heads } else { n_groups } * d) as usize),
    ];
    let mut roles = vec![read(dtype); 4];
    roles.extend([read(DType::I32), read(DType::I32), read(DType::F32), read(DType::F32), write(DType::F32)]);
    Case { desc: desc(&roles, &dynamics, Body::AttentionGrad(body)), sizes: vec![tokens, tokens], buffers }
}
