//! Renders a Desc, compiles it, runs it on the emulator and compares it with its meaning.

#![allow(dead_code, clippy::unwrap_used, reason = "each suite uses its part, and a test may stop at once")]

pub(crate) mod build;
pub(crate) mod data;
pub(crate) mod eval;

use data::Data;
use enel_bundle::{Access, Desc};
use enel_codegen::{Rendered, render};
use enel_emulator::{Arg, Launch, Memory, Module, Options};
use enel_nvrtc::{Arch, Compiler, Search, Unit, locate};
use eval::{Precision, evaluate};
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

/// One call: a Desc, its sizes, and what its buffers hold before.
pub(crate) struct Case {
    pub(crate) desc: Desc,
    pub(crate) sizes: Vec<i64>,
    pub(crate) buffers: Vec<Data>,
}

/// How near the result has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Near {
    /// Equal bits (all NaNs are one).
    Exact,
    /// `|out - ref64| <= 2 |low - ref64| + slack * (scale of the reference)`, over the maximum of each buffer.
    Float { low: Precision, slack: f64 },
    /// `|out - ref64| <= bound * |ref64|`, each element by itself.
    Relative(f64),
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
    for case in cases {
        for (role, data) in case.desc.buffers.iter().zip(&case.buffers) {
            let bytes = data.to_bytes();
            let address = memory.alloc(bytes.len()).map_err(|e| e.to_string())?;
            // What a kernel writes it does not read; the emulator reports it if it does.
            if role.access != Access::Write {
                memory.write(address, &bytes).map_err(|e| e.to_string())?;
            }
            args.push(Arg::U64(address));
            addresses.push((address, bytes.len()));
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

impl Case {
    /// Runs and compares it as a kernel of its own.
    pub(crate) fn check(&self, near: Near) -> Result<(), String> {
        check(&[(self, near)])
    }

    fn compare(&self, got: &[Data], near: Near) -> Result<(), String> {
        let reference = evaluate(&self.desc, &self.sizes, &self.buffers, Precision::Double);
        let low = match near {
            Near::Exact | Near::Relative(_) => evaluate(&self.desc, &self.sizes, &self.buffers, Precision::Single),
            Near::Float { low, .. } => evaluate(&self.desc, &self.sizes, &self.buffers, low),
        };
        for (n, role) in self.desc.buffers.iter().enumerate() {
            if role.access != Access::Read {
                compare(&got[n], &reference[n], &low[n], near).map_err(|e| format!("buffer {n}: {e}"))?;
            }
        }
        Ok(())
    }
}

fn compare(got: &Data, reference: &Data, low: &Data, near: Near) -> Result<(), String> {
    let (got, reference, low) = match (got, reference, low) {
        (Data::Int(_, got), Data::Int(_, reference), _) => {
            return match got.iter().zip(reference).position(|(x, y)| x != y) {
                None => Ok(()),
                Some(at) => Err(format!("element {at}: {}, expected {}", got[at], reference[at])),
            };
        }
        (Data::Float(_, got), Data::Float(_, reference), Data::Float(_, low)) => (got, reference, low),
        other => return Err(format!("{other:?}")),
    };
    if let Near::Relative(bound) = near {
        return match got
            .iter()
            .zip(reference)
            .position(|(x, y)| (x - y).abs() > bound * y.abs() || x.is_nan() != y.is_nan())
        {
            None => Ok(()),
            Some(at) => Err(format!("element {at}: {}, expected {}", got[at], reference[at])),
        };
    }
    let Near::Float { slack, .. } = near else {
        return match got.iter().zip(low).position(|(x, y)| x != y && !(x.is_nan() && y.is_nan())) {
            None => Ok(()),
            Some(at) => Err(format!("element {at}: {}, expected {}", got[at], low[at])),
        };
    };
    let finite = |x: &f64| x.is_finite();
    let scale = reference.iter().copied().filter(finite).fold(0.0, |m: f64, x| m.max(x.abs()));
    let loss = low.iter().zip(reference).map(|(x, y)| (x - y).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    for (at, (x, y)) in got.iter().zip(reference).enumerate() {
        let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 2.0 * loss + slack * scale;
        if !same {
            return Err(format!("element {at}: {x}, expected {y} within {}", 2.0 * loss + slack * scale));
        }
    }
    Ok(())
}
