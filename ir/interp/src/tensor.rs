//! What is a value? A dtype, extents, and elements widened to f64 or i64.
//!
//! Law: element count and kind fit dtype and shape in every tensor a constructor or the interpreter makes; fields are
//! public for callers that compare, and [`crate::run`] checks what it is given.

use crate::view::{View, elems};
use enel_types::DType;
use half::{bf16, f16};

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Float dtypes; not rounded to the dtype unless something says so.
    F(Vec<f64>),
    /// Integer dtypes and bool, inside the range of the dtype.
    I(Vec<i64>),
}

/// A value of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// How elements are stored on a device.
    pub dtype: DType,
    /// Extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

/// Why elements make no tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of elements is not what the shape says.
    #[error("shape {shape:?} does not hold {got} elements")]
    Count {
        /// Extents.
        shape: Vec<usize>,
        /// Elements given.
        got: usize,
    },
    /// The number of bytes is not what dtype and shape say.
    #[error("{dtype}{shape:?} does not take {got_bytes} bytes")]
    Bytes {
        /// Storage type.
        dtype: DType,
        /// Extents.
        shape: Vec<usize>,
        /// Bytes given.
        got_bytes: usize,
    },
    /// Integer elements for a float dtype, or the other way round.
    #[error("{dtype} does not hold this kind of elements")]
    Kind {
        /// Storage type.
        dtype: DType,
    },
    /// An integer outside the range of the dtype.
    #[error("{value} does not fit {dtype}")]
    Range {
        /// Storage type.
        dtype: DType,
        /// The element.
        value: i64,
    },
}

impl Tensor {
    /// A tensor from its parts, checked.
    ///
    /// # Errors
    /// [`TensorError`] when kind, count or range do not fit.
    pub fn new(dtype: DType, shape: &[usize], values: Values) -> Result<Tensor, TensorError> {
        let tensor = Tensor { dtype, shape: shape.to_vec(), values };
        tensor.check()?;
        Ok(tensor)
    }

    /// Says whether the fields fit together.
    ///
    /// # Errors
    /// [`TensorError`] when kind, count or range do not fit.
    pub fn check(&self) -> Result<(), TensorError> {
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count != Some(self.values.len()) {
            return Err(TensorError::Count { shape: self.shape.clone(), got: self.values.len() });
        }
        match &self.values {
            Values::F(_) if self.dtype.is_float() => Ok(()),
            Values::I(list) if !self.dtype.is_float() => match list.iter().find(|&&x| self.dtype.wrap(x) != x) {
                Some(&value) => Err(TensorError::Range { dtype: self.dtype, value }),
                None => Ok(()),
            },
            Values::F(_) | Values::I(_) => Err(TensorError::Kind { dtype: self.dtype }),
        }
    }

    /// Floats of any float dtype, kept as they are: not rounded.
    ///
    /// # Errors
    /// [`TensorError::Count`], [`TensorError::Kind`].
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        Tensor::new(dtype, shape, Values::F(values.to_vec()))
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Tensor, TensorError> {
        Tensor::new(DType::F32, shape, Values::F(values.iter().map(|&x| f64::from(x)).collect()))
    }

    /// An i32 tensor.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn from_i32(shape: &[usize], values: &[i32]) -> Result<Tensor, TensorError> {
        Tensor::new(DType::I32, shape, Values::I(values.iter().map(|&x| i64::from(x)).collect()))
    }

    /// An i64 tensor.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Tensor, TensorError> {
        Tensor::new(DType::I64, shape, Values::I(values.to_vec()))
    }

    /// A u8 tensor.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn from_u8(shape: &[usize], values: &[u8]) -> Result<Tensor, TensorError> {
        Tensor::new(DType::U8, shape, Values::I(values.iter().map(|&x| i64::from(x)).collect()))
    }

    /// A bool tensor.
    ///
    /// # Errors
    /// [`TensorError::Count`].
    pub fn from_bool(shape: &[usize], values: &[bool]) -> Result<Tensor, TensorError> {
        Tensor::new(DType::Bool, shape, Values::I(values.iter().map(|&x| i64::from(x)).collect()))
    }

    /// A tensor from little-endian storage; any byte but 0 is true for bool.
    ///
    /// # Errors
    /// [`TensorError::Bytes`].
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, TensorError> {
        let size = shape.iter().try_fold(dtype.size_bytes(), |n, &d| n.checked_mul(d));
        if size != Some(bytes.len()) {
            return Err(TensorError::Bytes { dtype, shape: shape.to_vec(), got_bytes: bytes.len() });
        }
        let values = match dtype {
            DType::F32 => Values::F(read(bytes, |b| f64::from(f32::from_le_bytes(b)))),
            DType::BF16 => Values::F(read(bytes, |b| f64::from(bf16::from_le_bytes(b)))),
            DType::F16 => Values::F(read(bytes, |b| f64::from(f16::from_le_bytes(b)))),
            DType::I64 => Values::I(read(bytes, i64::from_le_bytes)),
            DType::I32 => Values::I(read(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            DType::U32 => Values::I(read(bytes, |b| i64::from(u32::from_le_bytes(b)))),
            DType::U8 => Values::I(read(bytes, |[b]: [u8; 1]| i64::from(b))),
            DType::Bool => Values::I(read(bytes, |[b]: [u8; 1]| i64::from(b != 0))),
        };
        Tensor::new(dtype, shape, values)
    }

    /// Little-endian storage; floats are rounded to the dtype, integers wrapped to it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.values.len() * self.dtype.size_bytes());
        match &self.values {
            Values::F(list) => {
                for &x in list {
                    float_bytes(self.dtype, self.dtype.round(x), &mut out);
                }
            }
            Values::I(list) => {
                for &x in list {
                    let bytes = self.dtype.wrap(x).to_le_bytes();
                    out.extend_from_slice(&bytes[..self.dtype.size_bytes()]);
                }
            }
        }
        out
    }

    /// All elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            Values::F(list) => list.clone(),
            Values::I(list) => list.iter().map(|&x| x as f64).collect(),
        }
    }

    /// All elements as f32, rounded to nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::F(list) => list.iter().map(|&x| x as f32).collect(),
            Values::I(list) => list.iter().map(|&x| x as f32).collect(),
        }
    }

    /// The elements of an integer or bool tensor; none for floats.
    pub fn to_i64(&self) -> Option<&[i64]> {
        match &self.values {
            Values::I(list) => Some(list),
            Values::F(_) => None,
        }
    }

    /// This tensor with floats rounded to `dtype`, which need not be its own; integers stay as they are.
    #[must_use]
    pub fn rounded(mut self, dtype: DType) -> Tensor {
        if let Values::F(list) = &mut self.values {
            for x in list {
                *x = dtype.round(*x);
            }
        }
        self
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        elems(&self.shape)
    }

    /// The floats of a value the verifier knows to be float.
    pub(crate) fn floats(&self) -> &[f64] {
        match &self.values {
            Values::F(list) => list,
            Values::I(_) => unreachable!("a rule of the op says float, and the graph is verified"),
        }
    }

    /// The integers of a value the verifier knows to be integer or bool.
    pub(crate) fn ints(&self) -> &[i64] {
        match &self.values {
            Values::I(list) => list,
            Values::F(_) => unreachable!("a rule of the op says integer or bool, and the graph is verified"),
        }
    }
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F(list) => list.len(),
            Values::I(list) => list.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements a view names, in its order.
    pub(crate) fn read(&self, view: &View) -> Values {
        match self {
            Values::F(list) => Values::F(view.read(list)),
            Values::I(list) => Values::I(view.read(list)),
        }
    }
}

fn read<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
    let chunk = |c: &[u8]| one(c.try_into().expect("chunks_exact gives N bytes"));
    bytes.chunks_exact(N).map(chunk).collect()
}

fn float_bytes(dtype: DType, x: f64, out: &mut Vec<u8>) {
    match dtype {
        DType::F32 => out.extend_from_slice(&(x as f32).to_le_bytes()),
        DType::BF16 => out.extend_from_slice(&bf16::from_f64(x).to_le_bytes()),
        DType::F16 => out.extend_from_slice(&f16::from_f64(x).to_le_bytes()),
        DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => {
            unreachable!("constructors and the interpreter keep floats in float dtypes")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_reads_back_for_every_dtype() {
        for dtype in DType::ALL {
            // Small bytes only, so that no float is a NaN whose payload may change.
            let counting: Vec<u8> = (0..6 * dtype.size_bytes() as u8).collect();
            let bytes = if dtype == DType::Bool { vec![0, 1, 1, 0, 1, 0] } else { counting };
            let tensor = Tensor::from_bytes(dtype, &[2, 3], &bytes).unwrap();
            assert_eq!(tensor.to_bytes(), bytes, "{dtype}");
            assert!(Tensor::from_bytes(dtype, &[2, 4], &bytes).is_err());
        }
    }

    #[test]
    fn storing_rounds_floats() {
        let third = Tensor::from_f64(DType::BF16, &[1], &[1.0 / 3.0]).unwrap();
        assert_eq!(third.to_bytes(), [0xab, 0x3e]);
        assert_eq!(third.to_f64(), [1.0 / 3.0], "and only storing does");
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(matches!(Tensor::from_f32(&[2], &[1.0]), Err(TensorError::Count { got: 1, .. })));
        assert!(matches!(Tensor::from_f64(DType::I32, &[1], &[1.0]), Err(TensorError::Kind { .. })));
        assert!(matches!(Tensor::new(DType::U8, &[1], Values::I(vec![256])), Err(TensorError::Range { .. })));
        assert!(Tensor::from_f32(&[usize::MAX, 2], &[1.0]).is_err());
    }
}
