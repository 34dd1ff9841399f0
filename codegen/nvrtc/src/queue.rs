//! Many units, few threads: who compiles what, and in which order do results come back?
//!
//! Threads take units from one counter; results keep the order of the units whatever the number of threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::{Cache, CacheError, Lookup};
use crate::compile::{CompileError, Compiled, Compiler, Unit};

/// The stack a main thread has by default; the compiler recurses over the program, and spawned threads get less.
const STACK_BYTES: usize = 8 << 20;

/// How a unit came to its result.
#[derive(Debug)]
pub enum Outcome {
    /// Found in the cache.
    Hit,
    /// Compiled, and stored if there is a cache.
    Compiled,
    /// Compiled, because its entry in the cache was damaged.
    Repaired,
    /// Compiled, but the cache could not be read or written.
    Uncached(CacheError),
    /// It does not compile.
    Failed,
}

/// Told to the caller after each unit, from the thread that did it.
#[derive(Debug)]
pub struct Finished<'a> {
    /// Units done, this one included.
    pub n_done: usize,
    /// Units in all.
    pub n_units: usize,
    /// The unit's name.
    pub name: &'a str,
    /// How it came to its result.
    pub outcome: &'a Outcome,
    /// How long it took.
    pub elapsed: Duration,
}

/// Compiles all units on at most `threads` threads; result `i` belongs to unit `i`.
///
/// A cache that does not work is told to `progress` and costs time only.
pub fn compile_all(
    compiler: &Compiler,
    cache: Option<&Cache>,
    units: &[Unit<'_>],
    threads: NonZeroUsize,
    progress: &(dyn Fn(Finished<'_>) + Sync),
) -> Vec<Result<Compiled, CompileError>> {
    let next = AtomicUsize::new(0);
    let n_done = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Compiled, CompileError>>>> = Mutex::new(units.iter().map(|_| None).collect());
    let work = || {
        while let Some((at, unit)) = take(&next, units) {
            let start = Instant::now();
            let (result, outcome) = compile_one(compiler, cache, unit);
            let n_done = n_done.fetch_add(1, Ordering::Relaxed) + 1;
            let (n_units, elapsed) = (units.len(), start.elapsed());
            progress(Finished { n_done, n_units, name: unit.name, outcome: &outcome, elapsed });
            results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
        }
    };
    thread::scope(|scope| {
        // If the system grants fewer threads, the ones there are do all the work.
        let n_threads = threads.get().min(units.len());
        let spawned = (1..=n_threads)
            .map_while(|_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok())
            .count();
        if spawned == 0 {
            work();
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| result.expect("the scope ends when every unit is done")).collect()
}

fn take<'u, 's>(next: &AtomicUsize, units: &'u [Unit<'s>]) -> Option<(usize, &'u Unit<'s>)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    units.get(at).map(|unit| (at, unit))
}

fn compile_one(
    compiler: &Compiler,
    cache: Option<&Cache>,
    unit: &Unit<'_>,
) -> (Result<Compiled, CompileError>, Outcome) {
    let Some(cache) = cache else {
        let result = compiler.compile(unit);
        let outcome = if result.is_ok() { Outcome::Compiled } else { Outcome::Failed };
        return (result, outcome);
    };
    let key = compiler.key(unit);
    let on_success = match cache.get(&key) {
        Ok(Lookup::Hit(compiled)) => return (Ok(compiled), Outcome::Hit),
        Ok(Lookup::Miss) => Outcome::Compiled,
        Ok(Lookup::Corrupt) => Outcome::Repaired,
        Err(error) => Outcome::Uncached(error),
    };
    match compiler.compile(unit) {
        Ok(compiled) => {
            let outcome = match cache.put(&key, &compiled) {
                Ok(()) => on_success,
                Err(error) => Outcome::Uncached(error),
            };
            (Ok(compiled), outcome)
        }
        Err(error) => (Err(error), Outcome::Failed),
    }
}
