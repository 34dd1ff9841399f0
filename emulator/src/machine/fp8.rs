//! How do 8-bit floats convert? Both formats saturate: a value too large becomes the largest finite one.
//!
//! **Source** OCP 8-bit floating point specification 1.0, table 1; PTX ISA 9.0, section 9.7.9.21 (`cvt`).

use super::num::{self, Format};
use super::warp::Warp;
use crate::decode::op::{CvtFp8, Fp8, Rnd};

/// e5m2 is f16 with eight bits less.
const E5M2: Format = Format::new(2, 5, 0x7f);
/// Largest finite values.
const E4M3_MAX: (f64, u32) = (448.0, 0x7e);
const E5M2_MAX: u32 = 0x7b;
/// Exponent of the smallest normal e4m3 value.
const E4M3_MIN_EXPONENT: i32 = -6;

/// Value of 8-bit float bits.
pub(crate) fn to_f32(bits: u32, ty: Fp8) -> f32 {
    match ty {
        Fp8::E4m3 => num::e4m3_to_f32(bits & 0xff),
        Fp8::E5m2 => num::f16_to_f32((bits & 0xff) << 8),
    }
}

/// Rounds to nearest even; saturates.
pub(crate) fn from_f64(x: f64, ty: Fp8) -> u32 {
    let sign = u32::from(x.is_sign_negative()) << 7;
    if x.is_nan() {
        return 0x7f;
    }
    match ty {
        Fp8::E5m2 => match num::narrow(x.abs(), E5M2, Rnd::Near) {
            bits if bits > E5M2_MAX => sign | E5M2_MAX,
            bits => sign | bits,
        },
        Fp8::E4m3 => {
            let magnitude = x.abs();
            if magnitude >= E4M3_MAX.0 {
                return sign | E4M3_MAX.1;
            }
            let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).max(E4M3_MIN_EXPONENT);
            // In units of the last place: 8 to 16 for normal values, less for subnormal ones. A carry into the next
            // exponent is what adding does anyway.
            let units = (magnitude * 2f64.powi(3 - exponent)).round_ties_even() as u32;
            sign | (units + ((exponent - E4M3_MIN_EXPONENT) as u32) * 8).min(E4M3_MAX.1)
        }
    }
}

impl Warp {
    pub(crate) fn cvt_fp8(&mut self, cvt: CvtFp8, m: u32) {
        match cvt {
            CvtFp8::FromF32 { ty, relu, d, hi, lo } => self.fill32(m, d, |w, lane| {
                let part = |r: u32| {
                    let x = f64::from(f32::from_bits(w.get32(r)[lane]));
                    from_f64(if relu && x < 0.0 { 0.0 } else { x }, ty)
                };
                part(lo) | part(hi) << 8
            }),
            CvtFp8::FromF16 { ty, relu, d, a } => self.fill32(m, d, |w, lane| {
                let word = w.get32(a)[lane];
                let part = |shift: u32| {
                    let x = f64::from(num::f16_to_f32(word >> shift & 0xffff));
                    from_f64(if relu && x < 0.0 { 0.0 } else { x }, ty)
                };
                part(0) | part(16) << 8
            }),
            CvtFp8::ToF16 { ty, relu, d, a } => self.fill32(m, d, |w, lane| {
                let word = w.get32(a)[lane];
                let part = |shift: u32| {
                    let x = f64::from(to_f32(word >> shift, ty));
                    num::narrow(if relu && x < 0.0 { 0.0 } else { x }, num::F16, Rnd::Near)
                };
                part(0) | part(8) << 16
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        for bits in 0..=0xffu32 {
            for (ty, is_special) in [(Fp8::E4m3, bits & 0x7f == 0x7f), (Fp8::E5m2, bits & 0x7f > 0x7b)] {
                if !is_special {
                    assert_eq!(from_f64(to_f32(bits, ty).into(), ty), bits, "{ty:?} {bits:#x}");
                }
            }
        }
    }

    #[test]
    fn what_lies_between_two_values_goes_to_the_nearer_and_ties_to_even() {
        for ty in [Fp8::E4m3, Fp8::E5m2] {
            let last = if ty == Fp8::E4m3 { 0x7e } else { 0x7b };
            for bits in 0..last {
                let (low, high) = (f64::from(to_f32(bits, ty)), f64::from(to_f32(bits + 1, ty)));
                let tie = (low + high) / 2.0;
                assert_eq!(from_f64(tie, ty), bits + bits % 2, "{ty:?} {bits:#x}");
                assert_eq!(from_f64(tie * (1.0 - 1e-12), ty), bits);
                assert_eq!(from_f64(-tie * (1.0 + 1e-12), ty), 0x80 | (bits + 1));
            }
            assert_eq!(from_f64(f64::INFINITY, ty), last);
            assert_eq!(from_f64(f64::NAN, ty), 0x7f);
        }
    }
}
