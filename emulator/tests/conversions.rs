//! Does every conversion of every f16 and bf16 value give exactly what the standard says?
//!
//! The expected values come from tables: all values of a format in order, and the neighbours of a number in them.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{Gpu, Numbers};
use enel_emulator::Arg;
use half::{bf16, f16};

/// Register class and load or store type of a scalar type.
fn class(ty: &str) -> (&'static str, &'static str, usize) {
    match ty {
        "f16" | "bf16" | "u16" | "s16" => ("h", "b16", 2),
        "f64" | "u64" | "s64" => ("d", "b64", 8),
        "u8" | "s8" => ("h", "b8", 1),
        _ => ("w", "b32", 4),
    }
}

/// Runs `cvt.MODE.TO.FROM` on every element.
fn convert(mode: &str, to: &str, from: &str, values: &[u64]) -> Vec<u64> {
    let ((d, store, out_bytes), (a, load, in_bytes)) = (class(to), class(from));
    // A 16-bit register carries 8-bit results.
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 y)\n{{\n\
         .reg .b16 %h<3>;\n.reg .b32 %w<3>;\n.reg .b64 %d<3>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n\
         ld.param.u64 %rd0, [x];\nld.param.u64 %rd1, [y];\nmov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %tid.x;\n\
         mad.lo.u32 %r2, %r0, 256, %r1;\nmad.wide.u32 %rd2, %r2, {in_bytes}, %rd0;\nmad.wide.u32 %rd3, %r2, {out_bytes}, %rd1;\n\
         ld.global.{load} %{a}0, [%rd2];\ncvt{mode}.{to}.{from} %{d}1, %{a}0;\nst.global.{store} [%rd3], %{d}1;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..in_bytes].to_vec()).collect();
    let (x, y) = (gpu.upload(&bytes), gpu.empty::<u8>(values.len() * out_bytes));
    gpu.run("k", (values.len() / 256) as u32, 256, &[Arg::U64(x), Arg::U64(y)]);
    let out = gpu.download::<u8>(y, values.len() * out_bytes);
    out.chunks(out_bytes).map(|c| c.iter().rev().fold(0, |acc, &b| acc << 8 | u64::from(b))).collect()
}

/// A function to compare with.
type Exact = fn(f64) -> f64;

const FORMATS: [&str; 2] = ["f16", "bf16"];

fn value_of(format: &str, bits: u64) -> f64 {
    if format == "f16" { f16::from_bits(bits as u16).to_f64() } else { bf16::from_bits(bits as u16).to_f64() }
}

fn all() -> Vec<u64> {
    (0..0x1_0000).collect()
}

/// A 16-bit format as the list of its finite magnitudes, in the order of their bits.
struct Table {
    magnitudes: Vec<f64>,
}

impl Table {
    fn new(format: &str) -> Table {
        Table { magnitudes: (0..0x8000).map(|b| value_of(format, b)).take_while(|v| v.is_finite()).collect() }
    }

    /// Bits of `x` rounded as `mode` says; NaN is the canonical one.
    fn round(&self, x: f64, mode: &str) -> u64 {
        if x.is_nan() {
            return 0x7fff;
        }
        let sign = u64::from(x.is_sign_negative()) << 15;
        let (a, last) = (x.abs(), self.magnitudes.len() - 1);
        let infinity = last as u64 + 1;
        if x.is_infinite() {
            return sign | infinity;
        }
        // The first magnitude that is not smaller; behind the last comes what would be next.
        let high = self.magnitudes.partition_point(|m| *m < a);
        let next = |i: usize| match self.magnitudes.get(i) {
            Some(m) => *m,
            None => 2.0 * self.magnitudes[last] - self.magnitudes[last - 1],
        };
        if high <= last && self.magnitudes[high] == a {
            return sign | high as u64;
        }
        let high = high.min(last + 1);
        let (low, middle) = (high - 1, (next(high - 1) + next(high)) / 2.0);
        let up = match mode {
            ".rn" => a > middle || (a == middle && high % 2 == 0),
            ".rz" => false,
            ".rp" => sign == 0,
            _ => sign != 0,
        };
        sign | if up { high as u64 } else { low as u64 }
    }
}

/// Values whose upper half takes every pattern, with exact ties, near ties and noise below.
fn f32_probes() -> Vec<u64> {
    let mut numbers = Numbers(77);
    let mut probes = Vec::new();
    for upper in 0..0x1_0000u64 {
        for lower in [0, 0x8000, 0x7fff, 0x8001] {
            probes.push(upper << 16 | lower);
        }
        // Ties of f16 lie twelve bits below its last.
        probes.push(upper << 16 | (numbers.next() & 0xf) << 12 | 0x1000);
        probes.push(upper << 16 | numbers.next() & 0xffff);
    }
    probes
}

#[test]
fn halves_widen_exactly() {
    for format in FORMATS {
        for (got, bits) in convert("", "f32", format, &all()).into_iter().zip(0u64..) {
            let (got, want) = (f32::from_bits(got as u32), value_of(format, bits));
            assert!(
                f64::from(got).to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{format} {bits:#x}"
            );
        }
        for (got, bits) in convert("", "f64", format, &all()).into_iter().zip(0u64..) {
            let (got, want) = (f64::from_bits(got), value_of(format, bits));
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{format} {bits:#x}");
        }
    }
}

#[test]
fn halves_become_integers_in_every_mode() {
    let modes: [(&str, Exact); 4] =
        [(".rni", f64::round_ties_even), (".rzi", f64::trunc), (".rmi", f64::floor), (".rpi", f64::ceil)];
    for format in FORMATS {
        for (mode, round) in modes {
            for to in ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"] {
                for (got, bits) in convert(mode, to, format, &all()).into_iter().zip(0u64..) {
                    let x = round(value_of(format, bits));
                    // A cast saturates, and takes NaN to zero, as the instruction does; with 64 bits it does not
                    // (PTX ISA 9.0, section 9.7.9.21).
                    let want = match to {
                        "s8" => u64::from(x as i8 as u8),
                        "u8" => u64::from(x as u8),
                        "s16" => u64::from(x as i16 as u16),
                        "u16" => u64::from(x as u16),
                        "s32" => u64::from(x as i32 as u32),
                        "u32" => u64::from(x as u32),
                        _ if x.is_nan() => 1 << 63,
                        "s64" => x as i64 as u64,
                        _ => x as u64,
                    };
                    assert_eq!(got, want, "cvt{mode}.{to}.{format} of {bits:#x}");
                }
            }
            for (got, bits) in convert(mode, format, format, &all()).into_iter().zip(0u64..) {
                let x = value_of(format, bits);
                let (got, want) = match x.is_nan() {
                    true => (got & 0x7fff, 0x7fff),
                    false => (value_of(format, got).to_bits(), round(x).to_bits()),
                };
                assert_eq!(got, want, "cvt{mode}.{format}.{format} of {bits:#x}");
            }
        }
    }
}

#[test]
fn singles_narrow_in_every_mode() {
    let probes = f32_probes();
    for format in FORMATS {
        let table = Table::new(format);
        let modes: &[&str] = if format == "f16" { &[".rn", ".rz", ".rm", ".rp"] } else { &[".rn", ".rz"] };
        for mode in modes {
            for (got, bits) in convert(mode, format, "f32", &probes).into_iter().zip(&probes) {
                let x = f64::from(f32::from_bits(*bits as u32));
                assert_eq!(got, table.round(x, mode), "cvt{mode}.{format}.f32 of {x:e}");
            }
        }
        let relu = convert(".rn.relu", format, "f32", &probes);
        for (got, bits) in relu.into_iter().zip(&probes) {
            let x = f64::from(f32::from_bits(*bits as u32));
            let want = if x < 0.0 { 0 } else { table.round(x, ".rn") };
            // Minus zero may keep its sign or not.
            assert!(got == want || (x == 0.0 && got & 0x7fff == 0), "cvt.rn.relu.{format}.f32 of {x:e}");
        }
    }
}

#[test]
fn doubles_and_integers_narrow_exactly() {
    let mut numbers = Numbers(5);
    for format in FORMATS {
        let table = Table::new(format);
        // Around every value and every tie of the format.
        let mut doubles = Vec::new();
        for pair in table.magnitudes.windows(2) {
            let middle = (pair[0] + pair[1]) / 2.0;
            for x in [middle, middle * (1.0 + 1e-15), -middle * (1.0 - 1e-15)] {
                doubles.push(x.to_bits());
            }
        }
        doubles.resize(doubles.len().next_multiple_of(256), 0);
        for (got, bits) in convert(".rn", format, "f64", &doubles).into_iter().zip(&doubles) {
            let x = f64::from_bits(*bits);
            assert_eq!(got, table.round(x, ".rn"), "cvt.rn.{format}.f64 of {x:e}");
        }
        let mut ints: Vec<u64> = (0..0x8000).flat_map(|i| [i, i << (numbers.next() % 48)]).collect();
        ints.resize(ints.len().next_multiple_of(256), 0);
        for from in ["s16", "u16", "s32", "u32", "s64", "u64"] {
            for (got, bits) in convert(".rn", format, from, &ints).into_iter().zip(&ints) {
                let x = match from {
                    "s16" => f64::from(*bits as i16),
                    "u16" => f64::from(*bits as u16),
                    "s32" => f64::from(*bits as i32),
                    "u32" => f64::from(*bits as u32),
                    // At most 16 significant bits: exact.
                    _ => *bits as f64,
                };
                assert_eq!(got, table.round(x, ".rn"), "cvt.rn.{format}.{from} of {bits:#x}");
            }
        }
    }
}

#[test]
fn halves_become_the_other_half() {
    for (to, from) in [("bf16", "f16"), ("f16", "bf16")] {
        let table = Table::new(to);
        for (got, bits) in convert(".rn", to, from, &all()).into_iter().zip(0u64..) {
            assert_eq!(got, table.round(value_of(from, bits), ".rn"), "cvt.rn.{to}.{from} of {bits:#x}");
        }
    }
}

/// Applies a unary instruction to singles.
fn apply(op: &str, values: &[f32]) -> Vec<f32> {
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 y)\n{{\n\
         .reg .f32 %f<3>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\nld.param.u64 %rd0, [x];\nld.param.u64 %rd1, [y];\n\
         mov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %tid.x;\nmad.lo.u32 %r2, %r0, 256, %r1;\nmad.wide.u32 %rd2, %r2, 4, %rd0;\n\
         mad.wide.u32 %rd3, %r2, 4, %rd1;\nld.global.f32 %f0, [%rd2];\n{op} %f1, %f0;\nst.global.f32 [%rd3], %f1;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    let (x, y) = (gpu.upload(values), gpu.empty::<f32>(values.len()));
    gpu.run("k", (values.len() / 256) as u32, 256, &[Arg::U64(x), Arg::U64(y)]);
    gpu.download(y, values.len())
}

#[test]
fn approximations_stay_inside_their_documented_bounds() {
    let mut numbers = Numbers(3);
    // All exponents: mantissas of 16 values for each, both signs; then a dense stretch around 1 and 0.
    let mut x: Vec<f32> = (0..0x1_0000u32).map(|u| f32::from_bits(u << 16 | numbers.next() as u32 & 0xffff)).collect();
    x.extend((0..0x4000).map(|_| numbers.float() * 4.0));
    x.extend((0..0x4000).map(|_| numbers.float() * std::f32::consts::PI));
    // Relative errors and absolute errors: PTX ISA 9.0, section 9.7.3, each instruction's table or text.
    let relative: [(&str, Exact, f64); 7] = [
        ("rcp.approx.ftz.f32", |x| 1.0 / x, 2f64.powi(-23)),
        ("sqrt.approx.ftz.f32", f64::sqrt, 2f64.powi(-23)),
        ("rsqrt.approx.ftz.f32", |x| 1.0 / x.sqrt(), 2f64.powf(-22.9)),
        ("ex2.approx.ftz.f32", f64::exp2, 2f64.powi(-22)),
        ("tanh.approx.f32", f64::tanh, 2f64.powi(-11)),
        ("rcp.rn.f32", |x| 1.0 / x, 2f64.powi(-24)),
        ("sqrt.rn.f32", f64::sqrt, 2f64.powi(-24)),
    ];
    let tiny = f64::from(f32::MIN_POSITIVE);
    for (op, exact, bound) in relative {
        for (got, x) in apply(op, &x).into_iter().zip(&x) {
            let flushes = op.contains("ftz") && f64::from(x.abs()) < tiny;
            let want = exact(if flushes { 0f64.copysign(f64::from(*x)) } else { f64::from(*x) });
            if want.is_nan() {
                assert!(got.is_nan(), "{op} {x:e}");
            } else if want.abs() > f64::from(f32::MAX) {
                assert!(got.is_infinite() || got.abs() == f32::MAX, "{op} {x:e}: {got:e}");
            } else if want.abs() < tiny {
                // Below the smallest normal value results are flushed or rounded to a multiple of the smallest one.
                assert!((f64::from(got) - want).abs() <= tiny, "{op} {x:e}: {got:e} {want:e}");
            } else {
                assert!((f64::from(got) - want).abs() <= bound * want.abs(), "{op} {x:e}: {got:e} {want:e}");
            }
        }
    }
    let near_one = |x: f32| x > 0.5 && x < 2.0;
    for (got, x) in apply("lg2.approx.ftz.f32", &x).into_iter().zip(&x).filter(|(_, x)| x.is_normal() && **x > 0.0) {
        let want = f64::from(*x).log2();
        let bound = if near_one(*x) { 2f64.powi(-22) } else { want.abs() * 2f64.powi(-22) };
        assert!((f64::from(got) - want).abs() <= bound, "lg2 {x:e}: {got:e} {want:e}");
    }
    let waves: [(&str, Exact, f64); 2] =
        [("sin.approx.ftz.f32", f64::sin, 2f64.powf(-20.9)), ("cos.approx.ftz.f32", f64::cos, 2f64.powf(-20.9))];
    for (op, exact, bound) in waves {
        let inside = |x: f32| x.abs() <= std::f32::consts::PI;
        for (got, x) in apply(op, &x).into_iter().zip(&x).filter(|(_, x)| inside(**x)) {
            let want = exact(f64::from(*x));
            assert!((f64::from(got) - want).abs() <= bound, "{op} {x:e}: {got:e} {want:e}");
        }
    }
}
