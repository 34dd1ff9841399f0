//! Do `generate`, `chat` and `classify` answer, streamed and as JSON, and tell what they cannot do?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Ran, enel, enel_with, llama};

const CHAIR: &str = "samples/chair.ply";

fn generate(extra: &[&str]) -> Ran {
    let mut args = vec!["generate", "--device", "cpu", "--max-new-tokens", "8"];
    args.extend_from_slice(extra);
    if !extra.contains(&"--prompt") {
        args.extend(["--prompt", "a chair"]);
    }
    enel(&args)
}

fn chat(extra: &[&str], lines: &str) -> Ran {
    let mut args = vec!["chat", "--device", "cpu", "--max-new-tokens", "8", "--json"];
    args.extend_from_slice(extra);
    enel_with(&args, lines)
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn text_goes_on_the_same_way_streamed_and_reported() {
    let streamed = generate(&["--seed", "3"]);
    assert_eq!(streamed.code, Some(0), "{}", streamed.stderr);
    let report: Value = serde_json::from_str(&generate(&["--seed", "3", "--json"]).stdout).unwrap();
    assert_eq!(format!("{}\n", report["text"].as_str().unwrap()), streamed.stdout);
    assert_eq!((report["stopped"].as_str(), report["random_weights"].as_bool()), (Some("length"), Some(true)));
    assert!(report["timings"]["compile_ms"].as_f64().unwrap() > 0.0);
    let piped = enel_with(&["generate", "--device", "cpu", "--max-new-tokens", "8", "--seed", "3"], "a chair\n");
    assert_eq!(piped.stdout, streamed.stdout, "the prompt may come by stdin");
    assert_eq!(generate(&["--greedy", "--seed", "1"]).code, Some(2));
    let long = generate(&["--prompt", &"chair ".repeat(2000)]);
    assert!(long.code == Some(1) && long.stderr.contains("2048"), "{}", long.stderr);
}

#[test]
fn an_imported_model_talks_and_reads_no_clouds() {
    let dir = llama();
    let model = dir.path().join("llama");
    let model = model.to_str().unwrap();
    let ran = generate(&["--model", model, "--greedy", "--prompt", "hello hello"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("untrained"));
    let turns = lines(&chat(&["--model", model, "--greedy"], "hello\nhello again\n"));
    assert_eq!(turns.len(), 2);
    // The template's own system text stands before the question: <|im_start|>system, Be kind, ...
    assert!(turns[0]["prompt_tokens"].as_u64() > Some(20), "{}", turns[0]);
    let n_first = turns[0]["prompt_tokens"].as_u64().unwrap();
    assert!(turns[1]["reused_tokens"].as_u64().unwrap() >= n_first, "{}", turns[1]);
    let ran = enel(&["caption", CHAIR, "--model", model, "--device", "cpu"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("reads text alone"), "{}", ran.stderr);
}

#[test]
fn a_conversation_does_not_depend_on_what_the_cache_kept() {
    let cloud = ["--cloud", CHAIR, "--greedy"];
    let turns = lines(&chat(&cloud, "What is this?\n\nWhich colour?\n/reset\nWhat is this?\n"));
    assert_eq!(turns.len(), 3);
    assert_eq!(turns[0]["reused_tokens"], 0);
    assert!(turns[1]["reused_tokens"].as_u64().unwrap() > 17, "the cloud's tokens are kept: {}", turns[1]);
    assert_eq!(turns[2]["ids"], turns[0]["ids"]);
    assert!(turns[2]["reused_tokens"].as_u64() > turns[0]["reused_tokens"].as_u64());
}

#[test]
fn a_full_conversation_starts_anew_and_a_long_question_is_refused() {
    let ran = chat(&["--greedy", "--context", "60"], "a\nb\nc\n");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("--context"), "{}", ran.stderr);
    let short = ["--greedy", "--context", "64", "--system", "x"];
    let ran = chat(&short, "one question\nanother question\na third one\na fourth one\na fifth one\n");
    assert_eq!((ran.code, lines(&ran).len()), (Some(0), 5), "{}", ran.stderr);
    assert!(ran.stderr.contains("starts anew"), "{}", ran.stderr);
}

#[test]
fn marks_in_questions_are_refused_and_the_conversation_goes_on() {
    let ran = chat(&["--cloud", CHAIR, "--greedy"], "what is <point_patch>?\n/nothing\nWhat is this?\n");
    assert_eq!((ran.code, lines(&ran).len()), (Some(1), 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("<point_patch>") && ran.stderr.contains("/nothing"), "{}", ran.stderr);
}

#[test]
fn labels_are_ranked_and_their_order_does_not_matter() {
    let classify = |extra: &[&str]| {
        let mut args = vec!["classify", CHAIR, "--device", "cpu"];
        args.extend_from_slice(extra);
        enel(&args)
    };
    let report = |labels: &str| -> Value {
        let ran = classify(&["--labels", labels, "--json"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let (one, other) = (report("chair,table, a lamp"), report("a lamp,chair,table"));
    assert_eq!(one["ranking"], other["ranking"]);
    let ranking = one["ranking"].as_array().unwrap();
    let shares: Vec<f64> = ranking.iter().map(|row| row["share"].as_f64().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    assert!(ranking.iter().all(|row| row["log_likelihood"].as_f64().unwrap() < 0.0));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.txt");
    std::fs::write(&file, "chair\ntable\n\na lamp\n").unwrap();
    assert_eq!(report(file.to_str().unwrap())["ranking"], one["ranking"]);
    let plain = classify(&["--labels", "chair,table,a lamp"]);
    assert!(plain.stdout.lines().next().unwrap().ends_with(ranking[0]["label"].as_str().unwrap()));
    for (extra, told) in [("chair,chair", "twice"), (",", "no labels"), ("<point_end>", "reserved")] {
        let ran = classify(&["--labels", extra]);
        assert!(ran.code == Some(1) && ran.stderr.contains(told), "{extra}: {}", ran.stderr);
    }
    assert_eq!(classify(&["--labels", "a,b", "--answer", "no place"]).code, Some(2));
    assert_eq!(classify(&[]).code, Some(2));
}

#[test]
fn every_command_shows_examples() {
    for args in [
        &["generate"][..],
        &["chat"],
        &["classify"],
        &["caption"],
        &["model"],
        &["model", "import"],
        &["model", "fetch"],
        &["model", "list"],
        &["model", "info"],
    ] {
        let ran = enel(&[args, &["--help"]].concat());
        assert!(ran.code == Some(0) && ran.stdout.contains("Examples:\n  enel "), "{args:?}: {}", ran.stdout);
    }
}
