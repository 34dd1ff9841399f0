//! Are only some rows of a linear map's result read? Then only those rows are mapped (the last token's logits).

use super::typical;
use crate::rebuild::{PassError, rebuild};
use enel_ir::{ContractSpec, Graph, NodeId, Op, Verified};

/// `gather(contract(x, w), rows)` along a row axis becomes `contract(gather(x, rows), w)` when that is fewer rows and
/// nothing else reads the whole result.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    let counts = graph.use_counts();
    let single: Vec<bool> = graph.ids().map(|id| counts[id] == 1).collect();
    rebuild("gather-before-linear", graph, &mut |new, old, node| {
        let plain = |new: &mut Graph| new.push(node.op.clone(), &node.operands);
        let Op::Gather { axis, batch } = node.op else { return plain(new) };
        let source = graph.node(old).operands[0];
        let (map, rows) = (node.operands[0], node.operands[1]);
        let Op::Contract { spec } = new.node(map).op.clone() else { return plain(new) };
        let fewer = cheaper(new, map, rows, (axis, batch));
        let Some(lhs_axis) = row_axis(&spec, axis, batch).filter(|_| fewer && single[source.index()]) else {
            return plain(new);
        };
        let (x, w) = (new.node(map).operands[0], new.node(map).operands[1]);
        let picked = new.push(Op::Gather { axis: lhs_axis, batch }, &[x, rows])?;
        new.push(Op::Contract { spec }, &[picked, w])
    })
}

/// The axis of the left operand behind result axis `axis`, for one index axis in place of one row axis.
fn row_axis(spec: &ContractSpec, axis: usize, batch: usize) -> Option<usize> {
    let letter = *spec.out().get(axis)?;
    let plain = batch == 0 && !spec.rhs().contains(&letter);
    spec.lhs().iter().position(|c| *c == letter).filter(|_| plain)
}

fn cheaper(graph: &Graph, map: NodeId, rows: NodeId, (axis, batch): (usize, usize)) -> bool {
    let index = graph.ty(rows);
    let have = typical(&graph.ty(map).shape[axis], &graph.symbols);
    index.rank() == batch + 1 && typical(&index.shape[batch], &graph.symbols) < have
}
