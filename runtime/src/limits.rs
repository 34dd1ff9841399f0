//! What can this machine do at best? Rates that speed is measured against: library matrix products, reading memory.
//!
//! Law: these are the machine's figures, not ours: nothing here knows kernels or plans.

use crate::cpu::{CpuError, CpuThreads};
use faer::{Accum, Mat, MatMut, Par};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Sizes of a matrix product `[m, k] x [k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GemmShape {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
}

impl GemmShape {
    /// Floating-point operations, a multiply-add counted as two.
    pub fn flop(self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

/// Rows a thread multiplies at once: what the cpu device's own blocks have.
const ROWS: usize = 256;
/// Measured repetitions; the best counts, because other work on the machine only ever slows.
const REPEATS: usize = 5;

/// Best rate of f32 matrix products of a library at this shape, on `threads` threads; 0 means one per core.
///
/// **Units** floating-point operations per second. Rows are dealt to threads in blocks, each a product of its own,
/// which is the fastest way known here to use several cores.
///
/// # Errors
/// [`CpuError::Threads`] when the system refuses threads.
pub fn gemm_rate(shape: GemmShape, threads: usize) -> Result<f64, CpuError> {
    let GemmShape { m, n, k } = shape;
    let threads = CpuThreads::new(threads)?;
    let fill = |i: usize, j: usize| ((i * 7 + j * 13) % 17) as f32 / 17.0 - 0.5;
    // Row-major operands, as the cpu device has them: faer's are column-major, so rows are columns here.
    let (lhs, rhs) = (Mat::from_fn(k, m, fill), Mat::from_fn(k, n, fill));
    let mut out = Mat::<f32>::zeros(n, m);
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let blocks: Vec<Mutex<MatMut<'_, f32>>> = row_blocks(out.as_mut()).into_iter().map(Mutex::new).collect();
        let start = Instant::now();
        threads.each(blocks.len(), |at| {
            let mut out = blocks[at].lock().unwrap_or_else(PoisonError::into_inner);
            let rows = lhs.as_ref().subcols(at * ROWS, out.ncols());
            faer::linalg::matmul::matmul(out.as_mut(), Accum::Replace, rhs.as_ref().transpose(), rows, 1.0, Par::Seq);
            Ok(())
        })?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(shape.flop() / best)
}

/// Blocks of at most [`ROWS`] rows, which are columns of a column-major matrix.
fn row_blocks(out: MatMut<'_, f32>) -> Vec<MatMut<'_, f32>> {
    let (mut rest, mut blocks) = (out, Vec::new());
    while rest.ncols() > 0 {
        let n = ROWS.min(rest.ncols());
        let (block, after) = rest.split_at_col_mut(n);
        blocks.push(block);
        rest = after;
    }
    blocks
}

/// Best rate of reading memory that is in no cache, on `threads` threads; 0 means one per core.
///
/// **Units** bytes per second.
///
/// # Errors
/// [`CpuError::Threads`] when the system refuses threads.
pub fn read_rate(threads: usize) -> Result<f64, CpuError> {
    // Larger than any last-level cache share a thread may have.
    const BYTES: usize = 512 << 20;
    let threads = CpuThreads::new(threads)?;
    let words = vec![1u64; BYTES / 8];
    let chunks: Vec<&[u64]> = words.chunks(1 << 16).collect();
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        let sums = threads.collect(chunks.len(), |at| Ok(sum(chunks[at])))?;
        let time = start.elapsed().as_secs_f64();
        // Reading is for nothing unless the sums are used.
        assert_eq!(sums.iter().sum::<u64>(), words.len() as u64, "every word is 1");
        best = best.min(time);
    }
    Ok(BYTES as f64 / best)
}

fn sum(words: &[u64]) -> u64 {
    pulp::Arch::new().dispatch(|| {
        let mut lanes = [0u64; 32];
        let (blocks, rest) = words.as_chunks::<32>();
        for block in blocks {
            lanes.iter_mut().zip(block).for_each(|(lane, word)| *lane = lane.wrapping_add(*word));
        }
        lanes.iter().chain(rest).fold(0u64, |sum, word| sum.wrapping_add(*word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_numbers() {
        let rate = gemm_rate(GemmShape { m: 300, n: 40, k: 50 }, 1).unwrap();
        assert!(rate.is_finite() && rate > 0.0);
        assert_eq!(GemmShape { m: 2, n: 3, k: 4 }.flop(), 48.0);
    }

    #[test]
    fn sums_read_every_word() {
        assert_eq!(sum(&(0..1000).collect::<Vec<u64>>()), 499_500);
    }
}
