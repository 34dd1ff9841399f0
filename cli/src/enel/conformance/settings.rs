//! Which model was a case made with? Sizes from its description, the rest from its weights and the released defaults.

use super::files::{Case, Description, Tensors};
use anyhow::{Context, Result, bail};
use enel_model::{EnelConfig, Extent, LlamaConfig, PointConfig, SigmaMode, Vocabulary};

/// The token embedding of a case whose clouds are `[B, points, channels]`.
///
/// # Errors
/// Names the file and the key that is missing, or the shape that is no batch of clouds.
pub fn point(json: &Description, clouds: &[usize]) -> Result<PointConfig> {
    let &[_, n_points, point_dims] = clouds else {
        bail!("{}: the clouds have the shape {clouds:?}, expected [clouds, points, channels]", json.path.display());
    };
    let paper = PointConfig::paper();
    let config = PointConfig {
        n_points: Extent::fixed(n_points),
        point_dims,
        input_points: json.count("input_points")?,
        embed_dim: json.count("embed_dim")?,
        group_size: json.count("group_size")?,
        num_stages: json.count_if("num_stages")?.unwrap_or(paper.num_stages),
        // The golden values are those of the released code, which takes spreads over the batch.
        sigma: SigmaMode::Batch,
        ..paper
    };
    config.check().with_context(|| json.path.display().to_string())?;
    Ok(config)
}

/// The decoder of a case.
///
/// # Errors
/// Names the file and the key that is missing.
pub fn llama(json: &Description, weights: &Tensors, prefix: &str) -> Result<LlamaConfig> {
    let defaults = LlamaConfig::vicuna_7b();
    let heads = json.count("num_heads")?;
    let kv_heads = match json.count_if("num_kv_heads")? {
        Some(heads) => Some(heads),
        None => json.count_if("num_key_value_heads")?,
    };
    let config = LlamaConfig {
        hidden_size: json.count("hidden_size")?,
        intermediate_size: json.count("intermediate_size")?,
        num_hidden_layers: json.count("num_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads.unwrap_or(heads),
        rms_norm_eps: json.number_or("rms_norm_eps", defaults.rms_norm_eps)?,
        rope_theta: json.number_or("rope_theta", defaults.rope_theta)?,
        vocab_size: json.count("vocab_size")?,
        tie_word_embeddings: !weights.contains_key(&format!("{prefix}lm_head.weight")),
    };
    config.check().with_context(|| json.path.display().to_string())?;
    Ok(config)
}

/// A whole model and its vocabulary, whose marks the description of the weights states.
///
/// # Errors
/// As [`point`] and [`llama`]; a number of point tokens that is not the model's.
pub fn whole(case: &Case, clouds: &[usize], weights: &Tensors, prefix: &str) -> Result<(EnelConfig, Vocabulary)> {
    let mut point = point(&case.json, clouds)?;
    point.projection_hidden_dim = case.json.counts("projection_hidden_dim")?;
    let llama = llama(&case.json, weights, prefix)?;
    let about = Description::read(&case.weights()?.0.with_extension("json"))?;
    let id = |key: &str| -> Result<i32> {
        let id = about.count(key)?;
        i32::try_from(id).with_context(|| format!("{}: `{key}` is {id}, which is no token", about.path.display()))
    };
    let has_frame = about.get("point_token_ids.start").is_some();
    let frame = if has_frame { Some((id("point_token_ids.start")?, id("point_token_ids.end")?)) } else { None };
    let vocabulary = Vocabulary {
        size: llama.vocab_size,
        patch: id("point_token_ids.patch")?,
        frame,
        tokens_per_cloud: about.count("point_token_len")?,
    };
    if vocabulary.tokens_per_cloud != point.tokens_per_cloud() {
        let (stated, made) = (vocabulary.tokens_per_cloud, point.tokens_per_cloud());
        bail!("{}: `point_token_len` is {stated}, the model makes {made} tokens of a cloud", about.path.display());
    }
    let config = EnelConfig { point, llama };
    config.check().with_context(|| case.json.path.display().to_string())?;
    Ok((config, vocabulary))
}
