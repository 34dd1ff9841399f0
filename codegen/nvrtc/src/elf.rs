//! Is a shared library a whole file for this machine? Asked before it is opened.
//!
//! The loader maps a library without looking at its length, so opening one that a broken download cut short kills the
//! process with SIGBUS. Checked here: the ELF header, the machine, and that every segment and the section table end
//! inside the file.
//! **Source** System V ABI, chapter 4 "Object Files", ELF-64 object file format version 1.5.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Why a file is no shared library that can be opened here.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// No 64-bit little-endian ELF header.
    #[error("it is no 64-bit ELF library")]
    NotElf,
    /// Made for another processor.
    #[error("it is made for another processor (ELF machine {got}, this one is {expected})")]
    Machine {
        /// `e_machine` of the file.
        got: u16,
        /// `e_machine` of this machine.
        expected: u16,
    },
    /// The file ends before its own tables say.
    #[error("it is cut short: {got_bytes} bytes of at least {need_bytes}")]
    Cut {
        /// Length of the file.
        got_bytes: u64,
        /// Where its last segment or the section table ends.
        need_bytes: u64,
    },
}

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: u16 = 56;
/// `EM_X86_64` and `EM_AARCH64`.
const MACHINE: Option<u16> = match (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64")) {
    (true, _) => Some(62),
    (_, true) => Some(183),
    _ => None,
};

/// Checks that `path` is a whole ELF library for this processor.
///
/// # Errors
/// [`ElfError`], which says what is wrong with the file.
pub(crate) fn check(path: &Path) -> Result<(), ElfError> {
    let mut file = File::open(path)?;
    let got_bytes = file.metadata()?.len();
    let mut header = [0u8; HEADER_BYTES];
    if got_bytes < HEADER_BYTES as u64 {
        return Err(ElfError::NotElf);
    }
    file.read_exact(&mut header)?;
    let is_elf64_le = header.starts_with(b"\x7fELF\x02\x01");
    let segment_bytes = u16_at(&header, 54);
    if !is_elf64_le || segment_bytes != SEGMENT_BYTES {
        return Err(ElfError::NotElf);
    }
    let got = u16_at(&header, 18);
    if let Some(expected) = MACHINE.filter(|expected| *expected != got) {
        return Err(ElfError::Machine { got, expected });
    }

    let n_segments = u16_at(&header, 56);
    let table_bytes = u64::from(n_segments) * u64::from(SEGMENT_BYTES);
    let table_end = u64_at(&header, 32).saturating_add(table_bytes);
    let sections_bytes = u64::from(u16_at(&header, 58)) * u64::from(u16_at(&header, 60));
    let sections_end = u64_at(&header, 40).saturating_add(sections_bytes);
    let mut need_bytes = table_end.max(sections_end);
    if table_end <= got_bytes {
        file.seek(SeekFrom::Start(u64_at(&header, 32)))?;
        for _ in 0..n_segments {
            let mut segment = [0u8; SEGMENT_BYTES as usize];
            file.read_exact(&mut segment)?;
            need_bytes = need_bytes.max(u64_at(&segment, 8).saturating_add(u64_at(&segment, 32)));
        }
    }
    if need_bytes > got_bytes {
        return Err(ElfError::Cut { got_bytes, need_bytes });
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_whole_and_any_prefix_of_it_is_not() {
        let program = std::env::current_exe().unwrap();
        check(&program).unwrap();
        let bytes = std::fs::read(&program).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cut = dir.path().join("cut");
        for keep in [0, 10, 63, 64, 200, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&cut, &bytes[..keep]).unwrap();
            let error = check(&cut).unwrap_err();
            assert!(matches!(error, ElfError::NotElf | ElfError::Cut { .. }), "{keep}: {error:?}");
        }
    }

    #[test]
    fn wild_offsets_and_other_machines_are_refused() {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wild");
        bytes.truncate(4096);
        bytes[32..40].fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(check(&path), Err(ElfError::Cut { .. })));
        bytes[18] = 8;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(check(&path), Err(ElfError::Machine { got: 8, .. })));
    }
}
