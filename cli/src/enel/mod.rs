//! What does `enel` do? One file or folder per subcommand; what they share is `cloud`, `engine`, `decode`,
//! `model`, `places`.

pub mod caption;
pub mod cloud;
pub mod conformance;
pub mod data;
pub mod decode;
pub mod doctor;
pub mod engine;
pub mod model;
pub mod places;

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
