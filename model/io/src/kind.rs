//! Which format is a file in? Its first bytes tell, or its name where a format has no mark.

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
    /// A line of numbers for each point: `.xyz`, `.txt`, `.csv`, `.pts`.
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

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Ply => "ply",
            Self::Pcd => "pcd",
            Self::Columns => "xyz",
            Self::Las => "las",
            Self::Obj => "obj",
            Self::Stl => "stl",
            Self::Off => "off",
            Self::Gltf => "gltf",
        })
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
    let extension = path.extension().and_then(|ext| ext.to_str()).unwrap_or_default().to_ascii_lowercase();
    if stl::is_binary(bytes) && extension != "obj" {
        return Some(FileKind::Stl);
    }
    match extension.as_str() {
        "obj" => return Some(FileKind::Obj),
        "stl" => return Some(FileKind::Stl),
        "off" => return Some(FileKind::Off),
        "gltf" => return Some(FileKind::Gltf),
        "pcd" => return Some(FileKind::Pcd),
        "xyz" | "txt" | "csv" | "pts" | "asc" | "xyzrgb" => return Some(FileKind::Columns),
        _ => {}
    }
    let is_facets = text.starts_with(b"solid") && head.windows(5).any(|window| window == b"facet");
    match () {
        () if is_facets => Some(FileKind::Stl),
        () if off::is_keyword(text) => Some(FileKind::Off),
        () if text.starts_with(b"{") && head.windows(7).any(|window| window == b"\"asset\"") => Some(FileKind::Gltf),
        () => None,
    }
}
