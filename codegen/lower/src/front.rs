//! What happens between a graph as written and its plan? Verify, rewrite, divide, lower: for every graph of a bundle.

use crate::plan::{Compiled, LowerError, lower};
use enel_ir::{Graph, VerifyError};
use enel_passes::{Mode, Partition, PassError, Passes, partition, pipeline};

/// How graphs are compiled, whatever the target.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Numeric mode.
    pub mode: Mode,
    /// Which rewrites run; `Passes::None` also switches fusion off.
    pub passes: Passes,
}

/// A graph on its way to a plan, kept for `inspect` and for the interpreter.
#[derive(Clone, Debug)]
pub struct Divided {
    /// After all passes.
    pub graph: Graph,
    /// Its groups.
    pub partition: Partition,
}

/// Why graphs cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The graph breaks rules.
    #[error("graph `{graph}` is not valid:{}", .faults.iter().map(|f| format!("\n  {f}")).collect::<String>())]
    Verify {
        /// Its name.
        graph: String,
        /// Every fault.
        faults: Vec<VerifyError>,
    },
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Lowering failed.
    #[error(transparent)]
    Lower(#[from] LowerError),
}

/// Rewrites and divides one graph.
///
/// # Errors
/// [`FrontError::Verify`] for an invalid graph, [`FrontError::Pass`] only by a defect of a pass.
pub fn divide(graph: &Graph, config: &FrontConfig) -> Result<Divided, FrontError> {
    let invalid = |faults| FrontError::Verify { graph: graph.name().to_owned(), faults };
    let rewritten = pipeline(enel_ir::verify(graph).map_err(invalid)?, &config.passes)?;
    let fuse = config.passes != Passes::None;
    let partition = partition(enel_ir::verify(&rewritten).map_err(invalid)?, config.mode, fuse);
    Ok(Divided { graph: rewritten, partition })
}

/// Compiles graphs to plans over shared kernels.
///
/// # Errors
/// [`FrontError`] of the first graph that fails.
pub fn compile(graphs: &[&Graph], config: &FrontConfig) -> Result<Compiled, FrontError> {
    let mut compiled = Compiled::default();
    for graph in graphs {
        let divided = divide(graph, config)?;
        let invalid = |faults| FrontError::Verify { graph: graph.name().to_owned(), faults };
        lower(enel_ir::verify(&divided.graph).map_err(invalid)?, &divided.partition, &mut compiled)?;
    }
    Ok(compiled)
}
