//! Do folders, streams and both kinds of tokenizer behave as promised?

use std::path::{Path, PathBuf};

use enel_text::{DecodeStream, Tokenizer, TokenizerError};
use proptest::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tiny() -> Tokenizer {
    let mut tokenizer = Tokenizer::from_file(&fixtures().join("tokenizer_tiny.model")).expect("the fixture is whole");
    for (mark, id) in [("<point_patch>", 509), ("<point_start>", 510), ("<point_end>", 511)] {
        assert_eq!(tokenizer.add_mark(mark).ok(), Some(id));
    }
    tokenizer
}

/// A byte-level tokenizer over all 256 bytes, one merge, and ChatML's marks, written as tokenizer.json.
fn byte_level_json() -> String {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut vocab = Vec::new();
    let mut n_hidden = 0;
    for b in 0..256u32 {
        let c = if printable(b) { b } else { 256 + n_hidden };
        n_hidden += u32::from(!printable(b));
        let text = serde_json::Value::from(char::from_u32(c).map(String::from)).to_string();
        vocab.push(format!("{text}:{b}"));
    }
    vocab.push("\"he\":256".to_owned());
    let added: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .iter()
        .enumerate()
        .map(|(i, mark)| {
            let id = 257 + i;
            format!(
                r#"{{"id":{id},"content":"{mark}","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}"#
            )
        })
        .collect();
    let level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":null,"pre_tokenizer":{level},"post_processor":null,"decoder":{level},"model":{{"type":"BPE","vocab":{{{}}},"merges":["h e"]}}}}"#,
        added.join(","),
        vocab.join(",")
    )
}

fn byte_level(dir: &Path) -> Tokenizer {
    std::fs::write(dir.join("tokenizer.json"), byte_level_json()).expect("the folder can be written");
    let config = r#"{"eos_token":"<|im_end|>","bos_token":{"content":"<|im_start|>"},"pad_token":null}"#;
    std::fs::write(dir.join("tokenizer_config.json"), config).expect("the folder can be written");
    Tokenizer::from_dir(dir).expect("the file is well formed")
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = DecodeStream::new(tokenizer);
    let mut text: String = ids.iter().map(|&id| stream.push(id).expect("any id decodes")).collect();
    text.push_str(&stream.finish().expect("any id decodes"));
    text
}

#[test]
fn a_folder_without_a_tokenizer_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_dir(dir.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NotFound { .. }));
    let text = error.to_string();
    assert!(text.contains("tokenizer.model") && text.contains("tokenizer.json"), "{text}");
}

#[test]
fn marks_listed_in_the_folder_join_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("tokenizer_tiny.model"), dir.path().join("tokenizer.model")).unwrap();
    let list = dir.path().join("added_tokens.json");
    std::fs::write(&list, r#"{"<point_end>": 511, "<point_patch>": 509, "<point_start>": 510, "</s>": 2}"#).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!(tokenizer.id("<point_end>"), Some(511));
    assert_eq!(tokenizer.token(510).as_deref(), Some("<point_start>"));
    assert_eq!(tokenizer.token(512), None);
    for bad in [r#"{"<a>": 700}"#, r#"{"</s>": 9}"#, r#"{"": 509}"#] {
        std::fs::write(&list, bad).unwrap();
        assert!(matches!(Tokenizer::from_dir(dir.path()), Err(TokenizerError::AddedId { .. })), "{bad}");
    }
    for bad in ["[]", r#"{"<a>": -1}"#, "{"] {
        std::fs::write(&list, bad).unwrap();
        assert!(matches!(Tokenizer::from_dir(dir.path()), Err(TokenizerError::Json { .. })), "{bad}");
    }
}

#[test]
fn marks_longer_than_any_in_use_are_refused() {
    let long = "x".repeat(513);
    let error = tiny().add_mark(&long).expect_err("the mark is long").to_string();
    assert!(error.contains("513 B"), "{error}");
    assert!(tiny().add_mark(&long[1..]).is_ok());
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::copy(fixtures().join("tokenizer_tiny.model"), dir.path().join("tokenizer.model")).expect("a copy");
    std::fs::write(dir.path().join("added_tokens.json"), format!("{{\"{long}\": 509}}")).expect("a file");
    let error = Tokenizer::from_dir(dir.path()).expect_err("the mark is long").to_string();
    assert!(error.contains("513 B"), "{error}");
}

#[test]
fn a_folder_that_left_the_old_rules_needs_the_new_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("tokenizer_tiny.model"), dir.path().join("tokenizer.model")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"legacy": false}"#).unwrap();
    assert!(matches!(Tokenizer::from_dir(dir.path()), Err(TokenizerError::NotLegacy { .. })));
    std::fs::write(dir.path().join("tokenizer.json"), byte_level_json()).unwrap();
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().vocab_size(), 260);
}

#[test]
fn json_tokenizers_know_their_marks() {
    let dir = tempfile::tempdir().unwrap();
    let mut tokenizer = byte_level(dir.path());
    assert_eq!(tokenizer.encode("he é<|im_end|>", true).unwrap(), [256, 32, 0xc3, 0xa9, 259]);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()), (Some(258), Some(259), Some(259)));
    assert_eq!(tokenizer.add_mark("<point_patch>").unwrap(), 260);
    assert_eq!(tokenizer.add_mark("<point_patch>").unwrap(), 260);
    assert_eq!(tokenizer.vocab_size(), 261);
    assert_eq!(tokenizer.encode("a<point_patch>b", false).unwrap(), [97, 260, 98]);
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    for text in ["", "{", "{}", "[1]", r#"{"model":{"type":"BPE","vocab":{},"merges":["a b"]}}"#] {
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::from_file(&path).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
    let missing = Tokenizer::from_file(&dir.path().join("none.model")).unwrap_err();
    assert!(missing.to_string().contains("none.model"));
}

#[test]
fn added_marks_stand_apart_when_decoded() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("hello <point_patch> there</s>", true).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "hello <point_patch> there");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<s>hello <point_patch>  there</s>");
    assert_eq!(streamed(&tokenizer, &ids), "hello <point_patch> there");
}

#[test]
fn broken_bytes_become_one_mark_each() {
    let tokenizer = tiny();
    let byte = |b: u32| b + 3;
    let ids = [byte(0xe2), byte(0x96), byte(0x41), byte(0xff), byte(0xe2)];
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "\u{fffd}\u{fffd}A\u{fffd}\u{fffd}");
}

#[test]
fn a_stream_holds_back_half_a_character() {
    let tokenizer = tiny();
    let mut stream = DecodeStream::new(&tokenizer);
    let shown: Vec<String> = [0xf0, 0x9f, 0x98, 0x80].map(|b| stream.push(b + 3).unwrap()).to_vec();
    assert_eq!(shown, ["", "", "", "😀"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn text_survives_the_round_trip(text in "\\PC{0,60}") {
        // U+2581 is how a space is spelled, and marks are cut out: both are other texts by design.
        let text = text.replace(['\u{2581}', '<'], "-");
        let tokenizer = tiny();
        let ids = tokenizer.encode(&text, true).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }

    #[test]
    fn a_stream_says_what_decoding_says(ids in proptest::collection::vec(0u32..520, 0..60)) {
        let tokenizer = tiny();
        prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap());
        tokenizer.decode(&ids, false).unwrap();
    }

    #[test]
    fn a_byte_level_stream_says_what_decoding_says(
        ids in proptest::collection::vec(prop_oneof![0u32..262, 0xc0u32..256, 0x80u32..0xc0], 0..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = byte_level(dir.path());
        prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap());
    }

    #[test]
    fn any_text_with_marks_has_ids(text in "(a| |\n|<point_patch>|<point_|</s>|<s>|é|\u{1c}){0,20}") {
        let tokenizer = tiny();
        let ids = tokenizer.encode(&text, true).unwrap();
        prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let n_marks = text.matches("<point_patch>").count();
        prop_assert_eq!(ids.iter().filter(|&&id| id == 509).count(), n_marks);
    }

    #[test]
    fn altered_and_cut_files_never_panic(at in 0usize..100_000, byte in any::<u8>(), cut in 0usize..100_000) {
        let dir = tempfile::tempdir().unwrap();
        for (name, whole) in [
            ("tokenizer.json", byte_level_json().into_bytes()),
            ("tokenizer.model", std::fs::read(fixtures().join("tokenizer_tiny.model")).unwrap()),
        ] {
            let path = dir.path().join(name);
            let mut bytes = whole.clone();
            // The tail of the JSON file is where its structure is; the head is one long table.
            let at = bytes.len() - 1 - at % bytes.len().min(1500);
            bytes[at] = byte;
            for bytes in [&bytes[..], &whole[..cut % whole.len()]] {
                std::fs::write(&path, bytes).unwrap();
                if let Ok(tokenizer) = Tokenizer::from_file(&path) {
                    let ids = tokenizer.encode("he said: <|im_end|>", true).unwrap_or_default();
                    let _ = tokenizer.decode(&ids, true);
                }
            }
        }
    }
}
