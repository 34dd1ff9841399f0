//! What is ENEL, as tensor programs? Graph builders for the token embedding, the decoder and both together.
//!
//! Law: builders know no kernel and no device; weights carry the names of the released state dict; what an output or
//! a tap looks like beside the released code's is data ([`Tap`]). Host-side index vectors are made by `pack`.
//! Reading order: `config`, `presets`, `scope` (naming weights), `embed`, `llama`, `enel` (whole graphs), `pack`,
//! `train`.

mod config;
mod embed;
mod enel;
mod llama;
pub mod names;
mod pack;
mod presets;
mod scope;
mod tap;
pub mod train;

pub use config::{Bounds, ConfigError, EnelConfig, Extent, LlamaConfig, PointConfig, Pooling, SigmaMode};
pub use embed::{TokenEmbedding, project, token_embedding};
pub use enel::{
    Goal, MAX_DECODED, decode_graph, embed_graph, forward_graph, prefill_graph, splice, step_graph, text_forward_graph,
};
pub use llama::{Decoded, Keys, Rows, decoder, embed_tokens, logits};
pub use pack::{CacheMap, CachedRows, PackError, Packed, Prompt, TokenRows, Vocabulary, pack, shift_labels};
pub use presets::PRESETS;
pub use scope::{BatchNorms, ModelError, Scope};
pub use tap::{Layout, Tap, TapLevel, Taps};
