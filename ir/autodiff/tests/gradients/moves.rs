use super::kit::{Case, dims, for_seeds};
use enel_ir::{Dim, Op, Scalar, SliceSpec};

fn case_of(seed: u64) -> (Case, Vec<usize>, enel_ir::NodeId) {
    let mut case = Case::new(seed);
    let rank = 1 + case.draw.below(3);
    let shape = case.draw.shape(rank);
    let x = case.float(&shape, (-1.0, 1.0));
    // Squares make a derivative that stands at the wrong place differ.
    let x2 = case.graph.mul(x, x).unwrap();
    (case, shape, x2)
}

#[test]
fn reshape_transpose_reverse_and_broadcast() {
    for_seeds(24, |seed| {
        let (mut case, shape, x) = case_of(seed);
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        perm.rotate_left(case.draw.below(shape.len()));
        let y = case.graph.transpose(x, &perm).unwrap();
        let y = case.graph.reshape(y, dims(&[shape.iter().product(), 1])).unwrap();
        let y = case.graph.push(Op::Reverse { axes: vec![0] }, &[y]).unwrap();
        let y = case.graph.broadcast(y, dims(&[2, shape.iter().product(), 3])).unwrap();
        case.check(y);
    });
}

#[test]
fn slices_with_strides() {
    for_seeds(24, |seed| {
        let mut case = Case::new(seed);
        let (mut shape, mut axes) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (start, stride, size) = (case.draw.below(3), 1 + case.draw.below(3), 1 + case.draw.below(3));
            shape.push(start + (size - 1) * stride + 1 + case.draw.below(4));
            let (start, size) = (Dim::constant(start as i64), Dim::constant(size as i64));
            axes.push(SliceSpec { start, size, stride: stride as i64 });
        }
        let x = case.float(&shape, (-1.0, 1.0));
        let x2 = case.graph.mul(x, x).unwrap();
        let y = case.graph.slice(x2, &axes).unwrap();
        case.check(y);
    });
}

#[test]
fn concat_and_pad() {
    for_seeds(24, |seed| {
        let (mut case, mut shape, x) = case_of(seed);
        let axis = case.draw.below(shape.len());
        shape[axis] = 1 + case.draw.below(3);
        let other = case.float(&shape, (-1.0, 1.0));
        let y = case.graph.concat(&[x, other, x], axis).unwrap();
        let mut edge = || (0..shape.len()).map(|_| Dim::constant(case.draw.below(3) as i64)).collect::<Vec<_>>();
        let (low, high) = (edge(), edge());
        let y = case.graph.push(Op::Pad { low, high, value: Scalar::F(0.5) }, &[y]).unwrap();
        case.check(y);
    });
}

#[test]
fn windows_that_overlap_and_skip() {
    for_seeds(24, |seed| {
        let mut case = Case::new(seed);
        let axis = case.draw.below(3);
        let [size, stride, dilation] = [0; 3].map(|_| 1 + case.draw.below(3));
        let mut shape = case.draw.shape(3);
        shape[axis] = (size - 1) * dilation + 1 + case.draw.below(5);
        let x = case.float(&shape, (-1.0, 1.0));
        let x2 = case.graph.mul(x, x).unwrap();
        let [size, stride, dilation] = [size, stride, dilation].map(|n| n as i64);
        let y = case.graph.push(Op::Window { axis, size, stride, dilation }, &[x2]).unwrap();
        case.check(y);
    });
}
