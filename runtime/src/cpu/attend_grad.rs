//! Derivatives of attention: blocks of tokens meet blocks of keys, their weights are computed again, and one side is added
//! up by them.
//!
//! Law: a task owns rows of the result and meets the other side in rising order, so sums do not depend on threads; what a
//! token does not see never touches it, whatever it holds.
//! **Source** Dao 2023, arXiv:2307.08691, algorithm 2.

use super::buffers::View;
use super::check::{Scope, Typed, malformed};
use super::code::{Code, Space, compile, compile_ordered};
use super::error::CpuError;
use super::gemm::{Panel, multiply};
use super::ops::ExpShifted;
use super::strip::{AccIn, Exec};
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{AttentionGradBody, By, Extent, Kind, Reg, Store, Value};
use faer::{Accum, MatRef};
use std::ops::Range;
use std::sync::Arc;

/// Tokens, and keys, of a block: at head size 128, 64 KiB of each operand.
const BLOCK: i64 = 128;

pub(crate) struct AttentionGrad {
    tokens: Extent,
    keys: Extent,
    heads: i64,
    groups: i64,
    head_size: i64,
    scale: f32,
    by: By,
    /// q, dy.
    of_tokens: [(Typed, Reg); 2],
    /// k, v.
    of_keys: [(Typed, Reg); 2],
    /// low, high.
    ranges: [(Typed, Reg); 2],
    /// lse, delta.
    of_rows: [(Typed, Reg); 2],
    epilogue: Typed,
    stores: Vec<Store>,
}

pub(crate) fn check(body: &AttentionGradBody, scope: &Scope<'_>) -> Result<AttentionGrad, CpuError> {
    let AttentionGradBody { tokens, keys, heads, groups, head_size, scale, by, q, k, v, dy, .. } = body;
    let AttentionGradBody { low, high, lse, delta, bf16: _, epilogue, stores, .. } = body;
    scope.extents("attention_grad tokens and keys", &[*tokens, *keys])?;
    for (what, n) in [("heads", *heads), ("groups", *groups), ("head size", *head_size)] {
        if !(1..=1 << 20).contains(&n) {
            return Err(malformed("attention_grad", format!("{n} {what}")));
        }
    }
    if heads % groups != 0 {
        return Err(malformed("attention_grad", format!("{heads} heads do not share {groups} groups evenly")));
    }
    let value =
        |part: &str, value: &Value, rank, kind| scope.value(part, value, rank, kind).map(|typed| (typed, value.reg));
    let float = |part: &str, v: &Value, rank| value(part, v, rank, Kind::Float);
    Ok(AttentionGrad {
        tokens: *tokens,
        keys: *keys,
        heads: *heads,
        groups: *groups,
        head_size: *head_size,
        scale: f32::from_bits(*scale),
        by: *by,
        of_tokens: [float("attention_grad q", q, 3)?, float("attention_grad dy", dy, 3)?],
        of_keys: [float("attention_grad k", k, 3)?, float("attention_grad v", v, 3)?],
        ranges: [value("attention_grad low", low, 1, Kind::Int)?, value("attention_grad high", high, 1, Kind::Int)?],
        of_rows: [float("attention_grad lse", lse, 2)?, float("attention_grad delta", delta, 2)?],
        epilogue: scope.storing("attention_grad epilogue", epilogue, 3, (&[Kind::Float], stores))?,
        stores: stores.clone(),
    })
}

impl Face for AttentionGrad {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let (tokens, keys) = (self.tokens.value(dynamics), self.keys.value(dynamics));
        let (h, g, d) = (self.heads, self.groups, self.head_size);
        let value = |(typed, reg): &(Typed, Reg), space: &[i64]| compile(typed, space, dynamics, &[*reg], &[]);
        // Groups outermost, so that the key rows of one group are one range.
        let space = Space { extents: &[keys, g, d], loops: &[1, 0, 2], dynamics };
        let grouped = |(typed, reg): &(Typed, Reg)| compile_ordered(typed, space, &[*reg], &[]);
        let [q, dy] = &self.of_tokens;
        let [k, v] = &self.of_keys;
        let [low, high] = &self.ranges;
        let [lse, delta] = &self.of_rows;
        let own = if self.by == By::Query { [tokens, h, d] } else { [keys, g, d] };
        Ok(Arc::new(BoundAttentionGrad {
            tokens,
            keys,
            heads: h,
            groups: g,
            head_size: d as usize,
            per_group: (h / g) as usize,
            scale: self.scale,
            by: self.by,
            of_tokens: [value(q, &[tokens, h, d])?, value(dy, &[tokens, h, d])?],
            of_keys: [grouped(k)?, grouped(v)?],
            ranges: [value(low, &[tokens])?, value(high, &[tokens])?],
            of_rows: [value(lse, &[tokens, h])?, value(delta, &[tokens, h])?],
            epilogue: compile(&self.epilogue, &own, dynamics, &[], &self.stores)?,
        }))
    }
}

struct BoundAttentionGrad {
    tokens: i64,
    keys: i64,
    heads: i64,
    groups: i64,
    head_size: usize,
    /// Heads that share keys.
    per_group: usize,
    scale: f32,
    by: By,
    of_tokens: [Code; 2],
    of_keys: [Code; 2],
    ranges: [Code; 2],
    of_rows: [Code; 2],
    epilogue: Code,
}

/// A block of tokens and the heads of a group: rows (token, head).
struct Tokens {
    /// What each token sees.
    seen: Vec<Range<i64>>,
    q: Panel,
    dy: Panel,
    lse: Vec<f32>,
    delta: Vec<f32>,
}

/// A block of key rows of a group.
struct Keys {
    first: i64,
    n: usize,
    k: Panel,
    v: Panel,
}

impl Bound for BoundAttentionGrad {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        check_room(self.epilogue.total, self.epilogue.stores.iter().map(|s| s.buffer), views)?;
        if self.epilogue.stores.is_empty() {
            return Ok(());
        }
        let seen = self.seen(views)?;
        let n = if self.by == By::Query { self.tokens } else { self.keys };
        threads.each(n_tasks(n, BLOCK) * self.groups as usize, |task| {
            let (group, first) = (task as i64 % self.groups, task as i64 / self.groups * BLOCK);
            let block = first..n.min(first + BLOCK);
            if self.by == By::Query {
                self.by_query(group, block, &seen, views)
            } else {
                self.by_rows(group, block, &seen, views)
            }
        })
    }
}

impl BoundAttentionGrad {
    /// What each token sees, empty ranges as 0..0.
    fn seen(&self, views: &[View<'_>]) -> Result<Vec<Range<i64>>, CpuError> {
        let mut ends = [vec![0i64; self.tokens as usize], vec![0i64; self.tokens as usize]];
        for (code, out) in self.ranges.iter().zip(&mut ends) {
            Exec::new(code, views).ints(0, out)?;
        }
        let [low, high] = ends;
        let range = |(low, high): (i64, i64)| {
            let (low, high) = (low.clamp(0, self.keys), high.clamp(0, self.keys));
            if low < high { low..high } else { 0..0 }
        };
        Ok(low.into_iter().zip(high).map(range).collect())
    }

    fn by_query(&self, group: i64, block: Range<i64>, seen: &[Range<i64>], views: &[View<'_>]) -> Result<(), CpuError> {
        let tokens = self.load_tokens(group, block.clone(), seen, views)?;
        let n_rows = tokens.lse.len();
        let mut acc = vec![0f32; n_rows * self.head_size];
        let mut weights = [Panel::new(n_rows * BLOCK as usize), Panel::new(n_rows * BLOCK as usize)];
        let some = || tokens.seen.iter().filter(|r| r.start < r.end);
        let (from, to) = (some().map(|r| r.start).min().unwrap_or(0), some().map(|r| r.end).max().unwrap_or(0));
        let mut at = from;
        while at < to {
            let keys = self.load_keys(group, at..to.min(at + BLOCK), views)?;
            at += keys.n as i64;
            self.weigh(&tokens, &keys, &mut weights);
            self.add((&mut acc, &keys.k), &weights[0], (&tokens, &keys));
        }
        let (head, per_token) = (group * self.per_group as i64, self.per_group * self.head_size);
        let mut exec = Exec::new(&self.epilogue, views);
        for (t, out) in acc.chunks_exact(per_token).enumerate() {
            let start = ((block.start + t as i64) * self.heads + head) * self.head_size as i64;
            exec.stores(start, per_token, &[AccIn::Float(out)])?;
        }
        Ok(())
    }

    /// By key and by value.
    fn by_rows(&self, group: i64, block: Range<i64>, seen: &[Range<i64>], views: &[View<'_>]) -> Result<(), CpuError> {
        let keys = self.load_keys(group, block.clone(), views)?;
        let mut acc = vec![0f32; keys.n * self.head_size];
        let most = BLOCK as usize * self.per_group * keys.n;
        let mut weights = [Panel::new(most), Panel::new(most)];
        let mut at = 0;
        while at < self.tokens {
            let next = self.tokens.min(at + BLOCK);
            let meets = seen[at as usize..next as usize].iter().any(|r| r.start < block.end && block.start < r.end);
            if meets {
                let tokens = self.load_tokens(group, at..next, seen, views)?;
                self.weigh(&tokens, &keys, &mut weights);
                let summed = if self.by == By::Key { &tokens.q } else { &tokens.dy };
                self.add((&mut acc, summed), &weights[0], (&tokens, &keys));
            }
            at = next;
        }
        let mut exec = Exec::new(&self.epilogue, views);
        for (i, out) in acc.chunks_exact(self.head_size).enumerate() {
            let start = ((block.start + i as i64) * self.groups + group) * self.head_size as i64;
            exec.stores(start, self.head_size, &[AccIn::Float(out)])?;
        }
        Ok(())
    }

    fn load_tokens(
        &self,
        group: i64,
        block: Range<i64>,
        seen: &[Range<i64>],
        views: &[View<'_>],
    ) -> Result<Tokens, CpuError> {
        let (d, head) = (self.head_size, group * self.per_group as i64);
        let n_rows = (block.end - block.start) as usize * self.per_group;
        // Rows of `width` numbers, those of a token's heads together.
        let fill = |code: &Code, out: &mut [f32], width: usize| -> Result<(), CpuError> {
            let mut exec = Exec::new(code, views);
            for (t, out) in out.chunks_exact_mut(self.per_group * width).enumerate() {
                exec.floats(((block.start + t as i64) * self.heads + head) * width as i64, out)?;
            }
            Ok(())
        };
        let (mut q, mut dy) = (Panel::new(n_rows * d), Panel::new(n_rows * d));
        let (mut lse, mut delta) = (vec![0f32; n_rows], vec![0f32; n_rows]);
        fill(&self.of_tokens[0], &mut q, d)?;
        fill(&self.of_tokens[1], &mut dy, d)?;
        fill(&self.of_rows[0], &mut lse, 1)?;
        if self.by != By::Value {
            fill(&self.of_rows[1], &mut delta, 1)?;
        }
        let seen = seen[block.start as usize..block.end as usize].to_vec();
        Ok(Tokens { seen, q, dy, lse, delta })
    }

    fn load_keys(&self, group: i64, block: Range<i64>, views: &[View<'_>]) -> Result<Keys, CpuError> {
        let n = (block.end - block.start) as usize;
        let start = (group * self.keys + block.start) * self.head_size as i64;
        let (mut k, mut v) = (Panel::new(n * self.head_size), Panel::new(n * self.head_size));
        Exec::new(&self.of_keys[0], views).floats(start, &mut k)?;
        if self.by != By::Value {
            Exec::new(&self.of_keys[1], views).floats(start, &mut v)?;
        }
        Ok(Keys { first: block.start, n, k, v })
    }

    /// Weights of rows by keys into the first panel: probabilities, or derivatives by scores; 0 where nothing is seen.
    fn weigh(&self, tokens: &Tokens, keys: &Keys, [weights, other]: &mut [Panel; 2]) {
        let (n_rows, n, d) = (tokens.lse.len(), keys.n, self.head_size);
        let matrix = |x, rows| MatRef::from_row_major_slice(x, rows, d);
        multiply(weights, matrix(&tokens.q[..], n_rows), matrix(&keys.k[..], n), Accum::Replace);
        if self.by != By::Value {
            multiply(other, matrix(&tokens.dy[..], n_rows), matrix(&keys.v[..], n), Accum::Replace);
        }
        let arch = pulp::Arch::new();
        for (row, weights) in weights[..n_rows * n].chunks_exact_mut(n).enumerate() {
            let seen = self.meeting(tokens, keys, row);
            weights[..seen.start].fill(0.0);
            weights[seen.end..].fill(0.0);
            let weights = &mut weights[seen.clone()];
            weights.iter_mut().for_each(|s| *s *= self.scale);
            arch.dispatch(ExpShifted { values: &mut *weights, by: tokens.lse[row] });
            if self.by != By::Value {
                let dp = &other[row * n..][seen];
                let delta = tokens.delta[row];
                weights.iter_mut().zip(dp).for_each(|(p, dp)| *p *= (dp - delta) * self.scale);
            }
        }
    }

    /// Which of the keys a row sees, counted from their first.
    fn meeting(&self, tokens: &Tokens, keys: &Keys, row: usize) -> Range<usize> {
        let seen = &tokens.seen[row / self.per_group];
        let low = (seen.start - keys.first).clamp(0, keys.n as i64) as usize;
        let high = (seen.end - keys.first).clamp(low as i64, keys.n as i64) as usize;
        low..high
    }

    /// Adds `summed`, the rows of the side that is not owned, to the owned ones by their weights.
    fn add(&self, (acc, summed): (&mut [f32], &[f32]), weights: &[f32], (tokens, keys): (&Tokens, &Keys)) {
        let (n_rows, n, d) = (tokens.lse.len(), keys.n, self.head_size);
        let by_query = self.by == By::Query;
        if summed.iter().all(|x| x.is_finite()) {
            let weights = MatRef::from_row_major_slice(&weights[..n_rows * n], n_rows, n);
            let summed = MatRef::from_row_major_slice(summed, if by_query { n } else { n_rows }, d).transpose();
            return multiply(acc, if by_query { weights } else { weights.transpose() }, summed, Accum::Add);
        }
        // Pair by pair, so that infinities outside a row's range stay outside.
        for row in 0..n_rows {
            for key in self.meeting(tokens, keys, row) {
                let weight = weights[row * n + key];
                let (own, other) = if by_query { (row, key) } else { (key, row) };
                let pairs = acc[own * d..(own + 1) * d].iter_mut().zip(&summed[other * d..(other + 1) * d]);
                pairs.for_each(|(a, x)| *a += weight * x);
            }
        }
    }
}
