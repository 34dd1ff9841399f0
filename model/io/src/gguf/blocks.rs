//! How do the bytes of a quantised tensor become numbers?
//!
//! A row is cut into blocks, each with its own scale. Law: decoding is exact arithmetic of the stored numbers in f32,
//! and its size is checked before, so it cannot fail.
//! **Source** the block structures of ggml, `ggml-common.h`, and their reference decoders, `ggml-quants.c`.

use half::{bf16, f16};

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Every encoding with its number in the format, its name, elements of a block and bytes of a block.
const TABLE: [(Encoding, u32, &str, usize, usize); 11] = [
    (Encoding::F32, 0, "F32", 1, 4),
    (Encoding::F16, 1, "F16", 1, 2),
    (Encoding::Bf16, 30, "BF16", 1, 2),
    (Encoding::Q4_0, 2, "Q4_0", 32, 18),
    (Encoding::Q4_1, 3, "Q4_1", 32, 20),
    (Encoding::Q5_0, 6, "Q5_0", 32, 22),
    (Encoding::Q5_1, 7, "Q5_1", 32, 24),
    (Encoding::Q8_0, 8, "Q8_0", 32, 34),
    (Encoding::Q4K, 12, "Q4_K", 256, 144),
    (Encoding::Q5K, 13, "Q5_K", 256, 176),
    (Encoding::Q6K, 14, "Q6_K", 256, 210),
];

impl Encoding {
    /// The encoding of a number of the format, if it is decoded here.
    pub(super) fn of(kind: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == kind).map(|row| row.0)
    }

    /// All names, for messages.
    pub(crate) fn known() -> String {
        TABLE.map(|row| row.2).join(", ")
    }

    /// Its name in the format.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Whether elements are plain numbers.
    pub fn is_plain(self) -> bool {
        self.row().3 == 1
    }

    fn row(self) -> &'static (Self, u32, &'static str, usize, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("every variant has a row of the table")
    }

    /// Bytes of a tensor; `None` when rows are no whole blocks or the size is beyond any file.
    pub(super) fn size_bytes(self, shape: &[usize]) -> Option<usize> {
        let &(_, _, _, n_elems, n_bytes) = self.row();
        let row = shape.last().copied().unwrap_or(1);
        let all = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))?;
        // Four bytes of each decoded element must be countable too.
        all.checked_mul(4)?;
        row.is_multiple_of(n_elems).then(|| (all / n_elems).checked_mul(n_bytes)).flatten()
    }

    /// Elements of whole blocks.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|&raw| f16::from_le_bytes(raw).to_f32()).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect(),
            Self::Q4_0 => each::<18, 32>(bytes, q4_0),
            Self::Q4_1 => each::<20, 32>(bytes, q4_1),
            Self::Q5_0 => each::<22, 32>(bytes, q5_0),
            Self::Q5_1 => each::<24, 32>(bytes, q5_1),
            Self::Q8_0 => each::<34, 32>(bytes, q8_0),
            Self::Q4K => each::<144, 256>(bytes, q4_k),
            Self::Q5K => each::<176, 256>(bytes, q5_k),
            Self::Q6K => each::<210, 256>(bytes, q6_k),
        }
    }
}

/// Decodes block after block of `BYTES` bytes and `ELEMS` elements.
fn each<const BYTES: usize, const ELEMS: usize>(bytes: &[u8], decode: fn(&[u8; BYTES], &mut [f32; ELEMS])) -> Vec<f32> {
    let blocks = bytes.as_chunks::<BYTES>().0;
    let mut out = vec![0.0; blocks.len() * ELEMS];
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<ELEMS>().0) {
        decode(block, out);
    }
    out
}

/// The half-precision number at byte `at`.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Halves of the bytes of a 32-block: low ones are its first 16 elements, high ones its last.
fn nibbles(packed: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { packed[i] & 15 } else { packed[i - 16] >> 4 })
}

/// As [`nibbles`], with the fifth bits of all elements in front.
fn fives(bits_and_packed: &[u8]) -> [u8; 32] {
    let [a, b, c, d, packed @ ..] = bits_and_packed else { unreachable!("the block's size is checked") };
    let bits = u32::from_le_bytes([*a, *b, *c, *d]);
    let low = nibbles(packed);
    std::array::from_fn(|i| low[i] | ((bits >> i & 1) as u8) << 4)
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half(block, 0);
    let q = nibbles(&block[2..]);
    *out = std::array::from_fn(|i| scale * (f32::from(q[i]) - 8.0));
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let q = nibbles(&block[4..]);
    *out = std::array::from_fn(|i| scale * f32::from(q[i]) + least);
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half(block, 0);
    let q = fives(&block[2..]);
    *out = std::array::from_fn(|i| scale * (f32::from(q[i]) - 16.0));
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let q = fives(&block[4..]);
    *out = std::array::from_fn(|i| scale * f32::from(q[i]) + least);
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half(block, 0);
    *out = std::array::from_fn(|i| scale * f32::from(block[2 + i] as i8));
}

/// Scale and least value of the eight 32-blocks inside a 256-block, six bits each, packed into twelve bytes.
fn scales_and_leasts(packed: &[u8]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, least) = if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            let (low, scale_high, least_high) = (packed[i + 4], packed[i - 4] >> 6, packed[i] >> 6);
            (low & 15 | scale_high << 4, low >> 4 | least_high << 4)
        };
        (f32::from(scale), f32::from(least))
    })
}

/// Shared by the four- and five-bit forms: `high` gives the fifth bit of element `i` of 32-block `b`, already in place.
fn k_blocks(block: &[u8], packed: &[u8], high: impl Fn(usize, usize) -> u8, out: &mut [f32; 256]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let inner = scales_and_leasts(&block[4..16]);
    for (b, (out, (inner_scale, inner_least))) in out.as_chunks_mut::<32>().0.iter_mut().zip(inner).enumerate() {
        // Two 32-blocks share 32 bytes: the first has the low halves, the second the high ones.
        let bytes = &packed[b / 2 * 32..][..32];
        let (d, m) = (scale * inner_scale, least * inner_least);
        *out = std::array::from_fn(|i| {
            let low = if b % 2 == 0 { bytes[i] & 15 } else { bytes[i] >> 4 };
            d * f32::from(low | high(b, i)) - m
        });
    }
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    k_blocks(block, &block[16..], |_, _| 0, out);
}

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let fifth = &block[16..48];
    k_blocks(block, &block[48..], |b, i| (fifth[i] >> b & 1) << 4, out);
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, inner) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    *out = std::array::from_fn(|at| {
        // Two halves of 128 elements; in each, four runs of 32 that share 64 low bytes and 32 high ones.
        let (part, run, i) = (at / 128, at % 128 / 32, at % 32);
        let byte = low[part * 64 + run % 2 * 32 + i];
        let four = if run < 2 { byte & 15 } else { byte >> 4 };
        let two = high[part * 32 + i] >> (2 * run) & 3;
        let q = f32::from(four | two << 4) - 32.0;
        let inner = f32::from(inner[part * 8 + run * 2 + i / 16] as i8);
        scale * inner * q
    });
}
