//! Tokenizers, chat templates and token sampling.
