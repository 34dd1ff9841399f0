//! Are faults in shipped kernels noticed? Everything that orders is deleted in turn, of the numbers a sample is changed.
//!
//! `enel-compile verify --mutants` changes all of them. `BLESS=1` rewrites how many of the sample pass unnoticed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use enel_cli::compile::toolchain;
use enel_cli::compile::verify::mutants::hunt::Effort;
use enel_cli::compile::verify::{mutants, runner::Runner};
use enel_emulator::Fault;
use enel_nvrtc::locate;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Schedules under which no kernel may give a finding.
const SCHEDULES: u64 = 20;
/// Of this many numbers one is changed.
const EVERY: usize = 97;

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

    let orders = [Fault::Order, Fault::Wait];
    let unordered = hunts.iter().flat_map(|hunt| hunt.missed.iter().map(move |missed| (&hunt.kernel, &missed.mutant)));
    let unordered = unordered.filter(|(_, mutant)| orders.contains(&mutant.fault));
    let unordered: Vec<String> = unordered.map(|(kernel, mutant)| format!("{kernel}: {mutant}")).collect();
    assert!(unordered.is_empty(), "{}", unordered.join("\n"));

    let found: BTreeMap<&str, usize> =
        hunts.iter().filter(|h| !h.missed.is_empty()).map(|h| (h.kernel.as_str(), h.missed.len())).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants.txt");
    if std::env::var_os("BLESS").is_some() {
        let text: String = found.iter().map(|(kernel, n)| format!("{kernel} {n}\n")).collect();
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    let known: BTreeMap<&str, usize> =
        known.lines().filter_map(|line| line.split_once(' ')).map(|(kernel, n)| (kernel, n.parse().unwrap())).collect();
    for hunt in &hunts {
        let missed: Vec<String> = hunt.missed.iter().map(|missed| missed.mutant.to_string()).collect();
        let allowed = known.get(hunt.kernel.as_str()).copied().unwrap_or(0);
        assert!(missed.len() <= allowed, "{}:\n{}", hunt.kernel, missed.join("\n"));
    }
}
