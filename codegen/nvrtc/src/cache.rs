//! What was compiled before? One file per result, named by the hash of all that went into it.
//!
//! An entry carries its own key and a hash of its bytes; one that does not match is removed and counts as a miss, so a
//! damaged disk costs time and never a wrong kernel. Writers rename a finished file into place: any number of
//! processes may write and prune at once. [`Cache::prune`] drops what was not used for longest.

use std::fmt;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::compile::Compiled;

/// First bytes of an entry; the digit counts the format.
const MAGIC: &[u8; 8] = b"enelnvc1";
/// Magic, key, three lengths, hash.
const FRAME_BYTES: usize = 8 + 32 + 3 * 8 + 32;
/// An entry is at most a few MB; a larger file is not read.
const MAX_ENTRY_BYTES: u64 = 256 << 20;
/// A temporary file this old has no writer any more.
const STALE: Duration = Duration::from_secs(24 * 3600);
const SUFFIX: &str = "nvc";

/// The address of a result, made by [`crate::Compiler::key`]; prints as hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There, and whole.
    Hit(Compiled),
    /// Not there.
    Miss,
    /// There and damaged; it was removed.
    Corrupt,
}

/// What a pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries removed.
    pub n_removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Bytes of the entries that are left.
    pub kept_bytes: u64,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} compile cache {}", path.display())]
pub struct CacheError {
    /// What was tried.
    pub verb: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What happened.
    #[source]
    pub source: io::Error,
}

impl CacheKey {
    pub(crate) fn new(hash: [u8; 32]) -> CacheKey {
        CacheKey(hash)
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Cache {
    /// Opens the cache in `dir`, which is created if need be.
    ///
    /// # Errors
    /// [`CacheError`] when the folder cannot be created.
    pub fn open(dir: &Path) -> Result<Cache, CacheError> {
        fs::create_dir_all(dir).map_err(fail("create", dir))?;
        Ok(Cache { dir: dir.to_owned() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks a result up and marks it as used.
    ///
    /// # Errors
    /// [`CacheError`] when an entry is there and cannot be read.
    pub fn get(&self, key: &CacheKey) -> Result<Lookup, CacheError> {
        let path = self.path(key);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Miss),
            Err(error) => return Err(fail("read", &path)(error)),
        };
        let n_bytes = file.metadata().map_err(fail("read", &path))?.len();
        let mut bytes = Vec::new();
        if n_bytes <= MAX_ENTRY_BYTES {
            (&mut file).take(MAX_ENTRY_BYTES).read_to_end(&mut bytes).map_err(fail("read", &path))?;
        }
        match decode(&bytes, key) {
            Some(compiled) => {
                // On a read-only cache the mark is not set, and pruning is not possible either.
                let _marked = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
                Ok(Lookup::Hit(compiled))
            }
            None => {
                // If it cannot be removed, the next `put` replaces it.
                let _removed = fs::remove_file(&path);
                Ok(Lookup::Corrupt)
            }
        }
    }

    /// Stores a result; whoever looks meanwhile sees the old entry, none, or the whole new one.
    ///
    /// # Errors
    /// [`CacheError`] when the file cannot be written.
    pub fn put(&self, key: &CacheKey, compiled: &Compiled) -> Result<(), CacheError> {
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder).map_err(fail("write", folder))?;
        let mut file = tempfile::Builder::new().prefix(".put-").tempfile_in(folder).map_err(fail("write", folder))?;
        file.write_all(&encode(key, compiled)).map_err(fail("write", file.path()))?;
        file.persist(&path).map_err(|error| fail("write", &path)(error.error))?;
        Ok(())
    }

    /// Removes entries, the longest unused first, until at most `max_bytes` are left.
    ///
    /// # Errors
    /// [`CacheError`] when the folder cannot be listed; entries that others remove meanwhile are no error.
    pub fn prune(&self, max_bytes: u64) -> Result<Pruned, CacheError> {
        let mut entries = Vec::new();
        for folder in fs::read_dir(&self.dir).map_err(fail("list", &self.dir))? {
            let folder = folder.map_err(fail("list", &self.dir))?.path();
            let Ok(files) = fs::read_dir(&folder) else {
                continue;
            };
            for path in files.filter_map(|file| Some(file.ok()?.path())) {
                let Ok(metadata) = fs::symlink_metadata(&path) else {
                    continue;
                };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let is_left_over = file_name(&path).starts_with(".put-") && used.elapsed().is_ok_and(|age| age > STALE);
                if is_left_over {
                    let _removed = fs::remove_file(&path);
                } else if path.extension().is_some_and(|suffix| suffix == SUFFIX) && metadata.is_file() {
                    entries.push((used, path, metadata.len()));
                }
            }
        }
        entries.sort();
        let mut pruned =
            Pruned { kept_bytes: entries.iter().map(|(_, _, n_bytes)| n_bytes).sum(), ..Pruned::default() };
        for (_, path, n_bytes) in entries {
            if pruned.kept_bytes <= max_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    pruned.n_removed += 1;
                    pruned.removed_bytes += n_bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail("prune", &path)(error)),
            }
            pruned.kept_bytes -= n_bytes;
        }
        Ok(pruned)
    }

    /// Entries are spread over 256 folders, by the first byte of the key.
    fn path(&self, key: &CacheKey) -> PathBuf {
        let name = key.to_string();
        self.dir.join(&name[..2]).join(format!("{}.{SUFFIX}", &name[2..]))
    }
}

fn fail<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CacheError + use<'a> {
    move |source| CacheError { verb, path: path.to_owned(), source }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Magic, key, three lengths (that of the cubin plus one, 0 for none), PTX, cubin, log, SHA-256 of all before it.
fn encode(key: &CacheKey, compiled: &Compiled) -> Vec<u8> {
    // The report is read from the log again: one copy of a fact cannot contradict the other.
    let Compiled { ptx, cubin, log, report: _ } = compiled;
    let cubin_bytes = cubin.as_deref().unwrap_or_default();
    let mut bytes = Vec::with_capacity(FRAME_BYTES + ptx.len() + cubin_bytes.len() + log.len());
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    bytes.extend((ptx.len() as u64).to_le_bytes());
    bytes.extend(cubin.as_ref().map_or(0, |cubin| cubin.len() as u64 + 1).to_le_bytes());
    bytes.extend((log.len() as u64).to_le_bytes());
    bytes.extend(ptx.as_bytes());
    bytes.extend(cubin_bytes);
    bytes.extend(log.as_bytes());
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    bytes
}

fn decode(bytes: &[u8], key: &CacheKey) -> Option<Compiled> {
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(body)[..] != *hash {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?.strip_prefix(&key.0)?;
    let (ptx_bytes, rest) = length(rest)?;
    let (cubin_bytes, rest) = length(rest)?;
    let (log_bytes, rest) = length(rest)?;
    let (ptx, rest) = rest.split_at_checked(ptx_bytes)?;
    let (cubin, rest) = rest.split_at_checked(cubin_bytes.saturating_sub(1))?;
    let (log, rest) = rest.split_at_checked(log_bytes)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let cubin = (cubin_bytes > 0).then(|| cubin.to_vec());
    rest.is_empty().then_some(Compiled::new(text(ptx)?, cubin, text(log)?))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    Some((usize::try_from(u64::from_le_bytes(*word)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str, cubin: Option<&[u8]>) -> Compiled {
        let ptx = format!(".visible .entry {text}(\n");
        let log = format!("ptxas info    : Compiling entry function '{text}' for 'sm_80'\n: Used 8 registers\n");
        Compiled::new(ptx, cubin.map(<[u8]>::to_vec), log)
    }

    fn key(byte: u8) -> CacheKey {
        CacheKey([byte; 32])
    }

    #[test]
    fn what_is_put_is_got_with_its_report() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        assert_eq!(cache.get(&key(1)).unwrap(), Lookup::Miss);
        for (byte, cubin) in [(1, None), (2, Some(&b""[..])), (3, Some(&b"\x7fELF"[..]))] {
            let compiled = sample("k", cubin);
            cache.put(&key(byte), &compiled).unwrap();
            assert_eq!(cache.get(&key(byte)).unwrap(), Lookup::Hit(compiled));
        }
    }

    #[test]
    fn no_changed_byte_and_no_cut_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let compiled = sample("k", Some(b"cubin"));
        let good = encode(&key(7), &compiled);
        let path = cache.path(&key(7));
        cache.put(&key(7), &compiled).unwrap();
        let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
        bad.extend((0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        }));
        bad.push(encode(&key(8), &compiled));
        for bytes in bad {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.get(&key(7)).unwrap(), Lookup::Corrupt);
            assert!(!path.exists());
        }
        assert_eq!(cache.get(&key(7)).unwrap(), Lookup::Miss);
    }

    #[test]
    fn lengths_that_lie_under_a_right_hash_are_refused() {
        for (ptx_bytes, log_bytes) in [(u64::MAX, 0), (1, 0), (0, u64::MAX), (0, 0)] {
            let mut bytes =
                [&MAGIC[..], &key(1).0, &ptx_bytes.to_le_bytes(), &[0; 8], &log_bytes.to_le_bytes()].concat();
            bytes.extend(b"xy");
            let hash = Sha256::digest(&bytes);
            bytes.extend(hash);
            assert!(decode(&bytes, &key(1)).is_none());
        }
    }

    #[test]
    fn pruning_drops_the_longest_unused_and_keeps_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let n_bytes = encode(&key(0), &sample("k", None)).len() as u64;
        for byte in 0..5u8 {
            cache.put(&key(byte), &sample("k", None)).unwrap();
            let file = File::options().write(true).open(cache.path(&key(byte))).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + u64::from(byte));
            file.set_times(FileTimes::new().set_modified(used)).unwrap();
        }
        assert!(matches!(cache.get(&key(0)).unwrap(), Lookup::Hit(_)), "marks entry 0 as used now");
        let pruned = cache.prune(2 * n_bytes).unwrap();
        assert_eq!(pruned, Pruned { n_removed: 3, removed_bytes: 3 * n_bytes, kept_bytes: 2 * n_bytes });
        for (byte, kept) in [(0, true), (1, false), (2, false), (3, false), (4, true)] {
            assert_eq!(matches!(cache.get(&key(byte)).unwrap(), Lookup::Hit(_)), kept, "entry {byte}");
        }
        assert_eq!(cache.prune(0).unwrap().kept_bytes, 0);
    }

    #[test]
    fn writers_readers_and_pruners_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let compiled = sample("k", Some(&[5; 5000]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..40 {
                        cache.put(&key(9), &compiled).unwrap();
                        match cache.get(&key(9)).unwrap() {
                            Lookup::Hit(got) => assert_eq!(got, compiled),
                            Lookup::Miss => {}
                            Lookup::Corrupt => panic!("a half-written entry was seen"),
                        }
                        if round % 10 == 0 {
                            cache.prune(0).unwrap();
                        }
                    }
                });
            }
        });
        let left = fs::read_dir(cache.path(&key(9)).parent().unwrap()).unwrap().count();
        assert!(left <= 1, "no temporary file is left beside the entry");
    }
}
