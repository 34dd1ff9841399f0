//! How do tests run a graph and read golden values? The one place that touches the interpreter and the file format.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use enel_interp::{Rounding, Run, Tensor, run};
use enel_ir::{DType, Graph, InputKind, verify};
use enel_model::{CachedRows, LlamaConfig, TokenRows, names};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The folder of golden values, if it exists beside the checkout.
pub fn fixtures() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let folder = std::env::var_os("ENEL_FIXTURES").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no golden values");
    None
}

/// One golden case, or nothing when there are no golden values.
pub fn case(name: &str) -> Option<Tensors> {
    let path = fixtures()?.join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::U8 => DType::U8,
            other => panic!("{name} is {other:?}"),
        };
        (name, Tensor::from_bytes(dtype, view.shape(), view.data()).unwrap())
    };
    Some(file.tensors().into_iter().map(read).collect())
}

/// Numbers of a case's config.
pub fn config(name: &str) -> Option<serde_json::Value> {
    let path = fixtures()?.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(serde_json::from_str(&text).unwrap())
}

/// Runs `graph` with every weight taken from `weights` under its name after `prefix`, and the rest from `inputs`.
pub fn evaluate(graph: &Graph, symbols: &[i64], weights: (&Tensors, &str), inputs: &Tensors) -> Tensors {
    let mut all = inputs.clone();
    for (_, name, kind) in graph.inputs() {
        if kind == InputKind::Weight {
            let tensor = weights.0.get(&format!("{}{name}", weights.1));
            all.insert(name.to_owned(), tensor.unwrap_or_else(|| panic!("no weight {name}")).clone());
        }
    }
    let graph = verify(graph).unwrap();
    let run = run(&Run { graph, symbols, inputs: &all, rounding: Rounding::None, keep: &[] });
    run.unwrap_or_else(|e| panic!("{}: {e}: {:?}", graph.name(), std::error::Error::source(&e))).outputs
}

/// `i32` vector.
pub fn indices(values: &[i32]) -> Tensor {
    Tensor::from_i32(&[values.len()], values).unwrap()
}

/// Integers of a tensor.
pub fn ints(t: &Tensor) -> Vec<i32> {
    t.to_f64().iter().map(|&x| x as i32).collect()
}

/// `|a - b| / |b|`.
pub fn relative_l2(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |it: &mut dyn Iterator<Item = f64>| it.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied())
}

/// Fails unless `ours` is within `tolerance` of `theirs`, relative L2 over the tensor.
pub fn close(name: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    let error = relative_l2(ours, theirs);
    assert!(error <= tolerance, "{name}: relative L2 {error:e}, tolerance {tolerance:e}");
}

/// Axes of `t` permuted, values in row-major order of the result.
pub fn permuted(t: &Tensor, perm: &[usize]) -> Vec<f64> {
    let values = t.to_f64();
    let strides: Vec<usize> = (0..t.shape.len()).map(|i| t.shape[i + 1..].iter().product()).collect();
    let shape: Vec<usize> = perm.iter().map(|&p| t.shape[p]).collect();
    let place = |mut flat: usize| {
        let mut from = 0;
        for (axis, &extent) in shape.iter().enumerate().rev() {
            from += (flat % extent) * strides[perm[axis]];
            flat /= extent;
        }
        from
    };
    (0..values.len()).map(|flat| values[place(flat)]).collect()
}

/// A small generator for test data: numbers in -1..1, the same for the same seed (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in -1..1.
    pub fn next(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` numbers.
    pub fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// Random weights for every weight input: variances positive, matrices scaled to keep channels near 1.
pub fn random_weights(graph: &Graph, seed: u64) -> Tensors {
    let mut numbers = Numbers(seed);
    let mut weights = Tensors::new();
    for (id, name, kind) in graph.inputs() {
        if kind != InputKind::Weight {
            continue;
        }
        let shape: Vec<usize> = graph.ty(id).shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let scale = if shape.len() > 1 { (3.0 / fan_in).sqrt() } else { 0.3 };
        let offset = if shape.len() == 1 && !name.ends_with("bias") && !name.ends_with("mean") { 1.0 } else { 0.0 };
        let values: Vec<f32> = numbers.take(shape.iter().product()).iter().map(|x| x * scale + offset).collect();
        weights.insert(name.to_owned(), Tensor::from_f32(&shape, &values).unwrap());
    }
    weights
}

/// Inputs that say where tokens stand.
pub fn row_inputs(ids: &[i32], rows: &TokenRows) -> Tensors {
    let list =
        [(names::IDS, ids), (names::POSITION, &rows.position), (names::LOW, &rows.low), (names::HIGH, &rows.high)];
    list.iter().map(|(name, values)| ((*name).to_owned(), indices(values))).collect()
}

/// The same for tokens that go through a cache.
pub fn cached_inputs(ids: &[i32], cached: &CachedRows) -> Tensors {
    let mut inputs = row_inputs(ids, &cached.rows);
    inputs.insert(names::SLOT.to_owned(), indices(&cached.slot));
    inputs
}

/// Caches of a decoder before the first token.
pub fn empty_caches(config: &LlamaConfig, slots: usize) -> Tensors {
    let shape = [2, slots, config.num_key_value_heads, config.head_dim()];
    let empty = Tensor::from_f32(&shape, &vec![0.0; shape.iter().product()]).unwrap();
    (0..config.num_hidden_layers).map(|l| (names::cache(l), empty.clone())).collect()
}
