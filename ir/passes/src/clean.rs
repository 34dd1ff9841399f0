//! Which changes are always wanted? Unclaimed composites expand, equal nodes merge, literals and no-ops fold.

use crate::rebuild::{PassError, rebuild};
use enel_ir::{BinaryOp, Composite, Graph, InputKind, Node, NodeId, Op, Scalar, Verified, decompose};
use std::collections::{HashMap, HashSet};

/// Replaces every composite no kernel family claims by its meaning.
///
/// # Errors
/// [`PassError`] only by a defect of this pass.
pub fn expand(graph: Verified<'_>, claimed: &dyn Fn(&Composite) -> bool) -> Result<Graph, PassError> {
    rebuild("expand", graph, &mut |new, _, node| match &node.op {
        Op::Composite(c) if !claimed(c) => decompose(new, c, &node.operands),
        _ => new.push(node.op.clone(), &node.operands),
    })
}

/// Merges equal nodes, folds moves that change nothing and arithmetic with neutral literals, drops dead nodes.
///
/// # Errors
/// [`PassError`] only by a defect of this pass.
pub fn clean(graph: Verified<'_>) -> Result<Graph, PassError> {
    let mut known: HashMap<(Op, Vec<NodeId>), NodeId> = HashMap::new();
    // The value of an update stays where it is: an equal, earlier node would update the state before its last reader.
    let updates: HashSet<NodeId> = graph.outputs().iter().filter(|o| o.updates.is_some()).map(|o| o.value).collect();
    let merged = rebuild("clean", graph, &mut |new, id, node| {
        if updates.contains(&id) {
            return new.push(node.op.clone(), &node.operands);
        }
        if let Some(same) = no_op(new, node) {
            return Ok(same);
        }
        let node = compose_moves(new, node);
        let mergeable = !matches!(node.op, Op::Input { kind: InputKind::State, .. });
        if !mergeable {
            return new.push(node.op, &node.operands);
        }
        let key = (node.op.clone(), node.operands.clone());
        if let Some(&same) = known.get(&key) {
            return Ok(same);
        }
        let id = new.push(node.op, &node.operands)?;
        known.insert(key, id);
        Ok(id)
    })?;
    // Folding leaves the folded-away nodes without users: a second walk drops them.
    let verified = enel_ir::verify(&merged).map_err(|faults| PassError::Verify { pass: "clean", faults })?;
    rebuild("clean", verified, &mut |new, _, node| new.push(node.op.clone(), &node.operands))
}

/// The operand the node equals, if it changes neither type nor elements.
fn no_op(graph: &Graph, node: &Node) -> Option<NodeId> {
    let &[x, ref rest @ ..] = node.operands.as_slice() else { return None };
    // A state keeps its copies: an output may show the old value, which the state's own buffer loses.
    let is_state = |id: NodeId| matches!(graph.node(id).op, Op::Input { kind: InputKind::State, .. });
    if node.operands.iter().any(|&o| is_state(o)) {
        return None;
    }
    let same_type = |id: NodeId| *graph.ty(id) == node.ty;
    match &node.op {
        Op::Cast { .. } | Op::Reshape { .. } | Op::Broadcast { .. } => same_type(x).then_some(x),
        Op::Transpose { perm } => perm.iter().copied().eq(0..perm.len()).then_some(x),
        Op::Concat { .. } => rest.is_empty().then_some(x),
        Op::Slice { .. } => same_type(x).then_some(x).filter(|_| match &node.op {
            Op::Slice { starts, strides, .. } => starts.iter().all(|s| s.is(0)) && strides.iter().all(|&s| s == 1),
            _ => false,
        }),
        Op::Binary(op) => {
            let y = *rest.first()?;
            let splat = |id: NodeId| match &graph.node(id).op {
                Op::Const { values, .. } if values.len() == 1 => Some(values[0]),
                _ => None,
            };
            let is = |s: Option<Scalar>, v: f64| s.is_some_and(|s| s.as_f64() == v);
            match op {
                BinaryOp::Mul if is(splat(y), 1.0) && same_type(x) => Some(x),
                BinaryOp::Mul if is(splat(x), 1.0) && same_type(y) => Some(y),
                BinaryOp::Div if is(splat(y), 1.0) && same_type(x) => Some(x),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A move of a move as one move: reshape of reshape, transpose of transpose.
fn compose_moves(graph: &Graph, node: &Node) -> Node {
    let mut node = node.clone();
    let Some(&x) = node.operands.first() else { return node };
    let inner = graph.node(x);
    match (&mut node.op, &inner.op) {
        (Op::Reshape { .. }, Op::Reshape { .. }) => node.operands[0] = inner.operands[0],
        (Op::Transpose { perm }, Op::Transpose { perm: first }) => {
            *perm = perm.iter().map(|&p| first[p]).collect();
            node.operands[0] = inner.operands[0];
        }
        _ => {}
    }
    node
}
