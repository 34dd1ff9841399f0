use super::kit::{Case, dims, for_seeds};
use enel_ir::{Dim, NodeId, Op, ScatterMode};

/// A tensor, an index over its `axis` with `batch` shared axes (some indices repeat, some lie outside), their attributes.
struct Indexed {
    x: NodeId,
    shape: Vec<usize>,
    index: NodeId,
    index_shape: Vec<usize>,
    axis: usize,
    batch: usize,
}

fn indexed(case: &mut Case) -> Indexed {
    let rank = 1 + case.draw.below(3);
    let shape = case.draw.shape(rank);
    let axis = case.draw.below(rank);
    let batch = case.draw.below(axis + 1);
    let n_index = case.draw.below(3);
    let index_shape = [&shape[..batch], &case.draw.shape(n_index)].concat();
    let x = case.float(&shape, (-1.0, 1.0));
    let index = case.ints(&index_shape, (-1, shape[axis] as i64 + 1));
    Indexed { x, shape, index, index_shape, axis, batch }
}

fn scatter(seed: u64, mode: ScatterMode) {
    let mut case = Case::new(seed);
    let i = indexed(&mut case);
    let rows = [&i.shape[..i.axis], &i.index_shape[i.batch..], &i.shape[i.axis + 1..]].concat();
    let rows = case.float(&rows, (-1.0, 1.0));
    let op = Op::Scatter { axis: i.axis, batch: i.batch, mode };
    let y = case.graph.push(op, &[i.x, i.index, rows]).unwrap();
    let y = case.graph.mul(y, y).unwrap();
    case.check(y);
}

#[test]
fn gathered_rows_are_added_where_they_were_read() {
    for_seeds(48, |seed| {
        let mut case = Case::new(seed);
        let i = indexed(&mut case);
        let y = case.graph.gather(i.x, i.index, i.axis, i.batch).unwrap();
        let y = case.graph.mul(y, y).unwrap();
        case.check(y);
    });
}

#[test]
fn scatters_that_add() {
    for_seeds(48, |seed| {
        scatter(seed, ScatterMode::Add);
    });
}

#[test]
fn scatters_that_set_let_the_last_row_stay() {
    for_seeds(48, |seed| {
        scatter(seed, ScatterMode::Set);
    });
}

#[test]
fn neighbours_and_values_of_topk_carry_derivatives() {
    for_seeds(48, |seed| {
        let mut case = Case::new(seed);
        let (b, n) = (1 + case.draw.below(2), 3 + case.draw.below(4));
        let xyz = case.float(&[b, n, 3], (-1.0, 1.0));
        let x = case.float(&[b, n, 2], (-1.0, 1.0));
        let centres = case.graph.push(Op::Fps { n: Dim::constant(2) }, &[xyz]).unwrap();
        let centre_xyz = case.graph.gather(xyz, centres, 1, 1).unwrap();
        let near = case.graph.push(Op::Knn { k: Dim::constant(2) }, &[centre_xyz, xyz]).unwrap();
        let rows = case.graph.gather(x, near, 1, 1).unwrap();
        let places = case.graph.gather(xyz, near, 1, 1).unwrap();
        let top = case.distinct(&[b, 5]);
        let order = case.graph.push(Op::TopK { k: Dim::constant(2), largest: true }, &[top]).unwrap();
        let best = case.graph.gather(top, order, 1, 1).unwrap();
        let best = case.graph.mul(best, best).unwrap();
        let flat = [(rows, b * 8), (places, b * 12), (best, b * 2)];
        let flat: Vec<NodeId> = flat.iter().map(|&(id, len)| case.graph.reshape(id, dims(&[len])).unwrap()).collect();
        let y = case.graph.concat(&flat, 0).unwrap();
        let y = case.graph.mul(y, y).unwrap();
        case.check(y);
    });
}
