//! What can be wrong inside a cloud or a mesh? One enum for all formats that need no more detail.

use std::path::PathBuf;

use crate::npy::NpyError;
use crate::ply::PlyError;

/// Longest word of a file that is shown.
const SHOWN_CHARS: usize = 40;

/// Why the bytes of a file give no cloud; [`crate::CloudError`] names the file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not a usable `.npy` array.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// Not a usable `.ply` file.
    #[error(transparent)]
    Ply(#[from] PlyError),
    /// Not a usable `.npz` archive.
    #[error("the .npz archive is broken; save it again with numpy.savez")]
    Zip(#[from] zip::result::ZipError),
    /// The JSON of a glTF file is broken.
    #[error("the glTF description is broken; export the file again")]
    Json(#[from] serde_json::Error),
    /// An array that is no list of points.
    #[error("its shape is {shape:?}, expected [points, 3] or [points, 6]: x, y, z and red, green, blue")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// An archive without an array of points, or with several.
    #[error(
        "the .npz file holds {found}; name the points `points` or `xyz`, and colours beside them `colors` or `rgb`"
    )]
    Arrays {
        /// Names and shapes of its arrays.
        found: String,
    },
    /// A line of text that breaks the format.
    #[error("line {line}: expected {expected}, found `{found}`")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What should be there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// The file ends too early.
    #[error("the file is cut: {what} needs {need_bytes} B, {have_bytes} B are left; copy or download it again")]
    Cut {
        /// What is not whole.
        what: &'static str,
        /// Bytes it takes.
        need_bytes: u64,
        /// Bytes that are there.
        have_bytes: u64,
    },
    /// A number or word of a header that cannot be.
    #[error("{field} is {found}, expected {expected}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Something the format allows and this crate does not read.
    #[error("{what} is unsupported; {advice}")]
    Unsupported {
        /// What.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A face that names a vertex the file does not have.
    #[error("face {face} names {what} {index}, there are {count}; export the mesh again")]
    Index {
        /// The face, from 0.
        face: u64,
        /// `vertex` or `texture coordinate`.
        what: &'static str,
        /// The number as the file has it.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// A file named inside this one cannot be read.
    #[error("cannot read {}, which the file refers to; put it there", path.display())]
    Beside {
        /// That file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No points and no surface.
    #[error("it holds no points; at least one is needed")]
    NoPoints,
    /// A coordinate or colour that is no number.
    #[error("point {index} has {channel} = {value}; remove such points first")]
    NotFinite {
        /// The point, from 0.
        index: u64,
        /// Which number of it.
        channel: &'static str,
        /// NaN or infinity.
        value: f64,
    },
    /// A colour outside any range in use.
    #[error("point {index} has {channel} = {value}, expected 0 to {full} throughout, or 0 to 1, or 0 to 255")]
    Colour {
        /// The point, from 0.
        index: u64,
        /// Which channel.
        channel: &'static str,
        /// Its value.
        value: f32,
        /// What the values of the file make a full channel.
        full: f32,
    },
    /// Triangles whose areas f32 coordinates cannot hold.
    #[error("the coordinates reach too far for an area to be computed; rescale the mesh")]
    Area,
    /// More would have to be built than the file's size justifies.
    #[error("the file repeats its meshes to more than {limit} {what}; export it with fewer copies")]
    Copies {
        /// `vertices` or `triangles`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Fault {
    /// A line fault that shows `found`, shortened.
    pub(crate) fn line(line: u64, expected: &'static str, found: &[u8]) -> Self {
        Self::Line { line, expected, found: shown(found) }
    }

    /// A fault of a header's field.
    pub(crate) fn field(field: &'static str, found: impl ToString, expected: &'static str) -> Self {
        Self::Field { field, found: found.to_string(), expected }
    }
}

/// The beginning of some bytes of a file, fit for a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_CHARS)]);
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}
