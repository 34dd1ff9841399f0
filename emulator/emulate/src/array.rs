//! What goes into a kernel and comes out of it? Plain numbers, as they lie in memory.

/// Element type of an array; bf16 travels as `U16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in Rust")]
pub enum ArrayType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

/// Names on the command line and in messages.
const NAMES: [(&str, ArrayType); 12] = [
    ("u8", ArrayType::U8),
    ("i8", ArrayType::I8),
    ("u16", ArrayType::U16),
    ("bf16", ArrayType::U16),
    ("i16", ArrayType::I16),
    ("u32", ArrayType::U32),
    ("i32", ArrayType::I32),
    ("u64", ArrayType::U64),
    ("i64", ArrayType::I64),
    ("f16", ArrayType::F16),
    ("f32", ArrayType::F32),
    ("f64", ArrayType::F64),
];

impl ArrayType {
    /// Reads a name such as `f32`; `bf16` is `U16`.
    pub fn from_name(name: &str) -> Option<ArrayType> {
        NAMES.iter().find(|(n, _)| *n == name).map(|&(_, ty)| ty)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, ty)| *ty == self).map_or("", |&(name, _)| name)
    }

    /// Size of one element.
    pub fn bytes(self) -> usize {
        match self {
            ArrayType::U8 | ArrayType::I8 => 1,
            ArrayType::U16 | ArrayType::I16 | ArrayType::F16 => 2,
            ArrayType::U32 | ArrayType::I32 | ArrayType::F32 => 4,
            ArrayType::U64 | ArrayType::I64 | ArrayType::F64 => 8,
        }
    }
}

/// An array of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Element type.
    pub ty: ArrayType,
    /// Elements, little-endian, one after the other.
    pub bytes: Vec<u8>,
}

/// An array read as what it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// The element type differs.
    #[error("an array of {found} is read as {wanted}")]
    Type {
        /// What was asked for.
        wanted: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// No array came out of this argument.
    #[error("argument {index} gives no array")]
    None {
        /// Which argument, from 0.
        index: usize,
    },
}

macro_rules! conversions {
    ($($from:ident, $to:ident, $ty:ty, $variant:ident;)*) => {$(
        #[doc = concat!("An array of `", stringify!($ty), "`.")]
        pub fn $from(values: &[$ty]) -> Array {
            Array { ty: ArrayType::$variant, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
        }

        #[doc = concat!("Its elements as `", stringify!($ty), "`.")]
        ///
        /// # Errors
        /// [`ArrayError::Type`] if it holds something else.
        pub fn $to(&self) -> Result<Vec<$ty>, ArrayError> {
            if self.ty != ArrayType::$variant {
                return Err(ArrayError::Type { wanted: stringify!($ty), found: self.ty.name() });
            }
            let parts = self.bytes.chunks_exact(size_of::<$ty>());
            Ok(parts.map(|part| <$ty>::from_le_bytes(part.try_into().expect("the chunk has its size"))).collect())
        }
    )*};
}

impl Array {
    conversions! {
        from_u8, to_u8, u8, U8;
        from_u16, to_u16, u16, U16;
        from_u32, to_u32, u32, U32;
        from_i32, to_i32, i32, I32;
        from_u64, to_u64, u64, U64;
        from_i64, to_i64, i64, I64;
        from_f32, to_f32, f32, F32;
        from_f64, to_f64, f64, F64;
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.ty.bytes()
    }

    /// True for an array of nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
