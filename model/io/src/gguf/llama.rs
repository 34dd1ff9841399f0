//! What is a GGUF file as a LLaMA model in Hugging Face's terms?
//!
//! Names and settings are translated, rows of the query and key matrices are put back into half-split order, and the
//! vocabulary is handed out as lists. Law: every tensor is used once and has the shape the settings ask for.
//! **Source** the tensor names of `gguf-py`; the interleaving of rotary pairs in llama.cpp's `convert_hf_to_gguf.py`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::{Encoding, Gguf, GgufError};
use crate::config::LlamaConfig;
use crate::write::{SourceTensor, TensorSource, rounded};

/// A LLaMA model in a GGUF file, seen as a Hugging Face checkpoint.
#[derive(Debug)]
pub struct GgufModel {
    gguf: Gguf,
    config: Json,
    tensors: BTreeMap<String, Part>,
}

/// Where a tensor comes from.
#[derive(Debug)]
struct Part {
    name: String,
    /// Heads whose rows stand in interleaved pairs.
    heads: Option<usize>,
}

/// The vocabulary of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufVocabulary {
    /// How text is cut.
    pub kind: VocabularyKind,
    /// Spellings, by id.
    pub tokens: Vec<String>,
    /// Kinds by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty when the file has none.
    pub token_kinds: Vec<u32>,
    /// The mark that begins a sequence.
    pub bos: Option<u32>,
    /// The mark that ends an answer.
    pub eos: Option<u32>,
    /// Stands for what cannot be spelled.
    pub unknown: Option<u32>,
    /// Fills rows of a batch.
    pub padding: Option<u32>,
    /// Whether a sequence begins with `bos`; kinds have their own default.
    pub add_bos: Option<bool>,
    /// Whether a space is put before a text; kinds have their own default.
    pub add_space_prefix: Option<bool>,
    /// The template of conversations, in Jinja.
    pub chat_template: Option<String>,
}

/// How text is cut.
#[derive(Clone, Debug, PartialEq)]
pub enum VocabularyKind {
    /// Byte-level BPE.
    Bpe {
        /// How text is cut before merging, by the name llama.cpp gave it.
        pre: String,
        /// Pairs, first the ones that merge first.
        merges: Vec<String>,
    },
    /// SentencePiece BPE.
    Spm {
        /// Pieces with the highest score merge first.
        scores: Vec<f32>,
    },
}

/// Parts of a layer: here, there, and whose heads are interleaved.
const LAYER: [(&str, &str, Rows); 9] = [
    ("attn_norm", "input_layernorm", Rows::Plain),
    ("attn_q", "self_attn.q_proj", Rows::Heads),
    ("attn_k", "self_attn.k_proj", Rows::KeyHeads),
    ("attn_v", "self_attn.v_proj", Rows::Plain),
    ("attn_output", "self_attn.o_proj", Rows::Plain),
    ("ffn_norm", "post_attention_layernorm", Rows::Plain),
    ("ffn_gate", "mlp.gate_proj", Rows::Plain),
    ("ffn_up", "mlp.up_proj", Rows::Plain),
    ("ffn_down", "mlp.down_proj", Rows::Plain),
];

/// In which order rows stand.
#[derive(Clone, Copy)]
enum Rows {
    Plain,
    Heads,
    KeyHeads,
}

impl GgufModel {
    /// Opens a file and checks that it holds a LLaMA model and nothing else.
    ///
    /// # Errors
    /// [`GgufError`]; every tensor that is missing, left over or of another shape is listed.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let gguf = Gguf::open(path)?;
        let (config, sizes) = config(&gguf)?;
        let tensors = parts(&gguf, &sizes)?;
        Ok(Self { gguf, config, tensors })
    }

    /// The `config.json` of the model.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// Most bits an element of a matrix takes, by the name of its encoding, and how many tensors are stored so.
    pub fn encodings(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, tensor) in self.gguf.tensors() {
            *counts.entry(tensor.encoding.name()).or_insert(0) += 1;
        }
        counts
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// [`GgufError::Setting`] for one that is missing or of a kind there are no rules for.
    pub fn vocabulary(&self) -> Result<GgufVocabulary, GgufError> {
        vocabulary(&self.gguf)
    }
}

impl Gguf {
    /// The vocabulary.
    ///
    /// # Errors
    /// [`GgufError::Setting`] for one that is missing or of a kind there are no rules for.
    pub fn vocabulary(&self) -> Result<GgufVocabulary, GgufError> {
        vocabulary(self)
    }
}

impl TensorSource for GgufModel {
    fn list(&self) -> Vec<SourceTensor> {
        let stored: BTreeMap<&str, _> = self.gguf.tensors().collect();
        let tensor = |(name, part): (&String, &Part)| {
            let stored = stored.get(part.name.as_str()).copied()?;
            let dtype = match stored.encoding {
                Encoding::F32 => Dtype::F32,
                Encoding::Bf16 => Dtype::BF16,
                // Scales of quantised blocks are f16, so that f16 keeps more of their products than bf16 does.
                _ => Dtype::F16,
            };
            Some(SourceTensor { name: name.clone(), dtype, shape: stored.shape.clone() })
        };
        self.tensors.iter().filter_map(tensor).collect()
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Option<Cow<'_, [u8]>> {
        let part = self.tensors.get(name)?;
        let mut values = self.gguf.to_f32(&part.name)?;
        if let Some(heads) = part.heads {
            let rows = self.gguf.tensors().find(|(n, _)| *n == part.name)?.1.shape.first().copied()?;
            values = half_split(&values, rows, heads);
        }
        rounded(&values, dtype).map(Cow::Owned)
    }
}

/// Rows `h, i, j` of interleaved pairs as rows `h, j, i`: first all first halves of a head, then all second ones.
fn half_split(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    let head = rows / heads;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (h, within) = (row / head, row % head);
        let (j, i) = (within / (head / 2), within % (head / 2));
        let from = h * head + 2 * i + j;
        out.extend_from_slice(&values[from * columns..][..columns]);
    }
    out
}

/// `config.json`, and the same read back and checked.
fn config(gguf: &Gguf) -> Result<(Json, LlamaConfig), GgufError> {
    let architecture = gguf.text("general.architecture")?.unwrap_or("not stated");
    if architecture != "llama" {
        return Err(gguf.setting_error("general.architecture", format!("is {architecture}, only llama is read")));
    }
    let scaling = gguf.text("llama.rope.scaling.type")?.unwrap_or("none");
    if scaling != "none" {
        return Err(gguf.setting_error("llama.rope.scaling.type", format!("is {scaling}, which is unsupported")));
    }
    let experts = gguf.number("llama.expert_count")?.unwrap_or(0);
    if experts > 0 {
        return Err(gguf.setting_error("llama.expert_count", format!("is {experts}; mixtures are unsupported")));
    }
    let needed = |key: &str| gguf.number(key).and_then(|n| n.ok_or_else(|| gguf.setting_error(key, "is missing")));
    let (hidden, heads) = (needed("llama.embedding_length")?, needed("llama.attention.head_count")?);
    let head_size = match gguf.number("llama.attention.key_length")? {
        Some(n) => n,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    if let Some(rotary) = gguf.number("llama.rope.dimension_count")?.filter(|&n| n != head_size) {
        let what = format!("is {rotary}, but heads have {head_size} channels: rotating a part is unsupported");
        return Err(gguf.setting_error("llama.rope.dimension_count", what));
    }
    let vocab_size = gguf.tensors.get("token_embd.weight").and_then(|t| t.shape.first().copied()).unwrap_or(0);
    let dtype = match gguf.tensors.get("blk.0.attn_q.weight").map(|t| t.encoding) {
        Some(Encoding::F32) => "float32",
        Some(Encoding::Bf16) => "bfloat16",
        _ => "float16",
    };
    let key = "llama.attention.layer_norm_rms_epsilon";
    let eps = gguf.float(key)?.ok_or_else(|| gguf.setting_error(key, "is missing"))?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": needed("llama.feed_forward_length")?,
        "num_hidden_layers": needed("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.number("llama.attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_size,
        "max_position_embeddings": needed("llama.context_length")?,
        "rms_norm_eps": shortest(eps),
        "rope_theta": shortest(gguf.float("llama.rope.freq_base")?.unwrap_or(10_000.0)),
        "rope_scaling": null,
        "vocab_size": vocab_size,
        "tie_word_embeddings": !gguf.tensors.contains_key("output.weight"),
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": gguf.number("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": gguf.number("tokenizer.ggml.eos_token_id")?,
        "torch_dtype": dtype,
    });
    let checked = LlamaConfig::from_bytes(config.to_string().as_bytes(), gguf.path());
    let checked = checked.map_err(|error| gguf.setting_error("llama.*", error.to_string()))?;
    Ok((config, checked))
}

/// The f64 a person would have written for an f32 of the file: 1e-5, not 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    let narrow = value as f32;
    if f64::from(narrow) == value { narrow.to_string().parse().unwrap_or(value) } else { value }
}

/// Every tensor by its name there, and what does not fit.
fn parts(gguf: &Gguf, sizes: &LlamaConfig) -> Result<BTreeMap<String, Part>, GgufError> {
    let mut faults = Vec::new();
    let mut parts = BTreeMap::new();
    let mut left: BTreeMap<&str, _> = gguf.tensors().collect();
    // A file cannot have more layers than tensors, whatever its settings say.
    let n_layers = sizes.num_hidden_layers.min(gguf.tensors.len() + 1);
    for (here, there, shape, heads) in expected(sizes, n_layers) {
        match left.remove(here.as_str()) {
            None => faults.push(format!("{here} {shape:?} is missing")),
            Some(found) if found.shape != shape => {
                faults.push(format!("{here} has the shape {:?}, expected {shape:?}", found.shape));
            }
            Some(_) => drop(parts.insert(there, Part { name: here, heads })),
        }
    }
    let why = |name: &str| if name == "rope_freqs.weight" { "scaled rotary angles are unsupported" } else { "unknown" };
    faults.extend(left.keys().map(|name| format!("{name} is no part of a plain LLaMA: {}", why(name))));
    if faults.is_empty() { Ok(parts) } else { Err(GgufError::Tensors { path: gguf.path.clone(), faults }) }
}

/// Name here, name there, shape, interleaved heads.
type Expected = (String, String, Vec<usize>, Option<usize>);

fn expected(sizes: &LlamaConfig, n_layers: usize) -> Vec<Expected> {
    let (c, f) = (sizes.hidden_size, sizes.intermediate_size);
    let (heads, groups, d) = (sizes.num_attention_heads, sizes.n_kv_heads(), sizes.head_size());
    let table = vec![sizes.vocab_size, c];
    let mut all = vec![
        ("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), table.clone(), None),
        ("output_norm.weight".to_owned(), "model.norm.weight".to_owned(), vec![c], None),
    ];
    if !sizes.tie_word_embeddings {
        all.push(("output.weight".to_owned(), "lm_head.weight".to_owned(), table, None));
    }
    for layer in 0..n_layers {
        for (here, there, rows) in LAYER {
            let shape = match here {
                "attn_q" => vec![heads * d, c],
                "attn_k" | "attn_v" => vec![groups * d, c],
                "attn_output" => vec![c, heads * d],
                "ffn_gate" | "ffn_up" => vec![f, c],
                "ffn_down" => vec![c, f],
                _ => vec![c],
            };
            let interleaved = match rows {
                Rows::Plain => None,
                Rows::Heads => Some(heads),
                Rows::KeyHeads => Some(groups),
            };
            let there = format!("model.layers.{layer}.{there}.weight");
            all.push((format!("blk.{layer}.{here}.weight"), there, shape, interleaved));
        }
    }
    all
}

fn vocabulary(gguf: &Gguf) -> Result<GgufVocabulary, GgufError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let missing = |name: &str| gguf.setting_error(&key(name), "is missing");
    let tokens = gguf.texts(&key("tokens"))?.ok_or_else(|| missing("tokens"))?;
    let kinds = gguf.numbers(&key("token_type"))?.unwrap_or_default();
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        let what = format!("has {} entries for {} tokens", kinds.len(), tokens.len());
        return Err(gguf.setting_error(&key("token_type"), what));
    }
    let kind = match gguf.text(&key("model"))? {
        Some("gpt2") => VocabularyKind::Bpe {
            pre: gguf.text(&key("pre"))?.unwrap_or("default").to_owned(),
            merges: gguf.texts(&key("merges"))?.ok_or_else(|| missing("merges"))?,
        },
        Some("llama") => {
            let scores = gguf.numbers(&key("scores"))?.ok_or_else(|| missing("scores"))?;
            if scores.len() != tokens.len() {
                let what = format!("has {} entries for {} tokens", scores.len(), tokens.len());
                return Err(gguf.setting_error(&key("scores"), what));
            }
            VocabularyKind::Spm { scores: scores.into_iter().map(|score| score as f32).collect() }
        }
        other => {
            let what = format!("is {}, only gpt2 and llama are read", other.unwrap_or("not stated"));
            return Err(gguf.setting_error(&key("model"), what));
        }
    };
    let id = |name: &str| -> Result<Option<u32>, GgufError> {
        let Some(id) = gguf.number(&key(name))? else { return Ok(None) };
        match u32::try_from(id) {
            Ok(id) if (id as usize) < tokens.len() => Ok(Some(id)),
            _ => Err(gguf.setting_error(&key(name), format!("is {id}, there are {} tokens", tokens.len()))),
        }
    };
    Ok(GgufVocabulary {
        kind,
        token_kinds: kinds.into_iter().map(|kind| kind as u32).collect(),
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        unknown: id("unknown_token_id")?,
        padding: id("padding_token_id")?,
        add_bos: gguf.flag(&key("add_bos_token"))?,
        add_space_prefix: gguf.flag(&key("add_space_prefix"))?,
        chat_template: gguf.text("tokenizer.chat_template")?.map(str::to_owned),
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::half_split;

    #[test]
    fn interleaved_rows_become_halves() {
        // Two heads of four rows with one column; the reference writes row (h, j, i) at (h, i, j).
        let interleaved = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(half_split(&interleaved, 8, 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }
}
