//! What does a tensor copy know about its tensor? The fields of a `CUtensorMap`, in an encoding of our own.
//!
//! A driver's 128 bytes are opaque and differ from driver to driver, so maps for the emulator are made here:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | the letters `eTM1` |
//! | 4, 5, 6, 7 | rank, element type, swizzle, fill, each as the number of its variant |
//! | 8..16 | address of element 0 |
//! | 16..36 | extent of each dimension less one, `u32` |
//! | 40..72 | pitch in bytes of dimensions 1 to 4, `u64` |
//! | 72..82 | box extent of each dimension, `u16` |
//! | 82..87 | element stride of each dimension, `u8` |
//!
//! Dimension 0 is the innermost. Numbers are little-endian, everything else is zero.

/// Most dimensions a tensor map can have.
pub(crate) const MAX_RANK: usize = 5;
/// Size of an encoded map.
pub(crate) const MAP_BYTES: usize = 128;
const MAGIC: &[u8; 4] = b"eTM1";

/// Element type of a tensor map; names and order follow `CUtensorMapDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in CUDA")]
pub enum MapElement {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

/// All element types, in the order of their numbers.
const ELEMENTS: [MapElement; 13] = [
    MapElement::U8,
    MapElement::U16,
    MapElement::U32,
    MapElement::I32,
    MapElement::U64,
    MapElement::I64,
    MapElement::F16,
    MapElement::F32,
    MapElement::F64,
    MapElement::Bf16,
    MapElement::F32Ftz,
    MapElement::Tf32,
    MapElement::Tf32Ftz,
];

impl MapElement {
    /// Size of one element.
    pub fn bytes(self) -> u32 {
        match self {
            MapElement::U8 => 1,
            MapElement::U16 | MapElement::F16 | MapElement::Bf16 => 2,
            MapElement::U64 | MapElement::I64 | MapElement::F64 => 8,
            _ => 4,
        }
    }

    /// Bits of a quiet NaN, which fills what lies outside the tensor; 0 for integers.
    pub(crate) fn nan(self) -> u64 {
        match self {
            MapElement::F16 => 0x7fff,
            MapElement::Bf16 => 0x7fff,
            MapElement::F64 => 0x7fff_ffff_ffff_ffff,
            MapElement::F32 | MapElement::F32Ftz | MapElement::Tf32 | MapElement::Tf32Ftz => 0x7fff_ffff,
            _ => 0,
        }
    }
}

/// How 16-byte chunks of a box are permuted in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Row after row as it is.
    None,
    /// Inside 32 bytes.
    B32,
    /// Inside 64 bytes.
    B64,
    /// Inside 128 bytes.
    B128,
}

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

impl Swizzle {
    /// Widest inner box extent, in bytes.
    pub fn span_bytes(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::B32 => Some(32),
            Swizzle::B64 => Some(64),
            Swizzle::B128 => Some(128),
        }
    }

    /// Where the byte that would lie at shared address `at` lies instead: address bits 4 to 6 take the exclusive or
    /// with bits 7 to 9 (fewer of them for the narrower modes; PTX ISA 9.0, section 5.5.7).
    pub(crate) fn apply(self, at: u32) -> u32 {
        let bits = match self {
            Swizzle::None => 0,
            Swizzle::B32 => 0x10,
            Swizzle::B64 => 0x30,
            Swizzle::B128 => 0x70,
        };
        at ^ (at >> 3 & bits)
    }
}

/// What a copy from outside the tensor brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    Zeros,
    /// NaN of the element type.
    Nan,
}

/// A tiled tensor map without interleaving: argument of a kernel that copies boxes of a tensor.
///
/// ```
/// use enel_emulator::{Arg, Fill, MapElement, Memory, Swizzle, TensorMap};
///
/// let mut memory = Memory::new();
/// let matrix = memory.alloc(256 * 64 * 2)?;
/// let map = TensorMap {
///     address: matrix,
///     element: MapElement::Bf16,
///     dims: vec![64, 256],
///     strides_bytes: vec![64 * 2],
///     box_dims: vec![64, 128],
///     elem_strides: vec![1, 1],
///     swizzle: Swizzle::B128,
///     fill: Fill::Zeros,
/// };
/// let arg = Arg::Bytes(map.encode()?.to_vec());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Address of element 0, a multiple of 16.
    pub address: u64,
    /// Element type.
    pub element: MapElement,
    /// Extents, innermost first; 1 to 5 of them.
    pub dims: Vec<u64>,
    /// Pitches of all dimensions but the innermost, multiples of 16.
    pub strides_bytes: Vec<u64>,
    /// Extents of a box, 1 to 256 each.
    pub box_dims: Vec<u32>,
    /// Steps inside a box, 1 to 8 each.
    pub elem_strides: Vec<u32>,
    /// Layout in shared memory.
    pub swizzle: Swizzle,
    /// What lies outside the tensor.
    pub fill: Fill,
}

/// Why `cuTensorMapEncodeTiled` would refuse a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorMapError {
    /// A list whose length does not go with the rank.
    #[error("a tensor of {rank} dimensions (1 to 5) with {found} {what}")]
    Rank {
        /// Number of dimensions.
        rank: usize,
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
    },
    /// A number outside what the hardware takes.
    #[error("{what} of dimension {dimension} is {found}, {expected}")]
    Value {
        /// Which number.
        what: &'static str,
        /// Which dimension, from 0, the innermost.
        dimension: usize,
        /// What was given.
        found: u64,
        /// What is allowed.
        expected: &'static str,
    },
}

impl TensorMap {
    /// The 128 bytes a kernel gets.
    ///
    /// # Errors
    /// [`TensorMapError`] where the driver would refuse too.
    pub fn encode(&self) -> Result<[u8; MAP_BYTES], TensorMapError> {
        self.check()?;
        let mut bytes = [0; MAP_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = self.dims.len() as u8;
        bytes[5] = self.element as u8;
        bytes[6] = self.swizzle as u8;
        bytes[7] = self.fill as u8;
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());
        for (i, &extent) in self.dims.iter().enumerate() {
            bytes[16 + 4 * i..][..4].copy_from_slice(&((extent - 1) as u32).to_le_bytes());
        }
        for (i, stride) in self.strides_bytes.iter().enumerate() {
            bytes[40 + 8 * i..][..8].copy_from_slice(&stride.to_le_bytes());
        }
        for (i, &extent) in self.box_dims.iter().enumerate() {
            bytes[72 + 2 * i..][..2].copy_from_slice(&(extent as u16).to_le_bytes());
        }
        for (i, &step) in self.elem_strides.iter().enumerate() {
            bytes[82 + i] = step as u8;
        }
        Ok(bytes)
    }

    /// Reads what [`Self::encode`] wrote; `None` if `bytes` are no sound map.
    pub(crate) fn decode(bytes: &[u8; MAP_BYTES]) -> Option<TensorMap> {
        if &bytes[..4] != MAGIC {
            return None;
        }
        let rank = usize::from(bytes[4]);
        if !(1..=MAX_RANK).contains(&rank) {
            return None;
        }
        let number = |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0u64, |acc, &b| acc << 8 | u64::from(b));
        let map = TensorMap {
            address: number(8, 8),
            element: *ELEMENTS.get(usize::from(bytes[5]))?,
            dims: (0..rank).map(|i| number(16 + 4 * i, 4) + 1).collect(),
            strides_bytes: (0..rank - 1).map(|i| number(40 + 8 * i, 8)).collect(),
            box_dims: (0..rank).map(|i| number(72 + 2 * i, 2) as u32).collect(),
            elem_strides: (0..rank).map(|i| number(82 + i, 1) as u32).collect(),
            swizzle: *SWIZZLES.get(usize::from(bytes[6]))?,
            fill: match bytes[7] {
                0 => Fill::Zeros,
                1 => Fill::Nan,
                _ => return None,
            },
        };
        map.check().is_ok().then_some(map)
    }

    /// Elements of a box along each dimension, as they lie in shared memory.
    pub(crate) fn box_counts(&self) -> Vec<u32> {
        self.box_dims.iter().zip(&self.elem_strides).map(|(n, step)| n.div_ceil(*step)).collect()
    }

    /// The limits of `cuTensorMapEncodeTiled` (CUDA driver API 13.0, tensor map object management).
    fn check(&self) -> Result<(), TensorMapError> {
        let rank = self.dims.len();
        let wrong = |what, found| Err(TensorMapError::Rank { rank, what, found });
        if !(1..=MAX_RANK).contains(&rank) {
            return wrong("extents", rank);
        }
        for (what, found, want) in [
            ("pitches", self.strides_bytes.len(), rank - 1),
            ("box extents", self.box_dims.len(), rank),
            ("element strides", self.elem_strides.len(), rank),
        ] {
            if found != want {
                return wrong(what, found);
            }
        }
        let bad = |what, dimension, found, expected| Err(TensorMapError::Value { what, dimension, found, expected });
        if !self.address.is_multiple_of(16) {
            return bad("the address", 0, self.address, "not a multiple of 16");
        }
        for (i, &extent) in self.dims.iter().enumerate() {
            if !(1..=1 << 32).contains(&extent) {
                return bad("the extent", i, extent, "expected 1 to 2^32");
            }
        }
        for (i, &stride) in self.strides_bytes.iter().enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return bad("the pitch", i + 1, stride, "expected a multiple of 16 below 2^40");
            }
        }
        for (i, (&extent, &step)) in self.box_dims.iter().zip(&self.elem_strides).enumerate() {
            if !(1..=256).contains(&extent) {
                return bad("the box extent", i, extent.into(), "expected 1 to 256");
            }
            if !(1..=8).contains(&step) {
                return bad("the element stride", i, step.into(), "expected 1 to 8");
            }
        }
        let inner = u64::from(self.box_counts()[0] * self.element.bytes());
        if !inner.is_multiple_of(16) {
            return bad("the inner box size in bytes", 0, inner, "expected a multiple of 16");
        }
        match self.swizzle.span_bytes() {
            Some(span) if inner > u64::from(span) => {
                bad("the inner box size in bytes", 0, inner, "wider than the swizzle")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            address: 0x4000,
            element: MapElement::F16,
            dims: vec![100, 1 << 32, 7],
            strides_bytes: vec![208, 4096],
            box_dims: vec![64, 3, 2],
            elem_strides: vec![1, 2, 1],
            swizzle: Swizzle::B128,
            fill: Fill::Nan,
        }
    }

    #[test]
    fn decode_reads_what_encode_wrote() {
        assert_eq!(TensorMap::decode(&map().encode().unwrap()), Some(map()));
        assert_eq!(TensorMap::decode(&[0; 128]), None);
    }

    #[test]
    fn limits_of_the_driver_hold() {
        let broken: [fn(&mut TensorMap); 7] = [
            |m| m.address += 8,
            |m| m.dims[0] = 0,
            |m| m.strides_bytes[0] = 200,
            |m| m.box_dims[1] = 257,
            |m| m.box_dims[0] = 72,
            |m| m.elem_strides[2] = 9,
            |m| m.dims.push(1),
        ];
        for change in broken {
            let mut map = map();
            change(&mut map);
            assert!(map.encode().is_err(), "{map:?}");
        }
    }

    #[test]
    fn swizzles_are_their_own_inverse_inside_their_span() {
        for (swizzle, repeat) in [(Swizzle::B32, 256), (Swizzle::B64, 512), (Swizzle::B128, 1024)] {
            let mut seen: Vec<u32> = (0..repeat).map(|at| swizzle.apply(at)).collect();
            assert!((0..repeat).all(|at| swizzle.apply(swizzle.apply(at)) == at));
            seen.sort_unstable();
            assert!((0..repeat).eq(seen));
        }
        // Row 3 of a 128-byte pattern: chunk 0 moves to chunk 3.
        assert_eq!(Swizzle::B128.apply(3 * 128), 3 * 128 + 3 * 16);
        assert_eq!(Swizzle::B64.apply(5 * 64), 5 * 64 + 2 * 16);
        assert_eq!(Swizzle::B32.apply(5 * 32), 5 * 32 + 16);
    }
}
