//! How is a run kept, so that it goes on as if it had never stopped? A folder for each saved step.
//!
//! ```text
//! OUT/checkpoints/step-N/   a model folder in Hugging Face layout, which every command takes
//!     optimizer/            the means of the optimizer, and factors of adapters, as safetensors
//!     adapter/              the factors under the names PEFT gives them, where there are any
//!     trainer.json          where the run is
//! ```
//!
//! Law: a folder is filled under another name, synced and renamed; what is called `step-N` is whole, and nothing older
//! goes before it is. Where a disk or a hand broke one, it is told, and the one before goes on.

mod files;
mod tensors;

pub use files::Run;
pub(crate) use tensors::{Kept, Saved};

use crate::base::Base;
use crate::config::Config;
use enel_io::{Weights, WeightsError, create_dir_atomic, write_atomic};
use enel_runtime::RunError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The form of `trainer.json`.
const FORMAT: u32 = 1;
/// Its name.
const TRAINER: &str = "trainer.json";
/// Folder of the optimizer's states inside a checkpoint.
const OPTIMIZER: &str = "optimizer";
/// Folder of the factors inside a checkpoint.
const ADAPTER: &str = "adapter";

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The form of this file.
    pub format: u32,
    /// Steps that are done.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Samples that were seen, over all epochs.
    pub position: u64,
    /// Calls of micro-steps.
    pub calls: u64,
    /// A hash over the losses of all steps, bit by bit.
    pub history: String,
    /// The settings.
    pub config: Config,
}

/// Why a checkpoint cannot be saved or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be saved.
    #[error("cannot save the checkpoint {}; {}", path.display(), last(*before))]
    Save {
        /// The folder.
        path: PathBuf,
        /// The step of the newest one that is whole.
        before: Option<u64>,
        /// Why.
        #[source]
        source: Box<SaveError>,
    },
    /// A folder or file of a run cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// It.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `trainer.json` is of another form or broken.
    #[error("cannot go on from {}: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its fault.
        detail: String,
    },
    /// There are checkpoints, and none is whole.
    #[error(
        "no checkpoint in {} is whole; put one back as it was, or begin again with another --out", path.display()
    )]
    Broken {
        /// The folder of checkpoints.
        path: PathBuf,
        /// What is wrong with the newest.
        #[source]
        source: Box<CheckpointError>,
    },
    /// No checkpoint to go on from.
    #[error("{} holds no checkpoint to go on from; leave --resume out to begin", path.display())]
    None {
        /// The folder of checkpoints.
        path: PathBuf,
    },
    /// The settings are of another run.
    #[error("{} was trained with another {setting}; give the run another --out, or the settings it began with", path.display())]
    Settings {
        /// The checkpoint.
        path: PathBuf,
        /// The table that differs, or its key.
        setting: &'static str,
    },
    /// Tensors that are missing or of another shape.
    #[error("{}: {} tensor(s) do not fit the model:\n  {}", path.display(), faults.len(), faults.join("\n  "))]
    Misfit {
        /// The checkpoint.
        path: PathBuf,
        /// A line for each.
        faults: Vec<String>,
    },
    /// Its weights or the optimizer's states are missing, cut off or broken.
    #[error("cannot go on from {}", path.display())]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<WeightsError>,
    },
    /// Another process trains into the folder.
    #[error("another run trains into {}; give this one another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The device does not give or take states.
    #[error("the device failed")]
    Device(#[from] RunError),
}

/// Why a folder cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// What the system said.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of tensors.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A state the device does not give.
    #[error(transparent)]
    Device(#[from] RunError),
}

fn last(before: Option<u64>) -> String {
    match before {
        Some(step) => format!("step-{step} is whole: make room, then go on by --resume"),
        None => "nothing is saved yet: make room, then begin again".to_owned(),
    }
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run was.
    pub place: Place,
}

impl Checkpoint {
    /// Reads where the run of a folder was, and whether its tensors are there.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Format`], [`CheckpointError::Weights`].
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let file = path.join(TRAINER);
        let bytes = std::fs::read(&file).map_err(|source| CheckpointError::Io { path: file.clone(), source })?;
        let format = |detail: String| CheckpointError::Format { path: file.clone(), detail };
        let place: Place = serde_json::from_slice(&bytes).map_err(|error| format(error.to_string()))?;
        if place.format != FORMAT {
            return Err(format(format!("its format is {}, this program reads {FORMAT}", place.format)));
        }
        if place.history.len() != 64 || !place.history.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format("its history is no hash of 64 hexadecimal digits".to_owned()));
        }
        let checkpoint = Checkpoint { path: path.to_owned(), place };
        checkpoint.tensors()?;
        Ok(checkpoint)
    }

    /// The model, and the optimizer's states with the factors of adapters; nothing is read before it is asked for.
    fn tensors(&self) -> Result<[Weights; 2], CheckpointError> {
        let opened = |path: &Path| {
            Weights::open(path)
                .map_err(|source| CheckpointError::Weights { path: self.path.clone(), source: Box::new(source) })
        };
        Ok([opened(&self.path)?, opened(&self.path.join(OPTIMIZER))?])
    }

    /// Refuses settings whose states would be others.
    ///
    /// # Errors
    /// [`CheckpointError::Settings`] with the first setting that differs.
    pub fn suits(&self, config: &Config) -> Result<(), CheckpointError> {
        let before = &self.place.config;
        let same = [
            ("[model]", before.model == config.model),
            ("[objective]", before.objective == config.objective),
            ("[trainable]", before.trainable == config.trainable),
            ("[lora]", before.lora == config.lora),
            // Fixed weights that were drawn are drawn again.
            ("[run] seed", before.run.seed == config.run.seed),
            ("[optimizer] moments", before.optimizer.moments == config.optimizer.moments),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((setting, _)) => Err(CheckpointError::Settings { path: self.path.clone(), setting }),
            None => Ok(()),
        }
    }

    /// Tables that differ and do not stop a run from going on, though not as it would have.
    pub fn changed(&self, config: &Config) -> Vec<&'static str> {
        let before = &self.place.config;
        let ours = |run: &crate::config::RunConfig| (run.steps, run.epochs.to_bits(), run.mode);
        let same = [
            ("data", before.data == config.data),
            ("optimizer", before.optimizer == config.optimizer),
            ("batch", before.batch == config.batch),
            ("run", ours(&before.run) == ours(&config.run)),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(table, _)| table).collect()
    }
}

/// Where a run is, for a checkpoint of now.
pub(crate) fn place(
    config: &Config,
    (step, total): (u64, u64),
    (position, calls): (u64, u64),
    history: &[u8],
) -> Place {
    let history = history.iter().map(|byte| format!("{byte:02x}")).collect();
    Place { format: FORMAT, step, total, position, calls, history, config: config.clone() }
}

/// Fills a checkpoint's folder and puts it in its place.
pub(crate) fn save(path: &Path, base: &Base, place: &Place, saved: &mut Saved<'_>) -> Result<(), SaveError> {
    create_dir_atomic(path, |dir| -> Result<(), SaveError> {
        saved.write_model(dir)?;
        let optimizer = dir.join(OPTIMIZER);
        std::fs::create_dir(&optimizer)?;
        saved.write_optimizer(&optimizer)?;
        enel_io::sync_dir(&optimizer)?;
        if saved.has_adapters() {
            let adapter = dir.join(ADAPTER);
            std::fs::create_dir(&adapter)?;
            saved.write_adapter(&adapter, &place.config)?;
            enel_io::sync_dir(&adapter)?;
        }
        files::write_beside(dir, base)?;
        let text = serde_json::to_string_pretty(place).map_err(std::io::Error::from)?;
        write_atomic(&dir.join(TRAINER), |out| writeln!(out, "{text}"))?;
        Ok(())
    })
}
