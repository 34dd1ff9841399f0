//! What does a block remember? Its shared memory, with a bit per byte for "written".

/// Shared memory of one block.
pub(crate) struct Shared {
    pub(crate) bytes: u32,
    words: Vec<u32>,
    written: Vec<u8>,
}

impl Shared {
    /// `bytes` of memory nobody has written.
    pub(crate) fn new(bytes: u32) -> Self {
        let n = bytes.div_ceil(4) as usize;
        Shared { bytes, words: vec![0xffff_ffff; n], written: vec![0; n] }
    }

    /// Loads 1, 2, 4 or 8 bytes; the caller has checked the range.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, bytes: u32) -> u64 {
        if bytes == 4 && offset.is_multiple_of(4) {
            return u64::from(self.words[offset / 4]);
        }
        let mut value = 0;
        for i in (0..bytes as usize).rev() {
            value = value << 8 | u64::from((self.words[(offset + i) / 4] >> ((offset + i) % 4 * 8)) as u8);
        }
        value
    }

    /// Stores 1, 2, 4 or 8 bytes; the caller has checked the range.
    #[inline(always)]
    pub(crate) fn store(&mut self, offset: usize, bytes: u32, bits: u64) {
        if bytes == 4 && offset.is_multiple_of(4) {
            self.words[offset / 4] = bits as u32;
            self.written[offset / 4] = 0xf;
            return;
        }
        for i in 0..bytes as usize {
            let (word, lane) = ((offset + i) / 4, (offset + i) % 4);
            self.words[word] =
                self.words[word] & !(0xff << (8 * lane)) | u32::from((bits >> (8 * i)) as u8) << (8 * lane);
            self.written[word] |= 1 << lane;
        }
    }

    /// Loads words side by side from an aligned offset; false if `known` and some byte was never written.
    pub(crate) fn load_run(&self, offset: usize, row: &mut [u32], known: bool) -> bool {
        let range = offset / 4..offset / 4 + row.len();
        row.copy_from_slice(&self.words[range.clone()]);
        !known || self.written[range].iter().fold(0xf, |acc, w| acc & w) == 0xf
    }

    /// Stores words side by side at an aligned offset.
    pub(crate) fn store_run(&mut self, offset: usize, row: &[u32]) {
        let range = offset / 4..offset / 4 + row.len();
        self.words[range.clone()].copy_from_slice(row);
        self.written[range].fill(0xf);
    }

    /// Whether all of `bytes` bytes have been written.
    #[inline(always)]
    pub(crate) fn is_written(&self, offset: usize, bytes: u32) -> bool {
        if bytes.is_multiple_of(4) && offset.is_multiple_of(4) {
            return self.written[offset / 4..][..(bytes / 4) as usize].iter().all(|&w| w == 0xf);
        }
        (offset..offset + bytes as usize).all(|at| self.written[at / 4] >> (at % 4) & 1 == 1)
    }

    /// Marks bytes as not written: an asynchronous copy is on its way to them.
    pub(crate) fn forget(&mut self, offset: usize, bytes: u32) {
        if bytes.is_multiple_of(4) && offset.is_multiple_of(4) {
            self.written[offset / 4..][..(bytes / 4) as usize].fill(0);
            return;
        }
        for at in offset..offset + bytes as usize {
            self.written[at / 4] &= !(1 << (at % 4));
        }
    }
}
