//! Which points, or which surface, does a `.ply` file hold?
//!
//! Reads the elements `vertex` and `face` of ASCII and binary files; others are skipped, lists included.
//! Law: work and memory follow the bytes that are there, never the counts a header claims.
//! **Source** Turk 1994, "The PLY Polygon File Format".

mod body;
mod header;

use body::{Ascii, Binary, Body, Row};
use header::{Element, Encoding, Header, Property};

use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::mesh::{FaceColours, Mesh, Triangle, fan};

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

/// What a file holds.
pub(crate) enum Content {
    /// Points, which were pushed.
    Points,
    /// A surface; nothing was pushed.
    Mesh(Mesh),
}

/// Names of the list of a face's corners.
const CORNERS: [&str; 2] = ["vertex_indices", "vertex_index"];

/// Reads a file; points without faces go to `out`.
pub(crate) fn parse(bytes: &[u8], out: &mut Collector) -> Result<Content, Fault> {
    let (header, body) = header::parse(bytes)?;
    match header.encoding {
        Encoding::Ascii => read(&header, &mut Ascii::new(body), out),
        Encoding::LittleEndian => read(&header, &mut Binary::new(body, false), out),
        Encoding::BigEndian => read(&header, &mut Binary::new(body, true), out),
    }
}

/// The list of corners of an element that is not empty.
fn corners_of(element: &Element) -> Option<usize> {
    let is_corners = |p: &Property| p.list_count.is_some() && CORNERS.contains(&p.name.as_str());
    let is_face = element.name == "face" && element.count > 0;
    element.properties.iter().position(is_corners).filter(|_| is_face)
}

fn read(header: &Header, body: &mut impl Body, out: &mut Collector) -> Result<Content, Fault> {
    let is_mesh = header.elements.iter().any(|element| corners_of(element).is_some());
    let mut corners = Collector::new(usize::MAX, 0);
    let mut faces = Faces { triangles: Vec::new(), colours: FaceColours::new() };
    let mut has_vertices = false;
    for element in &header.elements {
        match corners_of(element) {
            Some(list) => faces.read(element, list, body)?,
            None if element.name == "vertex" && !has_vertices => {
                vertices(element, body, if is_mesh { &mut corners } else { &mut *out })?;
                has_vertices = true;
                if !is_mesh {
                    return Ok(Content::Points);
                }
            }
            None => body.skip(element)?,
        }
    }
    if !has_vertices {
        let found = header.elements.iter().map(|element| element.name.clone()).collect();
        return Err(PlyError::NoVertex { found }.into());
    }
    let paints = (faces.colours.materials, vec![]);
    Ok(Content::Mesh(Mesh::new(corners.finish()?.cloud, vec![], faces.triangles, paints)?))
}

fn vertices(element: &Element, body: &mut impl Body, out: &mut Collector) -> Result<(), Fault> {
    let columns = columns(&element.properties)?;
    let is_f32 = columns.xyz.iter().all(|&column| element.properties[column].is_f32());
    let colour = columns.rgb.map(|rgb| element.properties[rgb[0]].scale());
    let n_max = usize::try_from(element.count).unwrap_or(usize::MAX).min(body.max_items(element));
    out.begin(Layout { colour, is_f32, n_max });
    let mut row = Row::new(element, None);
    for index in 0..element.count {
        body.row(element, index, &mut row)?;
        let rgb = columns.rgb.map(|rgb| rgb.map(|column| row.numbers[column] as f32));
        out.push(columns.xyz.map(|column| row.numbers[column]), rgb.unwrap_or_default())?;
    }
    Ok(())
}

/// Polygons as they come.
struct Faces {
    triangles: Vec<Triangle>,
    colours: FaceColours,
}

impl Faces {
    fn read(&mut self, element: &Element, list: usize, body: &mut impl Body) -> Result<(), Fault> {
        // Colours of faces are of use where their range is stated.
        let colour = rgb_columns(&element.properties)?.and_then(|rgb| match element.properties[rgb[0]].scale() {
            ColourScale::Full(full) => Some((rgb, full)),
            ColourScale::Unknown | ColourScale::Wide => None,
        });
        let mut row = Row::new(element, Some(list));
        let mut corners = Vec::new();
        for face in 0..element.count {
            body.row(element, face, &mut row)?;
            corners.clear();
            for &corner in &row.list {
                let is_row = corner >= 0.0 && corner.fract() == 0.0 && corner <= f64::from(u32::MAX);
                let count = u32::MAX as usize;
                let fault = || Fault::Index { face, what: "vertex", index: corner as i64, count };
                corners.push(if is_row { corner as u32 } else { return Err(fault()) });
            }
            let channels = |(rgb, full): ([usize; 3], f32)| rgb.map(|column| row.numbers[column] as f32 / full);
            let material = colour.map_or(0, |colour| self.colours.row(channels(colour)));
            self.triangles.extend(fan(&corners).map(|vertices| Triangle { vertices, uvs: [0; 3], material }));
        }
        Ok(())
    }
}

fn columns(properties: &[Property]) -> Result<Columns, PlyError> {
    let coordinate = |name: &'static str| {
        let found = || properties.iter().map(|p| p.name.clone()).collect();
        find(properties, [name; 3]).ok_or_else(|| PlyError::NoCoordinate { name, found: found() })
    };
    let xyz = [coordinate("x")?, coordinate("y")?, coordinate("z")?];
    Ok(Columns { xyz, rgb: rgb_columns(properties)? })
}

fn find(properties: &[Property], names: [&str; 3]) -> Option<usize> {
    properties.iter().position(|p| p.list_count.is_none() && names.contains(&p.name.as_str()))
}

fn rgb_columns(properties: &[Property]) -> Result<Option<[usize; 3]>, PlyError> {
    let names = [["red", "r", "diffuse_red"], ["green", "g", "diffuse_green"], ["blue", "b", "diffuse_blue"]];
    match names.map(|names| find(properties, names)) {
        [Some(r), Some(g), Some(b)] => Ok(Some([r, g, b])),
        [None, None, None] => Ok(None),
        _ => Err(PlyError::HalfColour),
    }
}

#[cfg(test)]
mod tests;
