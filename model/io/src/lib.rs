//! What is in a user's files: point clouds, weights, model configurations.
//!
//! [`Cloud`] comes from `.npy` or `.ply`, [`prepare()`] makes it what a model takes, [`Weights`] maps safetensors and
//! PyTorch files, [`gguf`] decodes quantised models, [`write_model`] writes safetensors, [`config`] reads `config.json`,
//! [`golden`] replays recorded normalisations.
//! Law: no file makes this crate panic, or allocate more than the file's own size justifies.

pub mod cloud;
pub mod config;
pub mod gguf;
pub mod golden;
pub mod npy;
pub mod ply;
mod prepare;
mod replace;
mod torch;
mod weights;
mod write;

pub use cloud::{Cloud, CloudError};
pub use prepare::{PrepareConfig, PrepareError, PrepareReport, Prepared, pc_norm, prepare};
pub use replace::{create_dir_atomic, write_atomic};
pub use safetensors::Dtype;
pub use torch::TorchError;
pub use weights::{TensorView, Weights, WeightsError};
pub use write::{SourceTensor, TensorSource, WriteConfig, WriteProgress, write_model, write_safetensors};
