//! Does `enel-compile verify` prove kernels, and does it catch those that are wrong?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use anyhow::bail;
use enel_bundle::{AccOp, Body, Bundle, ImageKind};
use enel_cli::compile::toolchain;
use enel_cli::compile::verify::{family, prove::Lost, prove::Settings};
use enel_cli::{device, source};
use enel_lower::FrontConfig;
use enel_nvrtc::{Arch, locate};
use enel_passes::{Mode, Passes};
use enel_verify::draw::Family;
use enel_verify::{Case, Data, Precision, Stored, evaluate};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Exit code, the JSON on stdout, and stderr.
fn verify(args: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_enel-compile")).arg("verify").args(args).output().unwrap();
    let stdout = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), stdout, String::from_utf8(output.stderr).unwrap())
}

/// Whether kernels can be compiled; where `CI=true` they must.
fn has_compiler() -> bool {
    match locate(&toolchain::search()) {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs NVRTC: {error}");
            println!("skipped: no NVRTC");
            false
        }
    }
}

fn proves_every_family(device: &str, cases: u64) {
    let (code, found, stderr) = verify(&["--device", device, "--cases", &cases.to_string(), "--json"]);
    assert_eq!(code, Some(0), "{found:#}\n{stderr}");
    let proofs = found["proofs"].as_array().unwrap();
    let names: Vec<&str> = proofs.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, Family::ALL.map(Family::name));
    assert!(proofs.iter().all(|p| p["cases"].as_u64() == Some(cases)), "{found:#}");
    assert_eq!((found["passed"].as_bool(), found["seed"].as_u64()), (Some(true), Some(0)));
}

#[test]
fn every_family_is_right_on_the_cpu() {
    proves_every_family("cpu", 8);
}

#[test]
fn every_family_is_right_on_the_emulator() {
    if has_compiler() {
        proves_every_family("emulated", 2);
    }
}

/// What `change` makes of a call, computed in f32.
fn changed(case: &Case, change: &dyn Fn(&mut Body)) -> anyhow::Result<Vec<Data>> {
    let mut desc = case.desc.clone();
    change(&mut desc.body);
    Ok(evaluate(&desc, &case.sizes, &case.buffers, (Precision::Single, Stored::Rounded))?)
}

#[test]
fn a_face_given_another_program_is_caught_and_shrunk() {
    let settings = Settings { cases: 16, seed: 3 };
    let honest = family::one(Family::Reduce, settings, |case| changed(case, &|_| ()));
    assert_eq!((honest.cases, honest.failure.is_none()), (16, true));

    // The largest where the smallest is wanted.
    let swap = |body: &mut Body| {
        let Body::Reduce(body) = body else { panic!("a reduction") };
        for acc in &mut body.accs {
            acc.op = if acc.op == AccOp::Min { AccOp::Max } else { acc.op };
        }
    };
    let proof = family::one(Family::Reduce, settings, |case| changed(case, &swap));
    let failure = proof.failure.unwrap();
    assert!(failure.reason.contains("buffer 4"), "{failure:?}");
    // Two elements are the fewest whose largest and smallest differ.
    assert!(failure.call.starts_with("reduce [1, 2]") || failure.call.starts_with("reduce [1, 7]"), "{failure:?}");

    // Scores scaled by a little too much.
    let sharpen = |body: &mut Body| {
        let Body::Attention(body) = body else { panic!("an attention") };
        body.scale = (f32::from_bits(body.scale) * 1.01).to_bits();
    };
    assert!(family::one(Family::Attention, settings, |case| changed(case, &sharpen)).failure.is_some());
    // Nothing at all.
    let zeros = |case: &Case| Ok(case.buffers.iter().map(|b| Data::zeros(b.dtype(), b.len())).collect());
    for family in Family::ALL {
        assert!(family::one(family, settings, zeros).failure.is_some(), "{} passes as zeros", family.name());
    }
}

#[test]
fn a_device_that_is_lost_leaves_the_call_that_lost_it() {
    let settings = Settings { cases: 16, seed: 3 };
    let mut calls = 0;
    let proof = family::one(Family::Map, settings, |case| {
        calls += 1;
        match calls {
            1 | 2 => changed(case, &|_| ()),
            3 => bail!("an illegal address"),
            _ => Err(Lost.into()),
        }
    });
    let failure = proof.failure.unwrap();
    assert_eq!((proof.cases, failure.reason.as_str()), (2, "an illegal address"));
    // The same call, where the device goes on and every smaller call is right.
    let mut calls = 0;
    let alone = family::one(Family::Map, settings, |case| {
        calls += 1;
        if calls == 3 { bail!("an illegal address") } else { changed(case, &|_| ()) }
    });
    assert_eq!(alone.failure.unwrap().call, failure.call);
}

fn bundle(targets: &[Arch]) -> Bundle {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/graphs/lga.tir");
    let graph = source::read_graph(&path).unwrap();
    let config = FrontConfig { mode: Mode::F32, passes: Passes::AllBut(vec![]), memory: None };
    device::build(&[&graph], &config, targets).unwrap()
}

#[test]
fn a_bundle_is_proved_kernel_by_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lga.enel");
    let bundle = bundle(&[]);
    bundle.write(&path).unwrap();
    let path = path.to_str().unwrap();
    let (code, found, stderr) = verify(&[path, "--device", "cpu", "--cases", "2", "--json"]);
    assert_eq!(code, Some(0), "{found:#}\n{stderr}");
    let rows = ["proofs", "skipped"].map(|name| found[name].as_array().unwrap().len());
    assert_eq!(rows.iter().sum::<usize>(), bundle.kernels.len(), "{found:#}");
    assert!(rows[0] > 0);

    // What is too much to evaluate is named, and a proof of nothing is no proof.
    let (code, found, _) = verify(&[path, "--device", "cpu", "--work", "0", "--json"]);
    assert_eq!(code, Some(1));
    let skipped = found["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), bundle.kernels.len());
    assert!(skipped.iter().all(|s| !s["reason"].as_str().unwrap().is_empty()));
}

#[test]
fn altered_code_of_a_bundle_is_caught() {
    if !has_compiler() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lga.enel");
    let mut bundle = bundle(&[Arch::COMPUTE_80]);
    bundle.write(&path).unwrap();
    let args = [path.to_str().unwrap(), "--device", "emulated", "--cases", "1", "--json"];
    let (code, found, stderr) = verify(&args);
    assert_eq!(code, Some(0), "{found:#}\n{stderr}");

    for image in bundle.images.iter_mut().filter(|image| image.kind == ImageKind::Ptx) {
        let text = String::from_utf8(std::mem::take(&mut image.bytes)).unwrap();
        image.bytes = text.replace("fma.rn.f32", "fma.rz.f32").replace("add.f32", "sub.f32").into_bytes();
    }
    bundle.write(&path).unwrap();
    let (code, found, _) = verify(&args);
    assert_eq!((code, found["passed"].as_bool()), (Some(1), Some(false)));
    let wrong = found["proofs"].as_array().unwrap().iter().find(|p| !p["failure"].is_null()).unwrap();
    assert!(wrong["failure"]["call"].as_str().unwrap().starts_with("plan "), "{wrong:#}");
}

#[test]
fn what_is_no_family_is_bad_usage() {
    let (code, _, stderr) = verify(&["--family", "fft", "--device", "cpu"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`fft` is no family") && stderr.contains("topk"), "{stderr}");
}
