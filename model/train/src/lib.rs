//! How is ENEL trained? Settings, data, steps on a device, checkpoints that go on to the bit, logs, and what a run takes.
//!
//! Reading order: `config` (the file), `base` and `start` (the model), `data`, `order` and `batch` (what a step sees),
//! `steps` (graphs on a device), `trainer` (the loop), `checkpoint`, `log` and `events` (what is left), `memory` (what it
//! takes). Law: everything a step draws follows from the seed and its number.
//!
//! [`Trainer`] does all of it from a [`Config`]. By hand it is little more: build, differentiate, step, save.
//!
//! ```
//! use enel_io::{Dtype, TensorView, write_safetensors};
//! use enel_ir::InputKind;
//! use enel_model::train::{Objective, Optimizer, Schedule, TrainConfig, Trainable, apply_graph, micro_step_graph};
//! use enel_model::{BatchNorms, Bounds, EnelConfig, names};
//! use enel_runtime::HostTensors;
//! use enel_text::chat::{Message, example};
//! use enel_train::{Base, batch, config::ModeConfig, data::Ready, drawn, steps};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let base = Base::drawn(EnelConfig::tiny())?;
//! let (objective, trainable) = (Objective::cross_entropy(), Trainable::all());
//! let train = TrainConfig { objective, trainable, batch_norms: BatchNorms::Running };
//!
//! // The loss with its derivatives, which are added up, and AdamW over the sums: two graphs over the same states.
//! let micro = micro_step_graph(&base.config, &train, &Bounds::default())?;
//! let apply = apply_graph(&micro.weights, &Optimizer::paper(1e-2, Schedule::Constant))?;
//! let mut session = steps::open_cpu("cpu", &[&micro.graph, &apply], &steps::front(ModeConfig::F32, None))?;
//! let mut fixed = HostTensors::new();
//! for (id, name, kind) in micro.graph.inputs().filter(|(_, name, _)| !name.starts_with("grad.")) {
//!     let shape: Vec<usize> = micro.graph.ty(id).shape.iter().filter_map(|n| n.as_const()).map(|n| n as usize).collect();
//!     match kind {
//!         InputKind::State => session.state(name)?.write(&drawn(name, &shape, 1))?,
//!         InputKind::Weight => drop(fixed.insert(name.to_owned(), drawn(name, &shape, 1))),
//!         InputKind::Data => {}
//!     }
//! }
//! session.bind(&fixed)?;
//!
//! // A ring of points, and what is said of it.
//! let turns = [Message::human("<point>\nWhat is this?"), Message::assistant("A ring.")];
//! let said = example(&base.tokenizer, &base.template, &base.block, &turns, 2048)?;
//! let ids = said.input_ids.iter().map(|&id| id as i32).collect();
//! let labels = said.labels.iter().map(|&label| label as i32).collect();
//! let points = (0..256).flat_map(|i| [(i as f32).cos(), (i as f32).sin(), 0.0, 1.0, 0.5, 0.0]).collect();
//! let sample = Ready { ids, labels, points: Some(points), teacher: None };
//! let purpose = batch::Purpose { objective: &objective, shift: 0.0, seed: 1, step: 0, first_cloud: 0 };
//! let call = batch::call(&base, &[("ring", sample)], &purpose)?;
//!
//! let mut losses = Vec::new();
//! for _ in 0..5 {
//!     let outputs = session.run("micro_step", &call.symbols, &call.with_shares(&objective, (1.0, 1.0)))?;
//!     session.run("apply", &[], &HostTensors::new())?;
//!     losses.extend(outputs[names::LOSS].to_f32().unwrap_or_default());
//! }
//! assert!(losses[4] < losses[0] / 2.0, "{losses:?}");
//!
//! let mut saved = Vec::new();
//! for (name, _) in &micro.weights {
//!     saved.push((name.as_str(), session.state(name)?.read()?));
//! }
//! let views = saved.iter().map(|(name, t)| (*name, TensorView { dtype: Dtype::F32, shape: t.shape(), bytes: t.bytes() }));
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("model.safetensors");
//! write_safetensors(&path, views)?;
//! # Ok(())
//! # }
//! ```

pub mod base;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod events;
mod feed;
pub mod log;
mod memory;
pub mod order;
mod patterns;
mod start;
pub mod steps;
mod trainer;

pub use base::{Base, Source};
pub use checkpoint::{Checkpoint, CheckpointError, Place, Run, SaveError};
pub use config::Config;
pub use error::{ConfigError, DataError, StartError, TrainError};
pub use memory::{Memory, plan_flop};
pub use start::{Start, drawn};
pub use trainer::{Trainer, total_steps};
