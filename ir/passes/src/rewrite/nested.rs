//! Is a cloud sampled again from its own farthest point sample? Then the order is already known.

use crate::rebuild::{PassError, rebuild};
use enel_ir::{BinaryOp, BuildError, DType, Dim, Graph, NodeId, Op, TensorType, Verified};

/// `fps(gather(xyz, fps(xyz, n)), m)` becomes the first m positions.
///
/// Point j of the sample is the farthest from those before it among all points, so also among the sample. Once all
/// distances are 0 the sampler returns to its first point, in the cloud and in the sample alike: position 0.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    // For each sampling already rewritten: the sampling of the full cloud it is a prefix of.
    let mut prefix_of: Vec<(NodeId, NodeId)> = Vec::new();
    rebuild("nested-fps", graph, &mut |new, _, node| {
        let built = match &node.op {
            Op::Fps { n } => outer_sampling(new, node.operands[0], &prefix_of).map(|outer| (outer, n.clone())),
            _ => None,
        };
        match built {
            Some((outer, m)) => {
                let id = first_positions(new, outer, &m)?;
                prefix_of.push((id, outer));
                Ok(id)
            }
            None => new.push(node.op.clone(), &node.operands),
        }
    })
}

/// The full sampling whose sample `xyz` is, if it is one.
fn outer_sampling(graph: &Graph, xyz: NodeId, prefix_of: &[(NodeId, NodeId)]) -> Option<NodeId> {
    let node = graph.node(xyz);
    let Op::Gather { axis: 1, batch: 1 } = node.op else { return None };
    let (cloud, index) = (node.operands[0], node.operands[1]);
    match &graph.node(index).op {
        Op::Fps { .. } => (graph.node(index).operands[0] == cloud).then_some(index),
        // A prefix of a prefix: the cloud is itself a sample of the outer cloud.
        _ => {
            let outer = prefix_of.iter().find(|(id, _)| *id == index).map(|(_, outer)| *outer)?;
            (outer_sampling(graph, cloud, prefix_of) == Some(outer)).then_some(outer)
        }
    }
}

fn first_positions(g: &mut Graph, outer: NodeId, m: &Dim) -> Result<NodeId, BuildError> {
    let batch = g.ty(outer).shape[0].clone();
    let chosen = g.narrow(outer, 1, Dim::constant(0), m.clone())?;
    let first = g.narrow(outer, 1, Dim::constant(0), Dim::constant(1))?;
    let restarted = g.binary(BinaryOp::Eq, chosen, first)?;
    let position = g.iota(1, TensorType::new(DType::I32, vec![batch, m.clone()]))?;
    let zero = g.scalar_i32(0)?;
    g.select(restarted, zero, position)
}
