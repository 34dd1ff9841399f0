//! What is in a user's clouds and meshes? Looking at them, drawing them, converting them.

pub mod convert;
pub mod draw;
pub mod groups;
pub mod info;
pub mod page;
pub mod preview;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Looks at clouds and meshes, and converts them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    enel data info scan.las\n  \
    enel data preview samples/chair.ply -o chair\n  \
    enel data convert model.glb --points 16384 -o model.ply")]
pub struct DataArgs {
    /// What is wanted.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// The subcommands of `enel data`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)] // Each is documented at its arguments.
pub enum DataCommand {
    Info(info::InfoArgs),
    Preview(preview::PreviewArgs),
    Convert(convert::ConvertArgs),
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used or written.
pub fn data(args: &DataArgs) -> Result<()> {
    match &args.command {
        DataCommand::Info(args) => info::info(args),
        DataCommand::Preview(args) => preview::preview(args),
        DataCommand::Convert(args) => convert::convert(args),
    }
}
