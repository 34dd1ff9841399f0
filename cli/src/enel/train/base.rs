//! What is trained? The preset or folder the settings name, ready for the trainer.

use super::super::model::{Model, find_dir};
use anyhow::{Context, Result, bail};
use enel_model::{EnelConfig, Extent, PRESETS, SigmaMode};
use enel_text::chat::PointBlock;
use enel_train::config::ModelConfig;
use enel_train::{Base, Source};

/// Opens what `[model]` names.
///
/// # Errors
/// A name that is neither folder nor preset; a folder that cannot be used.
pub(super) fn open(config: &ModelConfig) -> Result<Base> {
    let Some(dir) = find_dir(&config.start) else { return drawn(config) };
    let model = Model::open(&config.start, config.points)?;
    let has_points = model.cloud.is_some();
    let (sizes, block) = match (model.cloud, &config.point) {
        (Some(cloud), None) => (cloud.config, cloud.block),
        (Some(_), Some(_)) => bail!("model.point is given, but {} has a token embedding of its own", dir.display()),
        (None, Some(name)) => {
            let point = preset(name, "model.point")?.point;
            (EnelConfig { point, llama: model.llama }, PointBlock::new(0))
        }
        (None, None) => bail!(
            "{} reads text alone; give it a token embedding by model.point = one of {}",
            dir.display(),
            PRESETS.join(", ")
        ),
    };
    let source = Source::Folder { path: dir, has_points };
    Ok(Base::new(sized(sizes, config), model.tokenizer, block, (model.max_positions, source))?)
}

fn drawn(config: &ModelConfig) -> Result<Base> {
    if let Some(point) = &config.point {
        bail!("model.point = \"{point}\" is for folders of text alone, `{}` is none", config.start);
    }
    let sizes = sized(preset(&config.start, "model.start")?, config);
    sizes.check()?;
    Ok(Base::drawn(sizes)?)
}

/// Spreads are those of each cloud, so that batch-mates do not matter; clouds have as many points as is said.
fn sized(mut sizes: EnelConfig, config: &ModelConfig) -> EnelConfig {
    sizes.point.sigma = SigmaMode::PerCloud;
    if let Some(points) = config.points {
        sizes.point.n_points = Extent::fixed(points);
    }
    sizes
}

fn preset(name: &str, key: &str) -> Result<EnelConfig> {
    let unknown = || format!("{key} = \"{name}\" is neither a model folder nor a preset ({})", PRESETS.join(", "));
    EnelConfig::preset(name).with_context(unknown)
}
