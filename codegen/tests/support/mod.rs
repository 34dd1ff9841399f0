//! Renders a Desc, compiles it, runs it on the emulator and compares it with its meaning.

#![allow(dead_code, clippy::unwrap_used, reason = "each suite uses its part, and a test may stop at once")]

use enel_bundle::Access;
use enel_codegen::{Rendered, render};
use enel_emulator::{Arg, Launch, Memory, Module, Options};
use enel_nvrtc::{Arch, Compiler, Search, Unit, locate};
use enel_verify::{Case, Data, Near};
use std::sync::OnceLock;

/// The compiler of this machine; without one `None` and a printed line, or a failure where `CI=true`.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn compiler() -> Option<&'static Compiler> {
    static FOUND: OnceLock<Option<Compiler>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match locate(&Search::from_env(|name| std::env::var_os(name))) {
        Ok(toolchain) => Some(Compiler::open(&toolchain).unwrap()),
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => panic!("{error}"),
        Err(_) => None,
    });
    if found.is_none() {
        println!("skipped: no NVRTC");
    }
    found.as_ref()
}

/// Runs `cases` as the parts of one kernel on the emulator; what each part's buffers hold after.
pub(crate) fn run(cases: &[&Case], compiler: &Compiler, seed: u64) -> Result<Vec<Vec<Data>>, String> {
    let descs = cases.iter().map(|case| &case.desc);
    let Rendered { source, launch, .. } = render("test", descs).map_err(|e| format!("{e:?}"))?;
    let unit = Unit { name: "test", source: &source, arch: Arch::COMPUTE_80, options: Default::default() };
    let compiled = compiler.compile(&unit).map_err(|e| format!("{e}\n{source}"))?;
    let module = Module::parse(&compiled.ptx).map_err(|e| format!("{e}"))?;
    let mut memory = Memory::new();
    let mut args = Vec::new();
    let mut addresses = Vec::new();
    let mut contents = Vec::new();
    for case in cases {
        for (role, data) in case.desc.buffers.iter().zip(&case.buffers) {
            let bytes = data.to_bytes();
            let address = memory.alloc(bytes.len()).map_err(|e| e.to_string())?;
            args.push(Arg::U64(address));
            addresses.push((address, bytes.len()));
            // What a kernel writes it does not read; the emulator reports it if it does.
            if role.access != Access::Write {
                contents.push((address, bytes));
            }
        }
    }
    let sizes: Vec<i64> = cases.iter().flat_map(|case| &case.sizes).copied().collect();
    args.extend(sizes.iter().map(|s| Arg::I64(*s)));
    let scratch_bytes = launch.scratch_bytes as usize;
    if scratch_bytes > 0 {
        let address = memory.alloc(scratch_bytes).map_err(|e| e.to_string())?;
        memory.fill(address, scratch_bytes, 0).map_err(|e| e.to_string())?;
        args.push(Arg::U64(address));
    }
    let call = Launch {
        entry: &launch.entry,
        grid: [launch.blocks(&sizes) as u32, 1, 1],
        block: [launch.threads, 1, 1],
        cluster: None,
        dynamic_smem_bytes: launch.smem_bytes,
        args: &args,
    };
    let options = Options { seed, threads: 1, ..Options::default() };
    // A launch with scratch memory leaves it fit for the next.
    for _ in 0..if scratch_bytes > 0 { 2 } else { 1 } {
        for (address, bytes) in &contents {
            memory.write(*address, bytes).map_err(|e| e.to_string())?;
        }
        enel_emulator::launch(&module, &mut memory, &call, &options).map_err(|e| format!("{e}\n{source}"))?;
    }
    let mut addresses = addresses.into_iter();
    let mut results = Vec::new();
    for case in cases {
        let mut buffers = Vec::new();
        for (role, (address, n_bytes)) in case.desc.buffers.iter().zip(addresses.by_ref()) {
            let mut bytes = vec![0; n_bytes];
            memory.read(address, &mut bytes).map_err(|e| e.to_string())?;
            buffers.push(Data::from_bytes(role.dtype, &bytes));
        }
        results.push(buffers);
    }
    Ok(results)
}

/// Runs `cases` as one kernel and compares each, under two orders of blocks and warps, which have to agree to the bit.
pub(crate) fn check(cases: &[(&Case, Near)]) -> Result<(), String> {
    let Some(compiler) = compiler() else { return Ok(()) };
    let parts: Vec<&Case> = cases.iter().map(|(case, _)| *case).collect();
    let got = run(&parts, compiler, 0)?;
    let again = run(&parts, compiler, 7)?;
    for (x, y) in got.iter().flatten().zip(again.iter().flatten()) {
        if x.to_bytes() != y.to_bytes() {
            return Err("results depend on the order of warps".to_owned());
        }
    }
    for (part, ((case, near), got)) in cases.iter().zip(&got).enumerate() {
        case.compare(got, *near).map_err(|e| format!("part {part}, {e}"))?;
    }
    Ok(())
}

/// Runs and compares `case` as a kernel of its own.
pub(crate) fn check_one(case: &Case, near: Near) -> Result<(), String> {
    check(&[(case, near)])
}
