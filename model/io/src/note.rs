//! What was done to a file, or left out of it, that a user should know?

use std::fmt;

/// Something short of a fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A random choice of the points is left.
    Thinned {
        /// Points of the file.
        n_given: u64,
        /// Points left.
        n_kept: usize,
    },
    /// Points of an image without coordinates were left out.
    Holes {
        /// How many.
        n_points: u64,
    },
    /// Three columns with negative numbers were taken for normals.
    Normals,
    /// The points lie far from the origin and were moved to it.
    Moved {
        /// What was subtracted.
        origin: [f64; 3],
    },
    /// No face has an area, so the vertices stand for the surface.
    NoSurface,
    /// A file of materials or a texture that is not there.
    Missing {
        /// Its name in the file.
        name: String,
    },
    /// A texture that is neither PNG nor JPEG, is broken, or too large.
    Texture {
        /// Its name in the file.
        name: String,
    },
    /// Materials that faces name and no file describes.
    Materials {
        /// How many.
        n_materials: usize,
    },
    /// A figure with bones is taken as it stands in the file.
    Skin,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thinned { n_given, n_kept } => write!(f, "{n_kept} of {n_given} points are kept, chosen at random"),
            Self::Holes { n_points } => write!(f, "{n_points} points without coordinates are left out"),
            Self::Normals => write!(f, "the columns after x y z have negative numbers: taken for normals, left out"),
            Self::Moved { origin: [x, y, z] } => write!(f, "moved by -({x}, {y}, {z}), which is far from the origin"),
            Self::NoSurface => write!(f, "no face has an area: the vertices are taken as points"),
            Self::Missing { name } => write!(f, "`{name}` is not beside the mesh: its colours are missing"),
            Self::Texture { name } => write!(f, "texture `{name}` is no PNG or JPEG that can be read: left out"),
            Self::Materials { n_materials } => write!(f, "{n_materials} materials are not described: grey there"),
            Self::Skin => write!(f, "bones are ignored: the figure is taken as its vertices stand"),
        }
    }
}
