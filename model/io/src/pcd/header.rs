//! What does the header of a `.pcd` file announce?

use crate::fault::{Fault, shown};
use crate::words::{Line, Lines};

/// More fields, or values in one, are not a cloud's; descriptors have some hundred values.
const MAX_COUNT: usize = 1 << 16;
const EXPECTED: &str = "a line of a .pcd header up to DATA";

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Ascii,
    Binary,
    Compressed,
}

/// Letters of the TYPE line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Signed,
    Unsigned,
    Float,
}

/// One column, or several of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: String,
    ty: Type,
    /// Bytes of a value.
    pub(super) bytes: usize,
    /// Values of a point.
    pub(super) count: usize,
    /// Words of a line before it.
    pub(super) word: usize,
    /// Bytes of a point before it.
    offset: usize,
}

/// Fields that make a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Packed(usize),
    Apart([usize; 3]),
}

/// A checked header: the sizes of fields and points do not overflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) encoding: Encoding,
    pub(super) fields: Vec<Field>,
    pub(super) xyz: [usize; 3],
    pub(super) colour: Option<Colour>,
    pub(super) n_points: u64,
    pub(super) is_image: bool,
}

impl Field {
    pub(super) fn is_float(&self) -> bool {
        self.ty == Type::Float
    }

    /// The value at the front of `bytes`, little endian.
    pub(super) fn number(&self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        wide[..self.bytes].copy_from_slice(&bytes[..self.bytes]);
        let bits = u64::from_le_bytes(wide);
        let n_unused = 64 - 8 * self.bytes as u32;
        match (self.ty, self.bytes) {
            (Type::Float, 8) => f64::from_bits(bits),
            (Type::Float, _) => f64::from(f32::from_bits(bits as u32)),
            (Type::Unsigned, _) => bits as f64,
            (Type::Signed, _) => ((bits << n_unused) as i64 >> n_unused) as f64,
        }
    }
}

impl Header {
    pub(super) fn n_words(&self) -> usize {
        self.fields.last().map_or(1, |field| field.word + field.count)
    }

    pub(super) fn item_bytes(&self) -> usize {
        self.fields.last().map_or(1, |field| field.offset + field.bytes * field.count)
    }

    /// Bytes of a point before `field`.
    pub(super) fn offset(&self, field: &Field) -> usize {
        field.offset
    }
}

/// Lines of a header as they stand, before they are put together.
#[derive(Default)]
struct Raw<'a> {
    fields: Vec<&'a [u8]>,
    size: Vec<usize>,
    ty: Vec<&'a [u8]>,
    count: Vec<usize>,
    width: Option<u64>,
    height: Option<u64>,
    points: Option<u64>,
}

/// The header and what follows its last line.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, Lines<'_>), Fault> {
    let mut lines = Lines::new(bytes);
    let mut raw = Raw::default();
    while let Some(line) = lines.next() {
        let mut words = line.words();
        let Some(keyword) = words.next().filter(|word| !word.starts_with(b"#")) else { continue };
        let whole = || numbers(line);
        let one = || Ok::<_, Fault>(numbers(line)?.first().map(|&n| n as u64));
        match keyword {
            b"VERSION" | b"VIEWPOINT" => {}
            b"FIELDS" | b"COLUMNS" => raw.fields = words.take(MAX_COUNT).collect(),
            b"SIZE" => raw.size = whole()?,
            b"TYPE" => raw.ty = words.take(MAX_COUNT).collect(),
            b"COUNT" => raw.count = whole()?,
            b"WIDTH" => raw.width = one()?,
            b"HEIGHT" => raw.height = one()?,
            b"POINTS" => raw.points = one()?,
            b"DATA" => {
                let encoding = match words.next() {
                    Some(b"ascii") => Encoding::Ascii,
                    Some(b"binary") => Encoding::Binary,
                    Some(b"binary_compressed") => Encoding::Compressed,
                    _ => return Err(Fault::line(line.number, "DATA ascii, binary or binary_compressed", line.text)),
                };
                return Ok((raw.finish(encoding)?, lines));
            }
            _ => return Err(Fault::line(line.number, EXPECTED, line.text)),
        }
    }
    Err(Fault::line(lines.number(), "a DATA line at the end of the .pcd header", b""))
}

fn numbers(line: Line<'_>) -> Result<Vec<usize>, Fault> {
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    let words = line.words().skip(1).take(MAX_COUNT);
    words.map(|word| number(word).ok_or_else(|| Fault::line(line.number, "whole numbers", word))).collect()
}

impl Raw<'_> {
    fn finish(self, encoding: Encoding) -> Result<Header, Fault> {
        let n = self.fields.len();
        let count = if self.count.is_empty() { vec![1; n] } else { self.count };
        if n == 0 || self.size.len() != n || self.ty.len() != n || count.len() != n {
            let found = format!("{n}, {}, {} and {}", self.size.len(), self.ty.len(), count.len());
            return Err(Fault::field("the length of FIELDS, SIZE, TYPE and COUNT", found, "the same for all, not 0"));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(n);
        let (mut word, mut offset) = (0, 0);
        for i in 0..n {
            let (bytes, count) = (self.size[i], count[i]);
            let ty = match (self.ty[i], bytes) {
                (b"I", 1 | 2 | 4 | 8) => Type::Signed,
                (b"U", 1 | 2 | 4 | 8) => Type::Unsigned,
                (b"F", 4 | 8) => Type::Float,
                _ => {
                    let found = format!("{} of {bytes} B", shown(self.ty[i]));
                    return Err(Fault::field(
                        "a type in the .pcd header",
                        found,
                        "I or U of 1, 2, 4, 8 B, F of 4, 8 B",
                    ));
                }
            };
            if count > MAX_COUNT {
                return Err(Fault::field("a COUNT of the .pcd header", count, "at most 65536"));
            }
            fields.push(Field { name: shown(self.fields[i]), ty, bytes, count, word, offset });
            word += count;
            offset += bytes * count;
        }
        let find = |name: &str| fields.iter().position(|field| field.name == name && field.count == 1);
        let coordinate = |name| {
            let names = || fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(" ");
            find(name).ok_or_else(|| Fault::field("FIELDS of the .pcd header", names(), "x, y and z among them"))
        };
        let xyz = [coordinate("x")?, coordinate("y")?, coordinate("z")?];
        let packed = find("rgb").or(find("rgba")).filter(|&field| fields[field].bytes == 4).map(Colour::Packed);
        let apart = || Some(Colour::Apart([find("r")?, find("g")?, find("b")?]));
        let colour = packed.or_else(apart);
        let grid = self.width.map(|width| width.saturating_mul(self.height.unwrap_or(1)));
        let n_points = self.points.or(grid);
        let n_points = n_points.ok_or_else(|| Fault::field("POINTS of the .pcd header", "missing", "a number"))?;
        let is_image = self.height.is_some_and(|height| height > 1);
        Ok(Header { encoding, fields, xyz, colour, n_points, is_image })
    }
}
