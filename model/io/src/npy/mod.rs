//! What array does a NumPy `.npy` file hold?
//!
//! Versions 1 to 3, both byte orders, C and Fortran order; data always come out in C order.
//! **Source** NumPy 2, `numpy.lib.format`, "Format Version 1.0" to "3.0".

mod header;

use std::path::Path;

use half::f16;

use header::{Header, Kind};

/// Why bytes are not a usable `.npy` array.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// The first bytes are others.
    #[error("not a .npy file: it does not begin with the NumPy mark")]
    Magic,
    /// A format version that does not exist yet.
    #[error(".npy version {major}.{minor} is unknown, versions 1 to 3 are read")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The header is cut or is not the dictionary it should be.
    #[error("the .npy header is broken: {what}")]
    Header {
        /// What is wrong.
        what: &'static str,
    },
    /// An element type that holds no plain numbers.
    #[error("the .npy element type {descr} is unsupported; save plain numbers, for example with .astype('float32')")]
    Dtype {
        /// NumPy's name for it.
        descr: String,
    },
    /// A shape whose size is beyond what can be counted.
    #[error("the .npy shape {shape:?} is too large")]
    Shape {
        /// The shape.
        shape: Vec<u64>,
    },
    /// The file ends too early.
    #[error("the .npy file is cut: {shape:?} elements need {need_bytes} B, {have_bytes} B are there")]
    Cut {
        /// The shape.
        shape: Vec<usize>,
        /// Bytes the header promises.
        need_bytes: usize,
        /// Bytes after the header.
        have_bytes: usize,
    },
}

/// Elements of an array, in C order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The variants are the types.
pub enum NpyData {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// An array with its shape; the number of elements is the product of the extents.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    shape: Vec<usize>,
    data: NpyData,
}

/// Runs `$body` for the vector inside `$data`, whatever its type.
macro_rules! with_elements {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            NpyData::Bool($v) => $body,
            NpyData::U8($v) => $body,
            NpyData::U16($v) => $body,
            NpyData::U32($v) => $body,
            NpyData::U64($v) => $body,
            NpyData::I8($v) => $body,
            NpyData::I16($v) => $body,
            NpyData::I32($v) => $body,
            NpyData::I64($v) => $body,
            NpyData::F16($v) => $body,
            NpyData::F32($v) => $body,
            NpyData::F64($v) => $body,
        }
    };
}

/// One element as it lies in a file.
trait Element: Copy {
    const DESCR: &'static str;
    fn from_bytes(raw: &[u8], is_big: bool) -> Self;
    fn write(self, out: &mut Vec<u8>);
    fn as_f32(self) -> f32;
    fn as_f64(self) -> f64;
}

macro_rules! element {
    ($($ty:ty, $descr:literal, $as_f32:expr, $as_f64:expr;)*) => {$(
        impl Element for $ty {
            const DESCR: &'static str = $descr;
            fn from_bytes(raw: &[u8], is_big: bool) -> Self {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(raw);
                if is_big { Self::from_be_bytes(bytes) } else { Self::from_le_bytes(bytes) }
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn as_f32(self) -> f32 {
                let convert: fn(Self) -> f32 = $as_f32;
                convert(self)
            }
            fn as_f64(self) -> f64 {
                let convert: fn(Self) -> f64 = $as_f64;
                convert(self)
            }
        }
    )*};
}

element! {
    u8, "|u1", |x| f32::from(x), f64::from;
    u16, "<u2", |x| f32::from(x), f64::from;
    u32, "<u4", |x| x as f32, f64::from;
    u64, "<u8", |x| x as f32, |x| x as f64;
    i8, "|i1", |x| f32::from(x), f64::from;
    i16, "<i2", |x| f32::from(x), f64::from;
    i32, "<i4", |x| x as f32, f64::from;
    i64, "<i8", |x| x as f32, |x| x as f64;
    f16, "<f2", |x| x.to_f32(), |x| x.to_f64();
    f32, "<f4", |x| x, f64::from;
    f64, "<f8", |x| x as f32, |x| x;
}

impl Element for bool {
    const DESCR: &'static str = "|b1";

    fn from_bytes(raw: &[u8], _is_big: bool) -> Self {
        raw.iter().any(|&byte| byte != 0)
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }

    fn as_f32(self) -> f32 {
        f32::from(u8::from(self))
    }

    fn as_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl NpyArray {
    /// An array of `data`; `None` when the product of `shape` is not the number of elements.
    pub fn new(shape: Vec<usize>, data: NpyData) -> Option<Self> {
        let n_elems = with_elements!(&data, v => v.len());
        let product = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))?;
        (product == n_elems).then_some(Self { shape, data })
    }

    /// Reads the bytes of a file; what follows the array is left alone, as NumPy does.
    ///
    /// # Errors
    /// Every [`NpyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NpyError> {
        let Header { descr, is_big, kind, fortran_order, shape, body } = header::parse(bytes)?;
        let too_large = || NpyError::Shape { shape: shape.clone() };
        let extents: Option<Vec<usize>> = shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        let extents = extents.ok_or_else(too_large)?;
        let n_elems = extents.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).ok_or_else(too_large)?;
        let elem_bytes = kind.elem_bytes();
        let need_bytes = n_elems.checked_mul(elem_bytes).ok_or_else(too_large)?;
        let Some(body) = body.get(..need_bytes) else {
            return Err(NpyError::Cut { shape: extents, need_bytes, have_bytes: body.len() });
        };
        let order = Order { shape: &extents, is_fortran: fortran_order, is_big };
        let data = match kind {
            Kind::Bool => NpyData::Bool(elements(body, order)),
            Kind::Unsigned(1) => NpyData::U8(elements(body, order)),
            Kind::Unsigned(2) => NpyData::U16(elements(body, order)),
            Kind::Unsigned(4) => NpyData::U32(elements(body, order)),
            Kind::Unsigned(8) => NpyData::U64(elements(body, order)),
            Kind::Signed(1) => NpyData::I8(elements(body, order)),
            Kind::Signed(2) => NpyData::I16(elements(body, order)),
            Kind::Signed(4) => NpyData::I32(elements(body, order)),
            Kind::Signed(8) => NpyData::I64(elements(body, order)),
            Kind::Float(2) => NpyData::F16(elements(body, order)),
            Kind::Float(4) => NpyData::F32(elements(body, order)),
            Kind::Float(8) => NpyData::F64(elements(body, order)),
            Kind::Unsigned(_) | Kind::Signed(_) | Kind::Float(_) => return Err(NpyError::Dtype { descr }),
        };
        Ok(Self { shape: extents, data })
    }

    /// The shape that the header at the front of `bytes` announces; the elements need not be there.
    ///
    /// # Errors
    /// As [`NpyArray::parse`], without [`NpyError::Cut`].
    pub fn parse_shape(bytes: &[u8]) -> Result<Vec<usize>, NpyError> {
        let Header { shape, .. } = header::parse(bytes)?;
        let extents: Option<Vec<usize>> = shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        extents.ok_or(NpyError::Shape { shape })
    }

    /// The bytes of a file, version 1.0, or 2.0 for a very long shape.
    pub fn to_bytes(&self) -> Vec<u8> {
        fn body<T: Element>(elements: &[T], shape: &[usize]) -> Vec<u8> {
            let mut out = header::write(T::DESCR, shape);
            out.reserve(size_of_val(elements));
            elements.iter().for_each(|element| element.write(&mut out));
            out
        }
        with_elements!(&self.data, v => body(v, &self.shape))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        crate::write_atomic(path, |out| out.write_all(&self.to_bytes()))
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements in C order.
    pub fn data(&self) -> &NpyData {
        &self.data
    }

    /// Whether the elements are whole numbers.
    pub fn is_integer(&self) -> bool {
        !matches!(self.data, NpyData::F16(_) | NpyData::F32(_) | NpyData::F64(_) | NpyData::Bool(_))
    }

    /// Element `index` in C order, as `f64`.
    ///
    /// # Panics
    /// When there are not as many elements.
    pub fn f64_at(&self, index: usize) -> f64 {
        with_elements!(&self.data, v => v[index].as_f64())
    }

    /// Elements rounded to `f32`.
    pub fn to_f32(&self) -> Vec<f32> {
        with_elements!(&self.data, v => v.iter().map(|x| x.as_f32()).collect())
    }
}

#[derive(Clone, Copy)]
struct Order<'a> {
    shape: &'a [usize],
    is_fortran: bool,
    is_big: bool,
}

/// Reads elements into C order.
fn elements<T: Element>(body: &[u8], order: Order<'_>) -> Vec<T> {
    let elem_bytes = size_of::<T>();
    let at = |index: usize| T::from_bytes(&body[index * elem_bytes..][..elem_bytes], order.is_big);
    let n_elems = body.len() / elem_bytes;
    if !order.is_fortran || order.shape.len() < 2 {
        return (0..n_elems).map(at).collect();
    }
    let mut strides = Vec::with_capacity(order.shape.len());
    let mut stride = 1;
    for &extent in order.shape {
        strides.push(stride);
        stride *= extent;
    }
    let mut out = Vec::with_capacity(n_elems);
    let mut counter = vec![0; order.shape.len()];
    let mut offset = 0;
    while out.len() < n_elems {
        out.push(at(offset));
        for axis in (0..counter.len()).rev() {
            counter[axis] += 1;
            offset += strides[axis];
            if counter[axis] < order.shape[axis] {
                break;
            }
            offset -= strides[axis] * counter[axis];
            counter[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests;
