//! Which tensors does a safetensors or PyTorch file, or a folder of them, hold, and where do their bytes lie?
//!
//! Files are mapped, not read: opening a model costs its headers. Law: a [`TensorView`] is never longer or shorter
//! than its shape and dtype say. Tensors every reader must ignore (rotary tables, batch counters) are left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::torch::{self, TorchError};

/// Buffers of the released modules that are derived from the configuration, or only count steps.
const IGNORED: [&str; 2] = ["rotary_emb.inv_freq", "num_batches_tracked"];
pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const SINGLE: &str = "model.safetensors";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
const TORCH_SINGLE: &str = "pytorch_model.bin";
/// Bytes before the header: its length.
const PREFIX_BYTES: usize = 8;

/// Why weights cannot be opened, found or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A folder without weights.
    #[error("no weights in {}: looked for {INDEX}, {SINGLE}, {TORCH_INDEX} and {TORCH_SINGLE}", dir.display())]
    NotFound {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not safetensors, or is cut.
    #[error("{} is not a whole safetensors file; download it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: SafeTensorError,
    },
    /// A PyTorch file that cannot be used.
    #[error("cannot use {}", path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: TorchError,
    },
    /// A GGUF file, whose tensors have other names and forms.
    #[error("{} is a GGUF file; make a model folder of it by: enel model import", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
    },
    /// The index of a folder is broken.
    #[error("cannot use {}: {detail}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// Its fault.
        detail: String,
    },
    /// Two files hold the same tensor.
    #[error("tensor `{name}` is in {} and in {}", first.display(), second.display())]
    Twice {
        /// The tensor.
        name: String,
        /// One file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// Tensors that are wanted and are not there.
    #[error("{} lacks {} tensor(s): {}", path.display(), names.len(), shorten(names))]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The tensors, in the order they were asked for.
        names: Vec<String>,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor that is not of floating-point numbers.
    #[error("tensor `{name}` is of {dtype:?}, expected F32, F16, BF16 or F64")]
    NotFloat {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A value that the type asked for cannot hold.
    #[error("tensor `{name}` holds a value beyond {dtype:?}; use bf16 or f32")]
    Overflow {
        /// The tensor.
        name: String,
        /// The type.
        dtype: Dtype,
    },
}

/// One tensor inside a mapped file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'w> {
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: &'w [usize],
    /// Elements, little endian, in C order; no alignment is promised.
    pub bytes: &'w [u8],
}

#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    place: Place,
}

/// Where the elements of a tensor are.
#[derive(Debug)]
enum Place {
    /// In the file, in C order.
    Mapped { start: usize, end: usize },
    /// In the file, in another order; put in order when they are first asked for.
    Strided { start: usize, end: usize, offset: usize, strides: Vec<usize>, gathered: OnceLock<Vec<u8>> },
}

#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

/// All tensors of a model, by name.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    files: Vec<MappedFile>,
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    /// Opens a file, or a folder in Hugging Face layout: an index with its files, or one file.
    ///
    /// A folder with both safetensors and PyTorch files is read from the former.
    ///
    /// # Errors
    /// [`WeightsError`]; a tensor the index promises and no file holds is reported as missing.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut weights = Self { path: path.to_owned(), files: Vec::new(), entries: BTreeMap::new() };
        if !path.is_dir() {
            weights.add_file(path.to_owned())?;
            return Ok(weights);
        }
        for (index, single) in [(INDEX, SINGLE), (TORCH_INDEX, TORCH_SINGLE)] {
            if path.join(index).is_file() {
                weights.add_indexed(path, &path.join(index))?;
                return Ok(weights);
            }
            if path.join(single).is_file() {
                weights.add_file(path.join(single))?;
                return Ok(weights);
            }
        }
        Err(WeightsError::NotFound { dir: path.to_owned() })
    }

    fn add_indexed(&mut self, dir: &Path, index: &Path) -> Result<(), WeightsError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index_error = |detail: String| WeightsError::Index { path: index.to_owned(), detail };
        let bytes = std::fs::read(index).map_err(|source| io("read", index, source))?;
        let Index { weight_map } = serde_json::from_slice(&bytes).map_err(|error| index_error(error.to_string()))?;
        let mut names: Vec<&str> = weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let is_plain = Path::new(name).file_name().is_some_and(|file| file == name);
            if !is_plain || name.contains('\\') {
                return Err(index_error(format!("`{name}` is not the name of a file in the same folder")));
            }
            self.add_file(dir.join(name))?;
        }
        self.require(weight_map.keys().map(String::as_str).filter(|name| !is_ignored(name)))
    }

    fn add_file(&mut self, path: PathBuf) -> Result<(), WeightsError> {
        let file = File::open(&path).map_err(|source| io("open", &path, source))?;
        // SAFETY: the mapping is read-only and owned by `self`, which hands out slices no longer than itself. What is
        // left is another process shortening the file meanwhile, which no reader of mapped files can exclude.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| io("map", &path, source))?;
        if map.starts_with(b"GGUF") {
            return Err(WeightsError::Gguf { path });
        }
        let entries = if map.starts_with(torch::MAGIC) || map.starts_with(torch::OLD_MAGIC) {
            self.torch_entries(&map).map_err(|source| WeightsError::Torch { path: path.clone(), source })?
        } else {
            self.safetensors_entries(&map).map_err(|source| WeightsError::Format { path: path.clone(), source })?
        };
        for (name, entry) in entries {
            if is_ignored(&name) {
                continue;
            }
            if let Some(first) = self.entries.get(&name) {
                let first = self.files[first.file].path.clone();
                return Err(WeightsError::Twice { name, first, second: path });
            }
            self.entries.insert(name, entry);
        }
        self.files.push(MappedFile { path, map });
        Ok(())
    }

    fn safetensors_entries(&self, map: &[u8]) -> Result<Vec<(String, Entry)>, SafeTensorError> {
        // The crate checks that the ranges tile the rest of the file and fit each shape and dtype.
        let (header_bytes, metadata) = SafeTensors::read_metadata(map)?;
        let base = PREFIX_BYTES + header_bytes;
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let place = Place::Mapped { start: base + info.data_offsets.0, end: base + info.data_offsets.1 };
            (name, Entry { file: self.files.len(), dtype: info.dtype, shape: info.shape.clone(), place })
        };
        Ok(metadata.tensors().into_iter().map(entry).collect())
    }

    fn torch_entries(&self, map: &[u8]) -> Result<Vec<(String, Entry)>, TorchError> {
        let entry = |found: torch::Found| {
            let std::ops::Range { start, end } = found.bytes;
            let place = match found.strides {
                None => Place::Mapped { start, end },
                Some((offset, strides)) => Place::Strided { start, end, offset, strides, gathered: OnceLock::new() },
            };
            (found.name, Entry { file: self.files.len(), dtype: found.dtype, shape: found.shape, place })
        };
        Ok(torch::read(map)?.into_iter().map(entry).collect())
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// One tensor, not copied; but a PyTorch tensor that is not in C order is put in order once.
    ///
    /// # Errors
    /// [`WeightsError::Missing`].
    pub fn view(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let missing = || WeightsError::Missing { path: self.path.clone(), names: vec![name.to_owned()] };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let map = &self.files[entry.file].map;
        let bytes = match &entry.place {
            Place::Mapped { start, end } => &map[*start..*end],
            Place::Strided { start, end, offset, strides, gathered } => gathered.get_or_init(|| {
                torch::gather(&map[*start..*end], &entry.shape, (*offset, strides), entry.dtype.bitsize() / 8)
            }),
        };
        Ok(TensorView { dtype: entry.dtype, shape: &entry.shape, bytes })
    }

    /// Succeeds when all `names` are there.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] with every name that is not.
    pub fn require<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), WeightsError> {
        let names: Vec<String> = names.into_iter().filter(|name| !self.contains(name)).map(str::to_owned).collect();
        if names.is_empty() { Ok(()) } else { Err(WeightsError::Missing { path: self.path.clone(), names }) }
    }

    /// One tensor of an expected shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`].
    pub fn view_shaped(&self, name: &str, expected: &[usize]) -> Result<TensorView<'_>, WeightsError> {
        let view = self.view(name)?;
        if view.shape != expected {
            let (found, expected) = (view.shape.to_vec(), expected.to_vec());
            return Err(WeightsError::Shape { name: name.to_owned(), found, expected });
        }
        Ok(view)
    }

    /// The elements of a floating-point tensor, widened or rounded to `f32`.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::NotFloat`].
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let view = self.view(name)?;
        view.to_f32().ok_or_else(|| WeightsError::NotFloat { name: name.to_owned(), dtype: view.dtype })
    }
}

impl TensorView<'_> {
    /// Elements as `f32`; `None` unless they are F32, F16, BF16 or F64.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&raw| convert(raw)).collect()
        }
        match self.dtype {
            Dtype::F32 => Some(each(self.bytes, f32::from_le_bytes)),
            Dtype::F16 => Some(each(self.bytes, |raw| f16::from_le_bytes(raw).to_f32())),
            Dtype::BF16 => Some(each(self.bytes, |raw| bf16::from_le_bytes(raw).to_f32())),
            Dtype::F64 => Some(each(self.bytes, |raw| f64::from_le_bytes(raw) as f32)),
            _ => None,
        }
    }
}

fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|suffix| name.ends_with(suffix))
}

pub(crate) fn io(verb: &'static str, path: &Path, source: std::io::Error) -> WeightsError {
    WeightsError::Io { verb, path: path.to_owned(), source }
}

/// The first ten names; a model that fits nothing lacks hundreds.
fn shorten(names: &[String]) -> String {
    let shown = names[..names.len().min(10)].join(", ");
    match names.len() {
        0..=10 => shown,
        n => format!("{shown} and {} more", n - 10),
    }
}
