//! Which model is trained? Its sizes, its vocabulary with the marks of clouds, and where its weights begin.

use crate::config::{BatchNormsConfig, Config, EmbeddingRowsConfig};
use crate::error::StartError;
use enel_model::train::{Adapters, EmbeddingRows, TrainConfig, Trainable};
use enel_model::{BatchNorms, EnelConfig, Vocabulary};
use enel_text::chat::{PointBlock, Template};
use enel_text::spm::SpmModel;
use enel_text::{TINY_MODEL, Tokenizer, TokenizerError};
use std::path::PathBuf;

/// Longest sequence of models that do not come from a folder, that of the paper.
const POSITIONS: usize = 2048;

/// Where weights and the files of the vocabulary come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: weights are drawn, the vocabulary is the built-in one.
    Drawn,
    /// A folder in Hugging Face layout.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Whether its token embedding and projector are there; drawn where they are not.
        has_points: bool,
    },
}

/// A model before it is trained.
#[derive(Clone, Debug)]
pub struct Base {
    /// Sizes.
    pub config: EnelConfig,
    /// Vocabulary, marks of clouds included.
    pub tokenizer: Tokenizer,
    /// How conversations are written.
    pub template: Template,
    /// How a cloud is written into a conversation.
    pub block: PointBlock,
    /// What ids mean to the layout of tokens.
    pub vocabulary: Vocabulary,
    /// Longest sequence it is made for.
    pub max_positions: usize,
    /// Where it begins.
    pub source: Source,
}

impl Base {
    /// A model whose weights are drawn, with the built-in vocabulary.
    ///
    /// # Errors
    /// [`StartError::Tokenizer`].
    pub fn drawn(config: EnelConfig) -> Result<Base, StartError> {
        let broken = |source| TokenizerError::SentencePiece { path: PathBuf::from("tiny.model"), source };
        let tokenizer = Tokenizer::from_spm(SpmModel::parse(TINY_MODEL).map_err(broken)?);
        let block = PointBlock::new(config.point.tokens_per_cloud());
        Base::new(config, tokenizer, block, (POSITIONS, Source::Drawn))
    }

    /// A model of these parts; the table of tokens grows where the marks of clouds need room.
    ///
    /// # Errors
    /// [`StartError::Tokenizer`].
    pub fn new(
        mut config: EnelConfig,
        mut tokenizer: Tokenizer,
        block: PointBlock,
        (max_positions, source): (usize, Source),
    ) -> Result<Base, StartError> {
        let tokens_per_cloud = config.point.tokens_per_cloud();
        let block = PointBlock { n_patches: tokens_per_cloud, ..block };
        let marks: Vec<i32> = block.add_to(&mut tokenizer)?.into_iter().map(|id| id as i32).collect();
        config.llama.vocab_size = config.llama.vocab_size.max(tokenizer.vocab_size());
        let frame = match marks[..] {
            [_, start, end] => Some((start, end)),
            _ => None,
        };
        let patch = marks.first().copied().unwrap_or(-1);
        let vocabulary = Vocabulary { size: config.llama.vocab_size, patch, frame, tokens_per_cloud };
        let template = Template::of(&tokenizer);
        Ok(Base { config, tokenizer, template, block, vocabulary, max_positions, source })
    }

    /// What is minimised, over which weights.
    ///
    /// # Errors
    /// [`StartError::NoMarks`].
    pub fn train_config(&self, config: &Config) -> Result<TrainConfig, StartError> {
        let embedding_rows = match config.trainable.embedding_rows {
            EmbeddingRowsConfig::All => EmbeddingRows::All,
            EmbeddingRowsConfig::Marks => {
                let (start, end) = self.vocabulary.frame.ok_or(StartError::NoMarks)?;
                EmbeddingRows::Only(vec![start, end])
            }
        };
        let adapters = config.lora.as_ref().map(|lora| Adapters {
            patterns: lora.patterns.clone(),
            rank: lora.rank,
            alpha: lora.alpha,
        });
        let batch_norms = match config.trainable.batch_norms {
            BatchNormsConfig::Own => BatchNorms::Own,
            BatchNormsConfig::Running => BatchNorms::Running,
        };
        let trainable = Trainable { patterns: config.trainable.patterns.clone(), embedding_rows, adapters };
        Ok(TrainConfig { objective: config.objective.objective(), trainable, batch_norms })
    }
}
