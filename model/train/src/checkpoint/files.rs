//! Which folders and files does a run have, and what stands beside the weights of a checkpoint?

use super::{Checkpoint, CheckpointError};
use crate::base::{Base, Source};
use enel_io::write_atomic;
use enel_text::TINY_MODEL;
use serde_json::{Value, json};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// How the names of checkpoints begin.
const STEP: &str = "step-";
/// How the names of what was being written, or removed, when a process ended begin.
const SCRATCH: &str = ".partial-";
/// Files that make a vocabulary.
const VOCABULARY: [&str; 6] = [
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
];

/// The folder of a run, locked while it lives.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    _lock: File,
}

impl Run {
    /// Makes or opens a run's folder and removes what a process that was killed left half done.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Busy`].
    pub fn open(path: &Path) -> Result<Run, CheckpointError> {
        let failed = |source| CheckpointError::Io { path: path.to_owned(), source };
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(failed)?;
        let lock = File::create(path.join(".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Busy { path: path.to_owned() }),
            // A file system without locks is no reason to refuse work.
            Err(TryLockError::Error(_)) => {}
        }
        for entry in std::fs::read_dir(&checkpoints).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                std::fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(Run { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the checkpoint of a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("{STEP}{step}"))
    }

    /// The folder of all checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Steps that are saved, oldest first.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn saved(&self) -> Result<Vec<u64>, CheckpointError> {
        saved(&self.checkpoints())
    }

    /// The newest checkpoint that is whole, and what is wrong with those after it.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; [`CheckpointError::Broken`] when there are some and none is whole.
    pub fn newest(&self) -> Result<Option<(Checkpoint, Vec<CheckpointError>)>, CheckpointError> {
        let mut broken = Vec::new();
        for step in self.saved()?.into_iter().rev() {
            match Checkpoint::open(&self.checkpoint(step)) {
                Ok(found) => return Ok(Some((found, broken))),
                Err(fault) => broken.push(fault),
            }
        }
        match broken.into_iter().next() {
            Some(fault) => Err(CheckpointError::Broken { path: self.checkpoints(), source: Box::new(fault) }),
            None => Ok(None),
        }
    }

    /// Removes all but the `keep` newest checkpoints up to `step`; later ones are none a run goes on from.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn prune(&self, step: u64, keep: usize) -> Result<(), CheckpointError> {
        let mut steps = self.saved()?;
        steps.retain(|&saved| saved <= step);
        steps[..steps.len().saturating_sub(keep)].iter().try_for_each(|&step| self.remove(step))
    }

    /// Removes the checkpoint of a step.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub(crate) fn remove(&self, step: u64) -> Result<(), CheckpointError> {
        let (path, scratch) = (self.checkpoint(step), self.checkpoints().join(format!("{SCRATCH}{step}")));
        // Under another name first: half a checkpoint is none.
        let removed = std::fs::rename(&path, &scratch).and_then(|()| std::fs::remove_dir_all(&scratch));
        removed.map_err(|source| CheckpointError::Io { path, source })
    }
}

/// Steps saved in a folder, oldest first; none where there is no folder.
fn saved(checkpoints: &Path) -> Result<Vec<u64>, CheckpointError> {
    let entries = match std::fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(source) => return Err(CheckpointError::Io { path: checkpoints.to_owned(), source }),
    };
    let step = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(STEP)?.parse().ok();
    let mut steps: Vec<u64> = entries.flatten().filter_map(step).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Writes the configuration and the vocabulary of a model folder.
pub(super) fn write_beside(dir: &Path, base: &Base) -> io::Result<()> {
    write_json(&dir.join("config.json"), &config_json(base)?)?;
    match &base.source {
        Source::Folder { path, .. } => {
            for name in VOCABULARY {
                if path.join(name).is_file() {
                    let bytes = std::fs::read(path.join(name))?;
                    write_atomic(&dir.join(name), |out| out.write_all(&bytes))?;
                }
            }
        }
        Source::Drawn => {
            write_atomic(&dir.join("tokenizer.model"), |out| out.write_all(TINY_MODEL))?;
            let config = json!({
                "tokenizer_class": "LlamaTokenizer", "legacy": true, "add_bos_token": true,
                "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                "clean_up_tokenization_spaces": false,
            });
            write_json(&dir.join("tokenizer_config.json"), &config)?;
        }
    }
    // A tokenizer.json keeps its marks itself, or gets them again in the same order.
    let added = dir.join("added_tokens.json");
    if dir.join("tokenizer.model").is_file() && !added.is_file() {
        let ids = base.block.marks().map(|mark| (mark.to_owned(), json!(base.tokenizer.id(mark))));
        write_json(&added, &Value::Object(ids.collect()))?;
    }
    Ok(())
}

/// A `config.json`: that of the folder the model began with, where there is one, with the sizes that may have changed.
fn config_json(base: &Base) -> io::Result<Value> {
    let mut config = match &base.source {
        Source::Folder { path, .. } => serde_json::from_slice(&std::fs::read(path.join("config.json"))?)?,
        Source::Drawn => json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "bos_token_id": base.tokenizer.bos_id(), "eos_token_id": base.tokenizer.eos_id(),
            "pad_token_id": base.tokenizer.pad_id(),
        }),
    };
    let (llama, point) = (&base.config.llama, &base.config.point);
    let around = base.block.around.clone();
    let mut sizes = json!({
        "embed_dim": point.embed_dim, "group_size": point.group_size, "input_points": point.input_points,
        "num_stages": point.num_stages, "point_dims": point.point_dims,
        "projection_hidden_dim": point.projection_hidden_dim, "n_points": point.n_points.max,
        "mm_use_point_start_end": around.is_some(), "default_point_patch_token": base.block.patch,
    });
    if let (Some((start, end)), Some((start_id, end_id))) = (around, base.vocabulary.frame) {
        sizes["default_point_start_token"] = json!(start);
        sizes["default_point_end_token"] = json!(end);
        sizes["point_token_ids"] = json!({ "patch": base.vocabulary.patch, "start": start_id, "end": end_id });
    }
    let keys = [
        ("hidden_size", json!(llama.hidden_size)),
        ("intermediate_size", json!(llama.intermediate_size)),
        ("num_hidden_layers", json!(llama.num_hidden_layers)),
        ("num_attention_heads", json!(llama.num_attention_heads)),
        ("num_key_value_heads", json!(llama.num_key_value_heads)),
        ("rms_norm_eps", json!(llama.rms_norm_eps)),
        ("rope_theta", json!(llama.rope_theta)),
        ("vocab_size", json!(llama.vocab_size)),
        ("tie_word_embeddings", json!(llama.tie_word_embeddings)),
        ("max_position_embeddings", json!(base.max_positions)),
        ("point_backbone_config", sizes),
    ];
    if let Some(object) = config.as_object_mut() {
        object.extend(keys.map(|(key, value)| (key.to_owned(), value)));
    }
    Ok(config)
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    write_atomic(path, |out| writeln!(out, "{value:#}"))
}
