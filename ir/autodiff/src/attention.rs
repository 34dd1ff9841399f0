//! What is the derivative of attention? One composite per operand, which a kernel family may claim.

use crate::vjp::{Done, Vjp};
use enel_ir::{AttentionOperand, Composite, NodeId, Scalar};

/// dq, dk and dv each read q, k, v, the ranges, the result and its derivative.
pub(crate) fn attention(v: &mut Vjp<'_>, scale: Scalar) -> Done {
    let mut operands: Vec<NodeId> = (0..v.arity()).map(|slot| v.x(slot)).collect();
    operands.extend([v.y, v.dy]);
    for (slot, by) in AttentionOperand::ALL.into_iter().enumerate() {
        if !v.wants(slot) {
            continue;
        }
        let dx = v.g.composite(Composite::AttentionGrad { scale, by }, &operands)?;
        v.give(slot, dx)?;
    }
    Ok(())
}
