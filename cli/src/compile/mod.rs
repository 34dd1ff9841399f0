//! What does `enel-compile` do? One file per subcommand.

pub mod build;
pub mod counters;
pub mod emulate;
pub mod inspect;
pub mod run;
pub mod toolchain;
pub mod verify;

use clap::{Args, ValueEnum};
use enel_lower::FrontConfig;
use enel_passes::{Memory, Mode, Passes, REWRITES};
use enel_train::config::ModeConfig;

/// Numeric mode on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Storage and sums in f32.
    F32,
    /// Storage in bf16, sums in f32, tensor cores.
    Bf16,
}

impl From<ModeArg> for Mode {
    fn from(arg: ModeArg) -> Mode {
        match arg {
            ModeArg::F32 => Mode::F32,
            ModeArg::Bf16 => Mode::Bf16,
        }
    }
}

impl From<ModeArg> for ModeConfig {
    fn from(arg: ModeArg) -> ModeConfig {
        match arg {
            ModeArg::F32 => ModeConfig::F32,
            ModeArg::Bf16 => ModeConfig::Bf16,
        }
    }
}

/// Which passes run, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PassesArg {
    /// Expand composites only; no rewrites, no fusion.
    None,
    /// Everything.
    All,
}

/// How graphs are compiled.
#[derive(Clone, Debug, Args)]
pub struct FrontArgs {
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "f32")]
    pub mode: ModeArg,
    /// Which passes run.
    #[arg(long, value_enum, default_value = "all")]
    pub passes: PassesArg,
    /// Rewrites to leave out, by name (see `inspect --rewrites`).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub without: Vec<String>,
    /// What temporaries may take together at the largest sizes, such as 20G, in units of a thousand: values that wait long and cost little are
    /// computed twice until they fit.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::bytes)]
    pub memory: Option<u64>,
}

impl FrontArgs {
    /// The compiler's configuration.
    ///
    /// # Errors
    /// A name in `--without` that is no rewrite.
    pub fn config(&self) -> anyhow::Result<FrontConfig> {
        for name in &self.without {
            if !REWRITES.iter().any(|r| r.name == name) {
                let known: Vec<&str> = REWRITES.iter().map(|r| r.name).collect();
                anyhow::bail!("`{name}` is no rewrite; there are: {}", known.join(", "));
            }
        }
        let passes = match self.passes {
            PassesArg::None => Passes::None,
            PassesArg::All => Passes::AllBut(self.without.clone()),
        };
        let memory = self.memory.map(|bytes| Memory { bytes });
        Ok(FrontConfig { mode: self.mode.into(), passes, memory })
    }
}
