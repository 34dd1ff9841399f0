//! Does a costly op run on repeated values? Then it runs once on the originals.

use crate::rebuild::{PassError, rebuild};
use enel_ir::{Graph, NodeId, Op, Verified};

/// `op(broadcast(x))` becomes `broadcast(op(x))`, also through reshapes in between.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    rebuild("hoist-broadcast", graph, &mut |new, _, node| {
        let Op::Unary(op) = node.op else { return new.push(node.op.clone(), &node.operands) };
        let chain = moves_above(new, node.operands[0]);
        let repeats = chain.iter().any(|&m| matches!(new.node(m).op, Op::Broadcast { .. }));
        if !op.is_costly() || !repeats {
            return new.push(node.op.clone(), &node.operands);
        }
        let source = new.node(*chain.last().expect("a chain that repeats is not empty")).operands[0];
        let mut value = new.unary(op, source)?;
        for &link in chain.iter().rev() {
            let op = new.node(link).op.clone();
            value = new.push(op, &[value])?;
        }
        Ok(value)
    })
}

/// The chain of reshapes and broadcasts that ends in `id`, nearest first.
fn moves_above(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let mut chain = Vec::new();
    let mut at = id;
    while matches!(graph.node(at).op, Op::Broadcast { .. } | Op::Reshape { .. }) {
        chain.push(at);
        at = graph.node(at).operands[0];
    }
    chain
}
