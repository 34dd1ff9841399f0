//! The one place where op tests touch the interpreter: a graph of one op, its inputs, its result.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test files; a test fails by panicking")]

use enel_interp::{InterpError, Rounding, Run, Tensor, Values, run};
use enel_ir::{Graph, InputKind, NodeId, Op, Symbols, TensorType, verify};
use enel_types::{DType, Dim};

/// Result of one op applied to `operands`, as the interpreter gives it.
pub(crate) fn try_apply(op: Op, operands: &[&Tensor]) -> Result<Tensor, InterpError> {
    let mut graph = Graph::new("one", Symbols::default());
    let mut ids: Vec<NodeId> = Vec::new();
    let mut inputs = std::collections::BTreeMap::new();
    for (i, tensor) in operands.iter().enumerate() {
        let shape = tensor.shape.iter().map(|&d| Dim::constant(d as i64)).collect();
        let ty = TensorType::new(tensor.dtype, shape);
        ids.push(graph.input(&format!("x{i}"), InputKind::Data, ty).unwrap());
        inputs.insert(format!("x{i}"), (*tensor).clone());
    }
    let y = graph.push(op, &ids).unwrap();
    graph.output("y", y);
    let verified = verify(&graph).unwrap();
    let outcome = run(&Run { graph: verified, symbols: &[], inputs: &inputs, rounding: Rounding::None, keep: &[] })?;
    let result = outcome.outputs["y"].clone();
    result.check().unwrap();
    let stated = graph.ty(y);
    let shape: Vec<usize> = stated.shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
    assert_eq!((result.dtype, &result.shape), (stated.dtype, &shape));
    Ok(result)
}

/// See [`try_apply`].
pub(crate) fn apply(op: Op, operands: &[&Tensor]) -> Tensor {
    try_apply(op, operands).unwrap()
}

pub(crate) fn f(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, shape, values).unwrap()
}

pub(crate) fn i(dtype: DType, shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(dtype, shape, Values::I(values.to_vec())).unwrap()
}

/// 0, 1, 2, ... of an f32 tensor: every element says where it came from.
pub(crate) fn count(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    f(shape, &(0..n).map(|i| i as f64).collect::<Vec<_>>())
}

pub(crate) fn dims(list: &[usize]) -> Vec<Dim> {
    list.iter().map(|&d| Dim::constant(d as i64)).collect()
}

/// All index tuples of a shape in row-major order.
pub(crate) fn places(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &extent in shape {
        all = all.iter().flat_map(|p| (0..extent).map(|i| [p.as_slice(), &[i]].concat())).collect();
    }
    all
}

/// The element at an index tuple.
pub(crate) fn at(tensor: &Tensor, place: &[usize]) -> f64 {
    assert_eq!(place.len(), tensor.shape.len());
    let offset = place.iter().zip(&tensor.shape).fold(0, |o, (&p, &d)| {
        assert!(p < d);
        o * d + p
    });
    tensor.to_f64()[offset]
}

/// Relative to the larger of 1 and the wanted value: both sides are f64, sums differ in order only.
pub(crate) fn close(got: &Tensor, want: &[f64]) {
    let got = got.to_f64();
    assert_eq!(got.len(), want.len());
    for (k, (a, b)) in got.iter().zip(want).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        assert!(same, "element {k}: {a}, expected {b}");
    }
}
