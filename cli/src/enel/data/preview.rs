//! How does the model see a cloud? A picture and a page of its points, centres and groups.

use super::draw::{Ball, Tile, View, tile};
use super::groups::{Stage, stages};
use super::page::page;
use crate::enel::answer::join;
use crate::enel::cloud::CloudArgs;
use crate::enel::model::{Model, find_dir};
use crate::{out, outln};
use anyhow::{Context, Result};
use clap::Args;
use enel_io::{Prepared, write_atomic};
use enel_model::{EnelConfig, Extent, PointConfig};
use image::{ImageFormat, RgbImage};
use serde_json::json;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Pixels of a tile's side, tiles of a row, and pixels between them.
const SIDE: usize = 560;
const COLUMNS: usize = 3;
const GAP: usize = 6;
/// A quarter from the front, a quarter from behind, and from above.
const VIEWS: [View; 3] = [QUARTER, View { yaw: 3.74, pitch: 0.3 }, View { yaw: 0.0, pitch: 1.45 }];
const QUARTER: View = View { yaw: 0.6, pitch: 0.35 };

/// Draws a cloud as a model would get it: a picture, and a page to turn it and see centres and groups.
#[derive(Debug, Args)]
#[command(after_help = "Writes BASE.png and BASE.html; the page needs no network.\n\nExamples:\n  \
    enel data preview samples/chair.ply\n  \
    enel data preview model.glb -o out/model --model tiny\n  \
    enel data preview scan.las --up z --points 8192 --json")]
pub struct PreviewArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flags of a group of their own")]
    pub cloud: CloudArgs,
    /// Where BASE.png and BASE.html go; without it, the cloud's name in this folder.
    #[arg(short, long, value_name = "BASE")]
    pub output: Option<PathBuf>,
    /// Whose points, centres and groups: those of a model folder, a fetched model, or a preset.
    #[arg(long, value_name = "DIR|NAME", default_value = "enel-7b")]
    pub model: String,
    /// Points the model gets; others are sub-sampled or repeated.
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// auto, cpu, emulated or cuda:N: what samples and searches; the result is the same.
    #[arg(long, default_value = "cpu", value_parser = crate::enel::device_name)]
    pub device: String,
    /// Print one JSON object with the files, counts and notes.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used or written; what the device reports.
pub fn preview(args: &PreviewArgs) -> Result<()> {
    let config = point_config(args)?;
    let CloudArgs { path, reading } = &args.cloud;
    let (prepared, report) = reading.prepare(path, config.n_points)?;
    report.tell(path);
    let stages = stages(&config, &prepared.points, &args.device)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let base = args.output.clone().unwrap_or_else(|| PathBuf::from(Path::new(&name).file_stem().unwrap_or_default()));
    let given = format!("{} file, {}", report.load.kind, report.words());
    let (picture, html) = (with_ending(&base, "png"), with_ending(&base, "html"));
    write(&picture, &png(&picture_tiles(&prepared, &stages))?)?;
    write(&html, page(&prepared, &stages, (&name, &given)).as_bytes())?;
    if !args.json {
        outln!("{}", picture.display())?;
        return outln!("{}", html.display());
    }
    let mut facts = json!({ "png": picture.display().to_string(), "html": html.display().to_string() });
    join(&mut facts, report.as_json());
    let stages = stages.iter().map(|stage| json!({ "centres": stage.centres.len(), "group_size": stage.group_size }));
    join(&mut facts, json!({ "stages": stages.collect::<Vec<_>>() }));
    out::json(&facts)
}

fn point_config(args: &PreviewArgs) -> Result<PointConfig> {
    // A preset's weights are not needed, so it may be one that is too large for random ones.
    let preset = EnelConfig::preset(&args.model).filter(|_| find_dir(&args.model).is_none());
    let mut config = match preset {
        Some(preset) => preset.point,
        None => Model::open(&args.model, args.points)?.clouds()?.config.point.clone(),
    };
    if let Some(points) = args.points {
        config.n_points = Extent::fixed(points);
    }
    config.check().with_context(|| format!("{} points do not do for `{}`", config.n_points.max, args.model))?;
    Ok(config)
}

/// A dot in the name stays part of it.
fn with_ending(base: &Path, ending: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |out| out.write_all(bytes)).with_context(|| format!("cannot write {}", path.display()))
}

/// The cloud from three sides, then each stage: its points in the colours of their groups, its centres dark and large.
fn picture_tiles(prepared: &Prepared, stages: &[Stage]) -> Vec<Tile> {
    let points: Vec<&[f32]> = prepared.points.chunks_exact(6).collect();
    let own = |row: usize| match points[row] {
        [_, _, _, r, g, b] if prepared.report.has_colour => [*r, *g, *b],
        [_, y, ..] => height_colour(*y),
        _ => [0.5; 3],
    };
    let ball = |row: usize, radius: f32, rgb: [f32; 3]| Ball {
        at: [points[row][0], points[row][1], points[row][2]],
        radius,
        rgb,
    };
    let cloud: Vec<Ball> = (0..points.len()).map(|row| ball(row, radius(points.len()), own(row))).collect();
    let mut tiles: Vec<Tile> = VIEWS.iter().map(|view| tile(&cloud, *view, SIDE)).collect();
    let mut from: Vec<u32> = (0..points.len() as u32).collect();
    let pale: Vec<Ball> = (0..points.len()).map(|row| ball(row, 0.4 * radius(points.len()), [0.8; 3])).collect();
    for stage in stages {
        let groups = group_of(stage, points.len());
        let size = 0.7 * radius(from.len());
        let mut balls = pale.clone();
        for &row in &from {
            let rgb = groups[row as usize].map_or([0.62; 3], |group| hue(group as usize));
            balls.push(ball(row as usize, size, rgb));
        }
        for (group, &row) in stage.centres.iter().enumerate() {
            balls.push(ball(row as usize, 1.3 * size, hue(group).map(|channel| 0.5 * channel)));
        }
        tiles.push(tile(&balls, QUARTER, SIDE));
        from.clone_from(&stage.centres);
    }
    tiles
}

/// So large that `n` points on a surface touch.
fn radius(n: usize) -> f32 {
    (1.6 / (n as f32).sqrt()).min(0.05)
}

/// The centre each point is ranked nearest by, over all groups; none for points of no group.
fn group_of(stage: &Stage, n_points: usize) -> Vec<Option<u32>> {
    let mut best: Vec<Option<(usize, u32)>> = vec![None; n_points];
    for (group, rows) in stage.neighbours.chunks_exact(stage.group_size).enumerate() {
        for (rank, &row) in rows.iter().enumerate() {
            let best = &mut best[row as usize];
            if best.is_none_or(|(least, _)| rank < least) {
                *best = Some((rank, group as u32));
            }
        }
    }
    best.into_iter().map(|best| best.map(|(_, group)| group)).collect()
}

/// Colours far apart for numbers close by: steps of the golden ratio around the circle.
fn hue(index: usize) -> [f32; 3] {
    let around = (index as f32 * 0.618_034).fract() * 6.0;
    [0.0, 4.0, 2.0].map(|shift: f32| {
        let place = (around + shift).rem_euclid(6.0);
        0.42 + 0.52 * ((place - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    })
}

/// Blue below, green between, yellow above.
fn height_colour(y: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 3] = [[0.18, 0.29, 0.55], [0.28, 0.67, 0.6], [0.96, 0.83, 0.43]];
    let place = (y + 1.0).clamp(0.0, 2.0);
    let low = (place as usize).min(1);
    let part = place - low as f32;
    [0, 1, 2].map(|i| STOPS[low][i] + (STOPS[low + 1][i] - STOPS[low][i]) * part)
}

/// Tiles in rows, as the bytes of a PNG file.
fn png(tiles: &[Tile]) -> Result<Vec<u8>> {
    let extent = |n: usize| n * SIDE + n.saturating_sub(1) * GAP;
    let (width, height) = (extent(COLUMNS), extent(tiles.len().div_ceil(COLUMNS)));
    let mut rgb = vec![255; 3 * width * height];
    for (i, tile) in tiles.iter().enumerate() {
        let (left, top) = (i % COLUMNS * (SIDE + GAP), i / COLUMNS * (SIDE + GAP));
        for (y, row) in tile.rgb.chunks_exact(3 * tile.side).enumerate() {
            let at = 3 * ((top + y) * width + left);
            rgb[at..at + row.len()].copy_from_slice(row);
        }
    }
    let image = RgbImage::from_raw(width as u32, height as u32, rgb).context("a picture has three bytes a pixel")?;
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}
