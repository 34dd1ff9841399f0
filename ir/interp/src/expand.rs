//! How does a graph of composites become one of primitives? Each is replaced by its decomposition, in place.

use crate::run::InterpError;
use enel_ir::{Graph, IdMap, Node, NodeId, Op, decompose};

/// A graph of primitives and where each node of the first graph is found in it.
pub(crate) struct Expanded {
    pub(crate) graph: Graph,
    pub(crate) map: IdMap<NodeId>,
}

/// Replaces every composite by its meaning.
pub(crate) fn expand(source: &Graph) -> Result<Expanded, InterpError> {
    let mut graph = Graph::new(source.name(), source.symbols.clone());
    let mut ids: Vec<NodeId> = Vec::with_capacity(source.len());
    for id in source.ids() {
        let Node { op, operands, ty } = source.node(id);
        let operands: Vec<NodeId> = operands.iter().map(|o| ids[o.index()]).collect();
        let new = match op {
            Op::Composite(composite) => decompose(&mut graph, composite, &operands)
                .map_err(|source| InterpError::Decompose { node: id, source })?,
            Op::Input { .. }
            | Op::Const { .. }
            | Op::Iota { .. }
            | Op::SizeOf { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Cast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Pad { .. }
            | Op::Reverse { .. }
            | Op::Window { .. }
            | Op::Gather { .. }
            | Op::Scatter { .. }
            | Op::Reduce { .. }
            | Op::Contract { .. }
            | Op::Fps { .. }
            | Op::Knn { .. }
            | Op::TopK { .. } => graph.push_unchecked(Node { op: op.clone(), operands, ty: ty.clone() }),
        };
        ids.push(new);
    }
    for output in source.outputs() {
        let value = ids[output.value.index()];
        match output.updates {
            None => graph.output(&output.name, value),
            Some(state) => graph.output_state(&output.name, value, ids[state.index()]),
        }
    }
    let mut map = match ids.first() {
        Some(&first) => IdMap::filled(source, first),
        None => return Err(InterpError::Empty),
    };
    for id in source.ids() {
        map[id] = ids[id.index()];
    }
    Ok(Expanded { graph, map })
}
