//! How do a few tokens attend? Key rows are streamed once in memory order, all groups together, in blocks that any
//! thread may take; each block gives every row a part of its softmax, and parts merge in order.
//!
//! Law: blocks are cut by key number alone, so results do not depend on threads.
//! **Source** Dao, Haziza, Massa and Sizov 2023, "Flash-Decoding for long-context inference", for splitting the keys;
//! Milakov and Gimelshein 2018, arXiv:1805.02867, for merging parts.

use super::attention::{BoundAttention, Rows};
use super::buffers::View;
use super::error::CpuError;
use super::gemm::{Lines, Operand, Panel, Stored, Values, halved};
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
    pub(super) fn run_few(&self, values: &Operand, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let (d, n_heads) = (self.head_size as usize, self.heads as usize);
        let n_rows = self.tokens as usize * n_heads;
        let mut q = Panel::new(n_rows * d);
        Exec::new(&self.q, views).floats(0, &mut q)?;
        let mut rows = self.rows(0, self.tokens, n_heads, views)?;
        let (from, to) = rows.seen();
        let first = from / KEYS * KEYS;
        let parts = threads.collect(n_tasks(to - first, KEYS), |block| {
            let at = first + block as i64 * KEYS;
            self.block(&q, (&rows, values), (at, KEYS.min(to - at) as usize), views)
        })?;
        let mut total = Part::new(n_rows, d);
        parts.iter().for_each(|part| total.merge(part, d));
        (rows.sum, rows.acc) = (total.sum, total.acc);
        self.finish(0, n_heads * d, &mut rows, views)
    }

    fn block(
        &self,
        q: &[f32],
        (rows, values): (&Rows, &Operand),
        at: (i64, usize),
        views: &[View<'_>],
    ) -> Result<Part, CpuError> {
        let (mut k, mut v) = (Panel::new(0), Panel::new(0));
        let keys = key_lines(&self.k_rows, at, views, &mut k)?;
        let values = key_lines(values, at, views, &mut v)?;
        let (n_rows, d) = (rows.low.len(), self.head_size as usize);
        let mut part = Part::new(n_rows, d);
        let mut scores = Panel::new(n_rows * at.1);
        let row = |row: usize| {
            let low = (rows.low[row] - at.0).clamp(0, at.1 as i64);
            let high = (rows.high[row] - at.0).clamp(low, at.1 as i64);
            let group = row as i64 % self.heads * self.groups / self.heads;
            RowSight { low: low as usize, high: high as usize, head: group as usize * d }
        };
        let sights: Vec<RowSight> = (0..n_rows).map(row).collect();
        let block = Block { scale: self.scale, d, n: at.1, sights: &sights, scores: &mut scores, part: &mut part };
        pulp::Arch::new().dispatch(Meet { block, q, keys, values });
        Ok(part)
    }
}

/// Rows of keys or values where they lie, or computed into `panel`.
fn key_lines<'a>(
    side: &Operand,
    (at, n): (i64, usize),
    views: &[View<'a>],
    panel: &'a mut Panel,
) -> Result<Lines<'a>, CpuError> {
    if let Some(lines) = side.lines(views, 0, (at, n))? {
        return Ok(lines);
    }
    let len = side.n_summed();
    *panel = Panel::new(n * len);
    side.rows(&mut side.exec(views), at, panel)?;
    Ok(Lines { values: Values::F32(panel), n, len, stride: len })
}

/// What a row sees of a block.
#[derive(Clone, Copy, Debug)]
struct RowSight {
    /// Keys of the block.
    low: usize,
    high: usize,
    /// Where its head begins in a line of keys or values.
    head: usize,
}

/// One block of keys on its way to all rows.
struct Block<'a> {
    scale: f32,
    /// Head size.
    d: usize,
    /// Keys.
    n: usize,
    sights: &'a [RowSight],
    /// Rows by keys.
    scores: &'a mut [f32],
    part: &'a mut Part,
}

struct Meet<'a> {
    block: Block<'a>,
    q: &'a [f32],
    keys: Lines<'a>,
    values: Lines<'a>,
}

impl pulp::NullaryFnOnce for Meet<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Meet { mut block, q, keys, values } = self;
        match keys.values {
            Values::F32(lines) => block.score(q, lines, keys.stride),
            Values::Bf16(lines) => block.score(q, lines, keys.stride),
            Values::F16(lines) => block.score(q, lines, keys.stride),
        }
        (0..block.part.max.len()).for_each(|row| block.weigh(row));
        match values.values {
            Values::F32(lines) => block.gather(lines, values.stride),
            Values::Bf16(lines) => block.gather(lines, values.stride),
            Values::F16(lines) => block.gather(lines, values.stride),
        }
    }
}

impl Block<'_> {
    /// Keys are met in memory order, all rows each.
    #[inline(always)]
    fn score<T: Stored>(&mut self, q: &[f32], keys: &[T], stride: usize) {
        for i in 0..self.n {
            let line = &keys[i * stride..];
            for (row, (q, sight)) in q.chunks_exact(self.d).zip(self.sights).enumerate() {
                if i < sight.low || sight.high <= i {
                    continue;
                }
                let (chunks, rest) = q.as_chunks::<32>();
                let key = &line[sight.head..sight.head + self.d];
                let mut lanes = [0f32; 32];
                for (x, y) in chunks.iter().zip(key.as_chunks::<32>().0) {
                    for j in 0..32 {
                        lanes[j] += x[j] * y[j].widen();
                    }
                }
                let mut last = 0f32;
                for (x, y) in rest.iter().zip(&key[chunks.len() * 32..]) {
                    last += x * y.widen();
                }
                self.scores[row * self.n + i] = self.scale * (halved(lanes) + last);
            }
        }
    }

    /// Turns a row's scores into weights relative to the block's maximum.
    #[inline(always)]
    fn weigh(&mut self, row: usize) {
        let RowSight { low, high, .. } = self.sights[row];
        if low == high {
            return;
        }
        let scores = &mut self.scores[row * self.n..][low..high];
        let max = scores.iter().fold(f32::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
        self.part.max[row] = max;
        if max == f32::NEG_INFINITY {
            // Only -inf or NaN: a NaN must reach the sum, -inf weighs nothing.
            for score in scores.iter_mut() {
                *score = if score.is_nan() { *score } else { 0.0 };
            }
        } else {
            for score in scores.iter_mut() {
                *score = exp(*score - max);
            }
        }
        self.part.sum[row] = scores.iter().map(|s| f64::from(*s)).sum();
    }

    /// Adds up values by weight; the channels of a row stay in registers over all keys.
    #[inline(always)]
    fn gather<T: Stored>(&mut self, values: &[T], stride: usize) {
        for (row, (acc, sight)) in self.part.acc.chunks_exact_mut(self.d).zip(self.sights).enumerate() {
            let weights = &self.scores[row * self.n..(row + 1) * self.n];
            let (chunks, rest) = acc.as_chunks_mut::<32>();
            for (at, acc) in chunks.iter_mut().enumerate() {
                let mut lanes = *acc;
                for (i, weight) in weights[..sight.high].iter().enumerate().skip(sight.low) {
                    let from = i * stride + sight.head + at * 32;
                    let line = values[from..from + 32].as_chunks::<32>().0;
                    for j in 0..32 {
                        lanes[j] += weight * line[0][j].widen();
                    }
                }
                *acc = lanes;
            }
            let done = self.d / 32 * 32;
            for (i, weight) in weights[..sight.high].iter().enumerate().skip(sight.low) {
                for (j, acc) in rest.iter_mut().enumerate() {
                    *acc += weight * values[i * stride + sight.head + done + j].widen();
                }
            }
        }
    }
}
