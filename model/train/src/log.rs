//! What is written down about a run? A line of JSON for each step and each look at held-out samples.
//!
//! Law: a line is written whole; when a run goes on from a checkpoint, what came after it is cut off, here and in the
//! events, so a log tells of one run however often it was stopped. A log that does not reach the checkpoint is refused.

use crate::error::TrainError;
use crate::events::Events;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the log inside a run's folder.
pub const LOG: &str = "log.jsonl";

/// What a line tells of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A step.
    Step(StepLine),
    /// A look at held-out samples.
    HeldOut(HeldOutLine),
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Steps that are done.
    pub step: u64,
    /// How often every sample was seen.
    pub epoch: f64,
    /// The loss.
    pub loss: f64,
    /// Its terms, without their weights.
    pub terms: std::collections::BTreeMap<String, f64>,
    /// Length of the derivatives before it was clipped.
    pub grad_norm: f64,
    /// The rate.
    pub learning_rate: f64,
    /// Tokens of the step.
    pub tokens: u64,
    /// Tokens of answers, of which cross-entropy is the mean.
    pub labels: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// A look at held-out samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLine {
    /// Steps that are done.
    pub step: u64,
    /// Mean cross-entropy over the tokens of all answers.
    pub held_out_loss: f64,
}

impl Line {
    /// Steps that were done.
    pub fn step(&self) -> u64 {
        match self {
            Line::Step(line) => line.step,
            Line::HeldOut(line) => line.step,
        }
    }
}

/// The log of a run that is under way.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    events: Events,
}

impl Log {
    /// Opens the log of a run's folder after `step` steps; later lines are cut off. Where there is none, one begins.
    ///
    /// # Errors
    /// [`TrainError::Log`]; [`TrainError::History`] when lines up to `step` are missing or broken, which are then left.
    pub fn open(folder: &Path, step: u64) -> Result<Log, TrainError> {
        let path = folder.join(LOG);
        let failed = |source| TrainError::Log { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let text = std::fs::read(&path).map_err(failed)?;
        let Kept { n_lines, last, bytes } = Kept::of(&text, step);
        if last < step && !text.is_empty() {
            return Err(TrainError::History { path, n_lines, last, step });
        }
        file.set_len(bytes as u64).map_err(failed)?;
        let mut file = file;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
        let events = Events::open(folder, step)?;
        Ok(Log { path, file, events })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`TrainError::Log`].
    pub fn write(&mut self, line: &Line) -> Result<(), TrainError> {
        let failed = |source| TrainError::Log { path: self.path.clone(), source };
        let text = serde_json::to_string(line).map_err(io::Error::from).map_err(failed)?;
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        match line {
            Line::Step(line) => {
                let own = [
                    ("train/loss", line.loss),
                    ("train/learning_rate", line.learning_rate),
                    ("train/grad_norm", line.grad_norm),
                ];
                let terms = line.terms.iter().map(|(name, &value)| (format!("train/{name}"), value));
                let all: Vec<(String, f64)> =
                    own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(terms).collect();
                self.events.write(line.step, &all)
            }
            Line::HeldOut(line) => self.events.write(line.step, &[("held_out/loss".to_owned(), line.held_out_loss)]),
        }
    }

    /// Makes sure that what is written lasts.
    ///
    /// # Errors
    /// [`TrainError::Log`].
    pub fn sync(&mut self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| TrainError::Log { path: self.path.clone(), source })
    }
}

/// The lines of a run's folder.
///
/// # Errors
/// What the system says, or that a line is none of ours.
pub fn read(folder: &Path) -> io::Result<Vec<Line>> {
    let path = folder.join(LOG);
    let text = std::fs::read_to_string(&path)?;
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    let parse = |(at, line): (usize, &str)| {
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", at + 1));
        serde_json::from_str(line).map_err(wrong)
    };
    whole.lines().enumerate().map(parse).collect()
}

/// The whole lines up to a step.
#[derive(Default)]
struct Kept {
    n_lines: usize,
    last: u64,
    bytes: usize,
}

impl Kept {
    fn of(text: &[u8], step: u64) -> Kept {
        let mut kept = Kept::default();
        for text in text.split_inclusive(|&byte| byte == b'\n').filter(|text| text.ends_with(b"\n")) {
            match serde_json::from_slice::<Line>(text) {
                Ok(line) if line.step() <= step => {
                    kept = Kept { n_lines: kept.n_lines + 1, last: line.step(), bytes: kept.bytes + text.len() };
                }
                _ => break,
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_a_checkpoint_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let line = |step| Line::HeldOut(HeldOutLine { step, held_out_loss: 1.0 / step as f64 });
        let mut log = Log::open(dir.path(), 0).unwrap();
        for step in 1..=5 {
            log.write(&line(step)).unwrap();
        }
        drop(log);
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(LOG))
            .unwrap()
            .write_all(b"{\"step\":6,")
            .unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 5, "half a line is none");
        let mut log = Log::open(dir.path(), 3).unwrap();
        log.write(&line(4)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), (1..=4).map(line).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_that_does_not_reach_the_checkpoint_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG);
        let line = |step| format!("{{\"step\":{step},\"held_out_loss\":0.5}}\n");
        let whole: String = (1..=4).map(line).collect();
        let broken = whole.replace("\"step\":2", "\"st\u{0}p\":2").into_bytes();
        let cut = &whole.as_bytes()[..whole.len() - 3];
        let foreign = [whole.as_bytes()[..10].to_vec(), vec![0xff; 40], b"\n".to_vec()].concat();
        for (bytes, n_lines) in [(&broken[..], 1), (cut, 3), (&foreign, 0)] {
            std::fs::write(&path, bytes).unwrap();
            let told = Log::open(dir.path(), 4).unwrap_err().to_string();
            let wanted =
                format!("{n_lines} line(s) are whole, up to step {n_lines}, but the checkpoint is of step 4; put");
            assert!(told.contains(&wanted) && told.contains("log.jsonl"), "{told}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert!(Log::open(dir.path(), 0).is_ok(), "a run that begins again begins its log again");
        std::fs::remove_file(&path).unwrap();
        let mut log = Log::open(dir.path(), 4).unwrap();
        log.write(&Line::HeldOut(HeldOutLine { step: 5, held_out_loss: 0.5 })).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
    }
}
