//! Replays on the emulator give what plain runs give, see new inputs and states, and tell faults like plain runs.

use crate::{emulated, numbers, session, tensors};
use enel_bundle::Bundle;
use enel_runtime::{Device, DeviceError, HostTensor, HostTensors, RunError, RunOptions, RunOutput, Session};

fn open(bundle: Bundle) -> Session {
    session(bundle, Device::open("emulated").unwrap())
}

fn run(session: &mut Session, x: HostTensor) -> Result<RunOutput, RunError> {
    let (t, inputs): (_, HostTensors) = (x.shape()[0] as i64, tensors(&[("x", x)]));
    session.run_with("prefill", &[("T", t), ("B", 2)], &inputs, &RunOptions::default())
}

fn count(session: &mut Session) -> HostTensor {
    session.state("count").unwrap().read().unwrap()
}

/// The plan with `INSTEAD` in place of the kernel's store; `%p1` says whether the element is above 1000.
fn above_1000(instead: &str) -> Bundle {
    let mut bundle = emulated::bundle(0);
    let image = bundle.images.last_mut().unwrap();
    let text = String::from_utf8(image.bytes.clone()).unwrap();
    let store = "    st.global.f32 [%rd7], %f2;\n";
    let text = text.replace(store, &format!("    setp.gt.f32 %p1, %f1, 0f447A0000;\n    {instead}\n{store}"));
    image.bytes = text.into_bytes();
    bundle
}

#[test]
fn replays_give_the_bytes_of_plain_runs() {
    let (mut plain, mut replaying) = (open(emulated::bundle(0)), open(emulated::bundle(0)));
    plain.set_capture(false);
    for (at, (t, replayed)) in
        [(5, false), (5, true), (5, true), (40, false), (40, true), (5, true)].into_iter().enumerate()
    {
        // New values each time: what was recorded are addresses.
        let x = numbers(&[t, 8], at);
        let (expected, got) = (run(&mut plain, x.clone()).unwrap(), run(&mut replaying, x).unwrap());
        assert_eq!(got.outputs, expected.outputs, "run {at}");
        assert_eq!((expected.stats.replayed, got.stats.replayed), (false, replayed), "run {at}");
        assert_eq!(count(&mut replaying), count(&mut plain), "run {at}");
    }
    assert_eq!(count(&mut replaying).to_f32().unwrap(), [6.0; 2]);
}

#[test]
fn a_state_goes_on_through_replays() {
    let mut session = open(emulated::bundle(0));
    let x = || numbers(&[1, 8], 0);
    run(&mut session, x()).unwrap();
    assert!(run(&mut session, x()).unwrap().stats.replayed && run(&mut session, x()).unwrap().stats.replayed);
    assert_eq!(count(&mut session).to_f32().unwrap(), [3.0; 2]);
    let seven = HostTensor::from_f32(&[2], &[7.0; 2]).unwrap();
    session.state("count").unwrap().write(&seven).unwrap();
    assert!(run(&mut session, x()).unwrap().stats.replayed);
    assert_eq!(count(&mut session).to_f32().unwrap(), [8.0; 2]);
    // Other states have other addresses, so what was recorded is gone.
    session.set_state_symbols(&[("B", 3)]).unwrap();
    session.set_state_symbols(&[("B", 2)]).unwrap();
    assert!(!run(&mut session, x()).unwrap().stats.replayed);
    assert!(run(&mut session, x()).unwrap().stats.replayed);
    assert_eq!(count(&mut session).to_f32().unwrap(), [2.0; 2]);
}

#[test]
fn a_fault_in_a_replay_is_told_with_its_step_and_kernel() {
    let mut session = open(above_1000("@%p1 add.s64 %rd7, %rd7, 65536;"));
    run(&mut session, numbers(&[2, 8], 0)).unwrap();
    assert!(run(&mut session, numbers(&[2, 8], 0)).unwrap().stats.replayed);
    // Steps 0 and 1 work on the state, step 2 on the input.
    let error = run(&mut session, HostTensor::from_f32(&[2, 8], &[2000.0; 16]).unwrap()).unwrap_err();
    let RunError::Step { place, source, .. } = error else { panic!("{error}") };
    assert_eq!(place, "step 2, `add_one`");
    let DeviceError::Emulated { kernel, source } = *source else { panic!("{source}") };
    assert_eq!(kernel, "add_one");
    assert!(source.to_string().contains("PTX line 30") && source.to_string().contains("out of bounds"), "{source}");
    assert!(run(&mut session, numbers(&[2, 8], 0)).unwrap().stats.replayed, "the next replay works again");
}

#[test]
fn what_an_earlier_replay_wrote_does_not_hide_what_this_one_leaves_out() {
    let mut session = open(above_1000("@%p1 bra DONE;"));
    run(&mut session, numbers(&[2, 8], 0)).unwrap();
    assert!(run(&mut session, numbers(&[2, 8], 0)).unwrap().stats.replayed);
    let mut x = numbers(&[2, 8], 0).to_f32().unwrap();
    // Adding one once leaves it at the limit, adding one twice would pass it.
    x[3] = 1000.0;
    let error = run(&mut session, HostTensor::from_f32(&[2, 8], &x).unwrap()).unwrap_err();
    let RunError::Device { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, DeviceError::Unwritten { size_bytes: 64 }), "{error}");
}
