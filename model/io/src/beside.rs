//! Which files does a mesh refer to? Materials, textures and buffers lie in its folder or below, or near.
//!
//! Names come from strangers' machines: absolute ones are looked up by their last part, beside the mesh.

use std::io;
use std::path::{Path, PathBuf};

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// The folder of a mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    folder: &'a Path,
}

impl<'a> Beside<'a> {
    /// The folder `path` lies in.
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { folder: path.parent().unwrap_or(Path::new("")) }
    }

    /// The one path of the file called `name`, however it is spelled; errors come with the place that was tried first.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, (PathBuf, io::Error)> {
        let name = name.replace('\\', "/");
        let last = name.rsplit('/').next().unwrap_or_default();
        let is_absolute = name.starts_with('/') || name.as_bytes().get(1) == Some(&b':');
        let tried = self.folder.join(if is_absolute { last } else { &name });
        let first = whole_path(&tried);
        let found =
            if first.is_err() && !last.is_empty() { whole_path(&self.folder.join(last)).or(first) } else { first };
        found.map_err(|error| (tried, error))
    }
}

/// The path of a regular file without links and detours.
fn whole_path(path: &Path) -> io::Result<PathBuf> {
    let path = std::fs::canonicalize(path)?;
    if path.is_file() { Ok(path) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Reads a regular file of bounded size: a pipe or device could be without end.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(not_regular());
    }
    if meta.len() > MAX_FILE_BYTES {
        let text = format!("it has {} B, at most {MAX_FILE_BYTES} B are read; sub-sample it first", meta.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    std::fs::read(path)
}
