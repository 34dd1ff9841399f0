//! How does any cloud or mesh become a `.npy` or `.ply` of points?

use crate::enel::cloud::{CloudArgs, drawn, tell_notes};
use crate::outln;
use anyhow::{Context, Result, bail};
use clap::Args;
use enel_io::LoadConfig;
use std::path::PathBuf;

/// Points drawn from a mesh when no number is given: what the paper's model takes.
const MESH_POINTS: usize = 8192;

/// Writes a cloud, or points drawn from a mesh, as .npy or .ply.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    enel data convert model.glb -o model.ply\n  \
    enel data convert scan.las --points 100000 --up z -o scan.npy")]
pub struct ConvertArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub cloud: CloudArgs,
    /// What is written: .npy of shape [points, 3 or 6] in f32, or binary .ply.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Points drawn from a mesh (8192 unless given); a cloud with more is thinned at random to so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub points: Option<u32>,
    /// Coordinates are multiplied by it, for example 0.001 from millimetres to metres.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    pub scale: f32,
}

fn factor(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used or written.
pub fn convert(args: &ConvertArgs) -> Result<()> {
    let ConvertArgs { cloud, output, points, scale } = args;
    let ext = output.extension().and_then(|ext| ext.to_str()).unwrap_or_default().to_ascii_lowercase();
    if !["npy", "ply"].contains(&ext.as_str()) {
        bail!("{} ends neither in .npy nor in .ply; name the output so", output.display());
    }
    let given = points.map(|n| n as usize);
    let defaults = LoadConfig::default();
    // What is asked for is taken, beyond the bound too.
    let max_points = given.unwrap_or(defaults.max_points);
    let config = LoadConfig { mesh_points: given.unwrap_or(MESH_POINTS), max_points, ..defaults };
    let CloudArgs { path, reading } = cloud;
    let (mut points, report) = reading.open(path, &config)?;
    tell_notes(path, &report);
    points.xyz.as_flattened_mut().iter_mut().for_each(|value| *value *= scale);
    if points.xyz.as_flattened().iter().any(|value| !value.is_finite()) {
        bail!("{} times {scale} is beyond f32; choose a smaller factor", path.display());
    }
    let written = if ext == "npy" { points.to_array().write(output) } else { points.write_ply(output) };
    written.with_context(|| format!("cannot write {}", output.display()))?;
    let colour = if points.rgb.is_some() { "" } else { ", no colour" };
    outln!("{}: {} points{}{colour}", output.display(), points.xyz.len(), drawn(&report))
}
