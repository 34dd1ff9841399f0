//! Which tensors and settings does a GGUF file hold?
//!
//! Versions 2 and 3, little endian, mapped and not read: settings are found by name, tensors are dequantised one at a
//! time. Law: counts and lengths of the file are believed only as far as its bytes reach.
//! **Source** the format's specification in the ggml repository, `docs/gguf.md`. Read next: `blocks`, `llama`.

mod blocks;
mod llama;
mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

pub use blocks::Encoding;
pub use llama::{GgufModel, GgufVocabulary, VocabularyKind};
use read::Cursor;

/// Tensor data begins at a multiple of this unless the file says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The format allows no more axes.
const MAX_RANK: u32 = 4;

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not what the format asks for.
    #[error("{} is not a whole GGUF file: {what} at byte {offset}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: String,
    },
    /// A version this reader does not know.
    #[error("{} is GGUF version {version}, versions 2 and 3 are read", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A tensor in a form that is not decoded.
    #[error("tensor `{tensor}` of {} is stored as type {kind}, which is not decoded; known are {}", path.display(), Encoding::known())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The number of the type in the format.
        kind: u32,
    },
    /// A setting that is missing, of another type or outside its range.
    #[error("{}: {key} {what}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Tensors a LLaMA model does not have, or lacks, or that have another shape.
    #[error("{} does not hold a plain LLaMA model:\n  {}", path.display(), faults.join("\n  "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One line for each.
        faults: Vec<String>,
    },
}

/// A setting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// Elements stay in the file.
    Array {
        kind: u32,
        count: u64,
        bytes: Range<usize>,
    },
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A mapped GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    settings: BTreeMap<String, Value>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl Gguf {
    /// Maps a file and reads what its head says.
    ///
    /// # Errors
    /// [`GgufError::Io`], [`GgufError::Malformed`], [`GgufError::Version`], [`GgufError::Encoding`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is read-only and owned by the returned value, which hands out nothing longer than itself.
        // Another process shortening the file meanwhile is the risk every reader of mapped files takes.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let mut gguf = Self { path: path.to_owned(), map, settings: BTreeMap::new(), tensors: BTreeMap::new() };
        gguf.read_head()?;
        Ok(gguf)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &GgufTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The elements of a tensor, decoded; `None` when there is no such tensor.
    pub fn to_f32(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.tensors.get(name)?;
        Some(tensor.encoding.decode(&self.map[tensor.bytes.clone()]))
    }

    fn read_head(&mut self) -> Result<(), GgufError> {
        let path = self.path.clone();
        let malformed = |(offset, what)| GgufError::Malformed { path: path.clone(), offset, what };
        let mut cursor = Cursor::new(&self.map);
        if cursor.take(4).ok() != Some(b"GGUF") {
            return Err(malformed((0, "it does not begin with GGUF".to_owned())));
        }
        let version = cursor.u32().map_err(malformed)?;
        if version.swap_bytes() <= 3 && version != 0 {
            return Err(malformed((4, "it is big endian".to_owned())));
        }
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { path, version });
        }
        let n_tensors = cursor.u64().map_err(malformed)?;
        let n_settings = cursor.u64().map_err(malformed)?;
        for _ in 0..n_settings {
            let at = cursor.offset();
            let (key, value) = read_setting(&mut cursor).map_err(malformed)?;
            if self.settings.insert(key.clone(), value).is_some() {
                return Err(malformed((at, format!("the setting {key} stands twice"))));
            }
        }
        let mut infos = Vec::new();
        for _ in 0..n_tensors {
            infos.push(read_info(&mut cursor).map_err(malformed)?);
        }
        let alignment = match self.settings.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(&Value::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 20 => n,
            Some(_) => return Err(malformed((0, "general.alignment is no power of two up to 2^20".to_owned()))),
        };
        let base = (cursor.offset() as u64).next_multiple_of(alignment);
        let mut data_bytes = 0usize;
        for info in infos {
            let Some(encoding) = Encoding::of(info.kind) else {
                return Err(GgufError::Encoding { path, tensor: info.name, kind: info.kind });
            };
            let shape: Vec<usize> = info.extents.iter().rev().map(|&n| n as usize).collect();
            let size = encoding.size_bytes(&shape).ok_or_else(|| {
                malformed((info.at, format!("tensor `{}` has an extent that does not suit its type", info.name)))
            })?;
            let range = place(base, info.offset, size, self.map.len())
                .filter(|_| info.offset.is_multiple_of(alignment))
                .ok_or_else(|| malformed((info.at, format!("tensor `{}` lies outside the file", info.name))))?;
            // Tensors that shared bytes would be written out to any size.
            data_bytes = data_bytes.saturating_add(size);
            if data_bytes > self.map.len() {
                return Err(malformed((info.at, format!("tensor `{}` overlaps another", info.name))));
            }
            let tensor = GgufTensor { encoding, shape, bytes: range };
            if self.tensors.insert(info.name.clone(), tensor).is_some() {
                return Err(malformed((info.at, format!("tensor `{}` stands twice", info.name))));
            }
        }
        Ok(())
    }

    fn setting_error(&self, key: &str, what: impl Into<String>) -> GgufError {
        GgufError::Setting { path: self.path.clone(), key: key.to_owned(), what: what.into() }
    }

    /// A whole number, `None` when it is not there.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.settings.get(key) {
            None => Ok(None),
            Some(&Value::Unsigned(n)) => Ok(Some(n)),
            Some(&Value::Signed(n)) if n >= 0 => Ok(Some(n as u64)),
            Some(_) => Err(self.setting_error(key, "is not a whole number of at least 0")),
        }
    }

    /// A number, `None` when it is not there.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        match self.settings.get(key) {
            None => Ok(None),
            Some(&Value::Float(x)) => Ok(Some(x)),
            Some(_) => Err(self.setting_error(key, "is not a number with a point")),
        }
    }

    /// Yes or no, `None` when it is not there.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.settings.get(key) {
            None => Ok(None),
            Some(&Value::Bool(x)) => Ok(Some(x)),
            Some(_) => Err(self.setting_error(key, "is not true or false")),
        }
    }

    /// A text, `None` when it is not there.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.settings.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.setting_error(key, "is not a text")),
        }
    }

    /// The texts of a list, `None` when it is not there.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, GgufError> {
        let Some(value) = self.settings.get(key) else { return Ok(None) };
        let Value::Array { kind: read::TEXT, count, bytes } = value else {
            return Err(self.setting_error(key, "is not a list of texts"));
        };
        let mut cursor = Cursor::new(&self.map[bytes.clone()]);
        let texts = (0..*count).map(|_| cursor.text()).collect::<Result<Vec<_>, _>>();
        texts.map(Some).map_err(|(_, what)| self.setting_error(key, format!("holds an entry that is broken: {what}")))
    }

    /// The numbers of a list, `None` when it is not there.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, GgufError> {
        let Some(value) = self.settings.get(key) else { return Ok(None) };
        let is_not = || self.setting_error(key, "is not a list of numbers");
        let Value::Array { kind, count, bytes } = value else { return Err(is_not()) };
        let mut cursor = Cursor::new(&self.map[bytes.clone()]);
        let mut number = || match cursor.scalar(*kind) {
            Ok(Value::Unsigned(n)) => Ok(n as f64),
            Ok(Value::Signed(n)) => Ok(n as f64),
            Ok(Value::Float(x)) => Ok(x),
            Ok(Value::Bool(_) | Value::Text(_) | Value::Array { .. }) | Err(_) => Err(is_not()),
        };
        (0..*count).map(|_| number()).collect::<Result<Vec<_>, _>>().map(Some)
    }
}

/// What the head says of a tensor.
struct Info {
    at: usize,
    name: String,
    /// Innermost first.
    extents: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn read_info(cursor: &mut Cursor<'_>) -> Result<Info, read::Fault> {
    let at = cursor.offset();
    let name = cursor.text()?;
    let rank = cursor.u32()?;
    if rank > MAX_RANK {
        return Err((at, format!("tensor `{name}` has {rank} axes, at most {MAX_RANK} are allowed")));
    }
    let extents = (0..rank).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
    Ok(Info { at, name, extents, kind: cursor.u32()?, offset: cursor.u64()? })
}

fn read_setting(cursor: &mut Cursor<'_>) -> Result<(String, Value), read::Fault> {
    let key = cursor.text()?;
    let kind = cursor.u32()?;
    if kind != read::ARRAY {
        return Ok((key, cursor.scalar(kind)?));
    }
    let kind = cursor.u32()?;
    let count = cursor.u64()?;
    let start = cursor.offset();
    match read::scalar_bytes(kind) {
        Some(size) => {
            let size = usize::try_from(count).ok().and_then(|n| n.checked_mul(size));
            cursor.take(size.unwrap_or(usize::MAX))?;
        }
        None if kind == read::TEXT => (0..count).try_for_each(|_| cursor.text_bytes().map(drop))?,
        None => return Err((start, format!("{key} is a list of type {kind}, which is unknown or a list itself"))),
    }
    Ok((key, Value::Array { kind, count, bytes: start..cursor.offset() }))
}

/// The bytes of a tensor inside the file.
fn place(base: u64, offset: u64, size: usize, file_bytes: usize) -> Option<Range<usize>> {
    let start = usize::try_from(base.checked_add(offset)?).ok()?;
    let end = start.checked_add(size)?;
    (end <= file_bytes).then_some(start..end)
}
