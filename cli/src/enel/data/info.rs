//! What does a file hold? Format, counts, colours, bounds.

use crate::enel::cloud::{CloudArgs, notes_json, tell_notes};
use crate::{out, outln};
use anyhow::Result;
use clap::Args;
use enel_io::LoadConfig;
use serde_json::json;

/// Says what a cloud or mesh holds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel data info scan.las\n  enel data info model.glb --up z --json")]
pub struct InfoArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub cloud: CloudArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used.
pub fn info(args: &InfoArgs) -> Result<()> {
    let CloudArgs { path, reading } = &args.cloud;
    let (cloud, report) = reading.open(path, &LoadConfig::default())?;
    let (low, high) = bounds(&cloud.xyz);
    let size = [0, 1, 2].map(|axis| high[axis] - low[axis]);
    if args.json {
        return out::json(&json!({
            "file": path.display().to_string(),
            "format": report.kind.to_string(),
            "points": report.n_vertices,
            "triangles": report.n_triangles,
            "colour": cloud.rgb.is_some(),
            "min": low,
            "max": high,
            "size": size,
            "notes": notes_json(&report),
        }));
    }
    tell_notes(path, &report);
    let what = if report.n_triangles.is_some() { "vertices" } else { "points" };
    outln!("format     {}", report.kind)?;
    outln!("{what:10} {}", report.n_vertices)?;
    if let Some(n_triangles) = report.n_triangles {
        outln!("triangles  {n_triangles}")?;
    }
    outln!("colour     {}", if cloud.rgb.is_some() { "yes" } else { "no" })?;
    for (name, [x, y, z]) in [("min", low), ("max", high), ("size", size)] {
        outln!("{name:10} {x} {y} {z}")?;
    }
    Ok(())
}

/// Smallest and largest coordinates.
fn bounds(xyz: &[[f32; 3]]) -> ([f32; 3], [f32; 3]) {
    let fold = |start: f32, pick: fn(f32, f32) -> f32| {
        [0, 1, 2].map(|axis: usize| xyz.iter().map(|point| point[axis]).fold(start, pick))
    };
    (fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max))
}
