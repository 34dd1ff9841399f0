//! Which cloud does a command take, how is it turned and drawn, and what became of it? The same everywhere.

use anyhow::{Context, Result};
use clap::builder::StyledStr;
use clap::{Args, ValueEnum};
use enel_io::{Axis, Cloud, Ending, LoadConfig, LoadReport, Note, PrepareConfig, PrepareReport, Prepared, prepare};
use enel_model::Extent;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One cloud or mesh and how it is read; flatten it into a command's arguments.
#[derive(Clone, Debug, Args)]
pub struct CloudArgs {
    /// A file of points or a mesh.
    #[arg(value_name = "CLOUD", help = CloudArgs::help())]
    pub path: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub reading: ReadingArgs,
}

/// How clouds are read, however many a command takes.
///
/// There is no option for the unit: models see every cloud with its mean at the origin and its farthest point at 1.
#[derive(Clone, Debug, Args)]
pub struct ReadingArgs {
    /// Axis that points up in the file; the cloud is turned so that y does. Without it axes stay as they are.
    #[arg(long, value_enum, value_name = "AXIS")]
    pub up: Option<UpArg>,
    /// Chooses the points drawn from a mesh, and those left of a cloud of millions.
    #[arg(long, value_name = "SEED", default_value = "0")]
    pub cloud_seed: u64,
}

/// How an axis is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // The variants are the axes.
pub enum UpArg {
    X,
    Y,
    Z,
}

/// What became of a file's points on their way to a model.
#[derive(Clone, Debug)]
pub struct CloudReport {
    /// Out of the file.
    pub load: LoadReport,
    /// Into the model.
    pub prepare: PrepareReport,
}

impl CloudArgs {
    /// Which files are read, out of the one list there is.
    pub fn help() -> StyledStr {
        format!("Points, or a mesh, which is sampled by area: {}", Ending::list(Ending::ALL)).into()
    }
}

impl ReadingArgs {
    /// Reads a cloud or samples a mesh within the bounds of `config`; axis and seed are those of the arguments.
    ///
    /// # Errors
    /// Names the file, what was expected and what to do.
    pub fn open(&self, path: &Path, config: &LoadConfig) -> Result<(Cloud, LoadReport)> {
        let up = self.up.map(|up| match up {
            UpArg::X => Axis::X,
            UpArg::Y => Axis::Y,
            UpArg::Z => Axis::Z,
        });
        Ok(Cloud::open(path, &LoadConfig { up, seed: self.cloud_seed, ..*config })?)
    }

    /// Reads a cloud as a model of `n_points` points takes it.
    ///
    /// # Errors
    /// As [`ReadingArgs::open`].
    pub fn prepare(&self, path: &Path, n_points: Extent) -> Result<(Prepared, CloudReport)> {
        let (cloud, load) = self.open(path, &LoadConfig { mesh_points: n_points.max, ..LoadConfig::default() })?;
        let bounds = PrepareConfig { min_points: n_points.min, max_points: n_points.max };
        let prepared = prepare(&cloud, bounds).with_context(|| format!("cannot use {}", path.display()))?;
        let report = CloudReport { load, prepare: prepared.report };
        Ok((prepared, report))
    }

    /// What decides the points, for those who must not mix answers of different settings.
    pub fn as_json(&self) -> Value {
        let ReadingArgs { up, cloud_seed } = self;
        let up = up.and_then(|up| up.to_possible_value()).map(|up| up.get_name().to_owned());
        json!({ "up": up, "cloud_seed": cloud_seed })
    }
}

impl CloudReport {
    /// What happened, in a line.
    pub fn words(&self) -> String {
        let PrepareReport { n_given: _, n_kept, n_points, has_colour } = self.prepare;
        let n_given = self.n_given();
        let drawn = drawn(&self.load);
        let sampled = if (n_kept as u64) < n_given { format!(", {n_kept} of them kept") } else { String::new() };
        let repeated = if n_points > n_kept { format!(", repeated to {n_points}") } else { String::new() };
        let colour = if has_colour { "" } else { ", no colour" };
        format!("{n_given} points{drawn}{sampled}{repeated}{colour}")
    }

    /// Tells it on stderr.
    pub fn tell(&self, path: &Path) {
        eprintln!("{}: {}", path.display(), self.words());
        tell_notes(path, &self.load);
    }

    /// The same for machines.
    pub fn as_json(&self) -> Value {
        let PrepareReport { n_given: _, n_kept, n_points, has_colour } = self.prepare;
        json!({
            "format": self.load.kind.to_string(),
            "points": { "given": self.n_given(), "kept": n_kept, "used": n_points, "colour": has_colour },
            "notes": notes_json(&self.load),
        })
    }

    /// Points of the file, or drawn from its mesh.
    fn n_given(&self) -> u64 {
        let LoadReport { n_vertices, n_triangles, .. } = self.load;
        if n_triangles.is_some() { self.prepare.n_given as u64 } else { n_vertices }
    }
}

/// Where points of a mesh come from, in words that follow their number; empty for clouds.
pub fn drawn(report: &LoadReport) -> String {
    let n_triangles = report.n_triangles.filter(|_| !report.notes.contains(&Note::NoSurface));
    n_triangles.map_or(String::new(), |n| format!(" drawn from {n} triangles"))
}

/// Tells on stderr what a user should know of a file.
pub fn tell_notes(path: &Path, report: &LoadReport) {
    for note in &report.notes {
        eprintln!("{}: {note}", path.display());
    }
}

/// The same for machines.
pub fn notes_json(report: &LoadReport) -> Value {
    report.notes.iter().map(ToString::to_string).collect()
}
