//! Which numbers are bound? Those of a folder, still in their files, or random ones drawn by name.

use enel_io::{Dtype, SplitMix64, TensorView, Weights};
use enel_ir::{DType, Graph, InputKind};
use enel_runtime::{HostTensor, HostTensors, WeightSource, WeightView};
use std::collections::BTreeMap;

/// Weights of a folder, as the runtime asks for them.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) weights: Weights,
    /// F64 tensors, which devices do not store, as F32.
    narrowed: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Checkpoint {
    pub(super) fn new(weights: Weights) -> Checkpoint {
        let mut narrowed = BTreeMap::new();
        for name in weights.names() {
            let Ok(view @ TensorView { dtype: Dtype::F64, .. }) = weights.view(name) else { continue };
            let bytes = view.to_f32().unwrap_or_default().into_iter().flat_map(f32::to_ne_bytes).collect();
            narrowed.insert(name.to_owned(), (view.shape.to_vec(), bytes));
        }
        Checkpoint { weights, narrowed }
    }
}

impl WeightSource for &Checkpoint {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        if let Some((shape, bytes)) = self.narrowed.get(name) {
            return Some(WeightView { dtype: DType::F32, shape, bytes });
        }
        let view = self.weights.view(name).ok()?;
        let dtype = match view.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => return None,
        };
        Some(WeightView { dtype, shape: view.shape, bytes: view.bytes })
    }
}

/// Weights by name with their shapes, over all graphs; a weight with symbolic extents does not exist.
pub(super) fn weight_shapes(graphs: &[&Graph]) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for graph in graphs {
        for (id, name, kind) in graph.inputs() {
            if kind == InputKind::Weight {
                let extents = graph.ty(id).shape.iter().filter_map(|dim| dim.as_const());
                shapes.insert(name.to_owned(), extents.map(|n| n as usize).collect());
            }
        }
    }
    shapes
}

/// The same numbers on every machine: each weight draws from a generator seeded by its name, so that graphs in any
/// order get the same ones. Matrices keep the spread of what they multiply; gains and variances are near 1.
pub(super) fn random_weights(graphs: &[&Graph]) -> HostTensors {
    let mut weights = HostTensors::new();
    for (name, shape) in weight_shapes(graphs) {
        let n_elems: usize = shape.iter().product();
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let is_vector = shape.len() == 1;
        let is_centred = !is_vector || name.ends_with("bias") || name.ends_with("mean");
        // A uniform number in -1..1 has variance 1/3.
        let scale = if is_vector { 0.3 } else { (3.0 / fan_in).sqrt() };
        let offset = if is_centred { 0.0 } else { 1.0 };
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            // FNV-1a, 64 bits.
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut random = SplitMix64::new(seed);
        // A number in -1..1 of the high 24 bits, which f32 holds.
        let mut uniform = || (random.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        let bytes = (0..n_elems).flat_map(|_| (uniform() * scale + offset).to_ne_bytes()).collect();
        if let Ok(tensor) = HostTensor::new(DType::F32, &shape, bytes) {
            weights.insert(name, tensor);
        }
    }
    weights
}
