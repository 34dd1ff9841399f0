//! What does the header of a `.ply` file announce?

use crate::collect::ColourScale;

use super::PlyError;

/// A header beyond this is not one; real ones have a few hundred bytes.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Ascii,
    LittleEndian,
    BigEndian,
}

/// A number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Scalar {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "char" | "int8" => Self::I8,
            "uchar" | "uint8" => Self::U8,
            "short" | "int16" => Self::I16,
            "ushort" | "uint16" => Self::U16,
            "int" | "int32" => Self::I32,
            "uint" | "uint32" => Self::U32,
            "float" | "float32" => Self::F32,
            "double" | "float64" => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// One property; for a list, the type of its length too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) scalar: Scalar,
    pub(super) list_count: Option<Scalar>,
}

impl Property {
    /// Whether f32 holds every value of this type.
    pub(super) fn is_f32(&self) -> bool {
        !matches!(self.scalar, Scalar::F64 | Scalar::I32 | Scalar::U32)
    }

    /// What a full colour channel is in this type.
    pub(super) fn scale(&self) -> ColourScale {
        match self.scalar {
            Scalar::U8 => ColourScale::Full(255.0),
            Scalar::U16 => ColourScale::Full(65535.0),
            Scalar::I8 | Scalar::I16 | Scalar::I32 | Scalar::U32 | Scalar::F32 | Scalar::F64 => ColourScale::Unknown,
        }
    }
}

/// One element: how many of it, and what each holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) properties: Vec<Property>,
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) encoding: Encoding,
    pub(super) elements: Vec<Element>,
}

/// The header and the bytes after it.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), PlyError> {
    let mut rest = bytes;
    let mut encoding = None;
    let mut elements: Vec<Element> = Vec::new();
    for line in 1.. {
        let error = |what| PlyError::Header { line, what };
        if bytes.len() - rest.len() > MAX_HEADER_BYTES {
            return Err(error("is beyond 1 MiB: there is no `end_header`"));
        }
        let text = take_line(&mut rest).ok_or(error("is missing: there is no `end_header`"))?;
        let mut words = text.split_ascii_whitespace();
        let keyword = words.next();
        if line == 1 {
            if keyword != Some("ply") {
                return Err(error("is not `ply`"));
            }
            continue;
        }
        let words: Vec<&str> = words.collect();
        match (keyword, words.as_slice()) {
            (None | Some("comment" | "obj_info"), _) => {}
            (Some("format"), [name, "1.0"]) => {
                encoding = Some(match *name {
                    "ascii" => Encoding::Ascii,
                    "binary_little_endian" => Encoding::LittleEndian,
                    "binary_big_endian" => Encoding::BigEndian,
                    _ => return Err(error("names an unknown encoding")),
                });
            }
            (Some("element"), [name, count]) => {
                let count = count.parse().map_err(|_| error("has a count that is not a whole number"))?;
                elements.push(Element { name: (*name).to_owned(), count, properties: Vec::new() });
            }
            (Some("property"), words) => {
                let property = property(words).ok_or(error("is not a known property"))?;
                let element = elements.last_mut().ok_or(error("is a property before any element"))?;
                element.properties.push(property);
            }
            (Some("end_header"), []) => {
                let encoding = encoding.ok_or(error("comes without a `format` line before it"))?;
                return Ok((Header { encoding, elements }, rest));
            }
            (Some(_), _) => return Err(error("is not understood")),
        }
    }
    Err(PlyError::Header { line: usize::MAX, what: "is missing" })
}

fn property(words: &[&str]) -> Option<Property> {
    let (name, scalar, list_count) = match words {
        ["list", count, scalar, name] => (name, scalar, Some(Scalar::parse(count)?)),
        [scalar, name] => (name, scalar, None),
        _ => return None,
    };
    let is_whole = !matches!(list_count, Some(Scalar::F32 | Scalar::F64));
    is_whole.then_some(())?;
    Some(Property { name: (*name).to_owned(), scalar: Scalar::parse(scalar)?, list_count })
}

/// Takes a line without its end; lines end in LF, CR LF or CR.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let window = &rest[..rest.len().min(MAX_HEADER_BYTES)];
    let end = window.iter().position(|&byte| byte == b'\n' || byte == b'\r')?;
    let n_end = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
    let line = &rest[..end];
    *rest = &rest[end + n_end..];
    std::str::from_utf8(line).ok().or(Some("comment of another encoding").filter(|_| line.starts_with(b"comment")))
}
