//! Which model answers? A folder in Hugging Face layout, or a preset with random weights to try the machinery with.
//!
//! Law: what does not fit is found before anything is compiled, and listed by name and shape.

use anyhow::{Context, Result, bail};
use enel_io::{Dtype, TensorView, Weights};
use enel_ir::{DType, Graph, InputKind};
use enel_model::{EnelConfig, Extent, LlamaConfig, PRESETS, PointConfig, Vocabulary};
use enel_runtime::{HostTensor, HostTensors, WeightSource, WeightView};
use enel_text::Tokenizer;
use enel_text::chat::PointBlock;
use enel_text::spm::SpmModel;
use std::collections::BTreeMap;
use std::path::Path;

/// The vocabulary of presets, which have none of their own.
const TINY_VOCABULARY: &[u8] = include_bytes!("../../../model/text/assets/tiny.model");
/// Random weights beyond this many are refused: they teach nothing and take 4 B each.
const MAX_RANDOM_PARAMS: usize = 200_000_000;
/// Points of a cloud for each point of `input_points`, which the configuration of a folder states; the released model
/// has 8192 and 1024.
const POINTS_PER_INPUT: usize = 8;

/// A model before it is compiled.
#[derive(Debug)]
pub struct Model {
    /// Folder or preset, as the user wrote it.
    pub name: String,
    /// Sizes.
    pub config: EnelConfig,
    /// Its vocabulary, marks of clouds included.
    pub tokenizer: Tokenizer,
    /// How a cloud is written into a prompt.
    pub block: PointBlock,
    /// What ids mean to the layout of tokens.
    pub vocabulary: Vocabulary,
    /// Open weights; none for a preset.
    checkpoint: Option<Checkpoint>,
}

impl Model {
    /// Opens a folder or a preset; clouds get `points` points where that is given.
    ///
    /// # Errors
    /// Names the file that is missing or does not fit.
    pub fn open(name: &str, points: Option<usize>) -> Result<Model> {
        let dir = Path::new(name);
        if dir.is_dir() {
            return from_dir(dir, points).with_context(|| format!("model folder {}", dir.display()));
        }
        let Some(mut config) = EnelConfig::preset(name) else {
            bail!("`{name}` is neither a model folder nor a preset ({})", PRESETS.join(", "));
        };
        if config.params() > MAX_RANDOM_PARAMS {
            let millions = config.params() / 1_000_000;
            bail!("preset `{name}` has {millions} M parameters and no weights; give a model folder instead");
        }
        if let Some(points) = points {
            config.point.n_points = Extent::fixed(points);
        }
        let tokenizer = Tokenizer::from_spm(SpmModel::parse(TINY_VOCABULARY).context("the built-in vocabulary")?);
        finish(name, config, tokenizer, PointBlock::new(0), None)
    }

    /// True when there are no trained weights.
    pub fn is_random(&self) -> bool {
        self.checkpoint.is_none()
    }

    /// The weights of these graphs.
    ///
    /// # Errors
    /// Lists every weight that is missing, of another shape or not of floats.
    pub fn weights(self, graphs: &[&Graph]) -> Result<Box<dyn WeightSource>> {
        let Some(checkpoint) = self.checkpoint else { return Ok(Box::new(random_weights(graphs))) };
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
}

fn from_dir(dir: &Path, points: Option<usize>) -> Result<Model> {
    let stated = enel_io::config::LlamaConfig::open(dir)?;
    let Some(point) = &stated.point_backbone_config else {
        bail!("config.json has no `point_backbone_config`, so the model reads text alone and cannot describe a cloud");
    };
    if stated.head_size() * stated.num_attention_heads != stated.hidden_size {
        bail!("config.json: head_dim = {} is not hidden_size / num_attention_heads; unsupported", stated.head_size());
    }
    let config = EnelConfig {
        point: PointConfig {
            n_points: Extent::fixed(points.unwrap_or(point.input_points.saturating_mul(POINTS_PER_INPUT))),
            point_dims: point.point_dims,
            input_points: point.input_points,
            embed_dim: point.embed_dim,
            group_size: point.group_size,
            num_stages: point.num_stages,
            projection_hidden_dim: point.projection_hidden_dim.clone(),
            ..PointConfig::paper()
        },
        llama: LlamaConfig {
            hidden_size: stated.hidden_size,
            intermediate_size: stated.intermediate_size,
            num_hidden_layers: stated.num_hidden_layers,
            num_attention_heads: stated.num_attention_heads,
            num_key_value_heads: stated.n_kv_heads(),
            rms_norm_eps: stated.rms_norm_eps,
            rope_theta: stated.rope_theta,
            vocab_size: stated.vocab_size,
            tie_word_embeddings: stated.tie_word_embeddings,
        },
    };
    let tokenizer = Tokenizer::from_dir(dir)?;
    let around = (point.default_point_start_token.clone(), point.default_point_end_token.clone());
    let around = point.mm_use_point_start_end.then_some(around);
    let block = PointBlock { n_patches: 0, patch: point.default_point_patch_token.clone(), around };
    let weights = Checkpoint::new(Weights::open(dir)?);
    let model = finish(&dir.display().to_string(), config, tokenizer, block, Some(weights))?;
    if let Some(ids) = point.point_token_ids {
        let stated = (ids.patch as i32, Some((ids.start as i32, ids.end as i32)));
        let found = (model.vocabulary.patch, model.vocabulary.frame);
        if stated.0 != found.0 || (found.1.is_some() && stated.1 != found.1) {
            bail!("config.json gives the cloud's marks the ids {stated:?}, the tokenizer gives {found:?}");
        }
    }
    Ok(model)
}

/// Adds the cloud's marks to the vocabulary and checks what depends on both sides.
fn finish(
    name: &str,
    config: EnelConfig,
    mut tokenizer: Tokenizer,
    block: PointBlock,
    checkpoint: Option<Checkpoint>,
) -> Result<Model> {
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
    Ok(Model { name: name.to_owned(), config, tokenizer, block, vocabulary, checkpoint })
}

/// Weights of a folder, as the runtime asks for them.
#[derive(Debug)]
struct Checkpoint {
    weights: Weights,
    /// F64 tensors, which devices do not store, as F32.
    narrowed: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Checkpoint {
    fn new(weights: Weights) -> Checkpoint {
        let mut narrowed = BTreeMap::new();
        for name in weights.names() {
            let Ok(view @ TensorView { dtype: Dtype::F64, .. }) = weights.view(name) else { continue };
            let bytes = view.to_f32().unwrap_or_default().into_iter().flat_map(f32::to_ne_bytes).collect();
            narrowed.insert(name.to_owned(), (view.shape.to_vec(), bytes));
        }
        Checkpoint { weights, narrowed }
    }
}

impl WeightSource for Checkpoint {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        if let Some((shape, bytes)) = self.narrowed.get(name) {
            return Some(WeightView { dtype: DType::F32, shape, bytes });
        }
        let view = self.weights.view(name).ok()?;
        let dtype = match view.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => return None,
        };
        Some(WeightView { dtype, shape: view.shape, bytes: view.bytes })
    }
}

/// Weights by name with their shapes, over all graphs; a weight with symbolic extents does not exist.
fn weight_shapes(graphs: &[&Graph]) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for graph in graphs {
        for (id, name, kind) in graph.inputs() {
            if kind == InputKind::Weight {
                let extents = graph.ty(id).shape.iter().filter_map(|dim| dim.as_const());
                shapes.insert(name.to_owned(), extents.map(|n| n as usize).collect());
            }
        }
    }
    shapes
}

/// The same numbers on every machine: each weight draws from a generator seeded by its name, so that graphs in any
/// order get the same ones. Matrices keep the spread of what they multiply; gains and variances are near 1.
fn random_weights(graphs: &[&Graph]) -> HostTensors {
    let mut weights = HostTensors::new();
    for (name, shape) in weight_shapes(graphs) {
        let n_elems: usize = shape.iter().product();
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let is_vector = shape.len() == 1;
        let is_centred = !is_vector || name.ends_with("bias") || name.ends_with("mean");
        // A uniform number in -1..1 has variance 1/3.
        let scale = if is_vector { 0.3 } else { (3.0 / fan_in).sqrt() };
        let offset = if is_centred { 0.0 } else { 1.0 };
        let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            // FNV-1a, 64 bits.
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let bytes = (0..n_elems).flat_map(|_| (uniform(&mut state) * scale + offset).to_ne_bytes()).collect();
        if let Ok(tensor) = HostTensor::new(DType::F32, &shape, bytes) {
            weights.insert(name, tensor);
        }
    }
    weights
}

/// A number in -1..1. **Source** splitmix64, Steele, Lea and Flood 2014, section 3.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
