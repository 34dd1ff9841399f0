//! How does double precision round other than to nearest? The nearest result, and a step where the rest says so.
//!
//! The rest of a sum, product, quotient or root is computed exactly, or at least with its sign (Muller et al. 2018,
//! "Handbook of Floating-Point Arithmetic", chapters 4 and 5), away from overflow and underflow.

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

fn fused(a: f64, b: f64, c: f64) -> (f64, f64) {
    let near = a.mul_add(b, c);
    let product = a * b;
    let below = a.mul_add(b, -product);
    let (sum, rest) = two_sum(product, c);
    let (low, lost) = two_sum(rest, below);
    let (high, carry) = two_sum(sum - near, low);
    (near, if high == 0.0 { carry + lost } else { high })
}

fn apply(op: Directed, rnd: Rnd, [a, b, c]: [f64; 3]) -> f64 {
    let quotient = |x: f64, y: f64| {
        let near = x / y;
        (near, near.mul_add(-y, x) * y.signum())
    };
    let (near, rest) = match op {
        Directed::Add => two_sum(a, b),
        Directed::Sub => two_sum(a, -b),
        Directed::Mul => (a * b, a.mul_add(b, -(a * b))),
        Directed::Fma => fused(a, b, c),
        Directed::Div => quotient(a, b),
        Directed::Rcp => quotient(1.0, a),
        Directed::Sqrt => {
            let near = a.sqrt();
            (near, near.mul_add(-near, a))
        }
    };
    if near.is_finite() { toward(near, rest, rnd) } else { near }
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
    }
}
