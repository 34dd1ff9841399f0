//! States last between runs, are shared by plans, and never change their size silently.

use crate::plain::PlainDevice;
use crate::{devices, numbers, plans, session, tensors};
use enel_runtime::{Device, HostTensor, RunError};

#[test]
fn a_state_lasts_and_is_shared_by_plans() {
    for (name, device) in devices() {
        let mut session = session(plans::bundle(), device);
        session.bind(&tensors(&[("w", numbers(&[4, 8], 1))])).unwrap();
        let inputs = tensors(&[("x", numbers(&[1, 8], 0))]);
        let unsized_ = session.state("count").unwrap_err();
        assert!(matches!(unsized_, RunError::StateUnsized { symbol, .. } if symbol == "B"));
        for plan in ["prefill", "decode", "decode", "decode"] {
            session.run(plan, &[("T", 1), ("B", 3)], &inputs).unwrap();
        }
        let mut count = session.state("count").unwrap();
        assert_eq!(count.read().unwrap().to_f32().unwrap(), [4.0; 3], "{name}");
        let five = HostTensor::from_f32(&[3], &[5.0; 3]).unwrap();
        count.write(&five).unwrap();
        let wrong = count.write(&HostTensor::from_f32(&[2], &[0.0; 2]).unwrap());
        assert!(matches!(wrong, Err(RunError::StateValue(_))));
        session.run("decode", &[("T", 1), ("B", 3)], &inputs).unwrap();
        assert_eq!(session.state("count").unwrap().read().unwrap().to_f32().unwrap(), [6.0; 3], "{name}");
        session.zero_states().unwrap();
        assert_eq!(session.state("count").unwrap().read().unwrap().to_f32().unwrap(), [0.0; 3], "{name}");
        assert!(matches!(session.state("cache"), Err(RunError::UnknownState { known, .. }) if known == ["count"]));
    }
}

#[test]
fn a_state_keeps_its_size_until_it_is_told() {
    for (_, device) in devices() {
        let mut session = session(plans::bundle(), device);
        session.bind(&tensors(&[("w", numbers(&[4, 8], 1))])).unwrap();
        let inputs = tensors(&[("x", numbers(&[1, 8], 0))]);
        session.set_state_symbols(&[("B", 2)]).unwrap();
        assert_eq!(session.state("count").unwrap().shape(), [2]);
        let other = session.run("decode", &[("T", 1), ("B", 3)], &inputs).unwrap_err();
        assert!(matches!(other, RunError::StateSymbol { was: 2, got: 3, .. }), "{other}");
        session.run("decode", &[("T", 1), ("B", 2)], &inputs).unwrap();
        session.set_state_symbols(&[("B", 2)]).unwrap();
        assert_eq!(session.state("count").unwrap().read().unwrap().to_f32().unwrap(), [1.0; 2], "unchanged, so kept");
        session.set_state_symbols(&[("B", 3)]).unwrap();
        session.run("decode", &[("T", 1), ("B", 3)], &inputs).unwrap();
        assert_eq!(session.state("count").unwrap().read().unwrap().to_f32().unwrap(), [1.0; 3], "anew");
        assert!(matches!(session.set_state_symbols(&[("B", 9)]), Err(RunError::Size { .. })));
        assert!(matches!(session.set_state_symbols(&[("Q", 1)]), Err(RunError::Symbol { .. })));
    }
}

#[test]
fn a_state_that_could_not_be_zeroed_is_made_again() {
    let device = PlainDevice::default();
    let counts = device.counts.clone();
    let mut session = session(plans::bundle(), Device::from_backend(Box::new(device)));
    session.set_state_symbols(&[("B", 2)]).unwrap();
    counts.lock().unwrap().fail_fill = true;
    assert!(matches!(session.state("count"), Err(RunError::Device { .. })));
    assert_eq!(counts.lock().unwrap().live, 0, "given back");
    assert_eq!(session.state("count").unwrap().read().unwrap().to_f32().unwrap(), [0.0; 2]);
}
