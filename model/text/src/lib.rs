//! Which token ids a text becomes, which text ids become, and which id comes next.
//!
//! [`Tokenizer`] reads SentencePiece and Hugging Face files, [`chat`] turns conversations into prompts and labels,
//! [`sample`] picks tokens, [`export`] and [`fetch`] make tokenizer files, [`golden`] replays recorded conversations.
//! Law: same files, same text, same ids, on every machine. Nothing here knows tensors or devices.

pub mod chat;
pub mod export;
pub mod fetch;
pub mod golden;
mod hf;
mod labels;
mod legacy;
mod philox;
pub mod sample;
pub mod spm;
mod stream;
mod tokenizer;

pub use philox::philox4x32;
pub use stream::DecodeStream;
pub use tokenizer::{Tokenizer, TokenizerError};

/// A small SentencePiece vocabulary with LLaMA's settings, for models that have none of their own.
pub const TINY_MODEL: &[u8] = include_bytes!("../assets/tiny.model");
