//! What can go wrong on a device, when opening, binding or running? One enum per verb.

use crate::WeightFault;
use crate::cpu::CpuError;
use enel_bundle::PlanError;
use enel_types::{DType, DimError};

/// A device could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No memory left.
    #[error("out of memory: cannot allocate {size_bytes} B")]
    OutOfMemory {
        /// What was asked for.
        size_bytes: usize,
    },
    /// A buffer, kernel or recording that does not exist, or a range outside its buffer.
    #[error("{what} {id} does not exist or is too small")]
    Unknown {
        /// `buffer`, `kernel` or `graph`.
        what: &'static str,
        /// Its number.
        id: u32,
    },
    /// Two ranges that must be apart or of one size are not.
    #[error("arguments {first} and {second} overlap or differ in size")]
    Ranges {
        /// Position of one.
        first: usize,
        /// Position of the other.
        second: usize,
    },
    /// The bundle has no code this device can run.
    #[error("kernel `{kernel}` has no image for {device}; the bundle has {}", list(found))]
    NoImage {
        /// Kernel name.
        kernel: String,
        /// What is needed.
        device: String,
        /// Targets the bundle has for it.
        found: Vec<String>,
    },
    /// The bundle has code for this device, and the driver takes none of it.
    #[error(
        "kernel `{kernel}` does not load on {device}, whose driver is made for CUDA {driver}: {}{}",
        list(tried),
        refused(driver)
    )]
    Refused {
        /// Kernel name.
        kernel: String,
        /// What was asked.
        device: String,
        /// CUDA version of the driver, such as `13.0`.
        driver: String,
        /// Each image tried and what the driver said of it.
        tried: Vec<String>,
    },
    /// A launch the device cannot make.
    #[error("kernel `{kernel}` cannot be launched: {message}")]
    Launch {
        /// Kernel name.
        kernel: String,
        /// Why.
        message: String,
    },
    /// A native face refused or failed.
    #[error("kernel `{kernel}` failed on the cpu")]
    Cpu {
        /// Kernel name.
        kernel: String,
        /// Why.
        source: CpuError,
    },
    /// The emulator found a mistake in a kernel.
    #[error("kernel `{kernel}` failed on the emulator")]
    Emulated {
        /// Kernel name.
        kernel: String,
        /// What and where.
        source: Box<enel_emulator::LaunchError>,
    },
    /// The emulator's memory refused.
    #[error(transparent)]
    EmulatedMemory(enel_emulator::MemoryError),
    /// A result holds bytes nobody wrote.
    #[error("some of its {size_bytes} B were never written")]
    Unwritten {
        /// Size of the result.
        size_bytes: usize,
    },
    /// The driver returned an error.
    #[error("{call} returned {code}: {message}")]
    Driver {
        /// What was called.
        call: &'static str,
        /// The driver's name of the error.
        code: String,
        /// The driver's explanation.
        message: String,
    },
    /// A call failed when it was replayed, as it would have when made.
    #[error("call {call} of the recording failed")]
    Recorded {
        /// Its number among the calls recorded.
        call: usize,
        /// Why.
        source: Box<DeviceError>,
    },
    /// The device cannot record and replay.
    #[error("this device cannot record launches")]
    NoCapture,
}

/// Code of one CUDA version needs a driver of that major version or a later one.
fn refused(driver: &str) -> &'static str {
    let major = driver.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < BUILT_WITH) { "; update the driver to one for CUDA 13" } else { "" }
}

/// CUDA's major version that bundles are made with.
const BUILT_WITH: u32 = 13;

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A device or bundle could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such device.
    #[error("unknown device `{spec}`: expected cpu, cpu:N, emulated, cuda, cuda:N or auto")]
    UnknownDevice {
        /// What was asked for.
        spec: String,
    },
    /// There is no usable CUDA device.
    #[error("no CUDA device {ordinal}: {reason}")]
    NoCuda {
        /// Which one was asked for.
        ordinal: usize,
        /// Why, and what to do.
        reason: String,
    },
    /// The device failed while opening.
    #[error("cannot open the device")]
    Device(#[source] Box<DeviceError>),
    /// A kernel does not load.
    #[error("cannot load kernel `{kernel}` on {device}")]
    Load {
        /// Kernel name.
        kernel: String,
        /// Device name.
        device: String,
        /// Why.
        source: Box<DeviceError>,
    },
    /// The bundle does not hold together.
    #[error("the bundle is inconsistent")]
    Bundle(#[from] enel_bundle::BundleError),
}

impl From<DeviceError> for OpenError {
    fn from(source: DeviceError) -> OpenError {
        OpenError::Device(Box::new(source))
    }
}

/// Weights could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Some weights are missing or wrong; all are listed.
    #[error("{} weights do not fit:{}", .0.len(), lines(.0))]
    Weights(Vec<WeightFault>),
    /// A bind step or copy failed.
    #[error("binding failed at {place}")]
    Device {
        /// A weight or a bind step.
        place: String,
        /// Why.
        source: Box<DeviceError>,
    },
    /// A size of the plan cannot be evaluated.
    #[error("binding failed")]
    Size(#[source] DimError),
    /// A bind step's size is outside what its kernel was compiled for.
    #[error(transparent)]
    Dynamic(#[from] DynamicFault),
}

/// A size outside what a kernel was compiled for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plan `{plan}`: size {index} of kernel `{kernel}` is {value}, allowed is 0..={max} in steps of {multiple}")]
pub struct DynamicFault {
    /// Plan name.
    pub plan: String,
    /// Kernel name.
    pub kernel: String,
    /// Position among the kernel's sizes.
    pub index: usize,
    /// The value.
    pub value: i64,
    /// Largest allowed.
    pub max: i64,
    /// Required step.
    pub multiple: i64,
}

/// An input that does not fit its plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputFault {
    /// The plan has an input that was not given.
    #[error("`{name}` is missing")]
    Missing {
        /// Input name.
        name: String,
    },
    /// The plan has no such input.
    #[error("`{name}` is no input of this plan")]
    Unknown {
        /// Input name.
        name: String,
    },
    /// Wrong dtype or shape for the given symbols.
    #[error("`{name}` is {got_dtype} {got_shape:?}, expected {dtype} {shape:?}")]
    Type {
        /// Input name.
        name: String,
        /// Expected dtype.
        dtype: DType,
        /// Expected shape.
        shape: Vec<usize>,
        /// Dtype given.
        got_dtype: DType,
        /// Shape given.
        got_shape: Vec<usize>,
    },
}

/// A plan could not be run, or a state not be reached.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such plan.
    #[error("no plan `{plan}` in this bundle; it has {}", list(known))]
    UnknownPlan {
        /// What was asked for.
        plan: String,
        /// Plans of the bundle.
        known: Vec<String>,
    },
    /// No such output.
    #[error("plan `{plan}` has no output `{output}`; it has {}", list(known))]
    UnknownOutput {
        /// Plan name.
        plan: String,
        /// What was asked for.
        output: String,
        /// Outputs of the plan.
        known: Vec<String>,
    },
    /// A symbol is missing, unknown or given twice.
    #[error("plan `{plan}` needs a value for each of {}; `{symbol}` is {problem}", list(known))]
    Symbol {
        /// Plan name.
        plan: String,
        /// The symbol.
        symbol: String,
        /// `missing`, `unknown` or `given twice`.
        problem: &'static str,
        /// Symbols of the plan.
        known: Vec<String>,
    },
    /// A symbol's value is out of bounds, or a size overflows.
    #[error("plan `{plan}`: {source}")]
    Size {
        /// Plan name.
        plan: String,
        /// Why.
        source: DimError,
    },
    /// A size is outside what a kernel was compiled for.
    #[error(transparent)]
    Dynamic(#[from] DynamicFault),
    /// The memory plan failed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The two buffers of a copy differ in size for these symbols.
    #[error("plan `{plan}`: step {step} copies {from_bytes} B into {to_bytes} B")]
    Copy {
        /// Plan name.
        plan: String,
        /// Step.
        step: usize,
        /// Size of the source.
        from_bytes: usize,
        /// Size of the target.
        to_bytes: usize,
    },
    /// Weights were not bound.
    #[error("plan `{plan}` needs weights: bind them first")]
    NotBound {
        /// Plan name.
        plan: String,
    },
    /// Some inputs are missing or wrong; all are listed.
    #[error("{} inputs do not fit:{}", .0.len(), lines(.0))]
    Inputs(Vec<InputFault>),
    /// A state's size depends on a symbol that has no value yet.
    #[error("state `{state}` depends on `{symbol}`, which has no value yet: set state symbols or run a plan first")]
    StateUnsized {
        /// State name.
        state: String,
        /// The symbol.
        symbol: String,
    },
    /// A state would change its size.
    #[error("state `{state}` was made for {symbol} = {was}, not {got}: set state symbols to start it anew")]
    StateSymbol {
        /// State name.
        state: String,
        /// The symbol.
        symbol: String,
        /// Value when it was made.
        was: i64,
        /// Value now.
        got: i64,
    },
    /// Two plans give a state different shapes.
    #[error("state `{state}` has shape {was:?} in one plan and {got:?} in plan `{plan}`")]
    StateShape {
        /// State name.
        state: String,
        /// The other plan.
        plan: String,
        /// Shape when it was made.
        was: Vec<usize>,
        /// Shape now.
        got: Vec<usize>,
    },
    /// No plan has such a state.
    #[error("no state `{state}` in this bundle; it has {}", list(known))]
    UnknownState {
        /// What was asked for.
        state: String,
        /// States of the bundle.
        known: Vec<String>,
    },
    /// A value written to a state has the wrong dtype or shape.
    #[error("state {0}")]
    StateValue(InputFault),
    /// A step failed on the device.
    #[error("plan `{plan}` failed at {place}")]
    Step {
        /// Plan name.
        plan: String,
        /// The step and its kernel.
        place: String,
        /// Why.
        source: Box<DeviceError>,
    },
    /// Memory or a transfer failed.
    #[error("cannot {verb} {what}")]
    Device {
        /// `allocate`, `upload`, `download`, ...
        verb: &'static str,
        /// What it was for.
        what: String,
        /// Why.
        source: Box<DeviceError>,
    },
}

fn lines<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}
