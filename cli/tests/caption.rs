//! Does `enel caption` say the same for the same seed, read model folders, and tell what is wrong with its input?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{enel, fixtures, root};

const CHAIR: &str = "samples/chair.ply";

fn short(extra: &[&str]) -> support::Ran {
    let mut args = vec!["caption", CHAIR, "--device", "cpu", "--max-new-tokens", "12"];
    args.extend_from_slice(extra);
    enel(&args)
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let first = short(&["--seed", "3"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(!first.stdout.trim().is_empty() && first.stdout.ends_with('\n'));
    assert!(first.stderr.contains("untrained"), "it says that the text is noise: {}", first.stderr);
    assert_eq!(short(&["--seed", "3"]).stdout, first.stdout);
    assert_ne!(short(&["--seed", "4"]).stdout, first.stdout);
    assert_eq!(short(&["--greedy"]).stdout, short(&["--temperature", "0"]).stdout);
}

#[test]
fn json_holds_what_streaming_says() {
    let streamed = short(&["--seed", "3"]);
    let ran = short(&["--seed", "3", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(format!("{}\n", report["text"].as_str().unwrap()), streamed.stdout);
    assert_eq!(report["ids"].as_array().unwrap().len(), 12);
    assert_eq!(report["stopped"], "length");
    assert_eq!(report["random_weights"], true);
    assert_eq!(report["points"]["given"], 8192);
    assert!(report["timings"]["prefill_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn low_precision_runs_too() {
    assert_eq!(short(&["--mode", "bf16"]).code, Some(0));
}

#[test]
fn clouds_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let header = |n: usize| {
        format!(
            "ply\nformat ascii 1.0\nelement vertex {n}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        )
    };
    let rows: [(&str, Vec<u8>, &str); 5] = [
        ("nan.ply", (header(2) + "0 0 0\n1 nan 0\n").into_bytes(), "point 1"),
        ("empty.ply", header(0).into_bytes(), "no points"),
        ("cut.ply", std::fs::read(root().join(CHAIR)).unwrap()[..4000].to_vec(), "cut.ply"),
        ("text.ply", b"hello".to_vec(), "it begins with `hello`"),
        ("none.npy", Vec::new(), "it is empty"),
    ];
    for (name, bytes, told) in rows {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let ran = enel(&["caption", path.to_str().unwrap(), "--device", "cpu"]);
        assert_eq!(ran.code, Some(1), "{name}");
        assert!(ran.stderr.contains(name) && ran.stderr.contains(told), "{name}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{name}");
    }
    let ran = enel(&["caption", "no/such/cloud.ply"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("no/such/cloud.ply"), "{}", ran.stderr);
}

#[test]
fn one_point_is_a_cloud() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.ply");
    let text = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n4 5 6\n";
    std::fs::write(&path, text).unwrap();
    let ran = enel(&["caption", path.to_str().unwrap(), "--device", "cpu", "--max-new-tokens", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn bad_usage_exits_with_2() {
    for extra in [
        ["--temperature", "-1"],
        ["--top-p", "0"],
        ["--top-p", "nan"],
        ["--device", "cuda:x"],
        ["--max-new-tokens", "0"],
        ["--mode", "f64"],
    ] {
        assert_eq!(short(&extra).code, Some(2), "{extra:?}");
    }
    assert_eq!(short(&["--greedy", "--seed", "1"]).code, Some(2));
    assert_eq!(enel(&["caption"]).code, Some(2));
}

#[test]
fn prompts_and_models_that_do_not_fit_are_failures() {
    let rows = [
        (["--model", "enel-1t"], "enel-1t"),
        (["--model", "enel-7b"], "model folder"),
        (["--prompt", "what is <point_patch>?"], "<point_patch>"),
        (["--points", "3"], "centres"),
    ];
    for (extra, told) in rows {
        let ran = short(&extra);
        assert_eq!(ran.code, Some(1), "{extra:?}");
        assert!(ran.stderr.contains(told), "{extra:?}: {}", ran.stderr);
    }
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    for args in [["caption", CHAIR].as_slice(), &["doctor"], &["doctor", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
        let mut child =
            command.args(args).current_dir(root()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("error"), "{args:?}: {said}");
    }
}

/// A model folder with the sizes of the `tiny` preset.
fn folder(weights: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "rms_norm_eps": 1e-6, "vocab_size": 512,
        "point_backbone_config": {
            "embed_dim": 12, "group_size": 8, "input_points": 128, "projection_hidden_dim": [40, 48],
            "point_token_ids": { "patch": 509, "start": 510, "end": 511 },
        },
    });
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(root().join("model/text/assets/tiny.model"), dir.path().join("tokenizer.model")).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), weights).unwrap();
    dir
}

#[test]
fn weights_that_do_not_fit_are_listed() {
    let data = vec![0; 4 * 512 * 63];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![512, 63], &data).unwrap();
    let dir = folder(&safetensors::serialize([("model.embed_tokens.weight", view)], None).unwrap());
    let path = dir.path().to_str().unwrap();
    let ran = short(&["--model", path]);
    assert_eq!(ran.code, Some(1));
    for told in
        ["model.embed_tokens.weight has the shape [512, 63], expected [512, 64]", "lm_head.weight [512, 64] is missing"]
    {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let ran = short(&["--model", path]);
    assert!(ran.code == Some(1) && ran.stderr.contains("config.json"), "{}", ran.stderr);
}

#[test]
fn a_model_folder_answers_as_the_released_code_does() {
    let Some(fixtures) = fixtures() else { return };
    let dir = folder(&std::fs::read(fixtures.join("full_weights.safetensors")).unwrap());
    let case: Value = serde_json::from_slice(&std::fs::read(fixtures.join("e_greedy_1.json")).unwrap()).unwrap();
    let bytes = std::fs::read(fixtures.join("e_greedy_1.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let cloud = dir.path().join("cloud.ply");
    write_ply(&cloud, file.tensor("in.point_clouds").unwrap().data());
    let new_ids = file.tensor("new_ids").unwrap();
    let expected: Vec<i64> = new_ids.data().as_chunks::<8>().0.iter().map(|raw| i64::from_le_bytes(*raw)).collect();
    let prompt = case["prompt"].as_str().unwrap();
    let question = prompt.split_once("<point_end>\n").unwrap().1.strip_suffix(" ASSISTANT:").unwrap();
    let n = expected.len().to_string();
    let (model, cloud) = (dir.path().to_str().unwrap(), cloud.to_str().unwrap());
    let ran = enel(&[
        "caption",
        cloud,
        "--model",
        model,
        "--device",
        "cpu",
        "--points",
        "256",
        "--greedy",
        "--json",
        "--max-new-tokens",
        &n,
        "--prompt",
        question,
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let ids: Vec<i64> = report["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(ids, expected);
    assert_eq!(report["random_weights"], false);
}

/// Points of six f32 channels as text, which f32 survives.
fn write_ply(path: &Path, data: &[u8]) {
    let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    let names = ["x", "y", "z", "red", "green", "blue"].map(|name| format!("property float {name}\n")).concat();
    let mut text = format!("ply\nformat ascii 1.0\nelement vertex {}\n{names}end_header\n", values.len() / 6);
    for row in values.chunks(6) {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        text += &(row.join(" ") + "\n");
    }
    std::fs::write(path, text).unwrap();
}
