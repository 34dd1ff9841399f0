//! Does a property hold for drawn calls? Draws from a seed, keeps the worst ratio, and shrinks the first call that fails.

use anyhow::Result;
use enel_verify::Nearness;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::RefCell;
use std::time::Instant;

/// Calls tried to make a failing one smaller; each may compile a kernel.
const MAX_SHRINKS: u32 = 100;

/// How much is drawn, from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Calls.
    pub cases: u32,
    /// Where they come from.
    pub seed: u64,
}

/// Nothing runs on the device any more, so a call that fails there says nothing of its kernel.
#[derive(Clone, Copy, Debug)]
pub struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the device is lost since a kernel failed on it")
    }
}

impl std::error::Error for Lost {}

/// What became of one family or kernel.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Family or kernel.
    pub name: String,
    /// Its family.
    pub family: String,
    /// Calls that ran and were near, before the first that was not.
    pub cases: u32,
    /// Largest error over its tolerance.
    pub worst: f64,
    /// What it took.
    pub seconds: f64,
    /// The smallest call that fails.
    pub failure: Option<Failure>,
}

/// A call that gives something wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was drawn.
    pub call: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Draws `settings.cases` calls and runs each; `run` says how near it came.
pub fn prove<S: Strategy>(
    (name, family): (&str, &str),
    strategy: &S,
    settings: Settings,
    run: impl FnMut(S::Value) -> Result<Nearness>,
) -> Proof {
    let start = Instant::now();
    let progress = super::progress(name, settings.cases);
    let config =
        Config { cases: settings.cases, failure_persistence: None, max_shrink_iters: MAX_SHRINKS, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng(settings.seed));
    // The runner wants a function that changes nothing.
    let state = RefCell::new((run, 0u32, 0f64, false));
    let outcome = runner.run(strategy, |value| {
        let (run, cases, worst, failed) = &mut *state.borrow_mut();
        match run(value) {
            // What passes while a failure shrinks does not count, nor does what could not be tried.
            Ok(_) if *failed => Ok(()),
            Err(error) if *failed && error.is::<Lost>() => Ok(()),
            Ok(Nearness(ratio)) => {
                (*cases, *worst) = (*cases + 1, worst.max(ratio));
                progress.at((*cases).into());
                Ok(())
            }
            Err(error) => {
                *failed = true;
                Err(TestCaseError::fail(format!("{error:#}")))
            }
        }
    });
    let failure = match outcome {
        Ok(()) => None,
        Err(TestError::Fail(reason, value)) => Some(Failure { call: format!("{value:?}"), reason: reason.to_string() }),
        Err(TestError::Abort(reason)) => {
            Some(Failure { call: "no call was drawn".to_owned(), reason: reason.to_string() })
        }
    };
    let (_, cases, worst, _) = state.into_inner();
    let (name, family) = (name.to_owned(), family.to_owned());
    Proof { name, family, cases, worst, seconds: start.elapsed().as_secs_f64(), failure }
}

/// Equal seeds draw equal calls.
fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
