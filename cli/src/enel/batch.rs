//! How are many clouds described in one go? One line of JSON each, in order, and a stopped run goes on where it was.
//!
//! Law: a line is written whole and synced before the next cloud begins, so whatever ends the process loses the cloud
//! in hand at most; lines of other settings are never mixed with new ones.

use super::answer::{Show, Stopped, join};
use super::caption::{CaptionArgs, answer_json, describe, prompt_ids};
use super::model::Model;
use super::progress::Progress;
use super::ready::{About, Ready, Sample, read_cloud};
use crate::{out, outln};
use anyhow::{Context, Result, bail};
use clap::builder::StyledStr;
use enel_io::Ending;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Fields that decide an answer.
const SETTINGS: [&str; 5] = ["model", "prompt", "points_asked", "reading", "sampling"];

/// Which files are taken, out of the one list there is.
pub fn help() -> StyledStr {
    let (all, named): (Vec<Ending>, Vec<Ending>) = Ending::ALL.into_iter().partition(|ending| ending.is_distinct());
    let (all, named) = (Ending::list(all), Ending::list(named));
    format!("Clouds or meshes, or folders of them: {all}, and {named} where they are named").into()
}

/// Describes all clouds of the command line.
///
/// # Errors
/// Files of other settings, what the device reports; at the end, when a cloud could not be described.
pub fn caption_all(args: &CaptionArgs) -> Result<()> {
    let clouds = clouds(&args.clouds)?;
    let settings = json!({
        "model": args.model.model, "prompt": args.prompt, "points_asked": args.points,
        "reading": args.reading.as_json(), "sampling": args.answer.as_json(),
    });
    let mut lines = match &args.output {
        Some(path) => Some(Lines::open(path, &settings, args.retry)?),
        None => None,
    };
    let is_done = |cloud: &&String| lines.as_ref().is_some_and(|lines| lines.done.contains(*cloud));
    let open: Vec<&String> = clouds.iter().filter(|cloud| !is_done(cloud)).collect();
    if open.len() < clouds.len() {
        eprintln!("{} of {} clouds are described already", clouds.len() - open.len(), clouds.len());
    }
    let mut n_failed = lines.as_ref().map_or(0, |lines| lines.n_failed);
    if !open.is_empty() {
        let opened = Ready::open(&args.model, About::Cloud, args.points)?;
        let ids = prompt_ids(&args.prompt, &opened.model)?;
        let mut ready = opened.compile(&args.model)?;
        let (mut sample, model) = ready.sample(ids.len() + args.answer.max_new_tokens as usize)?;
        let progress = Progress::count("describing", open.len() as u64);
        for (at, cloud) in open.iter().enumerate() {
            let mut line = json!({ "cloud": cloud });
            join(&mut line, settings.clone());
            match line_of(args, model, &mut sample, (&ids, Path::new(cloud)))? {
                Some(Ok(answer)) => join(&mut line, answer),
                Some(Err(error)) => {
                    n_failed += 1;
                    progress.talk(&error);
                    join(&mut line, json!({ "error": error }));
                }
                None => bail!("stopped at {cloud}, which has no line; the same command goes on from there"),
            }
            match &mut lines {
                Some(lines) => lines.append(&line)?,
                None => outln!("{line}")?,
            }
            progress.at(at as u64 + 1);
        }
    }
    match n_failed {
        0 => Ok(()),
        n => bail!("{n} of {} clouds could not be described; their lines say why", clouds.len()),
    }
}

/// The fields of an answer, or why the cloud cannot be used; `None` when the user stopped it.
fn line_of(
    args: &CaptionArgs,
    model: &Model,
    sample: &mut Sample<'_>,
    (ids, path): (&[i32], &Path),
) -> Result<Option<Result<Value, String>>> {
    let cloud = match read_cloud(path, &args.reading, model) {
        Ok(cloud) => cloud,
        Err(error) => return Ok(Some(Err(format!("{error:#}")))),
    };
    let (answer, prefill_ms) = match describe(args, model, sample, (ids, &cloud, Show::Nothing)) {
        Ok(made) => made,
        Err(error) if error.is::<out::Closed>() => return Err(error),
        Err(error) => return Err(error.context(format!("describing {}", path.display()))),
    };
    if answer.stopped == Stopped::Interrupt {
        return Ok(None);
    }
    let mut fields = answer_json(&answer, &cloud, (ids.len(), prefill_ms));
    // Without timings the lines of two runs are the same.
    if let Some(fields) = fields.as_object_mut().filter(|_| !args.json) {
        fields.shift_remove("timings");
    }
    Ok(Some(Ok(fields)))
}

/// Files as they are named, and the clouds inside folders by name, each once.
fn clouds(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let found = if path.is_dir() { clouds_in(path)? } else { vec![path.clone()] };
        for cloud in found {
            let Some(name) = cloud.to_str() else { bail!("{} is no UTF-8 name; rename it", cloud.display()) };
            if seen.insert(name.to_owned()) {
                all.push(name.to_owned());
            }
        }
    }
    Ok(all)
}

fn clouds_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("cannot read {}", dir.display());
    let is_cloud = |path: &PathBuf| path.is_file() && Ending::of(path).is_some_and(Ending::is_distinct);
    let entries = std::fs::read_dir(dir).with_context(read)?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().with_context(read)?;
    let mut clouds: Vec<PathBuf> = paths.into_iter().filter(is_cloud).collect();
    clouds.sort();
    if clouds.is_empty() {
        let wanted = Ending::list(Ending::ALL.into_iter().filter(|ending| ending.is_distinct()));
        bail!("{} holds no clouds; looked for {wanted}", dir.display());
    }
    Ok(clouds)
}

/// A file of lines that only grows.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    /// Clouds that have a line.
    done: BTreeSet<String>,
    /// How many of these lines tell of a failure.
    n_failed: usize,
}

impl Lines {
    /// Opens or makes the file, locks it, and cuts off a line that was never finished.
    fn open(path: &Path, settings: &Value, retry: bool) -> Result<Lines> {
        let what = || format!("cannot use {}", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).with_context(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another run is writing {}", path.display()),
            // A file system without locks is no reason to refuse work.
            Err(TryLockError::Error(_)) => {}
        }
        let mut lines = Lines { path: path.to_owned(), file, done: BTreeSet::new(), n_failed: 0 };
        let mut text = Vec::new();
        lines.file.read_to_end(&mut text).with_context(what)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            eprintln!("{}: cut off a last line that was never finished", path.display());
            lines.file.set_len(whole as u64).with_context(what)?;
        }
        let mut kept = Vec::new();
        for (at, line) in text[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = at + 1;
            let line_of = || format!("{}, line {number}, is none of ours", path.display());
            let value: Value = serde_json::from_slice(line).with_context(line_of)?;
            let cloud = value["cloud"].as_str().with_context(line_of)?;
            for key in SETTINGS {
                if value.get(key) != settings.get(key) {
                    bail!(
                        "{}, line {number}, was made with {key} = {}, not {}; use another --output",
                        path.display(),
                        value[key],
                        settings[key]
                    );
                }
            }
            let is_failed = value.get("error").is_some();
            if is_failed && retry {
                continue;
            }
            lines.n_failed += usize::from(is_failed);
            lines.done.insert(cloud.to_owned());
            kept.extend_from_slice(line);
        }
        if kept.len() < whole {
            lines.replace(&kept).with_context(what)?;
        }
        Ok(lines)
    }

    /// Puts other content in the place of all lines.
    fn replace(&mut self, text: &[u8]) -> Result<()> {
        enel_io::write_atomic(&self.path, |file| file.write_all(text))?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn append(&mut self, line: &Value) -> Result<()> {
        let text = format!("{line}\n");
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}
