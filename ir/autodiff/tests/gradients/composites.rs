use super::kit::{Case, dims, for_seeds};
use enel_ir::{Composite, NodeId, Op, ReduceOp, Scalar};

fn row_of(case: &mut Case, composite: Composite, vectors: usize) {
    let rank = 1 + case.draw.below(3);
    let shape = case.draw.shape(rank);
    let mut operands = vec![case.float(&shape, (-2.0, 2.0))];
    for _ in 0..vectors {
        operands.push(case.float(&shape[rank - 1..], (0.2, 1.5)));
    }
    let y = case.graph.composite(composite, &operands).unwrap();
    let y = case.graph.mul(y, y).unwrap();
    std::mem::replace(case, Case::new(0)).check(y);
}

/// Queries, keys, values and ranges; one token sees nothing.
fn attention_operands(case: &mut Case) -> Vec<NodeId> {
    let (t, s, d) = (2 + case.draw.below(3), 1 + case.draw.below(4), 1 + case.draw.below(3));
    let groups = 1 + case.draw.below(2);
    let heads = groups * (1 + case.draw.below(2));
    let q = case.float(&[t, heads, d], (-1.0, 1.0));
    let k = case.float(&[s, groups, d], (-1.0, 1.0));
    let v = case.float(&[s, groups, d], (-1.0, 1.0));
    let low = case.ints(&[t], (0, s as i64));
    let high = case.ints(&[t], (1, s as i64 + 1));
    vec![q, k, v, low, high]
}

#[test]
fn activations() {
    for_seeds(16, |seed| {
        let list = [
            Composite::Relu,
            Composite::Sigmoid,
            Composite::Silu,
            Composite::Gelu { tanh: false },
            Composite::Gelu { tanh: true },
        ];
        for composite in list {
            row_of(&mut Case::new(seed), composite, 0);
        }
    });
}

#[test]
fn softmaxes_and_moments() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let shape = case.draw.shape(3);
        let axis = case.draw.below(3);
        let axes: Vec<usize> = (0..3).filter(|_| case.draw.below(2) == 0).collect();
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        let (keep, ddof) = (case.draw.below(2) == 0, i64::from(count > 1 && case.draw.below(2) == 0));
        let list = [
            Composite::Softmax { axis },
            Composite::LogSoftmax { axis },
            Composite::Mean { axes: axes.clone(), keep },
            Composite::Variance { axes, keep, ddof },
        ];
        for composite in list {
            let mut case = Case::new(seed);
            let x = case.float(&shape, (-2.0, 2.0));
            let y = case.graph.composite(composite, &[x]).unwrap();
            let y = case.graph.mul(y, y).unwrap();
            case.check(y);
        }
    });
}

#[test]
fn norms_over_rows() {
    for_seeds(16, |seed| {
        row_of(&mut Case::new(seed), Composite::RmsNorm { eps: Scalar::F(1e-2) }, 1);
        row_of(&mut Case::new(seed), Composite::LayerNorm { eps: Scalar::F(1e-1) }, 2);
    });
}

#[test]
fn batch_norm_by_given_and_by_own_statistics() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let mut shape = case.draw.shape(3);
        shape[0] += 1;
        let axis = case.draw.below(3);
        let channels = [shape[axis]];
        let x = case.float(&shape, (-2.0, 2.0));
        let [gain, bias] = [0; 2].map(|_| case.float(&channels, (0.5, 1.5)));
        let (mean, var) = (case.float(&channels, (-1.0, 1.0)), case.float(&channels, (0.5, 1.5)));
        let op = Composite::BatchNorm { axis, eps: Scalar::F(0.1) };
        let given = case.graph.composite(op.clone(), &[x, gain, bias, mean, var]).unwrap();
        let axes: Vec<usize> = (0..3).filter(|&a| a != axis).collect();
        let mean = case.graph.composite(Composite::Mean { axes: axes.clone(), keep: false }, &[x]).unwrap();
        let var = case.graph.composite(Composite::Variance { axes, keep: false, ddof: 0 }, &[x]).unwrap();
        let own = case.graph.composite(op, &[x, gain, bias, mean, var]).unwrap();
        let y = case.graph.mul(given, own).unwrap();
        case.check(y);
    });
}

#[test]
fn attention_by_queries_keys_and_values() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let operands = attention_operands(&mut case);
        let y = case.graph.composite(Composite::Attention { scale: Scalar::F(0.7) }, &operands).unwrap();
        let y = case.graph.mul(y, y).unwrap();
        case.check(y);
    });
}

#[test]
fn cross_entropy_over_rows_that_count() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let (t, v) = (2 + case.draw.below(4), 2 + case.draw.below(4));
        let logits = case.float(&[t, v], (-2.0, 2.0));
        // Label 0 is ignored; one row always counts.
        let some = case.ints(&[t - 1], (0, v as i64));
        let one = case.graph.splat(Scalar::I(1), enel_ir::TensorType::new(enel_ir::DType::I32, dims(&[1]))).unwrap();
        let labels = case.graph.concat(&[some, one], 0).unwrap();
        let loss = case.graph.composite(Composite::CrossEntropy { ignore: 0 }, &[logits, labels]).unwrap();
        let loss = case.graph.mul(loss, loss).unwrap();
        case.check(loss);
    });
}

#[test]
fn cross_entropy_by_chunks_over_rows_that_count() {
    for_seeds(24, |seed| {
        let mut case = Case::new(seed);
        let (t, c, v) = (2 + case.draw.below(4), 1 + case.draw.below(3), 2 + case.draw.below(5));
        let (hidden, matrix) = (case.float(&[t, c], (-2.0, 2.0)), case.float(&[v, c], (-2.0, 2.0)));
        // Those outside are clamped.
        let some = case.ints(&[t - 1], (-1, v as i64 + 1));
        let one = case.graph.splat(Scalar::I(1), enel_ir::TensorType::new(enel_ir::DType::I32, dims(&[1]))).unwrap();
        let labels = case.graph.concat(&[some, one], 0).unwrap();
        let columns = 1 + case.draw.below(v) as i64;
        let op = Composite::LinearCrossEntropy { ignore: 0, columns };
        let loss = case.graph.composite(op, &[hidden, matrix, labels]).unwrap();
        let loss = case.graph.mul(loss, loss).unwrap();
        case.check(loss);
    });
}

#[test]
fn the_derivative_of_attention_has_derivatives() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let operands = attention_operands(&mut case);
        let scale = Scalar::F(0.7);
        let y = case.graph.composite(Composite::Attention { scale }, &operands).unwrap();
        let [q, k, v, low, high] = operands[..] else { unreachable!() };
        let lse = case.graph.composite(Composite::AttentionLse { scale }, &[q, k, low, high]).unwrap();
        let y2 = case.graph.mul(y, y).unwrap();
        let delta = case.graph.reduce(ReduceOp::Sum, y2, &[2], false).unwrap();
        let operands = [q, k, v, y, low, high, lse, delta];
        let by = enel_ir::AttentionOperand::ALL[case.draw.below(3)];
        let dx = case.graph.composite(Composite::AttentionGrad { scale, by }, &operands).unwrap();
        // The values too reach the loss whatever `by` is: y is one of the operands.
        case.check(dx);
    });
}
#[test]
fn relu_is_flat_at_zero() {
    let mut case = Case::new(0);
    let x = case.given(&[2], &[0.0, -0.0]);
    let y = case.graph.composite(Composite::Relu, &[x]).unwrap();
    case.close(y);
    assert_eq!(case.derivatives()["grad.x0"].to_f64(), [0.0, 0.0]);
}

#[test]
fn nothing_passes_a_stop() {
    let mut case = Case::new(4);
    let x = case.float(&[3], (0.5, 1.0));
    let stopped = case.graph.push(Op::Composite(Composite::StopGradient), &[x]).unwrap();
    let y = case.graph.mul(stopped, x).unwrap();
    let loss = case.graph.reduce(enel_ir::ReduceOp::Sum, y, &[0], false).unwrap();
    case.graph.output("loss", loss);
    // d(stop(x) x) = stop(x) dx, half of what x^2 has.
    assert_eq!(case.derivatives()["grad.x0"].to_f64(), case.inputs["x0"].to_f64());
}
