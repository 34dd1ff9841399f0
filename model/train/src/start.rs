//! Which numbers does a weight begin with? Those of a folder, or drawn ones where it has none.
//!
//! Law: a weight's draw depends on the seed and its name alone. Rows a table grows by are the mean of those it has.
//! **Source** for the mean: the released code, which gives new marks the mean embedding.

use crate::base::Source;
use crate::error::StartError;
use enel_io::{Dtype, SplitMix64, Weights, WeightsError};
use enel_ir::DType;
use enel_model::train::{ADAPTER_A, ADAPTER_B};
use enel_runtime::{HostTensor, HostTensors, WeightSource, WeightView};
use std::collections::BTreeMap;
use std::path::Path;

/// Weights by name with their shapes.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// Decoder parts no folder may lack.
const DECODER: [&str; 4] = ["model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."];
/// Parts that read clouds, which a folder of text alone lacks.
const POINTS: [&str; 2] = ["model.point_backbone.", "model.point_proj."];
/// Tables that grow with the vocabulary.
const TABLES: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// The weights of a model at its start.
#[derive(Debug, Default)]
pub struct Start {
    folder: Option<Weights>,
    /// Drawn, grown or narrowed: what no file holds as it is wanted.
    made: HostTensors,
}

impl Start {
    /// The weights `shapes` of a model, checked.
    ///
    /// # Errors
    /// [`StartError::Misfit`] with every weight that does not fit.
    pub(crate) fn open(source: &Source, shapes: &Shapes, seed: u64) -> Result<Start, StartError> {
        let mut start = Start::default();
        let (path, has_points) = match source {
            Source::Drawn => (Path::new(""), false),
            Source::Folder { path, has_points } => {
                start.folder = Some(Weights::open(path)?);
                (path.as_path(), *has_points)
            }
        };
        let mut faults = Vec::new();
        for (name, shape) in shapes {
            let begins = |list: &[&str]| list.iter().any(|begin| name.starts_with(begin));
            let is_factor = name.ends_with(ADAPTER_A) || name.ends_with(ADAPTER_B);
            let wanted = start.folder.is_some() && !is_factor && (begins(&DECODER) || (has_points && begins(&POINTS)));
            match start.folder.as_ref().map(|weights| found(weights, name, shape)) {
                Some(Ok(Found::AsIs)) => {}
                Some(Ok(Found::Made(tensor))) => drop(start.made.insert(name.clone(), tensor)),
                Some(Ok(Found::Nothing)) | None if !wanted => {
                    start.made.insert(name.clone(), drawn(name, shape, seed));
                }
                Some(Ok(Found::Nothing)) | None => faults.push(format!("{name} {shape:?} is missing")),
                Some(Err(fault)) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(start) } else { Err(StartError::Misfit { path: path.to_owned(), faults }) }
    }

    /// A weight as f32, whatever it is stored as.
    pub(crate) fn wide(&self, name: &str) -> Option<HostTensor> {
        if let Some(made) = self.made.get(name) {
            return Some(made.clone());
        }
        let weights = self.folder.as_ref()?;
        let shape = weights.view(name).ok()?.shape.to_vec();
        HostTensor::from_f32(&shape, &weights.to_f32(name).ok()?).ok()
    }
}

impl WeightSource for Start {
    fn tensor(&self, name: &str) -> Option<WeightView<'_>> {
        if let Some(made) = self.made.get(name) {
            return Some(WeightView { dtype: made.dtype(), shape: made.shape(), bytes: made.bytes() });
        }
        let view = self.folder.as_ref()?.view(name).ok()?;
        Some(WeightView { dtype: stored(view.dtype)?, shape: view.shape, bytes: view.bytes })
    }
}

/// Types devices take.
pub(crate) fn stored(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// What a folder has of a weight.
enum Found {
    AsIs,
    Made(HostTensor),
    Nothing,
}

fn found(weights: &Weights, name: &str, shape: &[usize]) -> Result<Found, String> {
    let Ok(view) = weights.view(name) else { return Ok(Found::Nothing) };
    if view.shape == shape {
        if stored(view.dtype).is_some() {
            return Ok(Found::AsIs);
        }
        let wide = weights.to_f32(name).map_err(|error: WeightsError| error.to_string())?;
        return HostTensor::from_f32(shape, &wide).map(Found::Made).map_err(|error| error.to_string());
    }
    let (&[have, width], &[want, wide]) = (view.shape, shape) else { return Err(misfit(name, view.shape, shape)) };
    if !TABLES.contains(&name) || width != wide || have > want || have == 0 {
        return Err(misfit(name, view.shape, shape));
    }
    let mut table = weights.to_f32(name).map_err(|error| error.to_string())?;
    let mut mean = vec![0.0f64; width];
    for row in table.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / have as f64) as f32).collect();
    (have..want).for_each(|_| table.extend(&mean));
    HostTensor::from_f32(shape, &table).map(Found::Made).map_err(|error| error.to_string())
}

fn misfit(name: &str, found: &[usize], expected: &[usize]) -> String {
    format!("{name} has the shape {found:?}, expected {expected:?}")
}

/// A weight nobody trained yet.
///
/// Matrices are uniform in plus and minus one over the root of what they sum over, as PyTorch's linear layers begin;
/// gains and variances are 1, everything else 0: biases, the masked token, the second factors of adapters.
pub fn drawn(name: &str, shape: &[usize], seed: u64) -> HostTensor {
    let n_elems: usize = shape.iter().product();
    let is_zero = name == "model.mask_token" || name.ends_with(ADAPTER_B);
    let values: Vec<f32> = match shape.len() {
        0 | 1 => {
            let is_one = !(name.ends_with("bias") || name.ends_with("running_mean"));
            vec![if is_one { 1.0 } else { 0.0 }; n_elems]
        }
        _ if is_zero => vec![0.0; n_elems],
        _ => {
            let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
            let scale = 1.0 / fan_in.sqrt();
            // FNV-1a, 64 bits, which no hasher of the standard library promises to stay.
            let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let mut random = SplitMix64::new(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (0..n_elems).map(|_| ((2.0 * random.unit() - 1.0) * scale) as f32).collect()
        }
    };
    HostTensor::from_f32(shape, &values).unwrap_or_else(|_| unreachable!("as many values as the shape says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_weights_follow_the_seed_and_the_name() {
        let draw = |name: &str, seed| drawn(name, &[4, 16], seed).to_f32().unwrap();
        assert_eq!(draw("a.weight", 1), draw("a.weight", 1));
        assert_ne!(draw("a.weight", 1), draw("a.weight", 2));
        assert_ne!(draw("a.weight", 1), draw("b.weight", 1));
        assert!(draw("a.weight", 1).iter().all(|x| x.abs() <= 0.25));
        assert_eq!(drawn("norm.weight", &[2], 0).to_f32().unwrap(), [1.0, 1.0]);
        assert_eq!(drawn("a.bias", &[2], 0).to_f32().unwrap(), [0.0, 0.0]);
        assert_eq!(drawn("a.lora_B.weight", &[1, 2], 0).to_f32().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn a_table_grows_by_its_mean_row() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = enel_io::TensorView { dtype: Dtype::F32, shape: &[2, 2], bytes: &bytes };
        let path = dir.path().join("model.safetensors");
        enel_io::write_safetensors(&path, [("lm_head.weight", view)]).unwrap();
        let source = Source::Folder { path: dir.path().to_owned(), has_points: false };
        let open = |rows, width| Start::open(&source, &Shapes::from([("lm_head.weight".into(), vec![rows, width])]), 0);
        let grown = open(3, 2).unwrap();
        assert_eq!(grown.wide("lm_head.weight").unwrap().to_f32().unwrap(), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0]);
        let error = open(2, 3).unwrap_err().to_string();
        assert!(error.contains("lm_head.weight has the shape [2, 2], expected [2, 3]"), "{error}");
    }
}
