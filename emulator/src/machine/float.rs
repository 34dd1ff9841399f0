//! What do float and conversion instructions compute?

use super::num::{self, flush};
use super::warp::{LANES, Row32, Warp};
use crate::decode::op::*;
use crate::syntax::ast::Ty;

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// `min` and `max`: a NaN loses unless `nan` is asked for; -0 is less than +0.
fn pick(op: FBin, x: f64, y: f64) -> f64 {
    let (is_max, nan_wins) = match op {
        FBin::Min => (false, false),
        FBin::Max => (true, false),
        FBin::MinNan => (false, true),
        _ => (true, true),
    };
    match (x.is_nan(), y.is_nan()) {
        (true, true) => f64::NAN,
        (true, false) => {
            if nan_wins {
                f64::NAN
            } else {
                y
            }
        }
        (false, true) => {
            if nan_wins {
                f64::NAN
            } else {
                x
            }
        }
        (false, false) => {
            let x_less = x < y || (x == y && x.is_sign_negative());
            if x_less == is_max { y } else { x }
        }
    }
}

/// Result of a rounding mode other than to nearest.
fn directed(op: FBin, x: f64, y: f64, rnd: Rnd) -> f32 {
    let exact = match op {
        FBin::Add => num::add_odd(x, y),
        FBin::Sub => num::add_odd(x, -y),
        FBin::Mul => x * y,
        _ => num::div_odd(x, y),
    };
    // An exact sum of opposite numbers is -0 when rounding down (IEEE 754-2019, 6.3).
    if exact == 0.0 && rnd == Rnd::Down && x != 0.0 && matches!(op, FBin::Add | FBin::Sub) {
        return -0.0;
    }
    f(num::narrow(exact, num::F32, rnd))
}

fn saturate(x: f32) -> f32 {
    // NaN becomes zero, as PTX wants.
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

#[inline(always)]
fn finish(x: f32, m: FMod) -> u32 {
    let x = if m.ftz { flush(x) } else { x };
    let x = if m.sat { saturate(x) } else { x };
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

/// `x * y + z` with one rounding. The product is exact in f64; rounding the sum to f64 first changes the result only if
/// that gives a value halfway between two floats, or a subnormal one, and then the row is done again the long way.
fn fma_row(x: &Row32, y: &Row32, z: &Row32) -> Row32 {
    let mut out = [0; LANES];
    let mut is_doubtful = false;
    for lane in 0..LANES {
        let sum = f64::from(f(x[lane])) * f64::from(f(y[lane])) + f64::from(f(z[lane]));
        // The 29 bits an f32 has not.
        let is_halfway = sum.to_bits() & 0x1fff_ffff == 0x1000_0000;
        let is_tiny = (sum.abs() < f64::from(f32::MIN_POSITIVE)) & (sum != 0.0);
        is_doubtful |= is_halfway | is_tiny;
        out[lane] = canonical(sum as f32);
    }
    if is_doubtful {
        for (lane, slot) in out.iter_mut().enumerate() {
            *slot = canonical(f(x[lane]).mul_add(f(y[lane]), f(z[lane])));
        }
    }
    out
}

impl Warp {
    #[inline(always)]
    fn float2(&mut self, mask: u32, m: FMod, d: R, (a, b): (R, R), op: impl Fn(f32, f32) -> f32) {
        if !m.ftz && !m.sat {
            self.map2(mask, d, a, b, |x, y| canonical(op(f(x), f(y))));
        } else {
            let input = |x| if m.ftz { flush(f(x)) } else { f(x) };
            self.map2(mask, d, a, b, |x, y| finish(op(input(x), input(y)), m));
        }
    }

    #[inline(always)]
    fn float1(&mut self, mask: u32, m: FMod, d: R, a: R, op: impl Fn(f32) -> f32) {
        let input = |x| if m.ftz { flush(f(x)) } else { f(x) };
        self.map1(mask, d, a, |x| finish(op(input(x)), m));
    }

    pub(crate) fn f32_bin(&mut self, op: FBin, m: FMod, mask: u32, d: R, (a, b): (R, R)) {
        match (op, m.rnd) {
            (FBin::Add, Rnd::Near) => self.float2(mask, m, d, (a, b), |x, y| x + y),
            (FBin::Sub, Rnd::Near) => self.float2(mask, m, d, (a, b), |x, y| x - y),
            (FBin::Mul, Rnd::Near) => self.float2(mask, m, d, (a, b), |x, y| x * y),
            (FBin::Div, Rnd::Near) => self.float2(mask, m, d, (a, b), |x, y| x / y),
            (FBin::Min | FBin::Max | FBin::MinNan | FBin::MaxNan, _) => {
                self.float2(mask, m, d, (a, b), |x, y| pick(op, x.into(), y.into()) as f32);
            }
            // PTX: d = sign of a, magnitude of b.
            (FBin::CopySign, _) => self.map2(mask, d, a, b, |x, y| x & 0x8000_0000 | y & 0x7fff_ffff),
            (_, rnd) => self.float2(mask, m, d, (a, b), |x, y| directed(op, x.into(), y.into(), rnd)),
        }
    }

    pub(crate) fn f32_un(&mut self, op: FUn, m: FMod, mask: u32, d: R, a: R) {
        let wide = |g: fn(f64) -> f64| move |x: f32| g(x.into()) as f32;
        match op {
            FUn::Neg if !m.ftz => self.map1(mask, d, a, |x| x ^ 0x8000_0000),
            FUn::Abs if !m.ftz => self.map1(mask, d, a, |x| x & 0x7fff_ffff),
            FUn::Neg => self.float1(mask, m, d, a, |x| -x),
            FUn::Abs => self.float1(mask, m, d, a, f32::abs),
            FUn::Rcp if m.rnd == Rnd::Near => self.float1(mask, m, d, a, |x| 1.0 / x),
            FUn::Rcp => self.float1(mask, m, d, a, |x| directed(FBin::Div, 1.0, x.into(), m.rnd)),
            FUn::Sqrt if m.rnd == Rnd::Near => self.float1(mask, m, d, a, f32::sqrt),
            FUn::Sqrt => self.float1(mask, m, d, a, |x| f(num::narrow(num::sqrt_odd(x.into()), num::F32, m.rnd))),
            FUn::Rsqrt => self.float1(mask, m, d, a, wide(|x| 1.0 / x.sqrt())),
            FUn::Ex2 => self.float1(mask, m, d, a, wide(f64::exp2)),
            FUn::Lg2 => self.float1(mask, m, d, a, wide(f64::log2)),
            FUn::Sin => self.float1(mask, m, d, a, wide(f64::sin)),
            FUn::Cos => self.float1(mask, m, d, a, wide(f64::cos)),
            FUn::Tanh => self.float1(mask, m, d, a, wide(f64::tanh)),
        }
    }

    pub(crate) fn f32_fma(&mut self, m: FMod, mask: u32, d: R, s: [R; 3]) {
        if m.rnd == Rnd::Near && !m.ftz && !m.sat {
            let row = fma_row(self.get32(s[0]), self.get32(s[1]), self.get32(s[2]));
            return self.set32(d, mask, &row);
        }
        let input = |x| if m.ftz { flush(f(x)) } else { f(x) };
        self.map3(mask, d, s, |x, y, z| {
            let (x, y, z) = (input(x), input(y), input(z));
            let value = if m.rnd == Rnd::Near {
                x.mul_add(y, z)
            } else {
                let product = f64::from(x) * f64::from(y);
                directed(FBin::Add, product, z.into(), m.rnd)
            };
            finish(value, m)
        });
    }

    pub(crate) fn f64_bin(&mut self, op: FBin, mask: u32, d: R, a: R, b: R) {
        let lift = |g: fn(f64, f64) -> f64| move |x: u64, y: u64| g(f64::from_bits(x), f64::from_bits(y)).to_bits();
        match op {
            FBin::Add => self.wide2(mask, d, a, b, lift(|x, y| x + y)),
            FBin::Sub => self.wide2(mask, d, a, b, lift(|x, y| x - y)),
            FBin::Mul => self.wide2(mask, d, a, b, lift(|x, y| x * y)),
            FBin::Div => self.wide2(mask, d, a, b, lift(|x, y| x / y)),
            FBin::CopySign => self.wide2(mask, d, a, b, |x, y| x & 1 << 63 | y & !(1 << 63)),
            _ => self.wide2(mask, d, a, b, |x, y| pick(op, f64::from_bits(x), f64::from_bits(y)).to_bits()),
        }
    }

    pub(crate) fn f64_un(&mut self, op: FUn, mask: u32, d: R, a: R) {
        self.fill64(mask, d, |w, i| {
            let x = f64::from_bits(w.get64(a)[i]);
            match op {
                FUn::Neg => w.get64(a)[i] ^ 1 << 63,
                FUn::Abs => w.get64(a)[i] & !(1 << 63),
                FUn::Rcp => (1.0 / x).to_bits(),
                FUn::Sqrt => x.sqrt().to_bits(),
                FUn::Rsqrt => (1.0 / x.sqrt()).to_bits(),
                // Refused by the decoder.
                FUn::Ex2 | FUn::Lg2 | FUn::Sin | FUn::Cos | FUn::Tanh => f64::NAN.to_bits(),
            }
        });
    }

    pub(crate) fn half_op(&mut self, h: HalfInstr, mask: u32, d: R, s: [R; 3]) {
        self.fill32(mask, d, |w, i| {
            let [x, y, z] = s.map(|r| w.get32(r)[i]);
            let low = half_scalar(h, x & 0xffff, y & 0xffff, z & 0xffff);
            if h.packed { low | half_scalar(h, x >> 16, y >> 16, z >> 16) << 16 } else { low }
        });
    }

    pub(crate) fn testp(&mut self, test: TestP, mask: u32, d: R, a: R, wide: bool) {
        let mut found = 0u32;
        for lane in 0..LANES {
            let class =
                if wide { f64::from_bits(self.get64(a)[lane]).classify() } else { f(self.get32(a)[lane]).classify() };
            use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
            let yes = match test {
                TestP::Finite => matches!(class, Normal | Subnormal | Zero),
                TestP::Infinite => class == Infinite,
                TestP::Number => class != Nan,
                TestP::NotANumber => class == Nan,
                TestP::Normal => class == Normal,
                TestP::Subnormal => class == Subnormal,
            };
            found |= u32::from(yes) << lane;
        }
        self.set_pred(d, mask, found);
    }

    pub(crate) fn cvt_pack(&mut self, (half, rnd, relu): (Half, Rnd, bool), mask: u32, d: R, hi: R, lo: R) {
        let one = |x: f32| {
            let x = if relu && !(x > 0.0 || x.is_nan()) { 0.0 } else { x };
            match (half, rnd) {
                (Half::Bf16, Rnd::Near) => num::f32_to_bf16(x),
                _ => num::narrow(x.into(), num::half_format(half), rnd),
            }
        };
        self.map2(mask, d, hi, lo, |hi, lo| one(f(hi)) << 16 | one(f(lo)));
    }

    pub(crate) fn cvt(&mut self, c: Cvt, mask: u32) {
        use Ty::*;
        let Cvt { d, a, .. } = c;
        match (c.to, c.from, c.d_wide, c.a_wide) {
            (U64 | S64, U32, true, false) => self.fill64(mask, d, |w, i| u64::from(w.get32(a)[i])),
            (U64 | S64, S32, true, false) if c.to == S64 || !c.sat => {
                self.fill64(mask, d, |w, i| i64::from(w.get32(a)[i] as i32) as u64);
            }
            (U32 | S32, U64 | S64, false, true) if !c.sat => self.fill32(mask, d, |w, i| w.get64(a)[i] as u32),
            (F32, F16, false, false) if !c.sat && !c.ftz => {
                self.map1(mask, d, a, |x| canonical(num::f16_to_f32(x & 0xffff)))
            }
            (F32, Bf16, false, false) if !c.sat && !c.ftz => self.map1(mask, d, a, |x| x << 16),
            (F32, S32, false, false) if c.rnd == Rnd::Near && !c.sat => {
                self.map1(mask, d, a, |x| (x as i32 as f32).to_bits())
            }
            (Bf16, F32, false, false) if c.rnd == Rnd::Near && !c.relu && !c.sat => {
                self.map1(mask, d, a, |x| num::f32_to_bf16(f(x)));
            }
            _ => {
                let mut out = [0u64; LANES];
                for (i, slot) in out.iter_mut().enumerate() {
                    let bits = if c.a_wide { self.get64(a)[i] } else { u64::from(self.get32(a)[i]) };
                    *slot = convert(c, bits);
                }
                if c.d_wide {
                    self.set64(d, mask, &out);
                } else {
                    let keep = if c.d_short { 0xffff } else { u32::MAX };
                    self.set32(d, mask, &out.map(|x| x as u32 & keep));
                }
            }
        }
    }
}

#[inline(always)]
fn canonical(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

fn half_scalar(h: HalfInstr, x: u32, y: u32, z: u32) -> u32 {
    let exponent = if h.half == Half::F16 { 0x7c00 } else { 0x7f80 };
    let flush = |bits: u32| if h.ftz && bits & exponent == 0 { bits & 0x8000 } else { bits };
    let value = |bits: u32| f64::from(num::half_to_f32(flush(bits), h.half));
    let exact = match h.op {
        HalfOp::Neg => return flush(x) ^ 0x8000,
        HalfOp::Abs => return flush(x) & 0x7fff,
        HalfOp::Add => num::add_odd(value(x), value(y)),
        HalfOp::Sub => num::add_odd(value(x), -value(y)),
        HalfOp::Mul => value(x) * value(y),
        HalfOp::Fma => num::fma_odd(value(x), value(y), value(z)),
        HalfOp::Min => pick(FBin::Min, value(x), value(y)),
        HalfOp::Max => pick(FBin::Max, value(x), value(y)),
        HalfOp::MinNan => pick(FBin::MinNan, value(x), value(y)),
        HalfOp::MaxNan => pick(FBin::MaxNan, value(x), value(y)),
        HalfOp::Ex2 => value(x).exp2(),
        HalfOp::Tanh => value(x).tanh(),
    };
    let exact = match (h.sat, h.relu) {
        (true, _) => {
            if exact > 0.0 {
                exact.min(1.0)
            } else {
                0.0
            }
        }
        (_, true) if exact < 0.0 => 0.0,
        _ => exact,
    };
    flush(num::narrow(exact, num::half_format(h.half), Rnd::Near))
}

/// Any conversion, on the bits of one lane.
fn convert(c: Cvt, bits: u64) -> u64 {
    if c.from.is_int() {
        let (magnitude, negative) = int_parts(c.from, bits);
        if c.to.is_int() {
            return int_to_int(c, magnitude, negative);
        }
        if c.to == Ty::F64 {
            return num::int_to_f64(magnitude, negative, c.rnd).to_bits();
        }
        return from_float(c, num::int_to_f64_odd(magnitude, negative));
    }
    let x = match c.from {
        Ty::F64 => f64::from_bits(bits),
        Ty::F16 => num::f16_to_f32(bits as u32 & 0xffff).into(),
        Ty::Bf16 => num::bf16_to_f32(bits as u32 & 0xffff).into(),
        _ if c.ftz => flush(f(bits as u32)).into(),
        _ => f(bits as u32).into(),
    };
    if c.to.is_int() { float_to_int(c, x) } else { from_float(c, x) }
}

fn int_parts(ty: Ty, bits: u64) -> (u64, bool) {
    let shift = 64 - 8 * ty.bytes();
    if ty.is_signed() {
        let value = ((bits << shift) as i64) >> shift;
        (value.unsigned_abs(), value < 0)
    } else {
        (bits << shift >> shift, false)
    }
}

/// Smallest and largest value of an integer type.
fn int_range(ty: Ty) -> (i128, i128) {
    let bits = 8 * ty.bytes();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// Sign- or zero-extends a value of the destination type to the register.
fn extend(ty: Ty, value: i128) -> u64 {
    let shift = 64 - 8 * ty.bytes();
    let bits = (value as u64) << shift;
    if ty.is_signed() { (bits as i64 >> shift) as u64 } else { bits >> shift }
}

fn int_to_int(c: Cvt, magnitude: u64, negative: bool) -> u64 {
    let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    let (low, high) = int_range(c.to);
    extend(c.to, if c.sat { value.clamp(low, high) } else { value })
}

fn float_to_int(c: Cvt, x: f64) -> u64 {
    if x.is_nan() {
        // PTX ISA 9.0, cvt: zero, except from f64 or to 64 bits, where it is the sign bit alone.
        let zero = c.from != Ty::F64 && c.to.bytes() < 8;
        return if zero { 0 } else { 1 << (8 * c.to.bytes() - 1) };
    }
    let (low, high) = int_range(c.to);
    // A float-to-int `as` cast saturates, so no value overflows on the way.
    let value = num::round_integral(x, c.rnd) as i128;
    extend(c.to, value.clamp(low, high))
}

/// `x`, exact or rounded to odd, in the float format `c.to`.
fn from_float(c: Cvt, x: f64) -> u64 {
    let x = if c.to_int { num::round_integral(x, c.rnd) } else { x };
    let x = match (c.sat, c.relu) {
        (true, _) => {
            if x > 0.0 {
                x.min(1.0)
            } else {
                0.0
            }
        }
        (_, true) if x < 0.0 => 0.0,
        _ => x,
    };
    let bits = match c.to {
        Ty::F64 => return x.to_bits(),
        Ty::F16 => num::narrow(x, num::F16, c.rnd),
        Ty::Bf16 => num::narrow(x, num::BF16, c.rnd),
        Ty::Tf32 => num::narrow(x, num::TF32, c.rnd) << 13,
        _ => {
            let bits = num::narrow(x, num::F32, c.rnd);
            if c.ftz { flush(f(bits)).to_bits() } else { bits }
        }
    };
    u64::from(bits)
}

#[cfg(test)]
mod tests {
    use super::{LANES, fma_row};

    #[test]
    fn a_row_of_products_is_rounded_once() {
        let mut state = 1;
        let mut draw = |spread: u64| {
            let bits = super::super::block::next_random(&mut state);
            // Exponents near each other, so that sums cancel and halves occur; sometimes any bits at all.
            if bits & 7 == 0 {
                (bits >> 32) as u32
            } else {
                ((127 << 23) + ((bits >> 40) % (spread << 23)) as u32) & !0x7ff
            }
        };
        for round in 0..20_000 {
            let [x, y, z] = [0; 3].map(|_| [0; LANES].map(|_: u32| draw(1 + round % 30)));
            let got = fma_row(&x, &y, &z);
            for lane in 0..LANES {
                let want = f32::from_bits(x[lane]).mul_add(f32::from_bits(y[lane]), f32::from_bits(z[lane]));
                let same = f32::from_bits(got[lane]).to_bits() == want.to_bits() || want.is_nan();
                assert!(same, "{:#x} {:#x} {:#x}: {:#x}", x[lane], y[lane], z[lane], got[lane]);
            }
        }
    }
}
