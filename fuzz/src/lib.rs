//! What must hold of every input? It is read or refused, in time, without a panic, and within memory its size justifies.
//!
//! libFuzzer watches panics and time; memory is watched here, by an allocator that refuses, which ends the process.

pub mod archive;
pub mod points;
pub mod seal;

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

use cap::Cap;
use enel_io::Weights;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// What a reader may hold whatever it is given: tables, samples of a mesh.
const BASE_BYTES: usize = 64 << 20;
/// What it may hold for each byte of the input.
const BYTES_PER_BYTE: usize = 64;

/// Runs `read`; the process ends when it holds more than `input` justifies.
///
/// # Panics
/// Whatever `read` panics with.
pub fn bounded(input: &[u8], read: impl FnOnce()) {
    // The folder belongs to the process, not to an input.
    LazyLock::force(&FOLDER);
    let allowed = BASE_BYTES + BYTES_PER_BYTE * input.len();
    let limit = ALLOCATOR.allocated() + allowed;
    ALLOCATOR.set_limit(limit).expect("what is allocated lies below the limit");
    read();
    ALLOCATOR.set_limit(usize::MAX).expect("no limit is below what is allocated");
}

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder for temporary files"));

/// A file called `name` with these bytes, overwritten by the next of its name.
///
/// # Panics
/// When it cannot be written.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a temporary file is written");
    path
}

/// The folder of [`file`]; whoever sets `TMPDIR` clears it.
pub fn folder() -> &'static Path {
    FOLDER.path()
}

/// The parts of an input of several files, which NUL bytes divide; the last is the rest.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |&byte| byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// From now on a panic that the reader itself catches does not end the process; one that it does not catch still does.
pub fn allow_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

/// Opens weights and reads every tensor.
///
/// # Panics
/// When a tensor's bytes are not those of its shape.
pub fn read_weights(path: &Path) {
    let Ok(weights) = Weights::open(path) else { return };
    for name in weights.names() {
        let view = weights.view(name).expect("a tensor that is listed is there");
        let n_elems: usize = view.shape.iter().product();
        assert_eq!(view.bytes.len() * 8, n_elems * view.dtype.bitsize(), "{name}");
        if let Some(values) = view.to_f32() {
            assert_eq!(values.len(), n_elems, "{name}");
        }
    }
}
