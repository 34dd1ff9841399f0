//! How do weights reach the device? Checked and converted once, merged by the bind steps, shared between plans.
//!
//! Law: binding is all or nothing; every fault of the source is found before anything changes.

use super::{Session, allocate, check_dynamics};
use crate::device::{Arg, Backend, Slice};
use crate::error::BindError;
use crate::weights::{self, WeightFault, WeightSource};
use enel_bundle::{Access, Buffer, BufferKind, Bundle, Call, Plan, Step};
use enel_types::DType;
use std::collections::{BTreeMap, BTreeSet};

/// The weights of a buffer, in order, and the dtype they are stored in.
pub(super) type Key = (Vec<String>, DType);

/// How a bound buffer came to be: equal origins hold equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Weight(Key),
    Copy(u32),
    Result {
        kernel: u32,
        inputs: Vec<u32>,
        dynamics: Vec<i64>,
        position: usize,
    },
    /// Written more than once: shared with nothing.
    Own {
        plan: usize,
        buffer: u32,
    },
}

/// Numbers of origins.
#[derive(Default)]
struct Origins(BTreeMap<Origin, u32>);

impl Origins {
    fn number(&mut self, origin: Origin) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(origin).or_insert(next)
    }
}

impl Session {
    /// Takes every weight from `source`, converts it to its buffer's dtype and runs the bind steps.
    ///
    /// Binding again replaces all weights. Weights that only bind steps read are given back afterwards.
    ///
    /// # Errors
    /// [`BindError::Weights`] lists every weight that is missing or wrong.
    pub fn bind(&mut self, source: &dyn WeightSource) -> Result<(), BindError> {
        let bundle = self.bundle.clone();
        let needed = needed(&bundle)?;
        check_all(source, &needed)?;
        self.unbind();
        let result = self.fill(&bundle, source, &needed);
        if result.is_err() {
            self.unbind();
        }
        result
    }

    fn unbind(&mut self) {
        self.forget_prepared();
        let device = self.device.backend();
        for slice in std::mem::take(&mut self.weights).into_values().chain(self.bound.drain(..)) {
            device.free(slice.buffer);
        }
        for plan in &mut self.plans {
            plan.fixed.fill(None);
        }
    }

    fn fill(
        &mut self,
        bundle: &Bundle,
        source: &dyn WeightSource,
        needed: &BTreeMap<Key, Vec<Vec<usize>>>,
    ) -> Result<(), BindError> {
        for (key, shapes) in needed {
            let (names, dtype) = key;
            let bytes = |shape: &Vec<usize>| shape.iter().product::<usize>() * dtype.size_bytes();
            let failed = |source| {
                let place = format!("weight `{}`", names.join("` and `"));
                BindError::Device { place, source: Box::new(source) }
            };
            let device = self.device.backend();
            let whole = allocate(device, shapes.iter().map(bytes).sum()).map_err(failed)?;
            self.weights.insert(key.clone(), whole);
            let mut offset_bytes = 0;
            for (name, shape) in names.iter().zip(shapes) {
                let value = || BindError::Weights(vec![WeightFault::Value { name: name.clone(), expected: *dtype }]);
                // Conversion happens one weight at a time: a whole converted checkpoint need not fit the host.
                let view = source.tensor(name).ok_or_else(value)?;
                let converted = weights::convert(&view, *dtype).ok_or_else(value)?;
                let place = Slice { offset_bytes, size_bytes: bytes(shape), ..whole };
                self.device.backend().upload(place, &converted).map_err(failed)?;
                offset_bytes += place.size_bytes;
            }
        }
        let mut origins = Origins::default();
        let mut known: BTreeMap<u32, Slice> = BTreeMap::new();
        for (at, plan) in bundle.plans.iter().enumerate() {
            self.bind_plan((at, plan), bundle, &mut origins, &mut known)?;
        }
        let failed = |source| BindError::Device { place: "the end".to_owned(), source: Box::new(source) };
        self.device.backend().synchronize().map_err(failed)?;
        self.release_merged(bundle);
        Ok(())
    }

    fn bind_plan(
        &mut self,
        (at, plan): (usize, &Plan),
        bundle: &Bundle,
        origins: &mut Origins,
        known: &mut BTreeMap<u32, Slice>,
    ) -> Result<(), BindError> {
        let numbers = numbers(at, plan, bundle, origins)?;
        let mut fresh = vec![false; plan.buffers.len()];
        for (index, buffer) in plan.buffers.iter().enumerate() {
            let slice = match &buffer.kind {
                BufferKind::Weight(_) | BufferKind::Joined(_) => self.weights.get(&key(buffer)?.0).copied(),
                BufferKind::Bound => match numbers[index].and_then(|n| known.get(&n)) {
                    Some(shared) => Some(*shared),
                    None => {
                        let size_bytes = buffer.bytes(&[]).map_err(BindError::Size)?;
                        let place = format!("bound buffer {index} of plan `{}`", plan.name);
                        let failed = |source| BindError::Device { place, source: Box::new(source) };
                        let slice = allocate(self.device.backend(), size_bytes).map_err(failed)?;
                        self.bound.push(slice);
                        fresh[index] = true;
                        known.extend(numbers[index].map(|n| (n, slice)));
                        Some(slice)
                    }
                },
                BufferKind::Input(_) | BufferKind::State(_) | BufferKind::Output(_) | BufferKind::Temp => None,
            };
            self.plans[at].fixed[index] = slice;
        }
        for (index, step) in plan.bind.iter().enumerate() {
            // Another plan already ran this very step when every buffer it writes is shared with it.
            if written(step, bundle).iter().any(|b| fresh[*b as usize]) {
                self.bind_step(at, index, step, bundle)?;
            }
        }
        Ok(())
    }

    fn bind_step(&mut self, at: usize, index: usize, step: &Step, bundle: &Bundle) -> Result<(), BindError> {
        let plan = &bundle.plans[at];
        let place = || format!("bind step {index} of plan `{}`", plan.name);
        let slices = &self.plans[at].fixed;
        // A checked plan's bind steps touch weights and bound buffers only, and all of those have a place by now.
        let slice = |b: &u32| slices[*b as usize].unwrap_or_else(|| unreachable!("bind step on an unplaced buffer"));
        let device: &mut dyn Backend = self.device.backend();
        let result = match step {
            Step::Copy { from, to } => device.copy(slice(from), slice(to)),
            Step::Call(call) => {
                let kernel = &bundle.kernels[call.kernel as usize];
                let dynamics = dynamics(call)?;
                check_dynamics(&plan.name, kernel, &dynamics)?;
                let roles = call.buffers.iter().zip(kernel.buffers());
                let args: Vec<Arg> = roles.map(|(b, role)| Arg { slice: slice(b), access: role.access }).collect();
                device.launch(self.kernels[call.kernel as usize], &args, &dynamics)
            }
        };
        result.map_err(|source| BindError::Device { place: place(), source: Box::new(source) })
    }

    /// Gives back weights that no step of a run and no output reads.
    fn release_merged(&mut self, bundle: &Bundle) {
        let mut used = BTreeSet::new();
        for (plan, memory) in bundle.plans.iter().zip(&mut self.plans) {
            let touched = plan.steps.iter().flat_map(Plan::touched).chain(plan.outputs.iter().map(|o| o.buffer));
            let touched: BTreeSet<u32> = touched.collect();
            for (index, buffer) in plan.buffers.iter().enumerate() {
                if !matches!(buffer.kind, BufferKind::Weight(_) | BufferKind::Joined(_)) {
                    continue;
                }
                if touched.contains(&(index as u32)) {
                    used.extend(key(buffer).map(|(key, _)| key));
                } else {
                    memory.fixed[index] = None;
                }
            }
        }
        let device = self.device.backend();
        self.weights.retain(|key, slice| {
            let keep = used.contains(key);
            if !keep {
                device.free(slice.buffer);
            }
            keep
        });
    }
}

/// The weights of a buffer and their shapes.
fn key(buffer: &Buffer) -> Result<(Key, Vec<Vec<usize>>), BindError> {
    let weights = buffer.weights().map_err(BindError::Size)?;
    let (names, shapes) = weights.into_iter().map(|(name, shape)| (name.to_owned(), shape)).unzip();
    Ok(((names, buffer.dtype), shapes))
}

/// Weights some step or output reads; those merged into others where they stand are read only there.
fn needed(bundle: &Bundle) -> Result<BTreeMap<Key, Vec<Vec<usize>>>, BindError> {
    let mut needed = BTreeMap::new();
    for plan in &bundle.plans {
        let steps = plan.bind.iter().chain(&plan.steps).flat_map(Plan::touched);
        let touched: BTreeSet<u32> = steps.chain(plan.outputs.iter().map(|o| o.buffer)).collect();
        for at in touched {
            let buffer = &plan.buffers[at as usize];
            if matches!(buffer.kind, BufferKind::Weight(_) | BufferKind::Joined(_)) {
                needed.extend([key(buffer)?]);
            }
        }
    }
    Ok(needed)
}

fn check_all(source: &dyn WeightSource, needed: &BTreeMap<Key, Vec<Vec<usize>>>) -> Result<(), BindError> {
    let mut faults: Vec<WeightFault> = Vec::new();
    for ((names, dtype), shapes) in needed {
        for (name, shape) in names.iter().zip(shapes) {
            let fault = weights::check(name, source.tensor(name), *dtype, shape).err();
            // A weight that is read in several places is listed once.
            faults.extend(fault.filter(|fault| !faults.contains(fault)));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(BindError::Weights(faults)) }
}

fn dynamics(call: &Call) -> Result<Vec<i64>, BindError> {
    call.dynamics.iter().map(|d| d.eval(&[]).map_err(BindError::Size)).collect()
}

/// The buffers a step writes.
fn written(step: &Step, bundle: &Bundle) -> Vec<u32> {
    match step {
        Step::Copy { from: _, to } => vec![*to],
        Step::Call(call) => {
            let pairs = call.buffers.iter().zip(bundle.kernels[call.kernel as usize].buffers());
            pairs.filter(|(_, role)| role.access != Access::Read).map(|(b, _)| *b).collect()
        }
    }
}

/// The origin of every weight and bound buffer of a plan.
fn numbers(at: usize, plan: &Plan, bundle: &Bundle, origins: &mut Origins) -> Result<Vec<Option<u32>>, BindError> {
    let mut writes = vec![0u32; plan.buffers.len()];
    for buffer in plan.bind.iter().flat_map(|step| written(step, bundle)) {
        writes[buffer as usize] += 1;
    }
    let mut numbers: Vec<Option<u32>> = vec![None; plan.buffers.len()];
    for (index, buffer) in plan.buffers.iter().enumerate() {
        numbers[index] = match &buffer.kind {
            BufferKind::Weight(_) | BufferKind::Joined(_) => Some(origins.number(Origin::Weight(key(buffer)?.0))),
            BufferKind::Bound if writes[index] > 1 => {
                Some(origins.number(Origin::Own { plan: at, buffer: index as u32 }))
            }
            BufferKind::Bound
            | BufferKind::Input(_)
            | BufferKind::State(_)
            | BufferKind::Output(_)
            | BufferKind::Temp => None,
        };
    }
    for step in &plan.bind {
        match step {
            Step::Copy { from, to } => {
                if let (Some(from), 1) = (numbers[*from as usize], writes[*to as usize]) {
                    numbers[*to as usize] = Some(origins.number(Origin::Copy(from)));
                }
            }
            Step::Call(call) => {
                let dynamics = dynamics(call)?;
                let kernel = &bundle.kernels[call.kernel as usize];
                let reads = call.buffers.iter().zip(kernel.buffers()).filter(|(_, role)| role.access != Access::Write);
                let inputs: Option<Vec<u32>> = reads.map(|(b, _)| numbers[*b as usize]).collect();
                for (position, (&b, role)) in call.buffers.iter().zip(kernel.buffers()).enumerate() {
                    if role.access == Access::Read || writes[b as usize] != 1 {
                        continue;
                    }
                    if let Some(inputs) = inputs.clone() {
                        let (kernel, dynamics) = (call.kernel, dynamics.clone());
                        let origin = Origin::Result { kernel, inputs, dynamics, position };
                        numbers[b as usize] = Some(origins.number(origin));
                    }
                }
            }
        }
    }
    Ok(numbers)
}
