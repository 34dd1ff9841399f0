//! What is the derivative of attention? One composite per operand, which a kernel family claims.

use crate::vjp::{Done, Vjp};
use enel_ir::{AttentionOperand, Composite, DType, ReduceOp, Scalar};

/// dq, dk and dv each read q, k, v, the derivative by the result, the ranges, and two numbers of each row of scores: the
/// logarithm of its sum, and what all its derivatives are centred by.
pub(crate) fn attention(v: &mut Vjp<'_>, scale: Scalar) -> Done {
    let [q, k, values, low, high] = [0, 1, 2, 3, 4].map(|slot| v.x(slot));
    let lse = v.g.composite(Composite::AttentionLse { scale }, &[q, k, low, high])?;
    let both = v.g.mul(v.dy, v.y)?;
    let both = v.g.cast(both, DType::F32)?;
    let delta = v.g.reduce(ReduceOp::Sum, both, &[2], false)?;
    let operands = [q, k, values, v.dy, low, high, lse, delta];
    for (slot, by) in AttentionOperand::ALL.into_iter().enumerate() {
        if v.wants(slot) {
            let dx = v.g.composite(Composite::AttentionGrad { scale, by }, &operands)?;
            v.give(slot, dx)?;
        }
    }
    Ok(())
}
