//! How do a model's files become a folder in Hugging Face layout? Config, vocabulary, then tensor by tensor.
//!
//! Law: the folder appears whole or not at all, and has been opened again before it does.

use super::ImportArgs;
use crate::enel::progress::Progress;
use crate::outln;
use anyhow::{Context, Result, bail};
use enel_io::gguf::{GgufModel, GgufVocabulary, VocabularyKind};
use enel_io::{Dtype, TensorSource, Weights, WriteConfig, config, create_dir_atomic, write_model};
use enel_text::Tokenizer;
use enel_text::export::{self, TOKENIZER_JSON, TOKENIZER_MODEL, Vocabulary};
use serde_json::{Value, json};
use std::path::Path;

/// Files of a folder that are taken over as they are, where they exist.
const COPIED: [&str; 7] = [
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn import(args: &ImportArgs) -> Result<()> {
    let config = WriteConfig { dtype: args.dtype.map(super::DtypeArg::dtype), shard_bytes: args.shard_mb * 1_000_000 };
    if args.from.is_dir() {
        import_dir(&args.from, &args.output, &config)?;
    } else {
        import_gguf(&args.from, &args.output, &config)?;
    }
    outln!("{}", args.output.display())
}

/// A GGUF file as a folder.
///
/// # Errors
/// What is no LLaMA model, or has a vocabulary without rules; a folder that is not empty.
pub(super) fn import_gguf(from: &Path, to: &Path, write: &WriteConfig) -> Result<()> {
    let model = GgufModel::open(from)?;
    let vocabulary = model.vocabulary()?;
    make(to, |dir| {
        let dtype = write.dtype.or_else(|| matrix_dtype(&model));
        put_json(dir, "config.json", &with_dtype(model.config().clone(), dtype))?;
        put_vocabulary(dir, &vocabulary).with_context(|| format!("the vocabulary of {}", from.display()))?;
        finish(dir, &model, write)
    })
}

fn import_dir(from: &Path, to: &Path, write: &WriteConfig) -> Result<()> {
    config::LlamaConfig::open(from)?;
    let weights = Weights::open(from)?;
    let text = std::fs::read_to_string(from.join("config.json"))?;
    make(to, |dir| {
        put_json(dir, "config.json", &with_dtype(serde_json::from_str(&text)?, write.dtype))?;
        for name in COPIED {
            if from.join(name).is_file() {
                std::fs::copy(from.join(name), dir.join(name)).with_context(|| format!("cannot copy {name}"))?;
            }
        }
        finish(dir, &weights, write)
    })
}

/// Makes a folder whole or not at all.
fn make(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let is_taken = std::fs::symlink_metadata(to).is_ok()
        && std::fs::read_dir(to).map_or(true, |mut entries| entries.next().is_some());
    if is_taken {
        bail!("{} exists and is not an empty folder; give another --output or remove it", to.display());
    }
    let result: Result<()> = create_dir_atomic(to, fill);
    result.with_context(|| format!("cannot make {}", to.display()))
}

/// Writes the tensors and opens everything again.
fn finish(dir: &Path, source: &dyn TensorSource, write: &WriteConfig) -> Result<()> {
    let progress = Progress::bytes("writing weights", 1);
    write_model(dir, source, write, &mut |at| {
        progress.length(at.total_bytes);
        progress.at(at.done_bytes);
        progress.say(at.name);
    })?;
    drop(progress);
    config::LlamaConfig::open(dir)?;
    Tokenizer::from_dir(dir)?;
    Weights::open(dir)?;
    Ok(())
}

/// The type most matrices get, for `config.json`.
fn matrix_dtype(source: &dyn TensorSource) -> Option<Dtype> {
    source.list().into_iter().find(|tensor| tensor.shape.len() > 1).map(|tensor| tensor.dtype)
}

fn with_dtype(mut config: Value, dtype: Option<Dtype>) -> Value {
    let name = match dtype {
        Some(Dtype::F32) => "float32",
        Some(Dtype::F16) => "float16",
        Some(Dtype::BF16) => "bfloat16",
        _ => return config,
    };
    config["torch_dtype"] = json!(name);
    config
}

fn put_vocabulary(dir: &Path, given: &GgufVocabulary) -> Result<()> {
    let vocabulary = Vocabulary {
        tokens: &given.tokens,
        kinds: &given.token_kinds,
        bos: given.bos,
        eos: given.eos,
        unknown: given.unknown,
        padding: given.padding,
        add_bos: given.add_bos,
        chat_template: given.chat_template.as_deref(),
    };
    let (name, bytes) = match &given.kind {
        VocabularyKind::Bpe { pre, merges } => (TOKENIZER_JSON, export::bpe_json(&vocabulary, merges, pre)?),
        VocabularyKind::Spm { scores } => {
            if given.add_space_prefix == Some(false) {
                bail!("it puts no space before a text, which is unsupported for SentencePiece");
            }
            (TOKENIZER_MODEL, export::spm_model(&vocabulary, scores)?)
        }
    };
    std::fs::write(dir.join(name), bytes)?;
    put_json(dir, "tokenizer_config.json", &export::tokenizer_config(&vocabulary, name)?)
}

fn put_json(dir: &Path, name: &str, value: &Value) -> Result<()> {
    std::fs::write(dir.join(name), format!("{value:#}\n")).with_context(|| format!("cannot write {name}"))
}
