use super::kit::{Case, Draw, for_seeds};
use enel_ir::{BinaryOp, DType, NodeId, UnaryOp};

/// Where each op has a derivative; between jumps for the steps.
fn domain(op: UnaryOp) -> Option<(f64, f64)> {
    match op {
        UnaryOp::Not => None,
        UnaryOp::Abs | UnaryOp::Sign => Some((0.2, 2.0)),
        UnaryOp::Floor | UnaryOp::Ceil => Some((1.1, 1.9)),
        UnaryOp::Round => Some((1.6, 2.4)),
        UnaryOp::Sqrt | UnaryOp::Rsqrt | UnaryOp::Recip | UnaryOp::Log => Some((0.3, 2.0)),
        UnaryOp::Neg | UnaryOp::Exp | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh | UnaryOp::Erf => Some((-2.0, 2.0)),
    }
}

/// A step's only way to the loss has no derivative, so `x` is added to it.
fn unary(seed: u64, op: UnaryOp, sign: f64) {
    let Some((low, high)) = domain(op) else { return };
    let mut case = Case::new(seed);
    let rank = case.draw.below(4);
    let shape = case.draw.shape(rank);
    let both_signs = op.float_only() && low > 0.0 && !matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round);
    let range = if both_signs || sign > 0.0 { (low, high) } else { (-high, -low) };
    let x = case.float(&shape, range);
    let y = case.graph.unary(op, x).unwrap();
    let y = case.graph.add(y, x).unwrap();
    case.check(y);
}

fn suits(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_bitwise()
}

/// Shapes that broadcast: axes of one or the other become 1, leading axes of one fall away.
fn pair(draw: &mut Draw) -> (Vec<usize>, Vec<usize>) {
    let rank = draw.below(4);
    let full = draw.shape(rank);
    let mut cut = |full: &[usize]| -> Vec<usize> {
        let shape = full.iter().map(|&n| if draw.below(3) == 0 { 1 } else { n }).collect::<Vec<_>>();
        shape[draw.below(rank + 1).min(rank)..].to_vec()
    };
    (cut(&full), full)
}

fn binary(seed: u64, op: BinaryOp, swap: bool) {
    let mut case = Case::new(seed);
    let (small, full) = pair(&mut case.draw);
    // Apart from each other and from 0: no ties, no poles.
    let low = case.float(&small, (0.3, 0.9));
    let high = case.float(&full, (1.1, 1.8));
    let (x, y) = if swap { (high, low) } else { (low, high) };
    let z = case.graph.binary(op, x, y).unwrap();
    case.check(z);
}

fn with_itself(seed: u64, op: BinaryOp) {
    let mut case = Case::new(seed);
    let shape = case.draw.shape(2);
    let x = case.float(&shape, (0.4, 1.6));
    let y: NodeId = case.graph.binary(op, x, x).unwrap();
    let y = case.graph.add(y, x).unwrap();
    case.check(y);
}

#[test]
fn unary_ops_have_their_slopes() {
    for_seeds(12, |seed| {
        for &op in UnaryOp::ALL {
            unary(seed, op, 1.0);
            unary(seed, op, -1.0);
        }
    });
}

#[test]
fn binary_ops_have_their_slopes_through_broadcasts() {
    for_seeds(12, |seed| {
        for &op in BinaryOp::ALL.iter().filter(|op| suits(**op)) {
            binary(seed, op, false);
            binary(seed, op, true);
        }
    });
}

#[test]
fn an_operand_that_stands_twice_gets_both_derivatives() {
    for_seeds(12, |seed| {
        for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Pow, BinaryOp::Max] {
            with_itself(seed, op);
        }
    });
}

#[test]
fn select_divides_and_cast_passes() {
    for_seeds(12, |seed| {
        let mut case = Case::new(seed);
        let (small, full) = pair(&mut case.draw);
        let condition = case.bools(&full);
        let x = case.float_of(DType::BF16, &small, (-1.0, 1.0));
        let y = case.float(&full, (-1.0, 1.0));
        let wide = case.graph.cast(x, DType::F32).unwrap();
        let z = case.graph.select(condition, wide, y).unwrap();
        let z = case.graph.mul(z, wide).unwrap();
        case.check(z);
    });
}
#[test]
fn of_equal_elements_the_first_operand_gets_the_derivative() {
    for op in [BinaryOp::Max, BinaryOp::Min] {
        let mut case = Case::new(1);
        let x = case.given(&[1], &[0.5]);
        let y = case.given(&[1], &[0.5]);
        let z = case.graph.binary(op, x, y).unwrap();
        case.close(z);
        let derived = case.derivatives();
        assert_ne!(derived["grad.x0"].to_f64(), [0.0]);
        assert_eq!(derived["grad.x1"].to_f64(), [0.0]);
    }
}

#[test]
fn powers_of_zero_and_to_zero_have_finite_slopes() {
    let mut case = Case::new(2);
    let x = case.given(&[3], &[0.0, 0.0, 2.0]);
    let y = case.given(&[3], &[2.0, 0.0, 0.0]);
    let z = case.graph.binary(BinaryOp::Pow, x, y).unwrap();
    case.close(z);
    let derived = case.derivatives();
    assert_eq!(derived["grad.x0"].to_f64(), [0.0, 0.0, 0.0]);
    assert_eq!(derived["grad.x1"].to_f64()[..2], [0.0, 0.0]);
    assert!(derived["grad.x1"].to_f64()[2].is_finite());
}

#[test]
fn a_spread_of_equal_values_has_a_derivative() {
    let mut case = Case::new(3);
    let x = case.given(&[4], &[0.7; 4]);
    let op = enel_ir::Composite::Variance { axes: vec![0], keep: false, ddof: 1 };
    let variance = case.graph.composite(op, &[x]).unwrap();
    let spread = case.graph.unary(UnaryOp::Sqrt, variance).unwrap();
    case.close(spread);
    assert_eq!(case.derivatives()["grad.x0"].to_f64(), [0.0; 4]);
}
