//! How do curves reach TensorBoard? A file of records, each an event with a step and named numbers.
//!
//! A record: its length as u64, a checksum of the length, the bytes, a checksum of the bytes, all little endian. An event
//! is a protocol buffer: 1 wall time (double), 2 step (varint), 3 version (text), 5 summary; a summary repeats 1 value:
//! 1 tag (text), 2 number (float).
//! **Source** TensorFlow's `record_writer.h`, `event.proto` and `summary.proto`; CRC-32C from RFC 3720, appendix B.4.

use crate::error::TrainError;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One name for all of a run's life, so that a run that goes on has one curve. TensorBoard asks for `tfevents` in it.
const FILE: &str = "events.out.tfevents.0.enel";
/// What the first event of a file has to say.
const VERSION: &str = "brain.Event:2";
/// Bytes around the data of a record.
const BEFORE: usize = 12;
const AFTER: usize = 4;

/// A file of events.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Opens the events of a run's folder after `step` steps; later ones are cut off.
    pub(crate) fn open(folder: &Path, step: u64) -> Result<Events, TrainError> {
        let path = folder.join(FILE);
        let failed = |source| TrainError::Log { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let kept = kept_bytes(&std::fs::read(&path).map_err(failed)?, step);
        file.set_len(kept as u64).map_err(failed)?;
        let mut events = Events { path: path.clone(), file };
        events.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if kept == 0 {
            let mut event = Vec::new();
            double(&mut event, 1, now());
            bytes(&mut event, 3, VERSION.as_bytes());
            events.record(&event).map_err(failed)?;
        }
        Ok(events)
    }

    /// Writes an event with these numbers.
    pub(crate) fn write(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), TrainError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            entry.push((2 << 3) | 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double(&mut event, 1, now());
        event.push(2 << 3);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.record(&event).map_err(|source| TrainError::Log { path: self.path.clone(), source })
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + BEFORE + AFTER);
        record.extend(length);
        record.extend(masked(crc32c(&length)).to_le_bytes());
        record.extend_from_slice(data);
        record.extend(masked(crc32c(data)).to_le_bytes());
        self.file.write_all(&record)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push((field << 3) | 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push((field << 3) | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of the whole records up to `step`.
fn kept_bytes(file: &[u8], step: u64) -> usize {
    let mut kept = 0;
    while let Some(length) = file.get(kept..kept + 8).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes) {
        let Some(length) = usize::try_from(length).ok().filter(|&n| n <= file.len()) else { break };
        let Some(data) = file.get(kept + BEFORE..kept + BEFORE + length) else { break };
        let end = kept + BEFORE + length + AFTER;
        let sum = file.get(end - AFTER..end).map(|raw| raw == masked(crc32c(data)).to_le_bytes());
        if sum != Some(true) || step_of(data) > step {
            break;
        }
        kept = end;
    }
    kept
}

/// The step of an event as it is written above: after the wall time. An event without one is the first.
fn step_of(event: &[u8]) -> u64 {
    let Some((&tag, rest)) = event.get(9..).and_then(<[u8]>::split_first) else { return 0 };
    if tag != 2 << 3 {
        return 0;
    }
    let mut step = 0;
    for (at, byte) in rest.iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * at as u32).min(63);
        if byte & 0x80 == 0 {
            break;
        }
    }
    step
}

/// A checksum that is not one of data that holds its own checksum.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        // The reversed polynomial of Castagnoli, bit by bit: a step writes a few hundred bytes.
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    };
    !data.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, 32 of ones, and 0 to 31.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(masked(0x8a91_36aa), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn events_after_a_step_are_cut_off_with_broken_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut events = Events::open(dir.path(), 0).unwrap();
        let mut lengths = vec![std::fs::metadata(&path).unwrap().len()];
        for step in [1, 200, 70_000] {
            events.write(step, &[("loss".to_owned(), 0.5)]).unwrap();
            lengths.push(std::fs::metadata(&path).unwrap().len());
        }
        drop(events);
        let file = std::fs::read(&path).unwrap();
        for (step, records) in [(0, 0), (1, 1), (199, 1), (200, 2), (69_999, 2), (70_000, 3)] {
            assert_eq!(kept_bytes(&file, step) as u64, lengths[records], "step {step}");
        }
        for end in 0..file.len() {
            let kept = kept_bytes(&file[..end], u64::MAX) as u64;
            assert!(kept == 0 || lengths.contains(&kept));
        }
        assert_eq!(&file[12..13], [0x09], "wall time comes first");
    }
}
