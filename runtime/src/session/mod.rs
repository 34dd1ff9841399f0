//! What does a caller hold? A bundle on a device with its weights, states and memory.
//!
//! Law: after the first run of a plan at some sizes, running it again there allocates nothing on the device (after the
//! second, where the device asks for separate buffers: those are kept with a recording). `bind` fills weights, `run` runs plans, `state` keeps what lasts.

mod bind;
mod prepare;
mod run;
mod slices;
mod state;

pub use run::{HostTensors, RunOptions, RunOutput, RunStats, StepTime};
pub use state::State;

use crate::device::{Backend, Device, KernelId, Slice};
use crate::error::{DynamicFault, OpenError, RunError};
use enel_bundle::{Bundle, Kernel};
use prepare::Prepared;
use state::StateEntry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A bundle on a device.
pub struct Session {
    bundle: Arc<Bundle>,
    device: Device,
    /// Per kernel of the bundle.
    kernels: Vec<KernelId>,
    /// Weights that steps of a run read; those only binding reads are given back after it.
    weights: BTreeMap<bind::Key, Slice>,
    /// What binding computed; buffers of different plans that hold the same share memory.
    bound: Vec<Slice>,
    /// Per plan.
    plans: Vec<PlanMemory>,
    states: BTreeMap<String, StateEntry>,
    state_symbols: BTreeMap<String, i64>,
    /// Temps, inputs and outputs of whichever plan runs.
    workspace: Option<Slice>,
    capture: bool,
}

/// What a session keeps for one plan.
#[derive(Default)]
struct PlanMemory {
    /// Weight and bound buffers; `None` before binding and for all others.
    fixed: Vec<Option<Slice>>,
    /// Most recently used last.
    prepared: Vec<Prepared>,
}

impl Session {
    /// Loads every kernel of the bundle on the device.
    ///
    /// # Errors
    /// [`OpenError::Bundle`], [`OpenError::Load`].
    pub fn new(bundle: Arc<Bundle>, mut device: Device) -> Result<Session, OpenError> {
        bundle.check().map_err(enel_bundle::BundleError::Inconsistent)?;
        let mut kernels = Vec::with_capacity(bundle.kernels.len());
        for (at, kernel) in bundle.kernels.iter().enumerate() {
            let loaded = device.backend().load(&bundle, at);
            let failed = |source| OpenError::Load {
                kernel: kernel.name.clone(),
                device: device.name(),
                source: Box::new(source),
            };
            kernels.push(loaded.map_err(failed)?);
        }
        let memory =
            |plan: &enel_bundle::Plan| PlanMemory { fixed: vec![None; plan.buffers.len()], prepared: Vec::new() };
        let plans = bundle.plans.iter().map(memory).collect();
        Ok(Session {
            bundle,
            device,
            kernels,
            weights: BTreeMap::new(),
            bound: Vec::new(),
            plans,
            states: BTreeMap::new(),
            state_symbols: BTreeMap::new(),
            workspace: None,
            capture: true,
        })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// Name of the device.
    pub fn device_name(&self) -> String {
        self.device.name()
    }

    /// Whether runs are recorded and replayed where the device can; on at first.
    pub fn set_capture(&mut self, capture: bool) {
        self.capture = capture;
        self.forget_prepared();
    }

    /// Position of a plan.
    fn plan_index(&self, plan: &str) -> Result<usize, RunError> {
        let found = self.bundle.plans.iter().position(|p| p.name == plan);
        found.ok_or_else(|| RunError::UnknownPlan {
            plan: plan.to_owned(),
            known: self.bundle.plans.iter().map(|p| p.name.clone()).collect(),
        })
    }

    /// Drops everything that knows addresses; what is prepared again finds the new ones.
    fn forget_prepared(&mut self) {
        for plan in &mut self.plans {
            for mut prepared in plan.prepared.drain(..) {
                prepared.forget_recording(self.device.backend());
            }
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plans: Vec<&str> = self.bundle.plans.iter().map(|p| p.name.as_str()).collect();
        f.debug_struct("Session").field("device", &self.device).field("plans", &plans).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.forget_prepared();
        let states = self.states.values().map(|s| s.slice);
        let all = self.weights.values().copied().chain(self.bound.iter().copied()).chain(states).chain(self.workspace);
        let all: Vec<Slice> = all.collect();
        for slice in all {
            self.device.backend().free(slice.buffer);
        }
    }
}

/// A new allocation of its own; empty tensors get one too, so that every buffer has an address.
fn allocate(device: &mut dyn Backend, size_bytes: usize) -> Result<Slice, crate::DeviceError> {
    let buffer = device.allocate(size_bytes.max(1))?;
    Ok(Slice { buffer, offset_bytes: 0, size_bytes })
}

/// Checks a call's sizes against what its kernel was compiled for.
fn check_dynamics(plan: &str, kernel: &Kernel, values: &[i64]) -> Result<(), DynamicFault> {
    for (index, (dynamic, &value)) in kernel.dynamics().zip(values).enumerate() {
        let (max, multiple) = (dynamic.max, dynamic.multiple);
        if value < 0 || value > max || value % multiple != 0 {
            let (plan, kernel) = (plan.to_owned(), kernel.name.clone());
            return Err(DynamicFault { plan, kernel, index, value, max, multiple });
        }
    }
    Ok(())
}
