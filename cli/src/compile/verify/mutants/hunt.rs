//! Is a fault in a kernel caught? Its mutant runs the kernel's calls on the emulator until a check or a value tells.
//!
//! Law: a mutant counts as caught only where the kernel as it is passes the same calls under the same schedules.

use super::equivalent::Excuses;
use anyhow::{Context, Result};
use enel_bundle::{Bundle, ImageKind};
use enel_emulator::{Cause, Checks, LaunchError, Mutant, Options, mutants};
use enel_runtime::{Device, DeviceError, Emulation, LaunchLog};
use enel_verify::{Case, Data, Expected, Shipped};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Schedules a mutant is run under before it counts as missed.
const SEEDS: u64 = 3;

/// What told that a mutant is wrong.
pub type Caught = &'static str;

/// What became of the mutants of one kernel.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The kernel.
    pub kernel: String,
    /// Its text, whose lines faults name.
    pub ptx: String,
    /// Templates of its parts.
    pub templates: Vec<&'static str>,
    /// Mutants planted, and how many there are.
    pub planted: (usize, usize),
    /// How many of a class each catch caught.
    pub caught: BTreeMap<(&'static str, Caught), usize>,
    /// Of these, how many a change of one did not show, but a larger one did.
    pub by_larger: usize,
    /// Those that change nothing, with the reason.
    pub equivalent: Vec<(Mutant, &'static str)>,
    /// Those that nothing told.
    pub missed: Vec<Missed>,
    /// What it took.
    pub seconds: f64,
}

/// A mutant that passed.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The fault.
    pub mutant: Mutant,
    /// Whether any call reaches its line.
    pub is_reached: bool,
}

/// How much is hunted.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Schedules the kernel as it is has to pass.
    pub schedules: u64,
    /// Of numbers every so many is changed; what orders is always deleted.
    pub every: usize,
    /// Threads that hunt.
    pub threads: usize,
}

/// A call, what it has to give, and what it costs.
struct Call<'a> {
    cases: &'a [Case],
    expected: Vec<Expected>,
    bytes: Vec<Vec<u8>>,
    sizes: Vec<i64>,
    instructions: u64,
}

/// Hunts the mutants of a kernel; `bundle` holds its text alone.
///
/// # Errors
/// The kernel as it is does not pass.
pub fn hunt(shipped: &Shipped, bundle: &Bundle, templates: Vec<&'static str>, effort: Effort) -> Result<Hunt> {
    let start = Instant::now();
    let image = bundle.images.iter().find(|image| image.kind == ImageKind::Ptx).context("a kernel without text")?;
    let ptx = std::str::from_utf8(&image.bytes)?;
    let mut calls = Vec::new();
    for cases in &shipped.calls {
        calls.push(call(shipped, cases)?);
    }
    clean(shipped.name, bundle, &mut calls, effort)?;
    calls.sort_by_key(|call| call.instructions);
    let all = mutants(ptx)?;
    let n_all = all.len();
    let mut numbers = 0;
    let chosen = |mutant: &Mutant| {
        numbers += usize::from(mutant.fault != enel_emulator::Fault::Order);
        mutant.fault == enel_emulator::Fault::Order || (numbers - 1) % effort.every.max(1) == 0
    };
    let all: Vec<Mutant> = all.into_iter().filter(chosen).collect();
    let progress = crate::enel::progress::Progress::count(shipped.name, all.len() as u64);
    let done = AtomicU64::new(0);
    let found = each(effort.threads, &all, |mutant| {
        let forms: Vec<Bundle> = (0..mutant.forms.len()).map(|f| with(bundle, mutant.apply(ptx, f))).collect();
        let tries = (0..SEEDS).flat_map(|seed| forms.iter().enumerate().map(move |form| (seed, form)));
        let caught = tries.into_iter().find_map(|(seed, (n, form))| Some((told(form, &calls, seed)?, n)));
        let is_reached = || told(&with(bundle, mutant.trap(ptx)), &calls, 0).is_some();
        let is_reached = caught.is_some() || is_reached();
        progress.at(done.fetch_add(1, Ordering::Relaxed) + 1);
        (caught, is_reached)
    });
    let mut hunt = Hunt {
        kernel: shipped.name.to_owned(),
        ptx: ptx.to_owned(),
        templates,
        planted: (all.len(), n_all),
        caught: BTreeMap::new(),
        by_larger: 0,
        equivalent: Vec::new(),
        missed: Vec::new(),
        seconds: 0.0,
    };
    let mut excuses = Excuses::of(shipped.name);
    for (mutant, (caught, is_reached)) in all.iter().zip(found) {
        if let Some((caught, form)) = caught {
            *hunt.caught.entry((mutant.fault.name(), caught)).or_default() += 1;
            hunt.by_larger += usize::from(form > 0);
        } else if let Some(reason) = excuses.reason(mutant) {
            hunt.equivalent.push((mutant.clone(), reason));
        } else {
            hunt.missed.push(Missed { mutant: mutant.clone(), is_reached });
        }
    }
    hunt.seconds = start.elapsed().as_secs_f64();
    Ok(hunt)
}

/// Runs every call under every schedule; what each costs is kept.
fn clean(kernel: &str, bundle: &Bundle, calls: &mut [Call<'_>], effort: Effort) -> Result<()> {
    let seeds = effort.schedules.max(SEEDS);
    let runs: Vec<(usize, u64)> = (0..calls.len()).flat_map(|call| (0..seeds).map(move |seed| (call, seed))).collect();
    let results = each(effort.threads, &runs, |&(call, seed)| run(bundle, &calls[call], seed, None));
    for (&(call, seed), result) in runs.iter().zip(results) {
        let wrong = |e: Failure| anyhow::anyhow!("{kernel} is wrong as it is, seed {seed}: {}", e.what);
        calls[call].instructions = calls[call].instructions.max(result.map_err(wrong)?);
    }
    Ok(())
}

/// What `work` makes of each item, in their order, on so many threads.
fn each<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    made.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, result)| result).collect()
}

fn call<'a>(shipped: &Shipped, cases: &'a [Case]) -> Result<Call<'a>> {
    let expected = cases.iter().zip(&shipped.near).map(|(case, near)| case.expected(*near));
    let expected = expected.collect::<Result<_, _>>().with_context(|| format!("a call of {}", shipped.name))?;
    let bytes = cases.iter().flat_map(|case| &case.buffers).map(Data::to_bytes).collect();
    let sizes = cases.iter().flat_map(|case| &case.sizes).copied().collect();
    Ok(Call { cases, expected, bytes, sizes, instructions: 0 })
}

/// The bundle with another text.
fn with(bundle: &Bundle, text: String) -> Bundle {
    let mut bundle = bundle.clone();
    for image in &mut bundle.images {
        image.bytes = text.clone().into_bytes();
    }
    bundle
}

/// What tells that a bundle holds no kernel of these calls; `None` if nothing does.
fn told(bundle: &Bundle, calls: &[Call<'_>], seed: u64) -> Option<Caught> {
    // A loop that does not end is told from one that takes a little longer.
    let mut runs = calls.iter().map(|call| run(bundle, call, seed, Some(4 * call.instructions + 4096)));
    runs.find_map(|result| result.err()).map(|failure| failure.caught)
}

/// Why a run is not accepted.
struct Failure {
    caught: Caught,
    what: String,
}

/// Runs a call and compares; the warp instructions it took.
fn run(bundle: &Bundle, call: &Call<'_>, seed: u64, most: Option<u64>) -> Result<u64, Failure> {
    let log = LaunchLog::default();
    let max_instructions = most.or(Options::default().max_instructions);
    let options = Options { seed, checks: Checks::all(), max_instructions, ..Options::default() };
    let mut device = Device::emulated(Emulation { options, log: Some(log.clone()) });
    let mut bytes = call.bytes.clone();
    let ran = device.run_kernel(bundle, 0, &mut bytes, &call.sizes);
    ran.map_err(|error| Failure { caught: catch(&error), what: format!("{:#}", anyhow::Error::from(error)) })?;
    let mut bytes = bytes.iter();
    for (case, expected) in call.cases.iter().zip(&call.expected) {
        let back = |(data, bytes): (&Data, &Vec<u8>)| Data::from_bytes(data.dtype(), bytes);
        let got: Vec<Data> = case.buffers.iter().zip(bytes.by_ref()).map(back).collect();
        expected.compare(&got).map_err(|error| Failure { caught: "value", what: error.to_string() })?;
    }
    Ok(log.take().iter().map(|(_, stats)| stats.warp_instructions).max().unwrap_or(0))
}

/// A short name for what a device reports.
fn catch(error: &DeviceError) -> Caught {
    let source = match error {
        DeviceError::Emulated { source, .. } => source,
        DeviceError::Unwritten { .. } => return "unwritten result",
        DeviceError::Launch { .. } => return "no valid text",
        _ => return "other",
    };
    match &**source {
        LaunchError::OutOfBounds { .. } => "out of bounds",
        LaunchError::Misaligned { .. } => "misaligned",
        LaunchError::Uninitialised { .. } => "unwritten read",
        LaunchError::Barrier { .. } | LaunchError::Mbarrier { .. } => "barrier",
        LaunchError::WarpSync { .. } => "warp mask",
        LaunchError::Accumulator { .. } => "accumulator",
        LaunchError::Wgmma { .. } => "wgmma registers",
        LaunchError::AsyncCopy { .. } => "copy",
        LaunchError::Ended { .. } => "ended block",
        LaunchError::Deadlock { .. } => "deadlock",
        LaunchError::TooManyInstructions { .. } => "endless",
        LaunchError::Race { finding } => match finding.cause {
            Cause::InFlight => "in flight",
            _ => "race",
        },
        _ => "other",
    }
}
