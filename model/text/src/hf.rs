//! How is a Hugging Face `tokenizer.json` read and used?
//!
//! A thin wrap of the `tokenizers` crate, built without C code. Its errors become text at this edge, and so do its
//! panics: version 0.23 unwraps parts of a file it has not checked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::IgnoredAny;
use tokenizers::AddedToken;

/// A tokenizer of the `tokenizers` crate.
#[derive(Clone, Debug)]
pub(crate) struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
}

impl HfTokenizer {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        // Broken JSON is found here, before the crate can stumble over it.
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| error.to_string())?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes))?;
        // Cutting and padding belong to the batch, not to the file.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        Ok(Self { inner, bos: None, eos: None, pad: None })
    }

    pub(crate) fn add(&mut self, mark: &str) -> Result<u32, String> {
        self.inner.add_special_tokens([AddedToken::from(mark, true)]).map_err(|error| error.to_string())?;
        self.id(mark).ok_or_else(|| format!("the mark `{mark}` has no id"))
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub(crate) fn encode(&self, text: &str, add_specials: bool) -> Result<Vec<u32>, String> {
        let encoding = guarded(|| self.inner.encode_fast(text, add_specials))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        guarded(|| self.inner.decode(ids, skip_special))
    }
}

/// Runs a call of the crate that only reads what it is given, so a panic leaves nothing half-changed behind.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the `tokenizers` crate panicked: the file is not what it expects".to_owned()),
    }
}
