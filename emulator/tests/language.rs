//! Do parameters by value, constant tables, vectors, dynamic shared memory and packed keys survive the trip through PTX?

mod common;

use common::{Gpu, Numbers, SEEDS, fixture};
use enel_emulator::Arg;

fn gpu() -> Gpu {
    Gpu::new(&fixture("language"))
}

#[test]
fn structs_by_value() {
    let mut gpu = gpu();
    let (data, out) = (gpu.upload(&[10f32, 20.0, 30.0]), gpu.empty::<f32>(3));
    let mut bytes = 0.5f32.to_le_bytes().to_vec();
    [1i32, -2, 3].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes.extend(data.to_le_bytes());
    gpu.run("by_value", 1, 32, &[Arg::Bytes(bytes), Arg::U64(out)]);
    assert_eq!(gpu.download::<f32>(out, 3), [6.0, 8.0, 18.0]);
}

#[test]
fn vector_loads_and_stores() {
    let mut gpu = gpu();
    let x: Vec<f32> = (0..200).map(|i| i as f32).collect();
    let (a, b, c) = (gpu.upload(&x), gpu.empty::<f32>(200), gpu.empty::<u8>(200));
    gpu.run("vectors", 2, 32, &[Arg::U64(a), Arg::U64(b), Arg::U64(c), Arg::I32(50)]);
    let want: Vec<f32> = x.chunks(4).flat_map(|v| v.iter().rev().copied()).collect();
    assert_eq!(gpu.download::<f32>(b, 200), want);
    assert_eq!(gpu.download::<u8>(c, 200), (0..200).collect::<Vec<u8>>());
}

#[test]
fn constant_tables() {
    let mut gpu = gpu();
    let out = gpu.empty::<f32>(16);
    gpu.run("constants", 1, 16, &[Arg::U64(out)]);
    let want: Vec<f32> = (0..16u32).map(|i| (1 << ((i * 3) & 7)) as f32).collect();
    assert_eq!(gpu.download::<f32>(out, 16), want);
}

#[test]
fn static_and_dynamic_shared_memory_side_by_side() {
    for seed in SEEDS {
        let mut gpu = gpu();
        gpu.options.seed = seed;
        let n = 64;
        let out = gpu.empty::<f32>(n);
        gpu.try_run("mixed_shared", [1; 3], [64, 1, 1], 64 * 6, &[Arg::U64(out), Arg::I32(64)]).unwrap();
        let pick = |t: usize| if t % 2 == 1 { (t & 3) as f32 } else { 1000.0 * (t & 3) as f32 };
        let want: Vec<f32> = (0..n).map(|t| pick(t) + 3.0 * (n - 1 - t) as f32).collect();
        assert_eq!(gpu.download::<f32>(out, n), want);
        let error =
            gpu.try_run("mixed_shared", [1; 3], [64, 1, 1], 64 * 6 - 2, &[Arg::U64(out), Arg::I32(64)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("shared") && text.contains("language.cu:"), "{text}");
    }
}

#[test]
fn philox_matches_its_published_vector() {
    let mut gpu = gpu();
    let out = gpu.empty::<u32>(4 * 32);
    gpu.run("philox", 1, 32, &[Arg::U64(out), Arg::U64(0)]);
    // Philox4x32-10 with zero key and counter: known-answer file of Random123 (Salmon et al. 2011).
    assert_eq!(gpu.download::<u32>(out, 4), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
}

#[test]
fn nearest_point_is_exact_under_every_schedule() {
    let points: Vec<f32> = Numbers(12).floats(3 * 500);
    let query = [0.1f32, -0.2, 0.3];
    let distance = |p: &[f32]| {
        let [dx, dy, dz] = [p[0] - query[0], p[1] - query[1], p[2] - query[2]];
        dz.mul_add(dz, dy.mul_add(dy, dx * dx))
    };
    let key = |(i, p): (usize, &[f32])| u64::from(distance(p).to_bits()) << 32 | i as u64;
    let want = points.chunks(3).enumerate().map(key).min().unwrap();
    for seed in SEEDS {
        let mut gpu = gpu();
        gpu.options.seed = seed;
        let (p, q, best) = (gpu.upload(&points), gpu.upload(&query), gpu.empty::<u64>(1));
        gpu.run("nearest", 1, 96, &[Arg::U64(p), Arg::U64(q), Arg::U64(best), Arg::I32(500)]);
        assert_eq!(gpu.download::<u64>(best, 1), [want]);
    }
}
