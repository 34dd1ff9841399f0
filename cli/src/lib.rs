//! What do the commands `enel` and `enel-compile` do? Reading arguments, calling the other rooms, saying what happened.
//!
//! Law: stdout is the result, stderr is talk; exit code 2 for bad usage, 1 for failure. Environment is read here only.

pub mod compile;
pub mod device;
pub mod enel;
pub mod out;
pub mod source;
pub mod tensors;

/// Runs a command and turns its error into a message and exit code 1; a closed stdout is no error.
pub fn report(result: anyhow::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) if error.is::<out::Closed>() => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
