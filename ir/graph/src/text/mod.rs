//! How is a graph written in a file? One node a line; printing and parsing are inverse.
//!
//! Law: parsing what was printed gives an equal graph. `print` writes, `lex` and `parse` read, `attrs` pairs an op with
//! its `{key = value}` list in both directions.

mod attrs;
mod lex;
mod parse;
mod print;

pub use parse::{ParseError, parse};
