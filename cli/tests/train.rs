//! Does `enel train` keep what it has, whatever happens to the process, and say what is wrong with what it is given?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Ran, enel, root};

/// A hybrid loss in two calls a step, saved every step.
const SETTINGS: &str = "[objective.masked]\nratio = 0.3\ntarget = \"feature\"\n\
    [objective.reconstruction]\ntarget = \"patch\"\n[optimizer]\nrate = 1e-3\n\
    [batch]\nsize = 2\naccumulation = 2\n[run]\nsteps = 5\nseed = 3\nsave_every = 1\ndevice = \"cpu\"\n";

/// A folder with settings over the first `n` of the captioned samples.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new(n: usize, settings: &str) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let samples = root().join("samples/train");
        let captions: Value = serde_json::from_slice(&std::fs::read(samples.join("captions.json")).unwrap()).unwrap();
        let some: Vec<Value> = captions.as_array().unwrap()[..n].to_vec();
        std::fs::create_dir(dir.path().join("clouds")).unwrap();
        for entry in &some {
            let name = format!("{}.npy", entry["object_id"].as_str().unwrap());
            std::fs::copy(samples.join("clouds").join(&name), dir.path().join("clouds").join(&name)).unwrap();
        }
        std::fs::write(dir.path().join("captions.json"), Value::from(some).to_string()).unwrap();
        let folder = Folder { dir };
        folder.write(settings);
        folder
    }

    fn write(&self, settings: &str) {
        let head =
            "[model]\nstart = \"tiny\"\npoints = 256\n[data]\nannotations = \"captions.json\"\nclouds = \"clouds\"\n";
        std::fs::write(self.path("run.toml"), format!("{head}{settings}")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn args(&self, out: &str, extra: &[&str]) -> Vec<String> {
        let paths = [self.path("run.toml"), self.path(out)].map(|path| path.to_str().unwrap().to_owned());
        let [config, out] = paths;
        ["train".to_owned(), config, "--out".to_owned(), out]
            .into_iter()
            .chain(extra.iter().map(|&s| s.to_owned()))
            .collect()
    }

    fn train(&self, out: &str, extra: &[&str]) -> Ran {
        let args = self.args(out, extra);
        enel(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn checkpoint(&self, out: &str, step: u64) -> PathBuf {
        self.path(out).join(format!("checkpoints/step-{step}"))
    }
}

/// What a run must give again: weights, means of the optimizer, where it is, and its log without seconds.
fn result(folder: &Folder, out: &str, step: u64) -> (Vec<u8>, Vec<u8>, Value, Vec<Value>) {
    let checkpoint = folder.checkpoint(out, step);
    let read = |name: &str| std::fs::read(checkpoint.join(name)).unwrap();
    let mut place: Value = serde_json::from_slice(&read("trainer.json")).unwrap();
    for key in ["out", "device"] {
        place["config"]["run"].as_object_mut().unwrap().remove(key);
    }
    let log = std::fs::read_to_string(folder.path(out).join("log.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    };
    (read("model.safetensors"), read("optimizer/model.safetensors"), place, log.lines().map(line).collect())
}

#[test]
fn a_run_killed_again_and_again_ends_as_one_that_was_not() {
    let folder = Folder::new(6, SETTINGS);
    assert_eq!(folder.train("whole", &[]).code, Some(0));
    let whole = result(&folder, "whole", 5);
    assert_eq!(whole.3.len(), 5);
    // Twenty runs, each killed somewhere and begun again until it is done.
    let mut n_killed = 0;
    for run in 0..20u64 {
        let out = format!("killed{run}");
        let mut wait_ms = 30 + run * 41;
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
            command.args(folder.args(&out, &[])).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let begin = Instant::now();
            let mut is_done = false;
            while !is_done && begin.elapsed() < Duration::from_millis(wait_ms) {
                std::thread::sleep(Duration::from_millis(10));
                is_done = child.try_wait().unwrap().is_some();
            }
            let is_killed = !is_done && child.kill().is_ok();
            child.wait().unwrap();
            n_killed += u64::from(is_killed);
            if !is_killed {
                break;
            }
            // A machine too busy to do a step in this time gets more.
            wait_ms = wait_ms * 3 + 500;
        }
        assert!(result(&folder, &out, 5) == whole, "run {run} is another one");
        let left = std::fs::read_dir(folder.path(&out).join("checkpoints")).unwrap().count();
        assert_eq!(left, 1, "run {run} leaves something behind");
        std::fs::remove_dir_all(folder.path(&out)).unwrap();
    }
    assert!(n_killed > 0, "no run was killed");
}

#[test]
fn one_seed_gives_one_run_on_any_number_of_threads() {
    let folder = Folder::new(4, &SETTINGS.replace("steps = 5", "steps = 3"));
    for (out, device) in [("one", "cpu:1"), ("again", "cpu:1"), ("two", "cpu:2")] {
        assert_eq!(folder.train(out, &["--device", device]).code, Some(0));
    }
    let one = result(&folder, "one", 3);
    assert!(one == result(&folder, "again", 3) && one == result(&folder, "two", 3));
    folder.write(&SETTINGS.replace("steps = 5", "steps = 3").replace("seed = 3", "seed = 4"));
    assert_eq!(folder.train("other", &[]).code, Some(0));
    assert_ne!(one.3, result(&folder, "other", 3).3, "another seed is another run");
    let ran = folder.train("one", &["--steps", "5"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("another [run] seed"), "{}", ran.stderr);
}

#[test]
fn a_stopped_run_says_how_to_go_on_and_its_log_is_cut_back() {
    let settings = format!("{SETTINGS}[held_out]\nfraction = 0.3\nevery = 2\n").replace("steps = 5", "steps = 6");
    let folder = Folder::new(8, &settings.replace("save_every = 1", "save_every = 3"));
    let ran = folder.train("run", &["--stop-after", "4"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("stopped after step 4 of 6") && ran.stderr.contains("--resume"), "{}", ran.stderr);
    assert!(folder.checkpoint("run", 4).is_dir() && !folder.checkpoint("run", 3).is_dir(), "one is kept");
    let log = folder.path("run").join("log.jsonl");
    let before = std::fs::read_to_string(&log).unwrap();
    // As if it had been killed later.
    std::fs::write(&log, format!("{before}{{\"step\":5,\"held_out_loss\":9.0}}\n{{\"st")).unwrap();
    let ran = folder.train("run", &["--resume", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("after step 4"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["steps"] == 6 && report["held_out_loss"].as_f64().unwrap() > 0.0, "{report}");
    let lines = result(&folder, "run", 6).3;
    let held_out = |line: &&Value| line.get("held_out_loss").is_some();
    assert_eq!((lines.len(), lines.iter().filter(held_out).count()), (9, 3));
    assert!(lines.iter().all(|line| line["held_out_loss"] != 9.0));
    assert!(folder.train("run", &[]).stderr.contains("nothing is left to do"));

    let picture = folder.path("curves.svg");
    let run = folder.path("run").to_str().unwrap().to_owned();
    let ran = enel(&["plot", &run, &run, "-o", picture.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.ends_with("</svg>\n") && svg.contains("learning rate") && svg.contains("run held out (dashed)"));
    let picture = folder.path("curves.png");
    let ran = enel(&["plot", &run, &run, "-o", picture.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let png = std::fs::read(&picture).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let image = image::load_from_memory(&png).unwrap().to_rgb8();
    assert_eq!(image.dimensions(), (1640, 1380), "two pixels for each unit of the SVG");
    let drawn = |(x, y): (u32, u32)| {
        image::imageops::crop_imm(&image, x, y, 200, 40).to_image().pixels().any(|p| p.0 != [255; 3])
    };
    // The title of each panel; nothing is drawn between it and the legend.
    assert!([0, 460, 920].into_iter().all(|top| drawn((160, top + 6)) && !drawn((460, top + 6))));
    let gone = folder.path("none/curves.png");
    let ran = enel(&["plot", &run, "-o", gone.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot write") && !gone.exists(), "{}", ran.stderr);
    // A folder stands where the picture would go: it stays, and nothing half written is left beside it.
    std::fs::create_dir(folder.path("taken.png")).unwrap();
    let n_before = std::fs::read_dir(folder.dir.path()).unwrap().count();
    let ran = enel(&["plot", &run, "-o", folder.path("taken.png").to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot write"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(folder.dir.path()).unwrap().count(), n_before);
    assert_eq!(enel(&["plot", folder.dir.path().to_str().unwrap()]).code, Some(1));
    assert_eq!(enel(&["plot", &run, "-o", "x.bmp"]).code, Some(2));
}

#[test]
fn a_model_learns_eight_captions_to_the_letter() {
    let settings = "[trainable]\nbatch_norms = \"running\"\n[optimizer]\nrate = 3e-3\nwarmup_ratio = 0.05\n\
        [batch]\nsize = 4\n[run]\nsteps = 160\nsave_every = 160\ndevice = \"cpu\"\n";
    let folder = Folder::new(8, settings);
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let model = folder.checkpoint("run", 160);
    let clouds = folder.path("clouds");
    let mut args = vec!["caption", clouds.to_str().unwrap(), "--model", model.to_str().unwrap()];
    args.extend(["--device", "cpu", "--greedy", "--prompt", "What is this?"]);
    let ran = enel(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let captions: Value = serde_json::from_slice(&std::fs::read(folder.path("captions.json")).unwrap()).unwrap();
    for line in ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let object = Path::new(line["cloud"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap();
        let entry = captions.as_array().unwrap().iter().find(|entry| entry["object_id"] == object).unwrap();
        assert_eq!(line["text"], entry["conversations"][1]["value"], "{object}");
    }
}

#[test]
fn faults_of_the_data_are_named_and_skipped_when_told() {
    let short = SETTINGS.replace("steps = 5", "steps = 2");
    let folder = Folder::new(4, &short);
    let (missing, broken) = (folder.path("clouds/armchair.npy"), folder.path("clouds/bed1.npy"));
    std::fs::remove_file(&missing).unwrap();
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(1));
    for part in ["captions.json", "`armchair` has no cloud", "armchair_8192.npy", "missing = \"skip\""] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let whole = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let skipping = |policies: &str| folder.write(&format!("{policies}{short}"));
    skipping("missing = \"skip\"\n");
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(1));
    for part in ["object `bed1`", "bed1.npy", "corrupt = \"skip\""] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    skipping("missing = \"skip\"\ncorrupt = \"skip\"\n");
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("left out 1 object(s) without a cloud: armchair"), "{}", ran.stderr);
    assert!(ran.stderr.contains("left out: the cloud of object `bed1`"), "{}", ran.stderr);
    std::fs::write(folder.path("captions.json"), "[{\"object\": 1}]").unwrap();
    let ran = folder.train("other", &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("is no list of annotations"), "{}", ran.stderr);
}

#[test]
fn a_number_that_is_none_stops_the_run_and_harms_nothing() {
    let folder = Folder::new(2, &SETTINGS.replace("steps = 5", "steps = 4"));
    assert_eq!(folder.train("run", &["--stop-after", "1"]).code, Some(1));
    let before = std::fs::read(folder.checkpoint("run", 1).join("model.safetensors")).unwrap();
    folder.write(&SETTINGS.replace("steps = 5", "steps = 4").replace("rate = 1e-3", "rate = 1e37"));
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the settings of [optimizer]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("is NaN") || ran.stderr.contains("is inf"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Lower optimizer.rate"), "{}", ran.stderr);
    let steps: Vec<String> = std::fs::read_dir(folder.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(steps.len(), 1);
    if steps == ["step-1"] {
        let after = std::fs::read(folder.checkpoint("run", 1).join("model.safetensors")).unwrap();
        assert!(before == after);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_step_in_hand_and_saves() {
    let folder = Folder::new(
        2,
        &SETTINGS.replace("steps = 5", "steps = 100000").replace("save_every = 1", "save_every = 100000"),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_enel"));
    command.args(folder.args("run", &[])).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let log = folder.path("run/log.jsonl");
    while std::fs::metadata(&log).map_or(0, |meta| meta.len()) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("of 100000, which is saved; go on by: enel train"), "{stderr}");
    let steps = std::fs::read_to_string(&log).unwrap().lines().count() as u64;
    assert!(folder.checkpoint("run", steps).join("trainer.json").is_file());
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_checkpoint_before_as_it_was() {
    let folder = Folder::new(2, &SETTINGS.replace("steps = 5", "steps = 3"));
    assert_eq!(folder.train("run", &["--stop-after", "1"]).code, Some(1));
    let before = std::fs::read(folder.checkpoint("run", 1).join("model.safetensors")).unwrap();
    // No file may grow beyond 64 blocks; writing more fails as on a full disk, where it would otherwise be a signal.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let limited = || {
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_enel")]).args(folder.args("run", &[]));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = limited();
    assert_eq!(code, Some(1));
    for part in ["cannot save the checkpoint", "step-2", "step-1 is whole: make room"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let left: Vec<String> = std::fs::read_dir(folder.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["step-1"]);
    assert!(before == std::fs::read(folder.checkpoint("run", 1).join("model.safetensors")).unwrap());
    assert_eq!(folder.train("run", &["--resume"]).code, Some(0), "with room it goes on");
}

#[test]
fn bad_settings_are_told_with_their_key() {
    let folder = Folder::new(2, "[batch]\nsize = 0\n");
    let fault = |settings: &str, code: i32| {
        folder.write(settings);
        let ran = folder.train("run", &[]);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        ran.stderr
    };
    assert!(fault("[batch]\nsize = 0\n", 1).contains("batch.size is 0, expected 1 to"));
    assert!(fault("[batch]\nsizes = 1\n", 1).contains("unknown field `sizes`"));
    assert!(fault("[optimizer]\nrate = -1.0\n", 1).contains("optimizer.rate is -1"));
    assert!(fault("[trainable]\npatterns = [\"model.layer.*\"]\n", 1).contains("no weight is called `model.layer.*`"));
    assert!(fault("[run]\ndevice = \"gpu\"\n", 2).contains("expected auto, cpu"));
    folder.write("");
    let ran = folder.train("none", &["--resume", "--device", "cpu"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("holds no checkpoint"), "{}", ran.stderr);
    assert_eq!(enel(&["train"]).code, Some(2));
    assert_eq!(enel(&["train", "--preset", "none", "--print"]).code, Some(2));
}

#[test]
fn a_folder_of_another_width_is_told_weight_by_weight() {
    let folder = Folder::new(2, &SETTINGS.replace("steps = 5", "steps = 1"));
    assert_eq!(folder.train("run", &[]).code, Some(0));
    let start = folder.checkpoint("run", 1);
    let path = start.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"intermediate_size\": 128", "\"intermediate_size\": 192")).unwrap();
    let text = std::fs::read_to_string(folder.path("run.toml")).unwrap();
    let from = |text: &str| std::fs::write(folder.path("run.toml"), text.replace("\"tiny\"", &format!("{start:?}")));
    from(&text).unwrap();
    let ran = folder.train("second", &[]);
    assert_eq!(ran.code, Some(1));
    let part = "model.layers.0.mlp.up_proj.weight has the shape [128, 64], expected [192, 64]";
    assert!(ran.stderr.contains(part), "{}", ran.stderr);
    std::fs::write(&path, config).unwrap();
    assert_eq!(folder.train("second", &[]).code, Some(0), "a checkpoint is a model to start from");
}

#[test]
fn a_language_model_gets_a_token_embedding_and_stays_one() {
    let models = support::llama();
    let llama = models.path().join("llama");
    let folder = Folder::new(2, &SETTINGS.replace("steps = 5", "steps = 2"));
    let text = std::fs::read_to_string(folder.path("run.toml")).unwrap();
    let write = |start: &str| std::fs::write(folder.path("run.toml"), text.replace("start = \"tiny\"", start)).unwrap();
    write(&format!("start = {llama:?}"));
    let ran = folder.train("run", &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("reads text alone"), "{}", ran.stderr);
    write(&format!("start = {llama:?}\npoint = \"tiny\""));
    let ran = folder.train("run", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let model = folder.checkpoint("run", 2);
    let cloud = folder.path("clouds/bed1.npy");
    let mut args = vec!["caption", cloud.to_str().unwrap(), "--model", model.to_str().unwrap()];
    args.extend(["--device", "cpu", "--greedy", "--max-new-tokens", "4"]);
    let ran = enel(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("untrained"), "{}", ran.stderr);
}

#[test]
fn presets_print_and_plan() {
    for name in ["tiny", "small", "stage1"] {
        let printed = enel(&["train", "--preset", name, "--print"]);
        assert_eq!(printed.code, Some(0));
        assert_eq!(printed.stdout, std::fs::read_to_string(root().join(format!("samples/train/{name}.toml"))).unwrap());
    }
    let args = ["train", "--preset", "stage1", "--dry-run", "--memory", "80G", "--tokens", "256", "--json"];
    let ran = enel(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    // Layers, token embedding, projector, heads and the table of the paper's model.
    assert_eq!(report["fits"], true, "{report}");
    let learning = report["memory"]["learning"].as_u64().unwrap();
    assert!((960_000_000..1_000_000_000).contains(&learning), "{report}");
    let ran = enel(&["train", "--preset", "stage1", "--dry-run", "--memory", "8G", "--tokens", "256"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("the run does not fit"), "{}", ran.stdout);
    assert_eq!(enel(&["train", "--preset", "tiny", "--dry-run", "--memory", "lots"]).code, Some(2));
}
