//! What does a Desc mean? One element at a time, nothing shared with the runtime: f32 programs, f64 sums.

use enel_bundle::{
    AccOp, AttentionBody, Body, ContractBody, Desc, Extent, FpsBody, Instr, KnnBody, MapBody, Program, ReduceBody, Reg,
    ScatterBody, ScatterMode, Store, TopKBody, Value,
};
use enel_runtime::cpu::AlignedBytes;
use enel_types::{BinaryOp, DType, UnaryOp};
use half::{bf16, f16};
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum V {
    F(f32),
    I(i64),
    B(bool),
}

impl V {
    pub(crate) fn f(self) -> f32 {
        let V::F(x) = self else { panic!("{self:?} is no float") };
        x
    }
    pub(crate) fn i(self) -> i64 {
        let V::I(x) = self else { panic!("{self:?} is no integer") };
        x
    }
    pub(crate) fn b(self) -> bool {
        let V::B(x) = self else { panic!("{self:?} is no truth value") };
        x
    }
}

/// A typed buffer.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) dtype: DType,
    pub(crate) bytes: AlignedBytes,
}

impl Data {
    pub(crate) fn new(dtype: DType, len: usize) -> Data {
        Data { dtype, bytes: AlignedBytes::zeroed(len * dtype.size_bytes()).unwrap() }
    }
    pub(crate) fn copy(&self) -> Data {
        Data { dtype: self.dtype, bytes: AlignedBytes::copy_of(&self.bytes).unwrap() }
    }
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size_bytes()
    }
    pub(crate) fn get(&self, at: usize) -> V {
        let size = self.dtype.size_bytes();
        let b = &self.bytes[at * size..(at + 1) * size];
        match self.dtype {
            DType::F32 => V::F(f32::from_le_bytes(b.try_into().unwrap())),
            DType::BF16 => V::F(bf16::from_le_bytes(b.try_into().unwrap()).to_f32()),
            DType::F16 => V::F(f16::from_le_bytes(b.try_into().unwrap()).to_f32()),
            DType::I64 => V::I(i64::from_le_bytes(b.try_into().unwrap())),
            DType::I32 => V::I(i64::from(i32::from_le_bytes(b.try_into().unwrap()))),
            DType::U32 => V::I(i64::from(u32::from_le_bytes(b.try_into().unwrap()))),
            DType::U8 => V::I(i64::from(b[0])),
            DType::Bool => V::B(b[0] != 0),
        }
    }
    pub(crate) fn set(&mut self, at: usize, value: V) {
        let size = self.dtype.size_bytes();
        let b = &mut self.bytes[at * size..(at + 1) * size];
        match (self.dtype, value) {
            (DType::F32, V::F(x)) => b.copy_from_slice(&x.to_le_bytes()),
            (DType::BF16, V::F(x)) => b.copy_from_slice(&bf16::from_f32(x).to_le_bytes()),
            (DType::F16, V::F(x)) => b.copy_from_slice(&f16::from_f32(x).to_le_bytes()),
            (DType::Bool, V::B(x)) => b[0] = u8::from(x),
            (_, V::I(x)) => b.copy_from_slice(&x.to_le_bytes()[..size]),
            (dtype, value) => panic!("{value:?} stored as {dtype}"),
        }
    }
}

fn unary(op: UnaryOp, x: V) -> V {
    use UnaryOp as U;
    match (op, x) {
        (U::Neg, V::F(x)) => V::F(-x),
        (U::Neg, V::I(x)) => V::I(0i64.wrapping_sub(x)),
        (U::Abs, V::F(x)) => V::F(f32::from_bits(x.to_bits() & 0x7fff_ffff)),
        (U::Abs, V::I(x)) => V::I(if x < 0 { 0i64.wrapping_sub(x) } else { x }),
        (U::Sign, V::F(x)) if x.is_nan() || x == 0.0 => V::F(x),
        (U::Sign, V::F(x)) => V::F(if x < 0.0 { -1.0 } else { 1.0 }),
        (U::Sign, V::I(x)) => V::I(i64::from(x > 0) - i64::from(x < 0)),
        (U::Floor, V::F(x)) => V::F(f64::from(x).floor() as f32),
        (U::Ceil, V::F(x)) => V::F(f64::from(x).ceil() as f32),
        (U::Round, V::F(x)) => V::F(f64::from(x).round_ties_even() as f32),
        (U::Sqrt, V::F(x)) => V::F(f64::from(x).sqrt() as f32),
        (U::Rsqrt, V::F(x)) => V::F(1.0 / x.sqrt()),
        (U::Recip, V::F(x)) => V::F(1.0 / x),
        (U::Exp, V::F(x)) => V::F(x.exp()),
        (U::Log, V::F(x)) => V::F(x.ln()),
        (U::Sin, V::F(x)) => V::F(x.sin()),
        (U::Cos, V::F(x)) => V::F(x.cos()),
        (U::Tanh, V::F(x)) => V::F(x.tanh()),
        (U::Erf, V::F(x)) => V::F(libm::erff(x)),
        (U::Not, V::B(x)) => V::B(!x),
        (U::Not, V::I(x)) => V::I(-1 - x),
        (op, x) => panic!("{op:?} of {x:?}"),
    }
}

fn order(op: BinaryOp, found: Option<Ordering>) -> V {
    V::B(match op {
        BinaryOp::Eq => found == Some(Ordering::Equal),
        BinaryOp::Ne => found != Some(Ordering::Equal),
        BinaryOp::Lt => found == Some(Ordering::Less),
        BinaryOp::Le => matches!(found, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => found == Some(Ordering::Greater),
        BinaryOp::Ge => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        other => panic!("{other:?} is no comparison"),
    })
}

fn binary(op: BinaryOp, x: V, y: V) -> V {
    use BinaryOp as B;
    match (x, y) {
        (V::F(x), V::F(y)) if op.is_comparison() => order(op, x.partial_cmp(&y)),
        (V::I(x), V::I(y)) if op.is_comparison() => order(op, Some(x.cmp(&y))),
        (V::B(x), V::B(y)) if op.is_comparison() => order(op, Some(x.cmp(&y))),
        (V::F(x), V::F(y)) => V::F(match op {
            B::Add => x + y,
            B::Sub => x - y,
            B::Mul => x * y,
            B::Div => x / y,
            B::Rem => x % y,
            B::Pow => x.powf(y),
            B::Max | B::Min if x.is_nan() || y.is_nan() => f32::NAN,
            B::Max => {
                if x > y {
                    x
                } else {
                    y
                }
            }
            B::Min => {
                if x < y {
                    x
                } else {
                    y
                }
            }
            op => panic!("{op:?} of floats"),
        }),
        (V::I(x), V::I(y)) => V::I(match op {
            B::Add => (i128::from(x) + i128::from(y)) as i64,
            B::Sub => (i128::from(x) - i128::from(y)) as i64,
            B::Mul => (i128::from(x) * i128::from(y)) as i64,
            B::Div | B::Rem if y == 0 => 0,
            B::Div => (i128::from(x) / i128::from(y)) as i64,
            B::Rem => (i128::from(x) % i128::from(y)) as i64,
            B::Max => x.max(y),
            B::Min => x.min(y),
            B::And => x & y,
            B::Or => x | y,
            B::Xor => x ^ y,
            op => panic!("{op:?} of integers"),
        }),
        (V::B(x), V::B(y)) => V::B(match op {
            B::And | B::Min => x && y,
            B::Or | B::Max => x || y,
            B::Xor => x != y,
            op => panic!("{op:?} of truth values"),
        }),
        (x, y) => panic!("{op:?} of {x:?} and {y:?}"),
    }
}

fn cast(to: DType, x: V) -> V {
    if to.is_float() {
        return V::F(match x {
            V::F(x) => x,
            V::I(x) => x as f32,
            V::B(x) => f32::from(u8::from(x)),
        });
    }
    match (to, x) {
        (DType::Bool, V::F(x)) => V::B(x != 0.0),
        (DType::Bool, V::I(x)) => V::B(x != 0),
        (DType::Bool, V::B(x)) => V::B(x),
        (to, V::F(x)) => {
            let (low, high) = match to {
                DType::I32 => (-2f64.powi(31), 2f64.powi(31) - 1.0),
                DType::U32 => (0.0, 2f64.powi(32) - 1.0),
                DType::U8 => (0.0, 255.0),
                _ => return V::I(x as i64),
            };
            V::I(if x.is_nan() { 0 } else { f64::from(x).trunc().clamp(low, high) as i64 })
        }
        (to, V::I(x)) => V::I(to.wrap(x)),
        (_, V::B(x)) => V::I(i64::from(x)),
    }
}

/// What programs read.
pub(crate) struct World<'a> {
    pub(crate) buffers: &'a [Data],
    pub(crate) dynamics: &'a [i64],
}

impl World<'_> {
    pub(crate) fn eval(&self, program: &Program, coords: &[i64], accs: &[V]) -> Vec<V> {
        let mut regs: Vec<V> = Vec::new();
        for instr in program.instrs() {
            let reg = |r: Reg| regs[r.0 as usize];
            let value = match *instr {
                Instr::Axis(n) => V::I(coords[n as usize]),
                Instr::Float(bits) => V::F(f32::from_bits(bits)),
                Instr::Int(x) => V::I(x),
                Instr::Bool(x) => V::B(x),
                Instr::Size(n) => V::I(self.dynamics[n as usize]),
                Instr::Load { buffer, index } => self.buffers[buffer as usize].get(reg(index).i() as usize),
                Instr::Acc(n) => accs[n as usize],
                Instr::Unary(op, x) => unary(op, reg(x)),
                Instr::Binary(op, x, y) => binary(op, reg(x), reg(y)),
                Instr::Select(c, x, y) => {
                    if reg(c).b() {
                        reg(x)
                    } else {
                        reg(y)
                    }
                }
                Instr::Cast(to, x) => cast(to, reg(x)),
            };
            regs.push(value);
        }
        regs
    }

    fn value(&self, value: &Value, coords: &[i64]) -> V {
        self.eval(&value.program, coords, &[])[value.reg.0 as usize]
    }

    fn sizes(&self, extents: &[Extent]) -> Vec<i64> {
        extents.iter().map(|e| e.value(self.dynamics)).collect()
    }
}

/// Every point of a space, in order.
pub(crate) fn points(sizes: &[i64]) -> Vec<Vec<i64>> {
    let mut all = vec![Vec::new()];
    for n in sizes {
        all = all.iter().flat_map(|p: &Vec<i64>| (0..*n).map(|i| [p.as_slice(), &[i]].concat())).collect();
    }
    all
}

/// A value to be stored, and how far from it a result may be.
pub(crate) struct Write {
    pub(crate) buffer: usize,
    pub(crate) index: usize,
    pub(crate) value: V,
    pub(crate) slack: f64,
}

fn stores(list: &[Store], regs: &[V], slack: f64, out: &mut Vec<Write>) {
    for s in list {
        let index = regs[s.index.0 as usize].i() as usize;
        out.push(Write { buffer: s.buffer as usize, index, value: regs[s.value.0 as usize], slack });
    }
}

/// All writes of a Desc, in order; a later write of an element replaces an earlier.
pub(crate) fn writes(desc: &Desc, buffers: &[Data], dynamics: &[i64]) -> Vec<Write> {
    let world = World { buffers, dynamics };
    let mut out = Vec::new();
    match &desc.body {
        Body::Map(body) => map(&world, body, &mut out),
        Body::Reduce(body) => reduce(&world, body, &mut out),
        Body::Contract(body) => contract(&world, body, &mut out),
        Body::Attention(body) => attention(&world, body, &mut out),
        Body::AttentionGrad(_) => unreachable!("drawn and judged by enel-verify, not here"),
        Body::Fps(body) => fps(&world, body, &mut out),
        Body::Knn(body) => knn(&world, body, &mut out),
        Body::TopK(body) => topk(&world, body, &mut out),
        Body::Scatter(body) => scatter(&world, body, &mut out),
    }
    out
}

fn map(world: &World<'_>, body: &MapBody, out: &mut Vec<Write>) {
    for p in points(&world.sizes(&body.space)) {
        stores(&body.stores, &world.eval(&body.program, &p, &[]), 0.0, out);
    }
}

/// Combines values; gives the result and the largest sensible error of a sum in f64.
fn combine(op: AccOp, values: &[V]) -> (V, f64) {
    let floats: Vec<f64> =
        values.iter().filter_map(|v| if let V::F(x) = v { Some(f64::from(*x)) } else { None }).collect();
    let is_float = !floats.is_empty();
    let mass: f64 = floats.iter().map(|x| x.abs()).sum();
    let ints = || values.iter().map(|v| if let V::B(b) = v { i64::from(*b) } else { v.i() });
    let back = |x: i64| if matches!(values[0], V::B(_)) { V::B(x != 0) } else { V::I(x) };
    let nan = floats.iter().any(|x| x.is_nan());
    match op {
        AccOp::Sum if is_float => (V::F(floats.iter().sum::<f64>() as f32), 1e-12 * mass),
        AccOp::Prod if is_float => (V::F(floats.iter().product::<f64>() as f32), 0.0),
        AccOp::Max | AccOp::Min if is_float && nan => (V::F(f32::NAN), 0.0),
        AccOp::Max if is_float => (V::F(floats.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32), 0.0),
        AccOp::Min if is_float => (V::F(floats.iter().copied().fold(f64::INFINITY, f64::min) as f32), 0.0),
        AccOp::Deviations => {
            let mean = floats.iter().sum::<f64>() / floats.len() as f64;
            let square: f64 = floats.iter().map(|x| x * x).sum();
            (V::F(floats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() as f32), 1e-12 * square)
        }
        AccOp::ArgMax | AccOp::ArgMin => {
            let first_nan = floats.iter().position(|x| x.is_nan());
            let keys: Vec<f64> = if is_float { floats } else { ints().map(|x| x as f64).collect() };
            let sign = if op == AccOp::ArgMax { 1.0 } else { -1.0 };
            let mut best = 0;
            for (i, x) in keys.iter().enumerate() {
                if sign * x > sign * keys[best] {
                    best = i;
                }
            }
            (V::I(first_nan.unwrap_or(best) as i64), 0.0)
        }
        AccOp::Sum => (V::I(ints().fold(0, i64::wrapping_add)), 0.0),
        AccOp::Prod => (V::I(ints().fold(1, i64::wrapping_mul)), 0.0),
        AccOp::Max => (back(ints().max().unwrap()), 0.0),
        AccOp::Min => (back(ints().min().unwrap()), 0.0),
    }
}

fn reduce(world: &World<'_>, body: &ReduceBody, out: &mut Vec<Write>) {
    let inner = points(&world.sizes(&body.inner));
    for o in points(&world.sizes(&body.outer)) {
        let rows: Vec<Vec<V>> =
            inner.iter().map(|i| world.eval(&body.element, &[o.as_slice(), i].concat(), &[])).collect();
        let mut slack = 0f64;
        let accs: Vec<V> = body
            .accs
            .iter()
            .map(|acc| {
                let values: Vec<V> = rows.iter().map(|r| r[acc.value.0 as usize]).collect();
                let (value, own) = combine(acc.op, &values);
                slack = slack.max(own);
                value
            })
            .collect();
        stores(&body.stores, &world.eval(&body.epilogue, &o, &accs), slack, out);
    }
}

fn contract(world: &World<'_>, body: &ContractBody, out: &mut Vec<Write>) {
    let (batch, rows) = (points(&world.sizes(&body.batch)), points(&world.sizes(&body.rows)));
    let (cols, summed) = (points(&world.sizes(&body.cols)), points(&world.sizes(&body.summed)));
    for b in &batch {
        let side = |value: &Value, lines: &[Vec<i64>]| -> Vec<Vec<f64>> {
            let line = |r: &Vec<i64>| {
                let at = |k: &Vec<i64>| f64::from(world.value(value, &[b.as_slice(), r, k].concat()).f());
                summed.iter().map(at).collect()
            };
            lines.iter().map(line).collect()
        };
        let (lhs, rhs) = (side(&body.lhs, &rows), side(&body.rhs, &cols));
        let result = |r: usize, c: usize| {
            let terms = || lhs[r].iter().zip(&rhs[c]).map(|(x, y)| x * y);
            let mass: f64 = terms().map(f64::abs).sum();
            let acc = V::F(terms().sum::<f64>() as f32);
            let regs = world.eval(&body.epilogue, &[b.as_slice(), &rows[r], &cols[c]].concat(), &[acc]);
            (regs, 3e-6 * mass)
        };
        let Some(fold) = &body.fold else {
            for r in 0..rows.len() {
                for c in 0..cols.len() {
                    let (regs, slack) = result(r, c);
                    stores(&body.stores, &regs, slack, out);
                }
            }
            continue;
        };
        let sizes = world.sizes(&body.rows);
        let kept = points(&sizes[..sizes.len() - fold.axes as usize]);
        let size = rows.len() / kept.len();
        for (s, segment) in kept.iter().enumerate() {
            for (c, col) in cols.iter().enumerate() {
                let (mut values, mut slack) = (Vec::new(), 0f64);
                for r in s * size..(s + 1) * size {
                    let (regs, own) = result(r, c);
                    values.push(regs[fold.value.0 as usize]);
                    slack = if fold.op == AccOp::Sum { slack + own } else { slack.max(own) };
                }
                let (acc, _) = combine(fold.op, &values);
                let regs = world.eval(&fold.epilogue, &[b.as_slice(), segment, col].concat(), &[acc]);
                stores(&body.stores, &regs, slack, out);
            }
        }
    }
}

fn attention(world: &World<'_>, body: &AttentionBody, out: &mut Vec<Write>) {
    let v = body.v.as_ref().expect("values are drawn");
    let (tokens, keys) = (body.tokens.value(world.dynamics), body.keys.value(world.dynamics));
    for t in 0..tokens {
        let low = world.value(&body.low, &[t]).i().max(0);
        let high = world.value(&body.high, &[t]).i().min(keys);
        for h in 0..body.heads {
            let g = h * body.groups / body.heads;
            let get = |value: &Value, a: i64, b: i64, c: i64| f64::from(world.value(value, &[a, b, c]).f());
            let score = |s: i64| {
                let terms = (0..body.head_size).map(|c| get(&body.q, t, h, c) * get(&body.k, s, g, c));
                terms.sum::<f64>() * f64::from(f32::from_bits(body.scale))
            };
            let scores: Vec<f64> = (low..high).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            for c in 0..body.head_size {
                let values: Vec<f64> = (low..high).map(|s| get(v, s, g, c)).collect();
                let sum: f64 = weights.iter().zip(&values).map(|(w, v)| w * v).sum();
                let acc = if values.is_empty() { 0.0 } else { sum / total };
                // The weights' relative error grows with the scores, which f32 keeps to 6e-8 of their size.
                let slack = values.iter().fold(0f64, |m, v| m.max(v.abs())) * 2e-6 * (1.0 + max.abs().min(100.0));
                let regs = world.eval(&body.epilogue, &[t, h, c], &[V::F(acc as f32)]);
                stores(&body.stores, &regs, slack, out);
            }
        }
    }
}

fn point(world: &World<'_>, value: &Value, b: i64, p: i64) -> [f32; 3] {
    [0, 1, 2].map(|c| world.value(value, &[b, p, c]).f())
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    let d = [0, 1, 2].map(|i| a[i] - b[i]);
    d[2].mul_add(d[2], d[1].mul_add(d[1], d[0] * d[0]))
}

fn index_write(buffer: u32, index: i64, value: i64) -> Write {
    Write { buffer: buffer as usize, index: index as usize, value: V::I(value), slack: 0.0 }
}

fn fps(world: &World<'_>, body: &FpsBody, out: &mut Vec<Write>) {
    let [batch, points, n] = [body.batch, body.points, body.n].map(|e| e.value(world.dynamics));
    for b in 0..batch {
        let cloud: Vec<[f32; 3]> = (0..points).map(|p| point(world, &body.xyz, b, p)).collect();
        let mut near = vec![f32::INFINITY; cloud.len()];
        let mut chosen = 0;
        for i in 0..n {
            out.push(index_write(body.out, b * n + i, chosen as i64));
            for (p, d) in near.iter_mut().enumerate() {
                *d = d.min(distance(cloud[p], cloud[chosen]));
            }
            chosen = 0;
            for p in 0..cloud.len() {
                if near[p] > near[chosen] {
                    chosen = p;
                }
            }
        }
    }
}

fn knn(world: &World<'_>, body: &KnnBody, out: &mut Vec<Write>) {
    let [batch, queries, points, k] = [body.batch, body.queries, body.points, body.k].map(|e| e.value(world.dynamics));
    for b in 0..batch {
        for q in 0..queries {
            let from = point(world, &body.query, b, q);
            let mut all: Vec<(f32, i64)> =
                (0..points).map(|p| (distance(from, point(world, &body.point, b, p)), p)).collect();
            all.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            for j in 0..k {
                out.push(index_write(body.out, (b * queries + q) * k + j, all[j as usize].1));
            }
        }
    }
}

fn topk(world: &World<'_>, body: &TopKBody, out: &mut Vec<Write>) {
    let (n, k) = (body.n.value(world.dynamics), body.k.value(world.dynamics));
    for (row, o) in points(&world.sizes(&body.outer)).iter().enumerate() {
        let value = |i: i64| world.value(&body.value, &[o.as_slice(), &[i]].concat());
        let mut all: Vec<(V, i64)> = (0..n).map(|i| (value(i), i)).collect();
        all.sort_by(|(x, i), (y, j)| {
            let found = match (x, y) {
                (V::F(x), V::F(y)) if x.is_nan() || y.is_nan() => return (x.is_nan(), i).cmp(&(y.is_nan(), j)),
                (V::F(x), V::F(y)) => x.partial_cmp(y).unwrap(),
                (x, y) => x.i().cmp(&y.i()),
            };
            (if body.largest { found.reverse() } else { found }).then(i.cmp(j))
        });
        for j in 0..k {
            out.push(index_write(body.out, row as i64 * k + j, all[j as usize].1));
        }
    }
}

fn scatter(world: &World<'_>, body: &ScatterBody, out: &mut Vec<Write>) {
    let (extent, suffix) = (body.extent.value(world.dynamics), points(&world.sizes(&body.suffix)));
    let spaces = points(&world.sizes(&body.index_space));
    let buffer = &world.buffers[body.out as usize];
    let mut now: Vec<V> = (0..buffer.len()).map(|i| buffer.get(i)).collect();
    for (p, prefix) in points(&world.sizes(&body.prefix)).iter().enumerate() {
        for i in &spaces {
            let target = world.value(&body.index, &[&prefix[..body.batch as usize], i].concat()).i();
            if target < 0 || target >= extent {
                continue;
            }
            for (s, at) in suffix.iter().enumerate() {
                let row = world.value(&body.rows, &[prefix.as_slice(), i, at].concat());
                let place = &mut now[(p * extent as usize + target as usize) * suffix.len() + s];
                *place = match (body.mode, *place, row) {
                    (ScatterMode::Set, _, row) => row,
                    (ScatterMode::Add, V::F(x), V::F(y)) => V::F(x + y),
                    (ScatterMode::Add, x, y) => V::I(x.i().wrapping_add(y.i())),
                };
            }
        }
    }
    for (index, value) in now.into_iter().enumerate() {
        out.push(Write { buffer: body.out as usize, index, value, slack: 0.0 });
    }
}
