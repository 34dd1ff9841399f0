//! `enel`: point clouds to text.

use clap::{Parser, Subcommand};
use enel_cli::enel::{caption, conformance, data, doctor};
use std::process::ExitCode;

/// Describes point clouds in words.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  enel caption samples/chair.ply\n  enel data preview samples/chair.ply\n  enel doctor\n  \
    enel conformance fixtures --device cpu"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Caption(caption::CaptionArgs),
    Conformance(conformance::ConformanceArgs),
    Data(data::DataArgs),
    Doctor(doctor::DoctorArgs),
}

fn main() -> ExitCode {
    enel_cli::report(match Cli::parse().command {
        Command::Caption(args) => caption::caption(&args),
        Command::Conformance(args) => conformance::conformance(&args),
        Command::Data(args) => data::data(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    })
}
