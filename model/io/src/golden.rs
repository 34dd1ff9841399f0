//! Does [`pc_norm`] give the recorded results for recorded clouds?
//!
//! Reads pairs `j_*.json` and `j_*.safetensors` of a folder of golden values; inputs are the tensors `N.in`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::prepare::pc_norm;
use crate::weights::{Weights, WeightsError};

/// Relative L2 error allowed; the recorded values are f32 results of the same steps.
const TOLERANCE: f64 = 2e-7;
/// The same for clouds whose distance from the origin is beyond [`FAR`] times their size: cancellation of that much
/// leaves this many digits, whatever the order of the sum.
const FAR_TOLERANCE: f64 = 1e-4;
const FAR: f64 = 50.0;

/// The result of one comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Within the tolerance.
    Ok,
    /// Beyond it, and how.
    Fail(String),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// File stem, such as `j_pc_norm`.
    pub case: String,
    /// Tensor, such as `3.out`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// L2 norm of the difference over that of the recorded values.
    pub rel_l2: f64,
    /// What `rel_l2` may be.
    pub tolerance: f64,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The folder or a file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not in the format.
    #[error("{} is not a golden file of normalisations: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

#[derive(Deserialize)]
struct File {
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    n: usize,
    #[serde(default)]
    out_has_nan: bool,
}

/// Checks every pair of `dir`, in the order of their names; a folder without one gives no rows.
///
/// # Errors
/// [`GoldenError`] for files that cannot be read; differences are rows.
pub fn check_pc_norm(dir: &Path) -> Result<Vec<Row>, GoldenError> {
    let read = |source| GoldenError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("j_") && name.ends_with(".json") {
            files.push(path);
        }
    }
    files.sort();
    let mut rows = Vec::new();
    for path in files {
        check_file(&path, &mut rows)?;
    }
    Ok(rows)
}

fn check_file(path: &Path, rows: &mut Vec<Row>) -> Result<(), GoldenError> {
    let case_name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = std::fs::read(path).map_err(|source| GoldenError::Read { path: path.to_owned(), source })?;
    let format = |detail: String| GoldenError::Format { path: path.to_owned(), detail };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| format(error.to_string()))?;
    let weights = Weights::open(&path.with_extension("safetensors"))?;
    for (name, case) in &file.cases {
        let (input, output) = (format!("{name}.in"), format!("{name}.out"));
        if !weights.contains(&input) && case.out_has_nan {
            rows.push(one_point_row(&case_name, &output, case.n));
            continue;
        }
        let shape = weights.view(&input)?.shape.to_vec();
        let (n, channels) = match shape.as_slice() {
            &[n, channels] if channels >= 3 => (n, channels),
            _ => return Err(format(format!("{input} has shape {shape:?}, expected [points, 3 or more]"))),
        };
        if n != case.n {
            return Err(format(format!("{input} has {n} points, the case says {}", case.n)));
        }
        let expected = weights.view_shaped(&output, &shape)?;
        let expected = expected.to_f32().ok_or_else(|| format(format!("{output} is not of floats")))?;
        rows.push(compare(&case_name, &output, weights.to_f32(&input)?, channels, expected));
    }
    Ok(())
}

/// The original gives NaN for one point and records no tensors; ours gives the origin.
fn one_point_row(case: &str, name: &str, n: usize) -> Row {
    let mut xyz = vec![[0.25f32, -3.0, 7.5]; n.min(1)];
    pc_norm(&mut xyz);
    let is_origin = n == 1 && xyz == [[0.0; 3]];
    let detail = || Outcome::Fail(format!("{n} point(s) that coincide gave {xyz:?}, expected the origin"));
    let outcome = if is_origin { Outcome::Ok } else { detail() };
    let shape = vec![n, 3];
    Row { case: case.to_owned(), name: name.to_owned(), shape, max_abs: 0.0, rel_l2: 0.0, tolerance: 0.0, outcome }
}

fn compare(case: &str, name: &str, mut values: Vec<f32>, channels: usize, expected: Vec<f32>) -> Row {
    let mut xyz: Vec<[f32; 3]> = values.chunks_exact(channels).map(|row| [row[0], row[1], row[2]]).collect();
    let tolerance = if distance(&xyz) > FAR { FAR_TOLERANCE } else { TOLERANCE };
    pc_norm(&mut xyz);
    for (row, point) in values.chunks_exact_mut(channels).zip(&xyz) {
        row[..3].copy_from_slice(point);
    }
    let (mut squared, mut norm, mut max_abs) = (0.0f64, 0.0f64, 0.0f64);
    let mut others_differ = None;
    for (index, (&found, &wanted)) in values.iter().zip(&expected).enumerate() {
        // Where the original divides 0 by 0 the agreed answer is the origin.
        let wanted = if wanted.is_nan() { 0.0 } else { f64::from(wanted) };
        let difference = (f64::from(found) - wanted).abs();
        if index % channels < 3 {
            squared += difference * difference;
            norm += wanted * wanted;
            max_abs = if difference > max_abs || difference.is_nan() { difference } else { max_abs };
        } else if difference != 0.0 {
            others_differ = others_differ.or(Some(index));
        }
    }
    let rel_l2 = if squared == 0.0 { 0.0 } else { (squared / norm).sqrt() };
    let outcome = match others_differ {
        Some(index) => Outcome::Fail(format!("element {index} lies beside the positions and must not change")),
        // NaN is not within anything.
        None if rel_l2 <= tolerance => Outcome::Ok,
        None => Outcome::Fail(format!("relative L2 error {rel_l2:.3e}, allowed {tolerance:.0e}")),
    };
    let shape = vec![xyz.len(), channels];
    Row { case: case.to_owned(), name: name.to_owned(), shape, max_abs, rel_l2, tolerance, outcome }
}

/// How many of its own radii a cloud's centre is away from the origin.
fn distance(xyz: &[[f32; 3]]) -> f64 {
    let n = xyz.len().max(1) as f64;
    let mean = [0, 1, 2].map(|axis| xyz.iter().map(|p| f64::from(p[axis])).sum::<f64>() / n);
    let length = |p: [f64; 3]| p.iter().map(|x| x * x).sum::<f64>().sqrt();
    let from_mean = |p: &[f32; 3]| length([0, 1, 2].map(|axis| f64::from(p[axis]) - mean[axis]));
    let radius = xyz.iter().map(from_mean).fold(0.0, f64::max);
    if radius > 0.0 { length(mean) / radius } else { 0.0 }
}
