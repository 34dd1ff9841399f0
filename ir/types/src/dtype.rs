//! How is one element stored? The eight storage types and their sizes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Storage type of a tensor's elements.
///
/// A dtype says how values are kept in memory; arithmetic inside a fused group is f32 for every float dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// bfloat16: the upper half of binary32.
    BF16,
    /// IEEE binary16.
    F16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 8-bit integer.
    U8,
    /// Truth value, stored as one byte 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [DType; 8] =
        [DType::F32, DType::BF16, DType::F16, DType::I64, DType::I32, DType::U32, DType::U8, DType::Bool];

    /// Bytes one element takes.
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::I64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// True for f32, bf16 and f16.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// True for i64, i32, u32 and u8; bool is no integer.
    pub const fn is_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::U32 | DType::U8)
    }

    /// The name the text format uses.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }

    /// The dtype called `name`, if there is one.
    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }

    /// `x` as it reads back after being stored: rounded to nearest even for floats, unchanged otherwise.
    pub fn round(self, x: f64) -> f64 {
        match self {
            DType::F32 => f64::from(x as f32),
            // By way of f32, as devices do, whose sums are f32; `from_f64` of `half` drops bits before it rounds.
            DType::BF16 => f64::from(half::bf16::from_f32(x as f32)),
            DType::F16 => f64::from(half::f16::from_f32(x as f32)),
            DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => x,
        }
    }

    /// `x` as it reads back after being stored in an integer dtype: wrapped to its width; bool keeps `x != 0`.
    pub fn wrap(self, x: i64) -> i64 {
        match self {
            DType::I32 => i64::from(x as i32),
            DType::U32 => i64::from(x as u32),
            DType::U8 => i64::from(x as u8),
            DType::Bool => i64::from(x != 0),
            DType::I64 | DType::F32 | DType::BF16 | DType::F16 => x,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for d in DType::ALL {
            assert_eq!(DType::parse(d.name()), Some(d));
        }
        assert_eq!(DType::parse("f64"), None);
    }

    #[test]
    fn rounding_is_what_storage_does() {
        assert_eq!(DType::BF16.round(1.003_906_25), 1.0, "a tie goes to even");
        assert_eq!(DType::BF16.round(1.0 + 0.003_906_25 + 1.2e-7), 1.007_812_5, "just above a tie goes up");
        assert_eq!(DType::F32.round(0.1), f64::from(0.1f32));
        assert_eq!(DType::U8.wrap(257), 1);
        assert_eq!(DType::I32.wrap(1 << 31), i64::from(i32::MIN));
    }
}
