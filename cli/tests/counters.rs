//! Do kernels still execute and move what they did? Exact counts on the emulator against golden files.
//!
//! `BLESS=1` rewrites them; a change there is a change of a template, a config or the compiler, and says which kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use enel_cli::compile::counters::{MOST_TILING, Sizes, count, exact, fills, gpu, row, tiling_past_l1};
use enel_cli::compile::toolchain;
use enel_cli::{device, source};
use enel_emulator::Stats;
use enel_lower::FrontConfig;
use enel_nvrtc::{Arch, locate};
use enel_passes::{Mode, Passes};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Graph, mode, size, integer inputs that are not offsets.
const CASES: [(&str, Mode, i64, &[&str]); 6] = [
    ("lga", Mode::F32, 2, &[]),
    ("lga", Mode::Bf16, 2, &[]),
    ("bert", Mode::F32, 64, &["low=0"]),
    ("bert", Mode::Bf16, 64, &["low=0"]),
    ("set_abstraction", Mode::F32, 2, &[]),
    ("conv1d", Mode::Bf16, 2, &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether kernels can be compiled; where `CI=true` they must.
fn has_compiler() -> bool {
    match locate(&toolchain::search()) {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs NVRTC: {error}");
            println!("skipped: no NVRTC");
            false
        }
    }
}

/// Also: past L1 no block moves its sectors much more often than once, in any family.
#[test]
fn kernels_execute_and_move_what_they_did() {
    if !has_compiler() {
        return;
    }
    let (mut changed, mut moved) = (Vec::new(), Vec::new());
    for (name, mode, size, fill) in CASES {
        let graph = source::read_graph(&root().join(format!("tests/graphs/{name}.tir"))).unwrap();
        let config = FrontConfig { mode, passes: Passes::AllBut(vec![]), memory: None };
        let bundle = Arc::new(device::build(&[&graph], &config, &[Arch::COMPUTE_80]).unwrap());
        let plan = &bundle.plans[0];
        let symbols: Vec<i64> = plan.symbols.iter().map(|s| size.clamp(s.min, s.max)).collect();
        let fill = fills(&fill.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let rows = count(&bundle, plan, Sizes { symbols: &symbols, fill: &fill }).unwrap();
        for row in rows.iter().filter(|row| tiling_past_l1(&row.stats) > MOST_TILING) {
            moved.push(format!("{name} {}: {:.2}", row.kernel, tiling_past_l1(&row.stats)));
        }
        let text: String = rows.iter().map(|row| exact(row) + "\n").collect();
        let path = root().join(format!("cli/tests/counters/{name}-{}.txt", bundle.mode));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != text {
            let first = golden.lines().zip(text.lines()).find(|(x, y)| x != y);
            changed.push(format!("{}: {first:?}", path.display()));
        }
    }
    assert!(changed.is_empty(), "BLESS=1 rewrites:\n{}", changed.join("\n"));
    assert!(moved.is_empty(), "a block's sectors move more than {MOST_TILING} times past L1:\n{}", moved.join("\n"));
}

#[test]
fn a_row_tells_what_bounds_a_kernel() {
    let mut stats = Stats { blocks: 132, warp_instructions: 4, lane_instructions: 64, ..Stats::default() };
    stats.tensor_flops = 989_400_000_000;
    let row = row(
        &enel_cli::compile::counters::KernelCounts { kernel: "k".to_owned(), launches: 1, stats },
        gpu("h100-sxm").unwrap(),
    );
    assert_eq!((row["active_lanes"].as_f64(), row["roofline"]["bound"].as_str()), (Some(0.5), Some("tensor")));
    assert_eq!(row["roofline"]["time_us"].as_f64().unwrap().round(), 1000.0);
    assert!(gpu("abacus").unwrap_err().to_string().contains("h100-sxm"));
    assert!(fills(&["low".to_owned()]).is_err());
}
