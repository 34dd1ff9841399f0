//! Random reductions and contractions: operands are scaled so that sums stay small.

use super::draw::Draw;
use super::fact::Fact;
use enel_ir::{ContractSpec, NodeId, Op};
use enel_types::{DType, Dim, ReduceOp};

impl Draw<'_> {
    /// A reduction over some axes.
    pub(crate) fn reduce(&mut self) -> Option<NodeId> {
        let x = self.any()?;
        let op = self.rng.pick(ReduceOp::ALL);
        let rank = self.graph.ty(x).rank();
        let mut axes: Vec<usize> = (0..rank).filter(|_| self.rng.one_in(2)).collect();
        if op.is_index() && rank > 0 {
            axes = vec![self.rng.below(rank)];
        }
        let count = self.max_of(&Dim::product(axes.iter().map(|&a| &self.graph.ty(x).shape[a])));
        let keep = self.rng.one_in(2);
        let float = self.dtype(x).is_float();
        let free = self.fact(x).is_exact() || self.config.kinks;
        let (x, fact) = match op {
            ReduceOp::Sum => {
                let x = if float { self.tame(x, (1024.0 / count).max(1.0))? } else { x };
                (x, self.fact(x).sum_of(count))
            }
            ReduceOp::Prod if !float => (x, Fact::full(self.dtype(x))),
            ReduceOp::Prod if count <= 8.0 => {
                let x = self.tame(x, 1.25)?;
                let f = self.fact(x);
                let bound = f.mag().powf(count).max(f.mag());
                (x, Fact::smooth(-bound, bound, count * f.err * bound.max(1.0) + count))
            }
            ReduceOp::Max | ReduceOp::Min if free => (x, self.fact(x)),
            ReduceOp::ArgMax | ReduceOp::ArgMin if self.config.ints && self.fact(x).is_exact() => {
                (x, Fact::exact(0.0, count - 1.0, 0))
            }
            ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min | ReduceOp::ArgMax | ReduceOp::ArgMin => return None,
        };
        self.emit(Op::Reduce { op, axes, keep }, &[x], fact)
    }

    /// A contraction: each axis of the left operand is a batch, a row or a summed one.
    pub(crate) fn contract(&mut self) -> Option<NodeId> {
        let x = self.choose(|d, id| d.dtype(id).is_float() && (1..=4).contains(&d.graph.ty(id).rank()))?;
        let shape = self.shape(x);
        let letters = ['a', 'b', 'c', 'd'];
        let (mut rhs, mut out, mut count) = (Vec::new(), Vec::new(), Dim::constant(1));
        for (i, extent) in shape.iter().enumerate() {
            match self.rng.below(4) {
                0 => {
                    rhs.push((letters[i], extent.clone()));
                    out.push(letters[i]);
                }
                1 => out.push(letters[i]),
                _ => {
                    rhs.push((letters[i], extent.clone()));
                    count = count.mul(extent);
                }
            }
        }
        for n in ['n', 'o'].into_iter().take(self.rng.below(3)) {
            rhs.push((n, self.dim()));
            out.push(n);
        }
        if !rhs.is_empty() {
            let turn = self.rng.below(rhs.len());
            rhs.rotate_left(turn);
        }
        if !out.is_empty() {
            let turn = self.rng.below(out.len());
            out.rotate_left(turn);
        }
        let word = |list: &[char]| list.iter().collect::<String>();
        let (rhs_letters, rhs_shape): (Vec<char>, Vec<Dim>) = rhs.into_iter().unzip();
        let text = format!("{},{}->{}", word(&letters[..shape.len()]), word(&rhs_letters), word(&out));
        let spec = ContractSpec::parse(&text).ok()?;
        let n = self.max_of(&count);
        let bound = (1024.0 / n).sqrt().max(1.0);
        let x = self.tame(x, bound)?;
        let y = self.with_shape(&rhs_shape, None)?;
        let y = self.tame(y, bound)?;
        let product = self.fact(x).times(self.fact(y));
        // An exact product must also fit the dtype of either operand: bf16 products are kept f32 on the way.
        let product = product.settle(DType::F32);
        self.emit(Op::Contract { spec }, &[x, y], product.sum_of(n))
    }
}
