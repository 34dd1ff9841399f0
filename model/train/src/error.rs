//! What can go wrong, one enum for each verb: reading a file, finding data, training, saving.

use crate::checkpoint::CheckpointError;
use crate::config::MAX_STEPS;
use enel_io::{CloudError, PrepareError, WeightsError};
use enel_lower::FrontError;
use enel_model::{ModelError, PackError};
use enel_runtime::{BindError, RunError};
use enel_text::TokenizerError;
use enel_text::chat::ChatError;
use std::path::PathBuf;

/// A file of settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key that is unknown, missing or of another type.
    #[error("cannot use {}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser said, with the place.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value nothing can be trained with.
    #[error("{}: {key} is {got}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, after its table.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// Data that cannot be learned from.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no list of annotations.
    #[error(
        "{} is no list of annotations; expected [{{\"object_id\": .., \"conversations\": [{{\"from\": \"human\", \
        \"value\": ..}}, {{\"from\": \"gpt\", \"value\": ..}}]}}, ..]",
        path.display()
    )]
    Annotations {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing is left to learn from.
    #[error("{} gives no samples{}", path.display(), if *n_left_out > 0 { format!(": {n_left_out} were left out") } else { String::new() })]
    Empty {
        /// The file of annotations.
        path: PathBuf,
        /// Annotations that were left out.
        n_left_out: usize,
    },
    /// An annotation whose cloud is not there.
    #[error(
        "{}: object `{object}` has no cloud in {}; looked for {object}_8192.npy and {object} with any ending that is \
        read; put it there, or leave such objects out by: missing = \"skip\"",
        annotations.display(),
        clouds.display()
    )]
    NoCloud {
        /// The file of annotations.
        annotations: PathBuf,
        /// The folder of clouds.
        clouds: PathBuf,
        /// The object.
        object: String,
    },
    /// A cloud that cannot be read.
    #[error("the cloud of object `{object}` cannot be used; mend it, or leave such objects out by: corrupt = \"skip\"")]
    Cloud {
        /// The object.
        object: String,
        /// Its fault.
        #[source]
        source: Box<CloudError>,
    },
    /// A cloud that cannot be made what a model takes.
    #[error(
        "the cloud {} of object `{object}` cannot be used; mend it, or leave such objects out by: corrupt = \"skip\"",
        path.display()
    )]
    Prepare {
        /// The object.
        object: String,
        /// Its file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: PrepareError,
    },
    /// A conversation that cannot be written as tokens.
    #[error("the conversation about object `{object}` cannot be used")]
    Conversation {
        /// The object.
        object: String,
        /// Its fault.
        #[source]
        source: Box<ChatError>,
    },
    /// A conversation with nothing to learn from.
    #[error(
        "nothing the model says about object `{object}` counts: the answer is empty, spells a mark of the template, or \
        begins after data.max_tokens"
    )]
    NoAnswer {
        /// The object.
        object: String,
    },
    /// A conversation that speaks of several clouds.
    #[error("the conversation about object `{object}` names <point> {count} times, expected at most once")]
    Points {
        /// The object.
        object: String,
        /// How often it stands there.
        count: usize,
    },
    /// A conversation whose marks around the cloud were cut off.
    #[error("the conversation about object `{object}` does not fit; raise data.max_tokens")]
    Pack {
        /// The object.
        object: String,
        /// What does not fit.
        #[source]
        source: PackError,
    },
    /// A call without a cloud, or without an answer.
    #[error(
        "samples {first} to {last} of the order hold no {what}; {}",
        if *what == "cloud" { "raise batch.size so that text comes with clouds" } else { "raise data.max_tokens" }
    )]
    Without {
        /// First sample of the call.
        first: u64,
        /// Last sample of it.
        last: u64,
        /// `cloud` or `answer`.
        what: &'static str,
    },
    /// A teacher's tokens that are missing or of another shape.
    #[error("the teacher's tokens of object `{object}` cannot be used, expected a tensor {expected:?} of that name")]
    Teacher {
        /// The object.
        object: String,
        /// The shape.
        expected: Vec<usize>,
        /// What the file says.
        #[source]
        source: Box<WeightsError>,
    },
}

/// A model that cannot be started from.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The vocabulary fails.
    #[error("the vocabulary cannot be used")]
    Tokenizer(#[from] TokenizerError),
    /// The folder's weights cannot be opened.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights that are missing or of another shape, all of them.
    #[error("{}: {} weight(s) do not fit:\n  {}", path.display(), faults.len(), faults.join("\n  "))]
    Misfit {
        /// The folder.
        path: PathBuf,
        /// A line for each.
        faults: Vec<String>,
    },
    /// A pattern no weight fits.
    #[error("{key}: no weight is called `{pattern}`; names are such as {example}")]
    Pattern {
        /// Where it stands.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// A name there is.
        example: String,
    },
    /// A matrix that is to learn and to have factors.
    #[error("`{name}` fits a pattern of [lora] and one of [trainable]; a matrix with factors does not learn itself")]
    Both {
        /// The matrix.
        name: String,
    },
    /// The model has no marks around a cloud, of which the embeddings are to learn.
    #[error("trainable.embedding_rows is \"marks\", but the model has no marks around a cloud")]
    NoMarks,
}

/// A run that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The model has no graph.
    #[error("the model and the objective have no graph")]
    Model(#[from] ModelError),
    /// The graphs do not compile.
    #[error("the graphs do not compile")]
    Compile(#[from] FrontError),
    /// Opening the device failed.
    #[error("cannot get the device ready")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Weights do not bind.
    #[error("cannot bind the weights")]
    Bind(#[from] BindError),
    /// More steps than the device counts.
    #[error("the run has {total} steps, expected 1 to {MAX_STEPS}; lower run.epochs, or set run.steps")]
    Steps {
        /// Steps the epochs give.
        total: u64,
    },
    /// The device failed.
    #[error("step {step}: the device failed")]
    Run {
        /// The step, from 1.
        step: u64,
        /// What it said.
        #[source]
        source: RunError,
    },
    /// A number that is none.
    #[error(
        "step {step}: the {what} is {value}; nothing of this step is saved. Lower optimizer.rate or look at the data, \
        then go on from the last checkpoint by --resume"
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// `loss` or `length of the derivatives`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Saving or reading a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log does not reach the checkpoint.
    #[error(
        "{}: {n_lines} line(s) are whole, up to step {last}, but the checkpoint is of step {step}; put the log back as it \
        was, or move it away to go on with a new one",
        path.display()
    )]
    History {
        /// The file.
        path: PathBuf,
        /// Lines before the first that is broken or of a later step.
        n_lines: usize,
        /// The step of the last of them.
        last: u64,
        /// The step of the checkpoint.
        step: u64,
    },
    /// The log cannot be written.
    #[error("cannot write {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
