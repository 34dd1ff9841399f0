//! How is text shown while its tokens are still being made?
//!
//! Law: the pieces a stream hands out, put together, are what [`Tokenizer::decode`] gives for all ids at once with
//! special marks left out. Bytes that may still become a character are held back.

use crate::legacy::LegacyDecoder;
use crate::tokenizer::{Kind, Tokenizer, TokenizerError, backend};

/// Decodes token by token.
#[derive(Clone, Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Legacy(LegacyDecoder),
    /// Ids whose text may depend on one another: those of the last text handed out, and those held back after it.
    Window {
        ids: Vec<u32>,
        n_shown: usize,
    },
}

impl<'t> DecodeStream<'t> {
    /// A stream at its beginning.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        let state = match &tokenizer.kind {
            Kind::Legacy(_) => State::Legacy(LegacyDecoder::default()),
            Kind::Hf(_) => State::Window { ids: Vec::new(), n_shown: 0 },
        };
        Self { tokenizer, state }
    }

    /// Takes the next id and gives the text that is now certain, often none.
    ///
    /// # Errors
    /// [`TokenizerError::Backend`].
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        match (&mut self.state, &self.tokenizer.kind) {
            (State::Legacy(decoder), Kind::Legacy(legacy)) => {
                let mut out = String::new();
                decoder.push(legacy, id, &mut out);
                Ok(out)
            }
            (State::Window { ids, n_shown }, Kind::Hf(hf)) => {
                ids.push(id);
                let shown = hf.decode(&ids[..*n_shown], true).map_err(backend)?;
                let all = hf.decode(ids, true).map_err(backend)?;
                let is_certain = all.len() > shown.len() && !all.ends_with(char::REPLACEMENT_CHARACTER);
                let Some(new) = all.strip_prefix(shown.as_str()).filter(|_| is_certain) else {
                    return Ok(String::new());
                };
                ids.drain(..*n_shown);
                *n_shown = ids.len();
                Ok(new.to_owned())
            }
            // `new` pairs them and nothing changes either.
            (State::Legacy(_), Kind::Hf(_)) | (State::Window { .. }, Kind::Legacy(_)) => Ok(String::new()),
        }
    }

    /// Ends the stream: what was held back comes out as it stands.
    ///
    /// # Errors
    /// [`TokenizerError::Backend`].
    pub fn finish(self) -> Result<String, TokenizerError> {
        match (self.state, &self.tokenizer.kind) {
            (State::Legacy(mut decoder), Kind::Legacy(_)) => {
                let mut out = String::new();
                decoder.finish(&mut out);
                Ok(out)
            }
            (State::Window { ids, n_shown }, Kind::Hf(hf)) => {
                let shown = hf.decode(&ids[..n_shown], true).map_err(backend)?;
                let all = hf.decode(&ids, true).map_err(backend)?;
                Ok(all.strip_prefix(shown.as_str()).unwrap_or_default().to_owned())
            }
            (State::Legacy(_), Kind::Hf(_)) | (State::Window { .. }, Kind::Legacy(_)) => Ok(String::new()),
        }
    }
}
