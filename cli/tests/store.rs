//! Do models get into folders whole, and are they listed and described?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use enel_io::{Dtype, Weights};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use support::{enel, llama, root};

fn fixture(name: &str) -> String {
    root().join("model/io/tests/fixtures").join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_gguf_file_becomes_a_folder_that_reads_back() {
    let dir = llama();
    let model = dir.path().join("llama");
    let expected = Weights::open(Path::new(&fixture("gguf_llama.safetensors"))).unwrap();
    let found = Weights::open(&model).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    for name in expected.names() {
        assert_eq!(found.to_f32(name).unwrap(), expected.to_f32(name).unwrap(), "{name}");
    }
    let tokenizer = enel_text::Tokenizer::from_dir(&model).unwrap();
    assert_eq!(tokenizer.encode("hello<|im_end|>", true).unwrap(), [103, 2]);
    assert_eq!((tokenizer.eos_id(), tokenizer.chat_system()), (Some(2), Some("Be kind")));

    // A second import of what is there now, narrower and in several files.
    let again = dir.path().join("again");
    let (from, to) = (model.to_str().unwrap(), again.to_str().unwrap());
    let ran = enel(&["model", "import", from, "-o", to, "--dtype", "bf16"]);
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), to), "{}", ran.stderr);
    let weights = Weights::open(&again).unwrap();
    assert_eq!(weights.view("model.norm.weight").unwrap().dtype, Dtype::BF16);
    let config: Value = serde_json::from_slice(&std::fs::read(again.join("config.json")).unwrap()).unwrap();
    assert_eq!((config["torch_dtype"].as_str(), config["head_dim"].as_u64()), (Some("bfloat16"), Some(8)));
    let ran = enel(&["model", "import", from, "-o", to]);
    assert!(ran.code == Some(1) && ran.stderr.contains("not an empty folder"), "{}", ran.stderr);

    let ran = enel(&["model", "info", from, "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((report["template"].as_str(), report["reads clouds"].as_bool()), (Some("ChatML"), Some(false)));
    assert_eq!(report["decoder"]["kv_heads"], 2);
}

#[test]
fn pytorch_weights_are_imported_too() {
    let dir = llama();
    let from = dir.path().join("llama");
    std::fs::remove_file(from.join("model.safetensors")).unwrap();
    std::fs::copy(fixture("torch_state.bin"), from.join("pytorch_model.bin")).unwrap();
    let to = dir.path().join("out");
    let ran = enel(&["model", "import", from.to_str().unwrap(), "-o", to.to_str().unwrap(), "--dtype", "f32"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = Weights::open(Path::new(&fixture("torch_state.safetensors"))).unwrap();
    let found = Weights::open(&to).unwrap();
    assert_eq!(found.to_f32("transposed").unwrap(), expected.to_f32("transposed").unwrap());
    // They are not those of this model, and every one that is missing is told.
    let ran = enel(&["generate", "--model", to.to_str().unwrap(), "--prompt", "hello", "--device", "cpu"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("model.norm.weight [32] is missing"), "{}", ran.stderr);
    std::fs::copy(fixture("torch_module.bin"), from.join("pytorch_model.bin")).unwrap();
    let ran = enel(&["model", "info", from.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("state_dict()"), "{}", ran.stderr);
}

#[test]
fn files_that_are_no_models_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.gguf");
    let bytes = std::fs::read(fixture("gguf_llama.gguf")).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 500]).unwrap();
    let to = dir.path().join("model");
    let ran = enel(&["model", "import", path.to_str().unwrap(), "-o", to.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("outside the file"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let ran = enel(&["generate", "--model", path.to_str().unwrap(), "--prompt", "x"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("enel model import"), "{}", ran.stderr);
}

#[test]
fn a_machine_without_models_or_clients_is_told_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
        command.args(args).env("HOME", home.path()).env("PATH", home.path());
        command.env_remove("XDG_CACHE_HOME").env_remove("XDG_DATA_HOME");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, said) = run(&["model", "fetch", "smollm2"]);
    assert!(code == Some(1) && said.contains("install Python 3 with pip") && said.contains("by hand"), "{said}");
    let (code, _, said) = run(&["generate", "--model", "smollm2", "--prompt", "x"]);
    assert!(code == Some(1) && said.contains("enel model fetch smollm2"), "{said}");
    let (code, listed, said) = run(&["model", "list"]);
    assert!(code == Some(0) && listed.contains("enel-7b") && said.contains("fetch smollm2"), "{said}");
    let (code, listed, _) = run(&["model", "list", "--json"]);
    let report: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, report["models"].as_array().map(Vec::len)), (Some(0), Some(0)));
    assert_eq!(run(&["model", "fetch", "gpt-5"]).0, Some(2));
    let (code, described, _) = run(&["model", "info", "enel-7b"]);
    assert!(code == Some(0) && described.contains("a preset"), "{described}");
}
