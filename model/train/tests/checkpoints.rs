//! Does a run go on as if it had not stopped, and is what it saves a model?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use enel_io::Weights;
use enel_train::{Checkpoint, CheckpointError, Run, TrainError};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use support::{config, objects, state, states, trainer};

const HYBRID: &str = "[objective.masked]\nratio = 0.3\ntarget = \"feature\"\n[objective.reconstruction]\n\
    target = \"patch\"\n[optimizer]\nrate = 1e-3\n[batch]\nsize = 2\naccumulation = 2\n[run]\nsteps = 4\nkeep = 2\n";

#[test]
fn a_run_goes_on_to_the_bit() {
    goes_on("");
}

#[test]
fn runs_with_narrow_means_go_on_to_the_bit() {
    for moments in ["moments = \"bf16\"\n", "moments = \"8bit\"\n"] {
        goes_on(moments);
    }
}

/// Stops and goes on with more settings of the optimizer.
fn goes_on(optimizer: &str) {
    let settings = HYBRID.replace("rate = 1e-3\n", &format!("rate = 1e-3\n{optimizer}"));
    let (dir, out) = (objects(5), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let mut whole = trainer(config(dir.path(), &settings)).unwrap();
    let lines: Vec<(f64, f64)> = (0..4)
        .map(|_| {
            let line = whole.step().unwrap();
            if line.step <= 2 {
                whole.save(&run).unwrap();
            }
            (line.loss, line.grad_norm)
        })
        .collect();
    let (from, broken) = run.newest().unwrap().unwrap();
    assert!(from.path.ends_with("step-2") && broken.is_empty());
    let mut second = trainer(config(dir.path(), &settings)).unwrap();
    second.resume(&from).unwrap();
    assert_eq!(second.step_count(), 2);
    for expected in &lines[2..] {
        let line = second.step().unwrap();
        assert_eq!((line.loss, line.grad_norm), *expected);
    }
    for name in states(&mut whole, "") {
        let bytes = |t: &mut enel_train::Trainer| t.session().state(&name).unwrap().read().unwrap();
        assert_eq!(bytes(&mut whole), bytes(&mut second), "{name}");
    }
    let path = second.save(&run).unwrap();
    let place = Checkpoint::open(&path).unwrap().place;
    assert_eq!((place.step, place.position, place.calls), (4, 16, 8));
    assert_eq!(run.saved().unwrap(), [2, 4], "the two newest are kept");
}

#[test]
fn means_kept_otherwise_are_refused() {
    let (dir, out) = (objects(2), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let settings = |moments: &str| {
        config(dir.path(), &format!("[optimizer]\nmoments = \"{moments}\"\n[batch]\nsize = 2\n[run]\nsteps = 1\n"))
    };
    let mut first = trainer(settings("bf16")).unwrap();
    first.step().unwrap();
    first.save(&run).unwrap();
    let (from, _) = run.newest().unwrap().unwrap();
    let told = from.suits(&settings("8bit")).unwrap_err().to_string();
    assert!(told.contains("was trained with another [optimizer] moments"), "{told}");
    assert!(from.suits(&settings("bf16")).is_ok());
}

#[test]
fn a_broken_checkpoint_is_passed_over_and_another_model_is_refused() {
    let (dir, out) = (objects(2), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let text = "[batch]\nsize = 2\n[run]\nsteps = 3\nkeep = 3\n";
    let mut first = trainer(config(dir.path(), text)).unwrap();
    for _ in 0..2 {
        first.step().unwrap();
        first.save(&run).unwrap();
    }
    std::fs::write(run.checkpoint(2).join("trainer.json"), "{\"format\": 1, ").unwrap();
    let (from, broken) = run.newest().unwrap().unwrap();
    assert!(from.path.ends_with("step-1"));
    assert!(matches!(&broken[..], [CheckpointError::Format { .. }]));

    let wider =
        config(dir.path(), &text.replacen("[batch]", "[objective.reconstruction]\ntarget = \"patch\"\n[batch]", 1));
    assert!(matches!(from.suits(&wider), Err(CheckpointError::Settings { setting: "[objective]", .. })));

    // A checkpoint of the right settings whose tensors have another width.
    let mut narrow = from.clone();
    narrow.path = out.path().join("narrow");
    std::fs::create_dir_all(narrow.path.join("optimizer")).unwrap();
    let bytes = vec![0; 16];
    let view = enel_io::TensorView { dtype: enel_io::Dtype::F32, shape: &[2, 2], bytes: &bytes };
    let tensors = [("model.norm.weight", view), ("lm_head.weight", view)];
    enel_io::write_safetensors(&narrow.path.join("model.safetensors"), tensors).unwrap();
    let means = [("adam.step", view)];
    enel_io::write_safetensors(&narrow.path.join("optimizer/model.safetensors"), means).unwrap();
    let mut second = trainer(config(dir.path(), text)).unwrap();
    match second.resume(&narrow).unwrap_err() {
        TrainError::Checkpoint(CheckpointError::Misfit { faults, .. }) => {
            let all = faults.join("\n");
            assert!(all.contains("`lm_head.weight` has shape [2, 2], expected [512, 64]"), "{all}");
        }
        other => panic!("{other}"),
    }
}

/// What happens to a file of a checkpoint.
type Damage = fn(&Path);

fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn garbled(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, [&[0xff; 16], &bytes[16..]].concat()).unwrap();
}

fn gone(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn without_history(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let at = text.find("\"history\": \"").unwrap() + 12;
    std::fs::write(path, format!("{}{}", &text[..at], &text[at + 20..])).unwrap();
}

#[test]
fn whatever_is_lost_of_a_checkpoint_is_told_and_the_one_before_goes_on() {
    let (dir, out) = (objects(2), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let settings = || config(dir.path(), "[batch]\nsize = 2\n[run]\nsteps = 3\nkeep = 2\n");
    let mut first = trainer(settings()).unwrap();
    for _ in 0..2 {
        first.step().unwrap();
        first.save(&run).unwrap();
    }
    let whole = contents(&run.checkpoint(2));
    let faults: [(&str, &str, Damage); 10] = [
        ("trainer.json", "cannot use", gone),
        ("trainer.json", "EOF while parsing", cut),
        ("trainer.json", "expected value at line 1", garbled),
        ("trainer.json", "no hash of 64 hexadecimal digits", without_history),
        ("model.safetensors", "cannot go on from", gone),
        ("model.safetensors", "cannot go on from", cut),
        ("model.safetensors", "cannot go on from", garbled),
        ("optimizer/model.safetensors", "cannot go on from", gone),
        ("optimizer/model.safetensors", "cannot go on from", cut),
        ("optimizer/model.safetensors", "cannot go on from", garbled),
    ];
    for (name, part, damage) in faults {
        let before = contents(&run.checkpoint(1));
        damage(&run.checkpoint(2).join(name));
        let (from, broken) = run.newest().unwrap().unwrap();
        let faults: Vec<String> = broken.iter().map(told).collect();
        assert!(from.path.ends_with("step-1") && faults.len() == 1, "{name}: {faults:?}");
        assert!(faults[0].contains("step-2") && faults[0].contains(part), "{name}: {faults:?}");
        assert_eq!(contents(&run.checkpoint(1)), before, "{name}: what is whole stays as it was");
        let mut second = trainer(settings()).unwrap();
        second.resume(&from).unwrap();
        second.step().unwrap();
        assert_eq!(second.save(&run).unwrap(), run.checkpoint(2));
        assert_eq!(contents(&run.checkpoint(2)), whole, "{name}: the lost one is made again");
        assert_eq!(run.saved().unwrap(), [1, 2]);
    }

    // Nothing is left to go on from.
    cut(&run.checkpoint(1).join("trainer.json"));
    gone(&run.checkpoint(2).join("optimizer/model.safetensors"));
    let told = told(&run.newest().unwrap_err());
    for part in ["no checkpoint in", "is whole; put one back as it was, or begin again with another --out", "step-2"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(run.saved().unwrap(), [1, 2], "nothing is removed");
}

#[test]
fn a_broken_checkpoint_of_a_later_step_never_counts_as_one_that_is_kept() {
    let (dir, out) = (objects(2), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let mut first = trainer(config(dir.path(), "[batch]\nsize = 2\n[run]\nsteps = 3\n")).unwrap();
    first.step().unwrap();
    std::fs::create_dir(run.checkpoint(3)).unwrap();
    let path = first.save(&run).unwrap();
    assert_eq!(run.saved().unwrap(), [1, 3]);
    assert!(Checkpoint::open(&path).is_ok());
}

/// A fault and all its causes.
fn told(fault: &CheckpointError) -> String {
    let causes = std::iter::successors(Some(fault as &dyn Error), |&fault| fault.source());
    causes.map(|cause| cause.to_string()).collect::<Vec<_>>().join(" / ")
}

/// All files of a checkpoint.
fn contents(checkpoint: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = [checkpoint.to_owned(), checkpoint.join("optimizer")];
    let paths = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn another_run_in_the_same_folder_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let _first = Run::open(out.path()).unwrap();
    assert!(matches!(Run::open(out.path()), Err(CheckpointError::Busy { .. })));
}

#[test]
fn adapters_are_saved_merged_and_apart() {
    let (dir, out) = (objects(2), tempfile::tempdir().unwrap());
    let run = Run::open(out.path()).unwrap();
    let text = "[trainable]\npatterns = [\"model.point_proj.*\"]\nbatch_norms = \"running\"\n\
        [lora]\npatterns = [\"model.layers.1.self_attn.*_proj.weight\"]\nrank = 2\nalpha = 8.0\n\
        [optimizer]\nrate = 1e-2\nwarmup_ratio = 0.0\n[batch]\nsize = 2\n[run]\nsteps = 4\n";
    let mut first = trainer(config(dir.path(), text)).unwrap();
    let losses: Vec<f64> = (0..2).map(|_| first.step().unwrap().loss).collect();
    let path = first.save(&run).unwrap();
    let name = "model.layers.1.self_attn.q_proj";
    let (a, b) =
        (state(&mut first, &format!("{name}.lora_A.weight")), state(&mut first, &format!("{name}.lora_B.weight")));
    assert!(b.iter().any(|&x| x != 0.0), "the second factor begins at 0 and learns");

    let merged = Weights::open(&path).unwrap().to_f32(&format!("{name}.weight")).unwrap();
    let full = trainer(config(dir.path(), "[batch]\nsize = 2\n[run]\nsteps = 1\n"));
    let fixed = state(&mut full.unwrap(), &format!("{name}.weight"));
    for o in 0..64 {
        for i in 0..64 {
            let product: f64 = (0..2).map(|r| f64::from(b[o * 2 + r]) * f64::from(a[r * 64 + i])).sum();
            let want = f64::from(fixed[o * 64 + i]) + 4.0 * product;
            assert!((f64::from(merged[o * 64 + i]) - want).abs() < 1e-6, "{o} {i}");
        }
    }
    let adapter = Weights::open(&path.join("adapter/adapter_model.safetensors")).unwrap();
    let peft = format!("base_model.model.{name}.lora_A.weight");
    assert_eq!(adapter.to_f32(&peft).unwrap(), a);
    assert_eq!(adapter.names().count(), 8, "both factors of q, k, v and o");
    let stated = std::fs::read_to_string(path.join("adapter/adapter_config.json")).unwrap();
    for part in ["\"r\": 2", "\"lora_alpha\": 8.0", "\"q_proj\"", "\"peft_type\": \"LORA\""] {
        assert!(stated.contains(part), "{stated}");
    }

    let next = first.step().unwrap().loss;
    assert!(next < losses[0], "{losses:?} {next}");
    let mut second = trainer(config(dir.path(), text)).unwrap();
    second.resume(&run.newest().unwrap().unwrap().0).unwrap();
    assert_eq!(second.step().unwrap().loss, next, "it goes on from the factors, not from the merged matrices");
}
