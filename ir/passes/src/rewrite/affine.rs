//! Is a value centred, scaled and shifted by weights? Then it is scaled and shifted once (batch normalisation).

use crate::rebuild::{PassError, rebuild};
use enel_ir::{BinaryOp, Graph, InputKind, NodeId, Op, Verified};

/// `(x - m) * s` becomes `x * s - m * s`, and `y - k + b` becomes `y + (b - k)`; m, s, k and b come from weights alone,
/// so what is new is computed once per binding.
pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    rebuild("fold-affine", graph, &mut |new, _, node| {
        let Op::Binary(op) = node.op else { return new.push(node.op.clone(), &node.operands) };
        let [a, b] = node.operands[..] else { return new.push(node.op.clone(), &node.operands) };
        let (x, w) = if weight_only(new, b) { (a, b) } else { (b, a) };
        let centred = difference(new, x).filter(|_| weight_only(new, w));
        match (op, centred) {
            (BinaryOp::Mul, Some((x, m))) => {
                let scaled = new.mul(x, w)?;
                let shift = new.mul(m, w)?;
                new.sub(scaled, shift)
            }
            (BinaryOp::Add, Some((y, k))) => {
                let shift = new.sub(w, k)?;
                new.add(y, shift)
            }
            _ => new.push(node.op.clone(), &node.operands),
        }
    })
}

/// The operands of `x - m` when m comes from weights alone and x does not.
fn difference(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let node = graph.node(id);
    let Op::Binary(BinaryOp::Sub) = node.op else { return None };
    let (x, m) = (node.operands[0], node.operands[1]);
    (node.ty.dtype.is_float() && weight_only(graph, m) && !weight_only(graph, x)).then_some((x, m))
}

/// True for values that depend on at least one weight and on nothing else but literals.
fn weight_only(graph: &Graph, id: NodeId) -> bool {
    fn walk(graph: &Graph, id: NodeId, depth: u32) -> Option<bool> {
        let node = graph.node(id);
        match &node.op {
            Op::Input { kind, .. } => (*kind == InputKind::Weight).then_some(true),
            Op::Const { .. } => Some(false),
            _ if node.operands.is_empty() || depth == 0 => None,
            _ => {
                let mut any = false;
                for &o in &node.operands {
                    any |= walk(graph, o, depth - 1)?;
                }
                Some(any)
            }
        }
    }
    walk(graph, id, 8) == Some(true)
}
