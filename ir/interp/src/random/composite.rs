//! Random composites, with operands scaled to where each is well conditioned.

use super::draw::Draw;
use super::fact::Fact;
use super::inputs::Fill;
use enel_ir::{AttentionOperand, Composite, InputKind, NodeId, Op, Scalar, TensorType};
use enel_types::{DType, Dim};

impl Draw<'_> {
    /// Any composite.
    pub(crate) fn composite(&mut self) -> Option<NodeId> {
        if !self.config.composites {
            return None;
        }
        if self.config.chunks && self.rng.one_in(4) {
            return self.linear_cross_entropy();
        }
        match self.rng.below(if self.config.derivatives { 10 } else { 7 }) {
            7 => self.stop(),
            8 => self.attention_grad(),
            9 => self.bits(),
            0 => self.activation(),
            1 => self.softmax(),
            2 => self.moments(),
            3 => self.row_norm(),
            4 => self.batch_norm(),
            5 => self.attention(),
            _ => self.cross_entropy(),
        }
    }

    fn activation(&mut self) -> Option<NodeId> {
        let x = self.float()?;
        let x = self.tame(x, 16.0)?;
        let f = self.fact(x);
        let tanh = self.rng.one_in(2);
        // silu is above -0.28 and gelu above -0.17; the slope of both is below 1.13.
        let gated = Fact::smooth(-0.28, f.hi.max(0.0), 1.13 * f.err + f.mag());
        let (op, fact) = match self.rng.below(4) {
            0 if !f.is_exact() && !self.config.kinks => return None,
            0 => (Composite::Relu, Fact { lo: f.lo.max(0.0), hi: f.hi.max(0.0), ..f }),
            1 => (Composite::Sigmoid, Fact::smooth(0.0, 1.0, f.err)),
            2 => (Composite::Silu, gated),
            _ => (Composite::Gelu { tanh }, gated),
        };
        self.emit(Op::Composite(op), &[x], fact)
    }

    fn ranked_float(&mut self) -> Option<NodeId> {
        self.choose(|d, id| d.dtype(id).is_float() && d.graph.ty(id).rank() >= 1)
    }

    fn softmax(&mut self) -> Option<NodeId> {
        let x = self.ranked_float()?;
        let x = self.tame(x, 8.0)?;
        let f = self.fact(x);
        let axis = self.rng.below(self.graph.ty(x).rank());
        let n = self.max_of(&self.shape(x)[axis]);
        let err = 2.0 * f.err + f.hi - f.lo + n;
        if self.rng.one_in(2) {
            return self.emit(Op::Composite(Composite::Softmax { axis }), &[x], Fact::smooth(0.0, 1.0, err));
        }
        let fact = Fact::smooth(f.lo - f.hi - n.ln(), 0.0, err);
        self.emit(Op::Composite(Composite::LogSoftmax { axis }), &[x], fact)
    }

    fn moments(&mut self) -> Option<NodeId> {
        let x = self.ranked_float()?;
        let x = self.tame(x, 8.0)?;
        let f = self.fact(x);
        let shape = self.shape(x);
        let axes: Vec<usize> = (0..shape.len()).filter(|_| self.rng.one_in(2)).collect();
        let count = Dim::product(axes.iter().map(|&a| &shape[a]));
        let keep = self.rng.one_in(2);
        let spread = f.hi - f.lo;
        let n = self.max_of(&count);
        if self.rng.one_in(2) {
            let fact = Fact::smooth(f.lo, f.hi, f.err + n * f.mag());
            return self.emit(Op::Composite(Composite::Mean { axes, keep }), &[x], fact);
        }
        let ddof = i64::from(self.min_of(&count) >= 2 && self.rng.one_in(2));
        let fact = Fact::smooth(0.0, 2.0 * spread * spread, 4.0 * spread * (f.err + n));
        self.emit(Op::Composite(Composite::Variance { axes, keep, ddof }), &[x], fact)
    }

    /// A vector for a norm, at most 2 in size.
    fn vector(&mut self, extent: &Dim) -> Option<NodeId> {
        let v = self.with_shape(std::slice::from_ref(extent), None)?;
        self.tame(v, 2.0)
    }

    fn row_norm(&mut self) -> Option<NodeId> {
        let x = self.ranked_float()?;
        let x = self.tame(x, 4.0)?;
        let f = self.fact(x);
        let extent = self.shape(x).last()?.clone();
        let n = self.max_of(&extent);
        let gain = self.vector(&extent)?;
        // eps of this size keeps rows of nearly equal values well conditioned.
        let eps = Scalar::F(self.rng.pick(&[0.0625, 0.5]));
        let bound = n.sqrt() * self.fact(gain).mag();
        let err = 8.0 * self.fact(gain).mag() * (f.err + 4.0 * n.sqrt() + f.mag()) + n.sqrt() * self.fact(gain).err;
        if self.rng.one_in(2) {
            let fact = Fact::smooth(-bound, bound, err);
            return self.emit(Op::Composite(Composite::RmsNorm { eps }), &[x, gain], fact);
        }
        let bias = self.vector(&extent)?;
        let fact = Fact::smooth(-bound, bound, err).plus(self.fact(bias));
        self.emit(Op::Composite(Composite::LayerNorm { eps }), &[x, gain, bias], fact)
    }

    fn batch_norm(&mut self) -> Option<NodeId> {
        let x = self.ranked_float()?;
        let x = self.tame(x, 4.0)?;
        let axis = self.rng.below(self.graph.ty(x).rank());
        let extent = self.shape(x)[axis].clone();
        let (gain, bias, mean) = (self.vector(&extent)?, self.vector(&extent)?, self.vector(&extent)?);
        let var = self.vector(&extent)?;
        let var = self.positive(var)?;
        let eps = Scalar::F(0.0625);
        // var + eps is above 0.25, so its rsqrt is below 2 and that one's slope below 4.
        let scale = self.fact(gain).times(Fact::smooth(0.0, 2.0, 4.0 * self.fact(var).err));
        let centred = self.fact(x).plus(self.fact(mean).negated());
        let fact = Fact { grid: None, ..centred.times(scale).plus(self.fact(bias)) };
        self.emit(Op::Composite(Composite::BatchNorm { axis, eps }), &[x, gain, bias, mean, var], fact)
    }

    fn bits(&mut self) -> Option<NodeId> {
        if !self.config.ints {
            return None;
        }
        let scalar = TensorType::new(DType::I64, vec![]);
        let seed = self.input(Fill::Wide, InputKind::Data, scalar.clone())?;
        let step = self.input(Fill::Small, InputKind::Data, scalar)?;
        let shape = (0..self.rng.between(0, 2)).map(|_| self.dim()).collect();
        let op = Composite::RandomBits { stream: self.rng.between(0, 3), shape };
        self.emit(Op::Composite(op), &[seed, step], Fact::full(DType::U32))
    }

    fn stop(&mut self) -> Option<NodeId> {
        let x = self.float()?;
        let fact = self.fact(x);
        self.emit(Op::Composite(Composite::StopGradient), &[x], fact)
    }

    /// q, k, v, low and high: keys are at most 2 in size, values at most 8.
    fn attention_operands(&mut self) -> Option<[NodeId; 5]> {
        if !self.config.ints {
            return None;
        }
        let (tokens, keys) = (self.dim(), self.dim());
        let groups = self.rng.between(1, 2);
        let heads = groups * self.rng.between(1, 2);
        let d = self.rng.pick(&[2, 4]);
        let q_shape = [tokens.clone(), Dim::constant(heads), Dim::constant(d)];
        let kv_shape = [keys, Dim::constant(groups), Dim::constant(d)];
        let q = self.with_shape(&q_shape, None)?;
        let q = self.tame(q, 2.0)?;
        let k = self.with_shape(&kv_shape, None)?;
        let k = self.tame(k, 2.0)?;
        let v = self.with_shape(&kv_shape, None)?;
        let v = self.tame(v, 8.0)?;
        let range = TensorType::new(DType::I32, vec![tokens]);
        let low = self.input(Fill::Small, InputKind::Data, range.clone())?;
        let high = self.input(Fill::Small, InputKind::Data, range)?;
        Some([q, k, v, low, high])
    }

    /// What the probabilities of attention may be off by.
    fn probability_err(&self, q: NodeId, k: NodeId) -> f64 {
        let d = self.max_of(&self.shape(q)[2]);
        let scores = Fact { grid: None, ..self.fact(q).times(self.fact(k)) }.sum_of(d);
        scores.err + self.max_of(&self.shape(k)[0])
    }

    fn attention(&mut self) -> Option<NodeId> {
        let operands = self.attention_operands()?;
        let [q, k, v, low, high] = operands;
        if self.config.derivatives && self.rng.one_in(4) {
            // Scores are at most 2 D in size.
            let (d, keys) = (self.max_of(&self.shape(q)[2]), self.max_of(&self.shape(k)[0]).max(1.0));
            let fact = Fact::smooth(-2.0 * d, 2.0 * d + keys.ln(), self.probability_err(q, k));
            let op = Composite::AttentionLse { scale: Scalar::F(0.5) };
            return self.emit(Op::Composite(op), &[q, k, low, high], fact);
        }
        let fv = self.fact(v);
        let err = fv.err + fv.mag() * self.probability_err(q, k);
        let fact = Fact::smooth(fv.lo.min(0.0), fv.hi.max(0.0), err);
        let op = Composite::Attention { scale: Scalar::F(0.5) };
        self.emit(Op::Composite(op), &operands, fact)
    }

    fn attention_grad(&mut self) -> Option<NodeId> {
        let [q, k, v, low, high] = self.attention_operands()?;
        let shape = self.shape(q);
        let dy = self.with_shape(&shape, None)?;
        let [lse, delta] =
            [self.with_shape(&shape[..2], Some(DType::F32))?, self.with_shape(&shape[..2], Some(DType::F32))?];
        let mut small = [q, k, v, dy, lse, delta];
        for x in &mut small {
            *x = self.tame(*x, 0.5)?;
        }
        let [q, k, v, dy, lse, delta] = small;
        let by = self.rng.pick(&AttentionOperand::ALL);
        // dp - delta is at most (D + 2) / 4, probabilities are at most exp((D + 4) / 8) < 3, and at most T H or S are added.
        let (t, h, d) = (self.max_of(&shape[0]), self.max_of(&shape[1]), self.max_of(&shape[2]));
        let size = 3.0 * d * (t * h).max(self.max_of(&self.shape(k)[0]));
        // Every operand enters as a factor of at most 1/2, so its error counts twice its share.
        let carried: f64 = small.iter().map(|&x| 2.0 * self.fact(x).err).sum();
        let err = size * (self.probability_err(q, k) + carried + d);
        let op = Composite::AttentionGrad { scale: Scalar::F(0.5), by };
        self.emit(Op::Composite(op), &[q, k, v, dy, low, high, lse, delta], Fact::smooth(-size, size, err))
    }

    fn cross_entropy(&mut self) -> Option<NodeId> {
        if !self.config.ints {
            return None;
        }
        let wide = |d: &Draw<'_>, id: NodeId| {
            let ty = d.graph.ty(id);
            ty.dtype.is_float() && ty.rank() == 2 && d.min_of(&ty.shape[1]) >= 3
        };
        let logits = match self.choose(wide) {
            Some(found) => found,
            None => {
                let shape = vec![self.dim(), Dim::constant(5)];
                let dtype = self.float_dtype();
                self.float_input(dtype, shape)?
            }
        };
        let logits = self.tame(logits, 8.0)?;
        let f = self.fact(logits);
        let shape = self.shape(logits);
        let labels = TensorType::new(DType::I32, vec![shape[0].clone()]);
        let labels = self.input(Fill::Label, InputKind::Data, labels)?;
        let (t, v) = (self.max_of(&shape[0]), self.max_of(&shape[1]));
        let spread = f.hi - f.lo + v.ln();
        let fact = Fact::smooth(0.0, spread, 2.0 * f.err + spread * t + v);
        // The first label is 0, so one label always counts.
        self.emit(Op::Composite(Composite::CrossEntropy { ignore: 1 }), &[logits, labels], fact)
    }

    fn linear_cross_entropy(&mut self) -> Option<NodeId> {
        if !self.config.ints {
            return None;
        }
        let (rows, c, v) = (self.dim(), self.rng.pick(&[2, 4]), self.rng.between(3, 9));
        let hidden = self.with_shape(&[rows.clone(), Dim::constant(c)], None)?;
        let hidden = self.tame(hidden, 2.0)?;
        let matrix = self.with_shape(&[Dim::constant(v), Dim::constant(c)], None)?;
        let matrix = self.tame(matrix, 1.0)?;
        let labels = self.input(Fill::Label, InputKind::Data, TensorType::new(DType::I32, vec![rows.clone()]))?;
        let logits = Fact { grid: None, ..self.fact(hidden).times(self.fact(matrix)) }.sum_of(c as f64);
        let spread = logits.hi - logits.lo + (v as f64).ln();
        // Every chunk adds the roundings of its largest logit.
        let err = 2.0 * logits.err + spread * (self.max_of(&rows) + v as f64);
        let op = Composite::LinearCrossEntropy { ignore: 1, columns: self.rng.between(1, v) };
        self.emit(Op::Composite(op), &[hidden, matrix, labels], Fact::smooth(0.0, spread, err))
    }
}
