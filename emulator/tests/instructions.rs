//! Does each instruction compute what the PTX manual says? One row per case, values worked out by hand.

mod common;

use common::Gpu;
use enel_emulator::Arg;

/// Runs `body` in one thread; the result is what it leaves in `%rd9`.
fn eval(body: &str) -> u64 {
    let text = format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n\
         .reg .b32 %r<9>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<10>;\n.reg .f64 %fd<9>;\n.shared .align 16 .b8 s[64];\nmov.u64 %rd9, 0;\n{body}\nld.param.u64 %rd8, [out];\n\
         st.global.u64 [%rd8], %rd9;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    let out = gpu.empty::<u64>(1);
    gpu.run("k", 1, 1, &[Arg::U64(out)]);
    gpu.download::<u64>(out, 1)[0]
}

fn word(body: &str) -> u32 {
    eval(&format!("{body}\ncvt.u64.u32 %rd9, %r1;")) as u32
}

fn float(body: &str) -> u32 {
    eval(&format!("{body}\nmov.b32 %r1, %f1;\ncvt.u64.u32 %rd9, %r1;")) as u32
}

fn short(body: &str) -> u32 {
    eval(&format!("{body}\ncvt.u64.u16 %rd9, %rs1;")) as u32
}

fn flag(body: &str) -> bool {
    eval(&format!("{body}\nselp.u64 %rd9, 1, 0, %p1;")) == 1
}

#[test]
fn integer_rows() {
    for (body, want) in [
        ("mov.u32 %r2, 0xfffe0003;\nmov.u32 %r3, 0x00050002;\nmin.s16x2.relu %r1, %r2, %r3;", 0x0000_0002),
        ("max.s32.relu %r1, -5, -9;", 0),
        (
            "createpolicy.fractional.L2::evict_last.b64 %rd1, 1.0;\nmov.u64 %rd2, s;\nst.shared.u32 [s], 9;\n\
          cvta.shared.u64 %rd2, %rd2;\nld.L2::cache_hint.u32 %r1, [%rd2], %rd1;",
            9,
        ),
        (
            "st.shared.v2.u32 [s], {1, 2};\nred.shared.add.v2.u32 [s], {10, 20};\nld.shared.v2.u32 {%r2, %r3}, [s];\n\
          mad.lo.u32 %r1, %r2, 100, %r3;",
            1122,
        ),
        ("add.s32 %r1, 2147483647, 1;", 0x8000_0000),
        ("add.sat.s32 %r1, 2147483647, 1;", 0x7fff_ffff),
        ("sub.u32 %r1, 3, 5;", 0xffff_fffe),
        ("mul.lo.s32 %r1, -3, 7;", -21i32 as u32),
        ("mul.hi.s32 %r1, -1, 1;", 0xffff_ffff),
        ("mul.hi.u32 %r1, -1, 2;", 1),
        ("mad.lo.s32 %r1, 3, 4, -20;", -8i32 as u32),
        ("mad.hi.u32 %r1, -1, 2, 5;", 6),
        ("mul24.lo.s32 %r1, 0xffffff, 5;", -5i32 as u32),
        ("div.s32 %r1, -7, 2;", -3i32 as u32),
        ("rem.s32 %r1, -7, 2;", -1i32 as u32),
        ("div.u32 %r1, -7, 2;", 0x7fff_fffc),
        ("min.s32 %r1, -1, 1;", u32::MAX),
        ("min.u32 %r1, -1, 1;", 1),
        ("max.s32 %r1, -1, 1;", 1),
        ("abs.s32 %r1, -5;", 5),
        ("neg.s32 %r1, 5;", -5i32 as u32),
        ("not.b32 %r1, 0;", u32::MAX),
        ("sad.u32 %r1, 3, 9, 100;", 106),
        ("shl.b32 %r1, 1, 31;", 1 << 31),
        ("shl.b32 %r1, 1, 32;", 0),
        ("shr.s32 %r1, -8, 40;", u32::MAX),
        ("shr.u32 %r1, -8, 1;", 0x7fff_fffc),
        ("shf.l.wrap.b32 %r1, 0x80000000, 0x1, 33;", 3),
        ("shf.l.clamp.b32 %r1, 0x12345678, 0x1, 40;", 0x1234_5678),
        ("shf.r.wrap.b32 %r1, 0x10, 0x3, 4;", 0x3000_0001),
        ("shf.r.clamp.b32 %r1, 0x10, 0x3, 32;", 3),
        ("bfe.u32 %r1, 0xabcd1234, 8, 8;", 0x12),
        ("bfe.s32 %r1, 0x0000f000, 12, 4;", u32::MAX),
        ("bfe.s32 %r1, 0x80000000, 28, 16;", 0xffff_fff8),
        ("bfe.u32 %r1, -1, 3, 0;", 0),
        ("bfi.b32 %r1, 0xff, 0x12345678, 8, 4;", 0x1234_5f78),
        ("bfi.b32 %r1, 0xff, 0x12345678, 32, 4;", 0x1234_5678),
        ("prmt.b32 %r1, 0x33221100, 0x77665544, 0x7530;", 0x7755_3300),
        ("prmt.b32 %r1, 0x000000f0, 0, 0x8888;", u32::MAX),
        ("prmt.b32.f4e %r1, 0x33221100, 0x77665544, 1;", 0x4433_2211),
        ("prmt.b32.rc16 %r1, 0x33221100, 0, 1;", 0x3322_3322),
        ("lop3.b32 %r1, 0xf0f0f0f0, 0xcccccccc, 0xaaaaaaaa, 0x96;", 0x9696_9696),
        ("lop3.b32 %r1, 12, 10, 6, 0xe8;", 14),
        ("popc.b32 %r1, 0xf0f0;", 8),
        ("clz.b32 %r1, 0;", 32),
        ("brev.b32 %r1, 1;", 1 << 31),
        ("bfind.u32 %r1, 0;", u32::MAX),
        ("bfind.u32 %r1, 0x1000;", 12),
        ("bfind.s32 %r1, -1;", u32::MAX),
        ("bfind.shiftamt.u32 %r1, 0x1000;", 19),
        ("dp4a.s32.s32 %r1, 0x01ff02fe, 0x01010101, 10;", 10),
        ("dp4a.u32.u32 %r1, 0x01ff02fe, 0x01010101, 0;", 512),
        ("dp2a.lo.s32.s32 %r1, 0x0002ffff, 0x04030201, 0;", 3),
        ("dp2a.hi.s32.s32 %r1, 0x0002ffff, 0x04030201, 0;", 5),
        ("slct.u32.s32 %r1, 1, 2, -1;", 2),
        ("slct.u32.f32 %r1, 1, 2, 0f80000000;", 1),
        ("set.lt.u32.s32 %r1, -1, 0;", u32::MAX),
        ("mov.b32 %r1, {0x1234, 0x5678};", 0x5678_1234),
        ("add.cc.u32 %r2, -1, 1;\naddc.u32 %r1, 5, 6;", 12),
        ("sub.cc.u32 %r2, 0, 1;\nsubc.u32 %r1, 5, 2;", 2),
        ("mad.lo.cc.u32 %r2, -1, -1, -1;\nmadc.hi.u32 %r1, -1, -1, 0;", 0xffff_ffff),
        ("cvt.s32.s8 %r1, 0xff;", u32::MAX),
        ("cvt.u32.u8 %r1, 0x1ff;", 0xff),
        ("cvt.sat.u8.s32 %r1, -5;", 0),
        ("cvt.sat.s8.s32 %r1, 300;", 127),
        ("mov.u16 %rs1, 0xfffe;\ncvt.s32.s16 %r1, %rs1;", -2i32 as u32),
        ("mov.u64 %rd1, 0xff00000000;\npopc.b64 %r1, %rd1;", 8),
        ("mov.u64 %rd1, 1;\nclz.b64 %r1, %rd1;", 63),
        ("bmsk.clamp.b32 %r1, 4, 8;", 0xff0),
        ("cvt.rn.tf32.f32 %r1, 0f3F801000;", 0x3f80_0000),
        ("cvt.rna.tf32.f32 %r1, 0f3F801000;", 0x3f80_2000),
    ] {
        assert_eq!(word(body), want, "{body}");
    }
}

#[test]
fn wide_integer_rows() {
    for (body, want) in [
        ("mul.wide.s32 %rd9, -2, 3;", -6i64 as u64),
        ("mul.wide.u32 %rd9, -2, 3;", 0x2_ffff_fffa),
        ("mad.wide.s32 %rd9, -2, 3, 10;", 4),
        ("mul.hi.u64 %rd9, -1, 2;", 1),
        ("mul.hi.s64 %rd9, -1, 2;", u64::MAX),
        ("mad.lo.s64 %rd9, 3, -4, 2;", -10i64 as u64),
        ("div.s64 %rd9, -7, 2;", -3i64 as u64),
        ("rem.u64 %rd9, 7, 4;", 3),
        ("shl.b64 %rd9, 1, 63;", 1 << 63),
        ("shl.b64 %rd9, 1, 64;", 0),
        ("shr.s64 %rd9, -8, 99;", u64::MAX),
        ("bfe.u64 %rd9, 0xabcd123400000000, 32, 16;", 0x1234),
        ("bfi.b64 %rd9, 0xf, 0, 60, 8;", 0xf << 60),
        ("brev.b64 %rd9, 1;", 1 << 63),
        ("mov.b64 %rd9, {1, 2};", 0x2_0000_0001),
        ("mov.b64 {%r1, %r2}, 0x500000007;\nmov.b64 %rd9, {%r2, %r1};", 0x7_0000_0005),
        ("mov.b64 %rd9, {1, 2, 3, 4};", 0x4_0003_0002_0001),
        ("add.cc.u64 %rd1, -1, 1;\naddc.u64 %rd9, 0, 0;", 1),
        ("cvt.s64.s32 %rd9, -1;", u64::MAX),
        ("cvt.sat.u64.s32 %rd9, -1;", 0),
        ("cvt.rzi.s64.f32 %rd9, 0fFF800000;", 1 << 63),
        ("cvt.rzi.s64.f32 %rd9, 0f7FC00000;", 1 << 63),
        ("selp.b64 %rd9, 1, 2, %p1;", 2),
        ("min.s64 %rd9, -1, 1;", u64::MAX),
        ("st.shared.v2.u32 [s+8], {1, 2};\nld.shared.u64 %rd9, [s+8];", 0x2_0000_0001),
        ("st.shared.u8 [s], 0x80;\nld.shared.s8 %r1, [s];\ncvt.s64.s32 %rd9, %r1;", -128i64 as u64),
        ("st.shared.u16 [s], 0x8001;\nld.shared.u16 %r1, [s];\ncvt.u64.u32 %rd9, %r1;", 0x8001),
        (
            "st.shared.u32 [s], 5;\ncvta.shared.u64 %rd2, 0;\nmov.u64 %rd1, s;\ncvta.shared.u64 %rd1, %rd1;\nld.u32 %r1, [%rd1];\ncvt.u64.u32 %rd9, %r1;",
            5,
        ),
        (
            "st.shared.u32 [s], 5;\natom.shared.add.u32 %r1, [s], 7;\nld.shared.u32 %r2, [s];\nmov.b64 %rd9, {%r1, %r2};",
            12 << 32 | 5,
        ),
        (
            "st.shared.u32 [s], 9;\natom.shared.inc.u32 %r1, [s], 9;\nld.shared.u32 %r2, [s];\nmov.b64 %rd9, {%r1, %r2};",
            9,
        ),
        (
            "st.shared.u32 [s], 5;\nred.shared.max.s32 [s], -7;\nld.shared.u32 %r2, [s];\nmov.b64 %rd9, {%r2, %r2};",
            5 << 32 | 5,
        ),
        (
            ".local .align 8 .b8 a[16];\nst.local.u64 [a+8], 77;\nmov.u64 %rd1, a;\ncvta.local.u64 %rd1, %rd1;\nld.u64 %rd9, [%rd1+8];",
            77,
        ),
    ] {
        assert_eq!(eval(body), want, "{body}");
    }
}

#[test]
fn short_integer_rows() {
    for (body, want) in [
        ("mov.u16 %rs2, 0xffff;\nadd.s16 %rs1, %rs2, 2;", 1),
        ("mov.u16 %rs2, 0x8000;\nneg.s16 %rs1, %rs2;", 0x8000),
        ("mov.u16 %rs2, 0xfff8;\nshr.s16 %rs1, %rs2, 1;", 0xfffc),
        ("mov.u16 %rs2, 0xfff8;\nshr.u16 %rs1, %rs2, 1;", 0x7ffc),
        ("mov.u16 %rs2, -3;\nmov.u16 %rs3, 2;\nmin.s16 %rs1, %rs2, %rs3;", 0xfffd),
        ("mov.u16 %rs2, -3;\nmov.u16 %rs3, 2;\nmin.u16 %rs1, %rs2, %rs3;", 2),
        ("mov.u16 %rs2, 300;\nmul.lo.u16 %rs1, %rs2, %rs2;", 90000 & 0xffff),
        ("mov.u16 %rs2, -7;\ndiv.s16 %rs1, %rs2, 2;", 0xfffd),
        ("cvt.s8.s32 %rs1, 0x1ff;", 0xffff),
        ("not.b16 %rs1, 0;", 0xffff),
    ] {
        assert_eq!(short(body), want, "{body}");
    }
    assert_eq!(word("mov.u16 %rs2, -3;\nmul.wide.s16 %r1, %rs2, 100;"), -300i32 as u32);
}

#[test]
fn float_rows() {
    let nan = 0x7fff_ffff;
    for (body, want) in [
        ("add.rz.f32 %f1, 0f3F800000, 0f33C00000;", 0x3f80_0000),
        ("add.rp.f32 %f1, 0f3F800000, 0f00000001;", 0x3f80_0001),
        ("add.rm.f32 %f1, 0f3F800000, 0f00000001;", 0x3f80_0000),
        ("sub.rm.f32 %f1, 0f3F800000, 0f00000001;", 0x3f7f_ffff),
        ("add.rm.f32 %f1, 0f3F800000, 0fBF800000;", 0x8000_0000),
        ("div.rn.f32 %f1, 0f3F800000, 0f40400000;", 0x3eaa_aaab),
        ("div.rz.f32 %f1, 0f3F800000, 0f40400000;", 0x3eaa_aaaa),
        ("sqrt.rp.f32 %f1, 0f40000000;", 0x3fb5_04f4),
        ("sqrt.rm.f32 %f1, 0f40000000;", 0x3fb5_04f3),
        ("rcp.rn.f32 %f1, 0f00000000;", 0x7f80_0000),
        ("fma.rn.f32 %f1, 0f3F800001, 0f3F800001, 0fBF800002;", 0x2880_0000),
        ("mul.sat.f32 %f1, 0f40000000, 0f40000000;", 0x3f80_0000),
        ("mul.ftz.f32 %f1, 0f00400000, 0f40000000;", 0),
        ("mul.f32 %f1, 0f00400000, 0f40000000;", 0x0080_0000),
        ("add.ftz.f32 %f1, 0f80000001, 0f80000001;", 0x8000_0000),
        ("max.f32 %f1, 0f7FC00000, 0f3F800000;", 0x3f80_0000),
        ("max.NaN.f32 %f1, 0f7FC00000, 0f3F800000;", nan),
        ("min.f32 %f1, 0f00000000, 0f80000000;", 0x8000_0000),
        ("max.f32 %f1, 0f80000000, 0f00000000;", 0),
        ("copysign.f32 %f1, 0f80000000, 0f3F800000;", 0xbf80_0000),
        ("abs.f32 %f1, 0fBF800000;", 0x3f80_0000),
        ("ex2.approx.f32 %f1, 0f40400000;", 0x4100_0000),
        ("lg2.approx.f32 %f1, 0f41000000;", 0x4040_0000),
        ("rsqrt.approx.f32 %f1, 0f40800000;", 0x3f00_0000),
        ("cvt.rn.f32.s32 %f1, 16777217;", 0x4b80_0000),
        ("cvt.rp.f32.s32 %f1, 16777217;", 0x4b80_0001),
        ("cvt.rn.f32.u64 %f1, 0x8000008000000001;", 0x5f00_0001),
        ("cvt.rn.f32.u64 %f1, 0x8000008000000000;", 0x5f00_0000),
        ("mov.f64 %fd1, 0d3FF0000010000000;\ncvt.rn.f32.f64 %f1, %fd1;", 0x3f80_0000),
        ("mov.f64 %fd1, 0d3FF0000010000001;\ncvt.rn.f32.f64 %f1, %fd1;", 0x3f80_0001),
        ("mov.f64 %fd1, 0d3690000000000001;\ncvt.rn.f32.f64 %f1, %fd1;", 1),
        ("mov.f64 %fd1, 0d7FE0000000000000;\ncvt.rz.f32.f64 %f1, %fd1;", 0x7f7f_ffff),
        ("cvt.rni.f32.f32 %f1, 0f40200000;", 0x4000_0000),
        ("cvt.rpi.f32.f32 %f1, 0f40200000;", 0x4040_0000),
        ("cvt.sat.f32.f32 %f1, 0f7FC00000;", 0),
        ("selp.f32 %f1, 0f3F800000, 0f00000000, %p1;", 0),
        ("mov.u16 %rs1, 0x0001;\ncvt.f32.f16 %f1, %rs1;", 0x3380_0000),
        ("mov.u16 %rs1, 0xfc00;\ncvt.f32.f16 %f1, %rs1;", 0xff80_0000),
    ] {
        assert_eq!(float(body), want, "{body}: {:#x}", float(body));
    }
}

#[test]
fn half_rows() {
    for (body, want) in [
        ("cvt.rn.f16.f32 %rs1, 0f477FF000;", 0x7c00),
        ("cvt.rz.f16.f32 %rs1, 0f477FF000;", 0x7bff),
        ("cvt.rn.f16.f32 %rs1, 0f33000000;", 0),
        ("cvt.rn.f16.f32 %rs1, 0f33000001;", 1),
        ("cvt.rn.bf16.f32 %rs1, 0f3F808000;", 0x3f80),
        ("cvt.rn.bf16.f32 %rs1, 0f3F818000;", 0x3f82),
        ("cvt.rz.bf16.f32 %rs1, 0f3F81FFFF;", 0x3f81),
        ("cvt.rn.relu.bf16.f32 %rs1, 0fBF800000;", 0),
        ("mov.u16 %rs2, 0x3c00;\nadd.f16 %rs1, %rs2, %rs2;", 0x4000),
        ("mov.u16 %rs2, 0x3f80;\nfma.rn.bf16 %rs1, %rs2, %rs2, %rs2;", 0x4000),
        ("mov.u16 %rs2, 0x3f80;\nmov.u16 %rs3, 0x7fff;\nmax.NaN.bf16 %rs1, %rs2, %rs3;", 0x7fff),
        ("mov.u16 %rs2, 0x3c00;\nmov.u16 %rs3, 0x1000;\nfma.rn.f16 %rs1, %rs3, %rs3, %rs2;", 0x3c00),
        ("mov.u16 %rs2, 0xbc00;\nadd.sat.f16 %rs1, %rs2, 0;", 0),
    ] {
        assert_eq!(short(body), want, "{body}");
    }
    for (body, want) in [
        ("cvt.rn.bf16x2.f32 %r1, 0f3F800000, 0f40000000;", 0x3f80_4000),
        ("cvt.rn.f16x2.f32 %r1, 0f3F800000, 0f40000000;", 0x3c00_4000),
        ("mul.bf16x2 %r1, 0x40003f80, 0x40004000;", 0x4080_4000),
        ("add.rn.f16x2 %r1, 0x3c003c00, 0x3c00bc00;", 0x4000_0000),
        ("neg.f16x2 %r1, 0x3c00bc00;", 0xbc00_3c00),
        ("fma.rn.relu.bf16x2 %r1, 0xbf803f80, 0x3f803f80, 0;", 0x0000_3f80),
    ] {
        // sm_90 spells some of these; the machine runs them all the same.
        assert_eq!(word(body), want, "{body}");
    }
}

#[test]
fn double_rows() {
    for (body, want) in [
        ("add.f64 %fd1, 0d3FF0000000000000, 0d3FF0000000000000;", 2.0f64),
        ("fma.rn.f64 %fd1, 0d4008000000000000, 0d4008000000000000, 0dBFF0000000000000;", 8.0),
        ("div.rn.f64 %fd1, 0d3FF0000000000000, 0d4008000000000000;", 1.0 / 3.0),
        ("sqrt.rn.f64 %fd1, 0d4000000000000000;", std::f64::consts::SQRT_2),
        ("cvt.rn.f64.s64 %fd1, -9007199254740993;", -9007199254740992.0),
        ("cvt.rm.f64.s64 %fd1, -9007199254740993;", -9007199254740994.0),
        ("cvt.f64.f32 %fd1, 0f3DCCCCCD;", 0.1f32 as f64),
        ("max.f64 %fd1, 0d7FF8000000000000, 0d3FF0000000000000;", 1.0),
    ] {
        assert_eq!(f64::from_bits(eval(&format!("{body}\nmov.b64 %rd9, %fd1;"))), want, "{body}");
    }
}

#[test]
fn comparison_rows() {
    let (one, nan) = ("0f3F800000", "0f7FC00000");
    for (op, with_nan, equal) in [
        ("eq", false, true),
        ("ne", false, false),
        ("lt", false, false),
        ("le", false, true),
        ("gt", false, false),
        ("ge", false, true),
        ("equ", true, true),
        ("neu", true, false),
        ("ltu", true, false),
        ("leu", true, true),
        ("gtu", true, false),
        ("geu", true, true),
        ("num", false, true),
        ("nan", true, false),
    ] {
        assert_eq!(flag(&format!("setp.{op}.f32 %p1, {one}, {nan};")), with_nan, "{op}");
        assert_eq!(flag(&format!("setp.{op}.f32 %p1, {one}, {one};")), equal, "{op}");
    }
    for (body, want) in [
        ("setp.lt.s32 %p1, -1, 0;", true),
        ("setp.lt.u32 %p1, -1, 0;", false),
        ("setp.hi.u32 %p1, -1, 0;", true),
        ("setp.lt.s64 %p1, -1, 0;", true),
        ("mov.u16 %rs1, 0xffff;\nsetp.lt.s16 %p1, %rs1, 0;", true),
        ("setp.eq.s32 %p2, 1, 1;\nsetp.lt.and.s32 %p1, 1, 2, !%p2;", false),
        ("setp.eq.s32 %p2, 1, 1;\nsetp.lt.xor.s32 %p1, 2, 1, %p2;", true),
        ("setp.lt.s32 %p2|%p1, 1, 2;", false),
        ("setp.eq.s32 %p2, 1, 1;\nnot.pred %p1, %p2;", false),
        ("setp.eq.s32 %p2, 1, 1;\nand.pred %p1, %p2, !%p2;", false),
        ("mov.pred %p1, -1;", true),
        ("setp.eq.ftz.f32 %p1, 0f00000001, 0f00000000;", true),
        ("setp.eq.f32 %p1, 0f00000001, 0f00000000;", false),
        ("testp.infinite.f32 %p1, 0fFF800000;", true),
        ("testp.subnormal.f32 %p1, 0f00000001;", true),
        ("testp.normal.f32 %p1, 0f00000000;", false),
        ("mov.u64 %rd1, s;\ncvta.shared.u64 %rd1, %rd1;\nisspacep.shared %p1, %rd1;", true),
        ("mov.u16 %rs1, 0x3c00;\nmov.u16 %rs2, 0x7e00;\nsetp.ltu.f16 %p1, %rs1, %rs2;", true),
    ] {
        assert_eq!(flag(body), want, "{body}");
    }
}

#[test]
fn guards_scopes_and_indexed_branches() {
    assert_eq!(word("mov.u32 %r1, 1;\nsetp.eq.s32 %p1, 1, 2;\n@%p1 mov.u32 %r1, 2;\n@!%p1 add.u32 %r1, %r1, 10;"), 11);
    assert_eq!(
        word(
            "mov.u32 %r1, 1;\n{\n.reg .b32 %r1;\nmov.u32 %r1, 2;\n}\n{ .reg .b32 c; mov.b32 c, 5; add.u32 %r1, %r1, c; }"
        ),
        6
    );
    let table = |i: u32| {
        format!(
            "mov.u32 %r2, {i};\nT: .branchtargets A, B, C;\nbrx.idx.uni %r2, T;\nA:\nmov.u32 %r1, 10;\nbra D;\nB:\nmov.u32 %r1, 20;\nbra D;\nC:\nmov.u32 %r1, 30;\nD:"
        )
    };
    assert_eq!([0, 1, 2].map(|i| word(&table(i))), [10, 20, 30]);
}
