//! Is there a CUDA compiler library, and can it be had? No GPU is needed to compile.

use crate::outln;
use anyhow::{Context, Result};
use clap::Subcommand;
use enel_nvrtc::{InstallEvent, Search, Toolchain, install, locate};
use std::path::PathBuf;

/// What to do with the toolchain.
#[derive(Debug, Subcommand)]
pub enum ToolchainCommand {
    /// Says which compiler library is used and where it was looked for.
    Show,
    /// Downloads the pinned compiler library with pip into the user's data folder.
    Install,
}

/// Where the environment says to look.
pub fn search() -> Search {
    Search::from_env(|name: &str| std::env::var_os(name))
}

/// Runs the subcommand.
///
/// # Errors
/// Nothing found, or an installation that failed.
pub fn toolchain(command: &ToolchainCommand) -> Result<()> {
    match command {
        ToolchainCommand::Show => show(&locate(&search())?),
        ToolchainCommand::Install => {
            let folder: PathBuf = search().data_dir.context("neither XDG_DATA_HOME nor HOME is set")?;
            let found = install(&folder, &mut say)?;
            show(&found)
        }
    }
}

/// Tells the user what an installation is doing.
pub fn say(event: InstallEvent<'_>) {
    match event {
        InstallEvent::AlreadyThere(place) => eprintln!("already installed in {}", place.display()),
        InstallEvent::Fetching(packages) => {
            let total_mb: u32 = packages.iter().map(|package| package.download_mb).sum();
            eprintln!("fetching the CUDA compiler library, {total_mb} MB");
        }
        InstallEvent::Said(line) => eprintln!("  {line}"),
        InstallEvent::Placing(place) => eprintln!("placing it in {}", place.display()),
    }
}

fn show(toolchain: &Toolchain) -> Result<()> {
    let (major, minor) = toolchain.version();
    outln!(
        "NVRTC {major}.{minor}\n  library  {}\n  headers  {}",
        toolchain.nvrtc().display(),
        toolchain.include().display()
    )
}
