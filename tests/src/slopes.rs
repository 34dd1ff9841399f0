//! How do tests differentiate graphs that were not made for it? With the mean of squares of their results as a loss.

use enel_autodiff::{AutodiffError, differentiate};
use enel_ir::{Composite, DType, Graph, verify};

/// Name of the loss.
pub const LOSS: &str = "loss";

/// `graph` with an output [`LOSS`] more: the mean square of every float result, summed; `None` without float results.
///
/// # Panics
/// When a mean cannot be built.
pub fn with_loss(graph: &Graph) -> Option<Graph> {
    let mut graph = graph.clone();
    let mut loss = None;
    for output in graph.outputs().to_vec() {
        if !graph.ty(output.value).dtype.is_float() {
            continue;
        }
        let mut mean = || {
            let x = graph.cast(output.value, DType::F32)?;
            let x2 = graph.mul(x, x)?;
            let axes = (0..graph.ty(x2).rank()).collect();
            let mean = graph.composite(Composite::Mean { axes, keep: false }, &[x2])?;
            loss.map_or(Ok(mean), |sum| graph.add(sum, mean))
        };
        loss = Some(mean().expect("any float has a mean square"));
    }
    graph.output(LOSS, loss?);
    Some(graph)
}

/// The derivative of a graph [`with_loss`] by every float input its loss depends on; `None` when it depends on none.
///
/// # Panics
/// When the graph has no derivative, which any verified graph has.
pub fn derived(graph: &Graph) -> Option<Graph> {
    let verified = verify(graph).unwrap_or_else(|faults| panic!("{faults:?}\n{graph}"));
    let by = |wrt: &dyn Fn(&str) -> bool| differentiate(verified, LOSS, wrt);
    let result = match by(&|_| true) {
        Err(AutodiffError::Unreached { names }) => by(&|name| !names.iter().any(|n| n == name)),
        other => other,
    };
    match result {
        Ok(derived) => Some(derived),
        Err(AutodiffError::NothingChosen { .. }) => None,
        Err(fault) => panic!("{fault:?}\n{graph}"),
    }
}
