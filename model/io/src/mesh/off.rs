//! Which surface does an `.off` file hold? Text of the Object File Format; colours of vertices (COFF) and of faces.
//!
//! **Source** Geomview manual, "OFF Files". The keyword may be missing or run into the counts, as some sets have it.

use super::{FaceColours, Mesh, Triangle, fan};
use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::words::{Line, Lines, number};

const COUNTS: &str = "OFF and the numbers of vertices, faces and edges";

/// What stands between the letters of the keyword.
#[derive(Clone, Copy, Debug, Default)]
struct Prefixes {
    has_colour: bool,
    has_normal: bool,
}

/// True for the keyword in any of its forms, up to the counts.
pub(crate) fn is_keyword(bytes: &[u8]) -> bool {
    let word = bytes.split(|&byte| !byte.is_ascii_uppercase() && byte != b'4').next().unwrap_or_default();
    word.ends_with(b"OFF") && word.len() <= 8 && prefixes(&word[..word.len() - 3]).is_some()
}

/// `None` for letters that are no prefix, or one that is not read.
fn prefixes(letters: &[u8]) -> Option<Prefixes> {
    // Texture coordinates come last in a line, and no picture is named for them.
    let rest = letters.strip_prefix(b"ST").unwrap_or(letters);
    let (has_colour, rest) = rest.strip_prefix(b"C").map_or((false, rest), |rest| (true, rest));
    let (has_normal, rest) = rest.strip_prefix(b"N").map_or((false, rest), |rest| (true, rest));
    rest.is_empty().then_some(Prefixes { has_colour, has_normal })
}

/// Reads a file.
pub(crate) fn read(bytes: &[u8]) -> Result<Mesh, Fault> {
    let mut lines = Lines::new(bytes).filter_map(uncommented);
    let (prefixes, counts) = head(&mut lines)?;
    let [n_vertices, n_faces] = counts;
    // A vertex takes six bytes at least: three digits, two blanks, an end of line.
    let n_max = usize::try_from(n_vertices).unwrap_or(usize::MAX).min(bytes.len() / 6 + 1);
    let mut vertices = Collector::new(usize::MAX, 0);
    let colour = prefixes.has_colour.then_some(ColourScale::Unknown);
    vertices.begin(Layout { colour, is_f32: false, n_max });
    for _ in 0..n_vertices {
        let line = lines.next().ok_or_else(|| missing("vertices"))?;
        let mut words = line.words();
        let xyz = line.numbers(&mut words, "a vertex: x y z")?;
        let mut rgb = [0.0; 3];
        if prefixes.has_colour {
            let skipped = if prefixes.has_normal { 3 } else { 0 };
            rgb = line.numbers(&mut words.skip(skipped), "a vertex: x y z, then red green blue")?;
        }
        vertices.push(xyz, rgb.map(|value| value as f32))?;
    }
    let mut colours = FaceColours::new();
    let mut triangles = Vec::new();
    let mut corners = Vec::new();
    for face in 0..n_faces {
        let line = lines.next().ok_or_else(|| missing("faces"))?;
        let mut words = line.words();
        let expected = "a face: its number of corners, then that many vertices";
        let index = |word: Option<&[u8]>| {
            let text = word.and_then(|word| std::str::from_utf8(word).ok());
            text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| Fault::line(line.number, expected, line.text))
        };
        let n_corners = index(words.next())?;
        corners.clear();
        for _ in 0..n_corners {
            let vertex = index(words.next())?;
            let count = n_vertices as usize;
            let fault = Fault::Index { face, what: "vertex", index: vertex, count };
            corners.push(u32::try_from(vertex).ok().filter(|&v| u64::from(v) < n_vertices).ok_or(fault)?);
        }
        let material = face_colour(words).map_or(0, |rgb| colours.row(rgb));
        triangles.extend(fan(&corners).map(|vertices| Triangle { vertices, uvs: [0; 3], material }));
    }
    Mesh::new(vertices.finish()?.cloud, vec![], triangles, (colours.materials, vec![]))
}

/// The line without its comment, if anything is left.
fn uncommented(line: Line<'_>) -> Option<Line<'_>> {
    let text = line.text.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
    (!text.is_empty()).then_some(Line { text, ..line })
}

fn missing(what: &'static str) -> Fault {
    Fault::field("the list of lines", format!("cut among the {what}"), "one for each vertex and face announced")
}

/// The keyword and the counts, on one line or two.
fn head<'a>(lines: &mut impl Iterator<Item = Line<'a>>) -> Result<(Prefixes, [u64; 2]), Fault> {
    let first = lines.next().ok_or_else(|| Fault::line(1, COUNTS, b""))?;
    let fault = |line: Line<'_>| Fault::line(line.number, COUNTS, line.text);
    let n_letters = first.text.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let (letters, rest) = first.text.split_at(n_letters);
    if letters.starts_with(b"4") || rest.starts_with(b"4OFF") || rest.starts_with(b"nOFF") {
        let what = "an .off file of other than three dimensions".to_owned();
        return Err(Fault::Unsupported { what, advice: "export the mesh with x, y and z only" });
    }
    let prefixes = match letters.strip_suffix(b"OFF") {
        Some(letters) => prefixes(letters).ok_or_else(|| fault(first))?,
        None if letters.is_empty() => Prefixes::default(),
        None => return Err(fault(first)),
    };
    let rest = rest.trim_ascii();
    if rest.starts_with(b"BINARY") {
        return Err(Fault::Unsupported { what: "binary .off".to_owned(), advice: "export the mesh as text" });
    }
    let line = if rest.is_empty() { lines.next().ok_or_else(|| fault(first))? } else { Line { text: rest, ..first } };
    let mut counts = line.words().map(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
    match (counts.next().flatten(), counts.next().flatten()) {
        (Some(n_vertices), Some(n_faces)) if n_vertices <= u64::from(u32::MAX) => Ok((prefixes, [n_vertices, n_faces])),
        _ => Err(fault(line)),
    }
}

/// Three or four numbers behind the corners: whole ones of 255, others of 1. A single one is a row of a map nobody has.
fn face_colour<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<[f32; 3]> {
    let words: Vec<&[u8]> = words.take(4).collect();
    let is_whole = words.iter().all(|word| word.iter().all(u8::is_ascii_digit));
    let full = if is_whole { 255.0 } else { 1.0 };
    let channel = |i: usize| Some((number(words.get(i)?)? as f32 / full).clamp(0.0, 1.0)).filter(|v| v.is_finite());
    Some([channel(0)?, channel(1)?, channel(2)?])
}
