//! What may a tensor be off by? One rule each, by what it is.
//!
//! **Source** the README of the golden values, which says what float32 and float64 of the released code differ by and
//! what the mildest known mistakes make.

use super::files::{Case, Tensors};
use super::sheet::Errors;
use enel_interp::Tensor;

/// Relative L2 error allowed for point features and everything before them; 4e-7 is seen, mistakes make 3e-5.
const POINT: f64 = 5e-6;
/// The same for hidden states, what layers make of them, logits and losses; 2e-6 is seen.
const DECODER: f64 = 1e-5;
/// For derivatives through the token embedding; 5e-5 is seen.
const DERIVATIVE: f64 = 5e-4;
/// For derivatives of a decoder alone; 3e-6 is seen.
const DECODER_DERIVATIVE: f64 = 3e-5;
/// For distances between points and their derivatives.
const DISTANCE: f64 = 1e-6;
/// For a weight after a step, in units of the rate.
const STEP: f64 = 1e-2;
/// Elements whose derivative is a smaller part of the largest are not compared after a step: AdamW divides each by its
/// own size.
const STEP_PART: f64 = 1e-3;
/// For losses along a curve.
const CURVE: f64 = 1e-3;
/// How much a relative error counts in each column of a curve: loss and its three terms, length of the derivatives
/// (allowed ten times as much), rate (allowed a thousandth of it).
const CURVE_COLUMNS: [f64; 6] = [1.0, 1.0, 1.0, 1.0, 0.1, 1e3];
/// What a derivative that is 0 in exact arithmetic may be, as a part of its neighbour's largest element; 1e-7 is seen.
const NOTHING: f64 = 1e-5;

/// How two tensors are compared.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Relative L2 error over the tensor; 0 means equal.
    RelativeL2(f64),
    /// A derivative that is 0 in exact arithmetic: only its size is looked at, beside that of its neighbour.
    Nothing {
        /// Largest element of the neighbour.
        scale: f64,
    },
    /// A weight after a step: elements with a derivative worth the name, in units of the rate.
    Step {
        /// The rate.
        rate: f64,
        /// Which elements are compared.
        compared: Vec<bool>,
        /// What they may be off by.
        allowed: f64,
    },
    /// Rows of a loss curve.
    Curve,
}

impl Rule {
    /// How far values of equal count are from each other.
    pub fn errors(&self, ours: &[f64], theirs: &[f64]) -> Errors {
        let plain = Errors::of(ours, theirs, DECODER);
        match self {
            Rule::RelativeL2(tolerance) => Errors { tolerance: *tolerance, ..plain },
            Rule::Nothing { scale } => {
                Errors { relative_l2: largest(ours.iter().copied()) / scale, tolerance: NOTHING, ..plain }
            }
            Rule::Step { rate, compared, allowed } => {
                let pairs = ours.iter().zip(theirs).zip(compared).filter(|(_, compared)| **compared);
                let off = largest(pairs.map(|((a, b), _)| a - b));
                Errors { relative_l2: off / rate, tolerance: *allowed, ..plain }
            }
            Rule::Curve => {
                let peak = largest(theirs.chunks(CURVE_COLUMNS.len()).filter_map(|row| row.last().copied()));
                let off = |(i, (a, b)): (usize, (&f64, &f64))| {
                    // The rate of the first step is 0: it counts beside the largest.
                    let size = if *b == 0.0 { peak } else { b.abs() };
                    (a - b) / size * CURVE_COLUMNS[i % CURVE_COLUMNS.len()]
                };
                let off = largest(ours.iter().zip(theirs).enumerate().map(off));
                Errors { relative_l2: off, tolerance: CURVE, ..plain }
            }
        }
    }
}

/// The largest size; NaN when one is.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |most, x| if x.is_nan() || x.abs() > most { x.abs() } else { most })
}

/// The rule for the tensor called `name`.
pub fn rule(case: &Case, golden: &Tensors, name: &str) -> Rule {
    let Some(theirs) = golden.get(name) else { return Rule::RelativeL2(0.0) };
    if !theirs.dtype.is_float() {
        return Rule::RelativeL2(0.0);
    }
    if let Some(weight) = name.strip_prefix("grad.") {
        return derivative(case, golden, weight);
    }
    if let Some(weight) = name.strip_prefix("step1.") {
        return step(case, golden, weight);
    }
    if name.starts_with("curve") {
        return Rule::Curve;
    }
    let decoder =
        ["act.hidden", "act.layer", "act.mae_pred", "act.recon_pred", "act.loss", "logits", "step_logits", "loss"];
    let is_decoder = decoder.iter().any(|start| name.starts_with(start));
    Rule::RelativeL2(match (case.kind, is_decoder) {
        ('g', _) => DISTANCE,
        // A mean whose terms cancel: float32 and float64 of the released code differ by 4.7e-5 of it.
        ('b', true) => DERIVATIVE,
        (_, true) => DECODER,
        (_, false) => POINT,
    })
}

fn is_nothing(case: &Case, weight: &str) -> bool {
    let names = case.json.get("zero_gradients.names").and_then(serde_json::Value::as_array);
    let is_it =
        |name: &serde_json::Value| name.as_str().is_some_and(|n| n.strip_prefix("grad.").unwrap_or(n) == weight);
    names.is_some_and(|names| names.iter().any(is_it))
}

fn values(golden: &Tensors, name: &str) -> Vec<f64> {
    golden.get(name).map(Tensor::to_f64).unwrap_or_default()
}

fn derivative(case: &Case, golden: &Tensors, weight: &str) -> Rule {
    if is_nothing(case, weight) {
        let neighbour = format!("grad.{}", weight.replace(".bias", ".weight"));
        return Rule::Nothing { scale: largest(values(golden, &neighbour).into_iter()) };
    }
    Rule::RelativeL2(if case.kind == 'f' { DECODER_DERIVATIVE } else { DERIVATIVE })
}

fn step(case: &Case, golden: &Tensors, weight: &str) -> Rule {
    let rate = case.json.number_or("optimizer.lr", f64::NAN).unwrap_or(f64::NAN);
    let grad = values(golden, &format!("grad.{weight}"));
    if is_nothing(case, weight) {
        // The sign of noise decides: both are at most a rate from where they started.
        return Rule::Step { rate, compared: vec![true; grad.len()], allowed: 2.0 + STEP };
    }
    let least = STEP_PART * largest(grad.iter().copied());
    Rule::Step { rate, compared: grad.iter().map(|g| g.abs() > least).collect(), allowed: STEP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_measured_where_there_is_a_derivative() {
        let rule = Rule::Step { rate: 0.5, compared: vec![true, false], allowed: STEP };
        assert_eq!(rule.errors(&[1.0, 7.0], &[1.25, 0.0]).relative_l2, 0.5);
        assert!(rule.errors(&[1.0, f64::NAN], &[1.0, 0.0]).within());
        assert!(!rule.errors(&[f64::NAN, 0.0], &[1.0, 0.0]).within());
    }

    #[test]
    fn a_curve_allows_each_column_its_own() {
        let theirs = [2.0, 1.0, 1.0, 1.0, 10.0, 0.5, 2.0, 1.0, 1.0, 1.0, 10.0, 0.0];
        let off = |i: usize, by: f64| {
            let mut ours = theirs;
            ours[i] += by;
            Rule::Curve.errors(&ours, &theirs).within()
        };
        assert!(off(0, 0.0019) && !off(0, 0.0021));
        assert!(off(10, 0.09) && !off(10, 0.11));
        assert!(off(5, 4e-7) && !off(11, 6e-7));
    }

    #[test]
    fn nothing_is_small_beside_its_neighbour() {
        let rule = Rule::Nothing { scale: 2.0 };
        assert!(rule.errors(&[1e-5], &[5.0]).within() && !rule.errors(&[3e-5], &[5.0]).within());
        assert!(!rule.errors(&[f64::NAN], &[0.0]).within());
    }
}
