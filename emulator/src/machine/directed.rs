//! How does double precision round other than to nearest? The nearest result, and a step where the rest says so.
//!
//! The rest of a sum, product, quotient or root is computed exactly, or at least with its sign (Muller et al. 2018,
//! "Handbook of Floating-Point Arithmetic", chapters 4 and 5), on numbers scaled by a power of two where it would vanish.

use super::warp::Warp;
use crate::decode::op::{Directed, R, Rnd};

/// `near` moved where `rest`, the exact value less `near`, asks for it.
fn toward(near: f64, rest: f64, rnd: Rnd) -> f64 {
    let up = match rnd {
        Rnd::Near | Rnd::NearAway => return near,
        Rnd::Zero => near.is_sign_negative(),
        Rnd::Up => true,
        Rnd::Down => false,
    };
    match (up, rest > 0.0, rest < 0.0) {
        (true, true, _) => near.next_up(),
        (false, _, true) => near.next_down(),
        _ => near,
    }
}

/// Sum and what rounding took from it (Knuth's TwoSum).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// Below this magnitude what rounding took may be too small for a number.
const TINY: f64 = f64::from_bits((1023 - 900) << 52);
/// Above this products may leave the range.
const HUGE: f64 = f64::from_bits((1023 + 1000) << 52);
/// 2^300, and its root.
const SCALE: f64 = f64::from_bits((1023 + 300) << 52);
const ROOT_SCALE: f64 = f64::from_bits((1023 + 150) << 52);

fn fused(a: f64, b: f64, c: f64) -> (f64, f64) {
    let near = a.mul_add(b, c);
    let scale = match (a * b).abs() {
        product if product < TINY && c.abs() < TINY => SCALE,
        product if product > HUGE => 1.0 / SCALE,
        _ => 1.0,
    };
    // The larger factor takes a smaller scale, so that neither leaves the range.
    let (a, b) = if a.abs() > b.abs() { (a, b) } else { (b, a) };
    let (a, b, c) = if scale < 1.0 { (a * scale, b, c * scale) } else { (a, b * scale, c * scale) };
    let product = a * b;
    let below = a.mul_add(b, -product);
    let (sum, rest) = two_sum(product, c);
    let (low, lost) = two_sum(rest, below);
    let (high, carry) = two_sum(sum - near * scale, low);
    (near, if high == 0.0 { carry + lost } else { high })
}

/// Quotient, and the sign of what rounding took.
fn quotient(x: f64, y: f64) -> (f64, f64) {
    let near = x / y;
    let scale = if near.abs() < TINY || x.abs() < TINY { SCALE } else { 1.0 };
    (near, (near * scale).mul_add(-y, x * scale) * y.signum())
}

fn root(x: f64) -> (f64, f64) {
    let near = x.sqrt();
    let (scale, half) = if x < TINY { (SCALE, ROOT_SCALE) } else { (1.0, 1.0) };
    (near, (near * half).mul_add(-(near * half), x * scale))
}

fn apply(op: Directed, rnd: Rnd, [a, b, c]: [f64; 3]) -> f64 {
    let (near, rest) = match op {
        Directed::Add => two_sum(a, b),
        Directed::Sub => two_sum(a, -b),
        // Minus zero changes no product, not even the sign of one that is zero.
        Directed::Mul => fused(a, b, -0.0),
        Directed::Fma => fused(a, b, c),
        Directed::Div => quotient(a, b),
        Directed::Rcp => quotient(1.0, a),
        Directed::Sqrt => root(a),
    };
    let used = match op {
        Directed::Rcp | Directed::Sqrt => &[a][..],
        Directed::Fma => &[a, b, c][..],
        Directed::Add | Directed::Sub | Directed::Mul | Directed::Div => &[a, b][..],
    };
    let divides_by_zero = matches!(op, Directed::Div) && b == 0.0 || matches!(op, Directed::Rcp) && a == 0.0;
    if near.is_finite() {
        return toward(near, rest, rnd);
    }
    // What only rounding made infinite is the largest number where rounding goes the other way.
    let goes_back = match rnd {
        Rnd::Near | Rnd::NearAway => false,
        Rnd::Zero => true,
        Rnd::Up => near < 0.0,
        Rnd::Down => near > 0.0,
    };
    let overflows = near.is_infinite() && !divides_by_zero && used.iter().all(|x| x.is_finite());
    if overflows && goes_back { f64::MAX.copysign(near) } else { near }
}

impl Warp {
    pub(crate) fn f64_directed(&mut self, (op, rnd): (Directed, Rnd), m: u32, d: R, s: [R; 3]) {
        self.fill64(m, d, |w, lane| apply(op, rnd, s.map(|r| f64::from_bits(w.get64(r)[lane]))).to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_bracket_the_exact_value() {
        let tiny = 2f64.powi(-60);
        for (op, args, down, up) in [
            (Directed::Add, [1.0, tiny, 0.0], 1.0, 1f64.next_up()),
            (Directed::Sub, [1.0, tiny, 0.0], 1f64.next_down(), 1.0),
            (Directed::Mul, [1f64.next_up(), 1f64.next_up(), 0.0], 1.0 + 2.0 * f64::EPSILON, 1.0 + 3.0 * f64::EPSILON),
            (Directed::Fma, [1.0, 1.0, tiny], 1.0, 1f64.next_up()),
            (Directed::Fma, [3.0, 1.0 / 3.0, -1.0], -f64::EPSILON / 4.0, -f64::EPSILON / 4.0),
            (Directed::Div, [1.0, 3.0, 0.0], 1.0 / 3.0, (1f64 / 3.0).next_up()),
            (Directed::Div, [1.0, -3.0, 0.0], -(1f64 / 3.0).next_up(), -1.0 / 3.0),
            (Directed::Rcp, [4.0, 0.0, 0.0], 0.25, 0.25),
            (Directed::Sqrt, [2.0, 0.0, 0.0], 2f64.sqrt().next_down(), 2f64.sqrt()),
        ] {
            assert_eq!(apply(op, Rnd::Down, args), down, "{op:?} down");
            assert_eq!(apply(op, Rnd::Up, args), up, "{op:?} up");
            assert_eq!(apply(op, Rnd::Zero, args), if down < 0.0 { up } else { down }, "{op:?} to zero");
        }
        assert_eq!(apply(Directed::Div, Rnd::Up, [1.0, 0.0, 0.0]), f64::INFINITY);
        assert_eq!(apply(Directed::Rcp, Rnd::Zero, [0.0, 0.0, 0.0]), f64::INFINITY);
    }

    #[test]
    fn the_ends_of_the_range_round_as_the_middle() {
        let (down, zero, up) = (Rnd::Down, Rnd::Zero, Rnd::Up);
        let least = f64::from_bits(1);
        for (op, rnd, args, want) in [
            (Directed::Mul, zero, [1e300, 1e10, 0.0], f64::MAX),
            (Directed::Mul, up, [1e300, 1e10, 0.0], f64::INFINITY),
            (Directed::Mul, up, [-1e300, 1e10, 0.0], f64::MIN),
            (Directed::Fma, down, [1e300, 1e10, 1.0], f64::MAX),
            (Directed::Fma, zero, [-1e300, 1e10, 1.0], f64::MIN),
            (Directed::Rcp, up, [-1e-320, 0.0, 0.0], f64::MIN),
            (Directed::Add, zero, [f64::MAX, f64::MAX, 0.0], f64::MAX),
            (Directed::Mul, up, [least, 0.25, 0.0], least),
            (Directed::Mul, down, [least, 0.75, 0.0], 0.0),
            (Directed::Mul, down, [least, -0.25, 0.0], -least),
            (Directed::Fma, up, [least, 0.25, least], f64::from_bits(2)),
            (Directed::Div, down, [f64::from_bits(5), 3.0, 0.0], least),
            (Directed::Div, up, [f64::from_bits(5), 3.0, 0.0], f64::from_bits(2)),
            (Directed::Sqrt, down, [1e-320, 0.0, 0.0], 9.999_944_335_758_488e-161),
            (Directed::Mul, zero, [f64::INFINITY, 2.0, 0.0], f64::INFINITY),
        ] {
            assert_eq!(apply(op, rnd, args), want, "{op:?} {rnd:?} {args:?}");
        }
    }
}
