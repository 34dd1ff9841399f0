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
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| {
        emulate::refuse(&words, &error);
        error.exit()
    });
    enel_cli::report(match cli.command {
        Command::Build(args) => build::build(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Run(args) => run::run(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Emulate(args) => emulate::emulate(&args),
        Command::Toolchain(command) => toolchain::toolchain(&command),
    })
}
