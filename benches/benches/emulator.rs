//! How fast is the emulator? Lane instructions per second of three kernels, with and without checks:
//! on the wall, and per second of one core where a single thread runs.
//!
//! `cargo bench -p enel-benches --bench emulator [NAME [MODE]]`; the best of several runs, results checked after each.

#![allow(clippy::print_stdout, reason = "the table is the result")]

use enel_emulator::{Arg, Checks, Launch, LaunchError, Memory, Module, Options, launch};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs of each row; the fastest counts, as others share the machine.
const RUNS: usize = 5;
/// Elements of the pointwise kernels.
const N: usize = 1 << 20;
/// Sides of the matmul.
const SIDE: usize = 512;

struct Case {
    name: &'static str,
    fixture: &'static str,
    entry: &'static str,
    grid: [u32; 3],
    threads: u32,
    args: Vec<Given>,
}

/// One launch: time on the wall, time on a core, what it executed and left.
struct Ran {
    wall: Duration,
    core: Option<Duration>,
    lane_instructions: u64,
    out: Vec<u8>,
}

enum Given {
    In(Vec<u8>),
    Out(usize),
    Value(Arg),
}

fn floats(n: usize) -> Given {
    Given::In((0..n).flat_map(|i| ((i % 97) as f32 / 97.0).to_le_bytes()).collect())
}

/// bf16 values that are exact: small multiples of 1/16.
fn halves(n: usize) -> Given {
    Given::In((0..n).flat_map(|i| ((((i % 13) as f32 / 16.0).to_bits() >> 16) as u16).to_le_bytes()).collect())
}

fn cases() -> Vec<Case> {
    let n = Given::Value(Arg::I32(N as i32));
    let side = || Given::Value(Arg::I32(SIDE as i32));
    let blocks = (SIDE / 32) as u32;
    vec![
        Case {
            name: "pointwise",
            fixture: "basic",
            entry: "vector_add",
            grid: [(N / 256) as u32, 1, 1],
            threads: 256,
            args: vec![floats(N), floats(N), Given::Out(4 * N), n],
        },
        Case {
            name: "pointwise, grid stride",
            fixture: "basic",
            entry: "saxpy_stride",
            grid: [64, 1, 1],
            threads: 256,
            args: vec![Given::Value(Arg::F32(0.5)), floats(N), floats(N), Given::Value(Arg::I64(N as i64))],
        },
        Case {
            name: "matmul 512x512x512 bf16",
            fixture: "tensor",
            entry: "matmul_bf16",
            grid: [blocks, blocks, 1],
            threads: 128,
            args: vec![halves(SIDE * SIDE), halves(SIDE * SIDE), Given::Out(4 * SIDE * SIDE), side(), side(), side()],
        },
    ]
}

/// Time this thread has spent on a core, where the system tells: what others do on the machine does not count.
fn core_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Time and lane instructions of one launch, and the memory after it.
fn run(case: &Case, module: &Module, options: &Options) -> Result<Ran, LaunchError> {
    let mut memory = Memory::new();
    let mut last = (0, 0);
    let mut args = Vec::new();
    for given in &case.args {
        let (address, bytes) = match given {
            Given::Value(arg) => {
                args.push(arg.clone());
                continue;
            }
            Given::In(bytes) => {
                let address = memory.alloc(bytes.len()).expect("a few MiB fit");
                memory.write(address, bytes).expect("the range was just allocated");
                (address, bytes.len())
            }
            Given::Out(bytes) => (memory.alloc(*bytes).expect("a few MiB fit"), *bytes),
        };
        last = (address, bytes);
        args.push(Arg::U64(address));
    }
    let what = Launch {
        entry: case.entry,
        grid: case.grid,
        block: [case.threads, 1, 1],
        cluster: None,
        dynamic_smem_bytes: 0,
        args: &args,
    };
    let (start, start_core) = (Instant::now(), core_time());
    let stats = launch(module, &mut memory, &what, options)?;
    let (wall, end_core) = (start.elapsed(), core_time());
    let core = end_core.zip(start_core).map(|(end, start)| end.saturating_sub(start));
    let mut out = vec![0; last.1];
    memory.read(last.0, &mut out).expect("the range was just allocated");
    Ok(Ran { wall, core, lane_instructions: stats.lane_instructions, out })
}

fn main() {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (name, wanted) = (filters.next().unwrap_or_default(), filters.next().unwrap_or_default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let plain = Options { checks: Checks::none(), threads, ..Options::default() };
    let bounds = Options { checks: Checks { races: false, ..Checks::all() }, threads, ..Options::default() };
    let modes = [
        ("no checks", plain),
        ("no checks, one thread", Options { threads: 1, ..plain }),
        ("all but races", bounds),
        ("all checks", Options::default()),
        ("counters", Options { counters: true, ..plain }),
    ];
    println!("{threads} host threads; best of {RUNS}");
    println!("{:24} {:22} {:>10} {:>14} {:>14}", "kernel", "mode", "ms", "M lanes/s", "of one core");
    for case in cases().iter().filter(|case| case.name.contains(&name)) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../emulator/tests/fixtures/{}.nvrtc-13.0.88.ptx", case.fixture));
        let text = std::fs::read_to_string(path).expect("fixtures lie in the tree");
        let module = Module::parse(&text).expect("fixtures parse");
        let mut expected = None;
        for (mode, options) in modes.into_iter().filter(|(mode, _)| mode.contains(&wanted)) {
            let (mut wall, mut core, mut lanes) = (Duration::MAX, Duration::MAX, 0);
            for _ in 0..RUNS {
                let ran = run(case, &module, &options).unwrap_or_else(|e| panic!("{} {mode}: {e}", case.name));
                (wall, lanes) = (wall.min(ran.wall), ran.lane_instructions);
                core = core.min(ran.core.unwrap_or(ran.wall));
                assert!(*expected.get_or_insert_with(|| ran.out.clone()) == ran.out, "{mode} changes results");
            }
            let rate = |time: Duration| lanes as f64 / time.as_secs_f64() / 1e6;
            let ms = wall.as_secs_f64() * 1e3;
            // Other threads' time on a core is not this thread's.
            let is_alone = options.threads == 1 || options.checks.races;
            let alone = if is_alone { format!("{:.0}", rate(core)) } else { "-".to_owned() };
            println!("{:24} {mode:22} {ms:>10.1} {:>14.0} {alone:>14}", case.name, rate(wall));
        }
    }
}
