//! Does this crate turn recorded conversations into the recorded ids, labels and texts?
//!
//! Reads files `h_*.json` of a folder of golden values; everything is computed from the inputs in them. A tokenizer
//! called NAME is `tokenizer_NAME.model` beside the file, or, for `llama`, the cached or fetched vocabulary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::chat::{self, Example, Message, PointBlock, Template};
use crate::fetch;
use crate::stream::DecodeStream;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Length limit of the released training recipe.
const MAX_TOKENS: usize = 2048;

/// The result of one comparison; all are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Equal.
    Ok,
    /// Different: where and how.
    Fail(String),
    /// Not compared, and why.
    Unsupported(String),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// File stem, such as `h_chat`.
    pub case: String,
    /// Section, conversation, tokenizer and value, such as `conversations.brief.tiny.labels`.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a folder cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The folder or a file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not in the format.
    #[error("{} is not a golden file of conversations: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        detail: String,
    },
    /// A tokenizer file of the folder cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Whether the LLaMA vocabulary may be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Only the cache is looked at.
    Off,
    /// The package registry is asked when the cache is empty.
    Allowed,
}

#[derive(Deserialize)]
struct File {
    point_backbone_config: PointConfig,
    point_token_ids: BTreeMap<String, BTreeMap<String, u32>>,
    #[serde(default)]
    conversations: BTreeMap<String, Conversation>,
    #[serde(default)]
    batch: BTreeMap<String, BatchCase>,
    #[serde(default)]
    truncated: BTreeMap<String, BTreeMap<String, Truncated>>,
    #[serde(default)]
    inference: BTreeMap<String, Inference>,
    #[serde(default)]
    plain_text: BTreeMap<String, BTreeMap<String, Plain>>,
}

#[derive(Deserialize)]
struct PointConfig {
    point_token_len: usize,
    default_point_patch_token: String,
    #[serde(default)]
    mm_use_point_start_end: bool,
    default_point_start_token: Option<String>,
    default_point_end_token: Option<String>,
}

#[derive(Deserialize)]
struct Conversation {
    annotation: Vec<Message>,
    prompt: String,
    #[serde(flatten)]
    by_tokenizer: BTreeMap<String, Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
    warning: Option<String>,
}

#[derive(Deserialize)]
struct BatchCase {
    names: Vec<String>,
    input_ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    attention_mask: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct Truncated {
    model_max_length: usize,
    input_ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
}

#[derive(Deserialize)]
struct Inference {
    question: String,
    prompt: String,
    #[serde(flatten)]
    by_tokenizer: BTreeMap<String, Vec<u32>>,
}

#[derive(Deserialize)]
struct Plain {
    ids: Vec<u32>,
    decoded: String,
    decoded_with_specials: String,
}

/// Checks every `h_*.json` of `dir`, in the order of their names; a folder without one gives no rows.
///
/// # Errors
/// [`GoldenError`] for files that cannot be read; differences are rows.
pub fn check_chat(dir: &Path, cache_dir: &Path, network: Network) -> Result<Vec<Row>, GoldenError> {
    let mut rows = Vec::new();
    for path in case_files(dir)? {
        let case = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let read = |source| GoldenError::Read { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(read)?;
        let format = |error: serde_json::Error| GoldenError::Format { path: path.clone(), detail: error.to_string() };
        let file: File = serde_json::from_slice(&bytes).map_err(format)?;
        for (name, ids) in &file.point_token_ids {
            let mut check = Check { case: &case, tokenizer_name: name, file: &file, rows: &mut rows };
            match find_tokenizer(dir, name, cache_dir, network)? {
                Ok(tokenizer) => check.run(tokenizer, ids)?,
                Err(reason) => check.push("all", Outcome::Unsupported(reason)),
            }
        }
    }
    Ok(rows)
}

fn case_files(dir: &Path) -> Result<Vec<PathBuf>, GoldenError> {
    let read = |source| GoldenError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("h_") && name.ends_with(".json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The tokenizer, or the reason why there is none.
fn find_tokenizer(
    dir: &Path,
    name: &str,
    cache_dir: &Path,
    network: Network,
) -> Result<Result<Tokenizer, String>, GoldenError> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let beside = dir.join(format!("tokenizer_{name}.model"));
    if is_plain && beside.is_file() {
        return Ok(Ok(Tokenizer::from_file(&beside)?));
    }
    if name != "llama" {
        return Ok(Err(format!("there is no {}", beside.display())));
    }
    let found = match network {
        Network::Allowed => fetch::fetch_llama_tokenizer(cache_dir).map(Some),
        Network::Off => fetch::cached_llama_tokenizer(cache_dir),
    };
    Ok(match found {
        Ok(Some(path)) => Ok(Tokenizer::from_file(&path)?),
        Ok(None) => Err("the LLaMA vocabulary is not in the cache".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

struct Check<'a> {
    case: &'a str,
    tokenizer_name: &'a str,
    file: &'a File,
    rows: &'a mut Vec<Row>,
}

impl Check<'_> {
    fn push(&mut self, name: &str, outcome: Outcome) {
        let name = format!("{name}.{}", self.tokenizer_name);
        self.rows.push(Row { case: self.case.to_owned(), name, outcome });
    }

    fn run(&mut self, mut tokenizer: Tokenizer, ids: &BTreeMap<String, u32>) -> Result<(), TokenizerError> {
        let block = block_of(&self.file.point_backbone_config);
        block.add_to(&mut tokenizer)?;
        for (mark, &id) in ids {
            let found = tokenizer.id(mark);
            self.push(&format!("point_token_ids.{mark}"), equal(&found, &Some(id)));
        }
        self.conversations(&tokenizer, &block);
        self.batches(&tokenizer, &block);
        self.truncated(&tokenizer, &block);
        self.inference(&tokenizer, &block);
        self.plain(&tokenizer)
    }

    fn example(&self, tokenizer: &Tokenizer, block: &PointBlock, name: &str, max: usize) -> Result<Example, String> {
        let conversation = self.file.conversations.get(name).ok_or(format!("no conversation is called `{name}`"))?;
        chat::example(tokenizer, &Template::vicuna(), block, &conversation.annotation, max).map_err(|e| e.to_string())
    }

    fn conversations(&mut self, tokenizer: &Tokenizer, block: &PointBlock) {
        for (name, conversation) in &self.file.conversations {
            let Some(expected) = conversation.by_tokenizer.get(self.tokenizer_name) else { continue };
            let base = format!("conversations.{name}");
            let example = match self.example(tokenizer, block, name, MAX_TOKENS) {
                Ok(example) => example,
                Err(detail) => {
                    self.push(&base, Outcome::Fail(detail));
                    continue;
                }
            };
            self.push(&format!("{base}.prompt"), equal(&example.prompt, &conversation.prompt));
            self.push(&format!("{base}.input_ids"), equal_list(&example.input_ids, &expected.input_ids));
            self.push(&format!("{base}.labels"), equal_list(&example.labels, &expected.labels));
            let warning = example
                .mismatch
                .map(|m| format!("WARNING: tokenization mismatch: {} vs. {}. (ignored)", m.by_turns, m.whole));
            self.push(&format!("{base}.warning"), equal(&warning, &expected.warning));
        }
    }

    fn batches(&mut self, tokenizer: &Tokenizer, block: &PointBlock) {
        let Some(expected) = self.file.batch.get(self.tokenizer_name) else { return };
        let examples: Result<Vec<Example>, String> =
            expected.names.iter().map(|name| self.example(tokenizer, block, name, MAX_TOKENS)).collect();
        let examples = match examples {
            Ok(examples) => examples,
            Err(detail) => return self.push("batch", Outcome::Fail(detail)),
        };
        let rows = examples.iter().map(|e| (e.input_ids.as_slice(), e.labels.as_slice()));
        let batch = chat::pad_right(rows, tokenizer.pad_id().unwrap_or(0));
        self.push("batch.input_ids", equal_rows(&batch.input_ids, batch.n_cols, &expected.input_ids));
        self.push("batch.labels", equal_rows(&batch.labels, batch.n_cols, &expected.labels));
        self.push("batch.attention_mask", equal_rows(&batch.attention_mask, batch.n_cols, &expected.attention_mask));
    }

    fn truncated(&mut self, tokenizer: &Tokenizer, block: &PointBlock) {
        let Some(cases) = self.file.truncated.get(self.tokenizer_name) else { return };
        for (name, expected) in cases {
            match self.example(tokenizer, block, name, expected.model_max_length) {
                Ok(example) => {
                    let n_cols = example.input_ids.len();
                    let ids = equal_rows(&example.input_ids, n_cols, &expected.input_ids);
                    self.push(&format!("truncated.{name}.input_ids"), ids);
                    let labels = equal_rows(&example.labels, n_cols, &expected.labels);
                    self.push(&format!("truncated.{name}.labels"), labels);
                }
                Err(detail) => self.push(&format!("truncated.{name}"), Outcome::Fail(detail)),
            }
        }
    }

    fn inference(&mut self, tokenizer: &Tokenizer, block: &PointBlock) {
        for (name, expected) in &self.file.inference {
            let Some(ids) = expected.by_tokenizer.get(self.tokenizer_name) else { continue };
            let turns = [Message::human(&expected.question)];
            match chat::generation(tokenizer, &Template::vicuna(), Some(block), &turns) {
                Ok(prompt) => {
                    self.push(&format!("inference.{name}.prompt"), equal(&prompt.text, &expected.prompt));
                    self.push(&format!("inference.{name}.input_ids"), equal_list(&prompt.ids, ids));
                }
                Err(error) => self.push(&format!("inference.{name}"), Outcome::Fail(error.to_string())),
            }
        }
    }

    fn plain(&mut self, tokenizer: &Tokenizer) -> Result<(), TokenizerError> {
        for (text, by_tokenizer) in &self.file.plain_text {
            let Some(expected) = by_tokenizer.get(self.tokenizer_name) else { continue };
            let base = format!("plain_text.{text:?}");
            self.push(&format!("{base}.ids"), equal_list(&tokenizer.encode(text, true)?, &expected.ids));
            let decoded = tokenizer.decode(&expected.ids, true)?;
            self.push(&format!("{base}.decoded"), equal(&decoded, &expected.decoded));
            let with_specials = tokenizer.decode(&expected.ids, false)?;
            self.push(&format!("{base}.decoded_with_specials"), equal(&with_specials, &expected.decoded_with_specials));
            let mut stream = DecodeStream::new(tokenizer);
            let mut streamed = String::new();
            for &id in &expected.ids {
                streamed.push_str(&stream.push(id)?);
            }
            streamed.push_str(&stream.finish()?);
            self.push(&format!("{base}.streamed"), equal(&streamed, &expected.decoded));
        }
        Ok(())
    }
}

fn block_of(config: &PointConfig) -> PointBlock {
    let around =
        match (config.mm_use_point_start_end, &config.default_point_start_token, &config.default_point_end_token) {
            (true, Some(start), Some(end)) => Some((start.clone(), end.clone())),
            _ => None,
        };
    PointBlock { n_patches: config.point_token_len, patch: config.default_point_patch_token.clone(), around }
}

fn equal<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Outcome {
    if found == expected { Outcome::Ok } else { Outcome::Fail(format!("got {found:?}, expected {expected:?}")) }
}

fn equal_list<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T]) -> Outcome {
    if found == expected {
        return Outcome::Ok;
    }
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (got, wanted) = (found.get(at), expected.get(at));
    let (n_got, n_wanted) = (found.len(), expected.len());
    Outcome::Fail(format!("index {at}: got {got:?}, expected {wanted:?} (lengths {n_got} and {n_wanted})"))
}

/// `found` is `[rows, n_cols]` in one piece.
fn equal_rows<T: PartialEq + std::fmt::Debug>(found: &[T], n_cols: usize, expected: &[Vec<T>]) -> Outcome {
    let n_rows = found.len().checked_div(n_cols).unwrap_or(0);
    if n_rows != expected.len() {
        return Outcome::Fail(format!("got {n_rows} rows, expected {}", expected.len()));
    }
    let differing = found.chunks(n_cols.max(1)).zip(expected).enumerate().find_map(|(row, (found, expected))| {
        match equal_list(found, expected) {
            Outcome::Fail(detail) => Some(format!("row {row}, {detail}")),
            Outcome::Ok | Outcome::Unsupported(_) => None,
        }
    });
    differing.map_or(Outcome::Ok, Outcome::Fail)
}
