//! Do several linear maps read one value? Then they are one map whose weights stand side by side.

use crate::rebuild::{PassError, rebuild};
use enel_ir::{BuildError, ContractSpec, DType, Dim, Graph, InputKind, NodeId, Op, Verified};
use std::collections::HashMap;

/// Contractions `x,w_i` with one left operand, one spec over `[out, in]` weights, become one and slices of it.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    let families = families(&graph);
    // The merged map is built at its first member; weights are views of inputs, which the walk has moved by then.
    let mut moved: HashMap<NodeId, NodeId> = HashMap::new();
    let mut merged: HashMap<usize, NodeId> = HashMap::new();
    rebuild("merge-contracts", graph, &mut |new, old, node| {
        let member = families.iter().enumerate().find(|(_, f)| f.members.contains(&old));
        let Some((number, family)) = member else {
            let id = new.push(node.op.clone(), &node.operands)?;
            moved.insert(old, id);
            return Ok(id);
        };
        let whole = match merged.get(&number) {
            Some(&whole) => whole,
            None => {
                let mut weights = Vec::with_capacity(family.weights.len());
                for &w in &family.weights {
                    weights.push(copy_view(new, &graph, w, &moved)?);
                }
                let w = new.concat(&weights, 0)?;
                let op = Op::Contract { spec: family.spec.clone() };
                let whole = new.push(op, &[node.operands[0], w])?;
                merged.insert(number, whole);
                whole
            }
        };
        let at = family.members.iter().position(|m| *m == old).expect("it is a member");
        let axis = family.axis;
        let size = |i: usize| graph.ty(family.weights[i]).shape[0].clone();
        let start = (0..at).fold(Dim::constant(0), |s, i| s.add(&size(i)));
        let size = size(at);
        let id = new.narrow(whole, axis, start, size)?;
        moved.insert(old, id);
        Ok(id)
    })
}

struct Family {
    spec: ContractSpec,
    axis: usize,
    members: Vec<NodeId>,
    weights: Vec<NodeId>,
}

fn families(graph: &Graph) -> Vec<Family> {
    let mut groups: Vec<((NodeId, ContractSpec, DType), Vec<NodeId>)> = Vec::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let Op::Contract { spec } = &node.op else { continue };
        let plain =
            spec.batch().is_empty() && spec.rhs().len() == 2 && spec.rhs()[0] == *spec.cols().first().unwrap_or(&' ');
        if !plain || !is_weight_view(graph, node.operands[1]) {
            continue;
        }
        let key = (node.operands[0], spec.clone(), graph.ty(node.operands[1]).dtype);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(id),
            None => groups.push((key, vec![id])),
        }
    }
    let mut families = Vec::new();
    for ((_, spec, _), members) in groups {
        let weights: Vec<NodeId> = members.iter().map(|&m| graph.node(m).operands[1]).collect();
        let distinct = weights.iter().enumerate().all(|(i, w)| !weights[..i].contains(w));
        if members.len() >= 2 && distinct {
            let col = spec.cols()[0];
            let axis = spec.out().iter().position(|&c| c == col).expect("a column letter is in the result");
            families.push(Family { spec, axis, members, weights });
        }
    }
    families
}

/// The chain of moves from a weight to `id`, built in `new`.
fn copy_view(new: &mut Graph, old: &Graph, id: NodeId, moved: &HashMap<NodeId, NodeId>) -> Result<NodeId, BuildError> {
    if let Some(&there) = moved.get(&id) {
        return Ok(there);
    }
    let source = copy_view(new, old, old.node(id).operands[0], moved)?;
    new.push(old.node(id).op.clone(), &[source])
}

fn is_weight_view(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    match &node.op {
        Op::Input { kind, .. } => *kind == InputKind::Weight,
        Op::Reshape { .. } | Op::Slice { .. } | Op::Transpose { .. } => is_weight_view(graph, node.operands[0]),
        _ => false,
    }
}
