//! How are the numbers after a `.ply` header read, one element at a time?

use super::PlyError;
use super::header::{Element, Scalar};

/// Numbers of one item of an element.
pub(super) struct Row {
    /// One for each property; a list leaves its length.
    pub(super) numbers: Vec<f64>,
    /// The property whose list is kept.
    wanted: Option<usize>,
    /// What that list holds.
    pub(super) list: Vec<f64>,
}

impl Row {
    pub(super) fn new(element: &Element, wanted: Option<usize>) -> Self {
        Self { numbers: vec![0.0; element.properties.len()], wanted, list: Vec::new() }
    }
}

/// A source of numbers.
pub(super) trait Body {
    /// Reads item `index` of `element`.
    fn row(&mut self, element: &Element, index: u64, row: &mut Row) -> Result<(), PlyError>;

    /// Passes over all of `element`.
    fn skip(&mut self, element: &Element) -> Result<(), PlyError>;

    /// How many of `element` the rest can hold at most.
    fn max_items(&self, element: &Element) -> usize;
}

/// Numbers as words between white space.
pub(super) struct Ascii<'a> {
    rest: &'a [u8],
}

impl<'a> Ascii<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn number(&mut self, element: &Element, index: u64) -> Result<f64, PlyError> {
        let text = self.rest.trim_ascii_start();
        let len = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(len);
        self.rest = rest;
        if word.is_empty() {
            return Err(cut(element, index));
        }
        let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        number.ok_or_else(|| PlyError::NotNumber {
            element: element.name.clone(),
            index,
            word: String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned(),
        })
    }

    fn list_len(&mut self, element: &Element, index: u64) -> Result<f64, PlyError> {
        let len = self.number(element, index)?;
        let is_length = len >= 0.0 && len.fract() == 0.0;
        if is_length { Ok(len) } else { Err(not_length(element, index, len)) }
    }
}

impl Body for Ascii<'_> {
    fn row(&mut self, element: &Element, index: u64, row: &mut Row) -> Result<(), PlyError> {
        row.list.clear();
        for (column, (property, out)) in element.properties.iter().zip(&mut row.numbers).enumerate() {
            if property.list_count.is_none() {
                *out = self.number(element, index)?;
                continue;
            }
            *out = self.list_len(element, index)?;
            // Saturates; a length beyond the file ends at its last word.
            for _ in 0..*out as u64 {
                let number = self.number(element, index)?;
                if row.wanted == Some(column) {
                    row.list.push(number);
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, element: &Element) -> Result<(), PlyError> {
        if element.properties.is_empty() {
            return Ok(());
        }
        let mut row = Row::new(element, None);
        (0..element.count).try_for_each(|index| self.row(element, index, &mut row))
    }

    fn max_items(&self, element: &Element) -> usize {
        // A number and the space after it take two bytes at least.
        self.rest.len() / (2 * element.properties.len()).max(1) + 1
    }
}

/// Numbers as bytes.
pub(super) struct Binary<'a> {
    rest: &'a [u8],
    is_big: bool,
}

impl<'a> Binary<'a> {
    pub(super) fn new(rest: &'a [u8], is_big: bool) -> Self {
        Self { rest, is_big }
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, scalar: Scalar) -> Option<f64> {
        let raw = self.take(scalar.bytes() as u64)?;
        let mut wide = [0u8; 8];
        // The number's bytes, lowest first.
        wide[..raw.len()].copy_from_slice(raw);
        if self.is_big {
            wide[..raw.len()].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        Some(match scalar {
            Scalar::I8 => f64::from(bits as u8 as i8),
            Scalar::U8 => f64::from(bits as u8),
            Scalar::I16 => f64::from(bits as u16 as i16),
            Scalar::U16 => f64::from(bits as u16),
            Scalar::I32 => f64::from(bits as u32 as i32),
            Scalar::U32 => f64::from(bits as u32),
            Scalar::F32 => f64::from(f32::from_bits(bits as u32)),
            Scalar::F64 => f64::from_bits(bits),
        })
    }
}

impl Body for Binary<'_> {
    fn row(&mut self, element: &Element, index: u64, row: &mut Row) -> Result<(), PlyError> {
        row.list.clear();
        for (column, (property, out)) in element.properties.iter().zip(&mut row.numbers).enumerate() {
            let Some(list_count) = property.list_count else {
                *out = self.number(property.scalar).ok_or_else(|| cut(element, index))?;
                continue;
            };
            *out = self.number(list_count).ok_or_else(|| cut(element, index))?;
            if *out < 0.0 {
                return Err(not_length(element, index, *out));
            }
            // At most 2^32 times 8: no overflow.
            let list = self.take(*out as u64 * property.scalar.bytes() as u64).ok_or_else(|| cut(element, index))?;
            if row.wanted == Some(column) {
                let mut list = Binary::new(list, self.is_big);
                row.list.extend(std::iter::from_fn(|| list.number(property.scalar)));
            }
        }
        Ok(())
    }

    fn skip(&mut self, element: &Element) -> Result<(), PlyError> {
        if element.properties.iter().any(|property| property.list_count.is_some()) {
            let mut row = Row::new(element, None);
            return (0..element.count).try_for_each(|index| self.row(element, index, &mut row));
        }
        let item_bytes: u64 = element.properties.iter().map(|property| property.scalar.bytes() as u64).sum();
        if item_bytes == 0 {
            return Ok(());
        }
        let n_whole = self.rest.len() as u64 / item_bytes;
        let len = element.count.checked_mul(item_bytes).filter(|_| element.count <= n_whole);
        len.and_then(|len| self.take(len)).map(|_| ()).ok_or_else(|| cut(element, n_whole))
    }

    fn max_items(&self, element: &Element) -> usize {
        let property_bytes = |p: &super::Property| p.list_count.unwrap_or(p.scalar).bytes();
        let item_bytes: usize = element.properties.iter().map(property_bytes).sum();
        self.rest.len() / item_bytes.max(1)
    }
}

fn cut(element: &Element, index: u64) -> PlyError {
    PlyError::Cut { element: element.name.clone(), index, count: element.count }
}

fn not_length(element: &Element, index: u64, value: f64) -> PlyError {
    PlyError::NotNumber { element: element.name.clone(), index, word: format!("{value} as a list's length") }
}
