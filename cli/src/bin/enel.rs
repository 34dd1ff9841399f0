//! `enel`: point clouds to text.

use clap::{Parser, Subcommand};
use enel_cli::enel::{bench, caption, chat, classify, conformance, data, doctor, generate, plot, store, train};
use std::process::ExitCode;

/// Describes point clouds in words.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  enel caption samples/chair.ply\n  enel data preview samples/chair.ply\n  \
    enel train samples/train/overfit.toml --out runs/overfit\n  enel model fetch smollm2\n  enel chat --model smollm2\n  enel doctor\n  \
    enel conformance fixtures --device cpu"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Caption(caption::CaptionArgs),
    Chat(chat::ChatArgs),
    Classify(classify::ClassifyArgs),
    Generate(generate::GenerateArgs),
    Data(data::DataArgs),
    Model(store::ModelCommandArgs),
    Train(train::TrainArgs),
    Plot(plot::PlotArgs),
    Bench(bench::BenchArgs),
    Conformance(conformance::ConformanceArgs),
    Doctor(doctor::DoctorArgs),
}

fn main() -> ExitCode {
    enel_cli::report(match Cli::parse().command {
        Command::Caption(args) => caption::caption(&args),
        Command::Chat(args) => chat::chat(&args),
        Command::Classify(args) => classify::classify(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Data(args) => data::data(&args),
        Command::Model(args) => store::model(&args),
        Command::Train(args) => train::train(&args),
        Command::Plot(args) => plot::plot(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Conformance(args) => conformance::conformance(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    })
}
