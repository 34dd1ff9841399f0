//! How is the header of a `.npy` file written and read? A Python dictionary literal with three known keys.

use super::NpyError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy refuses headers beyond 10,000 bytes unless told otherwise; plain arrays need about 100.
const MAX_HEADER_BYTES: usize = 10_000;
/// NumPy's own limit on the number of axes.
const MAX_RANK: usize = 64;
/// The array begins at a multiple of it.
const ALIGNMENT: usize = 64;

/// A kind of number and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

impl Kind {
    pub(super) fn elem_bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(bytes) | Self::Signed(bytes) | Self::Float(bytes) => bytes,
        }
    }
}

/// A parsed header and the bytes after it.
pub(super) struct Header<'a> {
    pub(super) descr: String,
    pub(super) is_big: bool,
    pub(super) kind: Kind,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
    pub(super) body: &'a [u8],
}

pub(super) fn parse(bytes: &[u8]) -> Result<Header<'_>, NpyError> {
    let cut = NpyError::Header { what: "it is cut" };
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let (&[major, minor], rest) = rest.split_first_chunk::<2>().ok_or(cut.clone())?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or(cut.clone())?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or(cut.clone())?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        _ => return Err(NpyError::Version { major, minor }),
    };
    if len > MAX_HEADER_BYTES {
        return Err(NpyError::Header { what: "it is longer than 10,000 bytes" });
    }
    let (text, body) = rest.split_at_checked(len).ok_or(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| NpyError::Header { what: "it is not text" })?;
    let (descr, fortran_order, shape) = Parser { rest: text }.dictionary()?;
    let (is_big, kind) = parse_descr(&descr)?;
    Ok(Header { descr, is_big, kind, fortran_order, shape, body })
}

pub(super) fn write(descr: &str, shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let extents = if shape.len() > 1 { extents.trim_end_matches(", ") } else { extents.trim_end() };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    let prefix = |len: usize| MAGIC.len() + 2 + if len > usize::from(u16::MAX) { 4 } else { 2 };
    let unpadded = prefix(text.len() + ALIGNMENT) + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    text.push('\n');
    let mut out = MAGIC.to_vec();
    match u16::try_from(text.len()) {
        Ok(len) => {
            out.extend_from_slice(&[1, 0]);
            out.extend_from_slice(&len.to_le_bytes());
        }
        Err(_) => {
            out.extend_from_slice(&[2, 0]);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// Byte order and kind of a type such as `<f4`.
fn parse_descr(descr: &str) -> Result<(bool, Kind), NpyError> {
    let unsupported = || NpyError::Dtype { descr: descr.to_owned() };
    let mut chars = descr.chars();
    let is_big = match chars.next() {
        Some('<' | '|' | '=') => false,
        Some('>') => true,
        _ => return Err(unsupported()),
    };
    let letter = chars.next();
    let kind = match (letter, chars.as_str()) {
        (Some('b'), "1") => Kind::Bool,
        (Some('u'), "1" | "2" | "4" | "8") => Kind::Unsigned(digit(chars.as_str())),
        (Some('i'), "1" | "2" | "4" | "8") => Kind::Signed(digit(chars.as_str())),
        (Some('f'), "2" | "4" | "8") => Kind::Float(digit(chars.as_str())),
        _ => return Err(unsupported()),
    };
    Ok((is_big, kind))
}

fn digit(text: &str) -> usize {
    text.bytes().next().map_or(0, |byte| usize::from(byte - b'0'))
}

/// Reads the dictionary from left to right.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn dictionary(mut self) -> Result<(String, bool, Vec<u64>), NpyError> {
        let mut descr = None;
        let mut fortran_order = None;
        let mut shape = None;
        self.expect('{', "it does not begin with `{`")?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':', "a key is not followed by `:`")?;
            let is_new = match key {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.tuple()?).is_none(),
                _ => return Err(NpyError::Header { what: "it has a key other than descr, fortran_order, shape" }),
            };
            if !is_new {
                return Err(NpyError::Header { what: "a key stands twice" });
            }
            if !self.accept(',') {
                self.expect('}', "an entry is not followed by `,` or `}`")?;
                break;
            }
        }
        if !self.rest.trim().is_empty() {
            return Err(NpyError::Header { what: "something follows the dictionary" });
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok((descr, fortran_order, shape)),
            _ => Err(NpyError::Header { what: "it lacks descr, fortran_order or shape" }),
        }
    }

    fn accept(&mut self, wanted: char) -> bool {
        let text = self.rest.trim_start();
        let rest = text.strip_prefix(wanted);
        self.rest = rest.unwrap_or(text);
        rest.is_some()
    }

    fn expect(&mut self, wanted: char, what: &'static str) -> Result<(), NpyError> {
        if self.accept(wanted) { Ok(()) } else { Err(NpyError::Header { what }) }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let broken = NpyError::Header { what: "a string is broken" };
        let text = self.rest.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(broken.clone())?;
        let (string, rest) = text[1..].split_once(quote).ok_or(broken)?;
        self.rest = rest;
        Ok(string)
    }

    /// A type name; a list means a record type, which is refused by name.
    fn descr(&mut self) -> Result<String, NpyError> {
        let text = self.rest.trim_start();
        if text.starts_with('[') {
            return Err(NpyError::Dtype { descr: "of records".to_owned() });
        }
        self.string().map(str::to_owned)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        let text = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(NpyError::Header { what: "fortran_order is neither True nor False" })
    }

    fn tuple(&mut self) -> Result<Vec<u64>, NpyError> {
        let broken = NpyError::Header { what: "the shape is not a tuple of whole numbers" };
        self.expect('(', "the shape does not begin with `(`")?;
        let mut extents = Vec::new();
        while !self.accept(')') {
            let text = self.rest.trim_start();
            let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
            extents.push(text[..n_digits].parse().map_err(|_| broken.clone())?);
            // Python 2 wrote long numbers with this letter.
            let rest = &text[n_digits..];
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if extents.len() > MAX_RANK {
                return Err(NpyError::Header { what: "the shape has more than 64 axes" });
            }
            if !self.accept(',') {
                self.expect(')', "the shape does not end with `)`")?;
                break;
            }
        }
        Ok(extents)
    }
}
