//! Which coloured points does a file hold? Clouds give theirs, meshes are sampled by area.
//!
//! Every coordinate and colour of a loaded cloud is finite, colours lie in 0 to 1, and there is at least one point.
//!
//! Colours: 8-bit and 16-bit unsigned channels of formats that have such are divided by 255 and 65535. All others have
//! no stated range: if every channel of the cloud is at most 1 (a hair above counts as 1) they are taken as they are,
//! else as 0 to 255. Nothing below 0 or above 255 is accepted.

use std::path::{Path, PathBuf};

use crate::beside::{Beside, read_file};
use crate::collect::{Collected, Collector, ColourScale, Layout};
use crate::fault::{Fault, shown};
use crate::kind::{Ending, FileKind, kind_of};
use crate::mesh::{Mesh, gltf, obj, off, sample, stl};
use crate::note::Note;
use crate::ply::Content;
use crate::{arrays, columns, las, pcd, ply};

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
    /// Neither the first bytes nor the name are of a known kind.
    #[error("{} is of no kind that is read ({advice}); expected one of {}", path.display(), Ending::list(Ending::ALL))]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// What it seems to be and what to do.
        advice: String,
    },
    /// The file is of a known kind and not usable.
    #[error("cannot use {} as .{kind}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Its format.
        kind: FileKind,
        /// Its fault.
        #[source]
        source: Fault,
    },
}

/// An axis of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The first coordinate.
    X,
    /// The second.
    Y,
    /// The third.
    Z,
}

/// How files become clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// The axis that points up in the file; the cloud is turned so that y does. `None` leaves axes as they are.
    pub up: Option<Axis>,
    /// Points drawn from a mesh.
    pub mesh_points: usize,
    /// More points than this are thinned, at random, while they are read.
    pub max_points: usize,
    /// Seed of drawing and thinning.
    pub seed: u64,
}

impl Default for LoadConfig {
    /// 8192 points of a mesh, as the paper's model takes; at most 2^22 points, 100 MB in memory.
    fn default() -> Self {
        Self { up: None, mesh_points: 8192, max_points: 1 << 22, seed: 0 }
    }
}

/// What a file held and what was done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// Its format.
    pub kind: FileKind,
    /// Points, or vertices of a mesh.
    pub n_vertices: u64,
    /// Triangles of a mesh, polygons counted as triangles.
    pub n_triangles: Option<usize>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

impl Cloud {
    /// Reads a cloud, or samples a mesh, as [`LoadConfig::default`] says.
    ///
    /// # Errors
    /// [`CloudError`], naming the file, what was expected and what to do.
    pub fn load(path: &Path) -> Result<Self, CloudError> {
        Self::open(path, &LoadConfig::default()).map(|(cloud, _)| cloud)
    }

    /// Reads a cloud, or samples a mesh; says what was done.
    ///
    /// # Errors
    /// As [`Cloud::load`].
    pub fn open(path: &Path, config: &LoadConfig) -> Result<(Self, LoadReport), CloudError> {
        let bytes = read_file(path).map_err(|source| CloudError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes, path, config)
    }

    /// Reads the bytes of a file; `path` is named in errors, and files a mesh refers to are looked for beside it.
    ///
    /// # Errors
    /// As [`Cloud::load`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CloudError> {
        Self::parse(bytes, path, &LoadConfig::default()).map(|(cloud, _)| cloud)
    }

    fn parse(bytes: &[u8], path: &Path, config: &LoadConfig) -> Result<(Self, LoadReport), CloudError> {
        let unknown = || CloudError::UnknownKind { path: path.to_owned(), advice: advice(bytes) };
        let kind = kind_of(bytes, path).ok_or_else(unknown)?;
        let broken = |source| CloudError::Broken { path: path.to_owned(), kind, source };
        let (mut cloud, report) = read(bytes, (kind, path), config).map_err(broken)?;
        turn(&mut cloud, config.up);
        Ok((cloud, report))
    }
}

/// Words for formats that are not read.
fn advice(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 8] = [
        (b"ASTM-E57", "an E57 scan: export it as .ply or .las"),
        (b"Kaydara FBX", "an FBX scene: export it as .glb"),
        (b"BLENDER", "a Blender file: export it as .glb"),
        (b"<?xml", "XML, perhaps COLLADA or X3D: export it as .glb or .obj"),
        (b"#VRML", "a VRML scene: export it as .glb or .obj"),
        (b"\x1f\x8b", "compressed by gzip: unpack it first"),
        (b"\x89HDF", "an HDF5 file: save its points with numpy.save"),
        (b"\x80", "perhaps pickled by Python: save its points with numpy.save"),
    ];
    match known.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        Some((_, text)) => (*text).to_owned(),
        None if bytes.is_empty() => "it is empty".to_owned(),
        None => format!("it begins with `{}`", shown(&bytes[..bytes.len().min(8)])),
    }
}

fn read(bytes: &[u8], (kind, path): (FileKind, &Path), config: &LoadConfig) -> Result<(Cloud, LoadReport), Fault> {
    let mut out = Collector::new(config.max_points, config.seed);
    let mut report = LoadReport { kind, n_vertices: 0, n_triangles: None, notes: Vec::new() };
    let notes = &mut report.notes;
    let beside = Beside::new(path);
    let mesh = match kind {
        FileKind::Npy => arrays::read_npy(bytes, &mut out).map(|()| None)?,
        FileKind::Npz => arrays::read_npz(bytes, &mut out).map(|()| None)?,
        FileKind::Las => las::read(bytes, &mut out).map(|()| None)?,
        FileKind::Pcd => {
            let n_points = pcd::read(bytes, &mut out)?;
            notes.extend((n_points > 0).then_some(Note::Holes { n_points }));
            None
        }
        FileKind::Columns => {
            let has_normals = columns::read(bytes, &mut out)?;
            notes.extend(has_normals.then_some(Note::Normals));
            None
        }
        FileKind::Ply => match ply::parse(bytes, &mut out)? {
            Content::Points => None,
            Content::Mesh(mesh) => Some(mesh),
        },
        FileKind::Obj => Some(obj::read(bytes, beside, notes)?),
        FileKind::Stl => Some(stl::read(bytes)?),
        FileKind::Off => Some(off::read(bytes)?),
        FileKind::Gltf => Some(gltf::read(bytes, beside, notes)?),
    };
    let cloud = match mesh {
        Some(mesh) => surface(mesh, config, &mut report)?,
        None => points(out, &mut report)?,
    };
    Ok((cloud, report))
}

fn points(out: Collector, report: &mut LoadReport) -> Result<Cloud, Fault> {
    let Collected { cloud, n_seen, origin } = out.finish()?;
    report.n_vertices = n_seen;
    let n_kept = cloud.xyz.len();
    report.notes.extend((n_seen > n_kept as u64).then_some(Note::Thinned { n_given: n_seen, n_kept }));
    report.notes.extend((origin != [0.0; 3]).then_some(Note::Moved { origin }));
    Ok(cloud)
}

fn surface(mesh: Mesh, config: &LoadConfig, report: &mut LoadReport) -> Result<Cloud, Fault> {
    report.n_triangles = Some(mesh.n_triangles());
    if let Some(cloud) = sample::sample(&mesh, config.mesh_points.max(1), config.seed)? {
        report.n_vertices = mesh.n_vertices() as u64;
        return Ok(cloud);
    }
    if mesh.n_triangles() > 0 {
        report.notes.push(Note::NoSurface);
    } else {
        report.n_triangles = None;
    }
    let Cloud { xyz, rgb } = mesh.into_vertices();
    let mut out = Collector::new(config.max_points, config.seed);
    let colour = rgb.is_some().then_some(ColourScale::Full(1.0));
    out.begin(Layout { colour, is_f32: true, n_max: xyz.len() });
    for (row, xyz) in xyz.iter().enumerate() {
        out.push(xyz.map(f64::from), rgb.as_ref().map_or([0.0; 3], |rgb| rgb[row]))?;
    }
    points(out, report)
}

/// Turns the axis that points up to y; handedness stays.
fn turn(cloud: &mut Cloud, up: Option<Axis>) {
    for point in &mut cloud.xyz {
        let [x, y, z] = *point;
        *point = match up {
            None | Some(Axis::Y) => [x, y, z],
            Some(Axis::Z) => [x, z, -y],
            Some(Axis::X) => [-y, x, z],
        };
    }
}
