//! The calls a GPU gets, against a stand-in for its driver (`driver.c`) that runs one kernel on the host.
//!
//! A driver is found by the loader, which looks where it is told when a process starts: each test runs this very program
//! again, with the stand-in in the loader's path, and reads what the stand-in said.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use crate::{emulated, numbers, session, tensors};
use enel_runtime::{Device, OpenError, RunError, RunOptions, Session};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Set in the process that has the stand-in.
const INSIDE: &str = "ENEL_STAND_IN_DRIVER";

/// Runs the test `name` where the stand-in is the driver, with `settings`; what was said, or `None` without a C compiler.
fn with_driver(name: &str, settings: &[(&str, &str)]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime/driver.c");
    let library = dir.path().join("libcuda.so");
    // Another name than the file's: the compiler library looks for a driver too, and asks more of it.
    let options = ["-shared", "-fPIC", "-Wl,-soname,libstandin.so", "-o"];
    match Command::new("cc").args(options).arg(&library).arg(source).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => {
            println!("skipped: no C compiler");
            return None;
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").env("LD_LIBRARY_PATH", dir.path());
    let output = command.envs(settings.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    assert!(!said.contains("misuse"), "{said}");
    Some(said)
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn on_gpu(bundle: enel_bundle::Bundle) -> Result<Session, OpenError> {
    Session::new(Arc::new(bundle), Device::open("cuda:0")?)
}

#[test]
fn plans_run_are_recorded_and_replayed() {
    if !is_inside() {
        let Some(said) = with_driver("cuda::plans_run_are_recorded_and_replayed", &[]) else { return };
        assert_eq!(said.matches("loaded: machine code").count(), 1, "{said}");
        // The first run of a size launches, later ones replay; a recording that had to go is made anew at once.
        assert_eq!(said.matches("replayed").count(), 4, "{said}");
        assert!(said.contains("left: 0 allocations, 0 modules, 0 events, 0 graphs"), "{said}");
        return;
    }
    let mut bundle = emulated::bundle(0);
    // More shared memory than a kernel gets unasked.
    bundle.kernels[0].launch.as_mut().unwrap().smem_bytes = 100 << 10;
    let mut gpu = on_gpu(bundle).unwrap();
    let mut cpu = session(emulated::bundle(0), Device::open("cpu:1").unwrap());
    // The same size again and again; then one that moves the workspace, whose recordings must go.
    for (at, t) in [5, 5, 5, 40, 5, 5].into_iter().enumerate() {
        let inputs = tensors(&[("x", numbers(&[t, 8], at))]);
        let symbols = [("T", t as i64), ("B", 2)];
        assert_eq!(
            gpu.run("prefill", &symbols, &inputs).unwrap(),
            cpu.run("prefill", &symbols, &inputs).unwrap(),
            "{at}"
        );
    }
    let options = RunOptions { time_steps: true, ..RunOptions::default() };
    let inputs = tensors(&[("x", numbers(&[5, 8], 9))]);
    let timed = gpu.run_with("prefill", &[("T", 5), ("B", 2)], &inputs, &options).unwrap();
    assert_eq!(timed.outputs, cpu.run("prefill", &[("T", 5), ("B", 2)], &inputs).unwrap());
    assert!(timed.stats.steps.len() == timed.stats.launches + timed.stats.copies && timed.stats.launches > 1);
    assert!(timed.stats.steps.iter().all(|step| step.time_us == 250.0), "{:?}", timed.stats.steps);
}

#[test]
fn a_fault_is_told_and_the_device_is_lost() {
    if !is_inside() {
        with_driver("cuda::a_fault_is_told_and_the_device_is_lost", &[("STAND_IN_FAULT", "2")]);
        return;
    }
    let mut gpu = on_gpu(emulated::bundle(0)).unwrap();
    let inputs = tensors(&[("x", numbers(&[5, 8], 0))]);
    let error = gpu.run("prefill", &[("T", 5), ("B", 2)], &inputs).unwrap_err();
    let (RunError::Device { source, .. } | RunError::Step { source, .. }) = error else { panic!("{error}") };
    assert!(source.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{source}");
    assert!(gpu.run("prefill", &[("T", 5), ("B", 2)], &inputs).is_err());

    let (mut device, bundle) = (Device::open("cuda:0"), emulated::bundle(0));
    let lost = device.as_mut().map_or(true, |device| {
        let _ = device.run_kernel(&bundle, 0, &mut [vec![0; 32], vec![0; 32]], &[8]);
        device.is_lost()
    });
    assert!(lost);
}

#[test]
fn code_that_is_refused_is_named_with_the_driver() {
    let settings = [("STAND_IN_REFUSE", "1"), ("STAND_IN_VERSION", "12040")];
    if !is_inside() {
        with_driver("cuda::code_that_is_refused_is_named_with_the_driver", &settings);
        return;
    }
    // Text still loads, and an older driver times on the host's clock.
    let mut gpu = on_gpu(emulated::bundle(0)).unwrap();
    let options = RunOptions { time_steps: true, ..RunOptions::default() };
    let inputs = tensors(&[("x", numbers(&[5, 8], 0))]);
    assert!(gpu.run_with("prefill", &[("T", 5), ("B", 2)], &inputs, &options).unwrap().stats.steps.len() > 1);

    let mut machine_code = emulated::bundle(0);
    machine_code.images.truncate(1);
    let OpenError::Load { source, .. } = on_gpu(machine_code).unwrap_err() else { panic!() };
    let said = source.to_string();
    assert!(said.contains("sm_90a: cuModuleLoadData returned CUDA_ERROR_NO_BINARY_FOR_GPU"), "{said}");
    assert!(said.contains("made for CUDA 12.4") && said.ends_with("update the driver to one for CUDA 13"), "{said}");
}

#[test]
fn an_old_driver_and_another_card_are_told() {
    let name = "cuda::an_old_driver_and_another_card_are_told";
    if !is_inside() {
        with_driver(name, &[("STAND_IN_VERSION", "11080")]);
        // Ampere runs no code of Hopper's; what is left is text.
        let Some(said) = with_driver(name, &[("STAND_IN_MAJOR", "8")]) else { return };
        assert!(said.contains("loaded: text") && !said.contains("machine code"), "{said}");
        return;
    }
    match on_gpu(emulated::bundle(0)) {
        Ok(gpu) => assert_eq!(gpu.device_name(), "cuda:0 (Stand-in, sm_80)"),
        Err(error) => assert!(error.to_string().contains("supports CUDA 11.8, 12.0 is needed"), "{error}"),
    }
}
