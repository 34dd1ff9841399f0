//! How is ENEL trained? A forward pass with its loss, a micro-step that adds up derivatives, a step that applies them.
//!
//! Law: weights that learn are states which both graphs share by name; a host runs [`micro_step_graph`] once for each
//! part of a batch and the graph of [`apply_graph`] after the last. Reading order: `objective`, `trainable`, `losses`,
//! `forward`, `optimizer`, `moments`, `draws`.

mod draws;
mod forward;
mod losses;
mod moments;
mod objective;
mod optimizer;
mod trainable;

pub use enel_autodiff::GRAD;
pub use forward::{TrainConfig, training_graph};
pub use losses::{Nearest, chamfer, nearest};
pub use moments::{Moments, stochastic_bf16};
pub use objective::{Contrast, Distillation, Masked, Objective, PositionCode, Prediction, Tap, Target, TargetGradient};
pub use optimizer::{FIRST, OPTIMIZER, Optimizer, SECOND, STEP, Schedule, apply_graph};
pub use trainable::{ADAPTER_A, ADAPTER_B, Adapters, EmbeddingRows, Trainable};

use crate::config::{Bounds, EnelConfig};
use crate::names;
use crate::scope::ModelError;
use crate::tap::TapLevel;
use enel_autodiff::differentiate;
use enel_ir::{DType, Graph, InputKind, Node, NodeId, Op, TensorType, verify};
use enel_passes::hoist;

/// A graph of a training step, and the weights that learn in it.
#[derive(Clone, Debug)]
pub struct MicroStep {
    /// Outputs the loss and its terms; updates running statistics and the states `grad.NAME`.
    pub graph: Graph,
    /// Name and type of every weight that learns: a state here, read only, f32 whatever the graph computes in.
    pub weights: Vec<(String, TensorType)>,
}

/// One part of a batch: the loss, and its derivatives added to the states `grad.NAME`.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph, [`ModelError::Autodiff`] when nothing that is to learn can.
pub fn micro_step_graph(config: &EnelConfig, train: &TrainConfig, bounds: &Bounds) -> Result<MicroStep, ModelError> {
    let (forward, _) = training_graph(config, train, bounds, TapLevel::Off)?;
    accumulating(&forward, &|name| train.trainable.has(name))
}

/// `forward` with an output [`names::LOSS`], as a micro-step that learns the weights `learns` accepts.
///
/// # Errors
/// [`ModelError::Autodiff`] when the loss does not depend on one of them; [`ModelError::Pass`] by a defect.
pub fn accumulating(forward: &Graph, learns: &dyn Fn(&str) -> bool) -> Result<MicroStep, ModelError> {
    let weights: Vec<(String, TensorType)> = forward
        .inputs()
        .filter(|(_, name, kind)| *kind == InputKind::Weight && learns(name))
        .map(|(id, name, _)| (name.to_owned(), master(forward.ty(id))))
        .collect();
    let is_weight = |name: &str| weights.iter().any(|(weight, _)| weight == name);
    let hoisted = hoist(verify(forward).map_err(first_fault)?)?;
    let derived = differentiate(verify(&hoisted).map_err(first_fault)?, names::LOSS, &is_weight)?;
    let graph = with_states("micro_step", &derived, &is_weight)?;
    Ok(MicroStep { graph, weights })
}

/// `forward`, called `name`, which reads the weights `is_state` accepts where a micro-step keeps them: as states.
///
/// # Errors
/// [`ModelError::Malformed`] for a graph that breaks a rule.
pub fn reading(name: &str, forward: &Graph, is_state: &dyn Fn(&str) -> bool) -> Result<Graph, ModelError> {
    with_states(name, forward, is_state)
}

/// What a weight that learns is stored as, and what its derivatives are added up in: f32, whatever products take it as.
/// Steps are too small for fewer digits.
///
/// **Source** Micikevicius et al. 2018, arXiv:1710.03740, section 3.1.
fn master(ty: &TensorType) -> TensorType {
    TensorType::new(DType::F32, ty.shape.clone())
}

/// `derived` with weights as states, and each output `grad.NAME` as the update of a state it is added to, as soon as it is
/// there: nothing waits for the end with what it was computed from.
fn with_states(name: &str, derived: &Graph, is_state: &dyn Fn(&str) -> bool) -> Result<Graph, ModelError> {
    let mut graph = Graph::new(name, derived.symbols.clone());
    let mut moved: Vec<NodeId> = Vec::with_capacity(derived.len());
    for id in derived.ids() {
        let Node { op, operands, .. } = derived.node(id);
        let operands: Vec<NodeId> = operands.iter().map(|o| moved[o.index()]).collect();
        moved.push(match op {
            Op::Input { name, kind: InputKind::Weight, ty } if is_state(name) => {
                let state = graph.input(name, InputKind::State, master(ty))?;
                if ty.dtype == DType::F32 { state } else { graph.cast(state, ty.dtype)? }
            }
            op => graph.push(op.clone(), &operands)?,
        });
        let value = moved[id.index()];
        for output in derived.outputs().iter().filter(|o| o.value == id && o.name.starts_with(GRAD)) {
            let sum = graph.input(&output.name, InputKind::State, master(derived.ty(id)))?;
            let next = graph.add(sum, value)?;
            graph.output_state(&output.name, next, sum);
        }
    }
    for output in derived.outputs() {
        let value = moved[output.value.index()];
        match output.updates {
            Some(state) => graph.output_state(&output.name, value, moved[state.index()]),
            None if output.name.starts_with(GRAD) => {}
            None => graph.output(&output.name, value),
        }
    }
    verify(&graph).map_err(first_fault)?;
    Ok(graph)
}

fn first_fault(faults: Vec<enel_ir::VerifyError>) -> ModelError {
    match faults.into_iter().next() {
        Some(first) => ModelError::Malformed(first),
        None => ModelError::Build(enel_ir::BuildError::Spec("a graph without nodes".to_owned())),
    }
}
