//! How does a result reach stdout when the reader may leave early?
//!
//! Law: a closed pipe ends the command quietly: writing fails with [`Closed`], and [`crate::report`] says nothing of it.

use std::io::{ErrorKind, Write};

/// Whoever read stdout is gone; nothing is left to be told.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes a line of the result; use as `outln!("{x}")?`.
#[macro_export]
macro_rules! outln {
    ($($part:tt)*) => { $crate::out::line(::std::format_args!($($part)*)) };
}

/// Writes a line to stdout.
///
/// # Errors
/// [`Closed`] when the reader left, else what the system says.
pub fn line(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    told(writeln!(std::io::stdout().lock(), "{text}"))
}

/// Writes a part of a line to stdout and shows it at once.
///
/// # Errors
/// As [`line`].
pub fn part(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    told(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Writes a value to stdout as JSON, indented.
///
/// # Errors
/// As [`line`].
pub fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(format_args!("{value:#}"))
}

fn told(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
    }
}
