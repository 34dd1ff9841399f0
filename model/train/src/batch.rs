//! What does one call of a micro-step get? Samples laid out side by side, masks and views drawn for the step.

use crate::base::Base;
use crate::data::Ready;
use crate::error::DataError;
use crate::order::{mask, view};
use enel_ir::DType;
use enel_model::train::Objective;
use enel_model::{PackError, Prompt, names, pack, shift_labels};
use enel_runtime::{HostTensor, HostTensors, TensorError};

/// Inputs of a call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Values of `B` and `T`.
    pub symbols: [(&'static str, i64); 2],
    /// All inputs but the shares.
    pub inputs: HostTensors,
    /// Labels that count.
    pub n_labels: usize,
    /// Clouds, or pairs of them.
    pub n_clouds: usize,
    /// Tokens.
    pub n_tokens: usize,
}

/// What a call is made for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The loss, whose terms decide which inputs there are.
    pub objective: &'a Objective,
    /// Largest move of a view.
    pub shift: f64,
    /// Seed of the run.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
    /// Clouds of the step before this call.
    pub first_cloud: u32,
}

/// Lays out samples of one call, each with the name of its object.
///
/// # Errors
/// [`DataError::Pack`], [`DataError::Conversation`] for the first sample that does not fit.
pub fn call(base: &Base, samples: &[(&str, Ready)], purpose: &Purpose<'_>) -> Result<Call, DataError> {
    let contrast = purpose.objective.contrast.is_some();
    let views = if contrast { 2 } else { 1 };
    let repeated: Vec<&Ready> = (0..views).flat_map(|_| samples.iter().map(|(_, ready)| ready)).collect();
    let prompts: Vec<Prompt<'_>> =
        repeated.iter().map(|r| Prompt { ids: &r.ids, clouds: usize::from(r.points.is_some()) }).collect();
    let unfit = |source: PackError| {
        let object = sample_of(&source).and_then(|at| samples.get(at % samples.len().max(1)));
        DataError::Pack { object: object.map_or_else(String::new, |(name, _)| (*name).to_owned()), source }
    };
    let packed = pack(&prompts, &base.vocabulary).map_err(unfit)?;
    let labels: Vec<&[i32]> = repeated.iter().map(|r| r.labels.as_slice()).collect();
    let labels = shift_labels(&labels);
    let n_labels = labels.iter().filter(|&&label| label != names::IGNORE).count();

    let point = &base.config.point;
    let channels = point.point_dims;
    let clouds: Vec<&Vec<f32>> = repeated.iter().filter_map(|r| r.points.as_ref()).collect();
    let n_rows = clouds.len();
    let mut points = Vec::with_capacity(clouds.iter().map(|c| c.len()).sum());
    for (at, cloud) in clouds.iter().enumerate() {
        let begin = points.len();
        points.extend_from_slice(cloud);
        if contrast {
            // Both views of an object are drawn apart, by its place in the step.
            let cloud = 2 * (purpose.first_cloud + (at % (n_rows / 2).max(1)) as u32) + u32::from(at >= n_rows / 2);
            view(purpose.seed, (purpose.step, cloud), purpose.shift, (&mut points[begin..], channels));
        }
    }
    let mut inputs = HostTensors::new();
    let vectors = [
        (names::IDS, &packed.ids),
        (names::POSITION, &packed.rows.position),
        (names::LOW, &packed.rows.low),
        (names::HIGH, &packed.rows.high),
        (names::POINT_ROW, &packed.point_row),
        (names::LABELS, &labels),
    ];
    for (name, values) in vectors {
        inputs.insert(name.to_owned(), sized(HostTensor::from_i32(&[values.len()], values)));
    }
    let n_points = points.len() / (n_rows * channels).max(1);
    inputs.insert(names::POINTS.to_owned(), sized(HostTensor::from_f32(&[n_rows, n_points, channels], &points)));
    let n = point.tokens_per_cloud() - usize::from(point.class_token);
    if let Some(masked) = &purpose.objective.masked {
        let k = masked.count(n);
        let (mut hidden, mut seen) = (Vec::new(), Vec::new());
        for at in 0..n_rows {
            let drawn = mask(purpose.seed, (purpose.step, purpose.first_cloud * views + at as u32), n, k);
            hidden.extend(drawn.0);
            seen.extend(drawn.1);
        }
        inputs.insert(names::MASKED.to_owned(), sized(HostTensor::from_i32(&[n_rows, k], &hidden)));
        inputs.insert(names::SEEN.to_owned(), sized(HostTensor::from_i32(&[n_rows, n - k], &seen)));
    }
    if let Some(teacher) = &purpose.objective.distillation {
        let values: Vec<f32> = repeated.iter().filter_map(|r| r.teacher.as_ref()).flatten().copied().collect();
        inputs.insert(names::TEACHER.to_owned(), sized(HostTensor::from_f32(&[n_rows, n, teacher.width], &values)));
    }
    let n_clouds = n_rows / views as usize;
    let n_tokens = packed.ids.len();
    Ok(Call { symbols: [("B", n_clouds as i64), ("T", n_tokens as i64)], inputs, n_labels, n_clouds, n_tokens })
}

impl Call {
    /// The inputs with what this call counts in its step: its part of the labels and of the clouds.
    pub fn with_shares(&self, objective: &Objective, (tokens, clouds): (f64, f64)) -> HostTensors {
        let mut inputs = self.inputs.clone();
        let share = |value: f64| sized(HostTensor::from_f32(&[], &[value as f32]));
        inputs.insert(names::TOKEN_SHARE.to_owned(), share(tokens));
        if has_cloud_terms(objective) {
            inputs.insert(names::CLOUD_SHARE.to_owned(), share(clouds));
        }
        inputs
    }
}

/// True when some term is a mean over clouds.
fn has_cloud_terms(objective: &Objective) -> bool {
    let Objective { cross_entropy: _, masked, reconstruction, contrast, distillation, position_code: _ } = objective;
    masked.is_some() || reconstruction.is_some() || contrast.is_some() || distillation.is_some()
}

/// The segment a fault is about.
fn sample_of(fault: &PackError) -> Option<usize> {
    match fault {
        PackError::EmptyPrompt { sample }
        | PackError::TokenId { sample, .. }
        | PackError::PatchCount { sample, .. }
        | PackError::PatchRun { sample, .. }
        | PackError::Frame { sample, .. }
        | PackError::NoSample { sample, .. }
        | PackError::CacheFull { sample, .. } => Some(*sample),
        PackError::EmptyBatch | PackError::TooMany { .. } => None,
    }
}

/// A tensor whose values were counted above.
fn sized(tensor: Result<HostTensor, TensorError>) -> HostTensor {
    tensor.unwrap_or_else(|_| HostTensor::new(DType::F32, &[0], Vec::new()).unwrap_or_else(|_| unreachable!("empty")))
}
