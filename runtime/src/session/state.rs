//! What lasts between runs? State buffers, shared by name between the plans of a bundle.
//!
//! Law: a state is made once, zero, for fixed symbol values; a run with other values of the symbols its size depends
//! on is refused, so that nothing is lost silently.

use super::{Session, allocate};
use crate::device::Slice;
use crate::error::{InputFault, RunError};
use crate::tensor::HostTensor;
use enel_bundle::{Buffer, BufferKind, Plan};
use enel_types::{DType, Dim, Symbols};
use std::collections::BTreeMap;

/// A state on the device.
#[derive(Clone, Debug)]
pub(super) struct StateEntry {
    pub(super) slice: Slice,
    dtype: DType,
    shape: Vec<usize>,
}

/// Access to one state of a session.
#[derive(Debug)]
pub struct State<'s> {
    session: &'s mut Session,
    name: String,
    entry: StateEntry,
}

impl State<'_> {
    /// Storage type.
    pub fn dtype(&self) -> DType {
        self.entry.dtype
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    /// Its value now.
    ///
    /// # Errors
    /// [`RunError::Device`].
    pub fn read(&mut self) -> Result<HostTensor, RunError> {
        let StateEntry { slice, dtype, shape } = self.entry.clone();
        let failed = |source| RunError::Device {
            verb: "download",
            what: format!("state `{}`", self.name),
            source: Box::new(source),
        };
        let mut bytes = vec![0; slice.size_bytes];
        self.session.device.backend().download(slice, &mut bytes).map_err(failed)?;
        Ok(HostTensor::new(dtype, &shape, bytes).expect("a state has the size of its dtype and shape"))
    }

    /// Replaces its value.
    ///
    /// # Errors
    /// [`RunError::StateValue`] when dtype or shape differ.
    pub fn write(&mut self, value: &HostTensor) -> Result<(), RunError> {
        let StateEntry { slice, dtype, shape } = self.entry.clone();
        if value.dtype() != dtype || value.shape() != shape {
            let (got_dtype, got_shape) = (value.dtype(), value.shape().to_vec());
            let name = self.name.clone();
            return Err(RunError::StateValue(InputFault::Type { name, dtype, shape, got_dtype, got_shape }));
        }
        let failed = |source| RunError::Device {
            verb: "upload",
            what: format!("state `{}`", self.name),
            source: Box::new(source),
        };
        self.session.device.backend().upload(slice, value.bytes()).map_err(failed)
    }

    /// Sets every byte to zero.
    ///
    /// # Errors
    /// [`RunError::Device`].
    pub fn zero(&mut self) -> Result<(), RunError> {
        let failed = |source| RunError::Device {
            verb: "zero",
            what: format!("state `{}`", self.name),
            source: Box::new(source),
        };
        self.session.device.backend().fill(self.entry.slice, 0).map_err(failed)
    }
}

impl Session {
    /// Names of all states.
    pub fn state_names(&self) -> Vec<String> {
        let name = |b: &Buffer| match &b.kind {
            BufferKind::State(name) => Some(name.clone()),
            BufferKind::Input(_)
            | BufferKind::Weight(_)
            | BufferKind::Joined(_)
            | BufferKind::Bound
            | BufferKind::Output(_)
            | BufferKind::Temp => None,
        };
        let names: std::collections::BTreeSet<String> =
            self.bundle.plans.iter().flat_map(|p| &p.buffers).filter_map(name).collect();
        names.into_iter().collect()
    }

    /// Fixes values of symbols that state sizes depend on, and starts the states that change their size anew, zero.
    ///
    /// Without it, the first run that names such a symbol fixes it.
    ///
    /// # Errors
    /// [`RunError::Symbol`] for a symbol no plan has, [`RunError::Size`] for a value out of bounds.
    pub fn set_state_symbols(&mut self, symbols: &[(&str, i64)]) -> Result<(), RunError> {
        for (name, value) in symbols {
            self.check_state_symbol(name, *value)?;
        }
        for (name, value) in symbols {
            let old = self.state_symbols.insert((*name).to_owned(), *value);
            if old.is_some_and(|old| old != *value) {
                self.drop_states_of(name);
            }
        }
        Ok(())
    }

    /// One state; its memory is made where its size is known.
    ///
    /// # Errors
    /// [`RunError::UnknownState`], [`RunError::StateUnsized`].
    pub fn state(&mut self, name: &str) -> Result<State<'_>, RunError> {
        let bundle = self.bundle.clone();
        let is_it = |b: &&Buffer| b.kind == BufferKind::State(name.to_owned());
        let found = bundle.plans.iter().find_map(|p| p.buffers.iter().find(is_it).map(|b| (p, b)));
        let Some((plan, buffer)) = found else {
            return Err(RunError::UnknownState { state: name.to_owned(), known: self.state_names() });
        };
        let mut values = vec![1; plan.symbols.len()];
        for symbol in symbols_of(buffer, &plan.symbols) {
            let value = self.state_symbols.get(symbol).copied();
            let unsized_ = || RunError::StateUnsized { state: name.to_owned(), symbol: symbol.to_owned() };
            if let Some(id) = plan.symbols.find(symbol) {
                values[id.0 as usize] = value.ok_or_else(unsized_)?;
            }
        }
        self.place_state(name, plan, buffer, &values)?;
        let entry = self.states[name].clone();
        Ok(State { session: self, name: name.to_owned(), entry })
    }

    /// Sets all states that have memory to zero.
    ///
    /// # Errors
    /// [`RunError::Device`].
    pub fn zero_states(&mut self) -> Result<(), RunError> {
        for name in self.states.keys().cloned().collect::<Vec<_>>() {
            self.state(&name)?.zero()?;
        }
        Ok(())
    }

    fn check_state_symbol(&self, name: &str, value: i64) -> Result<(), RunError> {
        let mut known = Vec::new();
        for plan in &self.bundle.plans {
            for symbol in plan.symbols.iter() {
                if symbol.name != name {
                    known.push(symbol.name.clone());
                    continue;
                }
                let mut one = Symbols::default();
                let checked = one.add(symbol.clone()).and_then(|_| one.check(&[value]));
                return checked.map_err(|source| RunError::Size { plan: plan.name.clone(), source });
            }
        }
        known.sort();
        known.dedup();
        Err(RunError::Symbol { plan: "any".to_owned(), symbol: name.to_owned(), problem: "unknown", known })
    }

    fn drop_states_of(&mut self, symbol: &str) {
        self.forget_prepared();
        let bundle = self.bundle.clone();
        for plan in &bundle.plans {
            for buffer in &plan.buffers {
                let BufferKind::State(name) = &buffer.kind else { continue };
                if symbols_of(buffer, &plan.symbols).contains(&symbol)
                    && let Some(old) = self.states.remove(name)
                {
                    self.device.backend().free(old.slice.buffer);
                }
            }
        }
    }

    /// Makes sure every state of `plan` has memory, and that its size is that of these symbols.
    pub(super) fn place_states(&mut self, plan: &Plan, symbols: &[i64]) -> Result<(), RunError> {
        let mut used: BTreeMap<&str, i64> = BTreeMap::new();
        for buffer in &plan.buffers {
            let BufferKind::State(state) = &buffer.kind else { continue };
            for symbol in symbols_of(buffer, &plan.symbols) {
                let Some(id) = plan.symbols.find(symbol) else { continue };
                let got = symbols[id.0 as usize];
                if let Some(&was) = self.state_symbols.get(symbol)
                    && was != got
                {
                    let (state, symbol) = (state.clone(), symbol.to_owned());
                    return Err(RunError::StateSymbol { state, symbol, was, got });
                }
                used.insert(symbol, got);
            }
        }
        for buffer in &plan.buffers {
            if let BufferKind::State(name) = &buffer.kind {
                self.place_state(name, plan, buffer, symbols)?;
            }
        }
        self.state_symbols.extend(used.into_iter().map(|(symbol, value)| (symbol.to_owned(), value)));
        Ok(())
    }

    fn place_state(&mut self, name: &str, plan: &Plan, buffer: &Buffer, symbols: &[i64]) -> Result<(), RunError> {
        let size_error = |source| RunError::Size { plan: plan.name.clone(), source };
        let shape = buffer.extents(symbols).map_err(size_error)?;
        if let Some(old) = self.states.get(name) {
            if old.shape == shape {
                return Ok(());
            }
            let (state, plan, was) = (name.to_owned(), plan.name.clone(), old.shape.clone());
            return Err(RunError::StateShape { state, plan, was, got: shape });
        }
        let size_bytes = buffer.bytes(symbols).map_err(size_error)?;
        let failed =
            |source| RunError::Device { verb: "allocate", what: format!("state `{name}`"), source: Box::new(source) };
        let device = self.device.backend();
        let slice = allocate(device, size_bytes).map_err(failed)?;
        // A state that is not zero yet must not be found by the next run.
        if let Err(source) = device.fill(slice, 0) {
            device.free(slice.buffer);
            return Err(failed(source));
        }
        self.states.insert(name.to_owned(), StateEntry { slice, dtype: buffer.dtype, shape });
        Ok(())
    }
}

/// Names of the symbols a buffer's size depends on.
fn symbols_of<'a>(buffer: &Buffer, symbols: &'a Symbols) -> Vec<&'a str> {
    let mut ids: Vec<u32> = buffer.shape.iter().flat_map(Dim::terms).flat_map(|(_, m)| m).map(|s| s.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let name = |id: u32| symbols.get(enel_types::SymId(id)).map(|s| s.name.as_str());
    ids.into_iter().filter_map(name).collect()
}
