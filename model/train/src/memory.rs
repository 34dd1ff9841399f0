//! What does a run take? Bytes on the device by what they are for, and arithmetic, counted over compiled plans.
//!
//! Law: nothing is estimated. Buffers and arenas are those a session lays out at these sizes; operations are those of the
//! plan's products and attentions.

use crate::steps::{APPLY, MICRO};
use enel_bundle::{BufferKind, Bundle, Plan, PlanError, Step, flops, layout};
use enel_model::train::{GRAD, OPTIMIZER};
use enel_types::{DimError, Symbol};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a run takes on its device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Values of weights, those that learn among them.
    pub parameters: u64,
    /// Values of weights that learn.
    pub learning: u64,
    /// Weights that do not learn.
    pub fixed_bytes: u64,
    /// Weights that learn, and running statistics.
    pub learned_bytes: u64,
    /// Sums of derivatives.
    pub derivative_bytes: u64,
    /// Means of the optimizer.
    pub optimizer_bytes: u64,
    /// What is computed once from fixed weights.
    pub bound_bytes: u64,
    /// Temporaries of each plan at their fullest, by its name; plans share the memory.
    pub arena_bytes: BTreeMap<String, u64>,
    /// Temporaries, inputs and outputs of the plan that takes most.
    pub workspace_bytes: u64,
    /// What lives together where the temporaries of a call are at their fullest, largest first.
    pub peak: Vec<Alike>,
    /// Floating-point operations of a call.
    pub call_flop: u64,
    /// Floating-point operations of applying a step.
    pub apply_flop: u64,
}

/// Temporaries of one shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// How many.
    pub count: u64,
    /// Storage type and extents of each.
    pub ty: String,
    /// Bytes of all.
    pub bytes: u64,
}

impl Memory {
    /// What `bundle` takes when its plans run at these sizes.
    ///
    /// # Errors
    /// [`PlanError`] for sizes out of bounds.
    pub fn of(bundle: &Bundle, symbols: &[(&str, i64)]) -> Result<Memory, PlanError> {
        let mut memory = Memory::default();
        let (mut seen, mut weights) = (BTreeSet::new(), BTreeSet::new());
        for plan in &bundle.plans {
            let values = values(plan, symbols);
            let failed = |source: DimError| PlanError::Size { plan: plan.name.clone(), source };
            let touched = plan.steps.iter().flat_map(Plan::touched).chain(plan.outputs.iter().map(|o| o.buffer));
            let touched: BTreeSet<u32> = touched.collect();
            let arena = layout(plan, &values)?.arena_bytes as u64;
            let mut workspace = arena;
            for (at, buffer) in plan.buffers.iter().enumerate() {
                let bytes = buffer.bytes(&values).map_err(failed)? as u64;
                match &buffer.kind {
                    BufferKind::Input(_) | BufferKind::Output(_) => workspace += bytes,
                    BufferKind::Bound => memory.bound_bytes += bytes,
                    BufferKind::Weight(_) | BufferKind::Joined(_) => {
                        let parts = buffer.weights().map_err(failed)?;
                        for (name, shape) in &parts {
                            if weights.insert((*name).to_owned()) {
                                memory.parameters += shape.iter().product::<usize>() as u64;
                            }
                        }
                        let key: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
                        // A weight that only binding reads is given back after it.
                        if touched.contains(&(at as u32)) && seen.insert(key.join(" ")) {
                            memory.fixed_bytes += bytes;
                        }
                    }
                    BufferKind::State(name) if seen.insert(name.clone()) => memory.state(name, bytes),
                    BufferKind::State(_) | BufferKind::Temp => {}
                }
            }
            memory.arena_bytes.insert(plan.name.clone(), arena);
            memory.workspace_bytes = memory.workspace_bytes.max(workspace);
        }
        memory.peak = match bundle.plan(MICRO) {
            Some(plan) => peak(plan, &values(plan, symbols))?,
            None => Vec::new(),
        };
        memory.call_flop = plan_flop(bundle, MICRO, symbols);
        memory.apply_flop = plan_flop(bundle, APPLY, symbols);
        Ok(memory)
    }

    /// Counts a state; all but the means of the optimizer are f32.
    fn state(&mut self, name: &str, bytes: u64) {
        if name.starts_with(GRAD) {
            self.derivative_bytes += bytes;
            self.learning += bytes / 4;
        } else if name.starts_with(OPTIMIZER) {
            self.optimizer_bytes += bytes;
        } else {
            self.learned_bytes += bytes;
            let is_statistic = name.ends_with("running_mean") || name.ends_with("running_var");
            self.parameters += if is_statistic || name.ends_with(crate::steps::CALLS) { 0 } else { bytes / 4 };
        }
    }

    /// All bytes together.
    pub fn total_bytes(&self) -> u64 {
        self.fixed_bytes
            + self.learned_bytes
            + self.derivative_bytes
            + self.optimizer_bytes
            + self.bound_bytes
            + self.workspace_bytes
    }
}

/// Temporaries that live together where they are most bytes.
fn peak(plan: &Plan, values: &[i64]) -> Result<Vec<Alike>, PlanError> {
    let failed = |source: DimError| PlanError::Size { plan: plan.name.clone(), source };
    let mut grown = vec![0i64; plan.steps.len() + 1];
    let mut live = Vec::new();
    for (buffer, range) in plan.buffers.iter().zip(plan.live_ranges()) {
        let Some((first, last)) = range else { continue };
        let bytes = buffer.bytes(values).map_err(failed)?;
        grown[first] += bytes as i64;
        grown[last + 1] -= bytes as i64;
        live.push((
            first..=last,
            format!("{}{:?}", buffer.dtype, buffer.extents(values).map_err(failed)?),
            bytes as u64,
        ));
    }
    let (mut now, mut most, mut at) = (0, 0, 0);
    for (step, change) in grown.iter().enumerate() {
        now += change;
        if now > most {
            (most, at) = (now, step);
        }
    }
    let mut alike: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (_, ty, bytes) in live.into_iter().filter(|(range, ..)| range.contains(&at)) {
        let entry = alike.entry(ty).or_default();
        *entry = (entry.0 + 1, entry.1 + bytes);
    }
    let mut list: Vec<Alike> = alike.into_iter().map(|(ty, (count, bytes))| Alike { count, ty, bytes }).collect();
    list.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.ty.cmp(&b.ty)));
    Ok(list)
}

/// Floating-point operations of a plan's products and attentions at these sizes.
pub fn plan_flop(bundle: &Bundle, name: &str, symbols: &[(&str, i64)]) -> u64 {
    let Some(plan) = bundle.plan(name) else { return 0 };
    let values = values(plan, symbols);
    let mut sum = 0u64;
    for step in &plan.steps {
        let Step::Call(call) = step else { continue };
        let kernel = &bundle.kernels[call.kernel as usize];
        let Ok(dynamics) = call.dynamics.iter().map(|d| d.eval(&values)).collect::<Result<Vec<i64>, _>>() else {
            continue;
        };
        let parts = kernel.descs().zip(kernel.split_dynamics(&dynamics));
        sum = parts.filter_map(|(desc, own)| flops(desc, own)).fold(sum, u64::saturating_add);
    }
    sum
}

/// Values of a plan's symbols, the least one where none is given.
fn values(plan: &Plan, symbols: &[(&str, i64)]) -> Vec<i64> {
    let value = |symbol: &Symbol| symbols.iter().find(|(name, _)| *name == symbol.name).map(|given| given.1);
    plan.symbols.iter().map(|symbol| value(symbol).unwrap_or(symbol.min)).collect()
}
