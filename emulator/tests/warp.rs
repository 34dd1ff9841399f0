//! Do warp-wide instructions, divergence, atomics and tensor-core kernels behave as the manual says?

mod common;

use common::{Gpu, Numbers, SEEDS, fixture};
use enel_emulator::Arg;
use half::{bf16, f16};

#[test]
fn shuffles_votes_matches_and_reductions() {
    for seed in SEEDS {
        let mut gpu = Gpu::new(&fixture("warp"));
        gpu.options.seed = seed;
        let v: Vec<i32> = (0..64).map(|i| i * 37 % 101).collect();
        let (din, out) = (gpu.upload(&v), gpu.empty::<i32>(64 * 16));
        gpu.run("warp_ops", 1, 64, &[Arg::U64(din), Arg::U64(out)]);
        let got = gpu.download::<i32>(out, 64 * 16);
        for t in 0..64 {
            let (lane, warp) = (t % 32, &v[t / 32 * 32..][..32]);
            let mask = |f: &dyn Fn(i32) -> bool| (0..32).filter(|&i| f(warp[i])).fold(0u32, |m, i| m | 1 << i) as i32;
            let b = |x: bool| i32::from(x);
            let want = [
                warp[5],
                warp[if lane >= 3 { lane - 3 } else { lane }],
                warp[if lane + 4 < 32 { lane + 4 } else { lane }],
                warp[lane ^ 9],
                mask(&|x| x & 1 == 1),
                b(warp.iter().any(|&x| x > 90)),
                1,
                mask(&|x| x & 3 == warp[lane] & 3),
                -1,
                1,
                warp.iter().sum(),
                *warp.iter().max().unwrap(),
                warp.iter().fold(0, |a, x| a ^ x),
                v.iter().filter(|x| *x & 1 == 1).count() as i32,
                b(v.contains(&17)),
                1,
            ];
            assert_eq!(got[t * 16..][..16], want, "thread {t}");
        }
    }
}

#[test]
fn diverged_lanes_meet_again() {
    for seed in SEEDS {
        let mut gpu = Gpu::new(&fixture("warp"));
        gpu.options.seed = seed;
        let v: Vec<i32> = (0..32).map(|i| i * 5 % 23).collect();
        let (din, out) = (gpu.upload(&v), gpu.empty::<i32>(32));
        gpu.run("divergent_sync", 1, 32, &[Arg::U64(din), Arg::U64(out)]);
        let odd = |t: usize| (0..v[t]).sum::<i32>();
        let r: Vec<i32> = (0..32)
            .map(|t| if t % 2 == 1 { odd(t) + odd(t ^ 2) } else { v[if t + 2 < 32 { t + 2 } else { t }] })
            .collect();
        let want: Vec<i32> = r.iter().map(|x| x + r[0]).collect();
        assert_eq!(gpu.download::<i32>(out, 32), want);
    }
}

#[test]
fn a_lock_shared_by_lanes_of_one_warp_makes_progress() {
    for seed in SEEDS {
        let mut gpu = Gpu::new(&fixture("warp"));
        gpu.options.seed = seed;
        gpu.options.max_instructions = Some(5_000_000);
        let (lock, counter) = (gpu.upload(&[0i32]), gpu.upload(&[0i32]));
        gpu.run("spin_lock", 2, 64, &[Arg::U64(lock), Arg::U64(counter)]);
        assert_eq!(gpu.download::<i32>(counter, 1), [128]);
    }
}

#[test]
fn atomics_of_every_kind() {
    for threads in [1, 2] {
        let mut gpu = Gpu::new(&fixture("warp"));
        gpu.options.threads = threads;
        let i32s = gpu.upload(&{
            let mut v = vec![0i32; 8 + 128];
            v[0] = 1000;
            v[2] = -1;
            v[6] = -5;
            v
        });
        let u32s = gpu.upload(&[0u32, 0]);
        let u64s = gpu.upload(&[0u64, 0, u64::MAX, 0]);
        let f32s = gpu.upload(&[0f32]);
        gpu.run("atomics", 4, 32, &[Arg::U64(i32s), Arg::U64(u32s), Arg::U64(u64s), Arg::U64(f32s)]);
        let got = gpu.download::<i32>(i32s, 8 + 128);
        assert_eq!(got[..6], [50 - 127, 100, !0xff, 0xffff, (0..128).fold(0, |a, b| a ^ b), -(0..128).sum::<i32>()]);
        // Every exchanged value comes back exactly once.
        let mut exchanged: Vec<i32> = got[8..].iter().copied().chain([got[6]]).collect();
        exchanged.sort_unstable();
        assert_eq!(exchanged, [-5].into_iter().chain(0..128).collect::<Vec<_>>());
        // inc counts 0..=9 and wraps; dec runs the same circle downwards.
        assert_eq!(gpu.download::<u32>(u32s, 2), [128 % 10, 10 - 128 % 10]);
        assert_eq!(gpu.download::<u64>(u64s, 4), [128 << 33, 127 << 32, 0xff_ffff_ffff - 127, 7]);
        assert_eq!(gpu.download::<f32>(f32s, 1), [64.0]);
    }
}

#[test]
fn bf16_matmul_through_cp_async_ldmatrix_and_mma() {
    for (seed, (m, n, k)) in SEEDS.into_iter().zip([(32usize, 32usize, 64usize), (40, 24, 32), (17, 48, 104)]) {
        let mut gpu = Gpu::new(&fixture("tensor"));
        gpu.options.seed = seed;
        let mut numbers = Numbers(9 + seed);
        let a: Vec<bf16> = numbers.floats(m * k).into_iter().map(bf16::from_f32).collect();
        let b: Vec<bf16> = numbers.floats(k * n).into_iter().map(bf16::from_f32).collect();
        let bits = |v: &[bf16]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let (da, db, dc) = (gpu.upload(&bits(&a)), gpu.upload(&bits(&b)), gpu.empty::<f32>(m * n));
        let sizes = [m, n, k].map(|x| Arg::I32(x as i32));
        let args = [vec![Arg::U64(da), Arg::U64(db), Arg::U64(dc)], sizes.to_vec()].concat();
        let grid = [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1];
        let stats = gpu.try_run("matmul_bf16", grid, [128, 1, 1], 0, &args).unwrap();
        assert_eq!(stats.mma, u64::from(grid[0] * grid[1]) * 4 * 4 * k.div_ceil(32) as u64);
        let got = gpu.download::<f32>(dc, m * n);
        for (i, got) in got.iter().enumerate() {
            let want: f64 = (0..k).map(|j| a[i / n * k + j].to_f64() * b[j * n + i % n].to_f64()).sum();
            // One rounding to f32 per block of 16 products, sums below 32.
            assert!((f64::from(*got) - want).abs() <= 32.0 * 2f64.powi(-24) * k as f64 / 16.0, "{i}: {got} {want}");
        }
    }
}

#[test]
fn wmma_fragments_are_consistent() {
    let mut gpu = Gpu::new(&fixture("tensor"));
    let mut numbers = Numbers(11);
    let a: Vec<f16> = numbers.floats(256).into_iter().map(f16::from_f32).collect();
    let b: Vec<f16> = numbers.floats(256).into_iter().map(f16::from_f32).collect();
    let bits = |v: &[f16]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (da, db, dc) = (gpu.upload(&bits(&a)), gpu.upload(&bits(&b)), gpu.empty::<f32>(256));
    gpu.run("wmma_f16", 1, 32, &[Arg::U64(da), Arg::U64(db), Arg::U64(dc)]);
    for (i, got) in gpu.download::<f32>(dc, 256).into_iter().enumerate() {
        let want: f64 = (0..16).map(|k| a[i / 16 * 16 + k].to_f64() * b[i % 16 * 16 + k].to_f64()).sum();
        assert_eq!(got, want as f32);
    }
}
