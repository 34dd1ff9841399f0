//! Does `enel doctor` say what is there and what to do, also where nothing is?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use std::process::Command;
use support::enel;

fn names(report: &Value, list: &str) -> Vec<String> {
    let list = report[list].as_array().unwrap();
    list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn everything_is_looked_for_and_nothing_is_a_failure() {
    let ran = enel(&["doctor", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let expected = ["cpu", "memory", "cuda", "CUDA compiler", "emulator", "models", "LLaMA vocabulary"];
    assert_eq!(names(&report, "findings"), expected);
    assert_eq!(names(&report, "folders"), ["cache", "data"]);
    for finding in report["findings"].as_array().unwrap() {
        let told = finding["found"] == true || !finding["detail"].as_str().unwrap().is_empty();
        assert!(told, "{finding}");
    }
}

#[test]
fn a_bare_home_is_given_advice() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
    command.arg("doctor").env("HOME", home.path());
    for name in ["XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("put a LLaMA tokenizer.model at"), "{said}");
    assert!(said.contains("enel model fetch smollm2"), "{said}");
    assert!(said.contains("(0.0 MiB)"), "{said}");
    // Looking changes nothing.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
