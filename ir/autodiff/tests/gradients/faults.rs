use super::kit::Case;
use enel_autodiff::{AutodiffError, differentiate};
use enel_ir::{Composite, DType, Graph, parse, verify};

fn graph() -> Graph {
    parse(
        r#"graph @faults {
  %x = input "x" : f32[3]
  %y = input "y" : f32[3]
  %i = input "i" : i32[3]
  %s = stop_gradient %y
  %z = mul %x, %s
  %f = cast %y {to = i32}
  %j = add %f, %i
  %k = cast %j {to = f32}
  %w = mul %z, %k
  %loss = reduce_sum %w {axes = [0]}
  return loss = %loss, wide = %w, count = %j
}"#,
    )
    .unwrap()
}

fn fault(loss: &str, wrt: &dyn Fn(&str) -> bool) -> String {
    differentiate(verify(&graph()).unwrap(), loss, wrt).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_differentiated_is_said() {
    assert_eq!(fault("lost", &|_| true), "`lost` is no output of the graph; outputs are loss, wide, count");
    assert_eq!(fault("wide", &|_| true), "the loss `wide` is f32[3], expected one float");
    assert_eq!(fault("count", &|_| true), "the loss `count` is i32[3], expected one float");
    assert_eq!(fault("loss", &|name| name == "i"), "no float input was chosen; float inputs are x, y");
}

#[test]
fn an_input_behind_a_stop_or_an_integer_is_unreached() {
    let error = differentiate(verify(&graph()).unwrap(), "loss", &|_| true).unwrap_err();
    assert!(matches!(error, AutodiffError::Unreached { names } if names == ["y"]));
}

#[test]
fn outputs_and_ties_stay_and_nothing_is_built_for_dead_branches() {
    let mut case = Case::new(0);
    let state = case.graph.input("s", enel_ir::InputKind::State, enel_ir::TensorType::fixed(DType::F32, &[2])).unwrap();
    let x = case.float(&[2], (0.0, 1.0));
    let dead = case.graph.composite(Composite::Softmax { axis: 0 }, &[x]).unwrap();
    case.graph.output("dead", dead);
    let next = case.graph.add(state, x).unwrap();
    case.close(next);
    case.graph.output_state("s", next, state);
    let derived = differentiate(verify(&case.graph).unwrap(), "loss", &|name| name == "x0").unwrap();
    let names: Vec<&str> = derived.outputs().iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["dead", "loss", "s", "grad.x0"]);
    assert!(derived.outputs()[2].updates.is_some());
    let softmaxes = derived.ids().filter(|&id| derived.node(id).op.name() == "softmax").count();
    let built = derived.len() - case.graph.len();
    // A snapshot of the state; 1, its reshape and broadcast, and the product.
    assert_eq!((softmaxes, built), (1, 5), "{derived}");
}
