//! How does a pass make its new graph? By walking the old one in order and saying what each node becomes.

use enel_ir::{BuildError, Graph, Node, NodeId, Op, Verified, VerifyError};
use std::collections::BTreeMap;

/// Why a pass gave no graph; on a verified input either one is a defect of the pass.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A node it wanted to build breaks a rule.
    #[error("pass `{pass}` at {node}: {source}")]
    Build {
        /// Name of the pass.
        pass: &'static str,
        /// Node of the old graph.
        node: NodeId,
        /// What is broken.
        source: BuildError,
    },
    /// Its result is no valid graph.
    #[error("pass `{pass}` broke the graph: {}", list(.faults))]
    Verify {
        /// Name of the pass.
        pass: &'static str,
        /// Every fault.
        faults: Vec<VerifyError>,
    },
}

fn list(faults: &[VerifyError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What `step` may do with a node: the graph under construction, and the node with operands already moved there.
pub(crate) type Step<'s> = dyn FnMut(&mut Graph, NodeId, &Node) -> Result<NodeId, BuildError> + 's;

/// A new graph in which every live node of `graph` became what `step` returns for it; inputs come first.
pub(crate) fn rebuild(pass: &'static str, graph: Verified<'_>, step: &mut Step<'_>) -> Result<Graph, PassError> {
    let live = live_nodes(&graph);
    let mut new = Graph::new(graph.name(), graph.symbols.clone());
    let mut moved: Vec<Option<NodeId>> = vec![None; graph.len()];
    let at = |moved: &[Option<NodeId>], id: NodeId| moved[id.index()].expect("operands come before users and are live");
    let is_input = |id: &NodeId| matches!(graph.node(*id).op, Op::Input { .. });
    let inputs = graph.ids().filter(is_input);
    let others = graph.ids().filter(|id| live[id.index()] && !is_input(id));
    for id in inputs.chain(others) {
        let old = graph.node(id);
        let operands = old.operands.iter().map(|&o| at(&moved, o)).collect();
        let node = Node { op: old.op.clone(), operands, ty: old.ty.clone() };
        let built = step(&mut new, id, &node).map_err(|source| PassError::Build { pass, node: id, source })?;
        moved[id.index()] = Some(built);
    }
    for output in graph.outputs() {
        let value = at(&moved, output.value);
        match output.updates {
            None => new.output(&output.name, value),
            Some(state) => new.output_state(&output.name, value, at(&moved, state)),
        }
    }
    let new = with_copies(new);
    if let Err(faults) = enel_ir::verify(&new) {
        return Err(PassError::Verify { pass, faults });
    }
    Ok(new)
}

/// A step that looks through moves may read a state after its update, which its node read before through a copy: such
/// readers, and outputs that show the old value, read a copy made at the start.
fn with_copies(graph: Graph) -> Graph {
    let is_late = |state: NodeId, update: NodeId| {
        let reads = graph.ids().skip(update.index() + 1).any(|user| graph.node(user).operands.contains(&state));
        reads || (update != state && graph.outputs().iter().any(|o| o.value == state))
    };
    let ties = graph.outputs().iter().filter_map(|o| Some((o.updates?, o.value)));
    let late: BTreeMap<NodeId, NodeId> = ties.filter(|&(state, update)| is_late(state, update)).collect();
    if late.is_empty() {
        return graph;
    }
    let mut new = Graph::new(graph.name(), graph.symbols.clone());
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.len());
    let mut copies: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for id in graph.ids() {
        let mut node = graph.node(id).clone();
        for operand in &mut node.operands {
            let is_after = late.get(operand).is_some_and(|update| id > *update);
            *operand = if is_after { copies[operand] } else { moved[operand.index()] };
        }
        let ty = node.ty.clone();
        let built = new.push_unchecked(node);
        moved.push(built);
        if late.contains_key(&id) {
            let op = Op::Reshape { shape: ty.shape.clone() };
            copies.insert(id, new.push_unchecked(Node { op, operands: vec![built], ty }));
        }
    }
    for output in graph.outputs() {
        let value = moved[output.value.index()];
        match output.updates {
            None => new.output(&output.name, copies.get(&output.value).copied().unwrap_or(value)),
            Some(state) => new.output_state(&output.name, value, moved[state.index()]),
        }
    }
    new
}

/// Nodes an output needs, and every input: a program keeps its interface.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.len()];
    for (id, ..) in graph.inputs() {
        live[id.index()] = true;
    }
    for output in graph.outputs() {
        live[output.value.index()] = true;
    }
    for id in graph.ids().rev() {
        if live[id.index()] {
            for operand in &graph.node(id).operands {
                live[operand.index()] = true;
            }
        }
    }
    live
}
