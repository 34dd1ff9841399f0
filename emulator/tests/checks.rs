//! Does every mistake in a kernel become an error that says where and why?

mod common;

use common::{Gpu, SEEDS};
use enel_emulator::{Access, Arg, Checks, LaunchError, MemoryError, Module, Options, ParseError, Space, launch};

const HEAD: &str = ".version 9.0\n.target sm_80\n.address_size 64\n";

/// A kernel `k` with one pointer parameter in `%rd1`, thread index in `%r0`.
fn kernel(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(\n.param .u64 k_param_0\n)\n{{\n.reg .pred %p<9>;\n.reg .b32 %r<20>;\n.reg .b64 %rd<20>;\n\
         .shared .align 16 .b8 tile[1024];\nld.param.u64 %rd1, [k_param_0];\nmov.u32 %r0, %tid.x;\n{body}\nret;\n}}\n"
    )
}

fn run(body: &str, threads: u32) -> Result<(), LaunchError> {
    run_seeded(body, threads, 0)
}

fn run_seeded(body: &str, threads: u32, seed: u64) -> Result<(), LaunchError> {
    let mut gpu = Gpu::new(&kernel(body));
    gpu.options.seed = seed;
    gpu.options.max_instructions = Some(100_000);
    let buffer = gpu.upload(&[0u32; 64]);
    gpu.try_run("k", [1; 3], [threads, 1, 1], 0, &[Arg::U64(buffer)]).map(|_| ())
}

#[test]
fn a_store_behind_the_allocation_names_thread_and_address() {
    let body = "mul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r0;";
    assert_eq!(run(body, 64), Ok(()));
    let error = run(body, 65).unwrap_err();
    let LaunchError::OutOfBounds { place, access, space, address, bytes, nearest } = &error else { panic!("{error}") };
    assert_eq!((*access, *space, *bytes, address & 0xffff), (Access::Write, Space::Global, 4, 256));
    assert_eq!((place.thread, place.block, place.kernel.as_str()), ([64, 0, 0], [0; 3], "k"));
    assert!(kernel(body).lines().nth(place.ptx_line as usize - 1).unwrap().starts_with("st.global"));
    assert!(nearest.contains("256 B"), "{nearest}");
}

#[test]
fn null_freed_shared_and_local_accesses_are_bounded() {
    for (body, space) in [
        ("mov.u64 %rd2, 0;\nld.global.u32 %r1, [%rd2];", Space::Global),
        ("ld.global.u32 %r1, [%rd1+-4];", Space::Global),
        ("mov.u32 %r1, 1024;\nst.shared.u32 [%r1], %r0;", Space::Shared),
        ("mov.u32 %r1, -4;\nld.shared.u32 %r2, [%r1];", Space::Shared),
        (".local .align 4 .b8 a[8];\nst.local.u32 [a+8], %r0;", Space::Local),
        ("mov.u64 %rd2, 999;\nld.param.u32 %r1, [%rd2+1];", Space::Param),
    ] {
        let error = run(body, 1).unwrap_err();
        let found = match &error {
            LaunchError::OutOfBounds { space, .. } | LaunchError::Misaligned { space, .. } => *space,
            other => panic!("{body}: {other}"),
        };
        assert_eq!(found, space, "{body}: {error}");
    }
}

#[test]
fn misaligned_vector_access_is_an_error() {
    let error = run("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1+8];", 1).unwrap_err();
    assert!(matches!(error, LaunchError::Misaligned { bytes: 16, .. }), "{error}");
    assert_eq!(run("ld.global.v2.u32 {%r1,%r2}, [%rd1+8];", 1), Ok(()));
}

#[test]
fn unwritten_shared_and_global_bytes_are_not_readable() {
    let error = run("ld.shared.u32 %r1, [tile];", 1).unwrap_err();
    assert!(matches!(error, LaunchError::Uninitialised { space: Space::Shared, .. }), "{error}");
    // Half of the word is not enough.
    let error = run("st.shared.u16 [tile], %r0;\nld.shared.u32 %r1, [tile];", 1).unwrap_err();
    assert!(matches!(error, LaunchError::Uninitialised { .. }), "{error}");
    assert_eq!(run("st.shared.u16 [tile], %r0;\nst.shared.u16 [tile+2], %r0;\nld.shared.u32 %r1, [tile];", 1), Ok(()));
    let mut gpu = Gpu::new(&kernel("ld.global.u32 %r1, [%rd1+4];"));
    let buffer = gpu.empty::<u32>(2);
    let error = gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U64(buffer)]).unwrap_err();
    assert!(matches!(error, LaunchError::Uninitialised { space: Space::Global, .. }), "{error}");
    gpu.options.checks.uninitialised = false;
    assert!(gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U64(buffer)]).is_ok());
    gpu.memory.fill(buffer, 8, 0).unwrap();
    gpu.options.checks = Checks::all();
    assert!(gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U64(buffer)]).is_ok());
}

#[test]
fn a_missing_wait_for_cp_async_shows() {
    let copy = "cp.async.cg.shared.global [tile], [%rd1], 16;\ncp.async.commit_group;\n";
    let read = "ld.shared.u32 %r1, [tile];";
    assert_eq!(run(&format!("{copy}cp.async.wait_group 0;\n{read}"), 1), Ok(()));
    for wait in ["", "cp.async.wait_group 1;\n"] {
        let error = run(&format!("{copy}{wait}{read}"), 1).unwrap_err();
        assert!(matches!(error, LaunchError::Uninitialised { .. }), "{error}");
    }
}

#[test]
fn cp_async_carries_unwritten_bytes_along() {
    let copy = "cp.async.cg.shared.global [tile], [%rd1], 16;\ncp.async.wait_all;\n";
    for (offset, ok) in [(0, true), (4, true), (8, false)] {
        let mut gpu = Gpu::new(&kernel(&format!("{copy}ld.shared.u32 %r1, [tile+{offset}];")));
        let buffer = gpu.empty::<u32>(4);
        gpu.memory.fill(buffer, 8, 7).unwrap();
        assert_eq!(gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U64(buffer)]).is_ok(), ok, "{offset}");
    }
}

#[test]
fn barriers_that_cannot_complete_are_reported() {
    // Warp 1 waits at another barrier.
    let apart = "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra A;\nbar.sync 1;\nret;\nA:\nbar.sync 2;";
    let error = run(apart, 64).unwrap_err();
    let LaunchError::Deadlock { waiting, .. } = &error else { panic!("{error}") };
    assert_eq!(waiting.len(), 2, "{error}");
    assert!(waiting.iter().any(|w| w.contains("barrier 2") && w.contains("32 of all")), "{error}");
    // Half of a warp skips an aligned barrier and waits elsewhere.
    let split = "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.sync 0;\nbra.uni B;\nA:\nbar.sync 1;\nB:";
    let error = run(split, 32).unwrap_err();
    assert!(matches!(error, LaunchError::Barrier { .. }), "{error}");
    let error = run("bar.sync 0, 48;", 64).unwrap_err();
    assert!(matches!(error, LaunchError::Barrier { barrier: 0, .. }), "{error}");
    let error = run("bar.sync 16;", 32).unwrap_err();
    assert!(matches!(error, LaunchError::Barrier { barrier: 16, .. }), "{error}");
    // Warps disagree about the number of threads.
    let counts = "setp.lt.u32 %p1, %r0, 32;\nselp.b32 %r1, 64, 96, %p1;\nbar.sync 1, %r1;";
    let error = run(counts, 96).unwrap_err();
    assert!(matches!(error, LaunchError::Barrier { barrier: 1, .. }), "{error}");
    let error = run("bar.arrive 3, 64;", 32).unwrap_err();
    assert!(matches!(error, LaunchError::Barrier { barrier: 3, .. }), "{error}");
}

#[test]
fn named_barriers_with_counts_work() {
    // Warp 0 produces and arrives, warp 1 waits, warp 2 stays out of it.
    let body = "shr.u32 %r1, %r0, 5;\nsetp.eq.u32 %p1, %r1, 0;\nsetp.eq.u32 %p2, %r1, 1;\n\
        @%p1 st.shared.u32 [tile], 7;\n@%p1 bar.arrive 1, 64;\n@%p2 bar.sync 1, 64;\n@%p2 ld.shared.u32 %r2, [tile];\n@%p2 st.global.u32 [%rd1], %r2;";
    for seed in SEEDS {
        assert_eq!(run_seeded(body, 96, seed), Ok(()));
    }
}

#[test]
fn warp_instructions_that_never_meet_are_reported() {
    let error = run(
        "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nshfl.sync.idx.b32 %r1, %r0, 0, 31, -1;\nret;\nA:\nbar.warp.sync -1;",
        32,
    )
    .unwrap_err();
    assert!(matches!(&error, LaunchError::WarpSync { .. }), "{error}");
    let error = run("shfl.sync.idx.b32 %r1, %r0, 0, 31, 1;", 32).unwrap_err();
    assert!(matches!(&error, LaunchError::WarpSync { place, .. } if place.thread == [1, 0, 0]), "{error}");
    // The same barrier at two places is legal.
    assert_eq!(
        run("setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.warp.sync -1;\nbra.uni B;\nA:\nbar.warp.sync -1;\nB:", 32),
        Ok(())
    );
}

#[test]
fn lanes_with_different_masks_meet_at_one_instruction() {
    // Lanes 24 to 31 come late; lanes 0 to 15 must not wait for them, lanes 16 to 23 must.
    let body = "setp.lt.u32 %p1, %r0, 16;\nselp.b32 %r1, 0xffff, 0xffff0000, %p1;\nsetp.ge.u32 %p2, %r0, 24;\n@%p2 bra LONG;\n\
        MEET:\nredux.sync.add.s32 %r2, %r0, %r1;\nmul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r2;\nret;\n\
        LONG:\nadd.u32 %r3, %r0, 1;\nbra.uni MEET;";
    for seed in SEEDS {
        let mut gpu = Gpu::new(&kernel(body));
        gpu.options.seed = seed;
        let buffer = gpu.upload(&[0u32; 32]);
        gpu.run("k", 1, 32, &[Arg::U64(buffer)]);
        let want: Vec<u32> = (0..32).map(|i| if i < 16 { (0..16).sum() } else { (16..32).sum() }).collect();
        assert_eq!(gpu.download::<u32>(buffer, 32), want);
    }
}

#[test]
fn traps_loops_and_deep_calls_end() {
    assert!(matches!(run("trap;", 1), Err(LaunchError::Trap { .. })));
    let error = run("L:\nbra.uni L;", 1).unwrap_err();
    assert!(matches!(error, LaunchError::TooManyInstructions { limit: 100_000, .. }), "{error}");
    let text = format!(
        "{HEAD}.func f()\n{{\n.local .align 4 .b8 a[64];\ncall.uni f;\nret;\n}}\n.visible .entry k()\n{{\ncall.uni f;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    let error = gpu.try_run("k", [1; 3], [1; 3], 0, &[]).unwrap_err();
    assert!(matches!(error, LaunchError::StackOverflow { .. }), "{error}");
}

#[test]
fn launches_no_device_accepts_are_refused() {
    let mut gpu = Gpu::new(&kernel(""));
    let p = [Arg::U64(0)];
    let e = gpu.try_run("nope", [1; 3], [1; 3], 0, &p).unwrap_err();
    assert!(matches!(e, LaunchError::NoKernel { .. }));
    let e = gpu.try_run("k", [1; 3], [2048, 1, 1], 0, &p).unwrap_err();
    assert!(matches!(e, LaunchError::Dimensions { .. }));
    let e = gpu.try_run("k", [0, 1, 1], [1; 3], 0, &p).unwrap_err();
    assert!(matches!(e, LaunchError::Dimensions { .. }));
    let e = gpu.try_run("k", [1; 3], [1; 3], 1 << 20, &p).unwrap_err();
    assert!(matches!(e, LaunchError::SharedMemory { need_bytes, .. } if need_bytes == (1 << 20) + 1024));
    // An A100 has less than an H100; both are refused what they have not.
    let text = kernel("");
    for (target, limit) in [("sm_80", 163), ("sm_86", 99), ("sm_90a", 227), ("sm_75", 64)] {
        let mut gpu = Gpu::new(&text.replace("sm_80", target));
        let dynamic = limit * 1024 - 1024;
        assert!(gpu.try_run("k", [1; 3], [1; 3], dynamic, &p).is_ok(), "{target}");
        let e = gpu.try_run("k", [1; 3], [1; 3], dynamic + 1, &p).unwrap_err();
        assert!(matches!(&e, LaunchError::SharedMemory { target: t, .. } if t == target), "{e}");
    }
    let e = gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U32(0)]).unwrap_err();
    assert!(matches!(e, LaunchError::Argument { index: 0, .. }));
    let e = gpu.try_run("k", [1; 3], [1; 3], 0, &[]).unwrap_err();
    assert!(matches!(e, LaunchError::Argument { .. }));
}

#[test]
fn unknown_text_is_refused_with_its_line() {
    for (body, bad) in [
        ("frobnicate.u32 %r1, %r0;", "frob"),
        ("add.u32.sideways %r1, %r0, %r0;", "sideways"),
        ("\nmov.u32 %r1, %nothere;", "nothere"),
    ] {
        let text = kernel(body);
        let error = Module::parse(&text).unwrap_err();
        let found = match &error {
            ParseError::UnknownInstruction { line, text, .. } => {
                assert!(body.contains(text.as_str()));
                *line
            }
            ParseError::Undeclared { line, .. } => *line,
            other => panic!("{other}"),
        };
        assert!(text.lines().nth(found as usize - 1).unwrap().contains(bad), "{error}");
    }
    for body in [
        "add.u32 %rd1, %r0, %r0;",
        "bra NOWHERE;",
        "add.u32 %r1, %r0;",
        ".local .b8 a[99999999999];",
        "ld.global.u64 %r1, [%rd1];",
    ] {
        assert!(Module::parse(&kernel(body)).is_err(), "{body}");
    }
}

#[test]
fn host_copies_are_bounded_and_freed_memory_is_gone() {
    let mut gpu = Gpu::new(&kernel("st.global.u32 [%rd1], %r0;"));
    let buffer = gpu.upload(&[1u32, 2, 3]);
    assert_eq!(buffer % 256, 0);
    assert!(matches!(gpu.memory.write(buffer + 8, &[0; 5]), Err(MemoryError::OutOfBounds { .. })));
    let other = gpu.empty::<u32>(3);
    gpu.memory.copy(other, buffer, 12).unwrap();
    assert_eq!(gpu.download::<u32>(other, 3), [1, 2, 3]);
    gpu.memory.free(buffer).unwrap();
    assert!(matches!(gpu.memory.free(buffer), Err(MemoryError::NotAllocated { .. })));
    let error = gpu.try_run("k", [1; 3], [1; 3], 0, &[Arg::U64(buffer)]).unwrap_err();
    let LaunchError::UseAfterFree { address, ref allocation, .. } = error else { panic!("{error}") };
    assert_eq!(address, buffer);
    assert!(allocation.contains("byte 0 of the allocation of 12 B"), "{error}");
}

#[test]
fn module_variables_live_as_long_as_the_memory() {
    let text = format!(
        "{HEAD}.global .align 4 .u32 counter = 40;\n.visible .entry k()\n{{\n.reg .b32 %r<3>;\n.reg .b64 %rd<2>;\n\
         mov.u64 %rd1, counter;\nld.global.u32 %r1, [counter];\nadd.u32 %r1, %r1, 1;\nst.global.u32 [%rd1], %r1;\nret;\n}}\n"
    );
    let mut gpu = Gpu::new(&text);
    for _ in 0..2 {
        gpu.run("k", 1, 1, &[]);
    }
    let (address, bytes) = gpu.memory.symbol(&gpu.module, "counter").unwrap();
    assert_eq!((gpu.download::<u32>(address, 1), bytes), (vec![42], 4));
}

#[test]
fn blocks_that_wait_for_each_other_need_to_be_resident() {
    // Block 0 waits for a flag that block 1 sets.
    let body = "mov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra SET;\nL:\nld.volatile.global.u32 %r2, [%rd1];\n\
        setp.eq.u32 %p2, %r2, 0;\n@%p2 bra L;\nret;\nSET:\nst.volatile.global.u32 [%rd1], 1;";
    let mut gpu = Gpu::new(&kernel(body));
    gpu.options = Options { max_instructions: Some(100_000), ..Options::default() };
    for (resident_blocks, ok) in [(1, false), (2, true)] {
        let flag = gpu.upload(&[0u32]);
        gpu.options.resident_blocks = resident_blocks;
        let args = [Arg::U64(flag)];
        let what = enel_emulator::Launch {
            entry: "k",
            grid: [2, 1, 1],
            block: [32, 1, 1],
            cluster: None,
            dynamic_smem_bytes: 0,
            args: &args,
        };
        assert_eq!(launch(&gpu.module, &mut gpu.memory, &what, &gpu.options).is_ok(), ok);
    }
}

/// A warp-wide instruction, and more work for lanes that never come to it.
fn lanes_part(instruction: &str) -> String {
    format!("setp.ge.u32 %p1, %r0, 20;\n@%p1 bra L;\n{instruction}\nL:\nst.global.u32 [%rd1], 7;")
}

#[test]
fn lanes_that_a_mask_names_have_to_come() {
    let ballot = |mask: &str| lanes_part(&format!("vote.sync.ballot.b32 %r2, 1, {mask};"));
    for (body, ok) in [(ballot("-1"), false), (ballot("0xfffff"), true)] {
        let result = run(&body, 32);
        assert_eq!(result.is_ok(), ok, "{result:?}");
        let Err(error) = result else { continue };
        let LaunchError::WarpSync { place, detail } = &error else { panic!("{error}") };
        assert!(kernel(&body).lines().nth(place.ptx_line as usize - 1).unwrap().starts_with("vote"), "{error}");
        assert!(detail.contains("0x000fffff") && detail.contains("0xfff00000"), "{error}");
    }
    // Lanes that return early are no longer expected.
    assert_eq!(run("setp.ge.u32 %p1, %r0, 20;\n@%p1 ret;\nvote.sync.ballot.b32 %r2, 1, -1;", 32), Ok(()));
    let mma =
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, {%f1,%f2,%f3,%f4};";
    for (body, threads) in [(lanes_part(mma), 32), (mma.to_owned(), 31)] {
        let error = run(&format!(".reg .f32 %f<5>;\n{body}"), threads).unwrap_err();
        assert!(matches!(error, LaunchError::WarpSync { .. }), "{error}");
    }
}

#[test]
fn a_lane_that_does_not_take_part_has_no_value_to_give() {
    let shuffle = |mode: &str, by: u32| {
        format!(
            "setp.ge.u32 %p1, %r0, 16;\n@%p1 bra L;\nshfl.sync.{mode}.b32 %r2, %r0, {by}, 31, 0xffff;\n\
             mul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r2;\nL:"
        )
    };
    assert_eq!(run(&shuffle("idx", 15), 32), Ok(()));
    let error = run(&shuffle("idx", 16), 32).unwrap_err();
    assert!(matches!(&error, LaunchError::WarpSync { detail, .. } if detail.contains("0x0000ffff")), "{error}");
    // The last lane reads beyond, as sums do; it gets nothing that looks like a value.
    let mut gpu = Gpu::new(&kernel(&shuffle("down", 1)));
    let out = gpu.upload(&[0u32; 64]);
    gpu.run("k", 1, 32, &[Arg::U64(out)]);
    let got = gpu.download::<u32>(out, 16);
    assert_eq!(got[..15], (1..16).collect::<Vec<u32>>());
    assert!(f32::from_bits(got[15]).is_nan());
}

#[test]
fn only_kernels_that_come_to_an_unknown_instruction_are_refused() {
    let other = kernel("frobnicate.u32 %r1, %r0;").replace(HEAD, "").replace(".entry k(", ".entry bad(");
    let mut gpu = Gpu::new(&(kernel("st.global.u32 [%rd1], 5;") + &other));
    let out = gpu.upload(&[0u32]);
    gpu.run("k", 1, 1, &[Arg::U64(out)]);
    let error = gpu.try_run("bad", [1; 3], [1; 3], 0, &[Arg::U64(out)]).unwrap_err();
    assert!(
        matches!(&error, LaunchError::Instruction { source, .. } if source.to_string().contains("frobnicate")),
        "{error}"
    );
}

/// Blocks take a ticket and wait until all have; `goal` is how many they wait for.
fn wait_for_all(goal: u32) -> String {
    kernel(&format!(
        "atom.global.add.u32 %r1, [%rd1], 1;\nL:\nld.volatile.global.u32 %r2, [%rd1];\n\
         setp.lt.u32 %p1, %r2, {goal};\n@%p1 bra L;"
    ))
}

#[test]
fn blocks_that_wait_for_each_other_are_started_and_those_that_wait_in_vain_are_told() {
    let run = |goal| {
        let mut gpu = Gpu::new(&wait_for_all(goal));
        let counter = gpu.upload(&[0u32]);
        gpu.try_run("k", [40, 1, 1], [1; 3], 0, &[Arg::U64(counter)]).map(|_| gpu.download::<u32>(counter, 1)[0])
    };
    assert_eq!(run(40), Ok(40));
    let error = run(41).unwrap_err();
    assert!(
        matches!(&error, LaunchError::Deadlock { waiting, .. } if waiting[0].contains("nobody changes it")),
        "{error}"
    );
}

#[test]
fn who_has_taken_a_ticket_follows_those_before() {
    let body = |own: &str| {
        kernel(&format!(
            "atom.global.add.u32 %r1, [%rd1], 1;\nsetp.ne.u32 %p1, %r1, 3;\n@%p1 ret;\n{own}\nst.global.u32 [%rd1], 0;"
        ))
    };
    let run = |text: String| {
        let mut gpu = Gpu::new(&text);
        let counter = gpu.upload(&[0u32]);
        gpu.try_run("k", [4, 1, 1], [1; 3], 0, &[Arg::U64(counter)]).map(|_| gpu.download::<u32>(counter, 1)[0])
    };
    assert_eq!(run(body("")), Ok(0));
    // Who only reads it follows nobody.
    let error =
        run(body("").replace("atom.global.add.u32 %r1, [%rd1], 1", "red.global.add.u32 [%rd1], 1;\nmov.u32 %r1, 3"));
    assert!(matches!(error, Err(LaunchError::Race { .. })), "{error:?}");
}
