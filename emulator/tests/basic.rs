//! Do plain CUDA kernels compiled by NVRTC compute what the same code computes on the host?

mod common;

use common::{Gpu, Numbers, SEEDS, fixture};
use enel_emulator::Arg;

fn gpu(seed: u64) -> Gpu {
    let mut gpu = Gpu::new(&fixture("basic"));
    gpu.options.seed = seed;
    gpu
}

#[test]
fn vector_add_of_a_ragged_length() {
    let mut gpu = gpu(0);
    let mut numbers = Numbers(1);
    let (a, b) = (numbers.floats(1000), numbers.floats(1000));
    let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.empty::<f32>(1000));
    let stats = gpu.run("vector_add", 4, 256, &[Arg::U64(da), Arg::U64(db), Arg::U64(dc), Arg::I32(1000)]);
    let want: Vec<f32> = a.iter().zip(&b).map(|(x, y)| x + y).collect();
    assert_eq!(gpu.download::<f32>(dc, 1000), want);
    assert_eq!((stats.loads, stats.stores), (2000, 1000));
}

#[test]
fn grid_stride_loop_is_exact() {
    let mut gpu = gpu(0);
    let mut numbers = Numbers(2);
    let (x, y) = (numbers.floats(777), numbers.floats(777));
    let (dx, dy) = (gpu.upload(&x), gpu.upload(&y));
    gpu.run("saxpy_stride", 2, 64, &[Arg::F32(1.7), Arg::U64(dx), Arg::U64(dy), Arg::I64(777)]);
    let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 1.7f32.mul_add(*x, *y)).collect();
    assert_eq!(gpu.download::<f32>(dy, 777), want);
}

#[test]
fn block_sum_with_shuffles() {
    for seed in SEEDS {
        let mut gpu = gpu(seed);
        let x: Vec<f32> = (0..3 * 500).map(|i| (i % 17) as f32).collect();
        let (dx, out) = (gpu.upload(&x), gpu.empty::<f32>(3));
        gpu.run("block_sum", 3, 128, &[Arg::U64(dx), Arg::U64(out), Arg::I32(500)]);
        let want: Vec<f32> = x.chunks(500).map(|c| c.iter().sum()).collect();
        assert_eq!(gpu.download::<f32>(out, 3), want);
    }
}

#[test]
fn scan_in_dynamic_shared_memory() {
    for seed in SEEDS {
        let mut gpu = gpu(seed);
        let x: Vec<i32> = (0..200).map(|i| i * 7 % 13).collect();
        let (dx, out) = (gpu.upload(&x), gpu.empty::<i32>(200));
        gpu.try_run("scan_block", [1; 3], [256, 1, 1], 1024, &[Arg::U64(dx), Arg::U64(out), Arg::I32(200)]).unwrap();
        let want: Vec<i32> = x
            .iter()
            .scan(0, |s, v| {
                *s += v;
                Some(*s)
            })
            .collect();
        assert_eq!(gpu.download::<i32>(out, 200), want);
    }
}

#[test]
fn histogram_with_shared_and_global_atomics() {
    for threads in [1, 2] {
        let mut gpu = gpu(3);
        gpu.options.threads = threads;
        let data: Vec<u8> = (0..5000u32).map(|i| (i * i % 251) as u8).collect();
        let (din, out) = (gpu.upload(&data), gpu.upload(&[0u32; 256]));
        gpu.run("histogram", 5, 96, &[Arg::U64(din), Arg::U64(out), Arg::I32(5000)]);
        let mut want = [0u32; 256];
        data.iter().for_each(|&b| want[usize::from(b)] += 1);
        assert_eq!(gpu.download::<u32>(out, 256), want);
    }
}

#[test]
fn transpose_through_a_padded_tile() {
    for seed in SEEDS {
        let (w, h) = (70usize, 45usize);
        let mut gpu = gpu(seed);
        let x = Numbers(4).floats(w * h);
        let (dx, out) = (gpu.upload(&x), gpu.empty::<f32>(w * h));
        let args = [Arg::U64(dx), Arg::U64(out), Arg::I32(w as i32), Arg::I32(h as i32)];
        gpu.try_run("transpose", [3, 2, 1], [32, 8, 1], 0, &args).unwrap();
        let got = gpu.download::<f32>(out, w * h);
        assert!((0..w * h).all(|i| got[i] == x[i % h * w + i / h]));
    }
}

#[test]
fn tiled_matmul_keeps_the_order_of_sums() {
    let (m, n, k) = (33usize, 20usize, 50usize);
    for seed in SEEDS {
        let mut gpu = gpu(seed);
        let mut numbers = Numbers(5);
        let (a, b) = (numbers.floats(m * k), numbers.floats(k * n));
        let (da, db, dc) = (gpu.upload(&a), gpu.upload(&b), gpu.empty::<f32>(m * n));
        let sizes = [m, n, k].map(|x| Arg::I32(x as i32));
        let args = [vec![Arg::U64(da), Arg::U64(db), Arg::U64(dc)], sizes.to_vec()].concat();
        gpu.try_run("matmul_tiled", [2, 3, 1], [16, 16, 1], 0, &args).unwrap();
        let got = gpu.download::<f32>(dc, m * n);
        for row in 0..m {
            for col in 0..n {
                // Padding adds exact zeros, so the chain of fused multiply-adds is the plain one.
                let want = (0..k).fold(0f32, |acc, i| a[row * k + i].mul_add(b[i * n + col], acc));
                assert_eq!(got[row * n + col], want);
            }
        }
    }
}

#[test]
fn softmax_rows_sum_to_one() {
    let mut gpu = gpu(7);
    let x: Vec<f32> = Numbers(6).floats(4 * 300).iter().map(|v| v * 20.0).collect();
    let (dx, dy) = (gpu.upload(&x), gpu.empty::<f32>(1200));
    gpu.run("softmax_row", 4, 128, &[Arg::U64(dx), Arg::U64(dy), Arg::I32(300)]);
    for (row, got) in x.chunks(300).zip(gpu.download::<f32>(dy, 1200).chunks(300)) {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let exps: Vec<f64> = row.iter().map(|v| f64::from(v - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        for (e, y) in exps.iter().zip(got) {
            // expf is good to 2 ulp, the sum adds 300 roundings of relative size 2^-24.
            assert!((e / sum - f64::from(*y)).abs() <= 2e-6 * (e / sum), "{} {y}", e / sum);
        }
    }
}

#[test]
fn integer_division_of_all_widths() {
    let mut gpu = gpu(0);
    let mut numbers = Numbers(8);
    let mut a: Vec<i64> = vec![i64::MIN, i64::MAX, -1, 0, 1, 1 << 32, -(1 << 32), 0xffff_ffff];
    let mut b: Vec<i64> = vec![3, -7, 1 << 33, 5, i64::MIN, 0xffff_ffff, 10, -3];
    for _ in 0..120 {
        a.push((numbers.next() as i64) >> (numbers.next() % 64));
        b.push(((numbers.next() as i64) >> (numbers.next() % 64)) | 1);
    }
    let n = a.len();
    let (da, db, dq, dr) = (gpu.upload(&a), gpu.upload(&b), gpu.empty::<i64>(6 * n), gpu.empty::<i64>(6 * n));
    gpu.run("int_division", 1, n as u32, &[Arg::U64(da), Arg::U64(db), Arg::U64(dq), Arg::U64(dr), Arg::I32(n as i32)]);
    let (q, r) = (gpu.download::<i64>(dq, 6 * n), gpu.download::<i64>(dr, 6 * n));
    for i in 0..n {
        let (x, y) = (a[i], b[i]);
        let (xs, ys, xu, yu) = (x as i32, y as i32, x as u32, y as u32);
        let wide = (i128::from(x) * i128::from(y)) >> 64;
        let want_q = [
            x.wrapping_div(y),
            (x as u64 / y as u64) as i64,
            // C promotes nothing here: both are 64-bit after the cast.
            if ys == 0 { 0 } else { i64::from(xs) / i64::from(ys) },
            i64::from(xu.checked_div(yu).unwrap_or(0)),
            i64::from(xu / 81),
            x / 1_000_003,
        ];
        let want_r = [
            x.wrapping_rem(y),
            (x as u64 % y as u64) as i64,
            if ys == 0 { 0 } else { i64::from(xs.wrapping_rem(ys)) },
            if yu == 0 { 0 } else { i64::from(xu % yu) },
            i64::from(xs % 7),
            wide as i64,
        ];
        assert_eq!((&q[6 * i..][..6], &r[6 * i..][..6]), (&want_q[..], &want_r[..]), "{x} {y}");
    }
}

#[test]
fn lanes_that_return_early_do_not_hold_barriers() {
    for seed in SEEDS {
        let mut gpu = gpu(seed);
        let x: Vec<i32> = (0..64).map(|i| if i % 5 == 0 || i / 32 == 1 && i < 50 { -1 } else { i + 1 }).collect();
        let (dx, out) = (gpu.upload(&x), gpu.upload(&[-9i32; 64]));
        gpu.run("early_exit", 1, 64, &[Arg::U64(dx), Arg::U64(out), Arg::I32(64)]);
        let collatz = |mut v: i32| {
            let mut steps = 0;
            while v != 1 && steps <= 200 {
                v = if v & 1 == 1 { 3 * v + 1 } else { v >> 1 };
                steps += 1;
            }
            steps + 1000
        };
        let want: Vec<i32> = x.iter().map(|&v| if v < 0 { -9 } else { collatz(v) }).collect();
        assert_eq!(gpu.download::<i32>(out, 64), want);
    }
}

#[test]
fn switch_takes_every_case() {
    let mut gpu = gpu(0);
    let cases: Vec<i32> = (0..100).map(|i| i * 3 % 11 - 1).collect();
    let (din, out) = (gpu.upload(&cases), gpu.upload(&[41i32; 100]));
    gpu.run("switch_case", 1, 128, &[Arg::U64(din), Arg::U64(out), Arg::I32(100)]);
    let want: Vec<i32> = (0..100i32)
        .map(|i| match cases[i as usize] {
            0 => i * 3,
            1 => i ^ 0x55,
            2 => i.count_ones() as i32,
            3 => i.leading_zeros() as i32,
            4 => i.reverse_bits(),
            5 => {
                if i == 0 {
                    0
                } else {
                    i.trailing_zeros() as i32 + 1
                }
            }
            6 => i / 7,
            7 => i % 13,
            8 => 42,
            _ => -1,
        })
        .collect();
    assert_eq!(gpu.download::<i32>(out, 100), want);
}

fn ackermann(m: i32, n: i32) -> i32 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

#[test]
fn recursive_calls_diverge_per_lane() {
    let mut gpu = gpu(0);
    let m: Vec<i32> = (0..40).map(|i| i % 3).collect();
    let n: Vec<i32> = (0..40).map(|i| i / 3 % 5).collect();
    let v: Vec<f32> = (0..80).map(|i| i as f32).collect();
    let (dm, dn, out, dv) = (gpu.upload(&m), gpu.upload(&n), gpu.empty::<i32>(40), gpu.upload(&v));
    gpu.run("calls", 1, 40, &[Arg::U64(dm), Arg::U64(dn), Arg::U64(out), Arg::U64(dv)]);
    let want: Vec<i32> = m.iter().zip(&n).map(|(&m, &n)| ackermann(m, n)).collect();
    assert_eq!(gpu.download::<i32>(out, 40), want);
    for (i, got) in gpu.download::<f32>(dv, 80).chunks(2).enumerate() {
        let (x, y) = (v[2 * i], v[2 * i + 1]);
        let want = if i % 2 == 1 { [0.6 * x - 0.8 * y, 0.8 * x + 0.6 * y] } else { [x, y] };
        assert!((0..2).all(|j| (got[j] - want[j]).abs() <= 1e-5 * 80.0), "{i}: {got:?} {want:?}");
    }
}
