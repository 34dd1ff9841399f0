//! Are the recorded conversations, labels and texts reproduced exactly?
//!
//! The tiny half always runs. The LLaMA half runs where the vocabulary is in the user's cache; otherwise it says so.

use std::path::{Path, PathBuf};

use enel_text::golden::{self, Network, Outcome};
use enel_text::{Tokenizer, fetch};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The cache folder the command line tool uses.
fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap_or_default().join("enel")
}

#[test]
fn recorded_conversations_are_reproduced() {
    let rows = golden::check_chat(&fixtures(), &cache_dir(), Network::Off).unwrap();
    let failed: Vec<_> = rows.iter().filter(|row| matches!(row.outcome, Outcome::Fail(_))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let n_tiny = rows.iter().filter(|row| row.name.ends_with(".tiny") && row.outcome == Outcome::Ok).count();
    assert_eq!(n_tiny, 186);
    for row in &rows {
        if let Outcome::Unsupported(reason) = &row.outcome {
            println!("skipped: {} {}: {reason}", row.case, row.name);
            assert_eq!(row.name, "all.llama");
        }
    }
}

#[test]
fn a_wrong_id_in_the_file_fails_its_row() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("tokenizer_tiny.model"), dir.path().join("tokenizer_tiny.model")).unwrap();
    let text = std::fs::read_to_string(fixtures().join("h_chat.json")).unwrap();
    let broken = text.replacen("\"ids\":[1,452,501", "\"ids\":[1,452,500", 1);
    assert_ne!(text, broken);
    std::fs::write(dir.path().join("h_other.json"), broken).unwrap();
    let rows = golden::check_chat(dir.path(), dir.path(), Network::Off).unwrap();
    let failed: Vec<_> = rows.iter().filter(|row| matches!(row.outcome, Outcome::Fail(_))).collect();
    assert!(failed.iter().any(|row| row.name == "plain_text.\"Hello world\".ids.tiny"), "{failed:?}");
    assert!(failed.iter().all(|row| row.name.starts_with("plain_text.\"Hello world\"")), "{failed:?}");
}

#[test]
fn llama_vocabulary_gives_the_published_ids() {
    let Some(path) = fetch::cached_llama_tokenizer(&cache_dir()).unwrap() else {
        println!("skipped: the LLaMA vocabulary is not in the cache");
        return;
    };
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    assert_eq!(tokenizer.vocab_size(), 32_000);
    assert_eq!(tokenizer.encode("Hello world!", true).unwrap(), [1, 15043, 3186, 29991]);
    let ids = tokenizer.encode("Düsseldorf 点云 🪑 12345\n  x=y", true).unwrap();
    let expected = [
        1, 28901, 29871, 30940, 31784, 29871, 243, 162, 173, 148, 29871, 29896, 29906, 29941, 29946, 29945, 13, 29871,
        921, 29922, 29891,
    ];
    assert_eq!(ids, expected);
}
