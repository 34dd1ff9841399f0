//! What happens between a graph as written and its plan? Verify, rewrite, divide, lower: for every graph of a bundle.

use crate::plan::{Compiled, LowerError, lower};
use enel_bundle::layout;
use enel_ir::{Graph, VerifyError};
use enel_passes::{Memory, Mode, Partition, PassError, Passes, partition, pipeline, recompute};

/// How graphs are compiled, whatever the target.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Numeric mode.
    pub mode: Mode,
    /// Which rewrites run; `Passes::None` also switches fusion off.
    pub passes: Passes,
    /// What temporaries may take, at the cost of computing some values twice; `None` computes each once.
    pub memory: Option<Memory>,
}

impl Default for FrontConfig {
    /// All rewrites, f32, nothing computed twice.
    fn default() -> FrontConfig {
        FrontConfig { mode: Mode::F32, passes: Passes::all(), memory: None }
    }
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

/// Rewrites and divides one graph. With a bound on memory, values are computed again until the plan fits it, or as near to it
/// as that gets.
///
/// # Errors
/// [`FrontError::Verify`] for an invalid graph, [`FrontError::Pass`] only by a defect of a pass.
pub fn divide(graph: &Graph, config: &FrontConfig) -> Result<Divided, FrontError> {
    let invalid = |faults| FrontError::Verify { graph: graph.name().to_owned(), faults };
    let rewritten = pipeline(enel_ir::verify(graph).map_err(invalid)?, &config.passes)?;
    let fuse = config.passes != Passes::None;
    let verified = enel_ir::verify(&rewritten).map_err(invalid)?;
    let plain = partition(verified, config.mode, fuse);
    let Some(memory) = config.memory.filter(|_| fuse) else {
        return Ok(Divided { partition: plain, graph: rewritten });
    };
    let all = temp_bytes(&rewritten, &plain)?;
    let mut best = (all, Divided { partition: plain, graph: rewritten.clone() });
    let trial = |asked: u64, best: &mut (u64, Divided)| -> Result<u64, FrontError> {
        let verified = enel_ir::verify(&rewritten).map_err(invalid)?;
        let graph = recompute(verified, config.mode, Memory { bytes: asked })?;
        let partition = partition(enel_ir::verify(&graph).map_err(invalid)?, config.mode, fuse);
        let took = temp_bytes(&graph, &partition)?;
        if took < best.0 {
            *best = (took, Divided { graph, partition });
        }
        Ok(took)
    };
    // The pass weighs groups one by one; a plan shares launches and pads its buffers, so the bound is tried and tightened.
    let mut asked = memory.bytes;
    for _ in 0..MOST_TRIALS {
        if best.0 <= memory.bytes {
            return Ok(best.1);
        }
        let took = trial(asked, &mut best)?;
        asked = (asked as f64 * TIGHTER * (memory.bytes as f64 / took.max(1) as f64).min(1.0)) as u64;
    }
    // A bound that cannot be met makes the pass double what does not pay: the least is found from above.
    let mut asked = all as f64;
    for _ in 0..MOST_STEPS {
        if best.0 <= memory.bytes {
            break;
        }
        asked *= STEP;
        trial(asked as u64, &mut best)?;
    }
    Ok(best.1)
}

/// Bounds tried before the least memory is looked for.
const MOST_TRIALS: usize = 4;
/// How much of a bound the next trial asks for, beside what the last one missed it by.
const TIGHTER: f64 = 0.95;
/// Steps down from what everything takes, and how far each goes: to a fifth.
const MOST_STEPS: usize = 16;
const STEP: f64 = 0.9;

/// Bytes of the temporaries of a graph's plan at its largest sizes.
fn temp_bytes(graph: &Graph, partition: &Partition) -> Result<u64, FrontError> {
    let invalid = |faults| FrontError::Verify { graph: graph.name().to_owned(), faults };
    let mut compiled = Compiled::default();
    lower(enel_ir::verify(graph).map_err(invalid)?, partition, &mut compiled)?;
    let largest: Vec<i64> = graph.symbols.iter().map(|symbol| symbol.max).collect();
    let bytes = |plan| layout(plan, &largest).map_or(u64::MAX, |layout| layout.arena_bytes as u64);
    Ok(compiled.plans.iter().map(bytes).max().unwrap_or(0))
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
