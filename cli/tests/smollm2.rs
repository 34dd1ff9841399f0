//! Does a real language model say what its reference says? Needs `enel model fetch smollm2`, else it is skipped.
//!
//! **Source** the answers are those of a NumPy forward over arrays decoded by the reference library for GGUF.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use serde_json::Value;
use std::path::PathBuf;
use support::{enel, enel_with};

fn fetched() -> Option<PathBuf> {
    let list: Value = serde_json::from_str(&enel(&["model", "list", "--json"]).stdout).unwrap();
    let model = list["models"].as_array().unwrap().iter().find(|model| model["name"] == "smollm2");
    if model.is_none() {
        println!("skipped: no smollm2");
    }
    model.map(|model| PathBuf::from(model["path"].as_str().unwrap()))
}

#[test]
fn the_capital_of_france_is_paris() {
    if fetched().is_none() {
        return;
    }
    let prompt = "The capital of France is";
    let flags = ["--model", "smollm2", "--device", "cpu", "--greedy", "--max-new-tokens", "2", "--prompt", prompt];
    let ran = enel(&[&["generate"][..], &flags].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), " Paris.\n"), "{}", ran.stderr);
}

#[test]
fn a_chair_is_described_through_the_model_s_own_template() {
    if fetched().is_none() {
        return;
    }
    let ran = enel_with(
        &["chat", "--model", "smollm2", "--device", "cpu", "--greedy"],
        "Describe a wooden chair in one sentence.\n",
    );
    let expected = "A wooden chair with a worn, antique-style finish and a faded, vintage-inspired design.\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{}", ran.stderr);
}

#[test]
fn digits_stand_alone_and_marks_are_whole() {
    let Some(dir) = fetched() else { return };
    let tokenizer = enel_text::Tokenizer::from_dir(&dir).unwrap();
    // Ids of the `tokenizers` library for the same vocabulary and cuts.
    let rows: [(&str, &[u32]); 3] = [
        ("Hello world!", &[19556, 905, 17]),
        ("x = 12345\n  y", &[104, 446, 216, 33, 34, 35, 36, 37, 3805, 329]),
        ("<|im_start|>user\nhi<|im_end|>", &[1, 4093, 198, 6004, 2]),
    ];
    for (text, ids) in rows {
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{text}");
        assert_eq!(tokenizer.decode(ids, false).unwrap(), text);
    }
    assert_eq!(tokenizer.vocab_size(), 49_152);
}
