//! Which tensors does a safetensors file, or a folder of them, hold, and where do their bytes lie?
//!
//! Files are mapped, not read: opening a model costs its headers. Law: a [`TensorView`] is never longer or shorter
//! than its shape and dtype say. Tensors every reader must ignore (rotary tables, batch counters) are left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

/// Buffers of the released modules that are derived from the configuration, or only count steps.
const IGNORED: [&str; 2] = ["rotary_emb.inv_freq", "num_batches_tracked"];
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Bytes before the header: its length.
const PREFIX_BYTES: usize = 8;

/// Why weights cannot be opened, found or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A folder without weights.
    #[error("no weights in {}: looked for {INDEX} and {SINGLE}", dir.display())]
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
    start: usize,
    end: usize,
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
    /// Opens a file, or a folder in Hugging Face layout: an index with its files, or one `model.safetensors`.
    ///
    /// # Errors
    /// [`WeightsError`]; a tensor the index promises and no file holds is reported as missing.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut weights = Self { path: path.to_owned(), files: Vec::new(), entries: BTreeMap::new() };
        if !path.is_dir() {
            weights.add_file(path.to_owned())?;
            return Ok(weights);
        }
        let index = path.join(INDEX);
        if index.is_file() {
            weights.add_indexed(path, &index)?;
        } else if path.join(SINGLE).is_file() {
            weights.add_file(path.join(SINGLE))?;
        } else {
            return Err(WeightsError::NotFound { dir: path.to_owned() });
        }
        Ok(weights)
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
        let format = |source| WeightsError::Format { path: path.clone(), source };
        // The crate checks that the ranges tile the rest of the file and fit each shape and dtype.
        let (header_bytes, metadata) = SafeTensors::read_metadata(&map).map_err(format)?;
        let base = PREFIX_BYTES + header_bytes;
        for (name, info) in metadata.tensors() {
            if is_ignored(&name) {
                continue;
            }
            let (start, end) = (base + info.data_offsets.0, base + info.data_offsets.1);
            let entry = Entry { file: self.files.len(), dtype: info.dtype, shape: info.shape.clone(), start, end };
            if let Some(first) = self.entries.get(&name) {
                let first = self.files[first.file].path.clone();
                return Err(WeightsError::Twice { name, first, second: path });
            }
            self.entries.insert(name, entry);
        }
        self.files.push(MappedFile { path, map });
        Ok(())
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// One tensor, not copied.
    ///
    /// # Errors
    /// [`WeightsError::Missing`].
    pub fn view(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let missing = || WeightsError::Missing { path: self.path.clone(), names: vec![name.to_owned()] };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let bytes = &self.files[entry.file].map[entry.start..entry.end];
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
    let format = |source| WeightsError::Format { path: path.to_owned(), source };
    let tensors: Vec<(&str, View<'_>)> = tensors.into_iter().map(|(name, view)| (name, View(view))).collect();
    for (name, View(view)) in &tensors {
        let n_elems = view.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let n_bits = n_elems.and_then(|n| n.checked_mul(view.dtype.bitsize()));
        if n_bits != view.bytes.len().checked_mul(8) {
            return Err(format(SafeTensorError::InvalidTensorView(view.dtype, view.shape.to_vec(), (*name).len())));
        }
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::NamedTempFile::new_in(folder).map_err(|source| io("write", folder, source))?;
    let scratch = scratch.into_temp_path();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), &scratch).map_err(format)?;
    File::open(&scratch).and_then(|file| file.sync_all()).map_err(|source| io("write", path, source))?;
    scratch.persist(path).map_err(|error| io("write", path, error.error))
}

fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|suffix| name.ends_with(suffix))
}

fn io(verb: &'static str, path: &Path, source: std::io::Error) -> WeightsError {
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
