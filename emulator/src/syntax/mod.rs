//! What is written in a PTX text: tokens, then a syntax tree. Nothing is resolved here; see `decode`.

pub(crate) mod ast;
pub(crate) mod lexer;
pub(crate) mod parser;
