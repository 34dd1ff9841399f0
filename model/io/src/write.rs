//! How do tensors become safetensors files, without being in memory all at once?
//!
//! Law: a tensor is made when its turn to be written comes, and dropped after; a file is whole or not there.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError};
use serde_json::json;

use crate::weights::{INDEX, SINGLE, TensorView, Weights, WeightsError, io};

/// A tensor that can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the file.
    pub name: String,
    /// The type it has, or would best have, if nothing else is asked for.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

/// Tensors that are made one at a time.
pub trait TensorSource {
    /// All of them, in the order they should be written.
    fn list(&self) -> Vec<SourceTensor>;

    /// Elements of one as `dtype`, little endian; `None` when there is no such tensor or it does not become that type.
    fn bytes(&self, name: &str, dtype: Dtype) -> Option<Cow<'_, [u8]>>;
}

impl TensorSource for Weights {
    fn list(&self) -> Vec<SourceTensor> {
        let tensor = |name: &str| {
            let view = self.view(name).ok()?;
            Some(SourceTensor { name: name.to_owned(), dtype: view.dtype, shape: view.shape.to_vec() })
        };
        self.names().filter_map(tensor).collect()
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Option<Cow<'_, [u8]>> {
        let view = self.view(name).ok()?;
        if view.dtype == dtype {
            return Some(Cow::Borrowed(view.bytes));
        }
        rounded(&view.to_f32()?, dtype).map(Cow::Owned)
    }
}

/// Values as F32, F16 or BF16, rounded to nearest even, little endian; `None` for other types.
pub(crate) fn rounded(values: &[f32], dtype: Dtype) -> Option<Vec<u8>> {
    match dtype {
        Dtype::F32 => Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Dtype::F16 => Some(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()),
        Dtype::BF16 => Some(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()),
        _ => None,
    }
}

/// How a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteConfig {
    /// The type of all tensors of floats; each keeps its own where nothing is said.
    pub dtype: Option<Dtype>,
    /// No file gets larger, unless a single tensor is.
    pub shard_bytes: u64,
}

impl Default for WriteConfig {
    /// Own types, files of 5 GB as Hugging Face writes them.
    fn default() -> Self {
        Self { dtype: None, shard_bytes: 5_000_000_000 }
    }
}

/// How far writing is.
#[derive(Clone, Copy, Debug)]
pub struct WriteProgress<'a> {
    /// The tensor that was written last.
    pub name: &'a str,
    /// Bytes written so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Writes a model's tensors into `dir`: one `model.safetensors`, or files of bounded size with an index.
///
/// At most one tensor is in memory, in its own form and as it is written.
///
/// # Errors
/// [`WeightsError::NotFloat`], [`WeightsError::Overflow`], [`WeightsError::Format`], [`WeightsError::Io`].
pub fn write_model(
    dir: &Path,
    source: &dyn TensorSource,
    config: &WriteConfig,
    progress: &mut dyn FnMut(WriteProgress<'_>),
) -> Result<(), WeightsError> {
    let is_float = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64);
    let mut tensors = source.list();
    for tensor in &mut tensors {
        tensor.dtype = config.dtype.filter(|_| is_float(tensor.dtype)).unwrap_or(tensor.dtype);
    }
    let shards = shards(&tensors, config.shard_bytes);
    let total_bytes = tensors.iter().map(size_bytes).sum();
    let state = RefCell::new(State { done_bytes: 0, total_bytes, fault: None, progress });
    let mut weight_map = serde_json::Map::new();
    for (at, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", at + 1),
        };
        let views = shard.iter().map(|tensor| (tensor.name.as_str(), Lazy { tensor, source, state: &state }));
        write_file(&dir.join(&name), views)?;
        if let Some(fault) = state.borrow_mut().fault.take() {
            return Err(fault);
        }
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), json!(name))));
    }
    if shards.len() > 1 {
        let index = json!({ "metadata": { "total_size": total_bytes }, "weight_map": weight_map });
        let path = dir.join(INDEX);
        std::fs::write(&path, format!("{index:#}\n")).map_err(|source| io("write", &path, source))?;
    }
    Ok(())
}

struct State<'p> {
    done_bytes: u64,
    total_bytes: u64,
    /// What went wrong where the format's writer cannot be told.
    fault: Option<WeightsError>,
    progress: &'p mut dyn FnMut(WriteProgress<'_>),
}

/// A tensor that is made when its bytes are asked for.
struct Lazy<'a, 'p> {
    tensor: &'a SourceTensor,
    source: &'a dyn TensorSource,
    state: &'a RefCell<State<'p>>,
}

impl safetensors::View for Lazy<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let SourceTensor { name, dtype, shape: _ } = self.tensor;
        let state = &mut *self.state.borrow_mut();
        // After a fault the file is thrown away; zeros keep its writer content.
        let zeros = || Cow::Owned(vec![0; self.data_len()]);
        if state.fault.is_some() {
            return zeros();
        }
        let Some(bytes) = self.source.bytes(name, *dtype).filter(|bytes| bytes.len() == self.data_len()) else {
            state.fault = Some(WeightsError::NotFloat { name: name.clone(), dtype: *dtype });
            return zeros();
        };
        // What is copied as it is may hold whatever it holds.
        if *dtype == Dtype::F16 && matches!(bytes, Cow::Owned(_)) && has_infinity(&bytes) {
            state.fault = Some(WeightsError::Overflow { name: name.clone(), dtype: *dtype });
        }
        state.done_bytes += bytes.len() as u64;
        (state.progress)(WriteProgress { name, done_bytes: state.done_bytes, total_bytes: state.total_bytes });
        bytes
    }

    fn data_len(&self) -> usize {
        usize::try_from(size_bytes(self.tensor)).unwrap_or(usize::MAX)
    }
}

/// Whether half-precision numbers have left their range.
fn has_infinity(bytes: &[u8]) -> bool {
    bytes.as_chunks::<2>().0.iter().any(|&raw| f16::from_le_bytes(raw).is_infinite())
}

fn size_bytes(tensor: &SourceTensor) -> u64 {
    let n_elems = tensor.shape.iter().fold(1u64, |n, &extent| n.saturating_mul(extent as u64));
    n_elems.saturating_mul(tensor.dtype.bitsize() as u64) / 8
}

/// Tensors in their order, cut where the next one would make a file too large.
fn shards(tensors: &[SourceTensor], limit_bytes: u64) -> Vec<&[SourceTensor]> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (at, tensor) in tensors.iter().enumerate() {
        let size = size_bytes(tensor);
        if at > start && bytes.saturating_add(size) > limit_bytes {
            shards.push(&tensors[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    shards.push(&tensors[start..]);
    shards
}

/// Writes tensors as one safetensors file, whole or not at all, marked the way Hugging Face readers expect.
///
/// # Errors
/// [`WeightsError::Format`] when a tensor's bytes do not fit its shape, [`WeightsError::Io`].
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
) -> Result<(), WeightsError> {
    struct View<'a>(TensorView<'a>);
    impl safetensors::View for View<'_> {
        fn dtype(&self) -> Dtype {
            self.0.dtype
        }
        fn shape(&self) -> &[usize] {
            self.0.shape
        }
        fn data(&self) -> Cow<'_, [u8]> {
            Cow::Borrowed(self.0.bytes)
        }
        fn data_len(&self) -> usize {
            self.0.bytes.len()
        }
    }
    let tensors: Vec<(&str, View<'_>)> = tensors.into_iter().map(|(name, view)| (name, View(view))).collect();
    for (name, View(view)) in &tensors {
        let n_elems = view.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let n_bits = n_elems.and_then(|n| n.checked_mul(view.dtype.bitsize()));
        if n_bits != view.bytes.len().checked_mul(8) {
            let source = SafeTensorError::InvalidTensorView(view.dtype, view.shape.to_vec(), (*name).len());
            return Err(WeightsError::Format { path: path.to_owned(), source });
        }
    }
    write_file(path, tensors)
}

/// Writes beside `path`, syncs and renames.
fn write_file<V: safetensors::View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (impl AsRef<str> + Ord + std::fmt::Display, V)>,
) -> Result<(), WeightsError> {
    let folder: PathBuf = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let scratch = tempfile::NamedTempFile::new_in(&folder).map_err(|source| io("write", &folder, source))?;
    let scratch = scratch.into_temp_path();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let format = |source| WeightsError::Format { path: path.to_owned(), source };
    safetensors::serialize_to_file(tensors, Some(metadata), &scratch).map_err(format)?;
    let finish = || {
        std::fs::set_permissions(&scratch, ordinary_permissions(&folder)?)?;
        File::open(&scratch)?.sync_all()
    };
    finish().map_err(|source| io("write", path, source))?;
    scratch.persist(path).map_err(|error| io("write", path, error.error))
}

/// What a file made the ordinary way may be done with, by whom; temporary files are closed to other users.
fn ordinary_permissions(folder: &Path) -> std::io::Result<std::fs::Permissions> {
    let scratch = tempfile::tempdir_in(folder)?;
    File::create(scratch.path().join("probe"))?.metadata().map(|meta| meta.permissions())
}
