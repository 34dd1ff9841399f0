//! How are numbers and texts read off a GGUF file, byte after byte?

use super::Value;

/// Where reading stopped, and why.
pub(super) type Fault = (usize, String);

/// Number of the type text.
pub(super) const TEXT: u32 = 8;
/// Number of the type list.
pub(super) const ARRAY: u32 = 9;

/// A place in the file.
pub(super) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// Bytes of a number type, `None` for texts, lists and types there are not.
pub(super) fn scalar_bytes(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl<'b> Cursor<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'b [u8], Fault> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| (self.at, "the file ends early".to_owned()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text_bytes(&mut self) -> Result<&'b [u8], Fault> {
        let n = self.u64()?;
        self.take(usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn text(&mut self) -> Result<String, Fault> {
        let at = self.at;
        let bytes = self.text_bytes()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| (at, "a text is not UTF-8".to_owned()))
    }

    /// A value of any type but a list.
    pub(super) fn scalar(&mut self, kind: u32) -> Result<Value, Fault> {
        let at = self.at;
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [byte] => return Err((at, format!("{byte} is neither true nor false"))),
            },
            TEXT => Value::Text(self.text()?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err((at, format!("{kind} is no type of a value"))),
        })
    }
}
