//! What is in a user's files: point clouds, weights, model configurations.
//!
//! [`Cloud`] comes from `.npy` or `.ply`, [`prepare()`] makes it what a model takes, [`Weights`] maps safetensors,
//! [`config`] reads `config.json`, [`golden`] replays recorded normalisations.
//! Law: no file makes this crate panic, or allocate more than the file's own size justifies.

pub mod cloud;
pub mod config;
pub mod golden;
pub mod npy;
pub mod ply;
mod prepare;
mod replace;
mod weights;

pub use cloud::{Cloud, CloudError};
pub use prepare::{PrepareConfig, PrepareError, PrepareReport, Prepared, pc_norm, prepare};
pub use replace::write_atomic;
pub use safetensors::Dtype;
pub use weights::{TensorView, Weights, WeightsError, write_safetensors};
