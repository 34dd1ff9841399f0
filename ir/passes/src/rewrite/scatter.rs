//! Are rows added to zeros only to be added to something else? Then they are added to that (a table's derivatives).

use crate::rebuild::{PassError, rebuild};
use enel_ir::{BinaryOp, Graph, NodeId, Op, ScatterMode, Verified};

/// `x + scatter_add(0, index, rows)` becomes `scatter_add(x, index, rows)` where nothing else reads the scatter.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    let counts = graph.use_counts();
    let single: Vec<bool> = graph.ids().map(|id| counts[id] == 1).collect();
    rebuild("scatter-into-sum", graph, &mut |new, old, node| {
        let plain = |new: &mut Graph| new.push(node.op.clone(), &node.operands);
        let (Op::Binary(BinaryOp::Add), &[x, y]) = (&node.op, &node.operands[..]) else { return plain(new) };
        let olds = &graph.node(old).operands;
        for (i, sum, scattered) in [(1, x, y), (0, y, x)] {
            let same = new.ty(sum) == new.ty(scattered);
            if same && single[olds[i].index()] && adds_to_zeros(new, scattered) {
                let node = new.node(scattered).clone();
                return new.push(node.op, &[&[sum], &node.operands[1..]].concat());
            }
        }
        plain(new)
    })
}

fn adds_to_zeros(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let adds = matches!(node.op, Op::Scatter { mode: ScatterMode::Add, .. });
    adds && matches!(&graph.node(node.operands[0]).op, Op::Const { values, .. } if values.iter().all(|v| v.as_f64() == 0.0))
}
