//! Do plain CUDA kernels, written as people write them, give the right results under every schedule?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{Numbers, chain, f32s, halves, i32s, out, program, run, zeros_i32};
use enel_emulate::{Array, ArrayType, Job, LaunchError, Program, RunError, Value};
use half::{bf16, f16};
use std::sync::OnceLock;

/// Both targets: the emulator runs what NVRTC prints for either.
fn programs() -> &'static [Program] {
    static MADE: OnceLock<Vec<Program>> = OnceLock::new();
    let source = include_str!("kernels/plain.cu");
    MADE.get_or_init(|| {
        let make = |target| program("plain.cu", source, target, &["axpy<float, 100>"]);
        ["sm_80", "sm_90a"].into_iter().filter_map(make).collect()
    })
}

fn job<'a>(kernel: &'a str, grid: u32, block: u32, args: &'a [Value]) -> Job<'a> {
    Job { grid: [grid, 1, 1], block: [block, 1, 1], ..Job::new(kernel, args) }
}

#[test]
fn reduction_with_shuffles() {
    for program in programs() {
        let x: Vec<f32> = (0..1000).map(|i| (i % 13) as f32).collect();
        let args = [f32s(x.clone()), Value::InOut(Array::from_f32(&[0.0])), Value::I32(1000)];
        let report = run(program, &job("reduce_shuffle", 3, 96, &args));
        assert_eq!(report.array(1).unwrap().to_f32().unwrap(), [x.iter().sum::<f32>()]);
    }
}

#[test]
fn exclusive_scan() {
    for program in programs() {
        let x: Vec<i32> = (0..250).map(|i| i * 7 % 31 - 9).collect();
        let args = [i32s(x.clone()), out(ArrayType::I32, 250), Value::I32(250)];
        let report = run(program, &Job { smem_bytes: 1024, ..job("scan_exclusive", 1, 128, &args) });
        let want: Vec<i32> = (0..x.len()).map(|i| x[..i].iter().sum()).collect();
        assert_eq!(report.array(1).unwrap().to_i32().unwrap(), want);
    }
}

#[test]
fn histogram_with_atomics() {
    for program in programs() {
        let data: Vec<u8> = (0..3000u32).map(|i| (i * i % 241) as u8).collect();
        let args = [Value::In(Array::from_u8(&data)), Value::InOut(Array::from_u32(&[0; 256])), Value::I32(3000)];
        let report = run(program, &job("histogram", 4, 64, &args));
        let mut want = [0u32; 256];
        data.iter().for_each(|&b| want[usize::from(b)] += 1);
        assert_eq!(report.array(1).unwrap().to_u32().unwrap(), want);
    }
}

#[test]
fn matrix_transpose() {
    let (w, h) = (50usize, 70usize);
    for program in programs() {
        let x = Numbers(3).floats(w * h);
        let args = [f32s(x.clone()), out(ArrayType::F32, w * h), Value::I32(w as i32), Value::I32(h as i32)];
        let report = run(program, &Job { grid: [2, 3, 1], block: [32, 8, 1], ..Job::new("transpose", &args) });
        let got = report.array(1).unwrap().to_f32().unwrap();
        assert!((0..w * h).all(|i| got[i] == x[i % h * w + i / h]));
    }
}

#[test]
fn half_vectors() {
    let mut numbers = Numbers(4);
    let x: Vec<f16> = (0..60).map(|_| f16::from_f32(numbers.float() * 3.0)).collect();
    let y: Vec<f16> = (0..60).map(|_| f16::from_f32(numbers.float() * 3.0)).collect();
    let bits = |v: &[f16]| halves(v.iter().map(|h| h.to_bits()));
    let args = [bits(&x), bits(&y), out(ArrayType::U16, 240), Value::I32(30)];
    for program in programs() {
        let report = run(program, &job("half_math", 1, 32, &args));
        let got: Vec<f16> = report.array(2).unwrap().to_u16().unwrap().into_iter().map(f16::from_bits).collect();
        for i in 0..60 {
            let (a, b) = (x[i].to_f64(), y[i].to_f64());
            let at = |k: usize| got[(4 * (i / 2) + k) * 2 + i % 2];
            assert_eq!(at(0), f16::from_f64(a * b + 0.5));
            assert_eq!(at(1), f16::from_f64(f16::from_f64(a + b).to_f64().max(f16::from_f64(a - b).to_f64())));
            let quarter = f16::from_f64(f16::from_f64(a * 0.25).to_f64().exp2());
            assert!(at(2).to_bits().abs_diff(quarter.to_bits()) <= 1, "{} {quarter}", at(2));
            let want = if i % 2 == 0 {
                f16::from_f64(a.abs().sqrt())
            } else {
                f16::from_f64(1.0 / f16::from_f64(b.abs() + 1.0).to_f64())
            };
            assert!(at(3).to_bits().abs_diff(want.to_bits()) <= 1, "{} {want}", at(3));
        }
    }
}

#[test]
fn bf16_vectors() {
    let x: Vec<bf16> = Numbers(5).floats(40).into_iter().map(bf16::from_f32).collect();
    let args = [halves(x.iter().map(|h| h.to_bits())), out(ArrayType::F32, 160), Value::I32(40)];
    for program in programs() {
        let report = run(program, &job("bf16_math", 2, 32, &args));
        let got = report.array(1).unwrap().to_f32().unwrap();
        for (v, got) in x.iter().zip(got.chunks(4)) {
            let a = v.to_f32();
            assert_eq!(got[0], bf16::from_f32(a + a).to_f32());
            assert_eq!(got[1], bf16::from_f64(f64::from(a) * f64::from(a) + f64::from(a)).to_f32());
            assert!((got[2] - a.exp()).abs() <= a.exp() / 256.0);
            assert_eq!(got[3], a.min(0.25));
        }
    }
}

#[test]
fn calls_that_recurse() {
    fn fibonacci(n: i64) -> i64 {
        if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
    }
    let args = [out(ArrayType::I64, 32), out(ArrayType::U32, 32)];
    for program in programs() {
        let report = run(program, &job("recursion", 1, 32, &args));
        let want: Vec<i64> = (0..32).map(|t| fibonacci(t % 13)).collect();
        assert_eq!(report.array(0).unwrap().to_i64().unwrap(), want);
        let want: Vec<u32> = (0..32u32).map(|t| [t % 5 + 1, t % 5 + 2, 2 * (t % 5) + 3][(t % 3) as usize]).collect();
        assert_eq!(report.array(1).unwrap().to_u32().unwrap(), want);
    }
}

#[test]
fn calls_through_pointers_and_tables_of_virtual_functions() {
    let x = Numbers(6).floats(50);
    for program in programs() {
        let args = [f32s(x.clone()), out(ArrayType::F32, 50), Value::I32(50)];
        let report = run(program, &job("function_pointers", 1, 64, &args));
        let want: Vec<f32> = x.iter().enumerate().map(|(i, v)| [2.0 * v, v * v, -v][i % 3]).collect();
        assert_eq!(report.array(1).unwrap().to_f32().unwrap(), want);
        let report = run(program, &job("virtual_calls", 1, 64, &args));
        let want: Vec<f32> = x.iter().enumerate().map(|(i, v)| if i % 2 == 1 { 3.0 * v * v } else { v * v }).collect();
        assert_eq!(report.array(1).unwrap().to_f32().unwrap(), want);
    }
}

#[test]
fn local_arrays_are_sorted() {
    let x: Vec<i32> = (0..640).map(|i| (i * 7919 + 13) % 101).collect();
    let args = [i32s(x.clone()), out(ArrayType::I32, 80), Value::I32(40)];
    for program in programs() {
        let report = run(program, &job("local_arrays", 2, 32, &args));
        let want: Vec<i32> = x
            .chunks(16)
            .flat_map(|row| {
                let mut row = row.to_vec();
                row.sort_unstable();
                [row[(row[0] & 15) as usize], row[15] - row[0]]
            })
            .collect();
        assert_eq!(report.array(1).unwrap().to_i32().unwrap(), want);
    }
}

#[test]
fn constant_tables() {
    let x = Numbers(7).floats(100);
    let args = [f32s(x.clone()), out(ArrayType::F32, 100), Value::I32(100)];
    let weights = [0.0625f32, 0.25, 0.375, 0.25, 0.0625];
    for program in programs() {
        let report = run(program, &job("stencil", 2, 64, &args));
        let got = report.array(1).unwrap().to_f32().unwrap();
        for (i, got) in got.iter().enumerate() {
            let at = |j: i32| x[(i as i32 + j - 2).clamp(0, 99) as usize];
            let want = (0..5).fold(0f32, |sum, j| weights[j as usize].mul_add(at(j), sum));
            assert_eq!(*got, want);
        }
    }
}

#[test]
fn double_precision() {
    let x: Vec<f64> = Numbers(8).floats(33).into_iter().map(|v| f64::from(v) * 4.0).collect();
    let args = [Value::In(Array::from_f64(&x)), out(ArrayType::F64, 264), Value::I32(33)];
    for program in programs() {
        let report = run(program, &job("doubles", 1, 64, &args));
        let got = report.array(1).unwrap().to_f64().unwrap();
        for (v, got) in x.iter().zip(got.chunks(8)) {
            let want = [
                v.abs().sqrt(),
                v.exp(),
                v.abs().ln_1p(),
                v.sin() * v.cos(),
                v.mul_add(*v, -1.0),
                v / 3.0,
                (v.abs() + 0.5).powf(1.7),
                v.tanh() + v.atan2(2.0),
            ];
            for (got, want) in got.iter().zip(want) {
                // The library's double functions are good to 2 ulp; sums and products add as many.
                assert!((got - want).abs() <= 1e-15 * want.abs().max(1.0), "{v}: {got} {want}");
            }
        }
    }
}

#[test]
fn wide_atomics() {
    let x: Vec<u64> = (0..100u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3).collect();
    let slots = Value::InOut(Array::from_u64(&[0, 0, u64::MAX, 0, 5]));
    let args = [slots, Value::InOut(Array::from_f64(&[1.0])), Value::In(Array::from_u64(&x)), Value::I32(100)];
    for program in programs() {
        let report = run(program, &job("wide_atomics", 2, 64, &args));
        let want = [
            x.iter().fold(0u64, |a, b| a.wrapping_add(*b)),
            *x.iter().max().unwrap(),
            *x.iter().min().unwrap(),
            x.iter().fold(0, |a, b| a ^ b),
            5 + x.iter().map(|v| v & 7).sum::<u64>(),
        ];
        assert_eq!(report.array(0).unwrap().to_u64().unwrap(), want);
        assert_eq!(report.array(1).unwrap().to_f64().unwrap(), [51.0]);
    }
}

#[test]
fn votes_and_matches() {
    let x: Vec<i32> = (0..32).map(|i| i % 5 - 1).collect();
    let args = [i32s(x.clone()), out(ArrayType::U32, 256)];
    for program in programs() {
        let report = run(program, &job("votes", 1, 32, &args));
        let lanes = |f: &dyn Fn(i32) -> bool| (0..32).filter(|&i| f(x[i])).fold(0u32, |a, i| a | 1 << i);
        let positive = lanes(&|v| v > 0);
        let second = (0..32).filter(|i| positive >> i & 1 == 1).nth(1).unwrap() as u32;
        for (t, got) in report.array(1).unwrap().to_u32().unwrap().chunks(8).enumerate() {
            let sum = x.iter().sum::<i32>() as u32;
            let count = x.iter().filter(|v| **v > 1).count() as u32;
            assert_eq!(got, [positive, lanes(&|v| v == x[t]), 0, sum, count, 3, 32, second], "{t}");
        }
    }
}

#[test]
fn switches_and_bit_tricks() {
    let x: Vec<i32> = (0..60).map(|i| i % 12).collect();
    let args = [i32s(x.clone()), out(ArrayType::I32, 60), Value::I32(60)];
    for program in programs() {
        let report = run(program, &job("switches", 1, 64, &args));
        for (i, got) in report.array(1).unwrap().to_i32().unwrap().into_iter().enumerate() {
            let (u, v) = (i as u32, x[i]);
            let bytes = |a: u32, b: u32, f: &dyn Fn(u8, u8) -> u8| {
                let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
                u32::from_le_bytes([0, 1, 2, 3].map(|j| f(a[j], b[j]))) as i32
            };
            let want = match v {
                0 => 10,
                1 => v * 3 + i as i32,
                2 => (u + 1).leading_zeros() as i32,
                3 => {
                    if u == 0 {
                        0
                    } else {
                        u.trailing_zeros() as i32 + 1
                    }
                }
                4 => (u.reverse_bits() as i32) >> 8,
                // Selectors 0, 4, 1, 5: bytes 0 and 1 of each, in turns.
                5 => (u & 0xff | 0x04 << 8 | (u >> 8 & 0xff) << 16 | 0x03 << 24) as i32,
                6 => v << 7 | (u >> 25) as i32,
                7 => ((i64::from(u << 20) * i64::from(v << 20)) >> 32) as i32,
                8 => (i as i32 - v).abs() + 5,
                9 => (1 + 2 + 3 + 4) * i as i32 + v,
                10 => bytes(u * 0x0101_0101, 0x7f7f_7f7f, &u8::wrapping_add),
                _ => -1,
            };
            assert_eq!(got, want, "case {v} of {i}");
        }
    }
}

#[test]
fn shifts_of_64_bits() {
    let x: Vec<u64> = (0..40u64).map(|i| i.wrapping_mul(0xd134_2543_de82_ef95) ^ i << 60).collect();
    let by: Vec<i32> = (0..40).map(|i| i * 3 % 64).collect();
    let args = [Value::In(Array::from_u64(&x)), i32s(by.clone()), out(ArrayType::U64, 240), Value::I32(40)];
    for program in programs() {
        let report = run(program, &job("shifts", 1, 64, &args));
        for (i, got) in report.array(2).unwrap().to_u64().unwrap().chunks(6).enumerate() {
            let (v, s) = (x[i], by[i]);
            let first = if v == 0 { 0 } else { u64::from(v.trailing_zeros()) + 1 };
            let want = [
                v << s,
                v >> s,
                ((v as i64) >> s) as u64,
                ((u128::from(v) * u128::from(v)) >> 64) as u64,
                u64::from(v.count_ones()) + 100 * u64::from(v.leading_zeros()) + 10_000 * first,
                v.reverse_bits() ^ (v % 1_000_003) ^ (v / 7),
            ];
            assert_eq!(got, want, "{v:#x} by {s}");
        }
    }
}

#[test]
fn printing_sleeping_and_clocks_do_no_harm() {
    let args = [i32s(0..20), out(ArrayType::I32, 20), Value::I32(20)];
    for program in programs() {
        let report = run(program, &job("talkative", 1, 32, &args));
        assert_eq!(report.array(1).unwrap().to_i32().unwrap(), (1..21).collect::<Vec<_>>());
    }
}

#[test]
fn a_failed_assertion_is_a_finding_with_its_text() {
    for program in programs() {
        let good = [i32s(0..8), out(ArrayType::I32, 8), Value::I32(8)];
        run(program, &job("asserting", 1, 8, &good));
        let bad = [i32s([0, 1, -7, 3]), out(ArrayType::I32, 4), Value::I32(4)];
        let Err(RunError::Finding { finding, .. }) = program.run(&job("asserting", 1, 4, &bad)) else { panic!() };
        let LaunchError::Assertion { place, message } = &finding else { panic!("{finding}") };
        assert_eq!(place.thread, [2, 0, 0]);
        assert!(message.contains("in[i] >= 0") && message.contains("plain.cu"), "{message}");
    }
}

#[test]
fn the_last_block_adds_up() {
    let x: Vec<i32> = (0..256).collect();
    let args = [i32s(x), out(ArrayType::I32, 8), Value::InOut(Array::from_u32(&[0])), out(ArrayType::I32, 1)];
    for program in programs() {
        for resident_blocks in [1, 4] {
            let report = run(program, &Job { resident_blocks, ..job("last_block", 8, 32, &args) });
            assert_eq!(report.array(3).unwrap().to_i32().unwrap(), [255 * 128]);
        }
    }
}

#[test]
fn templates_are_instantiated_by_name() {
    for program in programs() {
        let (x, y) = (Numbers(9).floats(100), Numbers(10).floats(100));
        let args = [Value::F32(1.5), f32s(x.clone()), Value::InOut(Array::from_f32(&y))];
        let report = run(program, &job("axpy<float, 100>", 2, 64, &args));
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 1.5f32.mul_add(*x, *y)).collect();
        assert_eq!(report.array(2).unwrap().to_f32().unwrap(), want);
        assert!(program.kernel("axpy").is_err());
        assert!(program.kernel("nothing").unwrap_err().to_string().contains("reduce_shuffle"));
    }
}

#[test]
fn structs_by_value_and_in_memory() {
    let n = 5usize;
    let mut bytes = Vec::new();
    for i in 0..n {
        for v in [i as f32, 1.0, 2.0, 0.5 * i as f32] {
            bytes.extend(v.to_le_bytes());
        }
        bytes.extend((i as i32).to_le_bytes());
        bytes.extend([b'?', 0, 0, 0]);
    }
    let by: Vec<u8> = [10f32, 20.0, 30.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let args = [Value::In(Array::from_u8(&bytes)), out(ArrayType::U8, 24 * n), Value::Bytes(by), Value::I32(n as i32)];
    for program in programs() {
        let report = run(program, &job("structs", 1, 32, &args));
        let got = report.array(1).unwrap().to_u8().unwrap();
        for (i, p) in got.chunks(24).enumerate() {
            let word = |at: usize| <[u8; 4]>::try_from(&p[at..at + 4]).unwrap();
            assert_eq!([0, 4, 8].map(|at| f32::from_le_bytes(word(at))), [i as f32 + 10.0, 21.0, 32.0]);
            assert_eq!(i32::from_le_bytes(word(16)), 2 * i as i32);
            assert_eq!(p[20], if i > 2 { b'y' } else { b'n' });
        }
        // Padding is copied by the compiler's choice; what nobody wrote is reported.
        assert!(report.arrays[1].as_ref().unwrap().1 <= 3 * n);
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    for program in programs() {
        let short = [zeros_i32(4)];
        let error = program.run(&job("asserting", 1, 4, &short)).unwrap_err();
        assert!(matches!(error, RunError::Arguments { .. }), "{}", chain(&error));
        let args = [i32s(0..8), out(ArrayType::I32, 8), Value::I32(8)];
        let error = program.run(&job("asserting", 1, 2000, &args)).unwrap_err();
        assert!(matches!(error, RunError::Refused(_)), "{}", chain(&error));
    }
}

#[test]
fn the_device_library_has_no_unknown_instruction() {
    let source = include_str!("kernels/library.cu");
    for target in ["sm_80", "sm_90a"] {
        let Some(program) = program("library.cu", source, target, &[]) else { return };
        let x: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
        let xd: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        let zeros = |n: usize| Value::InOut(Array::from_u8(&vec![0; n]));
        let args = [
            f32s(x),
            Value::In(Array::from_f64(&xd)),
            zeros(4 * 128),
            zeros(8 * 128),
            zeros(4 * 128),
            zeros(2 * 128),
            zeros(2 * 128),
            Value::I32(32),
        ];
        // Its atomics and its mixed reads and writes are no example to follow: only bounds are checked.
        let job = Job { checks: enel_emulate::Checks::none(), ..job("lib", 1, 32, &args) };
        let report = program.run(&job).unwrap_or_else(|e| panic!("{target}: {}", chain(&e)));
        assert!(report.stats.warp_instructions > 1000);
    }
}
