//! What is in a user's files: point clouds and meshes, weights, model configurations.
//!
//! [`Cloud`] comes from a cloud or a mesh of any format [`Ending::ALL`] lists, [`prepare()`] makes it what a model takes,
//! [`Weights`] maps safetensors and PyTorch files, [`gguf`] decodes quantised models, [`write_model`] writes
//! safetensors, [`config`] reads `config.json`, [`golden`] replays recorded normalisations.
//! Law: no file makes this crate panic, or allocate more than the file's own size justifies.

mod arrays;
mod beside;
pub mod cloud;
mod collect;
mod columns;
pub mod config;
mod cursor;
mod export;
pub mod fault;
pub mod gguf;
pub mod golden;
mod kind;
mod las;
mod mesh;
mod note;
pub mod npy;
mod pcd;
pub mod ply;
mod prepare;
mod random;
mod replace;
mod torch;
mod weights;
mod words;
mod write;

pub use cloud::{Axis, Cloud, CloudError, LoadConfig, LoadReport};
pub use fault::Fault;
pub use kind::{Ending, FileKind, Tells};
pub use note::Note;
pub use prepare::{PrepareConfig, PrepareError, PrepareReport, Prepared, pc_norm, prepare};
pub use random::SplitMix64;
pub use replace::{create_dir_atomic, sync_dir, write_atomic};
pub use safetensors::Dtype;
pub use torch::TorchError;
pub use weights::{TensorView, Weights, WeightsError};
pub use write::{SourceTensor, TensorSource, WriteConfig, WriteProgress, write_model, write_safetensors};
