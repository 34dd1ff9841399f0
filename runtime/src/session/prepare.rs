//! What does a plan look like at given sizes? Places for all buffers and calls with numbers instead of expressions.

use super::{Session, check_dynamics};
use crate::device::{GraphId, KernelId, Slice};
use crate::error::RunError;
use enel_bundle::{ARENA_ALIGNMENT, Access, BufferKind, Bundle, Plan, Step, layout};

/// A plan keeps this many sizes prepared; a conversation visits a few prompt lengths and one decode size.
const MAX_PREPARED: usize = 16;

/// Where a buffer lives during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Untouched by every step.
    Nowhere,
    /// In the workspace, or an allocation of its own where the device asks for it.
    Workspace { offset_bytes: usize, size_bytes: usize },
    /// Where it always is.
    Fixed(Slice),
}

/// A step with its numbers filled in; buffers are those of the plan.
#[derive(Debug)]
pub(super) enum PreparedStep {
    Call { kernel: KernelId, buffers: Vec<(u32, Access)>, dynamics: Vec<i64> },
    Copy { from: u32, to: u32 },
}

/// A plan at given sizes.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Symbol values in the plan's order.
    pub(super) symbols: Vec<i64>,
    pub(super) places: Vec<Place>,
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) steps: Vec<PreparedStep>,
    /// Temps, then inputs, then outputs.
    pub(super) workspace_bytes: usize,
    /// Arena part of the workspace.
    pub(super) arena_bytes: usize,
    /// Recording of all steps.
    pub(super) graph: Option<GraphId>,
    /// All buffers as the recording knows them, where some are allocations of their own.
    pub(super) kept: Option<Vec<Slice>>,
    pub(super) runs: u64,
}

impl Session {
    /// Moves the plan at these sizes to the end of its list, preparing it first where needed.
    pub(super) fn prepare(&mut self, at: usize, symbols: &[i64]) -> Result<(), RunError> {
        let bundle = self.bundle.clone();
        let plan = &bundle.plans[at];
        let prepared = &mut self.plans[at].prepared;
        if let Some(found) = prepared.iter().position(|p| p.symbols == symbols) {
            let found = prepared.remove(found);
            let workspace_bytes = found.workspace_bytes;
            prepared.push(found);
            // A larger size that did not fit took the workspace with it.
            return self.reserve(workspace_bytes);
        }
        self.place_states(plan, symbols)?;
        let new = self.prepared(at, plan, &bundle, symbols)?;
        self.reserve(new.workspace_bytes)?;
        let prepared = &mut self.plans[at].prepared;
        if prepared.len() >= MAX_PREPARED {
            prepared.remove(0).forget_recording(self.device.backend());
        }
        prepared.push(new);
        Ok(())
    }

    fn prepared(&self, at: usize, plan: &Plan, bundle: &Bundle, symbols: &[i64]) -> Result<Prepared, RunError> {
        let size_error = |source| RunError::Size { plan: plan.name.clone(), source };
        let overflow = || size_error(enel_types::DimError::Overflow);
        let arena = layout(plan, symbols)?;
        let mut end = arena.arena_bytes;
        let mut places = Vec::with_capacity(plan.buffers.len());
        let mut shapes = Vec::with_capacity(plan.buffers.len());
        let mut sizes = Vec::with_capacity(plan.buffers.len());
        for (index, buffer) in plan.buffers.iter().enumerate() {
            shapes.push(buffer.extents(symbols).map_err(size_error)?);
            let size_bytes = buffer.bytes(symbols).map_err(size_error)?;
            sizes.push(size_bytes);
            places.push(match &buffer.kind {
                BufferKind::Input(_) | BufferKind::Output(_) => {
                    let offset_bytes = end;
                    let next = end.checked_add(size_bytes).and_then(|e| e.checked_next_multiple_of(ARENA_ALIGNMENT));
                    end = next.ok_or_else(overflow)?;
                    Place::Workspace { offset_bytes, size_bytes }
                }
                BufferKind::Temp => match arena.offsets[index] {
                    Some(offset_bytes) => Place::Workspace { offset_bytes, size_bytes },
                    None => Place::Nowhere,
                },
                BufferKind::Weight(_) | BufferKind::Joined(_) | BufferKind::Bound => {
                    self.plans[at].fixed[index].map_or(Place::Nowhere, Place::Fixed)
                }
                BufferKind::State(name) => {
                    self.states.get(name).map_or(Place::Nowhere, |state| Place::Fixed(state.slice))
                }
            });
        }
        let steps = self.steps(plan, bundle, symbols, &sizes)?;
        let (symbols, arena_bytes) = (symbols.to_vec(), arena.arena_bytes);
        let (workspace_bytes, graph, kept, runs) = (end, None, None, 0);
        Ok(Prepared { symbols, places, shapes, steps, workspace_bytes, arena_bytes, graph, kept, runs })
    }

    fn steps(
        &self,
        plan: &Plan,
        bundle: &Bundle,
        symbols: &[i64],
        sizes: &[usize],
    ) -> Result<Vec<PreparedStep>, RunError> {
        let size_error = |source| RunError::Size { plan: plan.name.clone(), source };
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            steps.push(match step {
                Step::Copy { from, to } => {
                    let (from_bytes, to_bytes) = (sizes[*from as usize], sizes[*to as usize]);
                    if from_bytes != to_bytes {
                        let plan = plan.name.clone();
                        return Err(RunError::Copy { plan, step: index, from_bytes, to_bytes });
                    }
                    PreparedStep::Copy { from: *from, to: *to }
                }
                Step::Call(call) => {
                    let kernel = &bundle.kernels[call.kernel as usize];
                    let dynamics = call.dynamics.iter().map(|d| d.eval(symbols)).collect::<Result<Vec<i64>, _>>();
                    let dynamics = dynamics.map_err(size_error)?;
                    check_dynamics(&plan.name, kernel, &dynamics)?;
                    let roles = kernel.buffers().map(|role| role.access);
                    let buffers = call.buffers.iter().copied().zip(roles).collect();
                    PreparedStep::Call { kernel: self.kernels[call.kernel as usize], buffers, dynamics }
                }
            });
        }
        Ok(steps)
    }

    /// Grows the workspace; what was prepared for the old one only keeps offsets, but recordings keep addresses.
    fn reserve(&mut self, workspace_bytes: usize) -> Result<(), RunError> {
        let enough = self.workspace.is_some_and(|w| w.size_bytes >= workspace_bytes);
        if enough || self.device.backend().separate_buffers() {
            return Ok(());
        }
        for prepared in self.plans.iter_mut().flat_map(|p| &mut p.prepared) {
            prepared.forget_recording(self.device.backend());
        }
        let device = self.device.backend();
        if let Some(old) = self.workspace.take() {
            device.free(old.buffer);
        }
        let what = "the workspace".to_owned();
        let slice = super::allocate(device, workspace_bytes);
        self.workspace =
            Some(slice.map_err(|source| RunError::Device { verb: "allocate", what, source: Box::new(source) })?);
        Ok(())
    }
}
