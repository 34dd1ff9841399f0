//! How does a file say what is minimised? The terms of the loss with the paper's values where nothing is said.

use enel_model::train::{
    Contrast, Distillation, Masked, Objective, PositionCode, Prediction, Tap, Target, TargetGradient,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The loss: a weighted sum of terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// Factor on cross-entropy.
    pub cross_entropy: f64,
    /// Where point tokens learn where they are: `none`, `input` or `every_layer`.
    pub position_code: PositionCode,
    /// Masked modelling.
    pub masked: Option<MaskedConfig>,
    /// Prediction of the tokens that are seen.
    pub reconstruction: Option<PredictionConfig>,
    /// Contrast between views.
    pub contrast: Option<ViewsConfig>,
    /// Likeness to a teacher.
    pub distillation: Option<TeacherConfig>,
}

/// Masked modelling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedConfig {
    /// Part of a cloud's tokens that is masked.
    pub ratio: f64,
    /// What is predicted: `feature` or `patch`.
    pub target: Target,
    /// Factor on the term.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether features that are predicted learn too: `flows`, as released, or `stops`.
    #[serde(default = "flows")]
    pub target_gradient: TargetGradient,
    /// Hidden states that are read: `last`, or `{ layer = N }`.
    #[serde(default = "last")]
    pub tap: Tap,
}

/// Prediction of seen tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionConfig {
    /// What is predicted: `feature` or `patch`.
    pub target: Target,
    /// Factor on the term.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether features that are predicted learn too.
    #[serde(default = "flows")]
    pub target_gradient: TargetGradient,
    /// Hidden states that are read.
    #[serde(default = "last")]
    pub tap: Tap,
}

/// Contrast between two views of each cloud, turned about y and moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsConfig {
    /// Factor on the term.
    #[serde(default = "one")]
    pub weight: f64,
    /// What similarities are divided by.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Largest move along each axis.
    #[serde(default = "shift")]
    pub shift: f64,
    /// Hidden states that are read.
    #[serde(default = "last")]
    pub tap: Tap,
}

/// Likeness to a teacher's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A safetensors file: a tensor `[tokens, width]` for each `object_id`.
    pub tokens: PathBuf,
    /// Width of the teacher's tokens.
    pub width: usize,
    /// Factor on the term.
    #[serde(default = "one")]
    pub weight: f64,
    /// Hidden states that are read.
    #[serde(default = "last")]
    pub tap: Tap,
}

fn one() -> f64 {
    1.0
}

/// **Source** PointContrast, arXiv 2007.10985; the paper states none.
fn temperature() -> f64 {
    0.07
}

/// A choice of ours; the paper says that clouds are moved and not how far.
fn shift() -> f64 {
    0.2
}

fn flows() -> TargetGradient {
    TargetGradient::Flows
}

fn last() -> Tap {
    Tap::Last
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        let (masked, reconstruction, contrast, distillation) = (None, None, None, None);
        let position_code = PositionCode::None;
        Self { cross_entropy: 1.0, position_code, masked, reconstruction, contrast, distillation }
    }
}

impl ObjectiveConfig {
    /// Factors on the terms there are, and how far views move, each with its key.
    pub(super) fn factors(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let factors = [
            ("objective.cross_entropy", Some(self.cross_entropy)),
            ("objective.masked.weight", self.masked.as_ref().map(|masked| masked.weight)),
            ("objective.reconstruction.weight", self.reconstruction.as_ref().map(|prediction| prediction.weight)),
            ("objective.contrast.weight", self.contrast.as_ref().map(|views| views.weight)),
            ("objective.contrast.shift", self.contrast.as_ref().map(|views| views.shift)),
            ("objective.distillation.weight", self.distillation.as_ref().map(|teacher| teacher.weight)),
        ];
        factors.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }

    /// As graphs take it.
    pub fn objective(&self) -> Objective {
        Objective {
            cross_entropy: self.cross_entropy,
            position_code: self.position_code,
            masked: self.masked.as_ref().map(|m| Masked {
                ratio: m.ratio,
                prediction: Prediction {
                    target: m.target,
                    weight: m.weight,
                    target_gradient: m.target_gradient,
                    tap: m.tap,
                },
            }),
            reconstruction: self.reconstruction.as_ref().map(|p| Prediction {
                target: p.target,
                weight: p.weight,
                target_gradient: p.target_gradient,
                tap: p.tap,
            }),
            contrast: self.contrast.as_ref().map(|v| Contrast {
                weight: v.weight,
                temperature: v.temperature,
                tap: v.tap,
            }),
            distillation: self.distillation.as_ref().map(|t| Distillation {
                weight: t.weight,
                width: t.width,
                tap: t.tap,
            }),
        }
    }
}
