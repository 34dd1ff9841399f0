//! How do several graphs run on one device with the same weights and states? Compiled together, bound once, run often.
//!
//! Law: the only file of the `enel` subcommands that knows sessions; it is compiled for the device it was opened on.

use crate::device;
use anyhow::{Context, Result};
use enel_ir::Graph;
use enel_lower::FrontConfig;
use enel_passes::{Mode, Passes};
use enel_runtime::{Device, HostTensor, HostTensors, Session, WeightSource};
use std::sync::Arc;

/// Compiled graphs on a device.
#[derive(Debug)]
pub struct Engine {
    session: Session,
}

impl Engine {
    /// Compiles `graphs` for `device`, which is `cpu`, `emulated`, `cuda:N` or `auto`.
    ///
    /// # Errors
    /// A device that cannot be opened, a graph or kernel that does not compile.
    pub fn open(graphs: &[&Graph], mode: Mode, device: &str) -> Result<Engine> {
        let device = Device::open(device).with_context(|| format!("cannot open device `{device}`"))?;
        let targets = device::targets(&device);
        let bundle = device::build(graphs, &FrontConfig { mode, passes: Passes::all(), memory: None }, &targets)?;
        let session = Session::new(Arc::new(bundle), device)?;
        Ok(Engine { session })
    }

    /// Gives the graphs their weights.
    ///
    /// # Errors
    /// Lists every weight that is missing or has another shape.
    pub fn bind(&mut self, weights: &dyn WeightSource) -> Result<()> {
        Ok(self.session.bind(weights)?)
    }

    /// How the device calls itself.
    pub fn device_name(&self) -> String {
        self.session.device_name()
    }

    /// Sizes the states and sets them to zero.
    ///
    /// # Errors
    /// Values outside a symbol's bounds; memory.
    pub fn clear_states(&mut self, symbols: &[(&str, i64)]) -> Result<()> {
        self.session.set_state_symbols(symbols)?;
        Ok(self.session.zero_states()?)
    }

    /// Replaces the value of a state whose size needs no symbol.
    ///
    /// # Errors
    /// No such state, another dtype or shape, what the device reports.
    pub fn write_state(&mut self, name: &str, value: &HostTensor) -> Result<()> {
        Ok(self.session.state(name)?.write(value)?)
    }

    /// The value of a state now.
    ///
    /// # Errors
    /// No such state, what the device reports.
    pub fn read_state(&mut self, name: &str) -> Result<HostTensor> {
        Ok(self.session.state(name)?.read()?)
    }

    /// Runs a graph. Values for symbols it does not have are left out, so callers need not know which extents are
    /// constants.
    ///
    /// # Errors
    /// Inputs that do not fit, what the device reports.
    pub fn run(&mut self, graph: &str, symbols: &[(&str, i64)], inputs: &HostTensors) -> Result<HostTensors> {
        let bundle = self.session.bundle().clone();
        let has = |name: &str| bundle.plan(graph).is_some_and(|plan| plan.symbols.find(name).is_some());
        let symbols: Vec<(&str, i64)> = symbols.iter().copied().filter(|(name, _)| has(name)).collect();
        Ok(self.session.run(graph, &symbols, inputs)?)
    }
}

/// An `i32` vector.
pub fn indices(values: &[i32]) -> HostTensor {
    let bytes = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    HostTensor::new(enel_ir::DType::I32, &[values.len()], bytes).unwrap_or_else(|_| unreachable!("four bytes each"))
}
