//! Which flags do the commands that ask a model share? One group for the model, one for how tokens are chosen.

use super::model::Model;
use crate::compile::ModeArg;
use anyhow::{Result, bail};
use clap::Args;
use enel_text::sample::{Sampler, SamplingConfig};
use serde_json::{Value, json};

/// Which model, and where it runs.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// A model folder (config.json, tokenizer, weights), a fetched model (see: enel model list), or a preset.
    #[arg(long, value_name = "DIR|NAME", default_value = "tiny")]
    pub model: String,
    /// auto, cpu, emulated or cuda:N.
    #[arg(long, default_value = "auto", value_parser = super::device_name)]
    pub device: String,
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "f32")]
    pub mode: ModeArg,
}

/// How the next token is chosen, and how many.
#[derive(Clone, Debug, Args)]
pub struct AnswerArgs {
    /// Longest answer, in tokens.
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_new_tokens: u32,
    /// Scores are divided by it; 0 takes the best token.
    #[arg(long, default_value = "1", value_parser = temperature)]
    pub temperature: f32,
    /// Only this many of the best tokens are left; 0 leaves all.
    #[arg(long, value_name = "N", default_value = "50")]
    pub top_k: usize,
    /// Only the best tokens are left whose shares reach this sum.
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = share)]
    pub top_p: f32,
    /// Chooses the random numbers: same seed, same text.
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Always take the best token.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "seed"])]
    pub greedy: bool,
}

impl AnswerArgs {
    /// A sampler at its first token.
    ///
    /// # Errors
    /// Settings outside their range.
    pub fn sampler(&self) -> Result<Sampler> {
        let AnswerArgs { max_new_tokens: _, temperature, top_k, top_p, seed, greedy } = *self;
        let sampled = SamplingConfig { temperature, top_k, top_p, seed, ..SamplingConfig::default() };
        Ok(Sampler::new(if greedy { SamplingConfig::default() } else { sampled })?)
    }

    /// Tokens an answer may have after a prompt of `n_prompt` tokens: what was asked for, or what the model has left.
    ///
    /// # Errors
    /// A prompt that fills the model.
    pub fn room_after(&self, n_prompt: usize, model: &Model) -> Result<usize> {
        match model.max_positions.saturating_sub(n_prompt) {
            0 => bail!("the prompt has {n_prompt} tokens, the model was made for {}", model.max_positions),
            room => Ok(room.min(self.max_new_tokens as usize)),
        }
    }

    /// What decides the text, for those who must not mix answers of different settings.
    pub fn as_json(&self) -> Value {
        let AnswerArgs { max_new_tokens, temperature, top_k, top_p, seed, greedy } = self;
        if *greedy {
            return json!({ "greedy": true, "max_new_tokens": max_new_tokens });
        }
        json!({
            "temperature": as_written(*temperature), "top_k": top_k, "top_p": as_written(*top_p), "seed": seed,
            "max_new_tokens": max_new_tokens,
        })
    }
}

/// The f64 that prints as this f32 does: 0.95 and not 0.949999988079071.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |value| value >= 0.0, "a number of at least 0")
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "more than 0 and at most 1")
}

fn number(text: &str, is_allowed: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|value| value.is_finite() && is_allowed(*value));
    value.ok_or_else(|| format!("expected {expected}"))
}
