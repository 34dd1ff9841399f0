//! What does a buffer hold? Values on the host, bytes on a device.

use enel_types::DType;

/// The elements of one buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Float dtypes, as they read back.
    Float(DType, Vec<f64>),
    /// Integer dtypes and bool.
    Int(DType, Vec<i64>),
}

impl Data {
    /// Rounds to storage.
    pub fn float(dtype: DType, values: impl IntoIterator<Item = f64>) -> Data {
        Data::Float(dtype, values.into_iter().map(|x| dtype.round(x)).collect())
    }

    /// Wraps to storage.
    pub fn int(dtype: DType, values: impl IntoIterator<Item = i64>) -> Data {
        Data::Int(dtype, values.into_iter().map(|x| dtype.wrap(x)).collect())
    }

    /// `n` zeros.
    pub fn zeros(dtype: DType, n: usize) -> Data {
        if dtype.is_float() { Data::Float(dtype, vec![0.0; n]) } else { Data::Int(dtype, vec![0; n]) }
    }

    /// Storage type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::Float(dtype, _) | Data::Int(dtype, _) => *dtype,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Float(_, x) => x.len(),
            Data::Int(_, x) => x.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a device holds it, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Data::Float(DType::BF16, x) => {
                x.iter().flat_map(|x| half::bf16::from_f64(*x).to_bits().to_le_bytes()).collect()
            }
            Data::Float(DType::F16, x) => {
                x.iter().flat_map(|x| half::f16::from_f64(*x).to_bits().to_le_bytes()).collect()
            }
            Data::Float(_, x) => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
            Data::Int(dtype, x) => x.iter().flat_map(|x| x.to_le_bytes()[..dtype.size_bytes()].to_vec()).collect(),
        }
    }

    /// The reverse of [`Data::to_bytes`]; bytes of a last broken element are ignored.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Data {
        let pieces = bytes.chunks_exact(dtype.size_bytes());
        let bits = |c: &[u8]| c.iter().rev().fold(0u64, |bits, b| bits << 8 | u64::from(*b));
        match dtype {
            DType::F32 => Data::Float(dtype, pieces.map(|c| f32::from_bits(bits(c) as u32).into()).collect()),
            DType::BF16 => Data::Float(dtype, pieces.map(|c| half::bf16::from_bits(bits(c) as u16).into()).collect()),
            DType::F16 => Data::Float(dtype, pieces.map(|c| half::f16::from_bits(bits(c) as u16).into()).collect()),
            DType::I64 => Data::Int(dtype, pieces.map(|c| bits(c) as i64).collect()),
            DType::I32 => Data::Int(dtype, pieces.map(|c| i64::from(bits(c) as u32 as i32)).collect()),
            DType::U32 | DType::U8 | DType::Bool => Data::Int(dtype, pieces.map(|c| bits(c) as i64).collect()),
        }
    }
}
