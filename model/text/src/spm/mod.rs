//! What is a SentencePiece BPE model, and which pieces does a text become under it?
//!
//! Reads `tokenizer.model`: BPE merges by score, byte fallback, dummy prefix, identity normaliser (the LLaMA settings).
//! Law: ids equal those of the reference library; what it does differently (unigram, character maps) is refused by name.

mod merge;
mod wire;

use std::collections::HashMap;

use wire::{Field, Reader, WireError, Writer};

/// The visible space of the piece table, U+2581.
pub const SPACE: char = '\u{2581}';

/// How a piece takes part in encoding and decoding; numbers are those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// Text, made by merges.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Marks such as begin and end of sequence; never produced from text.
    Control = 3,
    /// Text that is never split.
    UserDefined = 4,
    /// One raw byte, spelled `<0xAB>`.
    Byte = 6,
}

/// One row of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its text, spaces as [`SPACE`].
    pub text: String,
    /// Merges with the highest score happen first.
    pub score: f32,
    /// Its part in encoding and decoding.
    pub kind: PieceKind,
}

/// Why bytes are not a usable SentencePiece model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpmError {
    /// Not the protocol buffer format, or cut.
    #[error("not a SentencePiece model: {what} at byte {offset}")]
    Malformed {
        /// Byte offset inside the message concerned.
        offset: usize,
        /// What was found there.
        what: &'static str,
    },
    /// A piece breaks a rule of the table.
    #[error("piece {id} of the SentencePiece model {what}")]
    Piece {
        /// Its index.
        id: usize,
        /// The rule.
        what: &'static str,
    },
    /// The model has no pieces.
    #[error("the SentencePiece model holds no pieces")]
    Empty,
    /// The model has no unknown piece.
    #[error("the SentencePiece model has no piece of kind `unknown`")]
    NoUnknown,
    /// The model asks for byte fallback without the byte pieces.
    #[error("the SentencePiece model asks for byte fallback but lacks the piece for byte {byte:#04x}")]
    MissingByte {
        /// The first byte without a piece.
        byte: u8,
    },
    /// A feature of SentencePiece that LLaMA does not use and this reader does not have.
    #[error(
        "this SentencePiece model uses {feature}, which is unsupported; export the tokenizer as tokenizer.json instead"
    )]
    Unsupported {
        /// Its name.
        feature: &'static str,
    },
}

impl From<WireError> for SpmError {
    fn from(error: WireError) -> Self {
        Self::Malformed { offset: error.offset, what: error.what }
    }
}

/// A vocabulary with the settings that decide how text is cut.
#[derive(Clone, Debug)]
pub struct SpmModel {
    pieces: Vec<Piece>,
    /// Pieces that text can become: normal and user-defined ones.
    by_text: HashMap<String, u32>,
    /// Pieces that text cannot become: unknown, control, byte.
    reserved: HashMap<String, u32>,
    bytes: Option<Box<[u32; 256]>>,
    longest_user_defined_bytes: usize,
    unknown: u32,
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    byte_fallback: bool,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
}

/// Longest piece or mark: every prefix of a text up to this long is looked up at every place of it. Real ones have less
/// than 130 bytes, runs of white space.
pub(crate) const MAX_MARK_BYTES: usize = 512;

impl SpmModel {
    /// Reads the bytes of a `tokenizer.model`.
    ///
    /// # Errors
    /// Every [`SpmError`]; nothing is allocated beyond the size of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpmError> {
        let mut pieces = Vec::new();
        // The format's own defaults, for settings the file leaves out.
        let mut settings = Settings { byte_fallback: false, add_dummy_prefix: true, remove_extra_whitespaces: true };
        let mut model_type = 1;
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next_field()? {
            match field {
                Field::Bytes(1, body) => pieces.push(parse_piece(body, pieces.len())?),
                Field::Bytes(2, body) => parse_trainer(body, &mut settings, &mut model_type)?,
                Field::Bytes(3, body) => parse_normalizer(body, &mut settings)?,
                _ => {}
            }
        }
        match model_type {
            2 => {}
            1 => return Err(SpmError::Unsupported { feature: "the unigram algorithm" }),
            _ => return Err(SpmError::Unsupported { feature: "an algorithm other than BPE" }),
        }
        Self::from_pieces(pieces, settings)
    }

    /// A model with LLaMA's settings: byte fallback, dummy prefix, white space kept as it is.
    ///
    /// # Errors
    /// [`SpmError`] when the table breaks a rule.
    pub fn llama(pieces: Vec<Piece>) -> Result<Self, SpmError> {
        let settings = Settings { byte_fallback: true, add_dummy_prefix: true, remove_extra_whitespaces: false };
        Self::from_pieces(pieces, settings)
    }

    fn from_pieces(pieces: Vec<Piece>, settings: Settings) -> Result<Self, SpmError> {
        if pieces.is_empty() {
            return Err(SpmError::Empty);
        }
        if u32::try_from(pieces.len()).is_err() {
            return Err(SpmError::Unsupported { feature: "more than 2^32 pieces" });
        }
        let mut by_text = HashMap::with_capacity(pieces.len());
        let mut reserved = HashMap::new();
        let mut bytes: Box<[Option<u32>; 256]> = Box::new([None; 256]);
        let mut unknown = None;
        let mut longest_user_defined_bytes = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let id = index as u32;
            if piece.text.len() > MAX_MARK_BYTES {
                return Err(SpmError::Piece { id: index, what: "is longer than 512 B" });
            }
            let map = match piece.kind {
                PieceKind::Normal => &mut by_text,
                PieceKind::UserDefined => {
                    longest_user_defined_bytes = longest_user_defined_bytes.max(piece.text.len());
                    &mut by_text
                }
                PieceKind::Unknown | PieceKind::Control => &mut reserved,
                PieceKind::Byte => {
                    let byte = parse_byte(&piece.text)
                        .ok_or(SpmError::Piece { id: index, what: "is of kind byte but is not spelled <0xAB>" })?;
                    bytes[usize::from(byte)] = Some(id);
                    &mut reserved
                }
            };
            if map.insert(piece.text.clone(), id).is_some() {
                return Err(SpmError::Piece { id: index, what: "repeats an earlier piece" });
            }
            if piece.kind == PieceKind::Unknown && unknown.replace(id).is_some() {
                return Err(SpmError::Piece { id: index, what: "is a second unknown piece" });
            }
        }
        let bytes = if settings.byte_fallback { Some(all_bytes(&bytes)?) } else { None };
        let unknown = unknown.ok_or(SpmError::NoUnknown)?;
        Ok(Self { pieces, by_text, reserved, bytes, longest_user_defined_bytes, unknown, settings })
    }

    /// The bytes of a `tokenizer.model` that [`SpmModel::parse`] and the reference library read back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = Writer::default();
        for piece in &self.pieces {
            let mut body = Writer::default();
            body.field(1, piece.text.as_bytes());
            body.float(2, piece.score);
            if piece.kind != PieceKind::Normal {
                body.varint(3, piece.kind as u64);
            }
            file.field(1, &body.finish());
        }
        let mut trainer = Writer::default();
        trainer.varint(3, 2);
        trainer.varint(4, self.pieces.len() as u64);
        trainer.varint(35, u64::from(self.settings.byte_fallback));
        trainer.varint(40, u64::from(self.unknown));
        for (number, name) in [(41, "<s>"), (42, "</s>")] {
            if let Some(&id) = self.reserved.get(name) {
                trainer.varint(number, u64::from(id));
            }
        }
        file.field(2, &trainer.finish());
        let mut normalizer = Writer::default();
        normalizer.field(1, b"identity");
        normalizer.varint(3, u64::from(self.settings.add_dummy_prefix));
        normalizer.varint(4, u64::from(self.settings.remove_extra_whitespaces));
        normalizer.varint(5, 1);
        file.field(3, &normalizer.finish());
        file.finish()
    }

    /// Rows of the vocabulary, by id.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The id of the unknown piece.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// The id of a piece by its exact text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.reserved.get(text).or_else(|| self.by_text.get(text)).copied()
    }

    /// Whether decoding drops one leading space, because encoding put one there.
    pub(crate) fn drops_leading_space(&self) -> bool {
        self.settings.add_dummy_prefix || self.settings.remove_extra_whitespaces
    }

    /// Whether decoding drops all leading spaces.
    pub(crate) fn drops_all_leading_spaces(&self) -> bool {
        self.settings.remove_extra_whitespaces
    }

    /// Cuts `text` into pieces; the empty text gives none.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = self.normalize(text);
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let mut after_unknown = false;
        for symbol in merge::merge(self, &text) {
            if let Some(&id) = self.by_text.get(symbol) {
                ids.push(id);
                after_unknown = false;
            } else if let Some(bytes) = &self.bytes {
                ids.extend(symbol.bytes().map(|byte| bytes[usize::from(byte)]));
            } else {
                // A run of unknown symbols is one unknown piece.
                if !after_unknown {
                    ids.push(self.unknown);
                }
                after_unknown = true;
            }
        }
        ids
    }

    fn normalize(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
        let push = |out: &mut String, c: char| out.push(if c == ' ' { SPACE } else { c });
        if self.settings.remove_extra_whitespaces {
            let mut words = text.split([' ', SPACE]).filter(|word| !word.is_empty()).peekable();
            if self.settings.add_dummy_prefix && words.peek().is_some() {
                out.push(SPACE);
            }
            while let Some(word) = words.next() {
                out.push_str(word);
                if words.peek().is_some() {
                    out.push(SPACE);
                }
            }
        } else {
            if self.settings.add_dummy_prefix && !text.is_empty() {
                out.push(SPACE);
            }
            text.chars().for_each(|c| push(&mut out, c));
        }
        out
    }

    /// The longest user-defined piece `text` starts with, in bytes.
    fn user_defined_prefix(&self, text: &str) -> Option<usize> {
        let longest = self.longest_user_defined_bytes.min(text.len());
        (1..=longest).rev().find(|&len| {
            let Some(id) = text.get(..len).and_then(|prefix| self.by_text.get(prefix)) else { return false };
            self.pieces[*id as usize].kind == PieceKind::UserDefined
        })
    }

    fn score(&self, text: &str) -> Option<f32> {
        self.by_text.get(text).map(|&id| self.pieces[id as usize].score)
    }
}

/// The byte a piece such as `<0x0A>` stands for.
pub(crate) fn parse_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn all_bytes(found: &[Option<u32>; 256]) -> Result<Box<[u32; 256]>, SpmError> {
    let mut all = Box::new([0; 256]);
    for byte in 0..=255u8 {
        all[usize::from(byte)] = found[usize::from(byte)].ok_or(SpmError::MissingByte { byte })?;
    }
    Ok(all)
}

fn parse_piece(body: &[u8], id: usize) -> Result<Piece, SpmError> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next_field()? {
        match field {
            Field::Bytes(1, text) => {
                let text = std::str::from_utf8(text).map_err(|_| SpmError::Piece { id, what: "is not UTF-8" })?;
                piece.text = text.to_owned();
            }
            Field::Fixed32(2, bits) => piece.score = f32::from_bits(bits),
            Field::Varint(3, kind) => {
                piece.kind = match kind {
                    1 => PieceKind::Normal,
                    2 => PieceKind::Unknown,
                    3 => PieceKind::Control,
                    4 => PieceKind::UserDefined,
                    5 => return Err(SpmError::Unsupported { feature: "unused pieces" }),
                    6 => PieceKind::Byte,
                    _ => return Err(SpmError::Piece { id, what: "has an unknown kind" }),
                }
            }
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err(SpmError::Piece { id, what: "has no text" });
    }
    if piece.score.is_nan() {
        return Err(SpmError::Piece { id, what: "has a score that is not a number" });
    }
    Ok(piece)
}

fn parse_trainer(body: &[u8], settings: &mut Settings, model_type: &mut u64) -> Result<(), SpmError> {
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next_field()? {
        match field {
            Field::Varint(3, value) => *model_type = value,
            Field::Varint(24, 1) => return Err(SpmError::Unsupported { feature: "white space as a suffix" }),
            Field::Varint(35, value) => settings.byte_fallback = value != 0,
            _ => {}
        }
    }
    Ok(())
}

fn parse_normalizer(body: &[u8], settings: &mut Settings) -> Result<(), SpmError> {
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next_field()? {
        match field {
            Field::Bytes(2, map) if !map.is_empty() => {
                return Err(SpmError::Unsupported { feature: "a character map (its normaliser is not `identity`)" });
            }
            Field::Varint(3, value) => settings.add_dummy_prefix = value != 0,
            Field::Varint(4, value) => settings.remove_extra_whitespaces = value != 0,
            Field::Varint(5, 0) => return Err(SpmError::Unsupported { feature: "unescaped white space" }),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
