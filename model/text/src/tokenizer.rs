//! Which tokenizer does a model folder hold, and what do all kinds offer alike?
//!
//! `tokenizer.model` is read with the rules of the first LLaMA releases (see `legacy.rs`), `tokenizer.json` with the
//! `tokenizers` crate. Where a folder has both, the older file wins, unless its configuration says `"legacy": false`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::hf::HfTokenizer;
use crate::legacy::Legacy;
use crate::spm::{MAX_MARK_BYTES, SpmError, SpmModel};

/// Largest tokenizer file that is read; the largest in use today are below 40 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why there is no tokenizer, or why it refuses a text.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A folder without any known file.
    #[error("no tokenizer in {}: looked for tokenizer.model and tokenizer.json; copy one of them there", dir.display())]
    NotFound {
        /// The folder.
        dir: PathBuf,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file beyond any size a tokenizer has.
    #[error("{} has {bytes} B, more than the {limit_bytes} B a tokenizer file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A SentencePiece file that cannot be used.
    #[error("cannot use {}", path.display())]
    SentencePiece {
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: SpmError,
    },
    /// A JSON file of the folder that cannot be used.
    #[error("cannot use {}: {detail}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Its fault, as the parser says it.
        detail: String,
    },
    /// A mark whose id would leave a hole in the vocabulary, or is taken.
    #[error("{} gives `{mark}` the id {id}, the next free one is {expected}", path.display())]
    AddedId {
        /// The file.
        path: PathBuf,
        /// The mark.
        mark: String,
        /// Its id in the file.
        id: u64,
        /// The id it would have to have.
        expected: usize,
    },
    /// A mark longer than any in use.
    #[error("a mark has {bytes} B, at most {MAX_MARK_BYTES} B are taken")]
    LongMark {
        /// Its length.
        bytes: usize,
    },
    /// Only `tokenizer.model` is there, and its configuration asks for rules that need `tokenizer.json`.
    #[error("{} says \"legacy\": false, but only tokenizer.model is there; add the tokenizer.json of the model", dir.display())]
    NotLegacy {
        /// The folder.
        dir: PathBuf,
    },
    /// The `tokenizers` crate refused a call.
    #[error("the tokenizer failed: {detail}")]
    Backend {
        /// What it said.
        detail: String,
    },
}

/// Turns text into token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(crate) kind: Kind,
    /// What the folder's template says before a conversation.
    pub(crate) chat_system: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Legacy(Box<Legacy>),
    Hf(Box<HfTokenizer>),
}

impl Tokenizer {
    /// Reads the tokenizer of a model folder in Hugging Face layout.
    ///
    /// Marks of `added_tokens.json` join a `tokenizer.model`; `tokenizer_config.json` names begin, end and padding.
    ///
    /// # Errors
    /// [`TokenizerError`]; a folder without a tokenizer is told what was looked for.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        let spm_path = dir.join("tokenizer.model");
        let json_path = dir.join("tokenizer.json");
        let config: FolderConfig = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let is_legacy = config.legacy.unwrap_or(true);
        if spm_path.is_file() && is_legacy {
            let mut legacy = Self::from_spm_file(&spm_path)?;
            add_listed_marks(&mut legacy, &dir.join("added_tokens.json"))?;
            let chat_system = config.chat_system();
            return Ok(Self { kind: Kind::Legacy(Box::new(legacy)), chat_system });
        }
        if json_path.is_file() {
            let mut tokenizer = Self::from_file(&json_path)?;
            tokenizer.chat_system = config.chat_system();
            let special: FolderConfig = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
            if let Kind::Hf(hf) = &mut tokenizer.kind {
                let find = |hf: &HfTokenizer, a: &Option<Mark>, b: &Option<Mark>| {
                    a.as_ref().or(b.as_ref()).and_then(|mark| hf.id(mark.text()))
                };
                hf.bos = find(hf, &config.bos_token, &special.bos_token).or(hf.bos);
                hf.eos = find(hf, &config.eos_token, &special.eos_token).or(hf.eos);
                hf.pad = find(hf, &config.pad_token, &special.pad_token).or(hf.pad);
            }
            return Ok(tokenizer);
        }
        if spm_path.is_file() {
            return Err(TokenizerError::NotLegacy { dir: dir.to_owned() });
        }
        Err(TokenizerError::NotFound { dir: dir.to_owned() })
    }

    /// Reads one file: JSON by its name ending in `.json`, anything else as a SentencePiece model.
    ///
    /// # Errors
    /// [`TokenizerError`] naming the file and its fault.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        if path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("json")) {
            let bytes = read_limited(path)?;
            let json_error = |detail| TokenizerError::Json { path: path.to_owned(), detail };
            let hf = HfTokenizer::from_bytes(&bytes).map_err(json_error)?;
            return Ok(Self { kind: Kind::Hf(Box::new(hf)), chat_system: None });
        }
        let legacy = Self::from_spm_file(path)?;
        Ok(Self { kind: Kind::Legacy(Box::new(legacy)), chat_system: None })
    }

    /// A tokenizer over a SentencePiece model already in memory.
    pub fn from_spm(model: SpmModel) -> Self {
        Self { kind: Kind::Legacy(Box::new(Legacy::new(model))), chat_system: None }
    }

    fn from_spm_file(path: &Path) -> Result<Legacy, TokenizerError> {
        let bytes = read_limited(path)?;
        let spm_error = |source| TokenizerError::SentencePiece { path: path.to_owned(), source };
        Ok(Legacy::new(SpmModel::parse(&bytes).map_err(spm_error)?))
    }

    /// The ids of `text`; marks inside the text become their ids.
    ///
    /// `add_bos` puts before it what the tokenizer's own rule says: one begin mark for LLaMA, nothing for GPT-2 kinds.
    ///
    /// # Errors
    /// [`TokenizerError::Backend`]; SentencePiece accepts every text.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, TokenizerError> {
        match &self.kind {
            Kind::Legacy(legacy) => Ok(legacy.encode(text, add_bos)),
            Kind::Hf(hf) => hf.encode(text, add_bos).map_err(backend),
        }
    }

    /// The text of `ids`; ids outside the vocabulary add nothing, broken UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Backend`]; SentencePiece accepts every list.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        match &self.kind {
            Kind::Legacy(legacy) => Ok(legacy.decode(ids, skip_special)),
            Kind::Hf(hf) => hf.decode(ids, skip_special).map_err(backend),
        }
    }

    /// The id of `mark`, which joins the end of the vocabulary unless it is there already.
    ///
    /// # Errors
    /// [`TokenizerError::LongMark`], [`TokenizerError::Backend`].
    pub fn add_mark(&mut self, mark: &str) -> Result<u32, TokenizerError> {
        check_length(mark)?;
        match &mut self.kind {
            Kind::Legacy(legacy) => Ok(legacy.add(mark)),
            Kind::Hf(hf) => hf.add(mark).map_err(backend),
        }
    }

    /// The id of a token by its exact spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.kind {
            Kind::Legacy(legacy) => legacy.id(token),
            Kind::Hf(hf) => hf.id(token),
        }
    }

    /// The spelling of a token in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.kind {
            Kind::Legacy(legacy) => legacy.token(id).map(str::to_owned),
            Kind::Hf(hf) => hf.token(id),
        }
    }

    /// Number of ids, added marks included.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Legacy(legacy) => legacy.vocab_size(),
            Kind::Hf(hf) => hf.vocab_size(),
        }
    }

    /// The mark that begins a sequence.
    pub fn bos_id(&self) -> Option<u32> {
        match &self.kind {
            Kind::Legacy(legacy) => legacy.bos,
            Kind::Hf(hf) => hf.bos,
        }
    }

    /// The mark that ends an answer.
    pub fn eos_id(&self) -> Option<u32> {
        match &self.kind {
            Kind::Legacy(legacy) => legacy.eos,
            Kind::Hf(hf) => hf.eos,
        }
    }

    /// What the folder's template says before a conversation, where that is plain text.
    pub fn chat_system(&self) -> Option<&str> {
        self.chat_system.as_deref()
    }

    /// The id batches are padded with: the unknown piece for LLaMA, else the named padding mark, else the end mark.
    pub fn pad_id(&self) -> Option<u32> {
        match &self.kind {
            Kind::Legacy(legacy) => Some(legacy.unknown()),
            Kind::Hf(hf) => hf.pad.or(hf.eos),
        }
    }
}

pub(crate) fn backend(detail: String) -> TokenizerError {
    TokenizerError::Backend { detail }
}

/// The keys of `tokenizer_config.json` and `special_tokens_map.json` that matter here.
#[derive(Default, Deserialize)]
struct FolderConfig {
    legacy: Option<bool>,
    bos_token: Option<Mark>,
    eos_token: Option<Mark>,
    pad_token: Option<Mark>,
    /// A text, or a list of them with names.
    chat_template: Option<Value>,
}

impl FolderConfig {
    /// The text a ChatML template puts before a conversation that has no system turn.
    ///
    /// The templates of SmolLM2 and Qwen2 hold it in one string; one that is put together otherwise is not understood.
    fn chat_system(&self) -> Option<String> {
        let template = match self.chat_template.as_ref()? {
            Value::String(text) => text,
            Value::Array(list) => list.iter().find(|entry| entry["name"] == "default")?["template"].as_str()?,
            _ => return None,
        };
        let (_, rest) = template.split_once("<|im_start|>system")?;
        // A line end, or Jinja's spelling of it.
        let rest = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\\n"))?;
        let (text, _) = rest.split_once("<|im_end|>")?;
        let is_plain = !text.is_empty() && !text.contains(['{', '}', '\'', '"', '\\']);
        is_plain.then(|| text.to_owned())
    }
}

/// A mark is written as a string or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Mark {
    Plain(String),
    Wrapped { content: String },
}

impl Mark {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Wrapped { content: text } => text,
        }
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let read_error = |source| TokenizerError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(read_error)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(TokenizerError::TooLarge { path: path.to_owned(), bytes, limit_bytes: MAX_FILE_BYTES });
    }
    std::fs::read(path).map_err(read_error)
}

fn check_length(mark: &str) -> Result<(), TokenizerError> {
    let bytes = mark.len();
    if bytes > MAX_MARK_BYTES { Err(TokenizerError::LongMark { bytes }) } else { Ok(()) }
}

/// The parsed file, `None` when there is none.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, TokenizerError> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_limited(path)?;
    let json_error =
        |error: serde_json::Error| TokenizerError::Json { path: path.to_owned(), detail: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(json_error)
}

fn add_listed_marks(legacy: &mut Legacy, path: &Path) -> Result<(), TokenizerError> {
    let Some(listed) = read_json::<serde_json::Map<String, Value>>(path)? else { return Ok(()) };
    let mut marks = Vec::with_capacity(listed.len());
    for (mark, id) in &listed {
        let not_id = || TokenizerError::Json { path: path.to_owned(), detail: format!("`{mark}` has no whole number") };
        marks.push((id.as_u64().ok_or_else(not_id)?, mark));
    }
    marks.sort();
    for (id, mark) in marks {
        let expected = legacy.id(mark).map_or(legacy.vocab_size(), |known| known as usize);
        if mark.is_empty() || id != expected as u64 {
            return Err(TokenizerError::AddedId { path: path.to_owned(), mark: mark.clone(), id, expected });
        }
        check_length(mark)?;
        legacy.add(mark);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_s_own_system_text_is_found() {
        let system =
            |template: Value| FolderConfig { chat_template: Some(template), ..Default::default() }.chat_system();
        let plain = "{% if x %}{{ '<|im_start|>system\nYou are kind<|im_end|>\n' }}{% endif %}";
        assert_eq!(system(plain.into()).as_deref(), Some("You are kind"));
        assert_eq!(system(plain.replace('\n', "\\n").into()).as_deref(), Some("You are kind"));
        let named = serde_json::json!([{ "name": "tool" }, { "name": "default", "template": plain }]);
        assert_eq!(system(named).as_deref(), Some("You are kind"));
        for other in ["", "{{ '<|im_start|>system\n' + text + '<|im_end|>' }}", "<|im_start|>system\nnever ended"] {
            assert_eq!(system(other.into()), None, "{other}");
        }
    }
}
