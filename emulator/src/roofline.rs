//! How fast could a GPU run what was counted? The slowest of four ceilings, each at its nominal rate.

use crate::stats::Stats;

/// Nominal rates of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Name on the command line.
    pub name: &'static str,
    /// Multiprocessors.
    pub n_sm: u32,
    /// Boost clock in GHz.
    pub clock_ghz: f64,
    /// Dense bf16 tensor-core rate in TFLOP/s.
    pub tensor_tflop_per_s: f64,
    /// Device memory in GB/s.
    pub memory_gb_per_s: f64,
}

/// GPUs by name.
///
/// **Source** NVIDIA H100 Tensor Core GPU Architecture, V1.04, tables 1 and 3 (132 x 1.83 GHz x 4096 FLOP is 989
/// TFLOP/s); NVIDIA A100 Tensor Core GPU Architecture, V1.0, table 1, and the A100 80GB data sheet for its memory.
pub const GPUS: [Gpu; 3] = [
    Gpu { name: "h100-sxm", n_sm: 132, clock_ghz: 1.83, tensor_tflop_per_s: 989.4, memory_gb_per_s: 3350.0 },
    Gpu { name: "a100-80gb", n_sm: 108, clock_ghz: 1.41, tensor_tflop_per_s: 312.0, memory_gb_per_s: 2039.0 },
    Gpu { name: "a100-40gb", n_sm: 108, clock_ghz: 1.41, tensor_tflop_per_s: 312.0, memory_gb_per_s: 1555.0 },
];

/// Warp instructions a multiprocessor issues per clock: four schedulers of one each (both papers, SM diagrams).
const ISSUE_PER_CLOCK: f64 = 4.0;

/// Lower bounds of a launch's time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Every distinct byte moves once between memory and chip.
    pub memory_us: f64,
    /// Tensor cores.
    pub tensor_us: f64,
    /// Issue of warp instructions.
    pub issue_us: f64,
    /// Passes over the banks of shared memory, one per clock.
    pub shared_us: f64,
}

impl Gpu {
    /// The GPU called `name`.
    pub fn find(name: &str) -> Option<&'static Gpu> {
        GPUS.iter().find(|gpu| gpu.name == name)
    }

    /// Bounds for `stats`, on as many multiprocessors as there are blocks for.
    pub fn roofline(&self, stats: &Stats) -> Roofline {
        let n_sm = (stats.blocks.max(1) as f64).min(f64::from(self.n_sm));
        let clocks_per_us = self.clock_ghz * 1e3 * n_sm;
        let tensor_flop_per_us = self.tensor_tflop_per_s * 1e6 * n_sm / f64::from(self.n_sm);
        Roofline {
            memory_us: stats.distinct_bytes() as f64 / (self.memory_gb_per_s * 1e3),
            tensor_us: stats.tensor_flops as f64 / tensor_flop_per_us,
            issue_us: stats.warp_instructions as f64 / ISSUE_PER_CLOCK / clocks_per_us,
            shared_us: stats.shared.wavefronts as f64 / clocks_per_us,
        }
    }
}

impl Roofline {
    /// The bound that holds, and its name.
    pub fn bound(&self) -> (&'static str, f64) {
        let Roofline { memory_us, tensor_us, issue_us, shared_us } = *self;
        let all = [("memory", memory_us), ("tensor", tensor_us), ("issue", issue_us), ("shared", shared_us)];
        all.into_iter().fold(("memory", 0.0), |best, next| if next.1 > best.1 { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::Gpu;
    use crate::stats::{Stats, Touched};

    #[test]
    fn the_slowest_ceiling_bounds() {
        let gpu = Gpu::find("h100-sxm").unwrap();
        let touched = vec![Touched { address: 0, read_bytes: 3_350_000_000, written_bytes: 0 }];
        let mut stats = Stats { blocks: 132, touched, ..Stats::default() };
        assert_eq!(gpu.roofline(&stats).bound(), ("memory", 1000.0));
        stats.tensor_flops = 989_400_000_000 * 2;
        let (name, time) = gpu.roofline(&stats).bound();
        assert_eq!((name, time.round()), ("tensor", 2000.0));
        // Half the multiprocessors take twice the time; the memory does not care.
        stats.blocks = 66;
        assert_eq!(gpu.roofline(&stats).tensor_us.round(), 4000.0);
        assert_eq!(gpu.roofline(&stats).memory_us, 1000.0);
        assert!(Gpu::find("abacus").is_none());
    }
}
