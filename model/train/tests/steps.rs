//! Does a step mean what it says, whatever the objective, the division of a batch, and the weights that learn?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use enel_io::{Dtype, TensorView, write_safetensors};
use enel_train::order::Order;
use enel_train::{StartError, TrainError};
use std::error::Error;
use support::{config, objects, state, states, trainer};

const FROZEN: &str = "[trainable]\nbatch_norms = \"running\"\n[optimizer]\nschedule = \"constant\"\nrate = 1e-3\n";

#[test]
fn a_batch_of_four_is_four_accumulated_ones() {
    let dir = objects(4);
    let mut first_means = Vec::new();
    for batch in ["size = 4", "size = 1\naccumulation = 4"] {
        let text = format!("{FROZEN}[batch]\n{batch}\n[run]\nsteps = 1\n");
        let mut trainer = trainer(config(dir.path(), &text)).unwrap();
        let line = trainer.step().unwrap();
        let names = states(&mut trainer, "adam.m.");
        assert!(names.len() > 40);
        let means: Vec<Vec<f32>> = names.iter().map(|name| state(&mut trainer, name)).collect();
        first_means.push((line.loss, line.grad_norm, line.labels, means.concat()));
    }
    let [whole, parts] = &first_means[..] else { unreachable!() };
    let off = |a: f64, b: f64| ((a - b) / a).abs();
    assert!(off(whole.0, parts.0) < 1e-6, "loss {} and {}", whole.0, parts.0);
    assert!(off(whole.1, parts.1) < 1e-6, "length {} and {}", whole.1, parts.1);
    assert_eq!(whole.2, parts.2);
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let size = length(&mut whole.3.iter().map(|&x| f64::from(x)));
    let apart = length(&mut whole.3.iter().zip(&parts.3).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    assert!(apart / size < 1e-6, "derivatives are {} apart", apart / size);
}

#[test]
fn a_mean_of_means_is_another_loss() {
    let dir = objects(4);
    let loss = |mean: &str| {
        let text = format!("{FROZEN}[batch]\nsize = 1\naccumulation = 4\nmean = \"{mean}\"\n[run]\nsteps = 1\n");
        trainer(config(dir.path(), &text)).unwrap().step().unwrap().loss
    };
    // Answers differ in length, so short ones count more in a mean of means.
    assert!((loss("tokens") - loss("calls")).abs() > 1e-4);
}

#[test]
fn every_objective_takes_steps() {
    let dir = objects(4);
    let teacher = dir.path().join("teacher.safetensors");
    let values: Vec<u8> = (0..16 * 8).flat_map(|i| (i as f32 / 64.0).to_le_bytes()).collect();
    let view = TensorView { dtype: Dtype::F32, shape: &[16, 8], bytes: &values };
    write_safetensors(&teacher, ["o0", "o1", "o2", "o3"].map(|name| (name, view))).unwrap();
    let hybrid =
        "[objective.masked]\nratio = 0.3\ntarget = \"feature\"\n[objective.reconstruction]\ntarget = \"patch\"\n";
    let objectives = [
        ("hybrid", hybrid.to_owned(), vec!["loss_mae", "loss_recon"]),
        ("contrast", "[objective.contrast]\n".to_owned(), vec!["loss_contrast"]),
        (
            "teacher",
            "[objective.distillation]\ntokens = \"teacher.safetensors\"\nwidth = 8\n".to_owned(),
            vec!["loss_distill"],
        ),
    ];
    for (name, objective, terms) in objectives {
        let text = format!("{objective}[optimizer]\nrate = 1e-3\n[batch]\nsize = 2\n[run]\nsteps = 3\n");
        let mut trainer = trainer(config(dir.path(), &text)).unwrap();
        for _ in 0..3 {
            let line = trainer.step().unwrap();
            assert!(line.loss.is_finite() && line.grad_norm > 0.0, "{name}");
            for term in terms.iter().chain(&["loss_ce"]) {
                assert!(line.terms.get(*term).is_some_and(|x| *x > 0.0), "{name}: {term} of {:?}", line.terms);
            }
        }
    }
}

#[test]
fn text_without_a_cloud_is_learned_beside_clouds() {
    let dir = objects(2);
    let path = dir.path().join("captions.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let talk = "{\"object_id\": \"none\", \"conversations\": [{\"from\": \"human\", \"value\": \"Who?\"}, \
        {\"from\": \"gpt\", \"value\": \"Nobody.\"}]}";
    std::fs::write(&path, text.replacen('[', &format!("[{talk}, "), 1)).unwrap();
    let hybrid = "[objective.masked]\nratio = 0.3\ntarget = \"patch\"\n[batch]\nsize = 3\n[run]\nsteps = 2\n";
    let mut together = trainer(config(dir.path(), hybrid)).unwrap();
    let line = together.step().unwrap();
    assert!(line.loss.is_finite() && line.terms["loss_mae"] > 0.0);
    let alone = hybrid.replace("size = 3", "size = 1");
    let mut alone = trainer(config(dir.path(), &alone)).unwrap();
    let fault = (0..3).find_map(|_| alone.step().err()).unwrap().to_string();
    assert!(fault.contains("hold no cloud") && fault.contains("raise batch.size"), "{fault}");
}

#[test]
fn sixteen_bits_learn_too() {
    let dir = objects(2);
    let losses = ["f32", "bf16"].map(|mode| {
        let text = format!("{FROZEN}[batch]\nsize = 2\n[run]\nsteps = 6\nmode = \"{mode}\"\n");
        let mut trainer = trainer(config(dir.path(), &text)).unwrap();
        let losses: Vec<f64> = (0..6).map(|_| trainer.step().unwrap().loss).collect();
        let weights = state(&mut trainer, "model.layers.0.mlp.up_proj.weight");
        let is_wide = weights.iter().any(|x| x.to_bits() & 0xffff != 0);
        assert!(is_wide, "weights that learn keep all their digits");
        losses
    });
    let [wide, narrow] = &losses;
    assert!(narrow[5] < narrow[0], "{narrow:?}");
    for (a, b) in wide.iter().zip(narrow) {
        // Eight bits of a number are left, and logits are sums of many.
        assert!((a - b).abs() < 0.02 * a, "{wide:?} {narrow:?}");
    }
}

#[test]
fn narrow_means_learn_as_well() {
    let dir = objects(4);
    let losses = ["f32", "bf16", "8bit"].map(|moments| {
        let text = format!(
            "[trainable]\nbatch_norms = \"running\"\n[optimizer]\nrate = 3e-3\nwarmup_ratio = 0.05\n\
             moments = \"{moments}\"\n[batch]\nsize = 4\n[run]\nsteps = 60\n"
        );
        let mut trainer = trainer(config(dir.path(), &text)).unwrap();
        let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
        losses
    });
    let [wide, narrow @ ..] = &losses;
    assert!(wide[59] < 0.1 * wide[0], "{wide:?}");
    for losses in narrow {
        assert!(losses[59] < 1.25 * wide[59] + 0.02, "{} and {}", losses[59], wide[59]);
    }
}

#[test]
fn less_memory_changes_no_bit() {
    let dir = objects(2);
    let weights = ["", "temporaries_gb = 0.0001\n"].map(|bound| {
        let text = format!("[batch]\nsize = 2\n{bound}[run]\nsteps = 2\n");
        let mut trainer = trainer(config(dir.path(), &text)).unwrap();
        trainer.step().unwrap();
        trainer.step().unwrap();
        states(&mut trainer, "adam.v.")
            .iter()
            .flat_map(|name| state(&mut trainer, name))
            .map(f32::to_bits)
            .collect::<Vec<_>>()
    });
    assert_eq!(weights[0], weights[1]);
    let wrong = config_fault("[batch]\ntemporaries_gb = 0.0\n");
    assert!(wrong.contains("batch.temporaries_gb"), "{wrong}");
}

fn config_fault(more: &str) -> String {
    let text = format!("[model]\nstart = \"tiny\"\n[data]\nannotations = \"a.json\"\nclouds = \".\"\n{more}");
    let config = enel_train::Config::parse(&text, std::path::Path::new("run.toml"));
    let error = config.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

#[test]
fn numbers_nothing_can_be_trained_with_are_refused_by_their_key() {
    let head = "[objective.masked]\nratio = 0.3\ntarget = \"patch\"\n";
    let contrast = "[batch]\nsize = 2\n[objective.contrast]\n";
    for (text, wanted) in [
        ("[objective]\ncross_entropy = inf\n", "objective.cross_entropy is inf, expected a number of at least 0"),
        (&head.replace("0.3", "1.0"), "objective.masked.ratio is 1, expected at least 0 and below 1"),
        (&head.replace("0.3", "nan"), "objective.masked.ratio is NaN"),
        (&format!("{head}weight = -1.0\n"), "objective.masked.weight is -1"),
        (&format!("{head}[objective.reconstruction]\ntarget = \"patch\"\nweight = nan\n"), "objective.reconstruction"),
        (&format!("{contrast}weight = inf\n"), "objective.contrast.weight is inf"),
        (&format!("{contrast}shift = nan\n"), "objective.contrast.shift is NaN"),
        (&format!("{contrast}temperature = 0.0\n"), "objective.contrast.temperature is 0, expected a number above 0"),
        ("[objective.distillation]\ntokens = \"t\"\nwidth = 0\n", "objective.distillation.width is 0"),
        ("[objective.distillation]\ntokens = \"t\"\nwidth = 1\nweight = nan\n", "objective.distillation.weight is NaN"),
    ] {
        let told = config_fault(text);
        assert!(told.contains(wanted), "{told}");
    }
    let dir = objects(1);
    let fault = trainer(config(dir.path(), "[run]\nepochs = 1e9\n")).unwrap_err();
    assert!(matches!(fault, TrainError::Steps { total: 1_000_000_000 }), "{fault}");
}

#[test]
fn a_fault_that_is_read_ahead_is_told_in_its_own_step() {
    let dir = objects(4);
    let settings = || config(dir.path(), "[batch]\nsize = 1\naccumulation = 2\n[run]\nsteps = 2\n");
    let mut whole = trainer(settings()).unwrap();
    let losses = [whole.step().unwrap().loss, whole.step().unwrap().loss];
    let object = format!("o{}", Order::new(0, 4).at(3));
    let cloud = dir.path().join(format!("{object}.npy"));
    let bytes = std::fs::read(&cloud).unwrap();
    std::fs::write(&cloud, &bytes[..bytes.len() / 2]).unwrap();
    let mut second = trainer(settings()).unwrap();
    assert_eq!(second.step().unwrap().loss, losses[0]);
    let fault = second.step().unwrap_err();
    let cause = fault.source().unwrap().to_string();
    assert!(fault.to_string().contains(&format!("object `{object}`")), "{fault}");
    assert!(cause.contains(&format!("{object}.npy")), "{cause}");
    std::fs::write(&cloud, bytes).unwrap();
    assert_eq!(second.step().unwrap().loss, losses[1], "nothing was lost");
    assert!(second.step().is_ok(), "who wants more steps than the run has gets them");
}

#[test]
fn only_what_is_named_learns() {
    let dir = objects(2);
    let text = "[trainable]\npatterns = [\"model.point_proj.*\", \"model.embed_tokens.weight\"]\n\
        embedding_rows = \"marks\"\n[optimizer]\nrate = 1e-2\nwarmup_ratio = 0.0\n[batch]\nsize = 2\n[run]\nsteps = 2\n";
    let mut trainer = trainer(config(dir.path(), text)).unwrap();
    let table = state(&mut trainer, "model.embed_tokens.weight");
    trainer.step().unwrap();
    trainer.step().unwrap();
    let moved: Vec<usize> = state(&mut trainer, "model.embed_tokens.weight")
        .chunks(64)
        .zip(table.chunks(64))
        .enumerate()
        .filter_map(|(row, (now, before))| (now != before).then_some(row))
        .collect();
    let (start, end) = trainer.base().vocabulary.frame.unwrap();
    assert_eq!(moved, [start as usize, end as usize]);
    assert_eq!(states(&mut trainer, "model.layers."), Vec::<String>::new());
}

#[test]
fn patterns_that_mean_nothing_are_refused() {
    let dir = objects(2);
    let fault = |text: &str| match trainer(config(dir.path(), text)).unwrap_err() {
        TrainError::Start(fault) => fault,
        other => panic!("{other}"),
    };
    let pattern = fault("[trainable]\npatterns = [\"model.layer.0.*\"]\n");
    assert!(matches!(pattern, StartError::Pattern { key: "trainable.patterns", .. }), "{pattern}");
    let lora = "[lora]\npatterns = [\"*q_proj.weight\"]\nrank = 2\nalpha = 2.0\n";
    let both = fault(&format!("[trainable]\npatterns = [\"model.layers.*\"]\n{lora}"));
    assert!(matches!(both, StartError::Both { .. }), "{both}");
    let none = fault("[trainable]\npatterns = []\n[lora]\npatterns = [\"*norm.weight\"]\nrank = 2\nalpha = 2.0\n");
    assert!(matches!(none, StartError::Pattern { key: "lora.patterns", .. }), "{none}");
}
