//! How is a file written so that nobody ever sees half of it?

use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes through `body` into a temporary file beside `path`, syncs it and renames it over `path`.
///
/// # Errors
/// Whatever the system or `body` says; `path` is then as it was before.
pub fn write_atomic(path: &Path, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(file);
    body(&mut writer)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
