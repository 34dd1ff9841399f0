//! What do trainers of tests learn from? A few drawn objects, written as a user would have them.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_io::SplitMix64;
use enel_io::npy::{NpyArray, NpyData};
use enel_model::{EnelConfig, Extent, SigmaMode};
use enel_train::steps::open_cpu;
use enel_train::{Base, Config, TrainError, Trainer};
use std::path::Path;

/// Points of a cloud.
pub const POINTS: usize = 256;

/// The smallest model all of whose parts are there.
pub fn base() -> Base {
    let mut config = EnelConfig::tiny();
    config.point.sigma = SigmaMode::PerCloud;
    config.point.n_points = Extent::fixed(POINTS);
    config.llama.num_hidden_layers = 2;
    Base::drawn(config).unwrap()
}

/// A folder with `n` objects, `o0`, `o1`, ..: clouds and `captions.json`.
pub fn objects(n: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    for object in 0..n {
        let mut random = SplitMix64::new(object as u64);
        let mut unit = || random.unit() as f32;
        let shape = [1.0, 0.2 + unit(), 0.2 + unit()];
        let colour = [unit(), unit(), unit()];
        let values =
            (0..POINTS).flat_map(|_| shape.map(|s| s * (unit() - 0.5)).into_iter().chain(colour).collect::<Vec<_>>());
        let array = NpyArray::new(vec![POINTS, 6], NpyData::F32(values.collect())).unwrap();
        array.write(&dir.path().join(format!("o{object}.npy"))).unwrap();
        let answer = format!("Object {object}{}.", ", and more of it".repeat(object % 3));
        entries.push(format!(
            "{{\"object_id\": \"o{object}\", \"conversations\": [{{\"from\": \"human\", \"value\": \"<point>\\nWhat?\"}}, \
             {{\"from\": \"gpt\", \"value\": \"{answer}\"}}]}}"
        ));
    }
    std::fs::write(dir.path().join("captions.json"), format!("[{}]", entries.join(", "))).unwrap();
    dir
}

/// Settings over such a folder, with more tables after them.
pub fn config(dir: &Path, more: &str) -> Config {
    let text = format!("[model]\nstart = \"tiny\"\n[data]\nannotations = \"captions.json\"\nclouds = \".\"\n{more}");
    Config::parse(&text, &dir.join("run.toml")).unwrap()
}

/// A trainer on the processor.
pub fn trainer(config: Config) -> Result<Trainer, TrainError> {
    Trainer::new(base(), config, &mut |graphs, front| open_cpu("cpu", graphs, front))
}

/// All values of a state.
pub fn state(trainer: &mut Trainer, name: &str) -> Vec<f32> {
    trainer.session().state(name).unwrap().read().unwrap().to_f32().unwrap()
}

/// Names of the states that begin so.
pub fn states(trainer: &mut Trainer, begin: &str) -> Vec<String> {
    trainer.session().state_names().into_iter().filter(|name| name.starts_with(begin)).collect()
}
