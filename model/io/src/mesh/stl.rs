//! Which surface does an `.stl` file hold? Text and bytes; colours of facets in both habits of writing them.
//!
//! **Source** 3D Systems 1989, "StereoLithography Interface Specification", section 6.5; for the two bytes after a
//! facet, Materialise Magics (`COLOR=` in the header, red lowest) and VisCAM (blue lowest, bit 15 set).

use super::{Mesh, Triangle};
use crate::collect::{Collector, ColourScale, Layout};
use crate::cursor::Cursor;
use crate::fault::Fault;
use crate::words::Lines;

/// Header and count of the binary form, and a facet of it.
const HEADER_BYTES: usize = 80;
const FACET_BYTES: usize = 50;
/// Bit of a facet's last two bytes: VisCAM, the colour counts; Magics, it does not.
const FLAG: u16 = 1 << 15;
const TEXT_ORDER: &str = "`facet normal`, `outer loop`, three times `vertex x y z`, `endloop` and `endfacet`";

/// True for a file that is binary STL by its length: bytes of this form have no mark of their own.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    let Ok(n_facets) = Cursor::new(bytes.get(HEADER_BYTES..).unwrap_or_default(), "").u32() else { return false };
    let rest = (bytes.len() - HEADER_BYTES - 4) as u64;
    rest == u64::from(n_facets) * FACET_BYTES as u64 && n_facets > 0
}

/// Reads a file of either form.
pub(crate) fn read(bytes: &[u8]) -> Result<Mesh, Fault> {
    let is_text = bytes.trim_ascii_start().starts_with(b"solid") && !is_binary(bytes);
    let mut corners = Collector::new(usize::MAX, 0);
    if is_text {
        read_text(bytes, &mut corners)?
    } else {
        read_binary(bytes, &mut corners)?
    }
    let n_triangles = corners.n_seen() / 3;
    let vertices = corners.finish()?.cloud;
    let triangle = |first: u64| {
        let first = 3 * first as u32;
        Triangle { vertices: [first, first + 1, first + 2], uvs: [0; 3], material: 0 }
    };
    Mesh::new(vertices, vec![], (0..n_triangles).map(triangle).collect(), (vec![], vec![]))
}

fn read_binary(bytes: &[u8], out: &mut Collector) -> Result<(), Fault> {
    let mut cursor = Cursor::new(bytes, "the .stl header");
    let header = cursor.take(HEADER_BYTES as u64)?;
    let n_facets = cursor.u32()?;
    let mut cursor = Cursor::new(cursor.rest(), "the list of facets");
    let facets = cursor.take(u64::from(n_facets) * FACET_BYTES as u64)?;
    let n_corners = 3 * n_facets as usize;
    let magics = header.windows(10).find_map(|window| window.strip_prefix(b"COLOR="));
    let attribute = |facet: &[u8]| u16::from_le_bytes([facet[48], facet[49]]);
    let is_coloured = magics.is_some() || facets.chunks_exact(FACET_BYTES).any(|facet| attribute(facet) & FLAG != 0);
    let colour = is_coloured.then_some(ColourScale::Full(1.0));
    out.begin(Layout { colour, is_f32: true, n_max: n_corners });
    for facet in facets.chunks_exact(FACET_BYTES) {
        // Twelve bytes of normal come first; it follows from the corners.
        let mut cursor = Cursor::new(&facet[12..], "a facet");
        let rgb = facet_colour(attribute(facet), magics);
        for _ in 0..3 {
            let xyz = [cursor.f32()?, cursor.f32()?, cursor.f32()?];
            out.push(xyz.map(f64::from), rgb)?;
        }
    }
    Ok(())
}

/// Five bits a channel; a facet without a colour has the header's, or the grey of viewers.
fn facet_colour(attribute: u16, magics: Option<&[u8]>) -> [f32; 3] {
    let channel = |shift: u16| f32::from(attribute >> shift & 31) / 31.0;
    match magics {
        Some(default) if attribute & FLAG != 0 => [0, 1, 2].map(|i| f32::from(default[i]) / 255.0),
        Some(_) => [0, 5, 10].map(channel),
        None if attribute & FLAG != 0 => [10, 5, 0].map(channel),
        None => [0.8; 3],
    }
}

fn read_text(bytes: &[u8], out: &mut Collector) -> Result<(), Fault> {
    // A corner takes at least `vertex 0 0 0` and a line's end.
    out.begin(Layout { colour: None, is_f32: false, n_max: bytes.len() / 13 + 1 });
    let mut lines = Lines::new(bytes);
    // Corners of the facet under way.
    let mut n_corners = None;
    let mut last = 1;
    for line in &mut lines {
        last = line.number;
        let mut words = line.words();
        let wrong = || Fault::line(line.number, TEXT_ORDER, line.text);
        match (words.next().map(<[u8]>::to_ascii_lowercase).as_deref(), n_corners) {
            (Some(b"solid" | b"endsolid"), None) => {}
            (Some(b"facet"), None) => n_corners = Some(0),
            (Some(b"outer"), Some(0)) | (Some(b"endloop"), Some(3)) => {}
            (Some(b"vertex"), Some(n @ 0..3)) => {
                out.push(line.numbers(&mut words, "vertex x y z")?, [0.0; 3])?;
                n_corners = Some(n + 1);
            }
            (Some(b"endfacet"), Some(3)) => n_corners = None,
            _ => return Err(wrong()),
        }
    }
    if n_corners.is_some() {
        return Err(Fault::line(last, "`endfacet`: the file is cut", b"the end of the file"));
    }
    Ok(())
}
