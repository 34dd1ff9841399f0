//! Do kernels with cooperative groups, wmma, asynchronous copies and clusters give the right results under every schedule?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{Numbers, f32s, halves, i32s, out, program, run, zeros_i32};
use enel_emulate::{Array, ArrayType, Fill, Job, MapElement, MapOf, Program, Swizzle, Value};
use half::{bf16, f16};
use std::sync::OnceLock;

fn groups() -> Option<&'static Program> {
    static MADE: OnceLock<Option<Program>> = OnceLock::new();
    MADE.get_or_init(|| program("groups.cu", include_str!("kernels/groups.cu"), "sm_90a", &[])).as_ref()
}

fn job<'a>(kernel: &'a str, grid: u32, block: u32, args: &'a [Value]) -> Job<'a> {
    Job { grid: [grid, 1, 1], block: [block, 1, 1], ..Job::new(kernel, args) }
}

#[test]
fn tiles_reduce_scan_and_vote() {
    let Some(program) = groups() else { return };
    let x: Vec<i32> = (0..128).map(|i| i * 37 % 101 - 40).collect();
    let args = [i32s(x.clone()), out(ArrayType::I32, 512), out(ArrayType::I32, 128)];
    let report = run(program, &job("tile_reduce", 2, 64, &args));
    let ranks = report.array(2).unwrap().to_i32().unwrap();
    for (i, got) in report.array(1).unwrap().to_i32().unwrap().chunks(4).enumerate() {
        let (tile, warp) = (&x[i / 8 * 8..][..8], &x[i / 32 * 32..][..32]);
        let odd = tile.iter().enumerate().fold(0, |acc, (j, v)| acc | (v & 1) << j);
        let scan: i32 = tile[..=i % 8].iter().sum();
        let want = [tile.iter().sum(), *warp.iter().max().unwrap(), scan, tile[(i % 8) ^ 3] + odd];
        assert_eq!(got, want);
        let n_odd = |lanes: &[i32]| lanes.iter().filter(|v| *v & 1 == 1).count() as i32;
        let want = if x[i] & 1 == 1 { n_odd(&warp[..i % 32]) * 100 + n_odd(warp) } else { -1 };
        assert_eq!(ranks[i], want);
    }
}

#[test]
fn wmma_multiplies_halves_and_bf16() {
    let Some(program) = groups() else { return };
    let (m, n, k) = (32usize, 48usize, 64usize);
    let (a, b) = (Numbers(1).floats(m * k), Numbers(2).floats(n * k));
    type Round = (&'static str, fn(f32) -> u16, fn(u16) -> f64);
    let kinds: [Round; 2] = [
        ("wmma_half", |x| f16::from_f32(x).to_bits(), |b| f16::from_bits(b).to_f64()),
        ("wmma_bf16", |x| bf16::from_f32(x).to_bits(), |b| bf16::from_bits(b).to_f64()),
    ];
    for (kernel, encode, decode) in kinds {
        let (a, b): (Vec<u16>, Vec<u16>) =
            (a.iter().map(|x| encode(*x)).collect(), b.iter().map(|x| encode(*x)).collect());
        let args = [
            halves(a.clone()),
            halves(b.clone()),
            out(ArrayType::F32, m * n),
            Value::I32(m as i32),
            Value::I32(n as i32),
            Value::I32(k as i32),
        ];
        let report = run(program, &Job { grid: [3, 2, 1], ..job(kernel, 1, 32, &args) });
        for (i, got) in report.array(2).unwrap().to_f32().unwrap().into_iter().enumerate() {
            let want: f64 = (0..k).map(|p| decode(a[i / n * k + p]) * decode(b[i % n * k + p])).sum::<f64>() / 2.0;
            // Four roundings to f32 of sums below 64.
            assert!((f64::from(got) - want).abs() <= 64.0 * 4.0 * 2f64.powi(-24), "{got} {want}");
        }
    }
}

#[test]
fn wmma_multiplies_bytes_and_tf32() {
    let Some(program) = groups() else { return };
    let (a, b): (Vec<u8>, Vec<u8>) =
        ((0..512).map(|i| (i * 73 % 251) as u8).collect(), (0..128).map(|i| (i * 29) as u8).collect());
    let args = [Value::In(Array::from_u8(&a)), Value::In(Array::from_u8(&b)), out(ArrayType::I32, 256)];
    let report = run(program, &job("wmma_int8", 1, 32, &args));
    let at = |v: &[u8], i: usize| i32::from(v[i] as i8);
    let want: Vec<i32> =
        (0..256).map(|i| 7 + (0..16).map(|p| at(&a, i / 8 * 16 + p) * at(&b, p * 8 + i % 8)).sum::<i32>()).collect();
    assert_eq!(report.array(2).unwrap().to_i32().unwrap(), want);

    let (a, b) = (Numbers(3).floats(128), Numbers(4).floats(128));
    let args = [f32s(a.clone()), f32s(b.clone()), out(ArrayType::F32, 256)];
    let report = run(program, &job("wmma_tf32", 1, 32, &args));
    // Round to 10 bits of fraction, ties away from zero.
    let tf32 = |x: f32| f64::from(f32::from_bits((x.to_bits() + 0x1000) & !0x1fff));
    for (i, got) in report.array(2).unwrap().to_f32().unwrap().into_iter().enumerate() {
        let want: f64 = (0..8).map(|p| tf32(a[i / 16 * 8 + p]) * tf32(b[p * 16 + i % 16])).sum();
        assert_eq!(got, want as f32);
    }
}

#[test]
fn a_pipeline_of_asynchronous_copies() {
    let Some(program) = groups() else { return };
    let x = Numbers(5).floats(256 * 4);
    let args = [f32s(x.clone()), out(ArrayType::F32, 64), Value::I32(256)];
    let report = run(program, &job("pipelined", 1, 64, &args));
    for (t, got) in report.array(1).unwrap().to_f32().unwrap().into_iter().enumerate() {
        let want = (0..4).fold(0f32, |sum, s| {
            let v = &x[4 * (64 * s + 63 - t)..];
            sum + v[2].mul_add(v[3], v[0] - v[1])
        });
        assert_eq!(got, want);
    }
}

#[test]
fn bulk_copies_report_to_a_barrier() {
    let Some(program) = groups() else { return };
    let x = Numbers(6).floats(512);
    let args = [f32s(x.clone()), out(ArrayType::F32, 512)];
    let report = run(program, &job("bulk_with_barrier", 2, 64, &args));
    let want: Vec<f32> = x.iter().map(|v| v.mul_add(2.0, 1.0)).collect();
    assert_eq!(report.array(1).unwrap().to_f32().unwrap(), want);
}

#[test]
fn clusters_reduce_and_count_through_distributed_shared_memory() {
    let Some(program) = groups() else { return };
    let x: Vec<f32> = (0..800).map(|i| (i % 7) as f32).collect();
    let args = [f32s(x.clone()), out(ArrayType::F32, 2), Value::I32(100)];
    let report = run(program, &job("cluster_reduce", 8, 32, &args));
    let want: Vec<f32> = x.chunks(400).map(|c| c.iter().sum()).collect();
    assert_eq!(report.array(1).unwrap().to_f32().unwrap(), want);

    let data: Vec<i32> = (0..1000).map(|i| i * i % 64).collect();
    let args = [i32s(data.clone()), zeros_i32(64), Value::I32(1000), Value::I32(32)];
    let job = Job { cluster: Some([2, 1, 1]), smem_bytes: 128, ..job("cluster_histogram", 4, 64, &args) };
    let report = run(program, &job);
    let want: Vec<i32> = (0..64).map(|bin| data.iter().filter(|v| **v == bin).count() as i32).collect();
    assert_eq!(report.array(1).unwrap().to_i32().unwrap(), want);
}

#[test]
fn a_matmul_of_tensor_copies_and_wgmma() {
    let source = include_str!("../../tests/fixtures/hopper.cu");
    let Some(program) = program("hopper.cu", source, "sm_90a", &[]) else { return };
    let (m, n, k) = (128usize, 64usize, 192usize);
    let draw = |seed: u64, n: usize| -> Vec<bf16> { Numbers(seed).floats(n).into_iter().map(bf16::from_f32).collect() };
    let (a, b) = (draw(7, m * k), draw(8, n * k));
    let bits = |v: &[bf16]| halves(v.iter().map(|x| x.to_bits()));
    let map = |argument, element, dims: [usize; 2], box_dims: [u32; 2], swizzle| {
        Value::Map(MapOf {
            argument,
            element,
            dims: dims.iter().map(|&n| n as u64).collect(),
            strides_bytes: Vec::new(),
            box_dims: box_dims.to_vec(),
            elem_strides: Vec::new(),
            swizzle,
            fill: Fill::Zeros,
        })
    };
    // The kernel takes maps only; the arrays behind them are no parameters.
    let args = [
        map(3, MapElement::Bf16, [k, m], [64, 64], Swizzle::B128),
        map(4, MapElement::Bf16, [k, n], [64, 64], Swizzle::B128),
        map(5, MapElement::F32, [n, m], [32, 64], Swizzle::None),
        bits(&a),
        bits(&b),
        out(ArrayType::F32, m * n),
        Value::I32(k as i32),
    ];
    let job = Job { grid: [1, 2, 1], smem_bytes: 32768, ..job("matmul", 1, 256, &args) };
    let report = run(&program, &job);
    for (i, got) in report.array(5).unwrap().to_f32().unwrap().into_iter().enumerate() {
        let want: f64 = (0..k).map(|p| a[i / n * k + p].to_f64() * b[i % n * k + p].to_f64()).sum();
        assert!((f64::from(got) - want).abs() <= 12.0 * 192.0 * 2f64.powi(-24), "{got} {want}");
    }
}

#[test]
fn a_grid_waits_for_all_its_blocks() {
    let Some(program) = groups() else { return };
    let mut want: Vec<i32> = (0..160).map(|i| i * i % 23).collect();
    let args = [Value::InOut(Array::from_i32(&want)), out(ArrayType::I32, 160)];
    let report = run(program, &job("grid_rounds", 5, 32, &args));
    for _ in 0..3 {
        want = (0..160).map(|i| want[(i + 1) % 160] + want[(i + 159) % 160] + 1).collect();
    }
    assert_eq!(report.array(0).unwrap().to_i32().unwrap(), want);
}

#[test]
fn a_tile_goes_in_and_out_through_tensor_maps() {
    let Some(program) = groups() else { return };
    let x: Vec<i32> = (0..40 * 10).collect();
    let map = |argument| {
        Value::Map(MapOf {
            argument,
            element: MapElement::I32,
            dims: vec![40, 10],
            strides_bytes: vec![160],
            box_dims: vec![16, 8],
            elem_strides: Vec::new(),
            swizzle: Swizzle::None,
            fill: Fill::Zeros,
        })
    };
    let args = [i32s(x.clone()), zeros_i32(400), map(0), map(1), Value::I32(-4), Value::I32(5)];
    let report = run(program, &job("add_one_tile", 3, 32, &args));
    let got = report.array(1).unwrap().to_i32().unwrap();
    assert!((0..400).all(|i| got[i] == if i / 40 >= 5 { x[i] + 1 } else { 0 }));
}

fn parts() -> Option<&'static Program> {
    static MADE: OnceLock<Option<Program>> = OnceLock::new();
    MADE.get_or_init(|| program("parts.cu", include_str!("kernels/parts.cu"), "sm_90a", &[])).as_ref()
}

#[test]
fn copies_have_any_size_and_alignment() {
    let Some(program) = parts() else { return };
    for (n, shift) in [(33, 0), (33, 1), (64, 0), (7, 4), (1, 0), (72, 2)] {
        let x: Vec<u8> = (0..2 * n).map(|i| (i * 7 % 251) as u8).collect();
        let args = [Value::In(Array::from_u8(&x)), out(ArrayType::U8, 2 * n), Value::I32(n as i32), Value::I32(shift)];
        let report = run(program, &job("copy_bytes", 1, 64, &args));
        assert_eq!(report.array(1).unwrap().to_u8().unwrap(), x, "{n} {shift}");
    }
    let x = Numbers(9).floats(128);
    let report = run(program, &job("two_stages", 1, 64, &[f32s(x.clone()), out(ArrayType::F32, 128)]));
    let want: Vec<f32> = (0..128).map(|i| x[i / 64 * 64 + 63 - i % 64]).collect();
    assert_eq!(report.array(1).unwrap().to_f32().unwrap(), want);
    let x: Vec<i32> = (0..64 * 5).map(|i| i * i % 37).collect();
    let args = [i32s(x.clone()), out(ArrayType::I32, 64), Value::I32(5)];
    let report = run(program, &job("piped", 1, 64, &args));
    let want: Vec<i32> = (0..64).map(|t| (0..5).map(|r| x[64 * r + 63 - t]).sum()).collect();
    assert_eq!(report.array(1).unwrap().to_i32().unwrap(), want);
}

#[test]
fn a_function_takes_any_group() {
    let Some(program) = parts() else { return };
    let x: Vec<i32> = (0..64).map(|i| i * 5 % 17).collect();
    let report = run(program, &job("sums", 1, 64, &[i32s(x.clone()), out(ArrayType::I32, 13)]));
    let sums = |n: usize| x.chunks(n).map(|part| part.iter().sum()).collect::<Vec<i32>>();
    assert_eq!(report.array(1).unwrap().to_i32().unwrap(), [sums(64), sums(16), sums(8)].concat());
}

#[test]
fn groups_have_parts() {
    let Some(program) = parts() else { return };
    let x: Vec<i32> = (0..64).map(|i| i * 5 % 17).collect();
    let report = run(program, &job("parts", 1, 64, &[i32s(x.clone()), out(ArrayType::I32, 512)]));
    for (t, got) in report.array(1).unwrap().to_i32().unwrap().chunks(8).enumerate() {
        let warp = &x[t / 32 * 32..][..32];
        let alike: Vec<i32> = warp.iter().copied().filter(|v| v & 3 == x[t] & 3).collect();
        let tile = &x[t / 16 * 16..][..16];
        let want = [
            t as i32 % 32 / 4 + 800,
            alike.len() as i32,
            alike.iter().sum(),
            warp.iter().filter(|v| (**v > 8) == (x[t] > 8)).count() as i32,
            (0..16).filter(|&i| tile[i] == x[t]).map(|i| 1 << i).sum(),
            0xffff + 1,
            5 + t as i32 / 32 * 32,
            t as i32 % 8,
        ];
        assert_eq!(got, want, "{t}");
    }
}

#[test]
fn atomics_have_operators() {
    let Some(program) = parts() else { return };
    let report = run(program, &job("atomics", 1, 32, &[Value::InOut(Array::from_i32(&[0, 0, 0]))]));
    assert_eq!(report.array(0).unwrap().to_i32().unwrap(), [64, -1, 64 + 31]);
}
