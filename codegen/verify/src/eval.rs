//! What does a Desc mean? One element at a time, straight from the documentation of its body; nothing is shared with a device.
//!
//! Law: a Desc that `check_desc` accepts never panics here: what its programs read outside their buffers is an error.

use crate::data::Data;
use enel_bundle::{
    AccOp, AttentionBody, AttentionGradBody, Body, By, ContractBody, Desc, Extent, FpsBody, Instr, KnnBody, MapBody,
    Program, ReduceBody, Reg, ScatterBody, ScatterMode, Store, TopKBody,
};
use enel_types::{BinaryOp, DType, UnaryOp};
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// In what floats are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The reference.
    Double,
    /// Every result rounded to f32: what an honest kernel may lose.
    Single,
    /// As `Single`, and matrix operands and softmax weights rounded to bf16.
    Bf16,
}

/// What becomes of a result that is stored in fewer digits than it was computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is rounded, as a device does.
    Rounded,
    /// It keeps its digits: how far a device's may be from it is known then.
    Whole,
}

/// Why a call has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A program reads or writes outside its buffer.
    #[error("element {index} of buffer {buffer}, which holds {len}")]
    Outside {
        /// Buffer of the Desc.
        buffer: u32,
        /// The element.
        index: i64,
        /// Elements of the buffer.
        len: usize,
    },
    /// A token sees rows that are not there.
    #[error("token {token} sees rows {low} to {high} of {keys}")]
    Ranges {
        /// The token.
        token: i64,
        /// First row.
        low: i64,
        /// One past the last.
        high: i64,
        /// Rows there are.
        keys: i64,
    },
    /// The family is not defined at these sizes.
    #[error("{0}")]
    Sizes(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum V {
    F(f64),
    I(i64),
    B(bool),
}

impl V {
    fn f(self) -> f64 {
        match self {
            V::F(x) => x,
            other => panic!("{other:?} is no float"),
        }
    }
    fn i(self) -> i64 {
        match self {
            V::I(x) => x,
            other => panic!("{other:?} is no integer"),
        }
    }
}

/// One call of a Desc.
struct Eval<'a> {
    sizes: &'a [i64],
    buffers: Vec<Data>,
    precision: Precision,
    stored: Stored,
    /// The first thing that has no meaning; what follows it is not used.
    fault: Cell<Option<EvalError>>,
}

/// All buffers after the call.
///
/// # Errors
/// [`EvalError`] when the sizes, or what the buffers hold, give it no meaning.
///
/// # Panics
/// When `check_desc` refuses the Desc, or `sizes` and `buffers` are not as many as it has, or of other dtypes.
pub fn evaluate(
    desc: &Desc,
    sizes: &[i64],
    buffers: &[Data],
    (precision, stored): (Precision, Stored),
) -> Result<Vec<Data>, EvalError> {
    defined(desc, sizes)?;
    let mut eval = Eval { sizes, buffers: buffers.to_vec(), precision, stored, fault: Cell::new(None) };
    match &desc.body {
        Body::Map(body) => eval.map(body),
        Body::Reduce(body) => eval.reduce(body),
        Body::Contract(body) => eval.contract(body),
        Body::Attention(body) => eval.attention(body),
        Body::AttentionGrad(body) => eval.attention_grad(body),
        Body::Fps(body) => eval.fps(body),
        Body::Knn(body) => eval.knn(body),
        Body::TopK(body) => eval.top_k(body),
        Body::Scatter(body) => eval.scatter(body),
    }
    match eval.fault.get() {
        Some(fault) => Err(fault),
        None => Ok(eval.buffers),
    }
}

/// Points of a space, saturating.
fn count(axes: &[Extent], sizes: &[i64]) -> u64 {
    axes.iter().map(|e| u64::try_from(e.value(sizes)).unwrap_or(0)).fold(1, u64::saturating_mul)
}

/// Scalar instructions of one evaluation, roughly: what it costs. Saturates.
pub fn work(desc: &Desc, sizes: &[i64]) -> u64 {
    let of = |axes: &[&[Extent]]| axes.iter().map(|axes| count(axes, sizes)).fold(1, u64::saturating_mul);
    let times = |points: u64, programs: &[&Program]| {
        points.saturating_mul(programs.iter().map(|p| p.instrs().len() as u64 + 2).sum())
    };
    let one = |e: Extent| count(&[e], sizes);
    match &desc.body {
        Body::Map(b) => times(of(&[&b.space]), &[&b.program]),
        Body::Reduce(b) => times(of(&[&b.outer, &b.inner]), &[&b.element]),
        Body::Contract(b) => times(of(&[&b.batch, &b.rows, &b.cols, &b.summed]), &[&b.lhs.program, &b.rhs.program])
            .saturating_add(times(of(&[&b.batch, &b.rows, &b.cols]), &[&b.epilogue])),
        Body::Attention(b) => {
            let points = [one(b.tokens), one(b.keys), b.heads.unsigned_abs(), b.head_size.unsigned_abs()];
            let values = b.v.as_ref().unwrap_or(&b.k);
            times(points.into_iter().fold(1, u64::saturating_mul), &[&b.k.program, &values.program])
        }
        Body::AttentionGrad(b) => {
            let points = [one(b.tokens), one(b.keys), b.heads.unsigned_abs(), b.head_size.unsigned_abs()];
            let programs = [&b.q.program, &b.k.program, &b.v.program, &b.dy.program];
            times(points.into_iter().fold(1, u64::saturating_mul), &programs)
        }
        Body::Fps(b) => of(&[&[b.batch, b.points, b.n]]).saturating_mul(8),
        Body::Knn(b) => {
            let loads = times(of(&[&[b.batch, b.points, Extent::Const(3)]]), &[&b.point.program]);
            of(&[&[b.batch, b.queries, b.points]]).saturating_mul(64).saturating_add(loads)
        }
        Body::TopK(b) => times(of(&[&b.outer, &[b.n]]), &[&b.value.program]).saturating_mul(4),
        Body::Scatter(b) => times(of(&[&b.prefix, &b.index_space, &b.suffix]), &[&b.rows.program]),
    }
}

/// Whether the family is defined at these sizes.
fn defined(desc: &Desc, sizes: &[i64]) -> Result<(), EvalError> {
    let value = |e: Extent| e.value(sizes);
    let rule = match &desc.body {
        Body::Reduce(b) if count(&b.inner, sizes) == 0 => "nothing is combined",
        Body::Contract(b) if b.fold.is_some() && count(&b.rows, sizes) == 0 => "no rows are folded",
        Body::Attention(b) if b.groups == 0 || b.heads % b.groups != 0 => "heads do not share groups evenly",
        Body::AttentionGrad(b) if b.groups == 0 || b.heads % b.groups != 0 => "heads do not share groups evenly",
        Body::Fps(b) if value(b.points) == 0 && value(b.n) > 0 => "points of an empty cloud",
        Body::Knn(b) if value(b.k) > value(b.points) => "more neighbours than points",
        Body::TopK(b) if value(b.k) > value(b.n) => "more ranks than elements",
        Body::Map(_)
        | Body::Reduce(_)
        | Body::Contract(_)
        | Body::Attention(_)
        | Body::AttentionGrad(_)
        | Body::Fps(_)
        | Body::Knn(_)
        | Body::TopK(_)
        | Body::Scatter(_) => return Ok(()),
    };
    Err(EvalError::Sizes(rule))
}

impl Eval<'_> {
    fn round(&self, x: f64) -> f64 {
        match self.precision {
            Precision::Double => x,
            Precision::Single | Precision::Bf16 => f64::from(x as f32),
        }
    }

    fn operand(&self, x: f64) -> f64 {
        if self.precision == Precision::Bf16 { DType::BF16.round(x) } else { x }
    }

    fn points(&self, axes: &[Extent]) -> Vec<Vec<i64>> {
        axes.iter().fold(vec![Vec::new()], |all, axis| {
            let n = axis.value(self.sizes);
            all.iter().flat_map(|p| (0..n).map(|i| [p.as_slice(), &[i]].concat())).collect()
        })
    }

    fn note(&self, fault: EvalError) {
        if self.fault.get().is_none() {
            self.fault.set(Some(fault));
        }
    }

    /// Element `index` of a buffer, if it is there; notes it otherwise.
    fn place(&self, buffer: u32, index: i64) -> Option<usize> {
        let len = self.buffers[buffer as usize].len();
        let found = usize::try_from(index).ok().filter(|at| *at < len);
        if found.is_none() {
            self.note(EvalError::Outside { buffer, index, len });
        }
        found
    }

    fn load(&self, buffer: u32, index: i64) -> V {
        let at = self.place(buffer, index);
        match &self.buffers[buffer as usize] {
            Data::Float(_, x) => V::F(at.map_or(0.0, |at| x[at])),
            Data::Int(DType::Bool, x) => V::B(at.is_some_and(|at| x[at] != 0)),
            Data::Int(_, x) => V::I(at.map_or(0, |at| x[at])),
        }
    }

    fn run(&self, program: &Program, coordinates: &[i64], accs: &[V]) -> Vec<V> {
        let mut regs: Vec<V> = Vec::new();
        for instr in program.instrs() {
            let at = |r: Reg| regs[r.0 as usize];
            let value = match *instr {
                Instr::Axis(n) => V::I(coordinates[n as usize]),
                Instr::Float(bits) => V::F(f32::from_bits(bits).into()),
                Instr::Int(x) => V::I(x),
                Instr::Bool(x) => V::B(x),
                Instr::Size(n) => V::I(self.sizes[n as usize]),
                Instr::Load { buffer, index } => self.load(buffer, at(index).i()),
                Instr::Acc(n) => accs[n as usize],
                Instr::Unary(op, x) => match at(x) {
                    V::F(x) => V::F(self.round(float_unary(op, x))),
                    V::I(x) => V::I(match op {
                        UnaryOp::Neg => x.wrapping_neg(),
                        UnaryOp::Abs => x.wrapping_abs(),
                        UnaryOp::Sign => x.signum(),
                        UnaryOp::Not => !x,
                        other => panic!("{other:?} on integers"),
                    }),
                    V::B(x) => V::B(!x),
                },
                Instr::Binary(op, x, y) => match (at(x), at(y)) {
                    (V::F(x), V::F(y)) => self.float_binary(op, x, y),
                    (V::I(x), V::I(y)) => int_binary(op, x, y),
                    (V::B(x), V::B(y)) => V::B(match op {
                        BinaryOp::And => x & y,
                        BinaryOp::Or => x | y,
                        BinaryOp::Xor | BinaryOp::Ne => x ^ y,
                        BinaryOp::Eq => x == y,
                        other => panic!("{other:?} on bool"),
                    }),
                    other => panic!("{other:?}"),
                },
                Instr::Select(c, x, y) => {
                    if at(c) == V::B(true) {
                        at(x)
                    } else {
                        at(y)
                    }
                }
                Instr::Cast(to, x) => cast(to, at(x), |x| self.round(x)),
            };
            regs.push(value);
        }
        regs
    }

    fn float_binary(&self, op: BinaryOp, x: f64, y: f64) -> V {
        let nan = x.is_nan() || y.is_nan();
        V::F(self.round(match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x * y,
            BinaryOp::Div => x / y,
            BinaryOp::Rem => x % y,
            BinaryOp::Pow => x.powf(y),
            BinaryOp::Max | BinaryOp::Min if nan => f64::NAN,
            BinaryOp::Max => x.max(y),
            BinaryOp::Min => x.min(y),
            BinaryOp::Eq => return V::B(x == y),
            BinaryOp::Ne => return V::B(x != y),
            BinaryOp::Lt => return V::B(x < y),
            BinaryOp::Le => return V::B(x <= y),
            BinaryOp::Gt => return V::B(x > y),
            BinaryOp::Ge => return V::B(x >= y),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => panic!("{op:?} on floats"),
        }))
    }

    fn store(&mut self, stores: &[Store], regs: &[V]) {
        for store in stores {
            let at = regs[store.index.0 as usize].i();
            self.put(store.buffer, at, regs[store.value.0 as usize]);
        }
    }

    fn put(&mut self, buffer: u32, index: i64, value: V) {
        let Some(at) = self.place(buffer, index) else { return };
        match (&mut self.buffers[buffer as usize], value) {
            (Data::Float(_, out), V::F(x)) if self.stored == Stored::Whole => out[at] = x,
            (Data::Float(dtype, out), V::F(x)) => out[at] = dtype.round(x),
            (Data::Int(dtype, out), V::I(x)) => out[at] = dtype.wrap(x),
            (Data::Int(_, out), V::B(x)) => out[at] = i64::from(x),
            other => panic!("{other:?}"),
        }
    }

    fn map(&mut self, body: &MapBody) {
        for p in self.points(&body.space) {
            let regs = self.run(&body.program, &p, &[]);
            self.store(&body.stores, &regs);
        }
    }

    fn combine(&self, op: AccOp, values: &[V]) -> V {
        let floats = || values.iter().map(|v| v.f());
        let larger = |x: f64, y: f64| if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) };
        let smaller = |x: f64, y: f64| if x.is_nan() || y.is_nan() { f64::NAN } else { x.min(y) };
        match (op, values[0]) {
            (AccOp::Sum, V::F(_)) => V::F(floats().fold(0.0, |s, x| self.round(s + x))),
            (AccOp::Sum, V::I(_)) => V::I(values.iter().fold(0, |s, x| s.wrapping_add(x.i()))),
            (AccOp::Prod, V::F(_)) => V::F(floats().fold(1.0, |s, x| self.round(s * x))),
            (AccOp::Prod, V::I(_)) => V::I(values.iter().fold(1, |s, x| s.wrapping_mul(x.i()))),
            (AccOp::Max, V::F(_)) => V::F(floats().fold(f64::NEG_INFINITY, larger)),
            (AccOp::Min, V::F(_)) => V::F(floats().fold(f64::INFINITY, smaller)),
            (AccOp::Max, V::I(_)) => V::I(values.iter().map(|v| v.i()).max().unwrap_or(i64::MIN)),
            (AccOp::Min, V::I(_)) => V::I(values.iter().map(|v| v.i()).min().unwrap_or(i64::MAX)),
            (AccOp::Max, V::B(_)) => V::B(values.contains(&V::B(true))),
            (AccOp::Min, V::B(_)) => V::B(!values.contains(&V::B(false))),
            (AccOp::ArgMax | AccOp::ArgMin, _) => {
                let better = |x: V, y: V| match (x, y) {
                    (V::F(x), V::F(y)) if x.is_nan() || y.is_nan() => x.is_nan() && !y.is_nan(),
                    (V::F(x), V::F(y)) => {
                        if op == AccOp::ArgMax {
                            x > y
                        } else {
                            x < y
                        }
                    }
                    (x, y) => {
                        if op == AccOp::ArgMax {
                            x.i() > y.i()
                        } else {
                            x.i() < y.i()
                        }
                    }
                };
                let mut best = 0;
                for (i, v) in values.iter().enumerate() {
                    if better(*v, values[best]) {
                        best = i;
                    }
                }
                V::I(best as i64)
            }
            (AccOp::Deviations, _) => {
                let mean = floats().sum::<f64>() / values.len() as f64;
                let mean = self.round(mean);
                V::F(floats().fold(0.0, |s, x| self.round(s + self.round((x - mean) * (x - mean)))))
            }
            other => panic!("{other:?}"),
        }
    }

    fn reduce(&mut self, body: &ReduceBody) {
        for o in self.points(&body.outer) {
            let inner = self.points(&body.inner);
            let all: Vec<Vec<V>> = inner.iter().map(|i| self.run(&body.element, &[&o[..], i].concat(), &[])).collect();
            let combined = |acc: &enel_bundle::Acc| {
                let values: Vec<V> = all.iter().map(|regs| regs[acc.value.0 as usize]).collect();
                self.combine(acc.op, &values)
            };
            let accs: Vec<V> = body.accs.iter().map(combined).collect();
            let regs = self.run(&body.epilogue, &o, &accs);
            self.store(&body.stores, &regs);
        }
    }

    fn contract(&mut self, body: &ContractBody) {
        let (batch, cols, summed) = (self.points(&body.batch), self.points(&body.cols), self.points(&body.summed));
        let n_folded = body.fold.as_ref().map_or(0, |f| f.axes as usize);
        let (kept, folded) = body.rows.split_at(body.rows.len() - n_folded);
        let (kept, folded) = (self.points(kept), self.points(folded));
        for b in &batch {
            for row in &kept {
                for col in &cols {
                    let mut values = Vec::new();
                    for f in &folded {
                        let m = [&b[..], row, f].concat();
                        let mut sum = 0.0;
                        for k in &summed {
                            let x =
                                self.run(&body.lhs.program, &[&m[..], k].concat(), &[])[body.lhs.reg.0 as usize].f();
                            let n = [&b[..], col, k].concat();
                            let y = self.run(&body.rhs.program, &n, &[])[body.rhs.reg.0 as usize].f();
                            let (x, y) = if body.bf16 { (self.operand(x), self.operand(y)) } else { (x, y) };
                            sum = self.round(sum + x * y);
                        }
                        let regs = self.run(&body.epilogue, &[&m[..], col].concat(), &[V::F(sum)]);
                        match &body.fold {
                            None => self.store(&body.stores, &regs),
                            Some(fold) => values.push(regs[fold.value.0 as usize]),
                        }
                    }
                    if let Some(fold) = &body.fold {
                        let acc = self.combine(fold.op, &values);
                        let regs = self.run(&fold.epilogue, &[&b[..], row, col].concat(), &[acc]);
                        self.store(&body.stores, &regs);
                    }
                }
            }
        }
    }

    fn attention(&mut self, body: &AttentionBody) {
        let scale = f64::from(f32::from_bits(body.scale));
        let d = body.head_size;
        let value = |v: &enel_bundle::Value, at: &[i64]| self.run(&v.program, at, &[])[v.reg.0 as usize];
        let mut results = Vec::new();
        for t in 0..body.tokens.value(self.sizes) {
            let (low, high) = (value(&body.low, &[t]).i(), value(&body.high, &[t]).i());
            let keys = body.keys.value(self.sizes);
            if low < high && (low < 0 || high > keys) {
                return self.note(EvalError::Ranges { token: t, low, high, keys });
            }
            for h in 0..body.heads {
                let g = h * body.groups / body.heads;
                let op = |x: f64| if body.bf16 { self.operand(x) } else { x };
                let q: Vec<f64> = (0..d).map(|c| op(value(&body.q, &[t, h, c]).f())).collect();
                let score = |s: i64| {
                    let dot =
                        (0..d).fold(0.0, |sum, c| self.round(sum + q[c as usize] * op(value(&body.k, &[s, g, c]).f())));
                    self.round(dot * scale)
                };
                let scores: Vec<f64> = (low..high).map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| self.round((s - top).exp())).collect();
                let total = weights.iter().fold(0.0, |s, w| self.round(s + w));
                let Some(values) = &body.v else {
                    let lse = self.round(top + self.round(total.ln()));
                    results.push((vec![t, h], if low < high { lse } else { 0.0 }));
                    continue;
                };
                for c in 0..d {
                    let sum = (low..high)
                        .zip(&weights)
                        .fold(0.0, |sum, (s, w)| self.round(sum + op(*w) * op(value(values, &[s, g, c]).f())));
                    results.push((vec![t, h, c], if low < high { self.round(sum / total) } else { 0.0 }));
                }
            }
        }
        for (at, x) in results {
            let regs = self.run(&body.epilogue, &at, &[V::F(x)]);
            self.store(&body.stores, &regs);
        }
    }

    fn attention_grad(&mut self, body: &AttentionGradBody) {
        let scale = f64::from(f32::from_bits(body.scale));
        let (tokens, keys) = (body.tokens.value(self.sizes), body.keys.value(self.sizes));
        let channels = 0..body.head_size;
        let value = |v: &enel_bundle::Value, at: &[i64]| self.run(&v.program, at, &[])[v.reg.0 as usize];
        let op = |x: f64| if body.bf16 { self.operand(x) } else { x };
        let row = |v: &enel_bundle::Value, at: [i64; 2]| -> Vec<f64> {
            channels.clone().map(|c| op(value(v, &[at[0], at[1], c]).f())).collect()
        };
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).fold(0.0, |sum, (x, y)| self.round(sum + x * y));
        let (n, own) = if body.by == By::Query { (tokens, body.heads) } else { (keys, body.groups) };
        let mut sums = vec![0.0; (n * own * body.head_size) as usize];
        for t in 0..tokens {
            let (low, high) = (value(&body.low, &[t]).i(), value(&body.high, &[t]).i());
            if low < high && (low < 0 || high > keys) {
                return self.note(EvalError::Ranges { token: t, low, high, keys });
            }
            for h in 0..body.heads {
                let g = h * body.groups / body.heads;
                let (q, dy) = (row(&body.q, [t, h]), row(&body.dy, [t, h]));
                let (lse, delta) = (value(&body.lse, &[t, h]).f(), value(&body.delta, &[t, h]).f());
                for s in low..high {
                    let k = row(&body.k, [s, g]);
                    let p = self.round((self.round(dot(&q, &k) * scale) - lse).exp());
                    let ds = || {
                        let dp = dot(&dy, &row(&body.v, [s, g]));
                        self.round(self.round(p * self.round(dp - delta)) * scale)
                    };
                    let (at, weight, summed) = match body.by {
                        By::Query => (t * own + h, ds(), &k),
                        By::Key => (s * own + g, ds(), &q),
                        By::Value => (s * own + g, p, &dy),
                    };
                    let at = (at * body.head_size) as usize;
                    for (sum, x) in sums[at..].iter_mut().zip(summed) {
                        *sum = self.round(*sum + op(weight) * x);
                    }
                }
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let (i, d) = (i as i64, body.head_size);
            let regs = self.run(&body.epilogue, &[i / d / own, i / d % own, i % d], &[V::F(sum)]);
            self.store(&body.stores, &regs);
        }
    }

    fn point(&self, v: &enel_bundle::Value, b: i64, i: i64) -> [f32; 3] {
        [0, 1, 2].map(|c| self.run(&v.program, &[b, i, c], &[])[v.reg.0 as usize].f() as f32)
    }

    fn fps(&mut self, body: &FpsBody) {
        let (n_points, n) = (body.points.value(self.sizes), body.n.value(self.sizes));
        for b in 0..body.batch.value(self.sizes) {
            let points: Vec<[f32; 3]> = (0..n_points).map(|i| self.point(&body.xyz, b, i)).collect();
            let mut nearest = vec![f32::INFINITY; points.len()];
            let mut at = 0;
            for j in 0..n {
                self.put(body.out, b * n + j, V::I(at as i64));
                for (d, p) in nearest.iter_mut().zip(&points) {
                    *d = d.min(distance(*p, points[at]));
                }
                let farthest = (0..points.len()).rev().max_by(|x, y| nearest[*x].total_cmp(&nearest[*y]));
                at = farthest.unwrap_or(0);
            }
        }
    }

    fn knn(&mut self, body: &KnnBody) {
        let [nq, np, k] = [body.queries, body.points, body.k].map(|e| e.value(self.sizes));
        for b in 0..body.batch.value(self.sizes) {
            let points: Vec<[f32; 3]> = (0..np).map(|i| self.point(&body.point, b, i)).collect();
            for g in 0..nq {
                let query = self.point(&body.query, b, g);
                let mut order: Vec<usize> = (0..points.len()).collect();
                order.sort_by(|x, y| distance(query, points[*x]).total_cmp(&distance(query, points[*y])));
                for j in 0..k {
                    self.put(body.out, (b * nq + g) * k + j, V::I(order[j as usize] as i64));
                }
            }
        }
    }

    fn top_k(&mut self, body: &TopKBody) {
        let (n, k) = (body.n.value(self.sizes), body.k.value(self.sizes));
        for (row, o) in self.points(&body.outer).iter().enumerate() {
            let of = |i: i64| self.run(&body.value.program, &[&o[..], &[i]].concat(), &[])[body.value.reg.0 as usize];
            let values: Vec<V> = (0..n).map(of).collect();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|x, y| {
                let natural = match (values[*x], values[*y]) {
                    (V::F(x), V::F(y)) if x.is_nan() || y.is_nan() => return x.is_nan().cmp(&y.is_nan()),
                    (V::F(x), V::F(y)) => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
                    (x, y) => x.i().cmp(&y.i()),
                };
                if body.largest { natural.reverse() } else { natural }
            });
            for j in 0..k {
                self.put(body.out, row as i64 * k + j, V::I(order[j as usize] as i64));
            }
        }
    }

    fn scatter(&mut self, body: &ScatterBody) {
        let (extent, suffix) = (body.extent.value(self.sizes), self.points(&body.suffix));
        for (p, prefix) in self.points(&body.prefix).iter().enumerate() {
            // Sums live in full precision until the row is done.
            let mut sums: BTreeMap<i64, V> = BTreeMap::new();
            for i in self.points(&body.index_space) {
                let at = [&prefix[..body.batch as usize], &i[..]].concat();
                let to = self.run(&body.index.program, &at, &[])[body.index.reg.0 as usize].i();
                if !(0..extent).contains(&to) {
                    continue;
                }
                for (s, suffix_point) in suffix.iter().enumerate() {
                    let regs = self.run(&body.rows.program, &[&prefix[..], &i, suffix_point].concat(), &[]);
                    let value = regs[body.rows.reg.0 as usize];
                    let cell = (p as i64 * extent + to) * suffix.len() as i64 + s as i64;
                    let old = sums.get(&cell).copied().unwrap_or_else(|| self.load(body.out, cell));
                    let new = match (body.mode, old, value) {
                        (ScatterMode::Set, _, value) => value,
                        (ScatterMode::Add, V::F(x), V::F(y)) => V::F(self.round(x + y)),
                        (ScatterMode::Add, V::I(x), V::I(y)) => V::I(x.wrapping_add(y)),
                        other => panic!("{other:?}"),
                    };
                    sums.insert(cell, new);
                }
            }
            for (cell, value) in sums {
                self.put(body.out, cell, value);
            }
        }
    }
}

fn distance(p: [f32; 3], q: [f32; 3]) -> f32 {
    let [dx, dy, dz] = [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
    dz.mul_add(dz, dy.mul_add(dy, dx * dx))
}

fn float_unary(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign => {
            if x.is_nan() || x == 0.0 {
                x
            } else {
                x.signum()
            }
        }
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Recip => 1.0 / x,
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Not => panic!("not on floats"),
    }
}

/// Maclaurin series (Abramowitz and Stegun 7.1.6), good to f64 noise for |x| < 6.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 0..400 {
        term *= 2.0 * x * x / (2.0 * f64::from(n) + 3.0);
        sum += term;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp()
}

fn int_binary(op: BinaryOp, x: i64, y: i64) -> V {
    V::I(match op {
        BinaryOp::Add => x.wrapping_add(y),
        BinaryOp::Sub => x.wrapping_sub(y),
        BinaryOp::Mul => x.wrapping_mul(y),
        BinaryOp::Div => {
            if y == 0 {
                0
            } else {
                x.wrapping_div(y)
            }
        }
        BinaryOp::Rem => {
            if y == 0 {
                0
            } else {
                x.wrapping_rem(y)
            }
        }
        BinaryOp::Max => x.max(y),
        BinaryOp::Min => x.min(y),
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Eq => return V::B(x == y),
        BinaryOp::Ne => return V::B(x != y),
        BinaryOp::Lt => return V::B(x < y),
        BinaryOp::Le => return V::B(x <= y),
        BinaryOp::Gt => return V::B(x > y),
        BinaryOp::Ge => return V::B(x >= y),
        BinaryOp::Pow => panic!("pow on integers"),
    })
}

fn cast(to: DType, x: V, round: impl Fn(f64) -> f64) -> V {
    match (to, x) {
        (DType::F32 | DType::BF16 | DType::F16, V::F(x)) => V::F(x),
        (DType::F32 | DType::BF16 | DType::F16, V::I(x)) => V::F(round(x as f64)),
        (DType::F32 | DType::BF16 | DType::F16, V::B(x)) => V::F(f64::from(u8::from(x))),
        (DType::I64, V::F(x)) => V::I(x as i64),
        (DType::I32, V::F(x)) => V::I(i64::from(x as i32)),
        (DType::U32, V::F(x)) => V::I(i64::from(x as u32)),
        (DType::U8, V::F(x)) => V::I(i64::from(x as u8)),
        (DType::Bool, V::F(x)) => V::B(x != 0.0),
        (DType::Bool, V::I(x)) => V::B(x != 0),
        (DType::Bool, V::B(x)) => V::B(x),
        (to, V::I(x)) => V::I(to.wrap(x)),
        (_, V::B(x)) => V::I(i64::from(x)),
    }
}
