//! Where the tests get programs: NVRTC's translation of the kernels beside them, made once.
#![allow(dead_code, clippy::unwrap_used, reason = "each suite uses a part; a failed test may panic")]

use enel_emulate::{Array, ArrayType, Compiler, CudaOptions, Job, Program, Report, Value};
use enel_nvrtc::{Search, locate};
use std::sync::OnceLock;

/// The compiler of this machine; without one `None` and a printed line, or a failure where `CI=true`.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn compiler() -> Option<&'static Compiler> {
    static OPEN: OnceLock<Option<Compiler>> = OnceLock::new();
    let found = OPEN.get_or_init(|| match locate(&Search::from_env(|name| std::env::var_os(name))) {
        Ok(found) => Some(Compiler::open(&found).unwrap()),
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => panic!("{error}"),
        Err(_) => None,
    });
    if found.is_none() {
        println!("skipped: no NVRTC");
    }
    found.as_ref()
}

/// The program of a text, compiled for `target`.
pub(crate) fn program(file: &str, source: &str, target: &str, instances: &[&str]) -> Option<Program> {
    let instances = instances.iter().map(|&i| i.to_owned()).collect();
    let options = CudaOptions { target: target.parse().unwrap(), instances, ..CudaOptions::default() };
    match Program::from_cuda(compiler()?, file, source, &options) {
        Ok(program) => Some(program),
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Seeds of the schedules every kernel must survive.
pub(crate) const SEEDS: [u64; 4] = [0, 1, 2, 0xfeed];

/// Runs a job under every seed; all must give the same arrays.
pub(crate) fn run(program: &Program, job: &Job<'_>) -> Report {
    let mut first: Option<Report> = None;
    for seed in SEEDS {
        let job = Job { seed, max_instructions: Some(50_000_000), ..job.clone() };
        let report = program.run(&job).unwrap_or_else(|e| panic!("{} under seed {seed}: {}", job.kernel, chain(&e)));
        match &first {
            Some(first) => assert_eq!(first.arrays, report.arrays, "{} under seed {seed}", job.kernel),
            None => first = Some(report),
        }
    }
    first.unwrap()
}

pub(crate) fn f32s(values: impl IntoIterator<Item = f32>) -> Value {
    Value::In(Array::from_f32(&values.into_iter().collect::<Vec<_>>()))
}

pub(crate) fn i32s(values: impl IntoIterator<Item = i32>) -> Value {
    Value::In(Array::from_i32(&values.into_iter().collect::<Vec<_>>()))
}

/// 16-bit floats, as their bits.
pub(crate) fn halves(bits: impl IntoIterator<Item = u16>) -> Value {
    Value::In(Array::from_u16(&bits.into_iter().collect::<Vec<_>>()))
}

pub(crate) fn zeros_i32(n: usize) -> Value {
    Value::InOut(Array::from_i32(&vec![0; n]))
}

pub(crate) fn out(ty: ArrayType, n: usize) -> Value {
    Value::Out(ty, n)
}

/// A small deterministic stream of numbers (xorshift64*, Vigna 2016).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `-1..1`.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}
