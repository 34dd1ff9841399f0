//! What do a bundle's kernels cost, counted on the emulator? Every instruction, sector and bank, with no GPU.
//!
//! Floats are small and vary; integers count evenly from 0 to the largest size of the call, as offsets of segments do,
//! unless `--fill` says otherwise. Counts depend on values only where a kernel's control flow or addresses do.

use crate::outln;
use anyhow::{Context, Result};
use enel_bundle::{BufferKind, Bundle, Plan};
use enel_emulator::{Checks, Class, GPUS, Gpu, Options, Stats};
use enel_interp::{Tensor, Values};
use enel_ir::DType;
use enel_runtime::{Device, Emulation, HostTensor, HostTensors, LaunchLog, Session};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all launches of one kernel in a run of a plan did together.
#[derive(Clone, Debug)]
pub struct KernelCounts {
    /// Name in the bundle.
    pub kernel: String,
    /// Number of launches.
    pub launches: usize,
    /// Their counts, added up.
    pub stats: Stats,
}

/// Values of a run.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a> {
    /// One value per symbol of the plan.
    pub symbols: &'a [i64],
    /// Integer inputs, weights and states that hold one value everywhere.
    pub fill: &'a BTreeMap<String, i64>,
}

/// Runs plan `plan` of a bundle with PTX once on the emulator; kernels in order of their first launch.
///
/// # Errors
/// What opening, binding or running gives.
pub fn count(bundle: &Arc<Bundle>, plan: &Plan, sizes: Sizes<'_>) -> Result<Vec<KernelCounts>> {
    let log = LaunchLog::default();
    let options = Options { checks: Checks::none(), counters: true, ..Options::default() };
    let device = Device::emulated(Emulation { options, log: Some(log.clone()) });
    let mut session = Session::new(bundle.clone(), device)?;
    session.bind(&weights(bundle, sizes)?)?;
    let named = |plan: &Plan| -> Vec<(String, i64)> {
        plan.symbols.iter().zip(sizes.symbols).map(|(s, &v)| (s.name.clone(), v)).collect()
    };
    let symbols = named(plan);
    let symbols: Vec<(&str, i64)> = symbols.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let has_state = plan.buffers.iter().any(|b| matches!(b.kind, BufferKind::State(_)));
    if has_state {
        session.set_state_symbols(&symbols)?;
        session.zero_states()?;
    }
    let mut inputs = HostTensors::new();
    for buffer in &plan.buffers {
        if let BufferKind::Input(name) = &buffer.kind {
            let shape = buffer.extents(sizes.symbols)?;
            inputs.insert(name.clone(), filled(name, (buffer.dtype, &shape), sizes)?);
        }
    }
    // What runs at binding is no part of the plan.
    log.take();
    session.run(&plan.name, &symbols, &inputs)?;
    let mut rows: Vec<KernelCounts> = Vec::new();
    for (kernel, stats) in log.take() {
        match rows.iter_mut().find(|row| row.kernel == kernel) {
            Some(row) => {
                row.launches += 1;
                row.stats.add(&stats);
            }
            None => rows.push(KernelCounts { kernel, launches: 1, stats }),
        }
    }
    Ok(rows)
}

fn weights(bundle: &Bundle, sizes: Sizes<'_>) -> Result<HostTensors> {
    let mut weights = HostTensors::new();
    for buffer in bundle.plans.iter().flat_map(|plan| &plan.buffers) {
        for (name, shape) in buffer.weights()? {
            if !weights.contains_key(name) {
                weights.insert(name.to_owned(), filled(name, (buffer.dtype, &shape), sizes)?);
            }
        }
    }
    Ok(weights)
}

fn filled(name: &str, (dtype, shape): (DType, &[usize]), sizes: Sizes<'_>) -> Result<HostTensor> {
    let n = shape.iter().product::<usize>();
    let most = sizes.symbols.iter().copied().max().unwrap_or(1);
    let values = if dtype.is_float() {
        // A golden-ratio sequence in -0.5..0.5: spread evenly, no two alike.
        Values::F((0..n).map(|i| (i as f64 * 0.618_033_988_749_895).fract() - 0.5).collect())
    } else if let Some(&value) = sizes.fill.get(name) {
        Values::I(vec![value; n])
    } else {
        Values::I((0..n as i64).map(|i| i * most / (n as i64 - 1).max(1)).collect())
    };
    let tensor = Tensor::new(dtype, shape, values)?;
    Ok(HostTensor::new(dtype, shape, tensor.to_bytes())?)
}

/// `--fill` as it is written.
///
/// # Errors
/// An entry that is not `NAME=WHOLE NUMBER`.
pub fn fills(given: &[String]) -> Result<BTreeMap<String, i64>> {
    let entry = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| format!("`{text}` is not NAME=VALUE"))?;
        let value = value.parse().with_context(|| format!("`{value}` is no whole number"))?;
        Ok((name.to_owned(), value))
    };
    given.iter().map(entry).collect()
}

/// The GPU of this name.
///
/// # Errors
/// A name that is none of them.
pub fn gpu(name: &str) -> Result<&'static Gpu> {
    let known = || GPUS.map(|gpu| gpu.name).join(", ");
    Gpu::find(name).with_context(|| format!("`{name}` is no GPU this knows; there are: {}", known()))
}

/// How often a block's sectors may move: what is above that before L1 is named.
pub const MOST_TILING: f64 = 1.5;

/// One paragraph per kernel: only counts, which are the same everywhere.
pub fn exact(row: &KernelCounts) -> String {
    let KernelCounts { kernel, launches, stats } = row;
    let classes = Class::ALL.map(|class| (class.name(), stats.of_class(class)));
    let classes: Vec<String> = classes.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    let (read, written, shared) = (&stats.read, &stats.written, &stats.shared);
    let most = format!(
        "\n  a block's sectors move {:.2} times before L1, {:.2} past it",
        tiling(stats),
        tiling_past_l1(stats)
    );
    format!(
        "{kernel}\n  launches {launches}, blocks {}, warp instructions {}, lane instructions {}\n  {}\n  \
        tensor flops {}, barriers {}, atomics {}, local bytes {}\n  \
        read {} B in {} sectors (packed {}, of blocks {}, past L1 {}), written {} B in {} sectors (packed {}, of blocks {}), \
        distinct {} B\n  \
        shared {} B in {} passes (without conflicts {}){}",
        stats.blocks,
        stats.warp_instructions,
        stats.lane_instructions,
        classes.join(", "),
        stats.tensor_flops,
        stats.barriers,
        stats.atomics,
        stats.local_bytes,
        read.bytes,
        read.sectors,
        read.ideal_sectors,
        read.block_sectors,
        read.l2_sectors,
        written.bytes,
        written.sectors,
        written.ideal_sectors,
        written.block_sectors,
        stats.distinct_bytes(),
        shared.bytes,
        shared.wavefronts,
        shared.ideal_wavefronts,
        if tiling(stats) > MOST_TILING { most.as_str() } else { "" },
    )
}

/// Sectors moved to those each block touches, as if nothing were found again.
pub fn tiling(stats: &Stats) -> f64 {
    let (read, written) = (&stats.read, &stats.written);
    ratio(read.sectors + written.sectors, read.block_sectors + written.block_sectors)
}

/// The same for sectors asked of the second-level cache.
pub fn tiling_past_l1(stats: &Stats) -> f64 {
    let (read, written) = (&stats.read, &stats.written);
    ratio(read.l2_sectors + written.l2_sectors, read.block_sectors + written.block_sectors)
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 1.0 } else { a as f64 / b as f64 }
}

/// A kernel's counts, ratios and bounds on `gpu`.
pub fn row(counts: &KernelCounts, gpu: &Gpu) -> Value {
    let KernelCounts { kernel, launches, stats } = counts;
    let (read, written, shared) = (&stats.read, &stats.written, &stats.shared);
    // Launches follow each other: each has the multiprocessors its own blocks need.
    let blocks = stats.blocks.div_ceil(*launches as u64);
    let roofline = gpu.roofline(&Stats { blocks, ..stats.clone() });
    let (bound, time_us) = roofline.bound();
    let classes: BTreeMap<&str, u64> = Class::ALL.iter().map(|&class| (class.name(), stats.of_class(class))).collect();
    let traffic = |t: &enel_emulator::Traffic| {
        json!({
            "requests": t.requests, "bytes": t.bytes, "sectors": t.sectors, "ideal_sectors": t.ideal_sectors,
            "block_sectors": t.block_sectors, "l2_sectors": t.l2_sectors,
        })
    };
    json!({
        "kernel": kernel,
        "launches": launches,
        "blocks": stats.blocks,
        "warp_instructions": stats.warp_instructions,
        "lane_instructions": stats.lane_instructions,
        "active_lanes": ratio(stats.lane_instructions, 32 * stats.warp_instructions),
        "instructions": classes,
        "tensor_flops": stats.tensor_flops,
        "barriers": stats.barriers,
        "atomics": stats.atomics,
        "local_bytes": stats.local_bytes,
        "read": traffic(read),
        "written": traffic(written),
        "coalescing": ratio(read.sectors + written.sectors, read.ideal_sectors + written.ideal_sectors),
        "distinct_bytes": stats.distinct_bytes(),
        "traffic": ratio(32 * (read.sectors + written.sectors), stats.distinct_bytes()),
        "tiling": tiling(stats),
        "tiling_past_l1": tiling_past_l1(stats),
        "shared": {
            "bytes": shared.bytes,
            "wavefronts": shared.wavefronts,
            "bank_conflicts": stats.bank_conflicts(),
        },
        "roofline": {
            "gpu": gpu.name,
            "bound": bound,
            "time_us": time_us,
            "memory_us": roofline.memory_us,
            "tensor_us": roofline.tensor_us,
            "issue_us": roofline.issue_us,
            "shared_us": roofline.shared_us,
        },
    })
}

/// Prints rows as a table.
///
/// # Errors
/// As [`crate::out::line`].
pub fn table(rows: &[Value]) -> Result<()> {
    outln!(
        "{:36} {:>8} {:>12} {:>10} {:>10} {:>9} {:>8} {:>7} {:>7} {:>8} {:>6} {:>10} bound",
        "kernel",
        "launches",
        "warp instr",
        "MFLOP tc",
        "KiB moved",
        "coalesced",
        "traffic",
        "tiling",
        "past L1",
        "conflict",
        "lanes",
        "bound us"
    )?;
    for row in rows {
        let number = |pointer: &str| row.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
        let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        outln!(
            "{:36} {:>8} {:>12} {:>10.2} {:>10.1} {:>8.2}x {:>7.2}x {:>6.2}x {:>6.2}x {:>8} {:>5.0}% {:>10.3} {}",
            text("/kernel"),
            number("/launches"),
            number("/warp_instructions"),
            number("/tensor_flops") / 1e6,
            number("/distinct_bytes") / 1024.0,
            number("/coalescing"),
            number("/traffic"),
            number("/tiling"),
            number("/tiling_past_l1"),
            number("/shared/bank_conflicts"),
            number("/active_lanes") * 100.0,
            number("/roofline/time_us"),
            text("/roofline/bound"),
        )?;
    }
    Ok(())
}
