//! Do the counters count what the programming guide says hardware does?

mod common;

use common::{Gpu, fixture};
use enel_emulator::{Arg, Class, Stats};

/// Kernel `k` with a pointer in `%rd1` and the lane in `%r0`; `body` may use `%rd2`, the pointer plus `scale` times the lane.
fn run(body: &str, scale: u32) -> Stats {
    let text = format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(\n.param .u64 k_param_0\n)\n{{\n\
         .reg .pred %p<9>;\n.reg .b32 %r<20>;\n.reg .b64 %rd<20>;\n.shared .align 16 .b8 tile[8192];\n\
         ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r0, %tid.x;\nmul.wide.u32 %rd2, %r0, {scale};\nadd.s64 %rd2, %rd1, %rd2;\n\
         mul.lo.u32 %r9, %r0, {scale};\n{body}\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    gpu.options.checks.uninitialised = false;
    gpu.options.checks.races = false;
    gpu.options.counters = true;
    let buffer = gpu.upload(&[0u32; 4096]);
    gpu.run("k", 1, 32, &[Arg::U64(buffer)])
}

#[test]
fn sectors_follow_the_stride() {
    // Scale, instruction, sectors, sectors the distinct bytes would fill, distinct bytes.
    for (scale, access, sectors, ideal, distinct) in [
        (4, "ld.global.u32 %r1, [%rd2];", 4, 4, 128),
        (8, "ld.global.u32 %r1, [%rd2];", 8, 4, 128),
        (128, "ld.global.u32 %r1, [%rd2];", 32, 4, 128),
        (0, "ld.global.u32 %r1, [%rd2];", 1, 1, 4),
        (4, "ld.global.u32 %r1, [%rd2+4];", 5, 4, 128),
        (2, "ld.global.u16 %r1, [%rd2];", 2, 2, 64),
        (16, "ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd2];", 16, 16, 512),
        (32, "ld.global.v2.u64 {%rd3,%rd4}, [%rd2];", 32, 16, 512),
    ] {
        let stats = run(access, scale);
        let read = stats.read;
        assert_eq!((read.requests, read.sectors, read.ideal_sectors), (1, sectors, ideal), "{scale} {access}");
        assert_eq!((stats.touched.len(), stats.touched[0].read_bytes), (1, distinct), "{scale} {access}");
        assert_eq!(stats.distinct_bytes(), distinct);
    }
    let stats = run("st.global.u8 [%rd2], %r0;\nst.global.u8 [%rd2], %r0;", 1);
    assert_eq!((stats.written.requests, stats.written.bytes, stats.written.sectors), (2, 64, 2));
    assert_eq!((stats.touched[0].read_bytes, stats.touched[0].written_bytes), (0, 32));
    let stats = run("red.global.add.u32 [%rd1], 1;", 4);
    assert_eq!((stats.written.sectors, stats.touched[0].read_bytes, stats.touched[0].written_bytes), (1, 4, 4));
}

#[test]
fn ordinary_reads_find_again_what_the_block_has_read() {
    let load = "ld.global.u32 %r1, [%rd2];";
    for (body, sectors, past) in [
        (format!("{load}\n{load}"), 8, 4),
        ("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1];\nld.global.nc.u32 %r1, [%rd2];".to_owned(), 5, 4),
        ("ld.global.u32 %r1, [%rd2];\nld.global.cg.u32 %r1, [%rd2];".to_owned(), 8, 8),
        ("ld.volatile.global.u32 %r1, [%rd2];\nld.relaxed.gpu.global.u32 %r1, [%rd2];".to_owned(), 8, 8),
        // Writes keep what is there and bring nothing; an atomic drops what it changes.
        (format!("{load}\nst.global.u32 [%rd2], %r1;\n{load}"), 8, 4),
        (format!("st.global.u32 [%rd2], %r0;\n{load}"), 4, 4),
        (format!("{load}\nred.global.add.u32 [%rd1], 1;\n{load}"), 8, 5),
        (format!("{load}\ncp.async.ca.shared.global [%r9], [%rd2], 4;"), 8, 4),
        (
            "cp.async.cg.shared.global [tile], [%rd1], 16;\ncp.async.cg.shared.global [tile], [%rd1], 16;".to_owned(),
            2,
            2,
        ),
    ] {
        let stats = run(&body, 4);
        assert_eq!((stats.read.sectors, stats.read.l2_sectors), (sectors, past), "{body}");
        assert_eq!(stats.written.l2_sectors, stats.written.sectors);
    }
}

#[test]
fn banks_conflict_where_lanes_need_several_words_of_one() {
    for (scale, access, wavefronts, ideal) in [
        (4, "ld.shared.u32 %r1, [%r9];", 1, 1),
        (8, "ld.shared.u32 %r1, [%r9];", 2, 1),
        (128, "ld.shared.u32 %r1, [%r9];", 32, 1),
        (132, "ld.shared.u32 %r1, [%r9];", 1, 1),
        (0, "ld.shared.u32 %r1, [%r9];", 1, 1),
        (2, "ld.shared.u16 %r1, [%r9];", 1, 1),
        (8, "ld.shared.u64 %rd3, [%r9];", 2, 2),
        (16, "ld.shared.v4.u32 {%r1,%r2,%r3,%r4}, [%r9];", 4, 4),
        (32, "st.shared.v4.u32 [%r9], {%r1,%r2,%r3,%r4};", 8, 4),
        (128, "st.shared.v4.u32 [%r9], {%r1,%r2,%r3,%r4};", 32, 4),
    ] {
        let stats = run(access, scale);
        assert_eq!((stats.shared.wavefronts, stats.shared.ideal_wavefronts), (wavefronts, ideal), "{scale} {access}");
        assert_eq!(stats.bank_conflicts(), wavefronts - ideal);
        assert_eq!((stats.shared.requests, stats.read.requests), (1, 0));
    }
    // Rows of an 8 x 8 matrix lie 16 bytes apart, or all in the same four banks.
    for (scale, wavefronts) in [(16, 4), (128, 32), (144, 4)] {
        let stats = run("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2,%r3,%r4}, [%r9];", scale);
        assert_eq!((stats.shared.wavefronts, stats.shared.bytes), (wavefronts, 512), "{scale}");
    }
    let stats = run("cp.async.cg.shared.global [%r9], [%rd2], 16;", 16);
    assert_eq!((stats.shared.bytes, stats.shared.wavefronts, stats.read.sectors), (512, 4, 16));
}

#[test]
fn instructions_have_classes_and_lanes() {
    let stats = run(
        "add.f32 %r1, %r0, %r0;\nsetp.lt.u32 %p1, %r0, 8;\n@%p1 cvt.rn.f32.u32 %r2, %r0;\nbar.sync 0;\nmembar.gl;",
        4,
    );
    // Four integer operations and a parameter move lead in.
    let expected = [
        (Class::Integer, 3),
        (Class::Float, 1),
        (Class::Convert, 1),
        (Class::Move, 3),
        (Class::Barrier, 2),
        (Class::Control, 1),
        (Class::Load, 0),
    ];
    for (class, n) in expected {
        assert_eq!(stats.of_class(class), n, "{}", class.name());
    }
    assert_eq!((stats.warp_instructions, stats.lane_instructions), (11, 11 * 32 - 24));
    assert_eq!((stats.blocks, stats.barriers), (1, 1));
    let local = run(".local .align 4 .b8 a[16];\nst.local.v2.u32 [a], {%r0,%r0};\nld.local.u32 %r1, [a];", 4);
    assert_eq!((local.local_bytes, local.read.requests, local.shared.requests), (32 * 12, 0, 0));
}

#[test]
fn tensor_cores_count_two_operations_a_product() {
    let mut gpu = Gpu::new(&fixture("tensor"));
    gpu.options.counters = true;
    let (m, n, k) = (32u64, 64, 96);
    let (a, b) = (gpu.upload(&vec![0u16; (m * k) as usize]), gpu.upload(&vec![0u16; (k * n) as usize]));
    let c = gpu.empty::<f32>((m * n) as usize);
    let sizes = [m, n, k].map(|x| Arg::I32(x as i32));
    let stats = gpu.run("matmul_bf16", 2, 128, &[&[a, b, c].map(Arg::U64)[..], &sizes].concat());
    assert_eq!((stats.tensor_flops, stats.of_class(Class::Tensor)), (2 * m * n * k, stats.mma));
    let touched: Vec<_> = stats.touched.iter().map(|t| (t.address, t.read_bytes, t.written_bytes)).collect();
    assert_eq!(touched, [(a, 2 * m * k, 0), (b, 2 * k * n, 0), (c, 0, 4 * m * n)]);
    // Every row of a tile is read in whole sectors, a for both blocks.
    assert_eq!((stats.read.sectors, stats.read.ideal_sectors), ((2 * 2 * m * k + 2 * k * n) / 32, stats.read.sectors));
    // Fragments find the rows of a tile in different banks. The copies do not: two rows of 64 bytes, 80 apart, share
    // four banks in each of the four passes of 3 steps x 2 copies x 4 warps x 2 blocks.
    assert_eq!(stats.bank_conflicts(), 4 * 3 * 2 * 4 * 2);
}

#[test]
fn counting_changes_nothing_and_threads_add_up() {
    let count = |threads, counters| {
        let mut gpu = Gpu::new(&fixture("race"));
        gpu.options.threads = threads;
        gpu.options.counters = counters;
        gpu.options.checks.races = false;
        let args = [gpu.upload(&[1u32; 1024]), gpu.empty::<u32>(1024), gpu.upload(&[0u32; 64])].map(Arg::U64);
        let stats = gpu.run("histogram_0", 8, 128, &args);
        (stats, gpu.download::<u32>(args_address(&args[2]), 64))
    };
    let (plain, result) = count(1, false);
    assert_eq!(plain.read.requests, 0);
    let (one, counted) = count(1, true);
    assert_eq!((one.warp_instructions, &counted), (plain.warp_instructions, &result));
    assert_eq!(count(4, true), (one, result));
}

fn args_address(arg: &Arg) -> u64 {
    let Arg::U64(address) = arg else { panic!("{arg:?}") };
    *address
}
