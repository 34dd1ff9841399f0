//! How is a kernel of a bundle called? As one of its plans calls it, at small sizes and on drawn data.
//!
//! Law: a call is drawn or refused with the reason; every size follows from symbols of the plan, so that buffers are as long
//! as the kernel was compiled for.

use crate::build::Random;
use crate::check::{BF16, Case, F32, Near};
use crate::data::Data;
use crate::eval::{EvalError, Precision, Stored, evaluate, work};
use enel_bundle::{Access, Body, Bundle, Desc, Kernel, Plan, Program, Step};
use enel_types::{DType, DimError, Symbol};

/// Data of an attention are drawn this often before its ranges are given up.
const MAX_DRAWS: usize = 8;

/// A drawn call of a kernel: one case per part.
#[derive(Clone, Debug)]
pub struct Call {
    /// Plan whose call it is, with its symbols' values.
    pub what: String,
    /// Parts in order.
    pub cases: Vec<(Case, Near)>,
}

/// What a call may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Scalar instructions of one evaluation.
    pub instructions: u64,
    /// Bytes of all buffers.
    pub bytes: usize,
}

/// Why a kernel has no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No plan of the bundle calls it.
    #[error("no plan calls it")]
    NotCalled,
    /// Even its smallest call takes too long to evaluate.
    #[error("its smallest call takes {instructions} scalar instructions, more than {limit}")]
    Work {
        /// What it takes.
        instructions: u64,
        /// What it may take.
        limit: u64,
    },
    /// Even its smallest call takes too much memory.
    #[error("its smallest call takes {bytes} B, more than {limit}")]
    Bytes {
        /// What it takes.
        bytes: usize,
        /// What it may take.
        limit: usize,
    },
    /// A size cannot be evaluated.
    #[error("its sizes cannot be evaluated: {0}")]
    Size(#[from] DimError),
    /// No drawn data gave the call a meaning.
    #[error("no drawn data fit it: {0}")]
    Data(#[from] EvalError),
}

/// Draws a call of `kernel` at sizes up to `size` beyond their smallest; smaller ones where those take too much.
///
/// # Errors
/// [`CallError`], the reason of the smallest call tried.
pub fn draw_call(bundle: &Bundle, kernel: usize, (size, seed): (i64, u64), limit: Limit) -> Result<Call, CallError> {
    let steps = bundle.plans.iter().flat_map(|plan| plan.bind.iter().chain(&plan.steps).map(move |step| (plan, step)));
    let mut calls = steps.filter_map(|(plan, step)| match step {
        Step::Call(call) if call.kernel as usize == kernel => Some((plan, call)),
        Step::Call(_) | Step::Copy { .. } => None,
    });
    let (plan, call) = calls.next().ok_or(CallError::NotCalled)?;
    let found = &bundle.kernels[kernel];
    let mut random = Random(seed);
    let mut size = size;
    loop {
        let symbols: Vec<i64> = plan.symbols.iter().map(|s| value(s, size, &mut random)).collect();
        match at_symbols(found, (plan, call), &symbols, (&mut random, limit)) {
            Err(CallError::Work { .. } | CallError::Bytes { .. } | CallError::Data(_)) if size > 0 => size /= 2,
            other => return other,
        }
    }
}

/// A value of a symbol near its smallest.
fn value(symbol: &Symbol, size: i64, random: &mut Random) -> i64 {
    let smallest = symbol.smallest();
    let steps = size.min((symbol.max - smallest) / symbol.multiple);
    smallest + random.below(steps.max(0) as u64 + 1) as i64 * symbol.multiple
}

fn at_symbols(
    kernel: &Kernel,
    (plan, call): (&Plan, &enel_bundle::Call),
    symbols: &[i64],
    (random, limit): (&mut Random, Limit),
) -> Result<Call, CallError> {
    let dynamics: Vec<i64> = call.dynamics.iter().map(|d| d.eval(symbols)).collect::<Result<_, _>>()?;
    let buffers = || call.buffers.iter().map(|b| &plan.buffers[*b as usize]);
    let mut bytes = 0usize;
    for buffer in buffers() {
        bytes = bytes.saturating_add(buffer.bytes(symbols)?);
    }
    if bytes > limit.bytes {
        return Err(CallError::Bytes { bytes, limit: limit.bytes });
    }
    let parts: Vec<(&Desc, &[i64])> = kernel.descs().zip(kernel.split_dynamics(&dynamics)).collect();
    let instructions = parts.iter().map(|(desc, sizes)| work(desc, sizes)).fold(0, u64::saturating_add);
    if instructions > limit.instructions {
        return Err(CallError::Work { instructions, limit: limit.instructions });
    }
    let mut shapes = Vec::new();
    for buffer in buffers() {
        shapes.push(buffer.extents(symbols)?);
    }
    let mut shapes = shapes.as_slice();
    let mut cases = Vec::new();
    for (desc, sizes) in parts {
        let (own, rest) = shapes.split_at(desc.buffers.len());
        cases.push((part(desc, sizes, own, random)?, near(desc)));
        shapes = rest;
    }
    let named = plan.symbols.iter().zip(symbols).map(|(s, v)| format!("{} = {v}", s.name));
    Ok(Call { what: [vec![format!("plan {}", plan.name)], named.collect()].concat().join(", "), cases })
}

fn near(desc: &Desc) -> Near {
    match &desc.body {
        Body::Contract(body) if body.bf16 => BF16,
        Body::Attention(body) if body.bf16 => BF16,
        Body::AttentionGrad(body) if body.bf16 => BF16,
        Body::Contract(_)
        | Body::Attention(_)
        | Body::AttentionGrad(_)
        | Body::Map(_)
        | Body::Reduce(_)
        | Body::Scatter(_) => F32,
        Body::Fps(_) | Body::Knn(_) | Body::TopK(_) => Near::Exact,
    }
}

/// Data for one part that give it a meaning.
fn part(desc: &Desc, sizes: &[i64], shapes: &[Vec<usize>], random: &mut Random) -> Result<Case, EvalError> {
    let mut last = EvalError::Sizes("nothing was drawn");
    for attempt in 0..MAX_DRAWS {
        let case =
            Case { desc: desc.clone(), sizes: sizes.to_vec(), buffers: data(desc, sizes, shapes, (random, attempt)) };
        // Only attention gives data a say in what is read.
        if !matches!(desc.body, Body::Attention(_) | Body::AttentionGrad(_)) {
            return Ok(case);
        }
        match evaluate(&case.desc, &case.sizes, &case.buffers, (Precision::Double, Stored::Rounded)) {
            Ok(_) => return Ok(case),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Floats in -1..1, integers that may index an axis of some buffer; later attempts keep integers smaller.
fn data(desc: &Desc, sizes: &[i64], shapes: &[Vec<usize>], (random, attempt): (&mut Random, usize)) -> Vec<Data> {
    let extents: Vec<usize> = shapes.iter().flatten().copied().filter(|n| *n > 1).collect();
    let mut buffers = Vec::with_capacity(shapes.len());
    for (buffer, (role, shape)) in desc.buffers.iter().zip(shapes).enumerate() {
        let n = shape.iter().product::<usize>();
        let (dtype, is_index) = (role.dtype, role.dtype.is_int() && role.access == Access::Read);
        buffers.push(match &desc.body {
            _ if !is_index => {
                if role.access == Access::Write {
                    Data::zeros(dtype, n)
                } else {
                    random.data(dtype, n as i64)
                }
            }
            Body::Attention(body) => {
                let keys = body.keys.value(sizes).max(0) >> attempt;
                drawn(dtype, n, range(keys, (&body.low.program, &body.high.program), buffer), random)
            }
            Body::AttentionGrad(body) => {
                let keys = body.keys.value(sizes).max(0) >> attempt;
                drawn(dtype, n, range(keys, (&body.low.program, &body.high.program), buffer), random)
            }
            _ => {
                let bound = if extents.is_empty() { 1 } else { extents[random.below(extents.len() as u64) as usize] };
                drawn(dtype, n, (0, bound as i64 - 1), random)
            }
        });
    }
    buffers
}

/// First and last value of integers that say what tokens see of `keys` rows.
fn range(keys: i64, (low, high): (&Program, &Program), buffer: usize) -> (i64, i64) {
    match (reads(low, buffer), reads(high, buffer)) {
        (true, false) => (0, keys / 2),
        (false, true) => (keys / 2, keys),
        (true, true) | (false, false) => (0, keys),
    }
}

/// Integers in `first..=last`.
fn drawn(dtype: DType, n: usize, (first, last): (i64, i64), random: &mut Random) -> Data {
    Data::int(dtype, (0..n).map(|_| first + random.below((last - first) as u64 + 1) as i64))
}

/// Whether a program loads a buffer.
fn reads(program: &Program, buffer: usize) -> bool {
    program.instrs().iter().any(|i| matches!(i, enel_bundle::Instr::Load { buffer: b, .. } if *b as usize == buffer))
}
