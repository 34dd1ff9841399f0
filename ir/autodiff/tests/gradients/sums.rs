use super::kit::{Case, dims, for_seeds};
use enel_ir::ReduceOp;

fn reduce(seed: u64, op: ReduceOp, distinct: bool) {
    let mut case = Case::new(seed);
    let rank = 1 + case.draw.below(3);
    let shape = case.draw.shape(rank);
    // Any subset of the axes, in any order.
    let mut axes: Vec<usize> = (0..rank).filter(|_| case.draw.below(2) == 0).collect();
    if case.draw.below(2) == 0 {
        axes.reverse();
    }
    let keep = case.draw.below(2) == 0;
    let x = if distinct { case.distinct(&shape) } else { case.float(&shape, (-1.0, 1.0)) };
    let y = case.graph.reduce(op, x, &axes, keep).unwrap();
    let y = case.graph.mul(y, y).unwrap();
    case.check(y);
}

/// Letters of one operand, of the other, of the result.
const SPECS: [&str; 8] =
    ["mk,nk->mn", "km,kn->nm", "bmk,bnk->bmn", "mk,k->m", "k,k->", "m,n->nm", "bk,bk->b", "abk,kbc->cab"];

fn contract(seed: u64, spec: &str) {
    let mut case = Case::new(seed);
    let extents: Vec<usize> = case.draw.shape(26);
    let shape = |letters: &str| letters.bytes().map(|c| extents[usize::from(c - b'a')]).collect::<Vec<_>>();
    let (lhs, rest) = spec.split_once(',').unwrap();
    let rhs = rest.split_once("->").unwrap().0;
    let x = case.float(&shape(lhs), (-1.0, 1.0));
    let y = case.float(&shape(rhs), (-1.0, 1.0));
    let z = case.graph.contract(spec, x, y).unwrap();
    let z = case.graph.mul(z, z).unwrap();
    case.check(z);
}

#[test]
fn sums_products_and_extremes() {
    for_seeds(16, |seed| {
        reduce(seed, ReduceOp::Sum, false);
        reduce(seed, ReduceOp::Prod, false);
        reduce(seed, ReduceOp::Max, true);
        reduce(seed, ReduceOp::Min, true);
    });
}

#[test]
fn contractions_by_both_sides() {
    for_seeds(16, |seed| {
        for spec in SPECS {
            contract(seed, spec);
        }
    });
}

#[test]
fn a_contraction_with_itself() {
    for_seeds(16, |seed| {
        let mut case = Case::new(seed);
        let shape = case.draw.shape(2);
        let x = case.float(&shape, (-1.0, 1.0));
        let y = case.graph.contract("mk,nk->mn", x, x).unwrap();
        case.check(y);
    });
}
#[test]
fn products_with_zeros_are_the_product_of_the_others() {
    for zeros in 0..4 {
        let mut case = Case::new(zeros as u64);
        let values: Vec<f64> = (0..6).map(|i| if i < zeros { 0.0 } else { 0.5 + i as f64 / 4.0 }).collect();
        let x = case.given(&[2, 3], &values);
        let y = case.graph.reduce(ReduceOp::Prod, x, &[0, 1], false).unwrap();
        case.check(y);
    }
}

#[test]
fn a_tie_counts_once_at_its_first_place() {
    for op in [ReduceOp::Max, ReduceOp::Min] {
        for axes in [vec![1], vec![0, 1], vec![1, 0]] {
            let mut case = Case::new(5);
            let x = case.given(&[2, 3], &[0.5; 6]);
            let y = case.graph.reduce(op, x, &axes, false).unwrap();
            let ones =
                case.graph.broadcast(y, dims(&[1, 2])[..2 - axes.len()].iter().cloned().chain(dims(&[2])).collect());
            let loss = case.graph.reduce(ReduceOp::Sum, ones.unwrap(), &[], false).unwrap();
            let all: Vec<usize> = (0..case.graph.ty(loss).rank()).collect();
            let loss = case.graph.reduce(ReduceOp::Sum, loss, &all, false).unwrap();
            case.graph.output("loss", loss);
            let got = case.derivatives()["grad.x0"].to_f64();
            let want = if axes.len() == 1 { [1.0, 0.0, 0.0, 1.0, 0.0, 0.0] } else { [2.0, 0.0, 0.0, 0.0, 0.0, 0.0] };
            assert_eq!(got, want, "{op:?} {axes:?}");
        }
    }
}
