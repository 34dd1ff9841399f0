//! Leaves and pointwise ops against closed forms, tables of edge cases and native integers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use enel_ir::{Op, Scalar, TensorType};
use enel_types::{BinaryOp as B, DType, Dim, UnaryOp as U};
use kit::{apply, at, close, count, f, i, places};
use proptest::prelude::*;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn unary(op: U, x: f64) -> f64 {
    apply(Op::Unary(op), &[&f(&[1], &[x])]).to_f64()[0]
}

fn binary(op: B, x: f64, y: f64) -> f64 {
    apply(Op::Binary(op), &[&f(&[1], &[x]), &f(&[1], &[y])]).to_f64()[0]
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

#[test]
fn unary_edges() {
    let table = [
        (U::Sign, [(-3.0, -1.0), (0.0, 0.0), (2.0, 1.0), (NAN, NAN), (-INF, -1.0)]),
        (U::Round, [(0.5, 0.0), (1.5, 2.0), (-2.5, -2.0), (2.4, 2.0), (NAN, NAN)]),
        (U::Floor, [(-0.5, -1.0), (0.5, 0.0), (3.0, 3.0), (INF, INF), (NAN, NAN)]),
        (U::Ceil, [(-0.5, 0.0), (0.5, 1.0), (3.0, 3.0), (-INF, -INF), (NAN, NAN)]),
        (U::Sqrt, [(4.0, 2.0), (0.0, 0.0), (-1.0, NAN), (INF, INF), (NAN, NAN)]),
        (U::Rsqrt, [(4.0, 0.5), (0.0, INF), (-1.0, NAN), (INF, 0.0), (NAN, NAN)]),
        (U::Recip, [(4.0, 0.25), (0.0, INF), (-0.0, -INF), (INF, 0.0), (NAN, NAN)]),
        (U::Log, [(1.0, 0.0), (0.0, -INF), (-1.0, NAN), (INF, INF), (NAN, NAN)]),
        (U::Exp, [(0.0, 1.0), (-INF, 0.0), (INF, INF), (1000.0, INF), (NAN, NAN)]),
        (U::Tanh, [(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (100.0, 1.0), (NAN, NAN)]),
        (U::Erf, [(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (7.0, 1.0), (NAN, NAN)]),
        (U::Abs, [(-2.0, 2.0), (2.0, 2.0), (-INF, INF), (-0.0, 0.0), (NAN, NAN)]),
        (U::Neg, [(-2.0, 2.0), (2.0, -2.0), (-INF, INF), (0.0, 0.0), (NAN, NAN)]),
    ];
    for (op, rows) in table {
        for (x, y) in rows {
            assert!(same(unary(op, x), y), "{} {x} is {}, expected {y}", op.name(), unary(op, x));
        }
    }
}

#[test]
fn erf_has_its_known_values() {
    // Abramowitz and Stegun, table 7.1, and erfc from table 7.2 for the last two.
    for (x, y) in [
        (0.1, 0.112_462_916_018_284_9),
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (3.0, 0.999_977_909_503_001_4),
        (5.0, 1.0 - 1.537_459_794_428_035e-12),
    ] {
        // 2^-50, what the function claims.
        assert!((unary(U::Erf, x) - y).abs() < 8.9e-16, "erf {x} is {}", unary(U::Erf, x));
        assert_eq!(unary(U::Erf, -x), -unary(U::Erf, x));
    }
}

#[test]
fn binary_edges() {
    for (op, x, y, want) in [
        (B::Max, NAN, 1.0, NAN),
        (B::Max, 1.0, NAN, NAN),
        (B::Max, -INF, 1.0, 1.0),
        (B::Min, NAN, 1.0, NAN),
        (B::Min, 1.0, NAN, NAN),
        (B::Min, 2.0, 1.0, 1.0),
        (B::Div, 1.0, 0.0, INF),
        (B::Div, 0.0, 0.0, NAN),
        (B::Rem, 5.5, 2.0, 1.5),
        (B::Rem, -5.5, 2.0, -1.5),
        (B::Rem, 5.5, -2.0, 1.5),
        (B::Pow, 2.0, -1.0, 0.5),
        (B::Pow, -8.0, 0.5, NAN),
        (B::Eq, NAN, NAN, 0.0),
        (B::Ne, NAN, NAN, 1.0),
        (B::Ne, 1.0, NAN, 1.0),
        (B::Lt, NAN, 1.0, 0.0),
        (B::Ge, NAN, 1.0, 0.0),
        (B::Le, 1.0, 1.0, 1.0),
        (B::Gt, 1.0, 1.0, 0.0),
    ] {
        assert!(same(binary(op, x, y), want), "{} {x} {y} is {}", op.name(), binary(op, x, y));
    }
}

#[test]
fn casts_truncate_saturate_and_wrap() {
    let from_float = |x: f64, to| apply(Op::Cast { to }, &[&f(&[1], &[x])]).to_i64().unwrap()[0];
    for (x, to, want) in [
        (2.9, DType::I32, 2),
        (-2.9, DType::I32, -2),
        (1e20, DType::I32, i64::from(i32::MAX)),
        (-1e20, DType::I64, i64::MIN),
        (-1.0, DType::U32, 0),
        (300.0, DType::U8, 255),
        (NAN, DType::I32, 0),
        (NAN, DType::Bool, 1),
        (0.3, DType::Bool, 1),
        (-0.0, DType::Bool, 0),
    ] {
        assert_eq!(from_float(x, to), want, "{x} to {to}");
    }
    let from_int = |x: i64, to| apply(Op::Cast { to }, &[&i(DType::I64, &[1], &[x])]).to_f64()[0];
    for (x, to, want) in [
        (-1, DType::U8, 255.0),
        (1 << 33 | 5, DType::I32, 5.0),
        (-1, DType::U32, f64::from(u32::MAX)),
        (256, DType::Bool, 1.0),
        (-7, DType::F32, -7.0),
    ] {
        assert_eq!(from_int(x, to), want, "{x} to {to}");
    }
    let kept = apply(Op::Cast { to: DType::BF16 }, &[&f(&[1], &[0.1])]);
    assert_eq!(kept.to_f64(), [0.1], "a cast is no store");
}

#[test]
fn integer_edges_wrap() {
    for (dtype, op, x, want) in [
        (DType::I32, U::Neg, i64::from(i32::MIN), i64::from(i32::MIN)),
        (DType::I32, U::Abs, i64::from(i32::MIN), i64::from(i32::MIN)),
        (DType::I64, U::Abs, i64::MIN, i64::MIN),
        (DType::U8, U::Neg, 1, 255),
        (DType::U32, U::Not, 0, i64::from(u32::MAX)),
        (DType::Bool, U::Not, 1, 0),
        (DType::I32, U::Not, 0, -1),
        (DType::U8, U::Sign, 200, 1),
    ] {
        let got = apply(Op::Unary(op), &[&i(dtype, &[1], &[x])]);
        assert_eq!(got.to_i64().unwrap(), [want], "{dtype} {} {x}", op.name());
    }
}

#[test]
fn leaves_count_and_repeat() {
    let ty = |dtype, shape: &[i64]| TensorType::fixed(dtype, shape);
    let iota = apply(Op::Iota { axis: 1, ty: ty(DType::I32, &[2, 3, 2]) }, &[]);
    assert_eq!(iota.to_i64().unwrap(), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    let wrapped = apply(Op::Iota { axis: 0, ty: ty(DType::U8, &[258]) }, &[]);
    assert_eq!(wrapped.to_i64().unwrap()[254..], [254, 255, 0, 1]);
    let list = vec![Scalar::F(1.5), Scalar::F(-2.0)];
    assert_eq!(apply(Op::Const { values: list, ty: ty(DType::F16, &[2]) }, &[]).to_f64(), [1.5, -2.0]);
    let one = vec![Scalar::I(7)];
    assert_eq!(apply(Op::Const { values: one, ty: ty(DType::I64, &[3]) }, &[]).to_i64().unwrap(), [7; 3]);
    let size = Op::SizeOf { size: Dim::constant(300), dtype: DType::U8 };
    assert_eq!(apply(size, &[]).to_i64().unwrap(), [44]);
}

#[test]
fn three_shapes_broadcast_in_a_select() {
    let c = i(DType::Bool, &[2, 1, 1], &[1, 0]);
    let (x, y) = (count(&[3, 1]), f(&[4], &[10.0, 11.0, 12.0, 13.0]));
    let got = apply(Op::Select, &[&c, &x, &y]);
    for p in places(&[2, 3, 4]) {
        assert_eq!(at(&got, &p), if p[0] == 0 { p[1] as f64 } else { 10.0 + p[2] as f64 });
    }
}

/// An operand shape that broadcasts to `shape`: leading axes dropped, some extents 1.
fn operand_shape(shape: &[usize], drop: usize, ones: u8) -> Vec<usize> {
    let kept = &shape[drop.min(shape.len())..];
    kept.iter().enumerate().map(|(i, &d)| if ones >> i & 1 == 1 { 1 } else { d }).collect()
}

proptest! {
    #[test]
    fn any_two_shapes_broadcast(shape in prop::collection::vec(1usize..5, 0..4), drop in 0usize..3, ones in 0u8..8) {
        let (x, y) = (count(&shape), count(&operand_shape(&shape, drop, ones)));
        let got = apply(Op::Binary(B::Sub), &[&x, &y]);
        for p in places(&shape) {
            let tail = &p[shape.len() - y.shape.len()..];
            let from: Vec<usize> = tail.iter().zip(&y.shape).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
            prop_assert_eq!(at(&got, &p), at(&x, &p) - at(&y, &from));
        }
    }

    #[test]
    fn floats_follow_ieee(x in -50.0f64..50.0, y in -50.0f64..50.0) {
        for (op, want) in [(B::Add, x + y), (B::Sub, x - y), (B::Mul, x * y), (B::Div, x / y)] {
            prop_assert_eq!(binary(op, x, y), want);
        }
        prop_assert!((binary(B::Rem, x, y) - (x - y * (x / y).trunc())).abs() < 1e-9);
        let quick = [(U::Sin, x.sin()), (U::Cos, x.cos()), (U::Exp, x.exp()), (U::Recip, 1.0 / x)];
        for (op, want) in quick {
            prop_assert_eq!(unary(op, x), want);
        }
        let (e, one) = ((2.0 * x).exp(), 1.0);
        let tanh = if x > 20.0 { 1.0 } else { (e - one) / (e + one) };
        prop_assert!((unary(U::Tanh, x) - tanh).abs() < 1e-12);
        let power = binary(B::Pow, x.abs(), y / 25.0);
        prop_assert!((power - (y / 25.0 * x.abs().ln()).exp()).abs() <= 1e-11 * power.max(1.0));
    }

    #[test]
    fn i32_is_native_i32(x in any::<i32>(), y in prop_oneof![any::<i32>(), -2i32..3]) {
        let int = |op: B| {
            let operands = [i(DType::I32, &[1], &[x.into()]), i(DType::I32, &[1], &[y.into()])];
            apply(Op::Binary(op), &[&operands[0], &operands[1]]).to_i64().unwrap()[0]
        };
        for (op, want) in [
            (B::Add, x.wrapping_add(y)),
            (B::Sub, x.wrapping_sub(y)),
            (B::Mul, x.wrapping_mul(y)),
            (B::Div, if y == 0 { 0 } else { x.wrapping_div(y) }),
            (B::Rem, if y == 0 { 0 } else { x.wrapping_rem(y) }),
            (B::Max, if x > y { x } else { y }),
            (B::Min, if x < y { x } else { y }),
            (B::And, x & y),
            (B::Or, x | y),
            (B::Xor, x ^ y),
            (B::Eq, (x == y).into()),
            (B::Ne, (x != y).into()),
            (B::Lt, (x < y).into()),
            (B::Le, (x <= y).into()),
            (B::Gt, (x > y).into()),
            (B::Ge, (x >= y).into()),
        ] {
            prop_assert_eq!(int(op), i64::from(want), "{} {} {}", op.name(), x, y);
        }
    }

    #[test]
    fn u8_is_native_u8(x in any::<u8>(), y in any::<u8>()) {
        let int = |op: B| {
            let operands = [i(DType::U8, &[1], &[x.into()]), i(DType::U8, &[1], &[y.into()])];
            apply(Op::Binary(op), &[&operands[0], &operands[1]]).to_i64().unwrap()[0]
        };
        for (op, want) in [
            (B::Add, x.wrapping_add(y)),
            (B::Sub, x.wrapping_sub(y)),
            (B::Mul, x.wrapping_mul(y)),
            (B::Div, x.checked_div(y).unwrap_or(0)),
            (B::Rem, x.checked_rem(y).unwrap_or(0)),
        ] {
            prop_assert_eq!(int(op), i64::from(want));
        }
    }

    #[test]
    fn mixed_floats_join_and_comparisons_agree(x in -3i32..4, y in -3i32..4) {
        let low = enel_interp::Tensor::from_f64(DType::BF16, &[1], &[x.into()]).unwrap();
        let sum = apply(Op::Binary(B::Add), &[&low, &f(&[1], &[y.into()])]);
        prop_assert_eq!(sum.dtype, DType::F32);
        close(&sum, &[f64::from(x + y)]);
    }
}
