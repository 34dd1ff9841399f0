//! How do a few tokens attend? Key rows are streamed once in memory order, all groups together, in blocks that any
//! thread may take; each block gives every row a part of its softmax, and parts merge in order.
//!
//! Law: blocks are cut by key number alone, so results do not depend on threads.
//! **Source** Dao, Haziza, Massa and Sizov 2023, "Flash-Decoding for long-context inference", for splitting the keys;
//! Milakov and Gimelshein 2018, arXiv:1805.02867, for merging parts.

use super::attention::{BoundAttention, Rows};
use super::buffers::View;
use super::error::CpuError;
use super::gemm::{Panel, halved};
use super::n_tasks;
use super::ops::exp;
use super::strip::Exec;
use super::threads::CpuThreads;

/// Up to this many tokens; more make blocks of scores that a library product multiplies faster.
pub(super) const FEW_TOKENS: i64 = 4;
/// Key rows of a block.
const KEYS: i64 = 64;

/// What attention gave the rows (token, head) so far; `max` is -inf before anything was seen.
#[derive(Clone, Debug)]
struct Part {
    max: Vec<f32>,
    sum: Vec<f64>,
    acc: Vec<f32>,
}

impl Part {
    fn new(n_rows: usize, d: usize) -> Part {
        Part { max: vec![f32::NEG_INFINITY; n_rows], sum: vec![0.0; n_rows], acc: vec![0.0; n_rows * d] }
    }

    /// Brings a row's maximum up to `max`.
    fn raise(&mut self, row: usize, max: f32, d: usize) {
        if max > self.max[row] {
            let shrink = (self.max[row] - max).exp();
            self.sum[row] *= f64::from(shrink);
            self.acc[row * d..(row + 1) * d].iter_mut().for_each(|x| *x *= shrink);
            self.max[row] = max;
        }
    }

    /// Adds a later part.
    fn merge(&mut self, other: &Part, d: usize) {
        for row in 0..self.max.len() {
            if other.max[row] == f32::NEG_INFINITY && other.sum[row] == 0.0 {
                continue;
            }
            self.raise(row, other.max[row], d);
            // Both maxima -inf: what was seen weighs nothing or is NaN, and stays as it is.
            let weight = if other.max[row] == self.max[row] { 1.0 } else { (other.max[row] - self.max[row]).exp() };
            self.sum[row] += other.sum[row] * f64::from(weight);
            let acc = &mut self.acc[row * d..(row + 1) * d];
            acc.iter_mut().zip(&other.acc[row * d..]).for_each(|(x, y)| *x += weight * y);
        }
    }
}

impl BoundAttention {
    /// All tokens and heads at once.
    pub(super) fn run_few(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let (d, n_heads) = (self.head_size as usize, self.heads as usize);
        let n_rows = self.tokens as usize * n_heads;
        let mut q = Panel::new(n_rows * d);
        Exec::new(&self.q, views).floats(0, &mut q)?;
        let mut rows = self.rows(0, self.tokens, n_heads, views)?;
        let (from, to) = rows.seen();
        let first = from / KEYS * KEYS;
        let parts = threads.collect(n_tasks(to - first, KEYS), |block| {
            let at = first + block as i64 * KEYS;
            self.block(&q, &rows, (at, KEYS.min(to - at) as usize), views)
        })?;
        let mut total = Part::new(n_rows, d);
        parts.iter().for_each(|part| total.merge(part, d));
        (rows.sum, rows.acc) = (total.sum, total.acc);
        self.finish(0, n_heads * d, &mut rows, views)
    }

    fn block(&self, q: &[f32], rows: &Rows, (at, n): (i64, usize), views: &[View<'_>]) -> Result<Part, CpuError> {
        let (d, groups) = (self.head_size as usize, self.groups as usize);
        let width = groups * d;
        let (mut k, mut v) = (Panel::new(n * width), Panel::new(n * width));
        Exec::new(&self.k_rows, views).floats(at * width as i64, &mut k)?;
        Exec::new(&self.v_rows, views).floats(at * width as i64, &mut v)?;
        let mut part = Part::new(rows.low.len(), d);
        let block = Block { attention: self, q, rows, at, n, k: &k, v: &v, part: &mut part };
        pulp::Arch::new().dispatch(block);
        Ok(part)
    }
}

/// One block of keys meets all rows.
struct Block<'a> {
    attention: &'a BoundAttention,
    q: &'a [f32],
    rows: &'a Rows,
    at: i64,
    n: usize,
    k: &'a [f32],
    v: &'a [f32],
    part: &'a mut Part,
}

impl pulp::NullaryFnOnce for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Block { attention, q, rows, at, n, k, v, part } = self;
        let (d, heads, groups) = (attention.head_size as usize, attention.heads as usize, attention.groups as usize);
        let mut scores = [0f32; KEYS as usize];
        for (row, q) in q.chunks_exact(d).enumerate() {
            let low = (rows.low[row] - at).clamp(0, n as i64) as usize;
            let high = (rows.high[row] - at).clamp(low as i64, n as i64) as usize;
            if low == high {
                continue;
            }
            let group = row % heads * groups / heads * d;
            let line = |i: usize| (i * groups * d + group)..(i * groups * d + group + d);
            for i in low..high {
                scores[i] = attention.scale * product(q, &k[line(i)]);
            }
            let scores = &mut scores[low..high];
            let max = scores.iter().fold(f32::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
            part.max[row] = max;
            if max == f32::NEG_INFINITY {
                // Only -inf or NaN: a NaN must reach the sum, -inf weighs nothing.
                scores.iter_mut().for_each(|s| *s = if s.is_nan() { *s } else { 0.0 });
            } else {
                for score in scores.iter_mut() {
                    *score = exp(*score - max);
                }
            }
            part.sum[row] = scores.iter().map(|s| f64::from(*s)).sum();
            let acc = &mut part.acc[row * d..(row + 1) * d];
            for (i, weight) in scores.iter().enumerate() {
                for (a, v) in acc.iter_mut().zip(&v[line(low + i)]) {
                    *a += weight * v;
                }
            }
        }
    }
}

#[inline(always)]
fn product(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    let mut lanes = [0f32; 16];
    for (x, y) in x.iter().zip(y) {
        for i in 0..16 {
            lanes[i] += x[i] * y[i];
        }
    }
    halved(lanes) + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}
