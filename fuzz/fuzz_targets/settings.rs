//! Settings of a training run: what is refused is told, what is accepted is written into a checkpoint and read alike.

#![no_main]

use std::error::Error;
use std::path::Path;

use enel_fuzz::bounded;
use enel_train::config::Config;
use enel_train::steps::optimizer;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    bounded(input, || {
        let config = match Config::parse(text, Path::new("run.toml")) {
            Ok(config) => config,
            Err(fault) => return told(&fault),
        };
        let written = serde_json::to_vec(&config).expect("settings are JSON");
        assert_eq!(serde_json::from_slice::<Config>(&written).expect("settings that are written are read"), config);
        let (objective, optimizer) = (config.objective.objective(), optimizer(&config, 1000));
        assert!(objective.masked.is_none_or(|masked| masked.count(100) < 100));
        assert!(optimizer.rate > 0.0 && optimizer.rate.is_finite());
    });
});

/// A fault that names the file, down to its last cause.
fn told(fault: &dyn Error) {
    assert!(fault.to_string().contains("run.toml"), "{fault}");
    let causes = std::iter::successors(Some(fault), |&fault| fault.source());
    assert!(causes.map(|cause| cause.to_string()).all(|told| !told.is_empty()));
}
