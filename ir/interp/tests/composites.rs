//! Composites against formulas written directly as loops, not through their decomposition.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use enel_interp::Tensor;
use enel_ir::{Composite as C, Op, Scalar};
use enel_types::DType;
use kit::{apply, at, close, dims, f, i, places};
use proptest::prelude::*;

fn composite(op: C, operands: &[&Tensor]) -> Tensor {
    apply(Op::Composite(op), operands)
}

/// Numbers without a pattern that sums could hide behind.
fn wavy(shape: &[usize], phase: f64) -> Tensor {
    let n: usize = shape.iter().product();
    f(shape, &(0..n).map(|k| 2.0 * (1.7 * k as f64 + phase).sin()).collect::<Vec<_>>())
}

fn at2(x: &Tensor, row: usize, column: usize) -> f64 {
    at(x, &[row, column])
}

#[test]
fn activations_have_their_formulas() {
    let x = wavy(&[40], 0.3);
    let each = |g: fn(f64) -> f64| x.to_f64().into_iter().map(g).collect::<Vec<_>>();
    close(&composite(C::Relu, &[&x]), &each(|v| if v > 0.0 { v } else { 0.0 }));
    close(&composite(C::Sigmoid, &[&x]), &each(|v| v.exp() / (1.0 + v.exp())));
    close(&composite(C::Silu, &[&x]), &each(|v| v / (1.0 + (-v).exp())));
    let tanh = |v: f64| 0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3))).tanh());
    close(&composite(C::Gelu { tanh: true }, &[&x]), &each(tanh));
    close(&composite(C::Gelu { tanh: false }, &[&x]), &each(|v| v * normal_cdf(v)));
}

/// The integral of the normal density by Simpson's rule, so that no erf is shared with the interpreter.
fn normal_cdf(v: f64) -> f64 {
    let n = 4000;
    let h = v / f64::from(n);
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let weight = |k: i32| if k == 0 || k == n { 1.0 } else { f64::from(2 + 2 * (k % 2)) };
    0.5 + (0..=n).map(|k| weight(k) * density(f64::from(k) * h)).sum::<f64>() * h / 3.0
}

#[test]
fn mixed_dtypes_keep_the_dtype_of_the_composite() {
    let x = Tensor::from_f64(DType::BF16, &[2, 3], &[0.5, -1.0, 2.0, 3.0, 0.0, 1.0]).unwrap();
    let gain = f(&[3], &[1.0, 2.0, 3.0]);
    let y = composite(C::RmsNorm { eps: Scalar::F(0.1) }, &[&x, &gain]);
    assert_eq!(y.dtype, DType::BF16);
    let r = 1.0 / ((0.25f64 + 1.0 + 4.0) / 3.0 + 0.1).sqrt();
    let s = 1.0 / ((9.0f64 + 0.0 + 1.0) / 3.0 + 0.1).sqrt();
    close(&y, &[0.5 * r, -2.0 * r, 6.0 * r, 3.0 * s, 0.0, 3.0 * s]);
}

proptest! {
    #[test]
    fn softmax_along_any_axis(shape in prop::collection::vec(1usize..5, 1..4), axis in 0usize..3, shift in -900.0f64..900.0) {
        let axis = axis % shape.len();
        let base = wavy(&shape, 0.1);
        let x = f(&shape, &base.to_f64().iter().map(|v| v + shift).collect::<Vec<_>>());
        let (y, logs) = (composite(C::Softmax { axis }, &[&x]), composite(C::LogSoftmax { axis }, &[&x]));
        for p in places(&shape) {
            let mut q = p.clone();
            let sum: f64 = (0..shape[axis]).map(|k| { q[axis] = k; at(&base, &q).exp() }).sum();
            let want = at(&base, &p).exp() / sum;
            // The shift costs digits: 900 has an ulp of 1e-13.
            prop_assert!((at(&y, &p) - want).abs() < 2e-12, "{} {}", at(&y, &p), want);
            prop_assert!((at(&logs, &p) - want.ln()).abs() < 2e-12);
        }
    }

    #[test]
    fn moments_and_norms(rows in 1usize..5, n in 2usize..7, keep in any::<bool>(), ddof in 0i64..2, phase in 0.0f64..6.0) {
        let x = wavy(&[rows, n], phase);
        let (gain, bias) = (wavy(&[n], phase + 1.0), wavy(&[n], phase + 2.0));
        let eps = Scalar::F(1e-3);
        let (mut mean, mut var, mut rms, mut layer) = (vec![], vec![], vec![], vec![]);
        for r in 0..rows {
            let row: Vec<f64> = (0..n).map(|c| at(&x, &[r, c])).collect();
            let m = row.iter().sum::<f64>() / n as f64;
            let square = row.iter().map(|v| (v - m) * (v - m)).sum::<f64>();
            mean.push(m);
            var.push(square / (n as f64 - ddof as f64));
            let size = (row.iter().map(|v| v * v).sum::<f64>() / n as f64 + 1e-3).sqrt();
            for (c, v) in row.iter().enumerate() {
                rms.push(v / size * at(&gain, &[c]));
                layer.push((v - m) / (square / n as f64 + 1e-3).sqrt() * at(&gain, &[c]) + at(&bias, &[c]));
            }
        }
        close(&composite(C::Mean { axes: vec![1], keep }, &[&x]), &mean);
        close(&composite(C::Variance { axes: vec![1], keep, ddof }, &[&x]), &var);
        close(&composite(C::RmsNorm { eps }, &[&x, &gain]), &rms);
        close(&composite(C::LayerNorm { eps }, &[&x, &gain, &bias]), &layer);
    }

    #[test]
    fn batch_norm_along_any_axis(shape in prop::collection::vec(1usize..5, 1..4), axis in 0usize..3) {
        let axis = axis % shape.len();
        let n = [shape[axis]];
        let x = wavy(&shape, 0.0);
        let [gain, bias, mean] = [1.0, 2.0, 3.0].map(|phase| wavy(&n, phase));
        let var = f(&n, &(0..n[0]).map(|k| 0.5 + k as f64).collect::<Vec<_>>());
        let op = C::BatchNorm { axis, eps: Scalar::F(0.25) };
        let y = composite(op, &[&x, &gain, &bias, &mean, &var]);
        for p in places(&shape) {
            let c = [p[axis]];
            let scale = at(&gain, &c) / (at(&var, &c) + 0.25).sqrt();
            let want = (at(&x, &p) - at(&mean, &c)) * scale + at(&bias, &c);
            prop_assert!((at(&y, &p) - want).abs() < 1e-12);
        }
    }

    #[test]
    fn attention_sees_its_ranges(
        t in 1usize..5, s in 1usize..6, groups in 1usize..3, per_group in 1usize..4, d in 1usize..4,
        ranges in prop::collection::vec((-2i64..7, -2i64..9), 5),
    ) {
        let heads = groups * per_group;
        let (q, k, v) = (wavy(&[t, heads, d], 0.0), wavy(&[s, groups, d], 1.0), wavy(&[s, groups, d], 2.0));
        let low = i(DType::I32, &[t], &ranges[..t].iter().map(|r| r.0).collect::<Vec<_>>());
        let high = i(DType::I32, &[t], &ranges[..t].iter().map(|r| r.1).collect::<Vec<_>>());
        let scale = 0.7;
        let y = composite(C::Attention { scale: Scalar::F(scale) }, &[&q, &k, &v, &low, &high]);
        for (token, &(from, to)) in ranges[..t].iter().enumerate() {
            for h in 0..heads {
                // Heads in order share a group: head h reads keys of group h / per_group.
                let g = h / per_group;
                let seen: Vec<usize> =
                    (0..s).filter(|&j| (from..to).contains(&(j as i64))).collect();
                let score = |j: usize| (0..d).map(|c| at(&q, &[token, h, c]) * at(&k, &[j, g, c])).sum::<f64>() * scale;
                let total: f64 = seen.iter().map(|&j| score(j).exp()).sum();
                for c in 0..d {
                    let sum: f64 = seen.iter().map(|&j| score(j).exp() * at(&v, &[j, g, c])).sum();
                    let want = if seen.is_empty() { 0.0 } else { sum / total };
                    prop_assert!((at(&y, &[token, h, c]) - want).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn cross_entropy_skips_ignored_labels(labels in prop::collection::vec(-1i64..4, 1..8)) {
        let t = labels.len();
        let logits = wavy(&[t, 4], 0.5);
        let got = composite(C::CrossEntropy { ignore: -1 }, &[&logits, &i(DType::I32, &[t], &labels)]);
        let (mut sum, mut n) = (0.0, 0.0);
        for (r, &label) in labels.iter().enumerate().filter(|(_, l)| **l != -1) {
            let total: f64 = (0..4).map(|c| at(&logits, &[r, c]).exp()).sum();
            sum += total.ln() - at(&logits, &[r, label as usize]);
            n += 1.0;
        }
        close(&got, &[sum / n]);
    }

    #[test]
    fn cross_entropy_by_chunks_is_cross_entropy(
        labels in prop::collection::vec(-1i64..9, 1..8), v in 1usize..9, columns in 1i64..10, size in 0.1f64..50.0,
    ) {
        let t = labels.len();
        let labels: Vec<i64> = labels.into_iter().map(|label| label.min(v as i64 - 1)).collect();
        let labels = i(DType::I32, &[t], &labels);
        let (hidden, matrix) = (wavy(&[t, 3], 0.2), wavy(&[v, 3], 0.9));
        let hidden = f(&[t, 3], &hidden.to_f64().iter().map(|x| x * size).collect::<Vec<_>>());
        let logits = (0..t * v).map(|at| (0..3).map(|c| at2(&hidden, at / v, c) * at2(&matrix, at % v, c)).sum());
        let logits = f(&[t, v], &logits.collect::<Vec<f64>>());
        let want = composite(C::CrossEntropy { ignore: -1 }, &[&logits, &labels]);
        let got = composite(C::LinearCrossEntropy { ignore: -1, columns }, &[&hidden, &matrix, &labels]);
        prop_assert!(got.to_f64()[0].is_nan() == want.to_f64()[0].is_nan());
        if !want.to_f64()[0].is_nan() {
            close(&got, &want.to_f64());
        }
    }
}

/// Philox4x32-10, written on its own in 64-bit products.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let [a, b] = [u64::from(counter[0]) * 0xD251_1F53, u64::from(counter[2]) * 0xCD9E_8D57];
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
    }
    counter
}

#[test]
fn random_bits_are_philox_by_seed_step_stream_and_element() {
    // The known answers published with the algorithm.
    let digits = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox(digits, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    for (seed, step, stream) in
        [(0i64, 0i64, 0i64), (0x299f_31d0_a409_3822, 0x0370_7344_1319_8a2e, 0x85a3_08d3), (-1, -2, 7)]
    {
        let op = Op::Composite(C::RandomBits { stream, shape: dims(&[3, 5]) });
        let scalar = |x: i64| i(DType::I64, &[], &[x]);
        let got = apply(op, &[&scalar(seed), &scalar(step)]);
        let word = |x: i64, at: u32| (x as u64 >> (32 * at)) as u32;
        for (element, &got) in got.to_i64().unwrap().iter().enumerate() {
            let counter = [element as u32, stream as u32, word(step, 0), word(step, 1)];
            assert_eq!(got, i64::from(philox(counter, [word(seed, 0), word(seed, 1)])[0]), "{seed} {element}");
        }
    }
}
