//! How is ENEL trained? Settings, data, steps on a device, checkpoints that go on to the bit, logs, and what a run takes.
//!
//! Reading order: `config` (the file), `base` and `start` (the model), `data`, `order` and `batch` (what a step sees),
//! `steps` (graphs on a device), `trainer` (the loop), `checkpoint`, `log` and `events` (what is left), `memory` (what it
//! takes). Law: everything a step draws follows from the seed and its number.

pub mod base;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod events;
pub mod log;
mod memory;
pub mod order;
mod start;
pub mod steps;
mod trainer;

pub use base::{Base, Source};
pub use checkpoint::{Checkpoint, CheckpointError, Place, Run, SaveError};
pub use config::Config;
pub use error::{ConfigError, DataError, StartError, TrainError};
pub use memory::{Memory, plan_flop};
pub use start::Start;
pub use trainer::{Trainer, total_steps};
