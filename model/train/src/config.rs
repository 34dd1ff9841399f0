//! What is to be trained, on what, and how? A TOML file, one struct for each of its tables.
//!
//! Law: a key nobody reads is an error, and so is a value nothing can be trained with; [`Config::parse`] finds both.
//! Paths are taken from the folder of the file, except the run's own folder, which is taken from where one stands.

mod loss;
mod paths;

pub use loss::{MaskedConfig, ObjectiveConfig, PredictionConfig, TeacherConfig, ViewsConfig};

use crate::error::ConfigError;
use enel_model::train::{Moments, Optimizer, Schedule};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Steps are counted in f32 on the device, which is exact below 2^24.
pub(crate) const MAX_STEPS: u64 = (1 << 24) - 1;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained.
    pub model: ModelConfig,
    /// What it learns from.
    pub data: DataConfig,
    /// What is minimised.
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// Which weights learn.
    #[serde(default)]
    pub trainable: TrainableConfig,
    /// Small factors beside fixed matrices, if any.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// How weights follow their derivatives.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How many samples a step takes.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How long, where, and what is kept.
    #[serde(default)]
    pub run: RunConfig,
    /// Samples that are not learned from, if any.
    #[serde(default)]
    pub held_out: Option<HeldOutConfig>,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A preset, whose weights are drawn, or a folder in Hugging Face layout.
    pub start: String,
    /// The preset whose token embedding and projector a folder without them gets, drawn.
    #[serde(default)]
    pub point: Option<String>,
    /// Points of a cloud; those of the preset or the folder where nothing is said.
    #[serde(default)]
    pub points: Option<usize>,
}

/// What the model learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A JSON list of `{object_id, conversations: [{from, value}]}`.
    pub annotations: PathBuf,
    /// Folder with a cloud for each `object_id`: `ID_8192.npy`, or `ID` with any ending that is read.
    pub clouds: PathBuf,
    /// Only conversations of these types; all of them where none is named.
    #[serde(default)]
    pub types: Vec<String>,
    /// An annotation whose cloud is not there.
    #[serde(default)]
    pub missing: Policy,
    /// A cloud that cannot be read.
    #[serde(default)]
    pub corrupt: Policy,
    /// Longest conversation, in tokens; what is longer is cut.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

/// What is done about a sample that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The run stops and names it.
    #[default]
    Stop,
    /// It is told and left out.
    Skip,
}

/// Which weights learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainableConfig {
    /// Patterns of names, in which `*` is any text.
    pub patterns: Vec<String>,
    /// Rows of the embedding table that learn, if it does.
    pub embedding_rows: EmbeddingRowsConfig,
    /// Which statistics batch normalisation uses.
    pub batch_norms: BatchNormsConfig,
}

/// Rows of the embedding table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingRowsConfig {
    /// All.
    #[default]
    All,
    /// Those of the marks around a cloud.
    Marks,
}

/// Statistics of batch normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormsConfig {
    /// Those of the clouds of a call; the running ones follow.
    #[default]
    Own,
    /// The running ones, which stay: frozen.
    Running,
}

/// Low-rank adaptation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Patterns of names of matrices of the decoder.
    pub patterns: Vec<String>,
    /// Rank of the product.
    pub rank: usize,
    /// The product counts `alpha / rank` times.
    pub alpha: f64,
}

/// AdamW, clipping and the rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Largest rate.
    pub rate: f64,
    /// How the rate changes.
    pub schedule: ScheduleConfig,
    /// Part of all steps over which a cosine's rate rises.
    pub warmup_ratio: f64,
    /// How much of the old means a step keeps.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decay of matrices, as a part of the rate.
    pub weight_decay: f64,
    /// Largest length of all derivatives together.
    pub max_norm: f64,
    /// How the two means of each weight are kept: `f32`, `bf16` or `8bit`.
    pub moments: Moments,
}

/// How the rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// Up in a line, then down half a cosine.
    Cosine,
    /// Not at all.
    Constant,
}

/// How many samples a step takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Samples of a call.
    pub size: usize,
    /// Calls of a step.
    pub accumulation: usize,
    /// What the loss of a step is the mean of.
    pub mean: MeanConfig,
    /// GB that values on the way may take at the largest sizes; what would not fit is computed twice.
    pub temporaries_gb: Option<f64>,
}

/// Mean of a step's cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeanConfig {
    /// Over the answers' tokens of the whole step, however it is divided into calls.
    Tokens,
    /// Over the calls' own means, as Hugging Face's trainer had it up to 4.28.
    Calls,
}

/// How long, where, and what is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Steps; more than the epochs give is fine.
    pub steps: Option<u64>,
    /// Times every sample is seen, where no steps are given.
    pub epochs: f64,
    /// Chooses drawn weights, the order, masks and views.
    pub seed: u64,
    /// How matrices and activations are stored; weights that learn stay f32.
    pub mode: ModeConfig,
    /// auto, cpu, cpu:THREADS, emulated or cuda:N.
    pub device: String,
    /// Folder of the run.
    pub out: PathBuf,
    /// A checkpoint is saved every so many steps, and at the end.
    pub save_every: u64,
    /// So many of the newest checkpoints are kept.
    pub keep: usize,
}

/// Storage of matrices and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeConfig {
    /// 32 bits.
    F32,
    /// 16 bits, sums in 32.
    Bf16,
}

/// Samples that are not learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutConfig {
    /// Part of the annotations that is set aside by a hash of the object, where no file is given.
    #[serde(default)]
    pub fraction: f64,
    /// Annotations of their own, over the same clouds.
    #[serde(default)]
    pub annotations: Option<PathBuf>,
    /// Their loss is computed every so many steps, and at the end.
    pub every: u64,
}

fn default_max_tokens() -> usize {
    2048 // The paper's, appendix A.2.
}

impl Default for TrainableConfig {
    fn default() -> Self {
        let (embedding_rows, batch_norms) = (EmbeddingRowsConfig::default(), BatchNormsConfig::default());
        Self { patterns: vec!["*".to_owned()], embedding_rows, batch_norms }
    }
}

impl Default for OptimizerConfig {
    /// The paper's first stage.
    fn default() -> Self {
        let paper = Optimizer::paper(4e-4, Schedule::Constant);
        let Optimizer { rate, betas, eps, weight_decay, max_norm, moments, .. } = paper;
        let (schedule, warmup_ratio) = (ScheduleConfig::Cosine, 0.03);
        Self { rate, schedule, warmup_ratio, betas, eps, weight_decay, max_norm, moments }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { size: 1, accumulation: 1, mean: MeanConfig::Tokens, temporaries_gb: None }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: 1.0,
            seed: 0,
            mode: ModeConfig::F32,
            device: "auto".to_owned(),
            out: PathBuf::from("runs/enel"),
            save_every: 100,
            keep: 1,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the key.
    pub fn open(path: &Path) -> Result<Config, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    /// Reads the text of a file; `path` is named in errors, and its folder is where relative paths begin.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let mut config: Config = toml::from_str(text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        config.check(path)?;
        config.place(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let fault = |key: &'static str, got: String, expected: &'static str| {
            Err(ConfigError::Value { path: path.to_owned(), key, got, expected })
        };
        let counts = [
            ("batch.size", self.batch.size),
            ("batch.accumulation", self.batch.accumulation),
            ("run.keep", self.run.keep),
            ("data.max_tokens", self.data.max_tokens),
            ("model.points", self.model.points.unwrap_or(1)),
            ("lora.rank", self.lora.as_ref().map_or(1, |lora| lora.rank)),
            ("objective.distillation.width", self.objective.distillation.as_ref().map_or(1, |teacher| teacher.width)),
        ];
        for (key, n) in counts {
            if !(1..=1 << 20).contains(&n) {
                return fault(key, n.to_string(), "1 to 1048576");
            }
        }
        let every = self.held_out.as_ref().map_or(1, |held_out| held_out.every);
        for (key, n) in [("run.save_every", self.run.save_every), ("held_out.every", every)] {
            if n == 0 {
                return fault(key, n.to_string(), "at least 1");
            }
        }
        if !(1..=MAX_STEPS).contains(&self.run.steps.unwrap_or(1)) {
            return fault("run.steps", self.run.steps.unwrap_or(0).to_string(), "1 to 16777215");
        }
        let optimizer = &self.optimizer;
        let positive = [
            ("optimizer.rate", optimizer.rate),
            ("optimizer.eps", optimizer.eps),
            ("optimizer.max_norm", optimizer.max_norm),
            ("run.epochs", self.run.epochs),
            ("lora.alpha", self.lora.as_ref().map_or(1.0, |lora| lora.alpha)),
            ("objective.contrast.temperature", self.objective.contrast.as_ref().map_or(1.0, |views| views.temperature)),
        ];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return fault(key, value.to_string(), "a number above 0");
            }
        }
        for (key, value) in self.objective.factors() {
            if !(value.is_finite() && value >= 0.0) {
                return fault(key, value.to_string(), "a number of at least 0");
            }
        }
        let fraction = self.held_out.as_ref().map_or(0.0, |held_out| held_out.fraction);
        let parts = [
            ("optimizer.warmup_ratio", optimizer.warmup_ratio),
            ("optimizer.betas", optimizer.betas[0]),
            ("optimizer.betas", optimizer.betas[1]),
            ("optimizer.weight_decay", optimizer.weight_decay),
            ("held_out.fraction", fraction),
            ("objective.masked.ratio", self.objective.masked.as_ref().map_or(0.0, |masked| masked.ratio)),
        ];
        for (key, value) in parts {
            if !(0.0..1.0).contains(&value) {
                return fault(key, value.to_string(), "at least 0 and below 1");
            }
        }
        if self.trainable.patterns.is_empty() && self.lora.is_none() {
            return fault("trainable.patterns", "[]".to_owned(), "at least one pattern, or a table [lora]");
        }
        if let Some(gb) = self.batch.temporaries_gb.filter(|gb| !(gb.is_finite() && *gb > 0.0)) {
            return fault("batch.temporaries_gb", gb.to_string(), "a number above 0");
        }
        if self.objective.contrast.is_some() && self.batch.size < 2 {
            return fault("batch.size", self.batch.size.to_string(), "at least 2: contrast needs other objects");
        }
        Ok(())
    }
}
