//! How are numbers taken from bytes, so that a cut file is an error and nothing else?

use crate::fault::Fault;

/// Bytes from front to back, little endian.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

macro_rules! take_number {
    ($($name:ident: $ty:ty),*) => {$(
        pub(crate) fn $name(&mut self) -> Result<$ty, Fault> {
            let mut raw = [0; size_of::<$ty>()];
            raw.copy_from_slice(self.take(size_of::<$ty>() as u64)?);
            Ok(<$ty>::from_le_bytes(raw))
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// `what` is named when bytes are missing.
    pub(crate) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    take_number!(u16: u16, u32: u32, u64: u64, i32: i32, f32: f32, f64: f64);

    /// The next `n_bytes` bytes.
    pub(crate) fn take(&mut self, n_bytes: u64) -> Result<&'a [u8], Fault> {
        let have_bytes = self.rest.len() as u64;
        let cut = Fault::Cut { what: self.what, need_bytes: n_bytes, have_bytes };
        let n = usize::try_from(n_bytes).ok().filter(|&n| n <= self.rest.len()).ok_or(cut)?;
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
