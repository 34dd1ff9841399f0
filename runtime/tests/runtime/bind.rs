//! Binding checks everything first, converts, merges once and shares between plans.

use crate::plain::PlainDevice;
use crate::{devices, numbers, plans, session, tensors};
use enel_runtime::{BindError, Device, HostTensor, RunError, WeightFault};
use enel_types::DType;

#[test]
fn every_fault_of_a_checkpoint_is_listed_and_nothing_changes() {
    for (_, device) in devices() {
        let mut bundle = plans::bundle();
        let mut second = bundle.plans[0].buffers[1].clone();
        second.kind = enel_bundle::BufferKind::Weight("v".into());
        let shown = enel_bundle::Buffer { kind: enel_bundle::BufferKind::Output("shown".into()), ..second.clone() };
        let plan = &mut bundle.plans[0];
        let from = plan.buffers.len() as u32;
        plan.buffers.extend([second, shown]);
        plan.steps.push(enel_bundle::Step::Copy { from, to: from + 1 });
        plan.outputs.push(enel_bundle::Port { name: "shown".into(), buffer: from + 1 });
        let mut session = session(bundle, device);
        let inputs = tensors(&[("x", numbers(&[1, 8], 0))]);
        let symbols = [("T", 1), ("B", 1)];
        assert!(matches!(session.run("prefill", &symbols, &inputs), Err(RunError::NotBound { .. })));
        let wrong = tensors(&[("w", numbers(&[8, 4], 0))]);
        let Err(BindError::Weights(faults)) = session.bind(&wrong) else { panic!("bound") };
        let (expected, got) = (vec![4, 8], vec![8, 4]);
        let missing = WeightFault::Missing { name: "v".into() };
        assert_eq!(faults, [missing, WeightFault::Shape { name: "w".into(), expected, got }]);
        let ints = HostTensor::from_i32(&[4, 8], &[0; 32]).unwrap();
        let both = tensors(&[("w", ints), ("v", numbers(&[4, 8], 0))]);
        let Err(BindError::Weights(faults)) = session.bind(&both) else { panic!("bound") };
        let (expected, got) = (DType::BF16, DType::I32);
        assert_eq!(faults, [WeightFault::DType { name: "w".into(), expected, got }]);
        let good = tensors(&[("w", numbers(&[4, 8], 0)), ("v", numbers(&[4, 8], 0))]);
        session.bind(&good).unwrap();
        session.run("prefill", &symbols, &inputs).unwrap();
        assert!(session.bind(&wrong).is_err());
        session.run("prefill", &symbols, &inputs).expect("a refused binding leaves the old one");
    }
}

#[test]
fn joined_weights_lie_one_after_the_other() {
    let piece = |weight: &str, rows| enel_bundle::Piece { weight: weight.into(), rows };
    for (_, device) in devices() {
        let mut bundle = plans::bundle();
        for plan in &mut bundle.plans {
            plan.buffers[1].kind = enel_bundle::BufferKind::Joined(vec![piece("first", 1), piece("rest", 3)]);
        }
        let whole = numbers(&[4, 8], 3);
        let values = whole.to_f32().unwrap();
        let part =
            |rows: usize, from: usize| HostTensor::from_f32(&[rows, 8], &values[8 * from..8 * (from + rows)]).unwrap();
        let inputs = tensors(&[("x", numbers(&[2, 8], 0))]);
        let symbols = [("T", 2), ("B", 1)];
        let mut joined = session(bundle, device);
        let missing = joined.bind(&tensors(&[("first", part(1, 0))])).unwrap_err();
        assert!(
            matches!(missing, BindError::Weights(faults) if faults == [WeightFault::Missing { name: "rest".into() }])
        );
        joined.bind(&tensors(&[("first", part(1, 0)), ("rest", part(3, 1))])).unwrap();
        let mut plain = session(plans::bundle(), Device::open("cpu:1").unwrap());
        plain.bind(&tensors(&[("w", whole)])).unwrap();
        let expected = plain.run("prefill", &symbols, &inputs).unwrap();
        assert_eq!(joined.run("prefill", &symbols, &inputs).unwrap(), expected);
    }
}

#[test]
fn plans_share_weights_and_what_is_made_of_them() {
    let device = PlainDevice::default();
    let counts = device.counts.clone();
    let mut session = session(plans::bundle(), Device::from_backend(Box::new(device)));
    session.bind(&tensors(&[("w", numbers(&[4, 8], 1))])).unwrap();
    let seen = counts.lock().unwrap().clone();
    assert_eq!(seen.launches, 1, "the second plan's bind step is the first one's");
    assert_eq!(seen.live, 1, "one merged weight; the raw one is only read when binding");
    for plan in ["prefill", "decode"] {
        session.run(plan, &[("T", 1), ("B", 1)], &tensors(&[("x", numbers(&[1, 8], 0))])).unwrap();
    }
    session.bind(&tensors(&[("w", numbers(&[4, 8], 2))])).unwrap();
    assert_eq!(counts.lock().unwrap().launches, seen.launches + 2 * 4 + 1, "binding again runs it again");
}

#[test]
fn binding_again_replaces_the_weights() {
    for (name, device) in devices() {
        let mut session = session(plans::bundle(), device);
        let inputs = tensors(&[("x", numbers(&[1, 8], 0))]);
        let mut results = Vec::new();
        for seed in [1, 2, 1] {
            session.bind(&tensors(&[("w", numbers(&[4, 8], seed))])).unwrap();
            let outputs = session.run("decode", &[("T", 1), ("B", 1)], &inputs).unwrap();
            results.push(outputs["y"].clone());
        }
        assert_eq!(results[0], results[2], "{name}");
        assert_ne!(results[0], results[1], "{name}");
    }
}
