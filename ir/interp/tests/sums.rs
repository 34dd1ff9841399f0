//! Reductions and contractions against loops over index tuples.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use enel_interp::Tensor;
use enel_ir::{ContractSpec, Op};
use enel_types::{DType, ReduceOp as R};
use kit::{apply, at, close, count, f, i, places};
use proptest::prelude::*;

fn reduce(op: R, x: &Tensor, axes: &[usize], keep: bool) -> Tensor {
    apply(Op::Reduce { op, axes: axes.to_vec(), keep }, &[x])
}

fn contract(spec: &str, a: &Tensor, b: &Tensor) -> Tensor {
    apply(Op::Contract { spec: ContractSpec::parse(spec).unwrap() }, &[a, b])
}

#[test]
fn nan_and_ties_follow_the_row() {
    let x = f(&[5], &[1.0, f64::NAN, 7.0, f64::NAN, -2.0]);
    assert!(reduce(R::Max, &x, &[0], false).to_f64()[0].is_nan());
    assert!(reduce(R::Min, &x, &[0], false).to_f64()[0].is_nan());
    assert_eq!(reduce(R::ArgMax, &x, &[0], false).to_i64().unwrap(), [1]);
    assert_eq!(reduce(R::ArgMin, &x, &[0], true).to_i64().unwrap(), [1]);
    let ties = f(&[2, 3], &[3.0, 3.0, 1.0, 0.0, -5.0, -5.0]);
    assert_eq!(reduce(R::ArgMax, &ties, &[1], false).to_i64().unwrap(), [0, 0]);
    assert_eq!(reduce(R::ArgMin, &ties, &[1], false).to_i64().unwrap(), [2, 1]);
    let low = f(&[2], &[f64::NEG_INFINITY, f64::NEG_INFINITY]);
    assert_eq!(reduce(R::Max, &low, &[0], false).to_f64(), [f64::NEG_INFINITY]);
    assert_eq!(reduce(R::ArgMax, &low, &[0], false).to_i64().unwrap(), [0]);
}

#[test]
fn integers_wrap_and_bools_compare() {
    let x = i(DType::U8, &[3], &[200, 100, 3]);
    assert_eq!(reduce(R::Sum, &x, &[0], false).to_i64().unwrap(), [47]);
    assert_eq!(reduce(R::Prod, &x, &[0], false).to_i64().unwrap(), [60_000 % 256]);
    assert_eq!(reduce(R::ArgMin, &x, &[0], false).to_i64().unwrap(), [2]);
    let b = i(DType::Bool, &[2, 2], &[0, 1, 0, 0]);
    assert_eq!(reduce(R::Max, &b, &[1], false).to_i64().unwrap(), [1, 0]);
    assert_eq!(reduce(R::Min, &b, &[0, 1], false).to_i64().unwrap(), [0]);
    assert_eq!(reduce(R::Sum, &x, &[], false), x, "no axis, no change");
}

#[test]
fn contractions_interleave_letters_as_stated() {
    let (a, b) = (count(&[2, 3, 4]), count(&[5, 3, 2]));
    let got = contract("bkm,nkb->nbm", &a, &b);
    for p in places(&[5, 2, 4]) {
        let (n, batch, m) = (p[0], p[1], p[2]);
        let sum: f64 = (0..3).map(|k| at(&a, &[batch, k, m]) * at(&b, &[n, k, batch])).sum();
        assert_eq!(at(&got, &p), sum);
    }
    assert_eq!(contract("a,b->ba", &count(&[2]), &count(&[3])).to_f64(), [0.0, 0.0, 0.0, 1.0, 0.0, 2.0]);
    assert_eq!(contract("k,k->", &count(&[4]), &count(&[4])).to_f64(), [14.0]);
    let zero_times_nan = contract("k,k->", &f(&[2], &[0.0, 1.0]), &f(&[2], &[f64::NAN, 1.0]));
    assert!(zero_times_nan.to_f64()[0].is_nan(), "nothing is skipped");
}

proptest! {
    #[test]
    fn reductions_are_loops(
        shape in prop::collection::vec(1usize..5, 1..4), mask in 0u8..8, keep in any::<bool>(),
        values in prop::collection::vec(-3i32..4, 64),
    ) {
        let n = shape.iter().product::<usize>();
        let x = f(&shape, &values.iter().cycle().take(n).map(|&v| f64::from(v) * 0.37).collect::<Vec<_>>());
        let axes: Vec<usize> = (0..shape.len()).filter(|a| mask >> a & 1 == 1).collect();
        let kept: Vec<usize> = (0..shape.len()).filter(|a| mask >> a & 1 == 0).collect();
        let outer: Vec<usize> = kept.iter().map(|&a| shape[a]).collect();
        let (mut sum, mut prod, mut max, mut min) = (vec![], vec![], vec![], vec![]);
        for p in places(&outer) {
            let group: Vec<f64> = places(&shape)
                .iter()
                .filter(|q| kept.iter().zip(&p).all(|(&a, &v)| q[a] == v))
                .map(|q| at(&x, q))
                .collect();
            sum.push(group.iter().sum());
            prod.push(group.iter().product());
            max.push(group.iter().copied().reduce(f64::max).unwrap());
            min.push(group.iter().copied().reduce(f64::min).unwrap());
        }
        for (op, want) in [(R::Sum, sum), (R::Prod, prod), (R::Max, max), (R::Min, min)] {
            close(&reduce(op, &x, &axes, keep), &want);
        }
        let axis = mask as usize % shape.len();
        let best = reduce(R::ArgMax, &x, &[axis], true);
        let top = reduce(R::Max, &x, &[axis], true);
        for p in places(&best.shape) {
            let mut q = p.clone();
            let row: Vec<f64> = (0..shape[axis]).map(|k| { q[axis] = k; at(&x, &q) }).collect();
            prop_assert_eq!(Some(at(&best, &p) as usize), row.iter().position(|&v| v == at(&top, &p)));
        }
    }

    #[test]
    fn batched_products_are_loops(b in 1usize..4, m in 1usize..6, n in 1usize..6, k in 1usize..6, h in 1usize..3) {
        let (x, y) = (count(&[m, b, k, h]), count(&[b, n, h, k]));
        let got = contract("mbkh,bnhk->bmn", &x, &y);
        for p in places(&[b, m, n]) {
            let mut sum = 0.0;
            for q in places(&[k, h]) {
                sum += at(&x, &[p[1], p[0], q[0], q[1]]) * at(&y, &[p[0], p[2], q[1], q[0]]);
            }
            prop_assert_eq!(at(&got, &p), sum);
        }
    }
}
