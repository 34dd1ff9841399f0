//! Are many clouds described once each, whatever happens to the process meanwhile?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Ran, enel, root};

/// Long answers, so that a run is under way for a while.
const FLAGS: [&str; 6] = ["--device", "cpu", "--seed", "5", "--max-new-tokens", "150"];

/// A folder with ten clouds.
fn clouds() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (at, name) in
        ["chair", "lamp", "car", "sofa", "table", "chair", "lamp", "car", "sofa", "table"].iter().enumerate()
    {
        let to = dir.path().join(format!("{at}-{name}.ply"));
        std::fs::copy(root().join(format!("samples/{name}.ply")), to).unwrap();
    }
    std::fs::write(dir.path().join("notes.txt"), "no cloud").unwrap();
    dir
}

fn caption(dir: &Path, output: &Path, extra: &[&str]) -> Ran {
    let mut args = vec!["caption", dir.to_str().unwrap(), "--output", output.to_str().unwrap()];
    args.extend(FLAGS);
    args.extend(extra);
    enel(&args)
}

fn n_lines(path: &Path) -> usize {
    std::fs::read(path).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_lines() {
    let dir = clouds();
    let (whole, parts) = (dir.path().join("whole.jsonl"), dir.path().join("parts.jsonl"));
    let ran = caption(dir.path(), &whole, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = std::fs::read_to_string(&whole).unwrap();
    assert_eq!(expected.lines().count(), 10);
    for enough in [1, 4, 5, 8] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
        command.args(["caption", dir.path().to_str().unwrap(), "--output", parts.to_str().unwrap()]).args(FLAGS);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while n_lines(&parts) < enough && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = std::fs::read_to_string(&parts).unwrap();
        assert!(expected.starts_with(&left), "what is there is the beginning of the whole");
        // What a system that dies in the middle of a write leaves behind.
        std::fs::write(&parts, left + "{\"cloud\": \"ha").unwrap();
    }
    let ran = caption(dir.path(), &parts, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("never finished") && ran.stderr.contains("already"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&parts).unwrap(), expected);
}

#[test]
fn a_bad_cloud_has_a_line_and_the_others_go_on() {
    let dir = clouds();
    let bad = dir.path().join("3-bad.ply");
    std::fs::write(&bad, "not a cloud").unwrap();
    let output = dir.path().join("lines.jsonl");
    let short = ["--prompt", "What?"];
    let ran = caption(dir.path(), &output, &short);
    assert!(ran.code == Some(1) && ran.stderr.contains("1 of 11"), "{}", ran.stderr);
    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(&output).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let lines = read();
    assert_eq!(lines.len(), 11);
    let failed: Vec<&Value> = lines.iter().filter(|line| line.get("error").is_some()).collect();
    assert!(failed.len() == 1 && failed[0]["cloud"].as_str().unwrap().ends_with("3-bad.ply"), "{failed:?}");
    assert!(failed[0]["error"].as_str().unwrap().contains("begins with"), "{failed:?}");

    assert_eq!(caption(dir.path(), &output, &short).code, Some(1), "it stays a failure");
    assert_eq!(read().len(), 11, "and is not tried again");
    std::fs::copy(root().join("samples/chair.ply"), &bad).unwrap();
    let ran = caption(dir.path(), &output, &["--prompt", "What?", "--retry"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = read();
    assert!(lines.len() == 11 && lines.iter().all(|line| line["text"].is_string()));

    for (other, key) in
        [(["--prompt", "Why?"], "prompt"), (["--up", "z"], "reading"), (["--cloud-seed", "1"], "reading")]
    {
        let extra = if key == "prompt" { other.to_vec() } else { [short, other].concat() };
        let ran = caption(dir.path(), &output, &extra);
        let told = format!("was made with {key} = ");
        assert!(ran.code == Some(1) && ran.stderr.contains(&told), "lines of other settings: {}", ran.stderr);
    }
    std::fs::write(&output, "something else\n").unwrap();
    let ran = caption(dir.path(), &output, &short);
    assert!(ran.code == Some(1) && ran.stderr.contains("line 1"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "something else\n", "a file of others is left alone");
}

#[test]
fn several_clouds_without_a_file_go_to_stdout() {
    let one = ["--device", "cpu", "--seed", "5", "--max-new-tokens", "6"];
    let ran = enel(&[&["caption", "samples/chair.ply", "samples/lamp.ply", "samples/chair.ply"][..], &one].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "each cloud once");
    let alone = enel(&[&["caption", "samples/lamp.ply", "--json"][..], &one].concat());
    let alone: Value = serde_json::from_str(&alone.stdout).unwrap();
    assert_eq!(lines[1]["ids"], alone["ids"], "an answer does not depend on the others");
    let empty = tempfile::tempdir().unwrap();
    let ran = enel(&["caption", empty.path().to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("no clouds"), "{}", ran.stderr);
}
