//! What runs on the device? The graphs of a step, compiled once, over states that last.
//!
//! Law: which state is what follows from its name: sums of derivatives, means of the optimizer, everything else is the
//! model's. All states but those means are f32, whatever the graphs compute in.

use crate::base::Base;
use crate::config::{Config, ModeConfig};
use crate::error::TrainError;
use crate::patterns;
use crate::start::Shapes;
use enel_ir::{DType, Graph, InputKind};
use enel_lower::FrontConfig;
use enel_model::train::{
    ADAPTER_A, ADAPTER_B, GRAD, MicroStep, OPTIMIZER, Objective, Optimizer, Schedule, TrainConfig, apply_graph,
    micro_step_graph, reading, training_graph,
};
use enel_model::{BatchNorms, Bounds, Extent, TapLevel};
use enel_passes::{Memory, Mode, Passes};
use enel_runtime::{HostTensors, RunError, Session};

/// How the name of a count of calls ends, which nothing computes with.
pub(crate) const CALLS: &str = "num_batches_tracked";
/// Names of plans.
pub(crate) const MICRO: &str = "micro_step";
pub(crate) const APPLY: &str = "apply";
pub(crate) const HELD_OUT: &str = "held_out";

/// Opens a device with graphs compiled for it.
pub type Opener<'a> =
    &'a mut dyn FnMut(&[&Graph], &FrontConfig) -> Result<Session, Box<dyn std::error::Error + Send + Sync>>;

/// The graphs of a run.
#[derive(Clone, Debug)]
pub struct Graphs {
    /// The loss of a call and its derivatives.
    pub micro: MicroStep,
    /// The step.
    pub apply: Graph,
    /// Cross-entropy by the running statistics, nothing masked.
    pub held_out: Option<Graph>,
}

/// How graphs of a run are compiled: products of the same rows stay apart, because derivatives read every fixed matrix by
/// itself: laid side by side as well, it would be held twice.
///
/// `temporaries_gb` bounds what values on the way may take.
pub fn front(mode: ModeConfig, temporaries_gb: Option<f64>) -> FrontConfig {
    let mode = match mode {
        ModeConfig::F32 => Mode::F32,
        ModeConfig::Bf16 => Mode::Bf16,
    };
    let memory = temporaries_gb.map(|gb| Memory { bytes: (gb * 1e9) as u64 });
    FrontConfig { mode, passes: Passes::AllBut(vec!["merge-contracts".to_owned()]), memory }
}

/// The optimizer of a run of `total` steps.
pub fn optimizer(config: &Config, total: u64) -> Optimizer {
    let o = &config.optimizer;
    let schedule = match o.schedule {
        crate::config::ScheduleConfig::Constant => Schedule::Constant,
        crate::config::ScheduleConfig::Cosine => {
            // **Source** Hugging Face's trainer rounds the warm-up up.
            let warmup = (o.warmup_ratio * total as f64).ceil() as u32;
            Schedule::Cosine { warmup, total: total as u32 }
        }
    };
    let (rate, betas, eps, moments, seed) = (o.rate, o.betas, o.eps, o.moments, config.run.seed);
    Optimizer { rate, schedule, betas, eps, weight_decay: o.weight_decay, max_norm: o.max_norm, moments, seed }
}

impl Graphs {
    /// The graphs of a run of `total` steps.
    ///
    /// # Errors
    /// [`TrainError::Model`] for a model or an objective without a graph, [`TrainError::Start`] for patterns that mean
    /// nothing.
    pub fn build(base: &Base, train: &TrainConfig, config: &Config, total: u64) -> Result<Graphs, TrainError> {
        let bounds = bounds(base, &train.objective, config);
        let (forward, _) = training_graph(&base.config, train, &bounds, TapLevel::Off)?;
        patterns::check(&forward, &train.trainable)?;
        drop(forward);
        let micro = micro_step_graph(&base.config, train, &bounds)?;
        let apply = apply_graph(&micro.weights, &optimizer(config, total))?;
        let held_out = match &config.held_out {
            None => None,
            Some(_) => {
                let objective = Objective::cross_entropy();
                let looking =
                    TrainConfig { objective, trainable: train.trainable.clone(), batch_norms: BatchNorms::Running };
                let (forward, _) = training_graph(&base.config, &looking, &bounds, TapLevel::Off)?;
                let states: Vec<&str> = states(&micro.graph).collect();
                Some(reading(HELD_OUT, &forward, &|name| states.contains(&name))?)
            }
        };
        Ok(Graphs { micro, apply, held_out })
    }

    /// All of them.
    pub fn list(&self) -> Vec<&Graph> {
        [&self.micro.graph, &self.apply].into_iter().chain(&self.held_out).collect()
    }

    /// The model's weights, those that learn and the running statistics among them, with their shapes.
    pub(crate) fn shapes(&self) -> Shapes {
        let mut shapes = Shapes::new();
        for graph in self.list() {
            for (id, name, kind) in graph.inputs().filter(|(_, _, kind)| *kind != InputKind::Data) {
                let is_own = name.starts_with(GRAD) || name.starts_with(OPTIMIZER) || name.ends_with(CALLS);
                if kind == InputKind::State && is_own {
                    continue;
                }
                let extents = graph.ty(id).shape.iter().filter_map(|dim| dim.as_const());
                shapes.insert(name.to_owned(), extents.map(|n| n as usize).collect());
            }
        }
        shapes
    }

    /// States of the model: weights that learn and running statistics.
    pub(crate) fn model_states(&self) -> Vec<String> {
        let is_model = |name: &&str| !name.starts_with(GRAD) && !name.ends_with(CALLS);
        states(&self.micro.graph).filter(is_model).map(str::to_owned).collect()
    }

    /// Counts of calls.
    pub(crate) fn counts(&self) -> Vec<String> {
        states(&self.micro.graph).filter(|name| name.ends_with(CALLS)).map(str::to_owned).collect()
    }

    /// States of the optimizer.
    pub(crate) fn optimizer_states(&self) -> Vec<String> {
        states(&self.apply).filter(|name| name.starts_with(OPTIMIZER)).map(str::to_owned).collect()
    }
}

/// Names of a graph's states.
fn states(graph: &Graph) -> impl Iterator<Item = &str> {
    graph.inputs().filter(|(_, _, kind)| *kind == InputKind::State).map(|(_, name, _)| name)
}

/// True for a factor of an adapter.
pub(crate) fn is_factor(name: &str) -> bool {
    name.ends_with(ADAPTER_A) || name.ends_with(ADAPTER_B)
}

fn bounds(base: &Base, objective: &Objective, config: &Config) -> Bounds {
    let views = if objective.contrast.is_some() { 2 } else { 1 };
    let longest = config.data.max_tokens.min(base.max_positions);
    let storage = match config.run.mode {
        ModeConfig::F32 => DType::F32,
        ModeConfig::Bf16 => DType::BF16,
    };
    Bounds {
        clouds: Extent::range(1, config.batch.size),
        tokens: Extent::range(1, config.batch.size * views * longest),
        storage,
        ..Bounds::default()
    }
}

/// Runs a plan; values for symbols it does not have are left out.
pub(crate) fn run(
    session: &mut Session,
    plan: &str,
    symbols: &[(&str, i64)],
    inputs: &HostTensors,
) -> Result<HostTensors, RunError> {
    let bundle = session.bundle().clone();
    let has = |name: &str| bundle.plan(plan).is_some_and(|plan| plan.symbols.find(name).is_some());
    let symbols: Vec<(&str, i64)> = symbols.iter().copied().filter(|(name, _)| has(name)).collect();
    session.run(plan, &symbols, inputs)
}

/// Opens the processor, with `device` such as `cpu` or `cpu:2`: no kernel has to be compiled for it.
///
/// # Errors
/// What compiling or opening reports.
pub fn open_cpu(
    device: &str,
    graphs: &[&Graph],
    front: &FrontConfig,
) -> Result<Session, Box<dyn std::error::Error + Send + Sync>> {
    let compiled = enel_lower::compile(graphs, front)?;
    let (plans, kernels) = (compiled.plans, compiled.kernels);
    let bundle = enel_bundle::Bundle { mode: "f32".to_owned(), plans, kernels, ..Default::default() };
    Ok(Session::new(std::sync::Arc::new(bundle), enel_runtime::Device::open(device)?)?)
}

/// An error of a run in its step.
pub(crate) fn at(step: u64) -> impl Fn(RunError) -> TrainError {
    move |source| TrainError::Run { step, source }
}
