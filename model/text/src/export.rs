//! How does a vocabulary given as lists become the tokenizer files of a model folder?
//!
//! Byte-level BPE becomes `tokenizer.json`, SentencePiece `tokenizer.model`; either comes with `tokenizer_config.json`.
//! Law: what is written is read back before it is handed out; rules that are not known are refused by name.

use serde_json::{Map, Value, json};

use crate::hf::HfTokenizer;
use crate::spm::{Piece, PieceKind, SpmError, SpmModel};

/// Name of the file byte-level BPE is written to.
pub const TOKENIZER_JSON: &str = "tokenizer.json";
/// Name of the file SentencePiece is written to.
pub const TOKENIZER_MODEL: &str = "tokenizer.model";

/// Why a vocabulary has no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Text is cut in a way there are no rules for.
    #[error("text is cut by the rules `{pre}`, which are unknown; known are {}", known())]
    Pre {
        /// Their name.
        pre: String,
    },
    /// A spelling that stands twice.
    #[error("tokens {first} and {second} are both spelled `{token}`")]
    Twice {
        /// The spelling.
        token: String,
        /// One id.
        first: usize,
        /// Another.
        second: usize,
    },
    /// A kind of token there is no rule for.
    #[error("token {id} is of kind {kind}, which is unsupported")]
    Kind {
        /// The token.
        id: usize,
        /// Its kind.
        kind: u32,
    },
    /// Lists of different lengths, or an id beyond them.
    #[error("{what} does not fit {n_tokens} tokens")]
    Length {
        /// The list or mark.
        what: &'static str,
        /// Tokens there are.
        n_tokens: usize,
    },
    /// The pieces break a rule of SentencePiece.
    #[error("the pieces are no SentencePiece model")]
    Spm(#[from] SpmError),
    /// The file that was made is refused by its own reader.
    #[error("the vocabulary is no byte-level BPE: {detail}")]
    Unreadable {
        /// What the reader said.
        detail: String,
    },
}

/// A vocabulary as lists. Kinds: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// Spellings, by id.
    pub tokens: &'a [String],
    /// Kinds, by id; empty when all are normal.
    pub kinds: &'a [u32],
    /// The mark that begins a sequence.
    pub bos: Option<u32>,
    /// The mark that ends an answer.
    pub eos: Option<u32>,
    /// Stands for what cannot be spelled.
    pub unknown: Option<u32>,
    /// Fills rows of a batch.
    pub padding: Option<u32>,
    /// Whether a sequence begins with `bos`; the rules' own default where it is not stated.
    pub add_bos: Option<bool>,
    /// The template of conversations, in Jinja.
    pub chat_template: Option<&'a str>,
}

/// Cuts for byte-level BPE.
struct Pre {
    names: &'static [&'static str],
    /// Cuts text before bytes are mapped; the regular expression of GPT-2 where there is none.
    split: Option<&'static str>,
    single_digits: bool,
    add_bos: bool,
    /// Whether a word of the vocabulary is taken whole without merging.
    ignore_merges: bool,
}

/// **Source** the `tokenizer.json` files of GPT-2, SmolLM2 and StarCoder, LLaMA 3 and Qwen2; names as in llama.cpp.
const PRES: [Pre; 4] = [
    Pre { names: &["gpt-2"], split: None, single_digits: false, add_bos: false, ignore_merges: false },
    Pre {
        names: &["smollm", "starcoder", "refact"],
        split: None,
        single_digits: true,
        add_bos: false,
        ignore_merges: false,
    },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3"],
        split: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        single_digits: false,
        add_bos: true,
        ignore_merges: true,
    },
    Pre {
        names: &["qwen2"],
        split: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        single_digits: false,
        add_bos: false,
        ignore_merges: false,
    },
];

fn known() -> String {
    PRES.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", ")
}

/// The bytes of a `tokenizer.json` for byte-level BPE whose text is cut by the rules called `pre`.
///
/// # Errors
/// [`ExportError`].
pub fn bpe_json(vocabulary: &Vocabulary<'_>, merges: &[String], pre: &str) -> Result<Vec<u8>, ExportError> {
    let unknown_pre = || ExportError::Pre { pre: pre.to_owned() };
    let rules = PRES.iter().find(|rules| rules.names.contains(&pre)).ok_or_else(unknown_pre)?;
    let tokens = vocabulary.tokens;
    let mut ids = Map::with_capacity(tokens.len());
    let mut added = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(first) = ids.insert(token.clone(), json!(id)) {
            let first = first.as_u64().unwrap_or(0) as usize;
            return Err(ExportError::Twice { token: token.clone(), first, second: id });
        }
        let is_special = match kind(vocabulary, id)? {
            1 | 5 => continue,
            2 | 3 => true,
            4 => false,
            kind => return Err(ExportError::Kind { id, kind }),
        };
        added.push(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": is_special,
        }));
    }
    let use_regex = rules.split.is_none();
    let mut cuts = Vec::new();
    if rules.single_digits {
        cuts.push(json!({ "type": "Digits", "individual_digits": true }));
    }
    if let Some(regex) = rules.split {
        cuts.push(json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false }));
    }
    cuts.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex,
    }));
    let begin = if vocabulary.add_bos.unwrap_or(rules.add_bos) { spelled(vocabulary, vocabulary.bos)? } else { None };
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": cuts },
        "post_processor": begin.map(|token| begins_with(token, vocabulary.bos)),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": rules.ignore_merges, "vocab": ids, "merges": merges,
        },
    });
    let bytes = file.to_string().into_bytes();
    HfTokenizer::from_bytes(&bytes).map_err(|detail| ExportError::Unreadable { detail })?;
    Ok(bytes)
}

/// A rule that puts one mark before every text.
fn begins_with(token: &str, id: Option<u32>) -> Value {
    let mark = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    json!({
        "type": "TemplateProcessing",
        "single": [mark, text("A", 0)],
        "pair": [mark, text("A", 0), mark, text("B", 1)],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    })
}

/// The bytes of a `tokenizer.model` with LLaMA's settings.
///
/// # Errors
/// [`ExportError`].
pub fn spm_model(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Result<Vec<u8>, ExportError> {
    let n_tokens = vocabulary.tokens.len();
    if scores.len() != n_tokens {
        return Err(ExportError::Length { what: "the list of scores", n_tokens });
    }
    let mut pieces = Vec::with_capacity(n_tokens);
    for (id, (text, &score)) in vocabulary.tokens.iter().zip(scores).enumerate() {
        let kind = match kind(vocabulary, id)? {
            1 => PieceKind::Normal,
            2 => PieceKind::Unknown,
            3 => PieceKind::Control,
            4 => PieceKind::UserDefined,
            6 => PieceKind::Byte,
            kind => return Err(ExportError::Kind { id, kind }),
        };
        if text.is_empty() || score.is_nan() {
            return Err(SpmError::Piece { id, what: "has no text or no score" }.into());
        }
        pieces.push(Piece { text: text.clone(), score, kind });
    }
    Ok(SpmModel::llama(pieces)?.to_bytes())
}

/// The `tokenizer_config.json` beside either file.
///
/// # Errors
/// [`ExportError::Length`] for a mark that is no token.
pub fn tokenizer_config(vocabulary: &Vocabulary<'_>, file: &str) -> Result<Value, ExportError> {
    let class = if file == TOKENIZER_MODEL { "LlamaTokenizer" } else { "PreTrainedTokenizerFast" };
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!(class));
    let marks = [
        ("bos_token", vocabulary.bos),
        ("eos_token", vocabulary.eos),
        ("unk_token", vocabulary.unknown),
        ("pad_token", vocabulary.padding),
    ];
    for (key, id) in marks {
        if let Some(token) = spelled(vocabulary, id)? {
            config.insert(key.to_owned(), json!(token));
        }
    }
    if file == TOKENIZER_MODEL {
        config.insert("legacy".to_owned(), json!(true));
    }
    if let Some(add_bos) = vocabulary.add_bos {
        config.insert("add_bos_token".to_owned(), json!(add_bos));
    }
    if let Some(template) = vocabulary.chat_template {
        config.insert("chat_template".to_owned(), json!(template));
    }
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    Ok(Value::Object(config))
}

fn kind(vocabulary: &Vocabulary<'_>, id: usize) -> Result<u32, ExportError> {
    let n_tokens = vocabulary.tokens.len();
    match vocabulary.kinds {
        [] => Ok(1),
        kinds => kinds.get(id).copied().ok_or(ExportError::Length { what: "the list of kinds", n_tokens }),
    }
}

/// The spelling of a mark, `None` for no mark.
fn spelled<'a>(vocabulary: &Vocabulary<'a>, id: Option<u32>) -> Result<Option<&'a str>, ExportError> {
    let n_tokens = vocabulary.tokens.len();
    let Some(id) = id else { return Ok(None) };
    let token = vocabulary.tokens.get(id as usize).ok_or(ExportError::Length { what: "a mark", n_tokens })?;
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Kind;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn vocabulary<'a>(tokens: &'a [String], kinds: &'a [u32]) -> Vocabulary<'a> {
        Vocabulary {
            tokens,
            kinds,
            bos: Some(0),
            eos: None,
            unknown: None,
            padding: None,
            add_bos: Some(true),
            chat_template: None,
        }
    }

    #[test]
    fn byte_level_vocabularies_cut_and_begin_as_told() {
        let tokens = strings(&["<s>", "a", "b", "1", "2", "Ġ", "ab", "Ġab", "12"]);
        let merges = strings(&["a b", "Ġ ab", "1 2"]);
        let v = vocabulary(&tokens, &[3, 1, 1, 1, 1, 1, 1, 1, 1]);
        let ids = |pre: &str| {
            let hf = HfTokenizer::from_bytes(&bpe_json(&v, &merges, pre).unwrap()).unwrap();
            let tokenizer = crate::Tokenizer { kind: Kind::Hf(Box::new(hf)), chat_system: None };
            assert_eq!(tokenizer.decode(&tokenizer.encode("ab ab<s>12", false).unwrap(), true).unwrap(), "ab ab12");
            tokenizer.encode("ab ab<s>12", true).unwrap()
        };
        assert_eq!(ids("gpt-2"), [0, 6, 7, 0, 8]);
        assert_eq!(ids("smollm"), [0, 6, 7, 0, 3, 4], "digits stand alone");
        assert!(matches!(bpe_json(&v, &merges, "default"), Err(ExportError::Pre { .. })));
        let twice = strings(&["a", "a"]);
        assert!(matches!(bpe_json(&vocabulary(&twice, &[]), &[], "gpt-2"), Err(ExportError::Twice { .. })));
        assert!(matches!(bpe_json(&v, &strings(&["x y"]), "gpt-2"), Err(ExportError::Unreadable { .. })));
        assert!(matches!(bpe_json(&vocabulary(&tokens, &[1]), &[], "gpt-2"), Err(ExportError::Length { .. })));
    }

    #[test]
    fn pieces_without_text_or_of_unknown_kind_are_refused() {
        let tokens = strings(&["<unk>", ""]);
        assert!(matches!(spm_model(&vocabulary(&tokens, &[2, 1]), &[0.0, 0.0]), Err(ExportError::Spm(_))));
        assert!(matches!(spm_model(&vocabulary(&tokens, &[2, 5]), &[0.0, 0.0]), Err(ExportError::Kind { .. })));
        assert!(matches!(spm_model(&vocabulary(&tokens, &[2, 1]), &[0.0]), Err(ExportError::Length { .. })));
    }
}
