//! Which model answers? A folder in Hugging Face layout, a fetched one by its name, or a preset with random weights to
//! try the machinery with.
//!
//! Law: what does not fit is found before anything is compiled, and listed by name and shape. A model without a point
//! part reads text alone.

mod weights;

use super::places;
use anyhow::{Context, Result, bail};
use enel_io::{Weights, config};
use enel_ir::Graph;
use enel_model::{EnelConfig, Extent, LlamaConfig, PRESETS, PointConfig, Vocabulary};
use enel_runtime::WeightSource;
use enel_text::chat::PointBlock;
use enel_text::spm::SpmModel;
use enel_text::{TINY_MODEL, Tokenizer};
use std::path::{Path, PathBuf};
use weights::{Checkpoint, random_weights, weight_shapes};

/// Random weights beyond this many are refused: they teach nothing and take 4 B each.
const MAX_RANDOM_PARAMS: usize = 200_000_000;
/// Points of a cloud for each point of `input_points`, which the configuration of a folder states; the released model
/// has 8192 and 1024.
const POINTS_PER_INPUT: usize = 8;
/// Longest sequence of presets, that of the paper.
const PRESET_POSITIONS: usize = 2048;

/// A model before it is compiled.
#[derive(Debug)]
pub struct Model {
    /// Folder or preset, as the user wrote it.
    pub name: String,
    /// Sizes of the decoder.
    pub llama: LlamaConfig,
    /// What reads clouds; `None` for a model of text alone.
    pub cloud: Option<CloudPart>,
    /// Its vocabulary, marks of clouds included.
    pub tokenizer: Tokenizer,
    /// What ids mean to the layout of tokens.
    pub vocabulary: Vocabulary,
    /// Longest sequence it was made for.
    pub max_positions: usize,
    /// Open weights; none for a preset, and none after [`Model::close_weights`].
    checkpoint: Option<Checkpoint>,
    is_random: bool,
}

/// How a model reads clouds.
#[derive(Debug)]
pub struct CloudPart {
    /// Sizes of everything, the decoder's repeated.
    pub config: EnelConfig,
    /// How a cloud is written into a prompt.
    pub block: PointBlock,
}

impl Model {
    /// Opens a folder, a fetched model or a preset; clouds get `points` points where that is given.
    ///
    /// # Errors
    /// Names the file that is missing or does not fit.
    pub fn open(name: &str, points: Option<usize>) -> Result<Model> {
        if let Some(dir) = find_dir(name) {
            return from_dir(name, &dir, points).with_context(|| format!("model folder {}", dir.display()));
        }
        if Path::new(name).is_file() {
            bail!("{name} is a file, a model is a folder; a GGUF file becomes one by: enel model import {name} -o DIR");
        }
        let Some(mut config) = EnelConfig::preset(name) else {
            let known = PRESETS.join(", ");
            if super::store::can_fetch(name) {
                bail!("`{name}` is not on this machine; get it by: enel model fetch {name}");
            }
            bail!("`{name}` is neither a model folder nor a fetched model nor a preset ({known})");
        };
        if config.params() > MAX_RANDOM_PARAMS {
            let millions = config.params() / 1_000_000;
            bail!("preset `{name}` has {millions} M parameters and no weights; give a model folder instead");
        }
        if let Some(points) = points {
            config.point.n_points = Extent::fixed(points);
        }
        let tokenizer = Tokenizer::from_spm(SpmModel::parse(TINY_MODEL).context("the built-in vocabulary")?);
        let parts = Parts { llama: config.llama.clone(), tokenizer, max_positions: PRESET_POSITIONS, checkpoint: None };
        with_clouds(name, parts, config, PointBlock::new(0))
    }

    /// True when there are no trained weights.
    pub fn is_random(&self) -> bool {
        self.is_random
    }

    /// Unmaps the files of the weights, which nobody reads once they are bound.
    pub fn close_weights(&mut self) {
        self.checkpoint = None;
    }

    /// The weights of these graphs.
    ///
    /// # Errors
    /// Lists every weight that is missing, of another shape or not of floats.
    pub fn weights(&self, graphs: &[&Graph]) -> Result<Box<dyn WeightSource + '_>> {
        if self.is_random {
            return Ok(Box::new(random_weights(graphs)));
        }
        let checkpoint = self.checkpoint.as_ref().context("the weights were closed")?;
        let mut faults = Vec::new();
        for (name, shape) in weight_shapes(graphs) {
            match checkpoint.tensor(&name) {
                None if checkpoint.weights.contains(&name) => faults.push(format!("{name} is not of floats")),
                None => faults.push(format!("{name} {shape:?} is missing")),
                Some(view) if view.shape != shape => {
                    faults.push(format!("{name} has the shape {:?}, expected {shape:?}", view.shape));
                }
                Some(_) => {}
            }
        }
        if !faults.is_empty() {
            bail!("{}: {} weight(s) do not fit config.json:\n  {}", self.name, faults.len(), faults.join("\n  "));
        }
        Ok(Box::new(checkpoint))
    }

    /// The part that reads clouds.
    ///
    /// # Errors
    /// Says that there is none.
    pub fn clouds(&self) -> Result<&CloudPart> {
        let what = || {
            format!(
                "model `{}` reads text alone: its config.json has no `point_backbone_config`; ask it by: enel chat",
                self.name
            )
        };
        self.cloud.as_ref().with_context(what)
    }
}

/// The folder a name means: a path, or a model in the data folder.
pub fn find_dir(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(name);
    if path.is_dir() {
        return Some(path);
    }
    places::model_dir(name).filter(|dir| dir.is_dir())
}

/// What a model has before it is known whether it reads clouds.
struct Parts {
    llama: LlamaConfig,
    tokenizer: Tokenizer,
    max_positions: usize,
    checkpoint: Option<Checkpoint>,
}

fn from_dir(name: &str, dir: &Path, points: Option<usize>) -> Result<Model> {
    let stated = config::LlamaConfig::open(dir)?;
    if stated.head_size() * stated.num_attention_heads != stated.hidden_size {
        bail!("config.json: head_dim = {} is not hidden_size / num_attention_heads; unsupported", stated.head_size());
    }
    let llama = LlamaConfig {
        hidden_size: stated.hidden_size,
        intermediate_size: stated.intermediate_size,
        num_hidden_layers: stated.num_hidden_layers,
        num_attention_heads: stated.num_attention_heads,
        num_key_value_heads: stated.n_kv_heads(),
        rms_norm_eps: stated.rms_norm_eps,
        rope_theta: stated.rope_theta,
        vocab_size: stated.vocab_size,
        tie_word_embeddings: stated.tie_word_embeddings,
    };
    let tokenizer = Tokenizer::from_dir(dir)?;
    let checkpoint = Some(Checkpoint::new(Weights::open(dir)?));
    let parts = Parts { llama, tokenizer, max_positions: stated.max_position_embeddings, checkpoint };
    let Some(point) = &stated.point_backbone_config else { return text_only(name, parts) };
    let config = EnelConfig {
        point: PointConfig {
            n_points: Extent::fixed(
                points.or(point.n_points).unwrap_or(point.input_points.saturating_mul(POINTS_PER_INPUT)),
            ),
            point_dims: point.point_dims,
            input_points: point.input_points,
            embed_dim: point.embed_dim,
            group_size: point.group_size,
            num_stages: point.num_stages,
            projection_hidden_dim: point.projection_hidden_dim.clone(),
            ..PointConfig::paper()
        },
        llama: parts.llama.clone(),
    };
    let around = (point.default_point_start_token.clone(), point.default_point_end_token.clone());
    let around = point.mm_use_point_start_end.then_some(around);
    let block = PointBlock { n_patches: 0, patch: point.default_point_patch_token.clone(), around };
    let model = with_clouds(name, parts, config, block)?;
    if let Some(ids) = point.point_token_ids {
        let stated = (ids.patch as i32, Some((ids.start as i32, ids.end as i32)));
        let found = (model.vocabulary.patch, model.vocabulary.frame);
        if stated.0 != found.0 || (found.1.is_some() && stated.1 != found.1) {
            bail!("config.json gives the cloud's marks the ids {stated:?}, the tokenizer gives {found:?}");
        }
    }
    Ok(model)
}

fn text_only(name: &str, parts: Parts) -> Result<Model> {
    let Parts { llama, tokenizer, max_positions, checkpoint } = parts;
    llama.check()?;
    let size = llama.vocab_size;
    if tokenizer.vocab_size() > size {
        bail!("the tokenizer has {} tokens, the model {size}", tokenizer.vocab_size());
    }
    // No id is negative, so no token is taken for a cloud's.
    let vocabulary = Vocabulary { size, patch: -1, frame: None, tokens_per_cloud: 0 };
    let is_random = checkpoint.is_none();
    Ok(Model { name: name.to_owned(), llama, cloud: None, tokenizer, vocabulary, max_positions, checkpoint, is_random })
}

/// Adds the cloud's marks to the vocabulary and checks what depends on both sides.
fn with_clouds(name: &str, parts: Parts, config: EnelConfig, block: PointBlock) -> Result<Model> {
    let Parts { llama, mut tokenizer, max_positions, checkpoint } = parts;
    config.check()?;
    let tokens_per_cloud = config.point.tokens_per_cloud();
    let block = PointBlock { n_patches: tokens_per_cloud, ..block };
    let marks: Vec<i32> = block.add_to(&mut tokenizer)?.into_iter().map(|id| id as i32).collect();
    let size = config.llama.vocab_size;
    if tokenizer.vocab_size() > size {
        bail!("the tokenizer has {} tokens with the cloud's marks, the model {size}", tokenizer.vocab_size());
    }
    let frame = match marks[..] {
        [_, start, end] => Some((start, end)),
        _ => None,
    };
    let vocabulary = Vocabulary { size, patch: marks[0], frame, tokens_per_cloud };
    let cloud = Some(CloudPart { config, block });
    let is_random = checkpoint.is_none();
    Ok(Model { name: name.to_owned(), llama, cloud, tokenizer, vocabulary, max_positions, checkpoint, is_random })
}
