//! How much arithmetic is one call? Counts for the families whose time it decides.

use crate::desc::{Body, By, Desc, Extent};

/// Floating-point operations of one call, a multiply-add counted as two; 0 for families bound by memory.
///
/// Contract: `2 M N K` times batch. Attention: the dense bound `4 T S D` times heads, as if every token saw every row.
/// Its derivatives: 6 T S D, by v 4 T S D. Saturates. `dynamics` holds a value for every dynamic size, or the result is `None`.
pub fn flops(desc: &Desc, dynamics: &[i64]) -> Option<u64> {
    if dynamics.len() != desc.dynamics.len() {
        return None;
    }
    let size = |extents: &[Extent]| {
        let values = extents.iter().map(|e| u64::try_from(e.value(dynamics)).unwrap_or(0));
        values.fold(1, u64::saturating_mul)
    };
    let product = |parts: &[u64]| parts.iter().copied().fold(1, u64::saturating_mul);
    match &desc.body {
        Body::Contract(b) => Some(product(&[2, size(&b.batch), size(&b.rows), size(&b.cols), size(&b.summed)])),
        Body::Attention(b) => {
            let fixed = [Extent::Const(b.heads), Extent::Const(b.head_size)];
            let products = if b.v.is_some() { 4 } else { 2 };
            Some(product(&[products, size(&[b.tokens, b.keys]), size(&fixed)]))
        }
        Body::AttentionGrad(b) => {
            let fixed = [Extent::Const(b.heads), Extent::Const(b.head_size)];
            let products = if b.by == By::Value { 4 } else { 6 };
            Some(product(&[products, size(&[b.tokens, b.keys]), size(&fixed)]))
        }
        Body::Map(_) | Body::Reduce(_) | Body::Fps(_) | Body::Knn(_) | Body::TopK(_) | Body::Scatter(_) => Some(0),
    }
}
