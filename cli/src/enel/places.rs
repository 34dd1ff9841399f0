//! Where does the user keep what the commands need between runs, and how much is it?
//!
//! The cache holds what can be made again: compiled kernels, vocabularies.

pub use crate::device::cache_dir;
use std::path::{Path, PathBuf};

/// What was installed: the CUDA compiler library, models.
pub fn data_dir() -> Option<PathBuf> {
    crate::compile::toolchain::search().data_dir
}

/// Where models lie that were fetched.
pub fn models_dir() -> Option<PathBuf> {
    Some(data_dir()?.join("models"))
}

/// The folder of a fetched model; `None` for what is no plain name.
pub fn model_dir(name: &str) -> Option<PathBuf> {
    let is_plain = Path::new(name).file_name().is_some_and(|file| file == name) && !name.starts_with('.');
    if is_plain { Some(models_dir()?.join(name)) } else { None }
}

/// Bytes of all files below `dir`; links are not followed, what cannot be read counts nothing.
pub fn size_bytes(dir: &Path) -> u64 {
    let mut total = 0u64;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) if meta.is_file() => total = total.saturating_add(meta.len()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    total
}
