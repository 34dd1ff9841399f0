//! Do vocabularies of GGUF files, made into tokenizer files, cut text as llama.cpp recorded it?
//!
//! Needs a folder with llama.cpp's `models/ggml-vocab-*`, named by ENEL_VOCABULARIES; without it the test is skipped.
//! **Source** they lie in the source package of llama-cpp-python 0.3.36, below `vendor/llama.cpp/models`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use enel_io::gguf::{Gguf, VocabularyKind};
use enel_text::Tokenizer;
use enel_text::export::{TOKENIZER_JSON, TOKENIZER_MODEL, Vocabulary, bpe_json, spm_model};
use std::path::Path;

/// Stands between the recorded texts.
const BETWEEN: &str = "\n__ggml_vocab_test__\n";

#[test]
fn recorded_texts_are_cut_as_recorded() {
    let Some(folder) = std::env::var_os("ENEL_VOCABULARIES") else {
        println!("skipped: ENEL_VOCABULARIES names no folder");
        return;
    };
    for name in ["gpt-2", "starcoder", "refact", "llama-bpe", "qwen2", "llama-spm"] {
        let path = Path::new(&folder).join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = made(&path);
        let recorded = |end: &str| std::fs::read_to_string(format!("{}.{end}", path.display())).unwrap();
        let (texts, ids) = (recorded("inp"), recorded("out"));
        let texts: Vec<&str> = texts.trim_end_matches(BETWEEN).split(BETWEEN).collect();
        let ids: Vec<&str> = ids.lines().collect();
        assert!(texts.len() >= 40 && ids.len() >= texts.len(), "{name}");
        for (text, ids) in texts.iter().zip(ids) {
            let expected: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{name}: {text:?}");
        }
    }
}

fn made(path: &Path) -> Tokenizer {
    let given = Gguf::open(path).unwrap().vocabulary().unwrap();
    let vocabulary = Vocabulary {
        tokens: &given.tokens,
        kinds: &given.token_kinds,
        bos: given.bos,
        eos: given.eos,
        unknown: given.unknown,
        padding: given.padding,
        add_bos: given.add_bos,
        chat_template: given.chat_template.as_deref(),
    };
    let (name, bytes) = match &given.kind {
        VocabularyKind::Bpe { pre, merges } => (TOKENIZER_JSON, bpe_json(&vocabulary, merges, pre).unwrap()),
        VocabularyKind::Spm { scores } => (TOKENIZER_MODEL, spm_model(&vocabulary, scores).unwrap()),
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), bytes).unwrap();
    Tokenizer::from_dir(dir.path()).unwrap()
}
