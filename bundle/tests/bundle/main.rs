//! The contract as others see it: files, checks, memory plans and text.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

mod arena;
mod check;
mod file;
mod sample;
mod show;
