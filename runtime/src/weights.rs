//! Where do weights come from, and in which dtype do they arrive? Names, checks and conversion at binding.

use crate::tensor::{floats, ints, size_bytes};
use enel_types::DType;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

/// A weight as its source keeps it.
#[derive(Clone, Copy, Debug)]
pub struct WeightView<'a> {
    /// Storage type.
    pub dtype: DType,
    /// Extents.
    pub shape: &'a [usize],
    /// Row-major elements.
    pub bytes: &'a [u8],
}

/// Something that has weights by name, such as a checkpoint.
pub trait WeightSource {
    /// The weight called `name`.
    fn tensor(&self, name: &str) -> Option<WeightView<'_>>;
}

impl WeightSource for BTreeMap<String, crate::HostTensor> {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        self.get(name).map(view)
    }
}

impl<S: BuildHasher> WeightSource for std::collections::HashMap<String, crate::HostTensor, S> {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        self.get(name).map(view)
    }
}

fn view(tensor: &crate::HostTensor) -> WeightView<'_> {
    WeightView { dtype: tensor.dtype(), shape: tensor.shape(), bytes: tensor.bytes() }
}

/// A weight that cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightFault {
    /// The source has no tensor of this name.
    #[error("`{name}` is missing")]
    Missing {
        /// Weight name.
        name: String,
    },
    /// The source's tensor has another shape.
    #[error("`{name}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// Weight name.
        name: String,
        /// Shape of the buffer.
        expected: Vec<usize>,
        /// Shape of the source.
        got: Vec<usize>,
    },
    /// The source's bytes are not what its own dtype and shape say.
    #[error("`{name}` has {got_bytes} B, which is not what its dtype and shape need")]
    Bytes {
        /// Weight name.
        name: String,
        /// Bytes of the source.
        got_bytes: usize,
    },
    /// The source's dtype does not convert.
    #[error("`{name}` is {got}, which does not convert to {expected}")]
    DType {
        /// Weight name.
        name: String,
        /// Dtype of the buffer.
        expected: DType,
        /// Dtype of the source.
        got: DType,
    },
    /// An integer of the source does not fit the buffer's dtype.
    #[error("`{name}` holds a value that does not fit {expected}")]
    Value {
        /// Weight name.
        name: String,
        /// Dtype of the buffer.
        expected: DType,
    },
}

/// Checks what can be checked without looking at values.
pub(crate) fn check(
    name: &str,
    found: Option<WeightView<'_>>,
    dtype: DType,
    shape: &[usize],
) -> Result<(), WeightFault> {
    let name = name.to_owned();
    let Some(view) = found else { return Err(WeightFault::Missing { name }) };
    if view.shape != shape {
        return Err(WeightFault::Shape { name, expected: shape.to_vec(), got: view.shape.to_vec() });
    }
    if size_bytes(view.dtype, view.shape) != Some(view.bytes.len()) {
        return Err(WeightFault::Bytes { name, got_bytes: view.bytes.len() });
    }
    let converts =
        dtype == view.dtype || (dtype.is_float() && view.dtype.is_float()) || (dtype.is_int() && view.dtype.is_int());
    if converts { Ok(()) } else { Err(WeightFault::DType { name, expected: dtype, got: view.dtype }) }
}

/// The bytes in another dtype: floats round to nearest even, integers keep their value; `None` when one cannot.
pub(crate) fn convert<'a>(view: &WeightView<'a>, to: DType) -> Option<Cow<'a, [u8]>> {
    let WeightView { dtype: from, shape: _, bytes } = *view;
    if from == to {
        return Some(Cow::Borrowed(bytes));
    }
    let n = bytes.len() / from.size_bytes();
    let mut out = Vec::with_capacity(n * to.size_bytes());
    match to {
        DType::F32 => floats(bytes, from).for_each(|x| out.extend(x.to_ne_bytes())),
        DType::BF16 => floats(bytes, from).for_each(|x| out.extend(half::bf16::from_f32(x).to_ne_bytes())),
        DType::F16 => floats(bytes, from).for_each(|x| out.extend(half::f16::from_f32(x).to_ne_bytes())),
        DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => {
            for x in ints(bytes, from) {
                if to.wrap(x) != x {
                    return None;
                }
                // Little endian puts the bytes a narrower integer keeps first.
                out.extend(&x.to_le_bytes()[..to.size_bytes()]);
            }
        }
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostTensor;

    fn converted(tensor: &HostTensor, to: DType) -> Option<HostTensor> {
        let bytes = convert(&view(tensor), to)?.into_owned();
        Some(HostTensor::new(to, tensor.shape(), bytes).unwrap())
    }

    #[test]
    fn floats_round_once_and_integers_keep_their_value() {
        let x = HostTensor::from_f32(&[3], &[1.0, 1.003_906_3, -2.5]).unwrap();
        assert_eq!(converted(&x, DType::BF16).unwrap().to_f32().unwrap(), [1.0, 1.0, -2.5]);
        let half = converted(&x, DType::F16).unwrap();
        assert_eq!(half.to_f32().unwrap(), x.to_f32().unwrap());
        assert_eq!(converted(&half, DType::F32).unwrap(), x);
        let i = HostTensor::from_i64(&[2], &[-3, 200]).unwrap();
        assert_eq!(converted(&i, DType::I32).unwrap().to_i64().unwrap(), [-3, 200]);
        assert_eq!(converted(&i, DType::U8), None, "-3 is no u8");
    }
}
