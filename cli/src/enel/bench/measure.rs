//! How long did it take, and what would the machine allow?

use super::BenchArgs;
use super::work::Workload;
use anyhow::Result;
use enel_runtime::StepTime;
use enel_runtime::limits::{GemmShape, gemm_rate, read_rate};
use std::time::Instant;

/// On a GPU the first run launches, the second records, and later ones replay; the clocks take some more to rise.
pub(super) const WARM_ON_GPU: u32 = 5;
/// A product smaller than this share of the arithmetic is not measured.
const SMALL_SHARE: f64 = 0.02;
/// Elements an operand or result of a measured product may have.
const MOST_ELEMS: usize = 1 << 28;
/// A product of fewer rows is bound by memory; the library's rate is measured at this many.
const FEW_ROWS: usize = 64;

/// Times of the runs that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Timed {
    seconds: Vec<f64>,
    /// Most memory the process ever held; on a GPU and on other systems than Linux what the plan asks for.
    pub(super) peak_bytes: u64,
    /// Bytes of temporaries.
    pub(super) temp_bytes: usize,
    /// Kernel calls of a run.
    pub(super) launches: usize,
    /// Each kernel's time, where asked for.
    pub(super) steps: Vec<StepTime>,
}

impl Timed {
    /// Middle time; of two the later.
    pub(super) fn median_s(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Shortest time.
    pub(super) fn min_s(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Longest time.
    pub(super) fn max_s(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }
}

/// Runs for warmth, then as often as asked.
pub(super) fn time(work: &mut Workload, args: &BenchArgs) -> Result<Timed> {
    let on_host = !work.device.starts_with("cuda");
    let mut warm = work.run(false)?;
    for _ in 1..if on_host { 1 } else { WARM_ON_GPU } {
        warm = work.run(false)?;
    }
    let mut timed = Timed { temp_bytes: warm.stats.arena_bytes, launches: warm.stats.launches, ..Timed::default() };
    for at in 0..args.repeat {
        let start = Instant::now();
        work.run(false)?;
        timed.seconds.push(start.elapsed().as_secs_f64());
        eprintln!("run {} of {}: {:.3} ms", at + 1, args.repeat, timed.seconds[at as usize] * 1e3);
    }
    if args.steps {
        timed.steps = work.run(true)?.stats.steps;
    }
    timed.peak_bytes = peak_of_process().filter(|_| on_host).unwrap_or(warm.stats.workspace_bytes as u64);
    Ok(timed)
}

/// Largest resident size so far. **Source** proc(5), `VmHWM` in `/proc/self/status`.
fn peak_of_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// The machine's own rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rate of the workload's products, each at the library's best.
    pub(super) gemm_gflops: f64,
    /// Rate of reading memory.
    pub(super) read_gb_per_s: f64,
}

/// Limits of the host; none for other devices, whose rates nothing here can measure.
pub(super) fn limits(work: &Workload) -> Result<Option<Limits>> {
    let Some(threads) = work.device.strip_prefix("cpu (").and_then(|rest| rest.split(' ').next()) else {
        return Ok(None);
    };
    let threads = threads.parse().unwrap_or(0);
    eprintln!("measuring the machine's limits");
    let (mut flop, mut seconds) = (0.0, 0.0);
    let total: f64 = work.products.iter().map(|(shape, n)| shape.flop() * *n as f64).sum();
    for (shape, n) in &work.products {
        let share = shape.flop() * *n as f64;
        if share < SMALL_SHARE * total {
            continue;
        }
        let GemmShape { m, n, k } = *shape;
        // Rows beyond what memory holds change nothing about the rate.
        let m = m.max(FEW_ROWS).min(MOST_ELEMS / n.max(k)).max(1);
        flop += share;
        seconds += share / gemm_rate(GemmShape { m, n, k }, threads)?;
    }
    let gemm_gflops = if seconds > 0.0 { flop / seconds / 1e9 } else { f64::NAN };
    Ok(Some(Limits { gemm_gflops, read_gb_per_s: read_rate(threads)? / 1e9 }))
}
