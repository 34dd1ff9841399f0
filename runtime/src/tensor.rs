//! How do tensors cross the border? Bytes on the host with a dtype and a shape.

use enel_types::DType;

/// A tensor on the host: row-major bytes, exactly as many as dtype and shape say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Bytes that do not fit a dtype and shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {dtype} tensor of shape {shape:?} does not have {got_bytes} B")]
pub struct TensorError {
    /// The dtype.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// Bytes given.
    pub got_bytes: usize,
}

/// Bytes of a row-major tensor, if they fit the address space.
pub(crate) fn size_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size_bytes(), |bytes, n| bytes.checked_mul(*n))
}

impl HostTensor {
    /// A tensor over `bytes`.
    ///
    /// # Errors
    /// [`TensorError`] when the number of bytes is wrong.
    pub fn new(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<HostTensor, TensorError> {
        if size_bytes(dtype, shape) != Some(bytes.len()) {
            return Err(TensorError { dtype, shape: shape.to_vec(), got_bytes: bytes.len() });
        }
        Ok(HostTensor { dtype, shape: shape.to_vec(), bytes })
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// [`TensorError`] when the number of values is wrong.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<HostTensor, TensorError> {
        HostTensor::new(DType::F32, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// An i32 tensor.
    ///
    /// # Errors
    /// [`TensorError`] when the number of values is wrong.
    pub fn from_i32(shape: &[usize], values: &[i32]) -> Result<HostTensor, TensorError> {
        HostTensor::new(DType::I32, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// An i64 tensor.
    ///
    /// # Errors
    /// [`TensorError`] when the number of values is wrong.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<HostTensor, TensorError> {
        HostTensor::new(DType::I64, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// Storage type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Row-major elements.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The values of a float tensor.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.dtype.is_float().then(|| floats(&self.bytes, self.dtype).collect())
    }

    /// The values of an integer or bool tensor.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        (!self.dtype.is_float()).then(|| ints(&self.bytes, self.dtype).collect())
    }
}

/// The elements of a float dtype.
pub(crate) fn floats(bytes: &[u8], dtype: DType) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(dtype.size_bytes()).map(move |b| match (dtype, b) {
        (DType::BF16, [x, y]) => half::bf16::from_ne_bytes([*x, *y]).to_f32(),
        (DType::F16, [x, y]) => half::f16::from_ne_bytes([*x, *y]).to_f32(),
        (_, [x, y, z, w]) => f32::from_ne_bytes([*x, *y, *z, *w]),
        _ => f32::NAN,
    })
}

/// The elements of an integer dtype or bool.
pub(crate) fn ints(bytes: &[u8], dtype: DType) -> impl Iterator<Item = i64> {
    bytes.chunks_exact(dtype.size_bytes()).map(move |b| match (dtype, b) {
        (DType::U32, [x, y, z, w]) => i64::from(u32::from_ne_bytes([*x, *y, *z, *w])),
        (_, [x, y, z, w]) => i64::from(i32::from_ne_bytes([*x, *y, *z, *w])),
        (DType::Bool, [x]) => i64::from(*x != 0),
        (_, [x]) => i64::from(*x),
        (_, b) => b.try_into().map_or(0, i64::from_ne_bytes),
    })
}
