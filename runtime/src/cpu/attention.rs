//! Attention: a block of tokens and the heads of one group meet key blocks one after another, softmax kept online.
//!
//! Law: rows outside a token's range never touch its result, whatever they hold. Scores and products are f32 GEMMs,
//! the sum of weights f64.
//! **Source** Milakov and Gimelshein 2018, arXiv:1805.02867, algorithm 3, for the online softmax.

use super::attend_few::FEW_TOKENS;
use super::buffers::View;
use super::check::{Scope, Typed, malformed};
use super::code::{Code, Space, compile, compile_ordered};
use super::error::CpuError;
use super::gemm::{Axes, Operand, Panel, multiply};
use super::ops::ExpShifted;
use super::strip::{AccIn, Exec};
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{AttentionBody, Extent, Kind, Reg, Store, Value};
use faer::{Accum, MatRef};
use std::sync::Arc;

/// Tokens of a task: enough that a block of keys is packed for many.
const TOKENS: i64 = 128;
/// Key rows met at once: at head size 128, 64 KiB each of keys and values.
const KEYS: i64 = 128;

pub(crate) struct Attention {
    tokens: Extent,
    keys: Extent,
    heads: i64,
    groups: i64,
    head_size: i64,
    scale: f32,
    q: (Typed, Reg),
    k: (Typed, Reg),
    v: Option<(Typed, Reg)>,
    low: (Typed, Reg),
    high: (Typed, Reg),
    epilogue: Typed,
    stores: Vec<Store>,
}

pub(crate) fn check(body: &AttentionBody, scope: &Scope<'_>) -> Result<Attention, CpuError> {
    let AttentionBody { tokens, keys, heads, groups, head_size, scale, q, k, v, low, high, bf16: _, .. } = body;
    scope.extents("attention tokens and keys", &[*tokens, *keys])?;
    for (what, n) in [("heads", *heads), ("groups", *groups), ("head size", *head_size)] {
        if !(1..=1 << 20).contains(&n) {
            return Err(malformed("attention", format!("{n} {what}")));
        }
    }
    let value =
        |part: &str, value: &Value, rank, kind| scope.value(part, value, rank, kind).map(|typed| (typed, value.reg));
    let axes = if v.is_some() { 3 } else { 2 };
    let epilogue = scope.storing("attention epilogue", &body.epilogue, axes, (&[Kind::Float], &body.stores))?;
    Ok(Attention {
        tokens: *tokens,
        keys: *keys,
        heads: *heads,
        groups: *groups,
        head_size: *head_size,
        scale: f32::from_bits(*scale),
        q: value("attention q", q, 3, Kind::Float)?,
        k: value("attention k", k, 3, Kind::Float)?,
        v: v.as_ref().map(|v| value("attention v", v, 3, Kind::Float)).transpose()?,
        low: value("attention low", low, 1, Kind::Int)?,
        high: value("attention high", high, 1, Kind::Int)?,
        epilogue,
        stores: body.stores.clone(),
    })
}

impl Face for Attention {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let (tokens, keys) = (self.tokens.value(dynamics), self.keys.value(dynamics));
        let (h, g, d) = (self.heads, self.groups, self.head_size);
        let value = |(typed, reg): &(Typed, Reg), space: &[i64]| compile(typed, space, dynamics, &[*reg], &[]);
        // Groups outermost, so that the key rows of one group are one range.
        let space = Space { extents: &[keys, g, d], loops: &[1, 0, 2], dynamics };
        let grouped = |(typed, reg): &(Typed, Reg)| compile_ordered(typed, space, &[*reg], &[]);
        let rank = if self.v.is_some() { 3 } else { 2 };
        let axes = Axes { batch: &[], rows: &[keys], summed: &[g, d] };
        let rows = |(typed, reg): &(Typed, Reg)| Operand::bind(typed, *reg, &axes, dynamics);
        Ok(Arc::new(BoundAttention {
            tokens,
            keys,
            heads: h,
            groups: g,
            head_size: d,
            scale: self.scale,
            q: value(&self.q, &[tokens, h, d])?,
            k: grouped(&self.k)?,
            v: self.v.as_ref().map(grouped).transpose()?,
            k_rows: rows(&self.k)?,
            v_rows: self.v.as_ref().map(rows).transpose()?,
            low: value(&self.low, &[tokens])?,
            high: value(&self.high, &[tokens])?,
            epilogue: compile(&self.epilogue, &[tokens, h, d][..rank], dynamics, &[], &self.stores)?,
        }))
    }
}

pub(super) struct BoundAttention {
    pub(super) tokens: i64,
    keys: i64,
    pub(super) heads: i64,
    pub(super) groups: i64,
    pub(super) head_size: i64,
    pub(super) scale: f32,
    pub(super) q: Code,
    k: Code,
    v: Option<Code>,
    /// Keys and values with all groups of a row side by side.
    pub(super) k_rows: Operand,
    pub(super) v_rows: Option<Operand>,
    low: Code,
    high: Code,
    epilogue: Code,
}

/// The state of the rows (token, head) of a task.
pub(super) struct Rows {
    pub(super) low: Vec<i64>,
    pub(super) high: Vec<i64>,
    max: Vec<f32>,
    pub(super) sum: Vec<f64>,
    /// Weighted values, rows by channels.
    pub(super) acc: Vec<f32>,
}

impl Rows {
    /// First key row any of them sees, and one past the last; 0 and 0 when none sees any.
    pub(super) fn seen(&self) -> (i64, i64) {
        let seen = || self.low.iter().zip(&self.high).filter(|(low, high)| low < high);
        (seen().map(|r| *r.0).min().unwrap_or(0), seen().map(|r| *r.1).max().unwrap_or(0))
    }
}

impl Bound for BoundAttention {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        check_room(self.epilogue.total, self.epilogue.stores.iter().map(|s| s.buffer), views)?;
        if self.epilogue.stores.is_empty() {
            return Ok(());
        }
        if let (..=FEW_TOKENS, Some(values)) = (self.tokens, &self.v_rows) {
            return self.run_few(values, views, threads);
        }
        let blocks = n_tasks(self.tokens, TOKENS);
        threads.each(blocks * self.groups as usize, |task| {
            let group = task as i64 % self.groups;
            let first = task as i64 / self.groups * TOKENS;
            self.task(group, first, TOKENS.min(self.tokens - first), views)
        })
    }
}

impl BoundAttention {
    fn task(&self, group: i64, first: i64, n_tokens: i64, views: &[View<'_>]) -> Result<(), CpuError> {
        let first_head = |g: i64| (g * self.heads + self.groups - 1) / self.groups;
        let (head, n_heads) = (first_head(group), first_head(group + 1) - first_head(group));
        if n_heads == 0 {
            return Ok(());
        }
        let d = self.head_size as usize;
        let n_rows = (n_tokens * n_heads) as usize;
        let per_token = n_heads as usize * d;
        let mut q = Panel::new(n_rows * d);
        let mut exec = Exec::new(&self.q, views);
        for (t, out) in q.chunks_exact_mut(per_token).enumerate() {
            exec.floats(((first + t as i64) * self.heads + head) * self.head_size, out)?;
        }
        drop(exec);
        let mut rows = self.rows(first, n_tokens, n_heads as usize, views)?;
        self.meet_keys(group, &q, &mut rows, views)?;
        let start = first * self.heads + head;
        if self.v.is_none() {
            return self.finish_sums(start, n_heads as usize, &rows, views);
        }
        self.finish(start, per_token, &mut rows, views)
    }

    /// Divides the weighted sums and runs the epilogue; the channels of a token's heads, `per_token` of them, begin at
    /// row `start` of (token, head).
    pub(super) fn finish(
        &self,
        start: i64,
        per_token: usize,
        rows: &mut Rows,
        views: &[View<'_>],
    ) -> Result<(), CpuError> {
        let d = self.head_size as usize;
        for (row, acc) in rows.acc.chunks_exact_mut(d).enumerate() {
            if rows.high[row] <= rows.low[row] {
                acc.fill(0.0);
            } else {
                acc.iter_mut().for_each(|x| *x = (f64::from(*x) / rows.sum[row]) as f32);
            }
        }
        let mut exec = Exec::new(&self.epilogue, views);
        for (t, out) in rows.acc.chunks_exact(per_token).enumerate() {
            let start = (start + t as i64 * self.heads) * self.head_size;
            exec.stores(start, per_token, &[AccIn::Float(out)])?;
        }
        Ok(())
    }

    /// Runs the epilogue on the logarithms of the sums of a task's rows, `n_heads` to a token.
    fn finish_sums(&self, start: i64, n_heads: usize, rows: &Rows, views: &[View<'_>]) -> Result<(), CpuError> {
        let lse = |row: usize| {
            let sees = rows.low[row] < rows.high[row];
            if sees { (f64::from(rows.max[row]) + rows.sum[row].ln()) as f32 } else { 0.0 }
        };
        let values: Vec<f32> = (0..rows.low.len()).map(lse).collect();
        let mut exec = Exec::new(&self.epilogue, views);
        for (t, values) in values.chunks_exact(n_heads).enumerate() {
            exec.stores(start + t as i64 * self.heads, n_heads, &[AccIn::Float(values)])?;
        }
        Ok(())
    }

    pub(super) fn rows(&self, first: i64, n_tokens: i64, n_heads: usize, views: &[View<'_>]) -> Result<Rows, CpuError> {
        let bound = |code: &Code| {
            let mut values = vec![0i64; n_tokens as usize];
            Exec::new(code, views).ints(first, &mut values)?;
            Ok(values.iter().flat_map(|v| std::iter::repeat_n((*v).clamp(0, self.keys), n_heads)).collect::<Vec<_>>())
        };
        let n = n_tokens as usize * n_heads;
        Ok(Rows {
            low: bound(&self.low)?,
            high: bound(&self.high)?,
            max: vec![f32::NEG_INFINITY; n],
            sum: vec![0.0; n],
            acc: vec![0.0; n * self.head_size as usize],
        })
    }

    fn meet_keys(&self, group: i64, q: &[f32], rows: &mut Rows, views: &[View<'_>]) -> Result<(), CpuError> {
        let (from, to) = rows.seen();
        let (d, n_rows) = (self.head_size as usize, rows.low.len());
        let block = KEYS as usize;
        let (mut k, mut v) = (Panel::new(block * d), Panel::new(block * d));
        let mut scores = Panel::new(n_rows * block);
        let (mut k_exec, mut v_exec) = (Exec::new(&self.k, views), self.v.as_ref().map(|v| Exec::new(v, views)));
        let q = MatRef::from_row_major_slice(q, n_rows, d);
        let mut at = from;
        while at < to {
            let n = KEYS.min(to - at) as usize;
            let start = (group * self.keys + at) * self.head_size;
            k_exec.floats(start, &mut k[..n * d])?;
            multiply(&mut scores, q, MatRef::from_row_major_slice(&k[..n * d], n, d), Accum::Replace);
            for (row, scores) in scores[..n_rows * n].chunks_exact_mut(n).enumerate() {
                self.weigh(row, scores, at, rows);
            }
            let weights = &scores[..n_rows * n];
            at += n as i64;
            let Some(v_exec) = &mut v_exec else { continue };
            v_exec.floats(start, &mut v[..n * d])?;
            let values = &v[..n * d];
            if values.iter().all(|x| x.is_finite()) {
                let weights = MatRef::from_row_major_slice(weights, n_rows, n);
                let values = MatRef::from_row_major_slice(values, n, d);
                multiply(&mut rows.acc, weights, values.transpose(), Accum::Add);
            } else {
                add_in_range(weights, values, at - n as i64, rows, d);
            }
        }
        Ok(())
    }

    /// Turns a row's scores into weights relative to its running maximum; 0 outside its range.
    fn weigh(&self, row: usize, scores: &mut [f32], first: i64, rows: &mut Rows) {
        let n = scores.len() as i64;
        let low = (rows.low[row] - first).clamp(0, n) as usize;
        let high = (rows.high[row] - first).clamp(low as i64, n) as usize;
        scores[..low].fill(0.0);
        scores[high..].fill(0.0);
        let scores = &mut scores[low..high];
        scores.iter_mut().for_each(|s| *s *= self.scale);
        let max = scores.iter().fold(rows.max[row], |m, s| m.max(*s));
        if max == f32::NEG_INFINITY {
            // Only -inf or NaN so far: a NaN must reach the sum, -inf weighs nothing.
            scores.iter_mut().for_each(|s| *s = if s.is_nan() { *s } else { 0.0 });
        } else {
            if max > rows.max[row] {
                let shrink = (rows.max[row] - max).exp();
                rows.sum[row] *= f64::from(shrink);
                let d = self.head_size as usize;
                rows.acc[row * d..(row + 1) * d].iter_mut().for_each(|x| *x *= shrink);
                rows.max[row] = max;
            }
            pulp::Arch::new().dispatch(ExpShifted { values: &mut *scores, by: max });
        }
        rows.sum[row] += scores.iter().map(|s| f64::from(*s)).sum::<f64>();
    }
}

/// Adds weighted values row by row, so that infinities outside a row's range stay outside.
fn add_in_range(weights: &[f32], values: &[f32], first: i64, rows: &mut Rows, d: usize) {
    let n = values.len() / d;
    for (row, (acc, weights)) in rows.acc.chunks_exact_mut(d).zip(weights.chunks_exact(n)).enumerate() {
        for (i, (weight, value)) in weights.iter().zip(values.chunks_exact(d)).enumerate() {
            let key = first + i as i64;
            if rows.low[row] <= key && key < rows.high[row] {
                acc.iter_mut().zip(value).for_each(|(a, v)| *a += weight * v);
            }
        }
    }
}
