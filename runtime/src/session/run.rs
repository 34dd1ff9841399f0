//! How does a plan run? Inputs checked and uploaded, steps launched or replayed, outputs downloaded.

use super::Session;
use super::prepare::{Prepared, PreparedStep};
use crate::device::{Arg, Backend, Slice};
use crate::error::{DeviceError, InputFault, RunError};
use crate::tensor::HostTensor;
use enel_bundle::{BufferKind, Bundle, Plan, Step};
use std::collections::BTreeMap;
use std::time::Instant;

/// Tensors by name.
pub type HostTensors = BTreeMap<String, HostTensor>;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Time every step, by the device's clock where it has one, else by waiting for it; replays nothing.
    pub time_steps: bool,
    /// Outputs to download; all of them when `None`.
    pub outputs: Option<Vec<String>>,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct RunOutput {
    /// Outputs by name, without those that are states.
    pub outputs: HostTensors,
    /// What it took.
    pub stats: RunStats,
}

/// What a run took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunStats {
    /// Kernel calls.
    pub launches: usize,
    /// Buffer copies.
    pub copies: usize,
    /// True when a recording was replayed.
    pub replayed: bool,
    /// Bytes of temps at their fullest, as laid out.
    pub arena_bytes: usize,
    /// Bytes of temps, inputs and outputs.
    pub workspace_bytes: usize,
    /// From the first upload to the last download.
    pub total_us: f64,
    /// Per step, when asked for.
    pub steps: Vec<StepTime>,
}

/// Time of one step: between its ends on the device, or on the host with the wait for it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTime {
    /// Kernel name, or `copy`.
    pub name: String,
    /// Microseconds.
    pub time_us: f64,
}

impl Session {
    /// Runs a plan and downloads its outputs; states stay on the device, see [`Session::state`].
    ///
    /// # Errors
    /// [`RunError`]; wrong inputs are all listed at once.
    pub fn run(&mut self, plan: &str, symbols: &[(&str, i64)], inputs: &HostTensors) -> Result<HostTensors, RunError> {
        self.run_with(plan, symbols, inputs, &RunOptions::default()).map(|output| output.outputs)
    }

    /// Runs a plan with options.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(
        &mut self,
        plan: &str,
        symbols: &[(&str, i64)],
        inputs: &HostTensors,
        options: &RunOptions,
    ) -> Result<RunOutput, RunError> {
        let at = self.plan_index(plan)?;
        let bundle = self.bundle.clone();
        let plan = &bundle.plans[at];
        let values = symbol_values(plan, symbols)?;
        self.check_bound(at, plan)?;
        let shapes = |index: usize| plan.buffers[index].extents(&values);
        check_inputs(plan, inputs, &shapes)?;
        check_wanted(plan, options)?;
        self.prepare(at, &values)?;
        let mut prepared = self.plans[at].prepared.pop().expect("prepare leaves the plan's sizes last");
        let result = self.run_prepared(&bundle, plan, &mut prepared, (inputs, options));
        self.plans[at].prepared.push(prepared);
        result
    }

    fn check_bound(&self, at: usize, plan: &Plan) -> Result<(), RunError> {
        let touched = plan.steps.iter().flat_map(Plan::touched).chain(plan.outputs.iter().map(|o| o.buffer));
        for buffer in touched {
            let kind = &plan.buffers[buffer as usize].kind;
            if kind.is_fixed() && self.plans[at].fixed[buffer as usize].is_none() {
                return Err(RunError::NotBound { plan: plan.name.clone() });
            }
        }
        Ok(())
    }

    fn run_prepared(
        &mut self,
        bundle: &Bundle,
        plan: &Plan,
        prepared: &mut Prepared,
        (inputs, options): (&HostTensors, &RunOptions),
    ) -> Result<RunOutput, RunError> {
        let start = Instant::now();
        let workspace = self.workspace;
        let capture = self.capture && !options.time_steps;
        let device = self.device.backend();
        let separate = device.separate_buffers();
        let slices = prepared.slices(device, workspace)?;
        let result = (|| {
            upload(device, plan, &slices, inputs)?;
            let mut stats = RunStats { arena_bytes: prepared.arena_bytes, ..RunStats::default() };
            stats.workspace_bytes = prepared.workspace_bytes;
            let names = Names { bundle, plan };
            if options.time_steps {
                timed(device, prepared, &slices, &names, &mut stats)?;
            } else if !capture {
                launch_all(device, prepared, &slices, &names)?;
            } else {
                stats.replayed = replay_or_launch(device, prepared, &slices, &names)?;
            }
            for step in &prepared.steps {
                match step {
                    PreparedStep::Call { .. } => stats.launches += 1,
                    PreparedStep::Copy { .. } => stats.copies += 1,
                }
            }
            let outputs = download(device, plan, (prepared, &slices), options)?;
            let failed = |source| RunError::Device {
                verb: "finish",
                what: format!("plan `{}`", plan.name),
                source: Box::new(source),
            };
            device.synchronize().map_err(failed)?;
            stats.total_us = start.elapsed().as_secs_f64() * 1e6;
            Ok(RunOutput { outputs, stats })
        })();
        // A run that failed may have set up nothing, and only what is set up can be recorded.
        prepared.runs += u64::from(result.is_ok());
        if separate {
            prepared.keep_or_free(device, slices);
        }
        result
    }
}

fn symbol_values(plan: &Plan, given: &[(&str, i64)]) -> Result<Vec<i64>, RunError> {
    let fault = |symbol: &str, problem| {
        let known = plan.symbols.iter().map(|s| s.name.clone()).collect();
        RunError::Symbol { plan: plan.name.clone(), symbol: symbol.to_owned(), problem, known }
    };
    let mut values = vec![None; plan.symbols.len()];
    for (name, value) in given {
        let id = plan.symbols.find(name).ok_or_else(|| fault(name, "unknown"))?;
        if values[id.0 as usize].replace(*value).is_some() {
            return Err(fault(name, "given twice"));
        }
    }
    let mut out = Vec::with_capacity(values.len());
    for (value, symbol) in values.iter().zip(plan.symbols.iter()) {
        out.push(value.ok_or_else(|| fault(&symbol.name, "missing"))?);
    }
    plan.symbols.check(&out).map_err(|source| RunError::Size { plan: plan.name.clone(), source })?;
    Ok(out)
}

fn check_inputs(
    plan: &Plan,
    inputs: &HostTensors,
    shape_of: &dyn Fn(usize) -> Result<Vec<usize>, enel_types::DimError>,
) -> Result<(), RunError> {
    let mut faults = Vec::new();
    let mut known = Vec::new();
    for (index, buffer) in plan.buffers.iter().enumerate() {
        let BufferKind::Input(name) = &buffer.kind else { continue };
        known.push(name);
        let Some(input) = inputs.get(name) else {
            faults.push(InputFault::Missing { name: name.clone() });
            continue;
        };
        let shape = shape_of(index).map_err(|source| RunError::Size { plan: plan.name.clone(), source })?;
        if input.dtype() != buffer.dtype || input.shape() != shape {
            let (name, dtype) = (name.clone(), buffer.dtype);
            let (got_dtype, got_shape) = (input.dtype(), input.shape().to_vec());
            faults.push(InputFault::Type { name, dtype, shape, got_dtype, got_shape });
        }
    }
    let unknown = inputs.keys().filter(|name| !known.contains(name));
    faults.extend(unknown.map(|name| InputFault::Unknown { name: name.clone() }));
    if faults.is_empty() { Ok(()) } else { Err(RunError::Inputs(faults)) }
}

fn check_wanted(plan: &Plan, options: &RunOptions) -> Result<(), RunError> {
    let known = || plan.outputs.iter().map(|o| o.name.clone()).collect();
    for name in options.outputs.iter().flatten() {
        if !plan.outputs.iter().any(|o| o.name == *name) {
            return Err(RunError::UnknownOutput { plan: plan.name.clone(), output: name.clone(), known: known() });
        }
    }
    Ok(())
}

fn upload(device: &mut dyn Backend, plan: &Plan, slices: &[Slice], inputs: &HostTensors) -> Result<(), RunError> {
    for (buffer, slice) in plan.buffers.iter().zip(slices) {
        let BufferKind::Input(name) = &buffer.kind else { continue };
        let Some(input) = inputs.get(name) else { continue };
        let failed =
            |source| RunError::Device { verb: "upload", what: format!("input `{name}`"), source: Box::new(source) };
        device.upload(*slice, input.bytes()).map_err(failed)?;
    }
    Ok(())
}

fn download(
    device: &mut dyn Backend,
    plan: &Plan,
    (prepared, slices): (&Prepared, &[Slice]),
    options: &RunOptions,
) -> Result<HostTensors, RunError> {
    let mut outputs = HostTensors::new();
    for port in &plan.outputs {
        let buffer = &plan.buffers[port.buffer as usize];
        let wanted = options.outputs.as_ref().is_none_or(|names| names.contains(&port.name));
        if !wanted || matches!(buffer.kind, BufferKind::State(_)) {
            continue;
        }
        let slice = slices[port.buffer as usize];
        let failed = |source| RunError::Device {
            verb: "download",
            what: format!("output `{}`", port.name),
            source: Box::new(source),
        };
        let mut bytes = vec![0; slice.size_bytes];
        device.download(slice, &mut bytes).map_err(failed)?;
        let tensor = HostTensor::new(buffer.dtype, &prepared.shapes[port.buffer as usize], bytes);
        outputs.insert(port.name.clone(), tensor.expect("a buffer has the size of its dtype and shape"));
    }
    Ok(outputs)
}

/// Where names of steps come from, for errors and times.
struct Names<'a> {
    bundle: &'a Bundle,
    plan: &'a Plan,
}

impl Names<'_> {
    fn step(&self, index: usize) -> &str {
        match &self.plan.steps[index] {
            Step::Call(call) => &self.bundle.kernels[call.kernel as usize].name,
            Step::Copy { .. } => "copy",
        }
    }

    fn failed(&self, index: usize, source: DeviceError) -> RunError {
        let place = format!("step {index}, `{}`", self.step(index));
        RunError::Step { plan: self.plan.name.clone(), place, source: Box::new(source) }
    }

    fn failed_last(&self, source: DeviceError) -> RunError {
        RunError::Step { plan: self.plan.name.clone(), place: "one of its steps".to_owned(), source: Box::new(source) }
    }

    fn failed_replay(&self, source: DeviceError) -> RunError {
        // Each step is one call, so what failed has the step's number where the device tells it.
        if let DeviceError::Recorded { call, source } = source {
            return self.failed(call, *source);
        }
        RunError::Step { plan: self.plan.name.clone(), place: "its recording".to_owned(), source: Box::new(source) }
    }
}

fn launch_one(device: &mut dyn Backend, step: &PreparedStep, slices: &[Slice]) -> Result<(), DeviceError> {
    match step {
        PreparedStep::Copy { from, to } => device.copy(slices[*from as usize], slices[*to as usize]),
        PreparedStep::Call { kernel, buffers, dynamics } => {
            let arg = |&(buffer, access): &_| Arg { slice: slices[buffer as usize], access };
            let args: Vec<Arg> = buffers.iter().map(arg).collect();
            device.launch(*kernel, &args, dynamics)
        }
    }
}

fn launch_all(
    device: &mut dyn Backend,
    prepared: &Prepared,
    slices: &[Slice],
    names: &Names<'_>,
) -> Result<(), RunError> {
    let mut result = Ok(());
    device.together(&mut |device| {
        let mut steps = prepared.steps.iter().enumerate();
        let launched = |(index, step)| launch_one(device, step, slices).map_err(|source| names.failed(index, source));
        result = steps.try_for_each(launched);
    });
    result
}

fn timed(
    device: &mut dyn Backend,
    prepared: &Prepared,
    slices: &[Slice],
    names: &Names<'_>,
    stats: &mut RunStats,
) -> Result<(), RunError> {
    let failed = |index| move |source| names.failed(index, source);
    device.synchronize().map_err(failed(0))?;
    if device.mark().map_err(failed(0))? {
        let launched = prepared.steps.iter().enumerate().try_for_each(|(index, step)| {
            launch_one(device, step, slices).and_then(|()| device.mark()).map(drop).map_err(failed(index))
        });
        // Asked for even when a launch failed: marks that stay would count in the next run.
        let times = device.between_marks_us().map_err(|source| names.failed_last(source));
        launched?;
        let step = |(index, time_us)| StepTime { name: names.step(index).to_owned(), time_us };
        stats.steps = times?.into_iter().enumerate().map(step).collect();
        return Ok(());
    }
    for (index, step) in prepared.steps.iter().enumerate() {
        let start = Instant::now();
        launch_one(device, step, slices).and_then(|()| device.synchronize()).map_err(failed(index))?;
        let time_us = start.elapsed().as_secs_f64() * 1e6;
        stats.steps.push(StepTime { name: names.step(index).to_owned(), time_us });
    }
    Ok(())
}

/// True when the steps were replayed. The first run launches plainly, so that errors name their step and what a
/// driver sets up lazily is set up; the second records.
fn replay_or_launch(
    device: &mut dyn Backend,
    prepared: &mut Prepared,
    slices: &[Slice],
    names: &Names<'_>,
) -> Result<bool, RunError> {
    let failed = |source| names.failed_replay(source);
    if prepared.graph.is_none() && prepared.runs > 0 && device.begin_capture().map_err(failed)? {
        let launched = launch_all(device, prepared, slices, names);
        // Recording must end even when a launch failed.
        let graph = device.end_capture();
        if let Err(error) = launched {
            if let Ok(graph) = graph {
                device.drop_graph(graph);
            }
            return Err(error);
        }
        prepared.graph = Some(graph.map_err(failed)?);
    }
    match prepared.graph {
        Some(graph) => device.replay(graph).map(|()| true).map_err(failed),
        None => launch_all(device, prepared, slices, names).map(|()| false),
    }
}
