//! How are numbers rounded? Every format and rounding mode PTX knows, from one double-precision value.
//!
//! A result is first computed in f64 rounded to odd: the last bit also says "and a bit more". Rounding that to a
//! format with at most 50 significant bits gives the correctly rounded result (Boldo and Melquiond 2008, "Emulation
//! of FMA and correctly rounded sums: proved algorithms using rounding to odd", theorem 2).

use crate::decode::op::{Half, Rnd};

/// A binary floating-point format of at most 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    mantissa_bits: u32,
    exponent_bits: u32,
    nan: u32,
}

impl Format {
    pub(crate) const fn new(mantissa_bits: u32, exponent_bits: u32, nan: u32) -> Format {
        Format { mantissa_bits, exponent_bits, nan }
    }
}

pub(crate) const F32: Format = Format { mantissa_bits: 23, exponent_bits: 8, nan: 0x7fff_ffff };
pub(crate) const F16: Format = Format { mantissa_bits: 10, exponent_bits: 5, nan: 0x7fff };
pub(crate) const BF16: Format = Format { mantissa_bits: 7, exponent_bits: 8, nan: 0x7fff };
/// tf32 occupies the upper 19 bits of a word; this is those bits.
pub(crate) const TF32: Format = Format { mantissa_bits: 10, exponent_bits: 8, nan: 0x3_ffff };

pub(crate) fn half_format(half: Half) -> Format {
    match half {
        Half::F16 => F16,
        Half::Bf16 => BF16,
    }
}

/// Rounds `x` to `format`, giving its bits.
pub(crate) fn narrow(x: f64, format: Format, rnd: Rnd) -> u32 {
    let Format { mantissa_bits: man, exponent_bits, nan } = format;
    let max_exp = (1u32 << exponent_bits) - 1;
    let bias = (max_exp >> 1) as i32;
    if x.is_nan() {
        return nan;
    }
    let negative = x.is_sign_negative();
    let sign = u32::from(negative) << (man + exponent_bits);
    let bits = x.to_bits() & !(1 << 63);
    if bits == 0 {
        return sign;
    }
    if x.is_infinite() {
        return sign | max_exp << man;
    }
    let raw_exp = (bits >> 52) as i32;
    let exp = if raw_exp == 0 { -1022 } else { raw_exp - 1023 };
    let significand = bits & ((1 << 52) - 1) | u64::from(raw_exp != 0) << 52;
    let min_exp = 1 - bias;
    let below = (min_exp - exp).max(0) as u32;
    let shift = (52 - man + below).min(60);
    let kept = significand >> shift;
    let rest = significand & ((1 << shift) - 1);
    let half = 1u64 << (shift - 1);
    let up = match rnd {
        Rnd::Near => rest > half || (rest == half && kept & 1 == 1),
        Rnd::NearAway => rest >= half,
        Rnd::Zero => false,
        Rnd::Up => rest != 0 && !negative,
        Rnd::Down => rest != 0 && negative,
    };
    let kept = kept as u32 + u32::from(up);
    // A carry out of the significand lands in the exponent, as it should.
    let magnitude = if below > 0 { kept } else { (((exp + bias - 1) as u32) << man).wrapping_add(kept) };
    if exp > bias || magnitude >= max_exp << man {
        let to_infinity = match rnd {
            Rnd::Near | Rnd::NearAway => true,
            Rnd::Zero => false,
            Rnd::Up => !negative,
            Rnd::Down => negative,
        };
        return sign | if to_infinity { max_exp << man } else { (max_exp << man) - 1 };
    }
    sign | magnitude
}

/// Value of f16 bits.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    let value = match magnitude {
        0x7c00.. => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // Moving the exponent field into place and scaling is exact for normal and subnormal values alike.
        _ => f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000),
    };
    f32::from_bits(value.to_bits() | sign)
}

/// Value of bf16 bits.
#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// Value of e4m3 bits: four exponent bits with bias 7, no infinity, NaN where all are set (OCP 8-bit floating point 1.0).
pub(crate) fn e4m3_to_f32(bits: u32) -> f32 {
    let (exponent, mantissa) = (bits >> 3 & 0xf, (bits & 7) as f32);
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 120) << 23),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

#[inline(always)]
pub(crate) fn half_to_f32(bits: u32, half: Half) -> f32 {
    match half {
        Half::F16 => f16_to_f32(bits & 0xffff),
        Half::Bf16 => bf16_to_f32(bits & 0xffff),
    }
}

/// f32 to bf16, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        return BF16.nan;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// Makes the last bit odd where `error` says the value is not exact.
fn to_odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || !value.is_finite() || value.to_bits() & 1 == 1 {
        return value;
    }
    let away = (error > 0.0) == (value > 0.0);
    f64::from_bits(if away { value.to_bits() + 1 } else { value.to_bits() - 1 })
}

/// `a + b` rounded to odd (the error term is Knuth's TwoSum).
pub(crate) fn add_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_part = sum - a;
    to_odd(sum, (a - (sum - b_part)) + (b - b_part))
}

/// `a * b + c` rounded to odd, where `a * b` is exact in f64 (true for formats up to f32).
pub(crate) fn fma_odd(a: f64, b: f64, c: f64) -> f64 {
    add_odd(a * b, c)
}

/// `a / b` rounded to odd.
pub(crate) fn div_odd(a: f64, b: f64) -> f64 {
    let q = a / b;
    if !q.is_finite() || q == 0.0 {
        return q;
    }
    let rest = q.mul_add(-b, a);
    to_odd(q, if b > 0.0 { rest } else { -rest })
}

/// `sqrt(a)` rounded to odd.
pub(crate) fn sqrt_odd(a: f64) -> f64 {
    let root = a.sqrt();
    if !root.is_finite() || root == 0.0 {
        return root;
    }
    to_odd(root, root.mul_add(-root, a))
}

/// Integer to f64 rounded to odd.
pub(crate) fn int_to_f64_odd(magnitude: u64, negative: bool) -> f64 {
    let extra = 11u32.saturating_sub(magnitude.leading_zeros());
    let kept = magnitude >> extra << extra;
    let sticky = u64::from(kept != magnitude) << extra;
    let value = (kept | sticky) as f64;
    if negative { -value } else { value }
}

/// Integer to f64 in any rounding mode.
pub(crate) fn int_to_f64(magnitude: u64, negative: bool, rnd: Rnd) -> f64 {
    let near = magnitude as f64;
    let (exact, got) = (u128::from(magnitude), near as u128);
    let up = match rnd {
        Rnd::Near | Rnd::NearAway => return if negative { -near } else { near },
        Rnd::Zero => false,
        Rnd::Up => !negative,
        Rnd::Down => negative,
    };
    let value = match (got.cmp(&exact), up) {
        (std::cmp::Ordering::Greater, false) => f64::from_bits(near.to_bits() - 1),
        (std::cmp::Ordering::Less, true) => f64::from_bits(near.to_bits() + 1),
        _ => near,
    };
    if negative { -value } else { value }
}

/// Rounds to an integral value.
pub(crate) fn round_integral(x: f64, rnd: Rnd) -> f64 {
    match rnd {
        Rnd::Near => x.round_ties_even(),
        Rnd::NearAway => x.round(),
        Rnd::Zero => x.trunc(),
        Rnd::Down => x.floor(),
        Rnd::Up => x.ceil(),
    }
}

/// Flushes a subnormal to zero of the same sign.
#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    if x.to_bits() & 0x7f80_0000 == 0 { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}
