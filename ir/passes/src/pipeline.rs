//! In which order do passes run? One list from the graph as written to the graph that is divided into groups.

use crate::clean::expand;
use crate::rebuild::PassError;
use crate::rewrite::rewrite;
use enel_ir::{Composite, Graph, Verified};

/// Which passes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Only what kernels need: composites expand.
    None,
    /// Clean-up and all rewrites but those named.
    AllBut(Vec<String>),
}

impl Passes {
    /// All rewrites.
    pub fn all() -> Passes {
        Passes::AllBut(Vec::new())
    }
}

/// Rewrites `graph` into the form that is partitioned.
///
/// # Errors
/// [`PassError`] only by a defect of a pass.
pub fn pipeline(graph: Verified<'_>, passes: &Passes) -> Result<Graph, PassError> {
    let off: Vec<&str> = match passes {
        Passes::None => return expand(graph, &|_| false),
        Passes::AllBut(off) => off.iter().map(String::as_str).collect(),
    };
    // Attention and its derivatives stay whole: kernel families compute them without storing scores. Variance is one
    // pass over its values.
    let claimed = |c: &Composite| {
        let attends =
            matches!(c, Composite::Attention { .. } | Composite::AttentionLse { .. } | Composite::AttentionGrad { .. });
        attends || matches!(c, Composite::Variance { .. })
    };
    let expanded = expand(graph, &claimed)?;
    let verified = enel_ir::verify(&expanded).map_err(|faults| PassError::Verify { pass: "expand", faults })?;
    rewrite(verified, &off)
}
