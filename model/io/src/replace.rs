//! How is a file, or a folder, written so that nobody ever sees half of it?

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

/// Fills a new folder through `body` and renames it to `path`, where nothing or an empty folder may be.
///
/// # Errors
/// Whatever the system or `body` says; `path` is then as it was before.
pub fn create_dir_atomic<E: From<io::Error>>(path: &Path, body: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent)?;
    let scratch = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent)?;
    // A folder inside the scratch folder, because the latter is closed to other users.
    let filled = scratch.path().join("filled");
    std::fs::create_dir(&filled)?;
    body(&filled)?;
    sync_dir(&filled)?;
    std::fs::rename(&filled, path)?;
    sync_dir(parent)?;
    Ok(())
}

/// Makes sure that the names inside a folder last, where the system can.
///
/// # Errors
/// What the system says.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(path)?.sync_all() } else { Ok(()) }
}
