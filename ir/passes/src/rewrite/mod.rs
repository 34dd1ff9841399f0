//! Which named rewrites exist? One row each: a graph in, an equal graph out, cheaper to run.
//!
//! Law: each row can be switched off, changes cost and never meaning (property-tested), and asks structure, not names.

mod affine;
mod hoist;
mod linear;
mod merge;
mod narrow;
mod nested;
mod scatter;

use crate::clean::clean;
use crate::rebuild::PassError;
use enel_ir::{Dim, Graph, Symbols, Verified};

/// A named rewrite.
#[derive(Debug)]
pub struct Rewrite {
    /// Name to switch it off by.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Whether it also runs before derivatives are taken, so that the way back is as short as the way there.
    pub early: bool,
    pub(crate) apply: fn(Verified<'_>) -> Result<Graph, PassError>,
}

/// All rewrites in the order they run.
pub const REWRITES: &[Rewrite] = &[
    Rewrite {
        name: "hoist-broadcast",
        doc: "A costly unary op on repeated values runs before the repetition (the position code's 6 values).",
        early: true,
        apply: hoist::apply,
    },
    Rewrite {
        name: "nested-fps",
        doc: "Sampling m of n farthest points from an earlier farthest point sampling takes its first m.",
        early: true,
        apply: nested::apply,
    },
    Rewrite {
        name: "linear-before-gather",
        doc: "A linear map of gathered, centred and scaled rows is taken before the gather, on far fewer rows.",
        early: true,
        apply: linear::apply,
    },
    Rewrite {
        name: "gather-before-linear",
        doc: "Rows picked from a linear map's result are picked before the map (the last token's logits).",
        early: true,
        apply: narrow::apply,
    },
    Rewrite {
        name: "scatter-into-sum",
        doc: "Rows added to zeros that are then added to a value are added to that value (a table's derivatives).",
        early: false,
        apply: scatter::apply,
    },
    Rewrite {
        name: "fold-affine",
        doc: "Centring, scaling and shifting by weights become one scale and one shift (batch normalisation).",
        early: false,
        apply: affine::apply,
    },
    Rewrite {
        name: "merge-contracts",
        doc: "Linear maps of one value become one map of concatenated weights (QKV, gate and up).",
        early: false,
        apply: merge::apply,
    },
];

/// Runs all rewrites but those in `off`, cleaning up after each.
///
/// # Errors
/// [`PassError`] only by a defect of a pass.
pub fn rewrite(graph: Verified<'_>, off: &[&str]) -> Result<Graph, PassError> {
    run(graph, &|row| !off.contains(&row.name))
}

/// Runs the rewrites that pay before derivatives are taken; composites stay whole, as their derivatives are closed forms.
///
/// # Errors
/// [`PassError`] only by a defect of a pass.
pub fn hoist(graph: Verified<'_>) -> Result<Graph, PassError> {
    run(graph, &|row| row.early)
}

fn run(graph: Verified<'_>, wanted: &dyn Fn(&Rewrite) -> bool) -> Result<Graph, PassError> {
    let mut current = clean(graph)?;
    for row in REWRITES.iter().filter(|row| wanted(row)) {
        let verify = |g| enel_ir::verify(g).map_err(|faults| PassError::Verify { pass: row.name, faults });
        let next = (row.apply)(verify(&current)?)?;
        current = clean(verify(&next)?)?;
    }
    Ok(current)
}

/// A typical value of a size, for weighing costs: the geometric mean of its bounds.
fn typical(dim: &Dim, symbols: &Symbols) -> f64 {
    let (low, high) = dim.bounds(symbols);
    (low.max(1) as f64 * high.max(1) as f64).sqrt()
}
