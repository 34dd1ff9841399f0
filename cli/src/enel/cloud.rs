//! Which cloud does a command take, and how is it turned and drawn? The same arguments everywhere.

use anyhow::Result;
use clap::{Args, ValueEnum};
use enel_io::{Axis, Cloud, LoadConfig, LoadReport};
use std::path::PathBuf;

/// A cloud or mesh; flatten it into a command's arguments.
///
/// There is no option for the unit: models see every cloud with its mean at the origin and its farthest point at 1.
#[derive(Clone, Debug, Args)]
pub struct CloudArgs {
    /// Points (.npy .npz .ply .pcd .xyz .txt .las) or a mesh (.obj .stl .off .glb .gltf .ply), sampled by area.
    #[arg(value_name = "CLOUD")]
    pub path: PathBuf,
    /// Axis that points up in the file; the cloud is turned so that y does. Without it axes stay as they are.
    #[arg(long, value_enum, value_name = "AXIS")]
    pub up: Option<UpArg>,
    /// Chooses the points drawn from a mesh, and those left of a cloud of millions.
    #[arg(long, value_name = "SEED", default_value = "0")]
    pub cloud_seed: u64,
}

/// How an axis is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // The variants are the axes.
pub enum UpArg {
    X,
    Y,
    Z,
}

impl CloudArgs {
    /// Reads the cloud, or draws `mesh_points` points from the mesh; tells on stderr what was done to it.
    ///
    /// # Errors
    /// Names the file, what was expected and what to do.
    pub fn load(&self, mesh_points: usize) -> Result<(Cloud, LoadReport)> {
        self.open(&LoadConfig { mesh_points, ..LoadConfig::default() })
    }

    /// As [`CloudArgs::load`], with bounds of one's own; axis and seed are those of the arguments.
    ///
    /// # Errors
    /// As [`CloudArgs::load`].
    pub fn open(&self, config: &LoadConfig) -> Result<(Cloud, LoadReport)> {
        let up = self.up.map(|up| match up {
            UpArg::X => Axis::X,
            UpArg::Y => Axis::Y,
            UpArg::Z => Axis::Z,
        });
        let (cloud, report) = Cloud::open(&self.path, &LoadConfig { up, seed: self.cloud_seed, ..*config })?;
        let path = self.path.display();
        if let Some(n_triangles) = report.n_triangles {
            eprintln!("{path}: {} points drawn from {n_triangles} triangles", cloud.xyz.len());
        }
        for note in &report.notes {
            eprintln!("{path}: {note}");
        }
        Ok((cloud, report))
    }
}
