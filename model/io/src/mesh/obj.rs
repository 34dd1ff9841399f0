//! Which surface does an `.obj` file hold? Polygons, texture coordinates, materials, colours of vertices.
//!
//! Curves, normals, groups and lines are passed over. A file without faces is a cloud of its vertices.
//! **Source** Wavefront, "Object Files (.obj)", version 3.0; vertex colours after x y z as common tools write them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::mtl::{self, Described, Pictures, after};
use super::{Material, Mesh, Triangle, fan};
use crate::beside::{Beside, read_file};
use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::note::Note;
use crate::words::{Line, Lines, number};

const CORNER: &str = "a face's corners as vertex, vertex/texture or vertex/texture/normal, counted from 1";

/// What has been read so far.
struct Reader<'a> {
    beside: Beside<'a>,
    notes: &'a mut Vec<Note>,
    vertices: Collector,
    uvs: Vec<[f32; 2]>,
    triangles: Vec<Triangle>,
    described: HashMap<String, Described>,
    /// Names of files of materials looked for already.
    libraries: HashSet<String>,
    /// Those that were found, however they were called.
    library_paths: HashSet<PathBuf>,
    /// Rows of `materials` by name.
    rows: HashMap<String, u32>,
    materials: Vec<Material>,
    pictures: Pictures,
    n_unknown: usize,
    /// Row of the material in force.
    material: u32,
    corners: Vec<[u32; 2]>,
    /// A corner takes at least `v 0 0 0` and a line's end.
    n_max: usize,
}

/// Reads a file.
pub(crate) fn read(bytes: &[u8], beside: Beside<'_>, notes: &mut Vec<Note>) -> Result<Mesh, Fault> {
    let bytes = joined(bytes);
    let mut reader = Reader {
        beside,
        notes,
        vertices: Collector::new(usize::MAX, 0),
        uvs: vec![[0.0; 2]],
        triangles: Vec::new(),
        described: HashMap::new(),
        libraries: HashSet::new(),
        library_paths: HashSet::new(),
        rows: HashMap::new(),
        materials: vec![Material::plain(None)],
        pictures: Pictures::new(0),
        n_unknown: 0,
        material: 0,
        corners: Vec::new(),
        n_max: 0,
    };
    reader.n_max = bytes.len() / 8 + 1;
    for line in Lines::new(&bytes) {
        reader.line(line)?;
    }
    if reader.n_unknown > 0 {
        reader.notes.push(Note::Materials { n_materials: reader.n_unknown });
    }
    reader.check_rows()?;
    let Reader { vertices, uvs, triangles, materials, pictures, .. } = reader;
    Mesh::new(vertices.finish()?.cloud, uvs, triangles, (materials, pictures.textures))
}

/// Lines that end in a backslash go on in the next.
fn joined(bytes: &[u8]) -> Cow<'_, [u8]> {
    let goes_on = |at: usize| bytes[at] == b'\\' && matches!(bytes.get(at + 1), Some(b'\n' | b'\r'));
    if !(0..bytes.len()).any(goes_on) {
        return Cow::Borrowed(bytes);
    }
    let mut out = bytes.to_vec();
    for at in (0..bytes.len()).filter(|&at| goes_on(at)) {
        let n = if bytes[at + 1..].starts_with(b"\r\n") { 3 } else { 2 };
        out[at..at + n].fill(b' ');
    }
    Cow::Owned(out)
}

impl Reader<'_> {
    fn line(&mut self, line: Line<'_>) -> Result<(), Fault> {
        let mut words = line.words();
        match words.next() {
            Some(b"v") => self.vertex(line),
            Some(b"vt") => {
                let [u] = line.numbers(&mut words, "vt u v")?;
                let v = words.next().and_then(number).unwrap_or(0.0);
                self.uvs.push([u as f32, v as f32]);
                Ok(())
            }
            Some(b"f" | b"fo") => self.face(line),
            Some(b"usemtl") => {
                self.material = self.material_row(after(line, 1));
                Ok(())
            }
            Some(b"mtllib") => {
                self.library(line);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn vertex(&mut self, line: Line<'_>) -> Result<(), Fault> {
        let mut words = line.words().skip(1);
        let xyz = line.numbers(&mut words, "v x y z, or v x y z red green blue")?;
        let mut rest = [0.0f32; 3];
        let n_rest = rest.iter_mut().zip(words.map_while(number)).map(|(out, value)| *out = value as f32).count();
        let has_colour = n_rest == 3;
        if self.vertices.n_seen() == 0 {
            let colour = has_colour.then_some(ColourScale::Unknown);
            self.vertices.begin(Layout { colour, is_f32: false, n_max: self.n_max });
        }
        // A vertex without a colour among others with one is white.
        self.vertices.push(xyz, if has_colour { rest } else { [1.0; 3] })
    }

    fn face(&mut self, line: Line<'_>) -> Result<(), Fault> {
        self.corners.clear();
        for word in line.words().skip(1) {
            let mut parts = word.split(|&byte| byte == b'/').map(|part| std::str::from_utf8(part).ok());
            let fault = || Fault::line(line.number, CORNER, word);
            let vertex: i64 = parts.next().flatten().and_then(|part| part.parse().ok()).ok_or_else(fault)?;
            let vertex = self.row(vertex, self.vertices.n_seen() as usize, "vertex")?;
            let uv = match parts.next().flatten() {
                None | Some("") => 0,
                // Row 0 stands for none, so rows are as the file counts them.
                Some(part) => {
                    let uv: i64 = part.parse().map_err(|_| fault())?;
                    self.row(uv, self.uvs.len() - 1, "texture coordinate")? + 1
                }
            };
            self.corners.push([vertex, uv]);
        }
        // Faces of one or two corners are lines that some exporters write so; a fan of them is empty.
        let material = self.material;
        let triangles = fan(&self.corners).map(|corners| Triangle {
            vertices: corners.map(|[vertex, _]| vertex),
            uvs: corners.map(|[_, uv]| uv),
            material,
        });
        self.triangles.extend(triangles);
        Ok(())
    }

    /// A number of the file as a row from 0: from 1 on, or from the end when negative. Rows that are not there yet may
    /// follow, so only [`Reader::check_rows`] can tell.
    fn row(&self, number: i64, count: usize, what: &'static str) -> Result<u32, Fault> {
        let row = if number > 0 { number.checked_sub(1) } else { number.checked_add(count as i64) };
        let row = row.filter(|_| number != 0).and_then(|row| u32::try_from(row).ok()).filter(|&row| row < u32::MAX);
        row.ok_or(Fault::Index { face: self.triangles.len() as u64, what, index: number, count })
    }

    /// Refuses faces that name what never came, in the numbers of the file.
    fn check_rows(&self) -> Result<(), Fault> {
        let (n_vertices, n_uvs) = (self.vertices.n_seen() as usize, self.uvs.len() - 1);
        for (face, triangle) in self.triangles.iter().enumerate() {
            let fault = |what, index, count| Fault::Index { face: face as u64, what, index, count };
            if let Some(&row) = triangle.vertices.iter().find(|&&row| row as usize >= n_vertices) {
                return Err(fault("vertex", i64::from(row) + 1, n_vertices));
            }
            if let Some(&row) = triangle.uvs.iter().find(|&&row| row as usize > n_uvs) {
                return Err(fault("texture coordinate", i64::from(row), n_uvs));
            }
        }
        Ok(())
    }

    fn material_row(&mut self, name: String) -> u32 {
        if let Some(&row) = self.rows.get(&name) {
            return row;
        }
        let row = match self.described.get(&name) {
            Some(described) => {
                let material = described.material(self.beside, &mut self.pictures, self.notes);
                self.materials.push(material);
                self.materials.len() as u32 - 1
            }
            None => {
                self.n_unknown += 1;
                0
            }
        };
        self.rows.insert(name, row);
        row
    }

    /// The rest of the line is a name, or else every word is.
    fn library(&mut self, line: Line<'_>) {
        let whole = after(line, 1);
        if !self.libraries.insert(whole.clone()) {
            return;
        }
        if self.is_library(&whole) {
            return;
        }
        for name in line.words().skip(1).map(|word| String::from_utf8_lossy(word).into_owned()) {
            if name != whole && !self.libraries.insert(name.clone()) {
                continue;
            }
            if !self.is_library(&name) {
                self.notes.push(Note::Missing { name });
            }
        }
    }

    /// Reads the materials of a file, unless it has been read; false when there is no such file.
    fn is_library(&mut self, name: &str) -> bool {
        let Ok(path) = self.beside.find(name) else { return false };
        if self.library_paths.contains(&path) {
            return true;
        }
        let Ok(bytes) = read_file(&path) else { return false };
        self.described.extend(mtl::parse(&bytes));
        self.library_paths.insert(path);
        true
    }
}
