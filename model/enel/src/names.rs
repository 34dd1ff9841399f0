//! What are the inputs and outputs of every graph here called? One constant each, so that hosts do not spell them.

/// `f32[B, N, 6]`: the clouds, normalised; colours in 0..1, or 0 where there are none.
pub const POINTS: &str = "points";
/// `i32[T]`: token ids of all segments, one after the other.
pub const IDS: &str = "ids";
/// `i32[T]`: position of each token in its segment.
pub const POSITION: &str = "position";
/// `i32[T]`: first key row each token sees.
pub const LOW: &str = "low";
/// `i32[T]`: one past the last key row each token sees.
pub const HIGH: &str = "high";
/// `i32[T]`: cache row that takes each token's key and value; a row outside the cache takes none.
pub const SLOT: &str = "slot";
/// `i32[B * tokens per cloud]`: token each point token replaces; one outside the tokens replaces none.
pub const POINT_ROW: &str = "point_row";
/// `i32[L]`: tokens whose logits are wanted.
pub const LAST_ROW: &str = "last_row";
/// `i32[T]`: label of each token, already shifted; -100 counts for nothing.
pub const LABELS: &str = "labels";

/// `i32[B, V]`: point tokens that are seen, by their places among the tokens of their cloud without the class token.
pub const SEEN: &str = "seen";
/// `i32[B, K]`: point tokens that are masked; with the seen ones each stands once.
pub const MASKED: &str = "masked";
/// `f32[B, M, width]`: a teacher's tokens, one beside each point token.
pub const TEACHER: &str = "teacher";
/// `f32[]`: what a call's mean over labels counts in the mean of a whole step.
pub const TOKEN_SHARE: &str = "share.tokens";
/// `f32[]`: what a call's means over clouds count in the mean of a whole step.
pub const CLOUD_SHARE: &str = "share.clouds";

/// `f32[T, V]` or `f32[L, V]`: scores of the next token.
pub const LOGITS: &str = "logits";
/// `f32[]`: mean cross-entropy over the labels that count.
pub const LOSS: &str = "loss";
/// `f32[]`: cross-entropy, as one term of the loss.
pub const LOSS_CE: &str = "loss_ce";
/// `f32[]`: masked modelling.
pub const LOSS_MASKED: &str = "loss_mae";
/// `f32[]`: reconstruction.
pub const LOSS_RECONSTRUCTION: &str = "loss_recon";
/// `f32[]`: contrast.
pub const LOSS_CONTRAST: &str = "loss_contrast";
/// `f32[]`: distillation.
pub const LOSS_DISTILLATION: &str = "loss_distill";
/// `f32[]`: length of all derivatives together, before they are clipped.
pub const GRAD_NORM: &str = "grad_norm";
/// `f32[]`: the rate a step used.
pub const LEARNING_RATE: &str = "learning_rate";

/// `[B, tokens per cloud, C]`: point tokens before the projector.
pub const POINT_FEATURES: &str = "act.point_features";
/// `[B, tokens per cloud, hidden]`: point tokens after it.
pub const PROJECTED: &str = "act.projected";

/// The label that counts for nothing.
pub const IGNORE: i32 = -100;

/// Keys and values of one layer: state and tied output `[2, S, G, D]`.
pub fn cache(layer: usize) -> String {
    format!("cache.{layer}")
}
