//! What does `enel` do? One file or folder per subcommand.
//!
//! What they share: `flags` (which model, how tokens are chosen), `cloud` (which cloud, how it is read), `model` and
//! `ready` (opened, compiled, bound), `engine` and `decode` (runs), `answer` (text out of tokens), `places`, `progress`,
//! `interrupt`.

pub mod answer;
pub mod batch;
pub mod bench;
pub mod caption;
pub mod chat;
pub mod classify;
pub mod cloud;
pub mod conformance;
pub mod data;
pub mod decode;
pub mod doctor;
pub mod engine;
pub mod flags;
pub mod generate;
pub mod interrupt;
pub mod model;
pub mod places;
pub mod plot;
pub mod progress;
pub mod ready;
pub mod store;
pub mod train;

/// Checks how a device is written, so that a typing error is bad usage and not a failure.
///
/// # Errors
/// What is expected.
pub fn device_name(text: &str) -> Result<String, String> {
    let (kind, number) = text.split_once(':').map_or((text, None), |(kind, number)| (kind, Some(number)));
    let is_number = number.is_none_or(|number| number.parse::<usize>().is_ok());
    let is_known = match kind {
        "cpu" | "cuda" => is_number,
        "auto" | "emulated" => number.is_none(),
        _ => false,
    };
    if is_known { Ok(text.to_owned()) } else { Err("expected auto, cpu, cpu:THREADS, emulated or cuda:N".to_owned()) }
}
