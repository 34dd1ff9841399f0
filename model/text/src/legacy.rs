//! How does the LLaMA tokenizer of the first releases treat marks such as `</s>` and `<point_end>` inside a text?
//!
//! Text is cut at every mark, leftmost and longest first; marks added after training swallow the white space around
//! them, the built-in ones do not; each remaining chunk is encoded on its own, with its own dummy prefix.
//! **Source** the slow `LlamaTokenizer` of transformers 4.28.1, whose ids released ENEL and Vicuna v1.1 were trained on.

use std::collections::HashMap;

use crate::spm::{PieceKind, SPACE, SpmModel, parse_byte};

/// A SentencePiece model together with the marks that are never cut.
#[derive(Clone, Debug)]
pub(crate) struct Legacy {
    model: SpmModel,
    /// Added marks; the first has id `model.pieces().len()`.
    added: Vec<String>,
    marks: HashMap<String, u32>,
    longest_mark_bytes: usize,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

/// A stretch of the text, with what it is.
enum Chunk<'t> {
    Text(&'t str),
    Mark(u32),
}

impl Legacy {
    pub(crate) fn new(model: SpmModel) -> Self {
        let bos = model.id("<s>");
        let eos = model.id("</s>");
        let mut legacy = Self { added: Vec::new(), marks: HashMap::new(), longest_mark_bytes: 0, bos, eos, model };
        let built_in = [Some(legacy.model.unknown()), bos, eos];
        for id in built_in.into_iter().flatten() {
            legacy.insert_mark(legacy.model.pieces()[id as usize].text.clone(), id);
        }
        legacy
    }

    /// The id of `mark`, which is added at the end of the vocabulary unless it is there.
    pub(crate) fn add(&mut self, mark: &str) -> u32 {
        let known = self.id(mark);
        let id = known.unwrap_or(self.vocab_size() as u32);
        if known.is_none() {
            self.added.push(mark.to_owned());
        }
        self.insert_mark(mark.to_owned(), id);
        id
    }

    fn insert_mark(&mut self, mark: String, id: u32) {
        self.longest_mark_bytes = self.longest_mark_bytes.max(mark.len());
        self.marks.insert(mark, id);
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.model.pieces().len() + self.added.len()
    }

    pub(crate) fn unknown(&self) -> u32 {
        self.model.unknown()
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.marks.get(token).copied().or_else(|| self.model.id(token))
    }

    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        let index = id as usize;
        let n_pieces = self.model.pieces().len();
        match self.model.pieces().get(index) {
            Some(piece) => Some(&piece.text),
            None => self.added.get(index - n_pieces).map(String::as_str),
        }
    }

    pub(crate) fn encode(&self, text: &str, add_bos: bool) -> Vec<u32> {
        let mut ids: Vec<u32> = if add_bos { self.bos.into_iter().collect() } else { Vec::new() };
        let chunks = self.chunks(text);
        for (index, chunk) in chunks.iter().enumerate() {
            match chunk {
                Chunk::Mark(id) => ids.push(*id),
                Chunk::Text(text) => {
                    let before = index.checked_sub(1).and_then(|i| chunks.get(i));
                    let after = chunks.get(index + 1);
                    let mut text = *text;
                    if before.is_some_and(|c| self.strips(c)) {
                        text = text.trim_start_matches(is_python_space);
                    }
                    if after.is_some_and(|c| self.strips(c)) {
                        text = text.trim_end_matches(is_python_space);
                    }
                    ids.extend(self.model.encode(text));
                }
            }
        }
        ids
    }

    fn strips(&self, chunk: &Chunk<'_>) -> bool {
        match chunk {
            Chunk::Mark(id) => !self.is_special(*id),
            Chunk::Text(_) => false,
        }
    }

    /// Whether `id` is one of the built-in marks, which decoding can leave out.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        id == self.model.unknown() || Some(id) == self.bos || Some(id) == self.eos
    }

    fn chunks<'t>(&self, text: &'t str) -> Vec<Chunk<'t>> {
        let mut chunks = Vec::new();
        let mut text_start = 0;
        let mut at = 0;
        while at < text.len() {
            match self.mark_at(&text[at..]) {
                Some((len, id)) => {
                    if text_start < at {
                        chunks.push(Chunk::Text(&text[text_start..at]));
                    }
                    chunks.push(Chunk::Mark(id));
                    at += len;
                    text_start = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        if text_start < text.len() {
            chunks.push(Chunk::Text(&text[text_start..]));
        }
        chunks
    }

    fn mark_at(&self, text: &str) -> Option<(usize, u32)> {
        let longest = self.longest_mark_bytes.min(text.len());
        (1..=longest).rev().find_map(|len| {
            let id = self.marks.get(text.get(..len)?)?;
            Some((len, *id))
        })
    }

    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        if skip_special {
            let mut decoder = LegacyDecoder::default();
            let mut out = String::new();
            ids.iter().for_each(|&id| decoder.push(self, id, &mut out));
            decoder.finish(&mut out);
            return out;
        }
        self.decode_with_specials(ids)
    }

    /// Decoding that spells the built-in marks out.
    ///
    /// A text that a mark follows gets a space in front when it, or nothing, stands after another token: the
    /// reference writes the separator before the text it has gathered, not before the mark.
    fn decode_with_specials(&self, ids: &[u32]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut runs: Vec<&[u32]> = Vec::new();
        let is_added = |id: u32| id as usize >= self.model.pieces().len();
        // Runs of vocabulary tokens alternate with added marks; all of them are joined by one space.
        for run in ids.chunk_by(|&a, &b| !is_added(a) && !is_added(b)) {
            runs.push(run);
        }
        for run in runs {
            match run {
                [id] if is_added(*id) => parts.extend(self.token(*id).map(str::to_owned)),
                _ => parts.push(self.decode_run(run)),
            }
        }
        parts.join(" ")
    }

    fn decode_run(&self, run: &[u32]) -> String {
        let mut out = String::new();
        let mut after_special = false;
        let mut text_start = 0;
        for (index, &id) in run.iter().enumerate() {
            if !self.is_special(id) {
                after_special = false;
                continue;
            }
            if !after_special && index != 0 {
                out.push(' ');
            }
            out.push_str(&self.decode(&run[text_start..index], true));
            out.push_str(self.token(id).unwrap_or_default());
            after_special = true;
            text_start = index + 1;
        }
        out.push_str(&self.decode(&run[text_start..], true));
        out
    }
}

/// What has to be remembered between two tokens while text is put together; special marks are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct LegacyDecoder {
    /// Bytes of byte pieces that do not make a character yet.
    bytes: Vec<u8>,
    /// Whether the current run has shown a token that ends the hunt for the dummy prefix.
    started: bool,
    run: Run,
}

/// What the last tokens were, for the space between texts and added marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Run {
    #[default]
    Nothing,
    Text,
    AddedMark,
}

impl LegacyDecoder {
    pub(crate) fn push(&mut self, legacy: &Legacy, id: u32, out: &mut String) {
        if legacy.is_special(id) {
            return;
        }
        let Some(piece) = legacy.model.pieces().get(id as usize) else {
            if let Some(mark) = legacy.token(id) {
                self.enter(Run::AddedMark, out);
                out.push_str(mark);
            }
            return;
        };
        self.enter(Run::Text, out);
        match piece.kind {
            PieceKind::Byte => {
                self.bytes.extend(parse_byte(&piece.text));
                self.started = true;
                self.flush_characters(out);
            }
            PieceKind::Control => self.flush_invalid(out),
            PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unknown => {
                self.flush_invalid(out);
                let text = self.strip_prefix(&legacy.model, &piece.text);
                out.extend(text.chars().map(|c| if c == SPACE { ' ' } else { c }));
            }
        }
    }

    pub(crate) fn finish(&mut self, out: &mut String) {
        self.flush_invalid(out);
        *self = Self::default();
    }

    fn enter(&mut self, run: Run, out: &mut String) {
        let is_new_part = self.run != run || run == Run::AddedMark;
        if !is_new_part {
            return;
        }
        self.flush_invalid(out);
        if self.run != Run::Nothing {
            out.push(' ');
        }
        self.started = false;
        self.run = run;
    }

    fn strip_prefix<'p>(&mut self, model: &SpmModel, piece: &'p str) -> &'p str {
        if self.started || !model.drops_leading_space() {
            self.started = true;
            return piece;
        }
        let rest = piece.strip_prefix(SPACE).unwrap_or(piece);
        self.started = !(rest.is_empty() && model.drops_all_leading_spaces());
        rest
    }

    /// Writes every complete character; a byte that can start none becomes U+FFFD.
    fn flush_characters(&mut self, out: &mut String) {
        while !self.bytes.is_empty() {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    out.push_str(text);
                    self.bytes.clear();
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
                    self.bytes.drain(..valid);
                    if error.error_len().is_none() {
                        return;
                    }
                    // One mark per byte: the reference gives each byte of a broken character its own.
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.bytes.remove(0);
                }
            }
        }
    }

    fn flush_invalid(&mut self, out: &mut String) {
        self.flush_characters(out);
        while !self.bytes.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.bytes.remove(0);
            self.flush_characters(out);
        }
    }
}

/// White space as Python's `str.strip` sees it: Unicode white space and the four separators U+001C to U+001F.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
