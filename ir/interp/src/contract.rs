//! What is a contraction's sum of products? Both operands packed to matrices, one plain triple loop in f64.

use crate::tensor::{Tensor, Values};
use crate::view::{View, elems};
use enel_ir::ContractSpec;

/// Sum of products over the letters of `spec`; the summed axes run in the left operand's order.
pub(crate) fn contract(spec: &ContractSpec, lhs: &Tensor, rhs: &Tensor) -> Values {
    let (batch, rows, cols, summed) = (spec.batch(), spec.rows(), spec.cols(), spec.summed());
    let a = pack(lhs, spec.lhs(), &[&batch, &rows, &summed]);
    let b = pack(rhs, spec.rhs(), &[&batch, &summed, &cols]);
    let extent = |c: &char| match spec.lhs().iter().position(|l| l == c) {
        Some(i) => lhs.shape[i],
        None => rhs.shape[position(spec.rhs(), *c)],
    };
    let extents = |letters: &[char]| letters.iter().map(extent).collect::<Vec<_>>();
    let [m, n, k] = [&rows, &cols, &summed].map(|l| elems(&extents(l)));
    let mut c = vec![0.0; elems(&extents(&batch)) * m * n];
    for (i, out) in c.chunks_exact_mut(n).enumerate() {
        let b = &b[i / m * k * n..][..k * n];
        for (x, row) in a[i * k..][..k].iter().zip(b.chunks_exact(n)) {
            for (sum, y) in out.iter_mut().zip(row) {
                *sum += x * y;
            }
        }
    }
    // From [batch, rows, cols] to the order the result states.
    let stands = [batch, rows, cols].concat();
    let perm: Vec<usize> = spec.out().iter().map(|c| position(&stands, *c)).collect();
    Values::F(View::permuted(&extents(&stands), &perm).read(&c))
}

fn pack(x: &Tensor, letters: &[char], order: &[&[char]]) -> Vec<f64> {
    let perm: Vec<usize> = order.concat().into_iter().map(|c| position(letters, c)).collect();
    View::permuted(&x.shape, &perm).read(x.floats())
}

fn position(letters: &[char], c: char) -> usize {
    letters.iter().position(|l| *l == c).expect("the letter groups of a spec partition its operands' letters")
}
