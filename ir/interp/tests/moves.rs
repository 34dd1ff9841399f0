//! Moves, gathers and scatters against naive index arithmetic: each element says where it came from.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{Op, Scalar, ScatterMode, parse, verify};
use enel_types::DType;
use kit::{apply, at, count, dims, f, i, places};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..5, 1..4)
}

proptest! {
    #[test]
    fn transpose_permutes_and_reshape_keeps_order(shape in shapes(), turn in 0usize..3, flip in any::<bool>()) {
        let x = count(&shape);
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        perm.rotate_left(turn % shape.len());
        if flip {
            perm.reverse();
        }
        let y = apply(Op::Transpose { perm: perm.clone() }, &[&x]);
        for p in places(&y.shape) {
            let mut from = vec![0; p.len()];
            for (k, &axis) in perm.iter().enumerate() {
                from[axis] = p[k];
            }
            prop_assert_eq!(at(&y, &p), at(&x, &from));
        }
        let flat = apply(Op::Reshape { shape: dims(&[x.elems(), 1]) }, &[&x]);
        prop_assert_eq!(flat.to_f64(), x.to_f64());
    }

    #[test]
    fn broadcast_repeats(shape in shapes(), lead in 1usize..4, ones in 0u8..8) {
        let small: Vec<usize> = shape.iter().enumerate().map(|(k, &d)| if ones >> k & 1 == 1 { 1 } else { d }).collect();
        let x = count(&small);
        let y = apply(Op::Broadcast { shape: dims(&[&[lead], shape.as_slice()].concat()) }, &[&x]);
        for p in places(&y.shape) {
            let from: Vec<usize> = p[1..].iter().zip(&small).map(|(&k, &d)| k.min(d - 1)).collect();
            prop_assert_eq!(at(&y, &p), at(&x, &from));
        }
    }

    #[test]
    fn slice_then_pad_then_reverse(shape in shapes(), start in 0usize..3, stride in 1usize..3, low in 0usize..3) {
        let x = count(&shape);
        let starts: Vec<usize> = shape.iter().map(|&d| start.min(d - 1)).collect();
        let sizes: Vec<usize> = shape.iter().zip(&starts).map(|(&d, &s)| (d - 1 - s) / stride + 1).collect();
        let strides = vec![stride as i64; shape.len()];
        let y = apply(Op::Slice { starts: dims(&starts), sizes: dims(&sizes), strides }, &[&x]);
        for p in places(&sizes) {
            let from: Vec<usize> = p.iter().zip(&starts).map(|(&k, &s)| s + k * stride).collect();
            prop_assert_eq!(at(&y, &p), at(&x, &from));
        }
        let (lows, highs) = (vec![low; shape.len()], vec![1; shape.len()]);
        let padded = apply(Op::Pad { low: dims(&lows), high: dims(&highs), value: Scalar::F(-9.0) }, &[&y]);
        for p in places(&padded.shape) {
            let inside = p.iter().zip(&sizes).all(|(&k, &d)| k >= low && k < low + d);
            let from: Vec<usize> = p.iter().map(|&k| k.saturating_sub(low)).collect();
            prop_assert_eq!(at(&padded, &p), if inside { at(&y, &from) } else { -9.0 });
        }
        let turned = apply(Op::Reverse { axes: vec![shape.len() - 1] }, &[&x]);
        for p in places(&shape) {
            let mut from = p.clone();
            let last = shape.len() - 1;
            from[last] = shape[last] - 1 - p[last];
            prop_assert_eq!(at(&turned, &p), at(&x, &from));
        }
    }

    #[test]
    fn concat_joins(shape in shapes(), axis in 0usize..3, extra in 1usize..4) {
        let axis = axis % shape.len();
        let mut other = shape.clone();
        other[axis] = extra;
        let (x, y) = (count(&shape), count(&other));
        let z = apply(Op::Concat { axis }, &[&x, &y, &x]);
        for p in places(&z.shape) {
            let mut from = p.clone();
            let (a, b) = (shape[axis], shape[axis] + extra);
            let want = match p[axis] {
                k if k < a => at(&x, &from),
                k if k < b => { from[axis] = k - a; at(&y, &from) }
                k => { from[axis] = k - b; at(&x, &from) }
            };
            prop_assert_eq!(at(&z, &p), want);
        }
    }

    #[test]
    fn windows_slide(length in 5usize..12, size in 1usize..4, stride in 1usize..4, dilation in 1usize..3, inner in 1usize..3) {
        let x = count(&[2, length, inner]);
        let op = Op::Window { axis: 1, size: size as i64, stride: stride as i64, dilation: dilation as i64 };
        let y = apply(op, &[&x]);
        let n = (length - ((size - 1) * dilation + 1)) / stride + 1;
        prop_assert_eq!(&y.shape, &vec![2, n, size, inner]);
        for p in places(&y.shape) {
            prop_assert_eq!(at(&y, &p), at(&x, &[p[0], p[1] * stride + p[2] * dilation, p[3]]));
        }
    }

    #[test]
    fn gather_clamps_and_scatter_drops(
        b in 1usize..3, before in 1usize..3, n in 1usize..5, after in 1usize..3,
        index in prop::collection::vec(-2i64..7, 6), add in any::<bool>(),
    ) {
        let x = count(&[b, before, n, after]);
        let index: Vec<i64> = index.into_iter().cycle().take(b * 3).collect();
        let places_of = i(DType::I64, &[b, 3], &index);
        let y = apply(Op::Gather { axis: 2, batch: 1 }, &[&x, &places_of]);
        prop_assert_eq!(&y.shape, &vec![b, before, 3, after]);
        for p in places(&y.shape) {
            let k = index[p[0] * 3 + p[2]].max(0).min(n as i64 - 1) as usize;
            prop_assert_eq!(at(&y, &p), at(&x, &[p[0], p[1], k, p[3]]));
        }
        let rows = f(&y.shape, &(0..y.elems()).map(|k| 100.0 + k as f64).collect::<Vec<_>>());
        let mode = if add { ScatterMode::Add } else { ScatterMode::Set };
        let z = apply(Op::Scatter { axis: 2, batch: 1, mode }, &[&x, &places_of, &rows]);
        for p in places(&x.shape) {
            // Pulled, not pushed: for each place, the rows whose index names it, in order.
            let named = (0..3).filter(|&r| index[p[0] * 3 + r] == p[2] as i64);
            let list: Vec<f64> = named.map(|r| at(&rows, &[p[0], p[1], r, p[3]])).collect();
            let old = at(&x, &p);
            let want = if add { old + list.iter().sum::<f64>() } else { list.last().copied().unwrap_or(old) };
            prop_assert_eq!(at(&z, &p), want);
        }
    }
}

#[test]
fn a_scalar_index_takes_one_row_and_integer_sums_wrap() {
    let x = count(&[3, 2]);
    let row = apply(Op::Gather { axis: 0, batch: 0 }, &[&x, &i(DType::U32, &[], &[2])]);
    assert_eq!(row, f(&[2], &[4.0, 5.0]));
    let base = i(DType::U8, &[2], &[250, 1]);
    let op = Op::Scatter { axis: 0, batch: 0, mode: ScatterMode::Add };
    let z = apply(op, &[&base, &i(DType::I32, &[3], &[0, 0, -1]), &i(DType::U8, &[3], &[10, 10, 10])]);
    assert_eq!(z.to_i64().unwrap(), [14, 1]);
}

#[test]
fn slices_start_at_symbolic_places() {
    let text = "graph @s {\n sym T in 2..=9\n %x = iota {axis = 0} : i32[2*T]\n\
        %y = slice %x {starts = [T-1], sizes = [T], strides = [1]}\n\
        %p = pad %y {low = [T], high = [0], value = -1}\n return y = %y, p = %p\n}";
    let graph = parse(text).unwrap();
    let go = |t: i64| {
        let inputs: BTreeMap<String, Tensor> = BTreeMap::new();
        let verified = verify(&graph).unwrap();
        run(&Run { graph: verified, symbols: &[t], inputs: &inputs, rounding: Rounding::None, keep: &[] }).unwrap()
    };
    assert_eq!(go(4).outputs["y"].to_i64().unwrap(), [3, 4, 5, 6]);
    assert_eq!(go(2).outputs["p"].to_i64().unwrap(), [-1, -1, 1, 2]);
}
