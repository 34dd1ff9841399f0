//! When do two results agree? The tolerance rule of the proof ladder, over whole tensors.

use enel_interp::Tensor;
use enel_ir::{DType, Graph, IdMap};

/// Why two results differ.
#[derive(Debug)]
pub struct Difference {
    /// Output name.
    pub name: String,
    /// First element that differs.
    pub at: usize,
    /// The device's value there.
    pub got: f64,
    /// The reference's.
    pub expected: f64,
    /// Largest difference allowed.
    pub allowed: f64,
}

/// Relative size of f32 noise a kernel may add inside a group, where the rounded reference keeps f64: some hundred
/// roundings of 6e-8.
const NOISE: f64 = 3e-5;

/// Compares `got` with the f64 reference: at most twice as far off as the reference that rounds where values are stored,
/// plus f32 noise of the tensor's own scale, plus one unit in the last place of the coarsest dtype the graph stores in
/// (noise can turn one rounding the other way). Integers and bool are equal.
///
/// **Source** the rule of FlashAttention's tests (rtol = 2 against a low-precision reference).
///
/// # Errors
/// The first element that differs by more.
pub fn agree(
    name: &str,
    got: &Tensor,
    (reference, rounded): (&Tensor, &Tensor),
    coarsest: DType,
) -> Result<(), Difference> {
    let (g, r, l) = (got.to_f64(), reference.to_f64(), rounded.to_f64());
    let finite = |v: &[f64]| v.iter().copied().filter(|x| x.is_finite()).map(f64::abs).fold(0.0, f64::max);
    let spread: Vec<f64> = r.iter().zip(&l).map(|(a, b)| a - b).collect();
    let ulp = match coarsest {
        DType::BF16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        _ => 0.0,
    };
    let allowed = if got.dtype.is_float() { 2.0 * finite(&spread) + (NOISE + ulp) * finite(&r) + 1e-30 } else { 0.0 };
    if g.len() != r.len() || got.dtype != reference.dtype {
        return Err(Difference {
            name: name.to_owned(),
            at: 0,
            got: g.len() as f64,
            expected: r.len() as f64,
            allowed,
        });
    }
    for (at, (&got, &expected)) in g.iter().zip(&r).enumerate() {
        let same = got == expected || (got.is_nan() && expected.is_nan()) || (got - expected).abs() <= allowed;
        if !same {
            return Err(Difference { name: name.to_owned(), at, got, expected, allowed });
        }
    }
    Ok(())
}

/// The coarsest float dtype any value of `graph` is stored in.
pub fn coarsest(graph: &Graph, storage: &IdMap<Option<DType>>) -> DType {
    let stored: Vec<DType> = graph.ids().filter_map(|id| storage[id]).collect();
    let rank = [DType::BF16, DType::F16];
    rank.into_iter().find(|d| stored.contains(d)).unwrap_or(DType::F32)
}
