//! Which format is a file in? Its first bytes tell, or its name where a format has no mark.
//!
//! Law: [`Ending::ALL`] is the one list of what is read; messages, helps and searches of folders are made of it.

use std::fmt;
use std::path::Path;

use crate::mesh::{gltf, off, stl};

/// Bytes looked at for marks.
const N_PROBED: usize = 512;

/// A format this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// NumPy array.
    Npy,
    /// Archive of NumPy arrays.
    Npz,
    /// Polygon File Format: points or a mesh.
    Ply,
    /// Point Cloud Library.
    Pcd,
    /// A line of numbers for each point.
    Columns,
    /// Laser scans.
    Las,
    /// Wavefront.
    Obj,
    /// Stereolithography.
    Stl,
    /// Object File Format.
    Off,
    /// GL Transmission Format, text or binary.
    Gltf,
}

/// How files of a format are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What follows the last dot, in small letters.
    pub text: &'static str,
    /// The format.
    pub kind: FileKind,
    /// What the name alone tells.
    pub tells: Tells,
}

/// What a file's name tells of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Nothing: the format has a mark, without which a file is not of it.
    Nothing,
    /// The format.
    Format,
    /// The format of a file that is given as a cloud; notes and tables are called so too.
    FormatOfClouds,
}

impl Ending {
    /// All that are read; the first of a format names it.
    pub const ALL: [Ending; 16] = [
        Ending::new("npy", FileKind::Npy, Tells::Nothing),
        Ending::new("npz", FileKind::Npz, Tells::Nothing),
        Ending::new("ply", FileKind::Ply, Tells::Nothing),
        Ending::new("pcd", FileKind::Pcd, Tells::Format),
        Ending::new("xyz", FileKind::Columns, Tells::Format),
        Ending::new("xyzrgb", FileKind::Columns, Tells::Format),
        Ending::new("pts", FileKind::Columns, Tells::Format),
        Ending::new("asc", FileKind::Columns, Tells::FormatOfClouds),
        Ending::new("txt", FileKind::Columns, Tells::FormatOfClouds),
        Ending::new("csv", FileKind::Columns, Tells::FormatOfClouds),
        Ending::new("las", FileKind::Las, Tells::Nothing),
        Ending::new("obj", FileKind::Obj, Tells::Format),
        Ending::new("stl", FileKind::Stl, Tells::Format),
        Ending::new("off", FileKind::Off, Tells::Format),
        Ending::new("gltf", FileKind::Gltf, Tells::Format),
        Ending::new("glb", FileKind::Gltf, Tells::Nothing),
    ];

    const fn new(text: &'static str, kind: FileKind, tells: Tells) -> Ending {
        Ending { text, kind, tells }
    }

    /// That of a file, in whatever letters; `None` when none of these.
    pub fn of(path: &Path) -> Option<Ending> {
        let found = path.extension()?.to_str()?;
        Ending::ALL.into_iter().find(|ending| ending.text.eq_ignore_ascii_case(found))
    }

    /// The ending, without its dot.
    pub fn text(self) -> &'static str {
        self.text
    }

    /// True when files of a folder that are called so are clouds or meshes; false where notes are called so too.
    pub fn is_distinct(self) -> bool {
        self.tells != Tells::FormatOfClouds
    }

    /// These endings as a user reads them: `.npy .npz`.
    pub fn list(endings: impl IntoIterator<Item = Ending>) -> String {
        endings.into_iter().map(|ending| format!(".{}", ending.text)).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Ending::ALL.iter().find(|ending| ending.kind == *self);
        f.write_str(first.expect("every format has an ending, a test holds").text)
    }
}

/// The format of `bytes`, called `path`; `None` when neither tells.
pub(crate) fn kind_of(bytes: &[u8], path: &Path) -> Option<FileKind> {
    let marks: [(&[u8], FileKind); 9] = [
        (b"\x93NUMPY", FileKind::Npy),
        (b"PK\x03\x04", FileKind::Npz),
        (b"PK\x05\x06", FileKind::Npz),
        (b"ply\n", FileKind::Ply),
        (b"ply\r", FileKind::Ply),
        (b"# .PCD", FileKind::Pcd),
        (b"VERSION", FileKind::Pcd),
        (crate::las::MAGIC, FileKind::Las),
        (gltf::MAGIC, FileKind::Gltf),
    ];
    if let Some((_, kind)) = marks.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return Some(*kind);
    }
    let head = &bytes[..bytes.len().min(N_PROBED)];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let named = Ending::of(path).filter(|ending| ending.tells != Tells::Nothing).map(|ending| ending.kind);
    if stl::is_binary(bytes) && named != Some(FileKind::Obj) {
        return Some(FileKind::Stl);
    }
    if named.is_some() {
        return named;
    }
    let is_facets = text.starts_with(b"solid") && head.windows(5).any(|window| window == b"facet");
    match () {
        () if is_facets => Some(FileKind::Stl),
        () if off::is_keyword(text) => Some(FileKind::Off),
        () if text.starts_with(b"{") && head.windows(7).any(|window| window == b"\"asset\"") => Some(FileKind::Gltf),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_an_ending_and_no_ending_two() {
        use FileKind::{Columns, Gltf, Las, Npy, Npz, Obj, Off, Pcd, Ply, Stl};
        let names = [Npy, Npz, Ply, Pcd, Columns, Las, Obj, Stl, Off, Gltf].map(|kind| kind.to_string());
        assert_eq!(names, ["npy", "npz", "ply", "pcd", "xyz", "las", "obj", "stl", "off", "gltf"]);
        for ending in Ending::ALL {
            assert_eq!(Ending::of(Path::new(&format!("a.b.{}", ending.text.to_uppercase()))), Some(ending));
        }
        assert_eq!(Ending::of(Path::new("npy")), None);
    }
}
