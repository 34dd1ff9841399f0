//! Which coloured points does a file hold?
//!
//! The kind of a file is told by its first bytes. Every coordinate and colour of a loaded cloud is finite, colours lie
//! in 0 to 1, and there is at least one point.
//!
//! Colours: 8-bit and 16-bit unsigned channels of `.ply` are divided by 255 and 65535. All others have no stated
//! range: if every channel of the cloud is at most 1 (a hair above counts as 1) they are taken as they are, else as 0
//! to 255. Nothing below 0 or above 255 is accepted.

use std::path::{Path, PathBuf};

use crate::npy::{NpyArray, NpyError};
use crate::ply::{self, PlyError};

/// Files beyond this are refused: 4 GiB hold 178 million points with colours.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Rounding of a writer may push a full channel this far above 1.
const COLOUR_SLACK: f32 = 1e-3;

/// Points, with colours if the file has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cloud {
    /// Positions, in the file's own unit and axes.
    pub xyz: Vec<[f32; 3]>,
    /// For each point red, green, blue from 0 to 1.
    pub rgb: Option<Vec<[f32; 3]>>,
}

/// Why a file gives no cloud.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any cloud should be.
    #[error("{} has {bytes} B, at most {limit_bytes} B are read; sub-sample it first", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The first bytes are of no known kind.
    #[error("{} is neither .npy nor .ply by its first bytes; convert it to one of these", path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
    /// Not a usable `.npy` file.
    #[error("cannot use {}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: NpyError,
    },
    /// Not a usable `.ply` file.
    #[error("cannot use {}", path.display())]
    Ply {
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: PlyError,
    },
    /// An array that is no list of points.
    #[error("{} has the shape {shape:?}, expected [points, 3] or [points, 6]: x, y, z and red, green, blue", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A cloud without points.
    #[error("{} holds no points; at least one is needed", path.display())]
    NoPoints {
        /// The file.
        path: PathBuf,
    },
    /// A coordinate or colour that is no number.
    #[error("point {index} of {} has {channel} = {value}; remove such points first", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The point, from 0.
        index: usize,
        /// Which number of it.
        channel: &'static str,
        /// NaN or infinity.
        value: f32,
    },
    /// A colour outside any range in use.
    #[error("point {index} of {} has {channel} = {value}, expected 0 to 1 or 0 to 255 throughout", path.display())]
    Colour {
        /// The file.
        path: PathBuf,
        /// The point, from 0.
        index: usize,
        /// Which channel.
        channel: &'static str,
        /// Its value.
        value: f32,
    },
}

/// Points as a reader found them, before checks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawCloud {
    pub(crate) xyz: Vec<[f32; 3]>,
    pub(crate) rgb: Option<Vec<[f32; 3]>>,
    pub(crate) scale: ColourScale,
}

/// What a full colour channel is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ColourScale {
    Full(f32),
    /// To be told from the values.
    Unknown,
}

impl Cloud {
    /// Reads a `.npy` or `.ply` file.
    ///
    /// # Errors
    /// [`CloudError`], naming the file, what was expected and what to do.
    pub fn load(path: &Path) -> Result<Self, CloudError> {
        let read = |source| CloudError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(CloudError::TooLarge { path: path.to_owned(), bytes, limit_bytes: MAX_FILE_BYTES });
        }
        Self::from_bytes(&std::fs::read(path).map_err(read)?, path)
    }

    /// Reads the bytes of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Cloud::load`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CloudError> {
        let raw = if bytes.starts_with(b"\x93NUMPY") {
            let array = NpyArray::parse(bytes).map_err(|source| CloudError::Npy { path: path.to_owned(), source })?;
            from_array(&array)
                .ok_or_else(|| CloudError::Shape { path: path.to_owned(), shape: array.shape().to_vec() })?
        } else if bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r") {
            ply::parse(bytes).map_err(|source| CloudError::Ply { path: path.to_owned(), source })?
        } else {
            return Err(CloudError::UnknownKind { path: path.to_owned() });
        };
        check(raw, path)
    }
}

/// `None` when the shape is not one of a cloud.
fn from_array(array: &NpyArray) -> Option<RawCloud> {
    let &[n_points, n_channels @ (3 | 6)] = array.shape() else { return None };
    let values = array.to_f32();
    let mut xyz = Vec::with_capacity(n_points);
    let mut rgb = Vec::with_capacity(if n_channels == 6 { n_points } else { 0 });
    for row in values.chunks_exact(n_channels) {
        xyz.push([row[0], row[1], row[2]]);
        if n_channels == 6 {
            rgb.push([row[3], row[4], row[5]]);
        }
    }
    Some(RawCloud { xyz, rgb: (n_channels == 6).then_some(rgb), scale: ColourScale::Unknown })
}

fn check(raw: RawCloud, path: &Path) -> Result<Cloud, CloudError> {
    let RawCloud { xyz, mut rgb, scale } = raw;
    let path = || path.to_owned();
    if xyz.is_empty() {
        return Err(CloudError::NoPoints { path: path() });
    }
    if let Some((index, channel, value)) = find(&xyz, ["x", "y", "z"], |value| !value.is_finite()) {
        return Err(CloudError::NotFinite { path: path(), index, channel, value });
    }
    if let Some(rgb) = &mut rgb {
        let names = ["red", "green", "blue"];
        if let Some((index, channel, value)) = find(rgb, names, |value| !value.is_finite()) {
            return Err(CloudError::NotFinite { path: path(), index, channel, value });
        }
        let full = match scale {
            ColourScale::Full(full) => full,
            ColourScale::Unknown if rgb.as_flattened().iter().all(|&value| value <= 1.0 + COLOUR_SLACK) => 1.0,
            ColourScale::Unknown => 255.0,
        };
        if let Some((index, channel, value)) =
            find(rgb, names, |value| value < 0.0 || value > full * (1.0 + COLOUR_SLACK))
        {
            return Err(CloudError::Colour { path: path(), index, channel, value });
        }
        rgb.as_flattened_mut().iter_mut().for_each(|value| *value = (*value / full).min(1.0));
    }
    Ok(Cloud { xyz, rgb })
}

/// The first number `is_wrong` says yes to: its point, its name, its value.
fn find(
    rows: &[[f32; 3]],
    names: [&'static str; 3],
    is_wrong: impl Fn(f32) -> bool,
) -> Option<(usize, &'static str, f32)> {
    let flat = rows.as_flattened();
    let at = flat.iter().position(|&value| is_wrong(value))?;
    Some((at / 3, names[at % 3], flat[at]))
}
