//! Do library math, conversions and packed halves match the host's?

mod common;

use common::{Gpu, Numbers, fixture};
use enel_emulator::Arg;
use half::{bf16, f16};

fn gpu() -> Gpu {
    Gpu::new(&fixture("math"))
}

/// Distance in units of the last place of `want`.
fn ulps(got: f32, want: f64) -> f64 {
    if f64::from(got) == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    if want.abs() > f64::from(f32::MAX) {
        return if got == f32::INFINITY.copysign(want as f32) { 0.0 } else { f64::INFINITY };
    }
    let near = (want as f32).abs().max(f32::MIN_POSITIVE);
    let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
    (f64::from(got) - want).abs() / ulp
}

fn erf(x: f64) -> f64 {
    // Maclaurin series where it converges fast, continued fraction beyond (Abramowitz and Stegun 7.1.5, 7.1.14).
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let a = x.abs();
    let fraction = (1..200).rev().fold(a, |acc, n| a + f64::from(n) / 2.0 / acc);
    (1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / fraction).copysign(x)
}

#[test]
fn library_functions_stay_within_their_documented_error() {
    let mut x: Vec<f32> = Numbers(1).floats(300).iter().map(|v| v * 12.0).collect();
    // Beyond 105615 sinf and cosf reduce with Payne-Hanek, through an array in local memory.
    x.extend([1e5, 1.2e5, -3.3e6, 7.7e9, 1.5e20, -2.5e35, f32::MAX, 1e-3, -1e-6, 1e-20, 0.5, -1.0, 87.0, -90.0]);
    let n = x.len();
    let mut gpu = gpu();
    let (dx, out) = (gpu.upload(&x), gpu.empty::<f32>(16 * n));
    gpu.run("libm", n.div_ceil(128) as u32, 128, &[Arg::U64(dx), Arg::U64(out), Arg::I32(n as i32)]);
    let got = gpu.download::<f32>(out, 16 * n);
    for (i, &x) in x.iter().enumerate() {
        let v = f64::from(x);
        // Function, reference, error bound in ulp (CUDA programming guide, mathematical functions).
        let rows: [(&str, f64, f64); 16] = [
            ("sinf", v.sin(), 2.0),
            ("cosf", v.cos(), 2.0),
            ("expf", v.exp(), 2.0),
            ("erff", erf(v), 2.0),
            ("logf", v.abs().ln(), 1.0),
            ("tanhf", v.tanh(), 2.0),
            ("sqrtf", v.abs().sqrt(), 0.5),
            ("rsqrtf", 1.0 / v.abs().sqrt(), 2.0),
            ("powf", v.abs().powf(f64::from(0.7f32)), 4.0),
            ("rcp", 1.0 / v, 0.5),
            ("tanf", v.tan(), 4.0),
            ("log1pf", v.abs().ln_1p(), 1.0),
            ("floorf", v.floor(), 0.0),
            ("rintf", v.round_ties_even(), 0.0),
            ("fmodf", v % 3.25, 0.0),
            ("atan2f", v.atan2(2.0), 3.0),
        ];
        for (j, (name, want, bound)) in rows.into_iter().enumerate() {
            let error = ulps(got[16 * i + j], want);
            // A correctly rounded result may be half a unit off, seen from the exact value.
            assert!(error <= bound + 1e-3, "{name}({x:e}) = {:e}, want {want:e}: {error} ulp", got[16 * i + j]);
        }
    }
}

#[test]
fn fast_functions_and_chains() {
    let x = Numbers(2).floats(64);
    let mut gpu = gpu();
    let (dx, out) = (gpu.upload(&x), gpu.empty::<f32>(8 * 64));
    gpu.run("fast_math", 1, 64, &[Arg::U64(dx), Arg::U64(out), Arg::I32(64)]);
    for (x, got) in x.iter().zip(gpu.download::<f32>(out, 8 * 64).chunks(8)) {
        let v = f64::from(*x);
        let exact = [v.exp(), v.abs().ln(), v.sin(), v.cos(), 1.0 / v, v.exp2()];
        for (j, want) in exact.into_iter().enumerate() {
            // expf through a rounded product with log2(e): 2 ulp plus the rounding of the argument.
            assert!(ulps(got[j], want) <= 3.0 || (f64::from(got[j]) - want).abs() < 1e-7, "{j} {x} {} {want}", got[j]);
        }
        assert_eq!(got[6], x.mul_add(*x, x.mul_add(2.0, x * 3.0)));
        assert_eq!(got[7], x.clamp(0.0, 1.0));
    }
}

#[test]
fn double_precision() {
    let x: Vec<f64> = (0..50).map(|i| f64::from(i) * 1.37 - 30.0).chain([1e10, -4e15, 1e-9]).collect();
    let n = x.len();
    let mut gpu = gpu();
    let (dx, out) = (gpu.upload(&x), gpu.upload(&vec![0f64; 8 * n + 1]));
    gpu.run("doubles", 1, 64, &[Arg::U64(dx), Arg::U64(out), Arg::I32(n as i32)]);
    let got = gpu.download::<f64>(out, 8 * n + 1);
    for (i, &v) in x.iter().enumerate() {
        let want = [v.exp(), v.sin(), v.abs().sqrt(), 1.0 / v, v.abs().ln(), v.trunc(), f64::from(v as f32), v.tanh()];
        // Bounds in ulp of f64 from the CUDA programming guide: at most 2 here; exact where the host rounds alike.
        for (j, want) in want.into_iter().enumerate() {
            let got = got[8 * i + j];
            let close = (got - want).abs() <= 3.0 * f64::EPSILON * want.abs() || got == want;
            assert!(close, "{j}: f({v:e}) = {got:e}, want {want:e}");
            if matches!(j, 2 | 3 | 5 | 6) {
                assert_eq!(got, want);
            }
        }
    }
    let sum: f64 = x.iter().sum();
    assert!((got[8 * n] - sum).abs() <= 1e-12 * 4e15);
}

#[test]
fn all_halves_convert_exactly() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let n = bits.len();
    let mut gpu = gpu();
    let din = gpu.upload(&bits);
    let (h, b) = (gpu.empty::<f32>(n), gpu.empty::<f32>(n));
    let (back, back_bf) = (gpu.empty::<u16>(n), gpu.empty::<u16>(n));
    let args = [din, h, b, back, back_bf].map(Arg::U64);
    gpu.run("half_all", 256, 256, &[&args[..], &[Arg::I32(n as i32)]].concat());
    let (as_half, as_bf) = (gpu.download::<f32>(h, n), gpu.download::<f32>(b, n));
    let (back, back_bf) = (gpu.download::<u16>(back, n), gpu.download::<u16>(back_bf, n));
    for i in 0..n {
        let (want_h, want_b) = (f16::from_bits(bits[i]), bf16::from_bits(bits[i]));
        if want_h.is_nan() {
            assert!(as_half[i].is_nan() && back[i] == 0x7fff, "{:#x}", bits[i]);
        } else {
            assert_eq!((as_half[i].to_bits(), back[i]), (want_h.to_f32().to_bits(), bits[i]));
        }
        if want_b.is_nan() {
            assert!(as_bf[i].is_nan() && back_bf[i] == 0x7fff, "{:#x}", bits[i]);
        } else {
            assert_eq!((as_bf[i].to_bits(), back_bf[i]), (want_b.to_f32().to_bits(), bits[i]));
        }
    }
}

#[test]
fn packed_halves_round_once() {
    let (x, y) = (Numbers(3).floats(256), Numbers(4).floats(256));
    let n = 128;
    let mut gpu = gpu();
    let (dx, dy, out) = (gpu.upload(&x), gpu.upload(&y), gpu.empty::<u32>(12 * n));
    gpu.run("half_math", 1, 128, &[Arg::U64(dx), Arg::U64(dy), Arg::U64(out), Arg::I32(n as i32)]);
    let got = gpu.download::<u32>(out, 12 * n);
    for i in 0..2 * n {
        let part = |k: usize| (got[12 * (i / 2) + k] >> (16 * (i % 2))) as u16;
        let (a, b) = (f16::from_f32(x[i]), f16::from_f32(y[i]));
        let (p, q) = (f64::from(a.to_f32()), f64::from(b.to_f32()));
        // Sums and products of two halves are exact in f64, so one rounding remains.
        let halves = [p + q, p * q, p * q + p, p.max(q)].map(|v| f16::from_f64(v).to_bits());
        assert_eq!([part(0), part(1), part(2), part(3)], halves, "{a} {b}");
        assert_eq!(part(9), b.to_bits() & 0x7fff);
        let quotient = f16::from_bits(part(10)).to_f32();
        assert!((f64::from(quotient) - p / q).abs() <= (p / q).abs() * 2f64.powi(-10), "{a} / {b} = {quotient}");
        let (a, b) = (bf16::from_f32(x[i]), bf16::from_f32(y[i]));
        let (p, q) = (f64::from(a.to_f32()), f64::from(b.to_f32()));
        let brains = [p + q, p * q, p * q + p, p.max(q), -p].map(|v| bf16::from_f64(v).to_bits());
        assert_eq!([part(4), part(5), part(6), part(7), part(8)], brains, "{a} {b}");
        assert_eq!(part(11), bf16::from_f64(p - q).to_bits());
    }
}

#[test]
fn conversions_saturate_and_round() {
    let mut x: Vec<f32> = Numbers(5).floats(100).iter().map(|v| v * 1000.0).collect();
    x.extend([0.5, 1.5, 2.5, -0.5, -1.5, 3e9, -3e9, 5e9, f32::INFINITY, f32::NEG_INFINITY, 1e30]);
    let n = x.len();
    let mut gpu = gpu();
    let (dx, out) = (gpu.upload(&x), gpu.empty::<i32>(12 * n));
    gpu.run("conversions", 1, 128, &[Arg::U64(dx), Arg::U64(out), Arg::I32(n as i32)]);
    for (x, got) in x.iter().zip(gpu.download::<i32>(out, 12 * n).chunks(12)) {
        let i = *x as i32;
        let near = x.round_ties_even();
        assert_eq!(got[..4], [near as i32, i, x.ceil() as i32, x.floor() as i32], "{x}");
        assert_eq!(got[4..6], [near as u32 as i32, *x as i64 as i32], "{x}");
        assert_eq!(got[7], i32::from(i as u8), "{x}");
        assert_eq!(got[8], (i as f32).to_bits() as i32);
        let product = i.wrapping_mul(77777);
        let towards_zero = f64::from(product);
        let f = f32::from_bits(got[9] as u32);
        assert!(f64::from(f).abs() <= towards_zero.abs(), "{x}");
        assert!((towards_zero - f64::from(f)).abs() < f64::from(f32::EPSILON) * towards_zero.abs().max(1.0));
        assert_eq!(got[10], (x.abs() as u64 as f32).to_bits() as i32);
        assert_eq!(got[11], i32::from(i as i16));
    }
}
