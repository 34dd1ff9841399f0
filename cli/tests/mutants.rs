//! Are faults in shipped kernels noticed? Everything that orders is deleted in turn, of the numbers a sample is changed.
//!
//! `enel-compile verify --mutants` changes all of them, in a few minutes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use enel_cli::compile::toolchain;
use enel_cli::compile::verify::mutants::hunt::Effort;
use enel_cli::compile::verify::{mutants, runner::Runner};
use enel_nvrtc::locate;
use std::collections::BTreeSet;

/// Schedules under which no kernel may give a finding.
const SCHEDULES: u64 = 20;
/// Of this many numbers one is changed.
const EVERY: usize = 17;

#[test]
fn faults_in_shipped_kernels_are_noticed() {
    if let Err(error) = locate(&toolchain::search()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs NVRTC: {error}");
        println!("skipped: no NVRTC");
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let effort = Effort { schedules: SCHEDULES, every: EVERY, threads };
    let mut runner = Runner::open("emulated").unwrap();
    let hunts = mutants::hunts(&mut runner, |_| true, effort, |_| Ok(())).unwrap();

    let used: BTreeSet<&str> = hunts.iter().flat_map(|hunt| hunt.templates.iter().copied()).collect();
    assert_eq!(used, enel_codegen::templates().collect(), "every template is shipped, and hunted in");

    let missed = hunts.iter().flat_map(|hunt| hunt.missed.iter().map(move |missed| (&hunt.kernel, &missed.mutant)));
    let missed: Vec<String> = missed.map(|(kernel, mutant)| format!("{kernel}: {mutant}")).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
