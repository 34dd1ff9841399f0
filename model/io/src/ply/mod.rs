//! Which points and colours does a `.ply` file hold?
//!
//! Reads the `vertex` element of ASCII and binary files; other elements are skipped, lists included.
//! Law: work and memory follow the bytes that are there, never the counts a header claims.
//! **Source** Turk 1994, "The PLY Polygon File Format".

mod body;
mod header;

use body::{Ascii, Binary, Body};
use header::{Encoding, Header, Property};

use crate::cloud::{ColourScale, RawCloud};

/// Why bytes are not a usable `.ply` cloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlyError {
    /// The header breaks the format.
    #[error("line {line} of the .ply header {what}")]
    Header {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// No element is called `vertex`.
    #[error("the .ply file has no `vertex` element; it holds {found:?}")]
    NoVertex {
        /// Its elements.
        found: Vec<String>,
    },
    /// The vertices lack a coordinate, or one is a list.
    #[error("the vertices of the .ply file have no number `{name}`; they have {found:?}")]
    NoCoordinate {
        /// The coordinate.
        name: &'static str,
        /// Their properties.
        found: Vec<String>,
    },
    /// Some colour channels are there and others are not.
    #[error("the vertices of the .ply file have some of red, green, blue, but not all")]
    HalfColour,
    /// The file ends before the header's counts are reached.
    #[error("the .ply file is cut: {element} {index} of {count} is not whole")]
    Cut {
        /// The element.
        element: String,
        /// The one that is missing, from 0.
        index: u64,
        /// How many there should be.
        count: u64,
    },
    /// A word of an ASCII file that should be a number.
    #[error("{element} {index} of the .ply file holds `{word}` where a number should be")]
    NotNumber {
        /// The element.
        element: String,
        /// Which one, from 0.
        index: u64,
        /// The word, shortened.
        word: String,
    },
}

/// Where the wanted numbers stand among the properties of a vertex.
struct Columns {
    xyz: [usize; 3],
    rgb: Option<[usize; 3]>,
}

/// Reads the points of a file.
pub(crate) fn parse(bytes: &[u8]) -> Result<RawCloud, PlyError> {
    let (header, body) = header::parse(bytes)?;
    match header.encoding {
        Encoding::Ascii => read(&header, &mut Ascii::new(body)),
        Encoding::LittleEndian => read(&header, &mut Binary::new(body, false)),
        Encoding::BigEndian => read(&header, &mut Binary::new(body, true)),
    }
}

fn read(header: &Header, body: &mut impl Body) -> Result<RawCloud, PlyError> {
    for element in &header.elements {
        if element.name != "vertex" {
            body.skip(element)?;
            continue;
        }
        let columns = columns(&element.properties)?;
        let scale = columns.rgb.map_or(ColourScale::Unknown, |rgb| element.properties[rgb[0]].scale());
        let capacity = usize::try_from(element.count).unwrap_or(usize::MAX).min(body.max_items(element));
        let mut cloud = RawCloud { xyz: Vec::with_capacity(capacity), rgb: None, scale };
        let mut rgb = columns.rgb.map(|_| Vec::with_capacity(capacity));
        let mut row = vec![0.0; element.properties.len()];
        for index in 0..element.count {
            body.row(element, index, &mut row)?;
            cloud.xyz.push(columns.xyz.map(|column| row[column] as f32));
            if let (Some(rgb), Some(columns)) = (&mut rgb, columns.rgb) {
                rgb.push(columns.map(|column| row[column] as f32));
            }
        }
        cloud.rgb = rgb;
        return Ok(cloud);
    }
    Err(PlyError::NoVertex { found: header.elements.iter().map(|element| element.name.clone()).collect() })
}

fn columns(properties: &[Property]) -> Result<Columns, PlyError> {
    let find =
        |names: [&str; 3]| properties.iter().position(|p| p.list_count.is_none() && names.contains(&p.name.as_str()));
    let coordinate = |name: &'static str| {
        let found = || properties.iter().map(|p| p.name.clone()).collect();
        find([name; 3]).ok_or_else(|| PlyError::NoCoordinate { name, found: found() })
    };
    let xyz = [coordinate("x")?, coordinate("y")?, coordinate("z")?];
    let rgb =
        [find(["red", "r", "diffuse_red"]), find(["green", "g", "diffuse_green"]), find(["blue", "b", "diffuse_blue"])];
    let rgb = match rgb {
        [Some(r), Some(g), Some(b)] => Some([r, g, b]),
        [None, None, None] => None,
        _ => return Err(PlyError::HalfColour),
    };
    Ok(Columns { xyz, rgb })
}

#[cfg(test)]
mod tests;
