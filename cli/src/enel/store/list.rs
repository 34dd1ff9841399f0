//! What is there, and what is it? Names, sizes, storage and source of fetched models, presets and files.

use super::{InfoArgs, ListArgs};
use crate::enel::model::find_dir;
use crate::enel::places;
use crate::{out, outln};
use anyhow::{Context, Result, bail};
use enel_io::gguf::GgufModel;
use enel_io::{TensorSource, Weights, config};
use enel_model::{EnelConfig, PRESETS};
use enel_text::Tokenizer;
use enel_text::chat::Template;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a fetched model says what it is.
pub(super) const SOURCE: &str = "source.json";

/// A model of the data folder.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// Models of the data folder, by name.
pub fn fetched() -> Vec<Fetched> {
    let entries = places::models_dir().and_then(|dir| std::fs::read_dir(dir).ok());
    let is_model = |dir: &PathBuf| dir.join("config.json").is_file();
    let mut models: Vec<Fetched> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_model)
        .filter_map(|dir| {
            let name = dir.file_name()?.to_str()?.to_owned();
            let is_hidden = name.starts_with('.');
            (!is_hidden).then(|| Fetched { name, size_bytes: places::size_bytes(&dir), dir })
        })
        .collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

/// Runs `list`.
///
/// # Errors
/// Only when stdout cannot be written.
pub(super) fn list(args: &ListArgs) -> Result<()> {
    let fetched = fetched();
    let presets = PRESETS.iter().filter_map(|name| Some((*name, EnelConfig::preset(name)?.params())));
    if args.json {
        let models = fetched.iter().map(
            |model| json!({ "name": model.name, "path": model.dir.display().to_string(), "bytes": model.size_bytes }),
        );
        let presets = presets.map(|(name, params)| json!({ "name": name, "params": params }));
        return out::json(&json!({
            "models": models.collect::<Vec<_>>(), "presets": presets.collect::<Vec<_>>(),
            "fetchable": super::fetch::names(),
        }));
    }
    for model in &fetched {
        let mib = model.size_bytes as f64 / f64::from(1 << 20);
        outln!("{:<16} {mib:>8.1} MiB  {}", model.name, model.dir.display())?;
    }
    for (name, params) in presets {
        outln!("{name:<16} {:>8.1} M parameters, a preset: sizes with random weights", params as f64 / 1e6)?;
    }
    if fetched.is_empty() {
        eprintln!("no model was fetched yet; try: enel model fetch smollm2");
    }
    Ok(())
}

/// Runs `info`.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn info(args: &InfoArgs) -> Result<()> {
    let facts = facts(&args.model)?;
    if args.json {
        return out::json(&Value::Object(facts));
    }
    for (key, value) in &facts {
        match value {
            Value::String(text) => outln!("{key:<14} {text}")?,
            Value::Null => {}
            value => outln!("{key:<14} {value}")?,
        }
    }
    Ok(())
}

fn facts(name: &str) -> Result<Map<String, Value>> {
    if let Some(dir) = find_dir(name) {
        return of_dir(name, &dir).with_context(|| format!("model folder {}", dir.display()));
    }
    let path = Path::new(name);
    if path.is_file() {
        return of_gguf(path);
    }
    let Some(preset) = EnelConfig::preset(name) else {
        let known = PRESETS.join(", ");
        bail!("`{name}` is neither a folder, nor a .gguf file, nor a fetched model, nor a preset ({known})");
    };
    let mut facts = Map::new();
    facts.insert("model".to_owned(), json!(name));
    facts.insert("params".to_owned(), json!(preset.params()));
    facts.insert("weights".to_owned(), json!("none: a preset has random ones"));
    facts.insert("decoder".to_owned(), serde_json::to_value(&preset.llama)?);
    facts.insert("point part".to_owned(), serde_json::to_value(&preset.point)?);
    Ok(facts)
}

fn of_dir(name: &str, dir: &Path) -> Result<Map<String, Value>> {
    let config = config::LlamaConfig::open(dir)?;
    let weights = Weights::open(dir)?;
    let tokenizer = Tokenizer::from_dir(dir)?;
    let template = match Template::of(&tokenizer) {
        Template::Vicuna { .. } => "Vicuna v1.1",
        Template::ChatMl { .. } => "ChatML",
    };
    let mut facts = Map::new();
    facts.insert("model".to_owned(), json!(name));
    facts.insert("path".to_owned(), json!(dir.display().to_string()));
    facts.insert("bytes".to_owned(), json!(places::size_bytes(dir)));
    decoder(&mut facts, &config);
    stored(&mut facts, &weights);
    facts.insert("reads clouds".to_owned(), json!(config.point_backbone_config.is_some()));
    facts.insert("vocabulary".to_owned(), json!(tokenizer.vocab_size()));
    facts.insert("template".to_owned(), json!(template));
    if let Ok(source) = std::fs::read(dir.join(SOURCE)) {
        facts.insert("source".to_owned(), serde_json::from_slice(&source).unwrap_or(Value::Null));
    }
    Ok(facts)
}

fn of_gguf(path: &Path) -> Result<Map<String, Value>> {
    let model = GgufModel::open(path)?;
    let config = config::LlamaConfig::from_bytes(model.config().to_string().as_bytes(), path)?;
    let mut facts = Map::new();
    facts.insert("model".to_owned(), json!(path.display().to_string()));
    decoder(&mut facts, &config);
    stored(&mut facts, &model);
    facts.insert("encodings".to_owned(), json!(model.encodings()));
    facts.insert("use it by".to_owned(), json!(format!("enel model import {} -o DIR", path.display())));
    Ok(facts)
}

fn decoder(facts: &mut Map<String, Value>, config: &config::LlamaConfig) {
    let sizes = json!({
        "layers": config.num_hidden_layers, "hidden": config.hidden_size, "ffn": config.intermediate_size,
        "heads": config.num_attention_heads, "kv_heads": config.n_kv_heads(), "vocab": config.vocab_size,
        "tied": config.tie_word_embeddings, "positions": config.max_position_embeddings,
    });
    facts.insert("decoder".to_owned(), sizes);
}

/// Parameters, and tensors of each type.
fn stored(facts: &mut Map<String, Value>, source: &dyn TensorSource) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut params = 0u64;
    for tensor in source.list() {
        *counts.entry(format!("{:?}", tensor.dtype)).or_insert(0) += 1;
        params = params.saturating_add(tensor.shape.iter().fold(1u64, |n, &e| n.saturating_mul(e as u64)));
    }
    facts.insert("params".to_owned(), json!(params));
    facts.insert("tensors".to_owned(), json!(counts));
}
