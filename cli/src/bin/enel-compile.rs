//! `enel-compile`: compile, inspect and run graphs; no GPU needed.

use clap::{Parser, Subcommand};
use enel_cli::compile::{build, emulate, inspect, run, toolchain, verify};
use std::process::ExitCode;

/// Compiles tensor graphs to kernels and plans, and runs them.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Run(run::RunArgs),
    Verify(verify::VerifyArgs),
    Emulate(Box<emulate::EmulateArgs>),
    /// The CUDA compiler library: show what is found, or install it.
    #[command(subcommand)]
    Toolchain(toolchain::ToolchainCommand),
}

fn main() -> ExitCode {
    enel_cli::report(match Cli::parse().command {
        Command::Build(args) => build::build(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Run(args) => run::run(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Emulate(args) => emulate::emulate(&args),
        Command::Toolchain(command) => toolchain::toolchain(&command),
    })
}
