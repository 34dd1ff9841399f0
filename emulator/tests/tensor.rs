//! Do all shapes of `mma.sync`, `ldmatrix`, `stmatrix`, `movmatrix` and `cp.async` follow the fragment layouts of the manual?

mod common;

use common::{Gpu, Numbers};
use enel_emulator::Arg;
use half::{bf16, f16};

/// A kernel that loads `n_a + n_b + n_c` registers per lane from `in`, runs `mma` and stores `n_d` registers to `out`.
fn mma_kernel(mma: &str, [n_a, n_b, n_c, n_d]: [usize; 4]) -> String {
    let mut body = String::new();
    let total = n_a + n_b + n_c;
    for i in 0..total {
        body += &format!("ld.global.b32 %r{}, [%rd3+{}];\n", i + 10, 4 * i);
    }
    let list = |from: usize, n: usize| (from..from + n).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
    let (a, b, c) = (list(10, n_a), list(10 + n_a, n_b), list(10 + n_a + n_b, n_c));
    body += &format!("{mma} {{{}}}, {{{a}}}, {{{b}}}, {{{c}}};\n", list(40, n_d));
    for i in 0..n_d {
        body += &format!("st.global.b32 [%rd5+{}], %r{};\n", 4 * i, i + 40);
    }
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 %r<60>;\n.reg .b64 %rd<9>;\n\
         ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r0, %laneid;\nmad.wide.u32 %rd3, %r0, {}, %rd1;\n\
         mad.wide.u32 %rd5, %r0, {}, %rd2;\n{body}ret;\n}}\n",
        4 * total,
        4 * n_d
    )
}

struct Shape {
    text: &'static str,
    k: usize,
    /// Bits of one A or B element.
    bits: usize,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f64,
    integer: bool,
    half_sum: bool,
}

fn run_shape(shape: &Shape, seed: u64) {
    let Shape { text, k, bits, encode, decode, integer, half_sum } = *shape;
    let mut numbers = Numbers(seed);
    let mut draw = |n: usize| (0..n).map(|_| encode(numbers.float())).collect::<Vec<u32>>();
    let (a, b) = (draw(16 * k), draw(k * 8));
    let c: Vec<f32> = (0..128).map(|i| if integer { i as f32 } else { i as f32 / 64.0 }).collect();
    let per = 32 / bits;
    let (n_a, n_b) = (16 * k / 32 / per, k * 8 / 32 / per);
    let n_c = if half_sum { 2 } else { 4 };
    let c_bits = |v: f32| if integer { v as i32 as u32 } else { v.to_bits() };
    let mut regs = Vec::new();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        let pack = |get: &dyn Fn(usize) -> u32| (0..per).fold(0u32, |acc, e| acc | get(e) << (bits * e));
        // A: rows g and g + 8 alternate fastest, then the next group of columns.
        for r in 0..n_a {
            regs.push(pack(&|e| a[(g + r % 2 * 8) * k + t * per + e + r / 2 * 4 * per]));
        }
        for r in 0..n_b {
            regs.push(pack(&|e| b[(t * per + e + r * 4 * per) * 8 + g]));
        }
        for r in 0..n_c {
            let at = |row: usize, col: usize| c[row * 8 + col];
            regs.push(if half_sum {
                let half = |col| u32::from(f16::from_f32(at(g + 8 * r, col)).to_bits());
                half(2 * t) | half(2 * t + 1) << 16
            } else {
                c_bits(at(g + 8 * (r / 2), 2 * t + r % 2))
            });
        }
    }
    let mut gpu = Gpu::new(&mma_kernel(text, [n_a, n_b, n_c, n_c]));
    let (input, out) = (gpu.upload(&regs), gpu.empty::<u32>(32 * n_c));
    let stats = gpu.run("k", 1, 32, &[Arg::U64(input), Arg::U64(out)]);
    assert_eq!(stats.mma, 1);
    let got = gpu.download::<u32>(out, 32 * n_c);
    for row in 0..16 {
        for col in 0..8 {
            let exact: f64 = (0..k).map(|i| decode(a[row * k + i]) * decode(b[i * 8 + col])).sum::<f64>()
                + f64::from(c[row * 8 + col]);
            let lane = row % 8 * 4 + col / 2;
            let value = if half_sum {
                let word = got[lane * 2 + row / 8];
                f16::from_bits((word >> (16 * (col % 2))) as u16).to_f64()
            } else {
                let word = got[lane * 4 + row / 8 * 2 + col % 2];
                if integer { f64::from(word as i32) } else { f32::from_bits(word).into() }
            };
            let want = match (half_sum, integer) {
                (true, _) => f16::from_f64(exact).to_f64(),
                (_, true) => exact,
                _ => f64::from(exact as f32),
            };
            assert_eq!(value, want, "{text} row {row} column {col}");
        }
    }
}

#[test]
fn mma_shapes() {
    let f16_bits = |x: f32| u32::from(f16::from_f32(x).to_bits());
    let f16_value = |b: u32| f16::from_bits(b as u16).to_f64();
    let bf_bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    let bf_value = |b: u32| bf16::from_bits(b as u16).to_f64();
    let tf_bits = |x: f32| x.to_bits() & 0xffff_e000;
    let tf_value = |b: u32| f64::from(f32::from_bits(b));
    let s8_bits = |x: f32| (x * 127.0) as i8 as u8 as u32;
    let s8_value = |b: u32| f64::from(b as u8 as i8);
    let row =
        |text, k, bits, encode, decode, integer, half_sum| Shape { text, k, bits, encode, decode, integer, half_sum };
    let shapes = [
        row(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
            16,
            16,
            bf_bits as fn(f32) -> u32,
            bf_value as fn(u32) -> f64,
            false,
            false,
        ),
        row("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 8, 16, bf_bits, bf_value, false, false),
        row("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 16, 16, f16_bits, f16_value, false, false),
        row("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 8, 16, f16_bits, f16_value, false, false),
        row("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 16, 16, f16_bits, f16_value, false, true),
        row("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 8, 32, tf_bits, tf_value, false, false),
        row("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", 4, 32, tf_bits, tf_value, false, false),
        row("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", 32, 8, s8_bits, s8_value, true, false),
        row("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32", 16, 8, s8_bits, s8_value, true, false),
    ];
    for (seed, shape) in shapes.iter().enumerate() {
        run_shape(shape, seed as u64 + 1);
    }
}

/// Copies 8 x 32 halves to shared memory, runs `body` with `%r1` = this lane's row address, stores `%r10..` (n of them).
fn matrix_kernel(body: &str, n: usize) -> String {
    let stores: String = (0..n).map(|i| format!("st.global.b32 [%rd5+{}], %r{};\n", 4 * i, i + 10)).collect();
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 %r<60>;\n.reg .b64 %rd<9>;\n\
         .shared .align 16 .b8 s[1024];\nld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r0, %laneid;\n\
         mov.u32 %r2, s;\nshl.b32 %r3, %r0, 4;\nadd.u32 %r1, %r2, %r3;\nmad.wide.u32 %rd3, %r0, 16, %rd1;\n\
         mad.wide.u32 %rd5, %r0, {}, %rd2;\n\
         cp.async.cg.shared.global [%r1], [%rd3], 16;\ncp.async.wait_all;\nbar.warp.sync -1;\n{body}\n{stores}ret;\n}}\n",
        4 * n
    )
}

#[test]
fn matrices_move_between_shared_memory_and_fragments() {
    // Row r of matrix m starts at element 64 m + 8 r.
    let data: Vec<u16> = (0..256).collect();
    let run = |body: &str, n: usize| {
        let mut gpu = Gpu::new(&matrix_kernel(body, n));
        let (input, out) = (gpu.upload(&data), gpu.empty::<u32>(32 * n));
        gpu.run("k", 1, 32, &[Arg::U64(input), Arg::U64(out)]);
        gpu.download::<u32>(out, 32 * n)
    };
    let pair = |lo: usize, hi: usize| (lo | hi << 16) as u32;
    let plain = |m: usize, lane: usize| pair(64 * m + 2 * lane, 64 * m + 2 * lane + 1);
    let turned = |m: usize, lane: usize| {
        let (row, col) = (lane % 4 * 2, lane / 4);
        pair(64 * m + 8 * row + col, 64 * m + 8 * (row + 1) + col)
    };
    for n in [1, 2, 4] {
        let regs = (10..10 + n).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
        for (suffix, want) in [("", &plain as &dyn Fn(usize, usize) -> u32), (".trans", &turned)] {
            let got = run(&format!("ldmatrix.sync.aligned.m8n8.x{n}{suffix}.shared.b16 {{{regs}}}, [%r1];"), n);
            assert!((0..32 * n).all(|i| got[i] == want(i % n, i / n)), "x{n}{suffix}");
        }
    }
    let got = run(
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r9}, [%r1];\nmovmatrix.sync.aligned.m8n8.trans.b16 %r10, %r9;",
        1,
    );
    assert!((0..32).all(|lane| got[lane] == turned(0, lane)));
    // Store the fragments turned, then read them back turned: the matrix itself.
    let body = "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r8, %r9}, [%r1];\n\
        stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%r1+512], {%r8, %r9};\n\
        ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r10, %r11}, [%r1+512];";
    let got = run(body, 2);
    assert!((0..64).all(|i| got[i] == plain(i % 2, i / 2)));
}

#[test]
fn integer_sums_stop_at_the_ends_where_they_are_told_to() {
    // 32 products of 1 and 1, or of 1 and -1, beyond the largest and the least number.
    let (ones, less) = (0x0101_0101u32, u32::MAX);
    for (sign, start, sum, end) in
        [(ones, i32::MAX - 3, i32::MIN + 28, i32::MAX), (less, i32::MIN + 3, i32::MAX - 28, i32::MIN)]
    {
        for (saturate, want) in [(".satfinite", end), ("", sum)] {
            let mma = format!("mma.sync.aligned.m16n8k32.row.col{saturate}.s32.s8.s8.s32");
            let mut gpu = Gpu::new(&mma_kernel(&mma, [4, 2, 4, 4]));
            let lane = [&[ones; 4][..], &[sign; 2], &[start as u32; 4]].concat();
            let (input, out) = (gpu.upload(&lane.repeat(32)), gpu.empty::<i32>(128));
            gpu.run("k", 1, 32, &[Arg::U64(input), Arg::U64(out)]);
            assert_eq!(gpu.download::<i32>(out, 128), [want; 128], "{mma}");
        }
    }
}

#[test]
fn asynchronous_copies_fill_with_zeros_and_land_in_order() {
    let data: Vec<u16> = (1..=256).collect();
    let mut gpu = Gpu::new(&matrix_kernel(
        "cp.async.ca.shared.global [%r1], [%rd3], 16, 6;\ncp.async.commit_group;\n\
         cp.async.ca.shared.global [%r1+512], [%rd3], 4;\ncp.async.ca.shared.global [%r1+520], [%rd3+8], 8, 0;\ncp.async.commit_group;\n\
         cp.async.wait_group 1;\nld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r1];\n\
         cp.async.wait_group 0;\nld.shared.b32 %r14, [%r1+512];\nld.shared.b32 %r15, [%r1+520];",
        6,
    ));
    let (input, out) = (gpu.upload(&data), gpu.empty::<u32>(32 * 6));
    gpu.run("k", 1, 32, &[Arg::U64(input), Arg::U64(out)]);
    let word = |i: usize| u32::from(data[i]) | u32::from(data[i + 1]) << 16;
    for (lane, got) in gpu.download::<u32>(out, 32 * 6).chunks(6).enumerate() {
        let first = word(8 * lane);
        assert_eq!(got, [first, u32::from(data[8 * lane + 2]), 0, 0, first, 0], "lane {lane}");
    }
}
