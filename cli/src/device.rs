//! How does a compiled graph run on a device? Front, kernels for that device, session, values back.

use anyhow::{Result, bail};
use enel_interp::Tensor;
use enel_ir::Graph;
use enel_lower::FrontConfig;
use std::collections::BTreeMap;

/// What one run is given.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// One value per symbol.
    pub symbols: &'a [i64],
    /// A tensor per input, weight and state.
    pub inputs: &'a BTreeMap<String, Tensor>,
}

/// Compiles `graph` for `device` and runs it once.
///
/// # Errors
/// What compiling, opening the device or running gives.
pub fn run_graph(
    _graph: &Graph,
    _config: &FrontConfig,
    device: &str,
    _feed: &Feed<'_>,
) -> Result<BTreeMap<String, Tensor>> {
    bail!("device `{device}` is not wired yet")
}
