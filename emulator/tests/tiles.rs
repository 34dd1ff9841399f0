//! Do tensor copies move the right elements: every rank, swizzle, step and fill, in and out, with reductions?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::Gpu;
use enel_emulator::{Arg, Fill, LaunchError, MapElement, Swizzle, TensorMap};

const HEAD: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

/// Loads the box at `coords`, copies the raw bytes of shared memory to `raw`, stores the box at `to` of the second map.
fn kernel(rank: usize, coords: &[i32], to: &[i32], bytes: usize, store: &str) -> String {
    let list = |c: &[i32]| c.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "{HEAD}.visible .entry k(.param .align 64 .b8 from[128], .param .align 64 .b8 into[128], .param .u64 raw)\n{{\n\
         .reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n.reg .pred %p<3>;\n.shared .align 1024 .b8 s[{bytes}];\n\
         .shared .align 8 .b8 bar[8];\nld.param.u64 %rd0, [raw];\nmov.b64 %rd1, from;\ncvta.param.u64 %rd2, %rd1;\n\
         mov.b64 %rd3, into;\ncvta.param.u64 %rd4, %rd3;\nmbarrier.init.shared::cta.b64 [bar], 1;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};\nmov.u32 %r0, s;\nmov.u32 %r5, bar;\n\
         cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r0], [%rd2, {{{}}}], [%r5];\n\
         W:\nmbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0;\n@!%p0 bra W;\nmov.u32 %r1, 0;\n\
         L:\nadd.u32 %r3, %r0, %r1;\nld.shared.b8 %r2, [%r3];\ncvt.u64.u32 %rd5, %r1;\nadd.u64 %rd5, %rd5, %rd0;\n\
         st.global.b8 [%rd5], %r2;\nadd.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, {bytes};\n@%p1 bra L;\n\
         fence.proxy.async.shared::cta;\n{store} [%rd4, {{{}}}], [%r0];\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group 0;\nret;\n}}\n",
        list(coords),
        list(to)
    )
}

struct Case {
    dims: Vec<u64>,
    box_dims: Vec<u32>,
    steps: Vec<u32>,
    coords: Vec<i32>,
    swizzle: Swizzle,
    fill: Fill,
}

/// Index of every element of a box and its coordinates, in the order of shared memory.
fn box_elements(case: &Case) -> Vec<Vec<i64>> {
    let counts: Vec<u32> = case.box_dims.iter().zip(&case.steps).map(|(n, s)| n.div_ceil(*s)).collect();
    let total: u32 = counts.iter().product();
    (0..total)
        .map(|i| {
            let mut rest = i;
            let each = counts.iter().zip(&case.coords).zip(&case.steps);
            each.map(|((&n, &c), &s)| {
                let index = i64::from(c) + i64::from(rest % n) * i64::from(s);
                rest /= n;
                index
            })
            .collect()
        })
        .collect()
}

fn linear(dims: &[u64], at: &[i64]) -> Option<usize> {
    let inside = at.iter().zip(dims).all(|(i, n)| (0..*n as i64).contains(i));
    inside.then(|| at.iter().zip(dims).rev().fold(0, |acc, (i, n)| acc * *n as usize + *i as usize))
}

fn map(case: &Case, address: u64) -> Arg {
    let mut pitch = 4;
    let outer = &case.dims[..case.dims.len() - 1];
    let strides_bytes = outer.iter().map(|n| {
        pitch *= n;
        pitch
    });
    let map = TensorMap {
        address,
        element: MapElement::F32,
        dims: case.dims.clone(),
        strides_bytes: strides_bytes.collect(),
        box_dims: case.box_dims.clone(),
        elem_strides: case.steps.clone(),
        swizzle: case.swizzle,
        fill: case.fill,
    };
    Arg::Bytes(map.encode().unwrap().to_vec())
}

fn check(case: &Case) {
    let n: u64 = case.dims.iter().product();
    let tensor: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
    let elements = box_elements(case);
    let (rank, bytes) = (case.dims.len(), elements.len() * 4);
    let store = format!("cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group");
    for seed in [0, 1, 9] {
        let mut gpu = Gpu::new(&kernel(rank, &case.coords, &case.coords, bytes, &store));
        gpu.options.seed = seed;
        let (from, raw) = (gpu.upload(&tensor), gpu.empty::<u32>(elements.len()));
        let into = gpu.upload(&vec![-1f32; n as usize]);
        gpu.run("k", 1, 1, &[map(case, from), map(case, into), Arg::U64(raw)]);
        let raw = gpu.download::<f32>(raw, elements.len());
        let stored = gpu.download::<f32>(into, n as usize);
        let mut want_stored = vec![-1f32; n as usize];
        for (i, at) in elements.iter().enumerate() {
            // The chunk of 16 bytes is permuted by the number of its 128-byte line.
            let (chunk, line) = (i / 4, i / 32);
            let mask = match case.swizzle {
                Swizzle::None => 0,
                Swizzle::B32 => 1,
                Swizzle::B64 => 3,
                Swizzle::B128 => 7,
            };
            let got = raw[(chunk ^ (line & mask)) * 4 + i % 4];
            match linear(&case.dims, at) {
                Some(index) => {
                    assert_eq!(got, tensor[index], "element {i}, seed {seed}");
                    want_stored[index] = got;
                }
                None if case.fill == Fill::Nan => assert!(got.is_nan(), "element {i}"),
                None => assert_eq!(got, 0.0, "element {i}"),
            }
        }
        assert_eq!(stored, want_stored);
    }
}

#[test]
fn every_rank_and_swizzle() {
    for (swizzle, inner) in [(Swizzle::None, 12), (Swizzle::B32, 8), (Swizzle::B64, 16), (Swizzle::B128, 32)] {
        for rank in 1..=5 {
            let dims = [40, 6, 5, 4, 3][..rank].to_vec();
            let box_dims = [inner, 4, 2, 3, 2][..rank].to_vec();
            let coords = [4, 1, 3, 0, 1][..rank].to_vec();
            check(&Case { dims, box_dims, steps: vec![1; rank], coords, swizzle, fill: Fill::Zeros });
        }
    }
}

#[test]
fn boxes_outside_the_tensor_are_filled_and_not_stored() {
    for fill in [Fill::Zeros, Fill::Nan] {
        for coords in [[-5, 0], [30, 4], [0, -2], [1 << 30, 0], [i32::MIN, i32::MIN], [36, 5]] {
            for swizzle in [Swizzle::None, Swizzle::B128] {
                let case = Case {
                    dims: vec![36, 7],
                    box_dims: vec![32, 4],
                    steps: vec![1, 1],
                    coords: coords.to_vec(),
                    swizzle,
                    fill,
                };
                check(&case);
            }
        }
    }
}

#[test]
fn steps_skip_elements() {
    for (steps, box_dims) in [([1, 2], [8, 5]), ([2, 1], [16, 3]), ([3, 3], [24, 6]), ([1, 8], [4, 8])] {
        let case = Case {
            dims: vec![32, 20],
            box_dims: box_dims.to_vec(),
            steps: steps.to_vec(),
            coords: vec![3, 2],
            swizzle: Swizzle::None,
            fill: Fill::Zeros,
        };
        check(&case);
    }
}

#[test]
fn a_tensor_is_reduced_into() {
    let case = Case {
        dims: vec![16, 4],
        box_dims: vec![16, 4],
        steps: vec![1, 1],
        coords: vec![0, 0],
        swizzle: Swizzle::B64,
        fill: Fill::Zeros,
    };
    let store = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group";
    let mut gpu = Gpu::new(&kernel(2, &case.coords, &[0, 1], 256, store));
    let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (from, into, raw) = (gpu.upload(&x), gpu.upload(&[100f32; 64]), gpu.empty::<u32>(64));
    gpu.run("k", 1, 1, &[map(&case, from), map(&case, into), Arg::U64(raw)]);
    // One row further down: the last row falls out.
    let want: Vec<f32> = (0..64).map(|i| 100.0 + if i < 16 { 0.0 } else { x[i - 16] }).collect();
    assert_eq!(gpu.download::<f32>(into, 64), want);
}

#[test]
fn mistakes_are_told() {
    let text = kernel(1, &[0], &[0], 64, "cp.async.bulk.tensor.1d.global.shared::cta.tile.bulk_group");
    let run = |text: &str, from: &dyn Fn(u64) -> Arg| {
        let mut gpu = Gpu::new(text);
        gpu.options.max_instructions = Some(100_000);
        let (data, raw) = (gpu.upload(&[1f32; 64]), gpu.empty::<u32>(64));
        gpu.try_run("k", [1; 3], [1; 3], 0, &[from(data), from(data), Arg::U64(raw)]).unwrap_err()
    };
    let case = |n: u64| Case {
        dims: vec![n],
        box_dims: vec![16],
        steps: vec![1],
        coords: vec![0],
        swizzle: Swizzle::None,
        fill: Fill::Zeros,
    };
    let error = run(&text, &|_| Arg::Bytes(vec![0; 128]));
    assert!(matches!(&error, LaunchError::AsyncCopy { detail, .. } if detail.contains("no tensor map")), "{error}");
    // The map claims more than was allocated.
    let short = kernel(1, &[60], &[0], 64, "cp.async.bulk.tensor.1d.global.shared::cta.tile.bulk_group");
    let error = run(&short, &|data| map(&case(1000), data));
    assert!(matches!(error, LaunchError::OutOfBounds { .. }), "{error}");
    // Fewer bytes are expected than arrive: the count never comes to zero, and the wait never ends.
    let error = run(&text.replace("_, [bar], 64;", "_, [bar], 48;"), &|data| map(&case(64), data));
    let LaunchError::Deadlock { waiting, .. } = &error else { panic!("{error}") };
    assert!(waiting[0].contains("phase 0 of the mbarrier") && waiting[0].contains("-16 B in flight"), "{error}");
    let error = run(&text.replace("mbarrier.init.shared::cta.b64 [bar], 1;", ""), &|data| map(&case(64), data));
    assert!(matches!(error, LaunchError::Mbarrier { .. }), "{error}");
    let error = run(&text.replace("mov.u32 %r0, s;", "mov.u32 %r0, s+16;"), &|data| map(&case(64), data));
    assert!(matches!(error, LaunchError::Misaligned { bytes: 128, .. } | LaunchError::OutOfBounds { .. }), "{error}");
}
