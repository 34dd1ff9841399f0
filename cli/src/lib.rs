//! What do the commands `enel` and `enel-compile` do? Reading arguments, calling the other rooms, saying what happened.
//!
//! Law: stdout is the result, stderr is talk; exit code 2 for bad usage, 1 for failure. Environment is read here only.

pub mod compile;
pub mod device;
pub mod enel;
pub mod out;
pub mod size;
pub mod source;
pub mod tensors;

/// A command line that makes no sense.
#[derive(Clone, Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The command did its work, and its result, already printed, is that something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Mistake;

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something is wrong, see above")
    }
}

impl std::error::Error for Mistake {}

/// Exit code of bad usage, as clap has it.
const BAD_USAGE: u8 = 2;

/// Turns the error of a command into a message and exit code 1, or 2 for [`Usage`]; a closed stdout is no error.
pub fn report(result: anyhow::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) if error.is::<out::Closed>() => std::process::ExitCode::SUCCESS,
        Err(error) if error.is::<Mistake>() => std::process::ExitCode::FAILURE,
        Err(error) if error.is::<Usage>() => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::from(BAD_USAGE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
