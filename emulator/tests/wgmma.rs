//! Does `wgmma` read every layout of the manual, in every type, and multiply as f64 does?
//!
//! The images of shared memory are laid out here by formulas of their own, row by row and chunk by chunk.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{Gpu, Numbers};
use enel_emulator::{Access, Arg, Early, LaunchError, Place};
use half::{bf16, f16};

/// Bytes of a swizzle row; 16 is none.
type Span = usize;

#[derive(Clone, Copy)]
struct Type {
    name: &'static str,
    bytes: usize,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f64,
}

fn e4m3(bits: u32) -> f64 {
    let (sign, exponent, mantissa) = (bits >> 7, (bits >> 3 & 15) as i32, f64::from(bits & 7));
    let magnitude =
        if exponent == 0 { mantissa / 8.0 * 2f64.powi(-6) } else { (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7) };
    if sign == 1 { -magnitude } else { magnitude }
}

const F16: Type = Type {
    name: "f16",
    bytes: 2,
    encode: |x| f16::from_f32(x).to_bits().into(),
    decode: |b| f16::from_bits(b as u16).to_f64(),
};
const BF16: Type = Type {
    name: "bf16",
    bytes: 2,
    encode: |x| bf16::from_f32(x).to_bits().into(),
    decode: |b| bf16::from_bits(b as u16).to_f64(),
};
const TF32: Type =
    Type { name: "tf32", bytes: 4, encode: |x| x.to_bits() & !0x1fff, decode: |b| f32::from_bits(b).into() };
const E4M3: Type = Type {
    name: "e4m3",
    bytes: 1,
    encode: |x| ((x + 1.0) * 60.0) as u32 & 0x7f | (x.to_bits() >> 24 & 0x80),
    decode: e4m3,
};
const E5M2: Type = Type {
    name: "e5m2",
    bytes: 1,
    encode: |x| u32::from(f16::from_f32(x).to_bits() >> 8),
    decode: |b| f16::from_bits((b << 8) as u16).to_f64(),
};
const S8: Type =
    Type { name: "s8", bytes: 1, encode: |x| (x * 127.0) as i8 as u8 as u32, decode: |b| (b as u8 as i8).into() };
const U8: Type = Type { name: "u8", bytes: 1, encode: |x| ((x + 1.0) * 127.0) as u32, decode: |b| f64::from(b as u8) };

/// Where element (`row`, `k`) of a K-major tile of `rows` rows lies, and the descriptor's two offsets in bytes.
fn k_major(span: Span, rows: usize, bytes: usize, row: usize, k: usize) -> (usize, [usize; 2]) {
    let (chunk, rest) = (k * bytes / 16, k * bytes % 16);
    if span == 16 {
        // Chunk by chunk: all rows of the first 16 bytes, then all rows of the next.
        return (chunk * rows * 16 + row * 16 + rest, [rows * 16, 128]);
    }
    // Chunks of a row are permuted by the number of the 128-byte line the row starts in.
    let line = row % 8 * span / 128;
    let chunk = chunk ^ (line % (span / 16));
    (row / 8 * 8 * span + row % 8 * span + chunk * 16 + rest, [16, 8 * span])
}

/// The same for an MN-major tile of 16-bit elements.
fn mn_major(span: Span, rows: usize, row: usize, k: usize) -> (usize, [usize; 2]) {
    let per_atom = span / 2;
    let (atom, inside) = (row / per_atom, row % per_atom);
    if span == 16 {
        let (leading, stride) = (rows / 8 * 128, 128);
        return (row / 8 * stride + k / 8 * leading + k % 8 * 16 + row % 8 * 2, [leading, stride]);
    }
    let atom_bytes = 8 * span;
    let line = k % 8 * span / 128;
    let chunk = (inside / 8) ^ (line % (span / 16));
    // Atoms along K first, then along M or N.
    (atom * 2 * atom_bytes + k / 8 * atom_bytes + k % 8 * span + chunk * 16 + row % 8 * 2, [2 * atom_bytes, atom_bytes])
}

#[derive(Clone, Copy)]
struct Case {
    a: Type,
    b: Type,
    sum: &'static str,
    n: usize,
    span: Span,
    trans: [bool; 2],
    a_in_registers: bool,
    /// What follows the descriptors: `scale-d` and immediates.
    scale_d: bool,
    signs: [i32; 2],
}

const PLAIN: Case = Case {
    a: BF16,
    b: BF16,
    sum: "f32",
    n: 64,
    span: 128,
    trans: [false; 2],
    a_in_registers: false,
    scale_d: true,
    signs: [1; 2],
};

/// Where B starts in shared memory; every layout's pattern repeats within 1024 bytes.
const B_AT: usize = 16384;

impl Case {
    fn k(&self) -> usize {
        32 / self.a.bytes
    }

    fn place(&self, which: usize, row: usize, k: usize) -> (usize, [usize; 2]) {
        let (rows, ty) = if which == 0 { (64, self.a) } else { (self.n, self.b) };
        if self.trans[which] { mn_major(self.span, rows, row, k) } else { k_major(self.span, rows, ty.bytes, row, k) }
    }

    fn descriptor(&self, which: usize) -> u64 {
        let [leading, stride] = self.place(which, 0, 0).1;
        let mode: u64 = match self.span {
            128 => 1,
            64 => 2,
            32 => 3,
            _ => 0,
        };
        let field = |bytes: usize| (bytes as u64 / 16) & 0x3fff;
        field(which * B_AT) | field(leading) << 16 | field(stride) << 32 | mode << 62
    }

    fn registers(&self) -> usize {
        if self.sum == "f16" { self.n / 4 } else { self.n / 2 }
    }

    fn kernel(&self, bytes: usize) -> String {
        let n_d = self.registers();
        let list = |from: usize, n: usize| (from..from + n).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(", ");
        let (d, a_regs) = (list(100, n_d), list(90, 4));
        let mut body = String::new();
        for i in 0..n_d {
            body += &format!("ld.global.b32 %r{}, [%rd4+{}];\n", 100 + i, 4 * i);
        }
        for i in 0..4 {
            body += &format!("ld.global.b32 %r{}, [%rd6+{}];\n", 90 + i, 4 * i);
        }
        let integer = self.sum == "s32";
        let mut tail = String::new();
        if !integer {
            tail += &format!(", {}, {}", self.signs[0], self.signs[1]);
        }
        if self.a.bytes == 2 {
            if !self.a_in_registers {
                tail += &format!(", {}", i32::from(self.trans[0]));
            }
            tail += &format!(", {}", i32::from(self.trans[1]));
        }
        let a = if self.a_in_registers { format!("{{{a_regs}}}") } else { format!("{:#x}", self.descriptor(0)) };
        body += &format!(
            "wgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned.m64n{}k{}.{}.{}.{} {{{d}}}, {a}, {:#x}, %p0{tail};\n\
             wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n",
            self.n,
            self.k(),
            self.sum,
            self.a.name,
            self.b.name,
            self.descriptor(1)
        );
        for i in 0..n_d {
            body += &format!("st.global.b32 [%rd4+{}], %r{};\n", 4 * i, 100 + i);
        }
        format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 image, .param .u64 d, .param .u64 a)\n{{\n\
             .reg .b32 %r<300>;\n.reg .b64 %rd<9>;\n.reg .pred %p<3>;\n.shared .align 1024 .b8 s[{bytes}];\n\
             ld.param.u64 %rd0, [image];\nld.param.u64 %rd1, [d];\nld.param.u64 %rd2, [a];\nmov.u32 %r0, %tid.x;\n\
             mad.wide.u32 %rd4, %r0, {}, %rd1;\nmad.wide.u32 %rd6, %r0, 16, %rd2;\nshl.b32 %r1, %r0, 2;\n\
             L:\ncvt.u64.u32 %rd3, %r1;\nadd.u64 %rd3, %rd3, %rd0;\nld.global.b32 %r2, [%rd3];\nst.shared.b32 [%r1], %r2;\n\
             add.u32 %r1, %r1, 512;\nsetp.lt.u32 %p1, %r1, {bytes};\n@%p1 bra L;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
             setp.eq.u32 %p0, 1, {};\n{body}ret;\n}}\n",
            4 * n_d,
            i32::from(self.scale_d)
        )
    }
}

fn run(case: &Case, seed: u64) {
    let k = case.k();
    let mut numbers = Numbers(seed + 11);
    let mut draw = |ty: Type, n: usize| -> Vec<u32> { (0..n).map(|_| (ty.encode)(numbers.float())).collect() };
    let (a, b) = (draw(case.a, 64 * k), draw(case.b, case.n * k));
    let mut image = vec![0u8; B_AT + 256 * 128];
    let mut put = |which: usize, rows: usize, values: &[u32], ty: Type| {
        for (i, value) in values.iter().enumerate().take(rows * k) {
            let at = which * B_AT + case.place(which, i / k, i % k).0;
            image[at..at + ty.bytes].copy_from_slice(&value.to_le_bytes()[..ty.bytes]);
        }
    };
    put(0, 64, &a, case.a);
    put(1, case.n, &b, case.b);
    let integer = case.sum == "s32";
    let start = |row: usize, col: usize| ((row * 7 + col * 3) % 32) as f64 - 16.0;
    let encode_sum = |x: f64| match case.sum {
        "f32" => (x as f32).to_bits(),
        "f16" => f16::from_f64(x).to_bits().into(),
        _ => x as i32 as u32,
    };
    // Lane l of warp w holds rows 16 w + l / 4 and that plus 8, columns 2 (l % 4) and the next of every eight.
    let n_d = case.registers();
    let per = if case.sum == "f16" { 2 } else { 1 };
    let place = |thread: usize, r: usize, e: usize| {
        let (g, t) = (thread / 32 * 16 + thread % 32 / 4, thread % 4);
        if per == 2 { (g + r % 2 * 8, r / 2 * 8 + 2 * t + e) } else { (g + r / 2 % 2 * 8, r / 4 * 8 + 2 * t + r % 2) }
    };
    let mut d = vec![0u32; 128 * n_d];
    let mut regs = vec![0u32; 128 * 4];
    for thread in 0..128 {
        for r in 0..n_d {
            for e in 0..per {
                let (row, col) = place(thread, r, e);
                d[thread * n_d + r] |= encode_sum(start(row, col)) << (16 * e);
            }
        }
        let (g, t, per_reg) = (thread / 32 * 16 + thread % 32 / 4, thread % 4, 4 / case.a.bytes);
        for r in 0..4 {
            for e in 0..per_reg {
                let (row, col) = (g + r % 2 * 8, t * per_reg + e + r / 2 * 4 * per_reg);
                regs[thread * 4 + r] |= a[row * k + col] << (8 * case.a.bytes * e);
            }
        }
    }
    let mut gpu = Gpu::new(&case.kernel(image.len()));
    gpu.options.seed = seed;
    let (di, dd, da) = (gpu.upload(&image), gpu.upload(&d), gpu.upload(&regs));
    gpu.run("k", 1, 128, &[Arg::U64(di), Arg::U64(dd), Arg::U64(da)]);
    let got = gpu.download::<u32>(dd, 128 * n_d);
    let sign = f64::from(case.signs[0] * case.signs[1]);
    for thread in 0..128 {
        for r in 0..n_d {
            for e in 0..per {
                let (row, col) = place(thread, r, e);
                let dot: f64 = (0..k).map(|i| (case.a.decode)(a[row * k + i]) * (case.b.decode)(b[col * k + i])).sum();
                let want = sign * dot + if case.scale_d { start(row, col) } else { 0.0 };
                let word = got[thread * n_d + r];
                let (value, rounded) = match case.sum {
                    "f32" => (f32::from_bits(word).into(), f64::from(want as f32)),
                    "f16" => (f16::from_bits((word >> (16 * e)) as u16).to_f64(), f16::from_f64(want).to_f64()),
                    _ => (f64::from(word as i32), want),
                };
                // The order of an f64 sum may change its last bit, and so one rounding.
                let slack = if integer { 0.0 } else { want.abs().max(1.0) * if per == 2 { 1e-3 } else { 1.2e-7 } };
                let what = format!("n{} {} span {}", case.n, case.a.name, case.span);
                assert!((value - rounded).abs() <= slack, "{what} row {row} column {col}: {value} {want}");
            }
        }
    }
}

#[test]
fn every_swizzle_and_width() {
    for (seed, span) in [16, 32, 64, 128].into_iter().enumerate() {
        for n in [8, 24, 64, 128, 256] {
            run(&Case { n, span, ..PLAIN }, seed as u64);
        }
    }
}

#[test]
fn every_type() {
    for (a, b, sum) in [
        (F16, F16, "f32"),
        (F16, F16, "f16"),
        (TF32, TF32, "f32"),
        (E4M3, E4M3, "f32"),
        (E4M3, E5M2, "f32"),
        (E5M2, E4M3, "f16"),
        (S8, S8, "s32"),
        (U8, S8, "s32"),
    ] {
        for span in [16, 64, 128] {
            run(&Case { a, b, sum, n: 16, span, ..PLAIN }, 3);
        }
    }
}

#[test]
fn transposed_operands() {
    for span in [16, 32, 64, 128] {
        for trans in [[true, false], [false, true], [true, true]] {
            run(&Case { trans, span, n: 128, ..PLAIN }, 4);
            run(&Case { trans, span, a: F16, b: F16, ..PLAIN }, 5);
        }
    }
}

#[test]
fn operands_in_registers_signs_and_a_fresh_start() {
    for (a, b, sum) in [(BF16, BF16, "f32"), (TF32, TF32, "f32"), (S8, U8, "s32"), (E4M3, E4M3, "f32")] {
        run(&Case { a, b, sum, a_in_registers: true, n: 40, ..PLAIN }, 6);
    }
    run(&Case { a_in_registers: true, trans: [false, true], ..PLAIN }, 7);
    run(&Case { scale_d: false, ..PLAIN }, 8);
    run(&Case { signs: [-1, 1], ..PLAIN }, 9);
    run(&Case { signs: [-1, -1], scale_d: false, ..PLAIN }, 10);
}

const WAIT: &str = "wgmma.wait_group.sync.aligned 0;\n";

/// Runs the kernel of `PLAIN` with `instead` in place of its wait; all is zero but the accumulators, which are 1.
fn with_instead_of_wait(instead: &str) -> (String, Result<Vec<f32>, LaunchError>) {
    edited(&PLAIN, |text| text.replace(WAIT, instead))
}

/// The same for any case and any change of its text.
fn edited(case: &Case, edit: impl Fn(String) -> String) -> (String, Result<Vec<f32>, LaunchError>) {
    let bytes = B_AT + 256 * 128;
    let text = edit(case.kernel(bytes));
    // The multiplication is line 7 of a source, all else line 9.
    let text = text.replace("wgmma.mma_async", ".loc 1 7 0\nwgmma.mma_async");
    let text = text.replace("wgmma.commit_group", ".loc 1 9 0\nwgmma.commit_group") + ".file 1 \"k.cu\"\n";
    let mut gpu = Gpu::new(&text);
    let (image, regs) = (gpu.upload(&vec![0u8; bytes]), gpu.upload(&[0u32; 512]));
    let n = 128 * PLAIN.registers();
    let d = gpu.upload(&vec![1f32; n]);
    let args = [Arg::U64(image), Arg::U64(d), Arg::U64(regs)];
    let ran = gpu.try_run("k", [1, 1, 1], [128, 1, 1], 0, &args).map(|_| gpu.download::<f32>(d, n));
    (text, ran)
}

/// The finding, and the instructions it is about as the text has them.
fn early(instead: &str) -> (Early, String, String) {
    let (text, ran) = with_instead_of_wait(instead);
    let Err(LaunchError::Accumulator { finding }) = ran else { panic!("{instead}: {ran:?}") };
    let line = |place: &Place| text.lines().nth(place.ptx_line as usize - 1).unwrap().to_owned();
    let lines = (line(&finding.place), line(&finding.multiplication));
    (*finding, lines.0, lines.1)
}

#[test]
fn an_accumulator_read_before_its_wait_is_told_with_both_instructions() {
    let (finding, reader, multiplication) = early("");
    assert_eq!(reader, "st.global.b32 [%rd4+0], %r100;");
    assert!(multiplication.starts_with("wgmma.mma_async"), "{multiplication}");
    assert_eq!((finding.access, finding.accumulator), (Access::Read, 0));
    assert_eq!((finding.place.block, finding.place.thread), ([0; 3], [0; 3]));
    assert_eq!(finding.place.source, Some(("k.cu".to_owned(), 9)));
    assert_eq!(finding.multiplication.source, Some(("k.cu".to_owned(), 7)));
    let said = finding.to_string();
    assert!(said.contains("kernel `k`") && said.contains("read of accumulator 0") && said.contains("k.cu:7"), "{said}");
    // A wait that keeps one group in flight is no wait for the last.
    assert_eq!(early("wgmma.wait_group.sync.aligned 1;\n").1, reader);
    for (reader, accumulator) in [
        ("add.f32 %r2, %r103, %r103;", 3),
        ("cvt.rn.bf16x2.f32 %r2, %r104, %r105;", 5),
        ("mov.b64 %rd3, {%r106, %r107};", 6),
        ("selp.b32 %r2, %r108, %r2, %p0;", 8),
        ("setp.lt.f32 %p2, %r2, %r109;", 9),
        ("shfl.sync.bfly.b32 %r2, %r110, 1, 31, -1;", 10),
        ("st.shared.b32 [%r0], %r111;", 11),
        ("@%p0 fma.rn.f32 %r2, %r2, %r2, %r112;", 12),
    ] {
        let (finding, found, _) = early(&format!("{reader}\n{WAIT}"));
        assert_eq!((finding.access, finding.accumulator, found.as_str()), (Access::Read, accumulator, reader));
    }
    // Also where a move took it first.
    assert_eq!(early(&format!("mov.b32 %r2, %r131;\nneg.f32 %r2, %r2;\n{WAIT}")).0.accumulator, 31);
}

#[test]
fn an_accumulator_written_before_its_wait_is_told() {
    for writer in ["mov.b32 %r102, 0;", "ld.global.b32 %r102, [%rd4];", "@%p0 add.u32 %r102, %r2, 1;"] {
        let (finding, found, _) = early(&format!("{writer}\n{WAIT}"));
        assert_eq!((finding.access, finding.accumulator, found.as_str()), (Access::Write, 2, writer));
    }
}

#[test]
fn moves_of_accumulators_in_flight_are_no_finding() {
    // A compiler may move a result and use its register anew; what it does not touch is no matter.
    let moved =
        format!("mov.b32 %r299, %r100;\nmov.b32 %r100, 5;\nadd.u32 %r2, %r2, 1;\n{WAIT}mov.b32 %r100, %r299;\n");
    for instead in [WAIT.to_owned(), moved, format!("@!%p0 mov.b32 %r100, 0;\n{WAIT}")] {
        let got = with_instead_of_wait(&instead).1.unwrap();
        assert!(got.iter().all(|&x| x == 1.0), "{instead}");
    }
}

#[test]
fn registers_and_multiplications_are_kept_apart_by_fences_and_waits() {
    let case = Case { a_in_registers: true, ..PLAIN };
    let (fence, commit) = ("wgmma.fence.sync.aligned;\n", "wgmma.commit_group.sync.aligned;\n");
    // The multiplication once more, with what comes between.
    let again = |text: String, between: &str| {
        let start = text.find("wgmma.mma_async").unwrap();
        let end = start + text[start..].find('\n').unwrap() + 1;
        let once = &text[start..end];
        [&text[..end], commit, WAIT, between, once, &text[end..]].concat()
    };
    let wrong = |between: &str, words: &str| {
        let (_, ran) = edited(&case, |text| again(text, between));
        let Err(LaunchError::Wgmma { detail, .. }) = ran else { panic!("{between}: {ran:?}") };
        assert!(detail.contains(words), "{detail}");
    };
    for right in
        ["", fence, &format!("add.f32 %r100, %r100, %r100;\n{fence}"), "mov.b32 %r90, 0;\n", "add.u32 %r2, %r2, 1;\n"]
    {
        let (_, ran) = edited(&case, |text| again(text, right));
        assert!(ran.is_ok(), "{right}: {ran:?}");
    }
    wrong("add.f32 %r100, %r100, %r100;\n", "with no `wgmma.fence` behind");
    wrong("ld.global.b32 %r91, [%rd6];\n", "with no `wgmma.fence` behind");
    let (_, ran) = edited(&case, |text| text.replace(fence, ""));
    assert!(matches!(&ran, Err(LaunchError::Wgmma { detail, .. }) if detail.contains("before the first")), "{ran:?}");
    // A is read until the wait.
    for (early, is_wrong) in [("ld.global.b32 %r93, [%rd6];\n", true), ("mov.b32 %r93, 0;\n", false)] {
        let (text, ran) = edited(&case, |text| text.replace(WAIT, &format!("{early}{WAIT}")));
        match ran {
            Err(LaunchError::Wgmma { place, detail }) if is_wrong => {
                assert_eq!(text.lines().nth(place.ptx_line as usize - 1), Some(early.trim()));
                assert!(detail.contains("holds A") && detail.contains("k.cu:7"), "{detail}");
            }
            other => assert_eq!(other.is_err(), is_wrong, "{early}: {other:?}"),
        }
    }
}
