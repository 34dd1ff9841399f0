//! A run checks what it is given, keeps what it is asked for, and rounds where it is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use enel_interp::{InterpError, Outcome, Rounding, Run, Tensor, run};
use enel_ir::{Graph, IdMap, NodeId, parse, verify};
use enel_types::DType;
use std::collections::BTreeMap;
use std::time::Instant;

const MLP: &str = "graph @mlp {\n sym T in 1..=8\n %x = input \"x\" : f32[T, 2]\n %w = weight \"w\" : bf16[3, 2]\n\
    %y = contract %x, %w {spec = \"tc,dc->td\"}\n %a = silu %y\n %dead = exp %a\n return y = %a\n}";

fn go(graph: &Graph, symbols: &[i64], inputs: &BTreeMap<String, Tensor>) -> Result<Outcome, InterpError> {
    run(&Run { graph: verify(graph).unwrap(), symbols, inputs, rounding: Rounding::None, keep: &[] })
}

fn mlp_inputs() -> BTreeMap<String, Tensor> {
    let x = Tensor::from_f32(&[2, 2], &[1.0, 2.0, -3.0, 0.5]).unwrap();
    let w = Tensor::from_f64(DType::BF16, &[3, 2], &[1.0, 0.0, 0.0, 1.0, 0.1, 0.1]).unwrap();
    BTreeMap::from([("x".to_owned(), x), ("w".to_owned(), w)])
}

fn id(graph: &Graph, mnemonic: &str) -> NodeId {
    graph.ids().find(|&i| graph.node(i).op.name() == mnemonic).unwrap()
}

#[test]
fn taps_are_kept_and_rounding_happens_where_told() {
    let graph = parse(MLP).unwrap();
    let (inputs, verified) = (mlp_inputs(), verify(&graph).unwrap());
    let (y, a) = (id(&graph, "contract"), id(&graph, "silu"));
    let mut table = IdMap::filled(&graph, None);
    table[y] = Some(DType::BF16);
    let keep = [y, a];
    let plain = Run { graph: verified, symbols: &[2], inputs: &inputs, rounding: Rounding::None, keep: &keep };
    let exact = run(&plain).unwrap();
    let want = [1.0, 2.0, 1.0 * 0.1 + 2.0 * 0.1, -3.0, 0.5, -3.0 * 0.1 + 0.5 * 0.1];
    assert_eq!(exact.kept[&y].to_f64(), want);
    assert_eq!(exact.kept[&a], exact.outputs["y"]);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    for (got, x) in exact.outputs["y"].to_f64().iter().zip(want) {
        assert!((got - silu(x)).abs() < 1e-15);
    }
    let low = run(&Run { rounding: Rounding::At(&table), ..plain }).unwrap();
    let stored = want.map(|x| DType::BF16.round(x));
    assert_ne!(stored, want);
    assert_eq!(low.kept[&y].to_f64(), stored);
    for (got, x) in low.outputs["y"].to_f64().iter().zip(stored) {
        assert!((got - silu(x)).abs() < 1e-15, "the composite itself is not rounded");
    }
    table[a] = Some(DType::F16);
    let low = run(&Run { rounding: Rounding::At(&table), ..plain }).unwrap();
    for (got, x) in low.outputs["y"].to_f64().iter().zip(stored) {
        assert!((got - silu(x)).abs() <= 1e-3 * x.abs() && *got == DType::F16.round(*got), "a result rounds once");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let graph = parse(MLP).unwrap();
    let refuse = |symbols: &[i64], change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut inputs = mlp_inputs();
        change(&mut inputs);
        go(&graph, symbols, &inputs).unwrap_err()
    };
    assert!(matches!(refuse(&[9], &|_| ()), InterpError::Symbols(_)));
    assert!(matches!(refuse(&[], &|_| ()), InterpError::Symbols(_)));
    let text = refuse(&[3], &|_| ()).to_string();
    assert_eq!(text, "input `x` is f32[2, 2], expected f32[3, 2]");
    let drop_w = |m: &mut BTreeMap<String, Tensor>| drop(m.remove("w"));
    assert_eq!(refuse(&[2], &drop_w).to_string(), "input `w` is missing; expected bf16[3, 2]");
    let other = |m: &mut BTreeMap<String, Tensor>| {
        m.insert("z".into(), Tensor::from_f32(&[1], &[0.0]).unwrap());
    };
    assert_eq!(refuse(&[2], &other).to_string(), "`z` is no input of the graph; inputs are x, w");
    let dtype = |m: &mut BTreeMap<String, Tensor>| {
        m.insert("w".into(), Tensor::from_f32(&[3, 2], &[0.0; 6]).unwrap());
    };
    assert_eq!(refuse(&[2], &dtype).to_string(), "input `w` is f32[3, 2], expected bf16[3, 2]");
    let broken = |m: &mut BTreeMap<String, Tensor>| m.get_mut("x").unwrap().values = enel_interp::Values::I(vec![0; 4]);
    assert!(matches!(refuse(&[2], &broken), InterpError::InputValues { .. }));
}

#[test]
fn a_tied_output_is_the_new_value() {
    let text = "graph @s {\n %s = state \"s\" : i32[3]\n %i = const [2, 0] : i32[2]\n %r = const 7 : i32[2]\n\
        %n = scatter %s, %i, %r {axis = 0, batch = 0, mode = add}\n return s = %n updates %s\n}";
    let graph = parse(text).unwrap();
    let inputs = BTreeMap::from([("s".to_owned(), Tensor::from_i32(&[3], &[1, 2, 3]).unwrap())]);
    let out = go(&graph, &[], &inputs).unwrap();
    assert_eq!(out.outputs["s"].to_i64().unwrap(), [8, 2, 10]);
}

#[test]
fn a_value_too_large_is_refused_before_it_is_allocated() {
    let text = "graph @big {\n %x = const 1.0 : f32[1048576, 1024]\n %y = neg %x\n return y = %y\n}";
    let error = go(&parse(text).unwrap(), &[], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, InterpError::TooLarge { elems: 1_073_741_824, .. }));
}

#[test]
fn a_512_cubed_contraction_is_quick() {
    let text = "graph @mm {\n %a = iota {axis = 0} : f32[512, 512]\n %b = iota {axis = 1} : f32[512, 512]\n\
        %c = contract %a, %b {spec = \"mk,kn->mn\"}\n return c = %c\n}";
    let graph = parse(text).unwrap();
    let start = Instant::now();
    let out = go(&graph, &[], &BTreeMap::new()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let c = out.outputs["c"].to_f64();
    assert!((0..512 * 512).all(|i| c[i] == (512 * (i / 512) * (i % 512)) as f64));
    // A guard against a blunder of order, with room for a loaded machine: it takes 0.1 s.
    assert!(seconds < 5.0, "{seconds} s");
}
