//! Do kernels of compute capability 9.0 give the right result under every schedule, and a finding when a wait is missing?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{Gpu, Numbers, SEEDS, fixture};
use enel_emulator::{Arg, Cause, Fill, LaunchError, MapElement, Race, Swizzle, TensorMap};
use half::bf16;

/// Seeds for schedules of asynchronous copies: their order matters more than that of warps.
const MANY: std::ops::Range<u64> = 0..12;

fn gpu(seed: u64) -> Gpu {
    gpu_of(&fixture("hopper"), seed)
}

fn gpu_of(text: &str, seed: u64) -> Gpu {
    let mut gpu = Gpu::new(text);
    gpu.options.seed = seed;
    gpu.options.max_instructions = Some(2_000_000);
    gpu
}

fn map_2d(address: u64, element: MapElement, dims: [u64; 2], box_dims: [u32; 2], swizzle: Swizzle) -> Arg {
    let map = TensorMap {
        address,
        element,
        dims: dims.to_vec(),
        strides_bytes: vec![dims[0] * u64::from(element.bytes())],
        box_dims: box_dims.to_vec(),
        elem_strides: vec![1, 1],
        swizzle,
        fill: Fill::Zeros,
    };
    Arg::Bytes(map.encode().unwrap().to_vec())
}

struct Product {
    want: Vec<f64>,
    got: Vec<f32>,
}

fn matmul(text: &str, seed: u64, [m, n, k]: [usize; 3]) -> Result<Product, LaunchError> {
    let mut gpu = gpu_of(text, seed);
    let mut numbers = Numbers(seed + 1);
    let mut draw = |n: usize| -> Vec<bf16> { (0..n).map(|_| bf16::from_f32(numbers.float())).collect() };
    let (a, b) = (draw(m * k), draw(n * k));
    let bits = |v: &[bf16]| v.iter().map(|x| x.to_bits()).collect::<Vec<u16>>();
    let (da, db, dc) = (gpu.upload(&bits(&a)), gpu.upload(&bits(&b)), gpu.empty::<f32>(m * n));
    let args = [
        map_2d(da, MapElement::Bf16, [k as u64, m as u64], [64, 64], Swizzle::B128),
        map_2d(db, MapElement::Bf16, [k as u64, n as u64], [64, 64], Swizzle::B128),
        map_2d(dc, MapElement::F32, [n as u64, m as u64], [32, 64], Swizzle::None),
        Arg::I32(k.next_multiple_of(64) as i32),
    ];
    let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
    gpu.try_run("matmul", grid, [256, 1, 1], 32768, &args)?;
    let value = |v: &[bf16], i: usize| v[i].to_f64();
    let dot = |i: usize| (0..k).map(|p| value(&a, i / n * k + p) * value(&b, i % n * k + p)).sum();
    Ok(Product { want: (0..m * n).map(dot).collect(), got: gpu.download(dc, m * n) })
}

fn check(product: &Product, k: usize) {
    for (got, want) in product.got.iter().zip(&product.want) {
        // One rounding to f32 for each 16 of K, of sums of at most K terms below 1.
        let bound = (k / 16 + 1) as f64 * k as f64 * 2f64.powi(-24);
        assert!((f64::from(*got) - want).abs() <= bound, "{got} {want}");
    }
}

#[test]
fn matmul_with_tensor_copies_and_wgmma() {
    let text = fixture("hopper");
    for seed in MANY {
        check(&matmul(&text, seed, [128, 64, 256]).unwrap_or_else(|e| panic!("{seed}: {e}")), 256);
    }
    // Ragged extents: boxes leave the tensors, K too.
    check(&matmul(&text, 5, [72, 40, 136]).unwrap_or_else(|e| panic!("{e}")), 192);
}

/// Where the instructions that hold `what` start and end.
fn instructions_with(text: &str, what: &str) -> Vec<(usize, usize)> {
    let end = |from: usize| from + text[from..].find(';').unwrap() + 1;
    // The opcode may start earlier than `what`.
    let start = |at: usize| text[..at].rfind([' ', '\n', '\t', ';', ':']).map_or(0, |i| i + 1);
    text.match_indices(what).map(|(at, _)| (start(at), end(at))).collect()
}

/// Whether any schedule shows that something is wrong.
fn is_caught(text: &str) -> bool {
    MANY.into_iter().any(|seed| match matmul(text, seed, [64, 64, 320]) {
        Err(_) => true,
        Ok(product) => {
            product.got.iter().zip(&product.want).any(|(g, w)| (f64::from(*g) - w).abs() > 1e-2 || g.is_nan())
        }
    })
}

#[test]
fn every_missing_wait_of_the_matmul_shows() {
    let text = fixture("hopper");
    let end = text.find(".entry cluster_sum").unwrap();
    assert!(!is_caught(&text));
    for what in [
        "wgmma.fence",
        "wgmma.wait_group",
        "mbarrier.try_wait",
        "wgmma.commit_group",
        "mbarrier.arrive.shared",
        "bulk.wait_group",
    ] {
        let found = instructions_with(&text[..end], what);
        assert!(!found.is_empty(), "{what}");
        for (from, to) in found {
            let line = &text[from..to];
            // A wait that is never taken: the branch back falls through.
            let replaced = if what == "mbarrier.try_wait" {
                let p = line.split("b64 ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
                format!("setp.eq.u32 {p}, 0, 0;")
            } else {
                String::new()
            };
            let broken = format!("{}{replaced}{}", &text[..from], &text[to..]);
            assert!(is_caught(&broken), "{what}: {line}");
        }
    }
}

#[test]
fn a_cluster_adds_through_distributed_shared_memory() {
    for seed in MANY {
        let mut gpu = gpu(seed);
        let x: Vec<i32> = (0..256).map(|i| i * i % 97).collect();
        let (input, out) = (gpu.upload(&x), gpu.empty::<i32>(256));
        gpu.run("cluster_sum", 8, 32, &[Arg::U64(input), Arg::U64(out)]);
        let want: Vec<i32> = (0..256)
            .map(|i| {
                let (cluster, rank, t) = (i / 128, i / 32 % 4, i % 32);
                (0..4).map(|r| x[cluster * 128 + (rank + r) % 4 * 32 + t] * (r as i32 + 1)).sum()
            })
            .collect();
        assert_eq!(gpu.download::<i32>(out, 256), want);
    }
}

#[test]
fn a_cluster_barrier_is_missed_when_it_is_missing() {
    let text = fixture("hopper");
    let at = text.find(".entry cluster_sum").unwrap();
    let from = at + text[at..].find("barrier.cluster.arrive").unwrap();
    let to = from + text[from..].find("barrier.cluster.wait").unwrap();
    let to = to + text[to..].find(';').unwrap() + 1;
    let broken = format!("{}{}", &text[..from], &text[to..]);
    let caught = MANY.into_iter().any(|seed| {
        let mut gpu = gpu_of(&broken, seed);
        let (input, out) = (gpu.upload(&[1i32; 128]), gpu.empty::<i32>(128));
        gpu.try_run("cluster_sum", [4, 1, 1], [32, 1, 1], 0, &[Arg::U64(input), Arg::U64(out)]).is_err()
    });
    assert!(caught);
}

#[test]
fn multicast_feeds_both_blocks() {
    for seed in MANY {
        let mut gpu = gpu(seed);
        let x: Vec<f32> = (0..32 * 16).map(|i| i as f32).collect();
        let (input, out) = (gpu.upload(&x), gpu.empty::<f32>(1024));
        let map = map_2d(input, MapElement::F32, [32, 16], [32, 4], Swizzle::None);
        gpu.run("multicast", 2, 32, &[map, Arg::U64(out)]);
        let want: Vec<f32> = (0..1024).map(|i| x[i % 512] + (i / 512) as f32).collect();
        assert_eq!(gpu.download::<f32>(out, 1024), want, "{seed}");
    }
}

#[test]
fn bulk_copies_go_everywhere() {
    for seed in MANY {
        let mut gpu = gpu(seed);
        let x: Vec<i32> = (0..128).map(|i| 3 * i + 1).collect();
        let (input, out, sum) = (gpu.upload(&x), gpu.empty::<i32>(128), gpu.upload(&[5i32; 64]));
        gpu.run("bulk", 2, 32, &[Arg::U64(input), Arg::U64(out), Arg::U64(sum)]);
        let want: Vec<i32> = (0..128).map(|i| x[(i + 64) % 128]).collect();
        assert_eq!(gpu.download::<i32>(out, 128), want);
        let want: Vec<i32> = (0..64).map(|i| 5 + x[i] + x[64 + i]).collect();
        assert_eq!(gpu.download::<i32>(sum, 64), want);
    }
}

#[test]
fn remote_stores_announce_themselves() {
    for seed in MANY {
        let mut gpu = gpu(seed);
        let out = gpu.empty::<i32>(192);
        gpu.run("remote_stores", 2, 32, &[Arg::U64(out)]);
        let got = gpu.download::<i32>(out, 192);
        for rank in 0..2 {
            let from = 100 * (1 - rank as i32);
            for t in 0..32 {
                let row = &got[rank * 96..];
                assert_eq!((row[t], row[32 + t]), (from + t as i32, t as i32));
                assert_eq!(row[64 + t], 32 * from + 496);
            }
        }
    }
}

#[test]
fn an_mbarrier_announces_cp_async() {
    for seed in SEEDS {
        let mut gpu = gpu(seed);
        let x: Vec<i32> = (0..128).collect();
        let (input, out) = (gpu.upload(&x), gpu.empty::<i32>(128));
        gpu.run("announced", 1, 32, &[Arg::U64(input), Arg::U64(out)]);
        assert_eq!(gpu.download::<i32>(out, 128), x.iter().rev().copied().collect::<Vec<_>>());
    }
}

/// The text of `entry` on, with its instruction number `index` that holds `what` replaced.
fn without(text: &str, entry: &str, (what, index): (&str, usize), replacement: &str) -> String {
    let start = text.find(&format!(".entry {entry}(")).unwrap();
    let (from, to) = instructions_with(&text[start..], what)[index];
    format!("{}{replacement}{}", &text[..start + from], &text[start + to..])
}

fn race(result: Result<(), LaunchError>) -> Race {
    match result {
        Err(LaunchError::Race { finding }) => *finding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_proxy_fence_is_found_under_every_schedule() {
    let text = fixture("hopper");
    // The first of the matmul follows its mbarriers, the second its result tile.
    let broken = without(&text, "matmul", ("fence.proxy.async", 1), "");
    for seed in MANY {
        let finding = race(matmul(&broken, seed, [64, 64, 64]).map(|_| ()));
        assert_eq!(finding.cause, Cause::ProxyFence, "{seed}: {finding}");
    }
}

#[test]
fn races_through_clusters_and_mbarriers_are_found_under_every_schedule() {
    let text = fixture("hopper");
    let apart = without(&text, "cluster_sum", ("barrier.cluster.arrive", 0), "");
    let apart = without(&apart, "cluster_sum", ("barrier.cluster.wait", 0), "");
    // Nobody waits until the mbarrier is initialised; nobody waits for what it announces.
    let early = without(&text, "announced", ("bar.sync", 0), "");
    let hasty = without(&text, "announced", ("mbarrier.try_wait", 0), "setp.eq.u32 p, 0, 0;");
    for seed in MANY {
        let mut gpu = gpu_of(&apart, seed);
        gpu.options.checks.uninitialised = false;
        let args = [gpu.upload(&[1i32; 128]), gpu.empty::<i32>(128)].map(Arg::U64);
        let finding = race(gpu.try_run("cluster_sum", [4, 1, 1], [32, 1, 1], 0, &args).map(|_| ()));
        assert_ne!(finding.place.block, finding.other.block, "{seed}: {finding}");
        for (broken, cause) in [(&early, Cause::Unordered), (&hasty, Cause::InFlight)] {
            let mut gpu = gpu_of(broken, seed);
            gpu.options.checks.uninitialised = false;
            let args = [gpu.upload(&[1i32; 128]), gpu.empty::<i32>(128)].map(Arg::U64);
            let finding = race(gpu.try_run("announced", [1, 1, 1], [32, 1, 1], 0, &args).map(|_| ()));
            assert_eq!(finding.cause, cause, "{seed}: {finding}");
        }
    }
}

/// A block of `threads` whose warps 0 to `n - 1` ask for 40 registers, the others for `others`.
fn asks(threads: u32, n: u32, (direction, others): (&str, u32)) -> Result<(), String> {
    let text = format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{{\n.reg .pred %p<2>;\n.reg .b32 %r<3>;\n\
         mov.u32 %r1, %tid.x;\nshr.u32 %r2, %r1, 5;\nsetp.lt.u32 %p1, %r2, {n};\n@%p1 bra FEW;\n\
         setmaxnreg.{direction}.sync.aligned.u32 {others};\nret;\nFEW:\nsetmaxnreg.dec.sync.aligned.u32 40;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    gpu.try_run("k", [1; 3], [threads, 1, 1], 0, &[]).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_warpgroup_asks_for_registers_as_one_and_a_block_for_what_there_is() {
    assert_eq!(asks(384, 4, ("inc", 232)), Ok(()));
    let split = asks(128, 1, ("dec", 48)).unwrap_err();
    assert!(split.contains("another warp of the warpgroup"), "{split}");
    let much = asks(512, 4, ("inc", 240)).unwrap_err();
    assert!(much.contains("the block's warps ask for"), "{much}");
}
