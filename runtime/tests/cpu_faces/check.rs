//! Does the cpu agree with the reference? Runs a Desc on one, two and three threads and compares every buffer.

use crate::reference::{Data, V, writes};
use enel_bundle::{Access, Desc};
use enel_runtime::cpu::{CpuArg, CpuError, CpuKernel, CpuThreads};
use enel_types::DType;
use std::sync::OnceLock;

fn pools() -> &'static [CpuThreads] {
    static POOLS: OnceLock<Vec<CpuThreads>> = OnceLock::new();
    POOLS.get_or_init(|| (1..=3).map(|n| CpuThreads::new(n).unwrap()).collect())
}

/// Runs on copies of the buffers.
pub(crate) fn run(
    desc: &Desc,
    buffers: &[Data],
    dynamics: &[i64],
    threads: &CpuThreads,
) -> Result<Vec<Data>, CpuError> {
    let kernel = CpuKernel::prepare(desc)?;
    let mut copies: Vec<Data> = buffers.iter().map(Data::copy).collect();
    let mut args: Vec<CpuArg<'_>> = Vec::new();
    for (data, role) in copies.iter_mut().zip(&desc.buffers) {
        args.push(match role.access {
            Access::Read => CpuArg::Read(&data.bytes),
            Access::Write | Access::Update => CpuArg::Write(&mut data.bytes),
        });
    }
    kernel.run(&mut args, dynamics, threads)?;
    Ok(copies)
}

/// The spacing of a dtype's values at 1.
fn spacing(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 128.0,
        DType::F16 => 1.0 / 1024.0,
        _ => f64::from(f32::EPSILON),
    }
}

fn close(dtype: DType, got: f32, want: f32, slack: f64, exact: bool) -> bool {
    if got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()) || got == want {
        return true;
    }
    if exact || !got.is_finite() || !want.is_finite() {
        // A sum beyond f32 may round to either side of infinity only where the slack reaches that far.
        return !exact && slack > 1e30;
    }
    let (got, want) = (f64::from(got), f64::from(want));
    (got - want).abs() <= slack + spacing(dtype) * want.abs() + 1e-37
}

/// Asserts that all threads agree bit for bit and that the first agrees with the reference.
pub(crate) fn check(desc: &Desc, buffers: &[Data], dynamics: &[i64], exact: bool) {
    let mut want: Vec<Data> = buffers.iter().map(Data::copy).collect();
    let mut slacks: Vec<Vec<f64>> = buffers.iter().map(|b| vec![0.0; b.len()]).collect();
    for w in writes(desc, buffers, dynamics) {
        want[w.buffer].set(w.index, w.value);
        slacks[w.buffer][w.index] = w.slack;
    }
    let runs: Vec<Vec<Data>> = pools().iter().map(|p| run(desc, buffers, dynamics, p).unwrap()).collect();
    for (b, want) in want.iter().enumerate() {
        for other in &runs[1..] {
            assert!(runs[0][b].bytes[..] == other[b].bytes[..], "buffer {b} depends on the number of threads");
        }
        for (i, slack) in slacks[b].iter().enumerate() {
            let (got, want, slack) = (runs[0][b].get(i), want.get(i), *slack);
            let fits = match (got, want) {
                (V::F(got), V::F(want)) => close(buffers[b].dtype, got, want, slack, exact),
                (got, want) => got == want,
            };
            assert!(fits, "buffer {b}[{i}] is {got:?}, not {want:?} (slack {slack:e}) of {desc:#?}");
        }
    }
}
