//! What does training minimise? Cross-entropy and self-supervised terms, each with a weight and its switches.
//!
//! Law: plain data; the released hybrid loss is [`Objective::hybrid_feature`], everything else departs from it by name.
//! **Source** arXiv 2502.09620 v4, section 3.2 and appendix A.3, with the released code's values where both differ.

use crate::config::{ConfigError, EnelConfig};
use serde::{Deserialize, Serialize};

/// What a token says of its patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Where the neighbours of its centre are: l2-Chamfer.
    Patch,
    /// Its projected token: mean squared error.
    Feature,
}

/// Whether a target learns too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetGradient {
    /// It does, as in the released code; a projector may then make its own targets trivial.
    Flows,
    /// It does not.
    Stops,
}

/// Which hidden states a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tap {
    /// Those after the last norm.
    Last,
    /// Those the first n layers give, without a norm; n from 1.
    Layer(usize),
}

/// Where point tokens learn where they are: two linear layers over a centre's coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionCode {
    /// Nowhere but in the token.
    None,
    /// Added once, before the first layer.
    Input,
    /// Added before every layer.
    EveryLayer,
}

/// A head over point tokens and what it is to say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// What is predicted.
    pub target: Target,
    /// Factor on the term.
    pub weight: f64,
    /// Whether a feature that is predicted learns from it.
    pub target_gradient: TargetGradient,
    /// Which hidden states are read.
    pub tap: Tap,
}

impl Prediction {
    /// As the released code has it: weight 1, targets learn, states after the last norm.
    pub const fn of(target: Target) -> Prediction {
        Prediction { target, weight: 1.0, target_gradient: TargetGradient::Flows, tap: Tap::Last }
    }
}

/// Masked modelling: a part of the point tokens is replaced, by one learned token, and predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Masked {
    /// Part of a cloud's tokens that is replaced, above 0 and below 1.
    pub ratio: f64,
    /// What is predicted of them.
    pub prediction: Prediction,
}

impl Masked {
    /// How many of `n` tokens are replaced: rounded down, as the released code does.
    pub fn count(&self, n: usize) -> usize {
        (self.ratio * n as f64) as usize
    }
}

/// Contrast between two views of a cloud: the second half of the clouds of a call shows the first half again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Factor on the term.
    pub weight: f64,
    /// What similarities are divided by. **Source** 0.07 is PointContrast's, arXiv 2007.10985; the paper states none.
    pub temperature: f64,
    /// Which hidden states are read.
    pub tap: Tap,
}

/// Likeness to a teacher's tokens, given with every call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Factor on the term.
    pub weight: f64,
    /// Width of the teacher's tokens.
    pub width: usize,
    /// Which hidden states are read.
    pub tap: Tap,
}

/// The loss: a weighted sum of terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Factor on cross-entropy.
    pub cross_entropy: f64,
    /// Masked modelling.
    pub masked: Option<Masked>,
    /// Prediction of the tokens that are seen.
    pub reconstruction: Option<Prediction>,
    /// Contrast between views.
    pub contrast: Option<Contrast>,
    /// Distillation.
    pub distillation: Option<Distillation>,
    /// Where point tokens learn where they are.
    pub position_code: PositionCode,
}

impl Objective {
    /// Cross-entropy alone: the second stage.
    pub const fn cross_entropy() -> Objective {
        Objective {
            cross_entropy: 1.0,
            masked: None,
            reconstruction: None,
            contrast: None,
            distillation: None,
            position_code: PositionCode::None,
        }
    }

    /// Refuses what no graph can be built from.
    ///
    /// # Errors
    /// [`ConfigError::Ratio`], [`ConfigError::Layer`], [`ConfigError::Number`].
    pub fn check(&self, config: &EnelConfig) -> Result<(), ConfigError> {
        let n = config.point.tokens_per_cloud() - usize::from(config.point.class_token);
        if let Some(masked) = &self.masked
            && !(1..n).contains(&masked.count(n))
        {
            return Err(ConfigError::Ratio { value: masked.ratio.to_string(), tokens: n });
        }
        let predictions = [self.masked.map(|m| m.prediction), self.reconstruction].into_iter().flatten();
        let views = self.contrast.map(|c| c.tap);
        let taps = predictions.map(|p| p.tap).chain(views).chain(self.distillation.map(|d| d.tap));
        for tap in taps {
            let (Tap::Layer(layer), n) = (tap, config.llama.num_hidden_layers) else { continue };
            if !(1..=n).contains(&layer) {
                return Err(ConfigError::Layer { layer, layers: n });
            }
        }
        match self.contrast {
            Some(c) if !(c.temperature.is_finite() && c.temperature > 0.0) => {
                Err(ConfigError::Number { field: "objective.contrast.temperature", value: c.temperature.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The hybrid semantic loss: features of masked tokens, patches of seen ones.
    pub const fn hybrid_feature(ratio: f64) -> Objective {
        let masked = Masked { ratio, prediction: Prediction::of(Target::Feature) };
        let reconstruction = Some(Prediction::of(Target::Patch));
        Objective { masked: Some(masked), reconstruction, ..Objective::cross_entropy() }
    }

    /// Its inverse: patches of masked tokens, features of seen ones.
    pub const fn hybrid_patch(ratio: f64) -> Objective {
        let masked = Masked { ratio, prediction: Prediction::of(Target::Patch) };
        let reconstruction = Some(Prediction::of(Target::Feature));
        Objective { masked: Some(masked), reconstruction, ..Objective::cross_entropy() }
    }
}
