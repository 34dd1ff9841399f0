//! Does every missing barrier, fence, wait or mask show as a race, and no correct kernel as one?

mod common;

use common::{Gpu, fixture};
use enel_emulator::{Access, Arg, Cause, LaunchError, Race, Space};

/// Orders in which warps and blocks take turns.
const SCHEDULES: std::ops::Range<u64> = 0..20;

/// A kernel of `race.cu`: name, variants, blocks, threads.
const KERNELS: [(&str, u32, u32, u32); 15] = [
    ("neighbours", 4, 1, 128),
    ("lanes", 4, 1, 32),
    ("halves", 3, 1, 32),
    ("collide", 3, 3, 32),
    ("bytes", 3, 2, 128),
    ("last_block", 5, 4, 32),
    ("all_fence", 3, 4, 64),
    ("look_back", 3, 6, 32),
    ("acquire_release", 3, 6, 32),
    ("lock", 3, 3, 64),
    ("copies", 5, 1, 64),
    ("handover", 3, 1, 64),
    ("histogram", 4, 2, 128),
    ("shift", 2, 4, 128),
    ("fragment", 2, 1, 32),
];

struct Outcome {
    result: Result<(), LaunchError>,
    out: Vec<u32>,
    sync: Vec<u32>,
}

fn run(gpu: &mut Gpu, entry: &str, (blocks, threads): (u32, u32), seed: u64) -> Outcome {
    let input = gpu.upload(&(0..1024u32).collect::<Vec<_>>());
    let out = gpu.empty::<u32>(1024);
    let sync = gpu.upload(&[0u32; 64]);
    gpu.options.seed = seed;
    // A race shows under any schedule, an unwritten byte only where the reader came first.
    gpu.options.checks.uninitialised = false;
    // Blocks wait for each other in some of them.
    gpu.options.resident_blocks = blocks as usize;
    gpu.options.max_instructions = Some(1 << 20);
    let args = [input, out, sync].map(Arg::U64);
    let result = gpu.try_run(entry, [blocks, 1, 1], [threads, 1, 1], 0, &args).map(|_| ());
    Outcome { result, out: gpu.download(out, 1024), sync: gpu.download(sync, 64) }
}

fn race(gpu: &mut Gpu, entry: &str, shape: (u32, u32)) -> Race {
    match run(gpu, entry, shape, 0).result {
        Err(LaunchError::Race { finding }) => *finding,
        other => panic!("{entry}: {other:?}"),
    }
}

#[test]
fn right_kernels_are_silent_and_wrong_ones_are_found_under_every_schedule() {
    let mut gpu = Gpu::new(&fixture("race"));
    let mut bad = Vec::new();
    for (name, variants, blocks, threads) in KERNELS {
        for seed in SCHEDULES {
            for variant in 0..variants {
                let entry = format!("{name}_{variant}");
                let result = run(&mut gpu, &entry, (blocks, threads), seed).result;
                match (variant, &result) {
                    (0, Ok(())) | (1.., Err(LaunchError::Race { .. })) => {}
                    _ => bad.push(format!("{entry}, seed {seed}: {result:?}")),
                }
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn right_kernels_compute_what_they_should() {
    let mut gpu = Gpu::new(&fixture("race"));
    for seed in SCHEDULES {
        let total = run(&mut gpu, "last_block_0", (4, 32), seed).out[0];
        assert_eq!(total, (0..256).sum::<u32>());
        assert_eq!(run(&mut gpu, "look_back_0", (6, 32), seed).out[..6], [0, 1, 3, 6, 10, 15]);
        assert_eq!(run(&mut gpu, "acquire_release_0", (6, 32), seed).out[..6], [0, 1, 3, 6, 10, 15]);
        assert_eq!(run(&mut gpu, "lock_0", (3, 64), seed).sync[1], 6);
        assert_eq!(run(&mut gpu, "histogram_0", (2, 128), seed).sync[..8], [256; 8]);
    }
}

#[test]
fn a_finding_names_both_accesses_and_the_variable() {
    let mut gpu = Gpu::new(&fixture("race"));
    let Race { place, access, space, address, bytes, object, other, other_access, cause } =
        race(&mut gpu, "neighbours_1", (1, 128));
    let what = (access, space, bytes, other_access, cause);
    assert_eq!(what, (Access::Read, Space::Shared, 4, Access::Write, Cause::Unordered));
    let source = |line: u32| include_str!("fixtures/race.cu").lines().nth(line as usize - 1).unwrap().trim();
    let (file, line) = place.source.clone().unwrap();
    assert_eq!((file.as_str(), source(line)), ("race.cu", "const int got = tile[next];"));
    assert_eq!(source(other.source.clone().unwrap().1), "tile[t] = in[t];");
    assert_eq!((place.kernel.as_str(), place.block), ("neighbours_1", [0; 3]));
    // The reader of word t + 1, and its writer, another lane of its warp.
    assert_eq!((u64::from(other.thread[0]) * 4, place.thread[0] + 1), (address, other.thread[0]));
    assert!(object.contains("tile") && object.ends_with(&format!("+ {address}")), "{object}");
}

#[test]
fn findings_say_what_is_missing() {
    let mut gpu = Gpu::new(&fixture("race"));
    assert_eq!(race(&mut gpu, "copies_1", (1, 64)).cause, Cause::InFlight);
    assert_eq!(race(&mut gpu, "copies_2", (1, 64)).cause, Cause::InFlight);
    assert_eq!(race(&mut gpu, "copies_3", (1, 64)).cause, Cause::Unordered);
    let finding = race(&mut gpu, "collide_1", (1, 32));
    assert_eq!(
        (finding.cause, finding.place.thread, finding.other.thread),
        (Cause::SameInstruction, [1, 0, 0], [0; 3])
    );
    let finding = race(&mut gpu, "collide_2", (3, 32));
    assert_eq!((finding.space, finding.place.block, finding.other.block), (Space::Global, [1, 0, 0], [0; 3]));
    let text = finding.to_string();
    for part in ["race.cu:", "block (1, 0, 0)", "block (0, 0, 0)", "allocation of 4096 B", "kernel `collide_2`"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn races_are_found_with_many_host_threads_too() {
    let mut gpu = Gpu::new(&fixture("race"));
    gpu.options.threads = 4;
    let first = race(&mut gpu, "collide_2", (3, 32));
    for _ in 0..5 {
        let again = race(&mut gpu, "collide_2", (3, 32));
        assert_eq!((again.place, again.other), (first.place.clone(), first.other.clone()));
    }
}
