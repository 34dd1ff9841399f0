//! Runs give what the plan says, check what they are given, and reuse their memory.

use crate::plain::PlainDevice;
use crate::{devices, numbers, plans, session, tensors};
use enel_runtime::{Device, HostTensor, InputFault, OpenError, RunError, RunOptions, Session};
use enel_types::{DType, DimError};

fn ready(device: Device) -> Session {
    let mut session = session(plans::bundle(), device);
    session.bind(&tensors(&[("w", numbers(&[4, 8], 1))])).unwrap();
    session
}

/// `y` and `top` of the hand-built plan, computed the long way.
fn expected(x: &HostTensor) -> (Vec<f32>, Vec<f32>) {
    let (x, w) = (x.to_f32().unwrap(), numbers(&[4, 8], 1).to_f32().unwrap());
    let mut y = Vec::new();
    let mut top = Vec::new();
    for row in x.chunks(8) {
        top.push(row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(v + 1.0)));
        y.extend(w.chunks(8).map(|w| row.iter().zip(w).map(|(a, b)| (a + 1.0) * (b + 1.0)).sum::<f32>()));
    }
    (y, top)
}

#[test]
fn a_plan_computes_what_it_says_on_every_device() {
    for (name, device) in devices() {
        let mut session = ready(device);
        for t in [1, 12, 3, 64, 12] {
            let x = numbers(&[t, 8], t);
            let outputs = session.run("prefill", &[("T", t as i64), ("B", 2)], &tensors(&[("x", x.clone())])).unwrap();
            let (y, top) = expected(&x);
            assert_eq!(outputs["y"].to_f32().unwrap(), y, "{name}, T = {t}");
            assert_eq!(outputs["y"].shape(), [t, 4]);
            assert_eq!(outputs["top"].to_f32().unwrap(), top, "{name}, T = {t}");
            assert_eq!(outputs.len(), 2, "a state is no downloaded output");
        }
    }
}

#[test]
fn repeated_runs_allocate_nothing_and_replay() {
    let device = PlainDevice::default();
    let counts = device.counts.clone();
    let mut session = ready(Device::from_backend(Box::new(device)));
    let mut run = |t: usize| {
        let x = numbers(&[t, 8], t);
        let inputs = tensors(&[("x", x.clone())]);
        let options = RunOptions::default();
        let output = session.run_with("prefill", &[("T", t as i64), ("B", 1)], &inputs, &options).unwrap();
        assert_eq!(output.outputs["y"].to_f32().unwrap(), expected(&x).0);
        output.stats.replayed
    };
    assert!(!run(40), "the first run launches plainly");
    let before = counts.lock().unwrap().allocations;
    assert!(run(40), "the second records and replays");
    assert!(run(40));
    assert!(!run(5), "other sizes are another recording");
    assert!(run(5));
    assert_eq!(counts.lock().unwrap().allocations, before, "smaller sizes fit the workspace");
    run(64);
    assert_eq!(counts.lock().unwrap().allocations, before + 1, "larger sizes grow it once");
    assert!(run(40), "recordings of the old workspace are made anew");
    drop(session);
    assert_eq!(counts.lock().unwrap().live, 0, "everything is given back");
}

#[test]
fn a_size_that_fits_still_runs_after_one_that_does_not() {
    let device = PlainDevice::default();
    let counts = device.counts.clone();
    let mut session = ready(Device::from_backend(Box::new(device)));
    let mut run = |t: usize| {
        let x = numbers(&[t, 8], t);
        let outputs = session.run("prefill", &[("T", t as i64), ("B", 1)], &tensors(&[("x", x.clone())]))?;
        assert_eq!(outputs["y"].to_f32().unwrap(), expected(&x).0);
        Ok::<(), RunError>(())
    };
    run(4).unwrap();
    run(4).unwrap();
    counts.lock().unwrap().limit_bytes = Some(4096);
    let refused = run(64).unwrap_err();
    assert!(matches!(refused, RunError::Device { verb: "allocate", .. }), "{refused}");
    run(4).unwrap();
    counts.lock().unwrap().limit_bytes = None;
    run(64).unwrap();
    run(4).unwrap();
}

#[test]
fn only_a_run_that_worked_is_recorded_next() {
    let device = PlainDevice::default();
    let counts = device.counts.clone();
    let mut session = ready(Device::from_backend(Box::new(device)));
    let inputs = tensors(&[("x", numbers(&[3, 8], 1))]);
    let mut replayed = || {
        let options = RunOptions::default();
        session.run_with("prefill", &[("T", 3), ("B", 1)], &inputs, &options).map(|output| output.stats.replayed)
    };
    counts.lock().unwrap().fail_launch = true;
    assert!(matches!(replayed(), Err(RunError::Step { .. })));
    assert!(!replayed().unwrap(), "still the first that works");
    counts.lock().unwrap().fail_launch = true;
    assert!(replayed().is_err(), "recording fails and ends");
    assert!(replayed().unwrap(), "recording starts anew");
}

#[test]
fn many_sizes_keep_a_bounded_number_of_recordings() {
    let device = PlainDevice::default();
    let mut session = ready(Device::from_backend(Box::new(device)));
    for round in 0..2 {
        for t in 1..=40usize {
            let x = numbers(&[t, 8], t + round);
            let outputs = session.run("decode", &[("T", t as i64), ("B", 1)], &tensors(&[("x", x.clone())])).unwrap();
            assert_eq!(outputs["y"].to_f32().unwrap(), expected(&x).0);
        }
    }
}

#[test]
fn stats_count_and_time_on_request() {
    for (name, device) in devices() {
        let mut session = ready(device);
        let inputs = tensors(&[("x", numbers(&[2, 8], 0))]);
        let options = RunOptions { time_steps: true, outputs: Some(vec!["top".into()]) };
        let output = session.run_with("prefill", &[("T", 2), ("B", 1)], &inputs, &options).unwrap();
        assert_eq!(output.outputs.keys().collect::<Vec<_>>(), ["top"]);
        assert_eq!((output.stats.launches, output.stats.copies), (4, 1), "{name}");
        let names: Vec<&str> = output.stats.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["add_one", "row_max", "matmul", "add_one", "copy"]);
        assert!(output.stats.arena_bytes > 0 && output.stats.arena_bytes < output.stats.workspace_bytes);
    }
}

#[test]
fn wrong_calls_are_refused_and_say_why() {
    for (_, device) in devices() {
        let mut session = ready(device);
        let x = || tensors(&[("x", numbers(&[2, 8], 0))]);
        let mut run = |plan: &str, symbols: &[(&str, i64)], inputs| session.run(plan, symbols, &inputs).unwrap_err();
        let all = [("T", 2), ("B", 1)];
        assert!(matches!(run("train", &all, x()), RunError::UnknownPlan { known, .. } if known.len() == 2));
        assert!(matches!(run("prefill", &[("T", 2)], x()), RunError::Symbol { problem: "missing", .. }));
        let unknown = run("prefill", &[("T", 2), ("B", 1), ("N", 1)], x());
        assert!(matches!(unknown, RunError::Symbol { problem: "unknown", .. }));
        let twice = run("prefill", &[("T", 2), ("T", 2), ("B", 1)], x());
        assert!(matches!(twice, RunError::Symbol { problem: "given twice", .. }));
        let large = run("prefill", &[("T", 65), ("B", 1)], x());
        assert!(matches!(large, RunError::Size { source: DimError::OutOfBounds { .. }, .. }));

        let RunError::Inputs(faults) = run("prefill", &all, tensors(&[("z", numbers(&[1], 0))])) else { panic!() };
        let (x, z) = (|| "x".to_owned(), "z".to_owned());
        assert_eq!(faults, [InputFault::Missing { name: x() }, InputFault::Unknown { name: z }]);
        let RunError::Inputs(faults) = run("prefill", &all, tensors(&[("x", numbers(&[3, 8], 0))])) else { panic!() };
        let (shape, got_shape, dtype) = (vec![2, 8], vec![3, 8], DType::F32);
        assert_eq!(faults, [InputFault::Type { name: x(), dtype, shape, got_dtype: DType::F32, got_shape }]);
        let ints = HostTensor::from_i32(&[2, 8], &[0; 16]).unwrap();
        assert!(matches!(run("prefill", &all, tensors(&[("x", ints)])), RunError::Inputs(_)));
        let options = RunOptions { outputs: Some(vec!["z".into()]), ..RunOptions::default() };
        let inputs = tensors(&[("x", numbers(&[2, 8], 0))]);
        let unknown = session.run_with("prefill", &all, &inputs, &options).unwrap_err();
        assert!(matches!(unknown, RunError::UnknownOutput { .. }));
        assert!(session.run("prefill", &all, &inputs).is_ok(), "a refused call leaves the session usable");
    }
}

#[test]
fn unknown_devices_and_broken_bundles_are_refused() {
    for spec in ["gpu", "cpu:x", "emulated:1", "cuda:-1", ""] {
        assert!(matches!(Device::open(spec), Err(OpenError::UnknownDevice { .. })), "{spec}");
    }
    assert!(Device::open("auto").is_ok());
    let mut broken = plans::bundle();
    broken.plans[0].steps.clear();
    let device = Device::open("cpu").unwrap();
    assert!(matches!(Session::new(broken.into(), device), Err(OpenError::Bundle(_))));
}

#[test]
fn tensors_have_the_bytes_of_their_shape() {
    assert!(HostTensor::from_f32(&[2, 2], &[0.0; 3]).is_err());
    assert!(HostTensor::new(DType::F32, &[usize::MAX, 2], vec![]).is_err());
    let x = HostTensor::new(DType::BF16, &[0, 4], vec![]).unwrap();
    assert_eq!(x.to_f32(), Some(vec![]));
    assert_eq!(x.to_i64(), None);
}
