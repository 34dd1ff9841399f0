//! Loads bundles, binds weights and runs plans on cpu, emulated and cuda devices.
//!
//! Law: the runtime knows kernels and plans, never graphs; nothing a user gives makes it panic. `device` is the trait
//! and its three devices, `cpu` the native kernels, `session` what a caller holds.
//!
//! ```no_run
//! use enel_bundle::Bundle;
//! use enel_runtime::{Device, HostTensor, HostTensors, Session};
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bundle = Arc::new(Bundle::read(Path::new("model.enel"))?);
//! let mut session = Session::new(bundle, Device::open("auto")?)?;
//!
//! // Weights by name; a checkpoint implements `WeightSource` the same way.
//! let mut weights = HostTensors::new();
//! weights.insert("embed".into(), HostTensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
//! session.bind(&weights)?;
//!
//! // States are sized once; runs then share them.
//! session.set_state_symbols(&[("B", 1)])?;
//! let mut inputs = HostTensors::new();
//! inputs.insert("tokens".into(), HostTensor::from_i32(&[3], &[0, 1, 1])?);
//! let outputs = session.run("prefill", &[("T", 3), ("B", 1)], &inputs)?;
//! let logits = outputs["logits"].to_f32();
//! session.state("cache")?.zero()?;
//! # Ok(())
//! # }
//! ```

pub mod cpu;
mod device;
mod error;
pub mod limits;
mod session;
mod tensor;
mod weights;

pub use device::{Arg, Backend, BufferId, Device, Emulation, GraphId, KernelId, LaunchLog, Slice};
pub use error::{BindError, DeviceError, DynamicFault, InputFault, OpenError, RunError};
pub use session::{HostTensors, RunOptions, RunOutput, RunStats, Session, State, StepTime};
pub use tensor::{HostTensor, TensorError};
pub use weights::{WeightFault, WeightSource, WeightView};
