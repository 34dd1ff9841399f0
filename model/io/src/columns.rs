//! Which points does a table of numbers hold? `.xyz`, `.txt`, `.csv`, `.pts`: a line for each point.
//!
//! Words are parted by white space, commas or semicolons; `#` and `//` begin comments. A line of names, as a comment
//! or alone, says which columns are meant. Without names they are x y z, then nothing, or red green blue, or one
//! number and red green blue; three columns with negative numbers among the first rows are normals, and left out.

use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::words::{Line, Lines, number};

/// Rows looked at to tell colours from normals.
const N_PROBED: usize = 1000;
/// Columns kept of a line; no table in use has as many.
const MAX_COLUMNS: usize = 64;
const EXPECTED: &str = "numbers: x y z, or x y z red green blue";

/// Where the wanted numbers stand in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    xyz: [usize; 3],
    rgb: Option<[usize; 3]>,
}

/// Reads the points of a table; true when three columns were taken for normals and left out.
pub(crate) fn read(bytes: &[u8], out: &mut Collector) -> Result<bool, Fault> {
    let mut lines = Lines::new(bytes);
    let mut named = None;
    let mut start = lines.clone();
    // What stands before the first point: comments, names, and in .pts files the number of points.
    let first = loop {
        let Some(line) = lines.next() else { return Err(Fault::NoPoints) };
        let (text, is_comment) = uncommented(line.text);
        let is_numeric = !is_comment && words(text).next().is_some_and(|word| number(word).is_some());
        if !is_numeric {
            let found = columns_of_names(text);
            let is_title = is_comment || (line.number == 1 && found.is_some());
            if !is_title {
                return Err(Fault::line(line.number, EXPECTED, line.text));
            }
            named = found.or(named);
        } else if words(text).count() > 1 {
            break line;
        } else if line.number > 1 {
            return Err(Fault::line(line.number, EXPECTED, line.text));
        }
        start = lines.clone();
    };
    let mut left_out = false;
    let columns = match named {
        Some(columns) => columns,
        None => {
            let n_columns = words(first.text).count();
            let candidate = match n_columns {
                0..3 => return Err(Fault::line(first.number, EXPECTED, first.text)),
                3..=5 => None,
                7 => Some([4, 5, 6]),
                _ => Some([3, 4, 5]),
            };
            let rgb = candidate.filter(|rgb| !has_negative(start.clone(), *rgb));
            left_out = candidate != rgb;
            Columns { xyz: [0, 1, 2], rgb }
        }
    };
    // A point takes six bytes at least: three digits, two blanks, an end of line.
    let n_max = start.rest().len() / 6 + 1;
    out.begin(Layout { colour: columns.rgb.map(|_| ColourScale::Unknown), is_f32: false, n_max });
    let mut row = Vec::with_capacity(MAX_COLUMNS);
    for line in start {
        let (text, is_comment) = uncommented(line.text);
        if is_comment {
            continue;
        }
        numbers(line, text, &mut row)?;
        let at = |column: usize| row.get(column).copied();
        let take = |columns: [usize; 3]| Some([at(columns[0])?, at(columns[1])?, at(columns[2])?]);
        let too_few = || Fault::line(line.number, "as many numbers as in the lines before", line.text);
        let xyz = take(columns.xyz).ok_or_else(too_few)?;
        let rgb = columns.rgb.map(|rgb| take(rgb).ok_or_else(too_few)).transpose()?.unwrap_or_default();
        out.push(xyz, rgb.map(|value| value as f32))?;
    }
    Ok(left_out)
}

/// A line without the mark of a comment, and whether it had one.
fn uncommented(text: &[u8]) -> (&[u8], bool) {
    match text.strip_prefix(b"#").or(text.strip_prefix(b"//")) {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b';')).filter(|word| !word.is_empty())
}

fn numbers(line: Line<'_>, text: &[u8], row: &mut Vec<f64>) -> Result<(), Fault> {
    row.clear();
    for word in words(text).take(MAX_COLUMNS) {
        row.push(number(word).ok_or_else(|| Fault::line(line.number, EXPECTED, word))?);
    }
    Ok(())
}

/// Columns called x, y and z, and red, green and blue if all are there.
fn columns_of_names(text: &[u8]) -> Option<Columns> {
    let names: Vec<String> = words(text)
        .take(MAX_COLUMNS)
        .map(|word| String::from_utf8_lossy(word).trim_matches('"').to_ascii_lowercase())
        .collect();
    let find = |wanted: [&str; 2]| names.iter().position(|name| wanted.contains(&name.as_str()));
    let xyz = [find(["x"; 2])?, find(["y"; 2])?, find(["z"; 2])?];
    let rgb = match [find(["r", "red"]), find(["g", "green"]), find(["b", "blue"])] {
        [Some(r), Some(g), Some(b)] => Some([r, g, b]),
        _ => None,
    };
    Some(Columns { xyz, rgb })
}

fn has_negative(lines: Lines<'_>, columns: [usize; 3]) -> bool {
    let mut row = Vec::new();
    let mut is_negative = |line: Line<'_>| {
        let (text, is_comment) = uncommented(line.text);
        let is_row = !is_comment && numbers(line, text, &mut row).is_ok();
        is_row && columns.iter().any(|&column| row.get(column).is_some_and(|&value| value < 0.0))
    };
    lines.take(N_PROBED).any(&mut is_negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Collected;

    fn load(text: &str) -> Result<(Collected, bool), Fault> {
        let mut out = Collector::new(100, 0);
        let left_out = read(text.as_bytes(), &mut out)?;
        Ok((out.finish()?, left_out))
    }

    #[test]
    fn tables_of_every_habit_are_read() {
        let plain = Some(vec![[0.0, 1.0, 0.2]]);
        let rows = [
            ("1 2 3\n", None),
            ("1\n1 2 3\n", None),
            ("1,2,3\n", None),
            ("1;2;3;9\r\n", None),
            ("# made by hand\n1 2 3 0 255 51", plain.clone()),
            ("1\t2\t3\t0.9\t0\t255\t51", plain.clone()),
            ("x,y,z,nx,ny,nz,r,g,b\n1,2,3,1,0,0,0,255,51\n", plain.clone()),
            ("//X Y Z R G B\n1 2 3 0 255 51\n", plain.clone()),
            ("\"red\",\"green\",\"blue\",\"x\",\"y\",\"z\"\n0,255,51,1,2,3\n", plain),
            ("1 2 3 0 1 0.2\n// end\n\n", Some(vec![[0.0, 1.0, 0.2]])),
        ];
        for (text, rgb) in rows {
            let (found, left_out) = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.cloud.xyz, found.cloud.rgb, left_out), (vec![[1.0, 2.0, 3.0]], rgb, false), "{text}");
        }
    }

    #[test]
    fn normals_are_told_from_colours() {
        let (found, left_out) = load("1 2 3 0 0 1\n4 5 6 0 -1 0\n").unwrap();
        assert!(left_out && found.cloud.rgb.is_none());
    }

    #[test]
    fn faults_say_the_line() {
        let rows = [
            ("", "no points"),
            ("# nothing\n", "no points"),
            ("2\nwater\nO 0 0 0\n", "line 2: expected numbers: x y z, or x y z red green blue, found `water`"),
            ("1 2 3\n1 2\n", "line 2: expected as many numbers as in the lines before, found `1 2`"),
            ("1 2 3\n1 two 3\n", "line 2: expected numbers: x y z, or x y z red green blue, found `two`"),
            ("1 2\n", "found `1 2`"),
            ("1 2 3\n1 nan 3\n", "point 1 has y = NaN"),
            ("1 2 3 0 0 999\n", "point 0 has blue = 999"),
        ];
        for (text, part) in rows {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
