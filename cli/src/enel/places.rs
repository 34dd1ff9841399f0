//! Where does the user keep what the commands need between runs, and how much is it?
//!
//! The cache holds what can be made again: compiled kernels, vocabularies.

pub use crate::device::cache_dir;
use std::path::{Path, PathBuf};

/// What was installed: the CUDA compiler library.
pub fn data_dir() -> Option<PathBuf> {
    crate::compile::toolchain::search().data_dir
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
