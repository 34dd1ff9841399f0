//! How are protocol buffer messages read and written? Only what a SentencePiece model file needs.
//!
//! Law: every length is checked against the bytes that are there before anything is sliced or allocated.

/// One field of a message: its number and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Varint(u32, u64),
    Fixed32(u32, u32),
    Fixed64(u32),
    Bytes(u32, &'a [u8]),
}

/// What is wrong with the bytes, and at which byte of the enclosing message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WireError {
    pub(super) offset: usize,
    pub(super) what: &'static str,
}

/// Walks the fields of one message.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The next field, `None` at the end of the message.
    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.offset == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let Ok(number) = u32::try_from(key >> 3) else {
            return Err(self.error("a field number too large"));
        };
        if number == 0 {
            return Err(self.error("field number 0"));
        }
        let field = match key & 7 {
            0 => Field::Varint(number, self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64(number)
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| self.error("a length too large"))?;
                Field::Bytes(number, self.take(len)?)
            }
            5 => {
                let raw = self.take(4)?;
                Field::Fixed32(number, u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
            }
            _ => return Err(self.error("an unknown wire type")),
        };
        Ok(Some(field))
    }

    fn error(&self, what: &'static str) -> WireError {
        WireError { offset: self.offset, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.bytes[self.offset..];
        if len > rest.len() {
            return Err(self.error("a field longer than the file"));
        }
        self.offset += len;
        Ok(&rest[..len])
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.offset) else {
                return Err(self.error("a number cut by the end of the file"));
            };
            self.offset += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a number of more than 64 bits"))
    }
}

/// Builds one message, field by field.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3);
        self.raw_varint(value);
    }

    pub(super) fn float(&mut self, number: u32, value: f32) {
        self.raw_varint(u64::from(number) << 3 | 5);
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    pub(super) fn field(&mut self, number: u32, value: &[u8]) {
        self.raw_varint(u64::from(number) << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}
