//! Which type does an op give? The rules C1.. of each row of the op table, decided from operand types alone.

use crate::graph::{Scalar, TensorType};
use crate::ops::{AttentionOperand, Composite, InputKind, Op, ScatterMode};
use crate::spec::ContractSpec;
use enel_types::{BinaryOp, DType, Dim, ReduceOp, Symbols, UnaryOp};

/// A broken rule: which one of the op's row, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number n of rule Cn in the op's row; 0 for what all ops obey: the number of operands, sizes of few terms.
    pub rule: u8,
    /// Expected and found.
    pub message: String,
}

type Inferred = Result<TensorType, Fault>;

fn fault<T>(rule: u8, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { rule, message: message.into() })
}

fn ensure(rule: u8, holds: bool, message: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { fault(rule, message()) }
}

/// Largest list a `const` may hold; larger tables are weights.
const MAX_CONST_ELEMS: usize = 4096;

/// Type of `op`'s result for these operand types.
///
/// # Errors
/// The first [`Fault`] found.
pub fn infer(op: &Op, operands: &[&TensorType], symbols: &Symbols) -> Inferred {
    let ty = unbounded(op, operands, symbols)?;
    ensure(0, ty.is_short(), || "the result's size has too many terms".into())?;
    Ok(ty)
}

/// As [`infer`], for a result whose size may have any number of terms.
fn unbounded(op: &Op, operands: &[&TensorType], symbols: &Symbols) -> Inferred {
    match op {
        Op::Input { ty, kind, .. } => {
            let constant = *kind != InputKind::Weight || ty.shape.iter().all(|d| d.as_const().is_some());
            ensure(2, constant, || format!("weight of type {}", ty.display(symbols)))?;
            leaf(operands, ty)
        }
        Op::Const { values, ty } => {
            leaf(operands, ty)?;
            ensure(1, values.iter().all(|v| v.fits(ty.dtype)), || format!("a literal does not fit {}", ty.dtype))?;
            let count = ty.elems().as_const();
            let fits = values.len() == 1 || (count == Some(values.len() as i64) && values.len() <= MAX_CONST_ELEMS);
            ensure(2, fits, || format!("{} values for {}", values.len(), ty.display(symbols)))?;
            Ok(ty.clone())
        }
        Op::Iota { axis, ty } => {
            leaf(operands, ty)?;
            ensure(1, *axis < ty.rank(), || format!("axis {axis} of rank {}", ty.rank()))?;
            ensure(2, ty.dtype != DType::Bool, || "a bool cannot count".into())?;
            Ok(ty.clone())
        }
        Op::SizeOf { dtype, .. } => {
            ensure(1, *dtype != DType::Bool, || "a bool cannot hold a size".into())?;
            leaf(operands, &TensorType::new(*dtype, vec![]))
        }
        Op::Unary(op) => unary(*op, one(operands)?),
        Op::Binary(op) => {
            let [x, y] = take(operands)?;
            binary(*op, x, y, symbols)
        }
        Op::Select => {
            let [c, x, y] = take(operands)?;
            ensure(1, c.dtype == DType::Bool, || format!("condition is {}", c.dtype))?;
            let shape = broadcast(2, &[c, x, y], symbols)?;
            Ok(TensorType::new(join(3, x.dtype, y.dtype)?, shape))
        }
        Op::Cast { to } => Ok(TensorType::new(*to, one(operands)?.shape.clone())),
        Op::Reshape { shape } => {
            let x = one(operands)?;
            let to = TensorType::new(x.dtype, shape.clone());
            ensure(1, to.is_short() && to.elems() == x.elems(), || {
                format!("{} to {}", x.display(symbols), to.display(symbols))
            })?;
            Ok(to)
        }
        Op::Transpose { perm } => {
            let x = one(operands)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            ensure(1, sorted.iter().copied().eq(0..x.rank()), || format!("perm {perm:?} of rank {}", x.rank()))?;
            Ok(TensorType::new(x.dtype, perm.iter().map(|&p| x.shape[p].clone()).collect()))
        }
        Op::Broadcast { shape } => {
            let x = one(operands)?;
            let to = TensorType::new(x.dtype, shape.clone());
            let joined = broadcast(1, &[x, &to], symbols)?;
            ensure(1, joined == *shape, || format!("{} to {}", x.display(symbols), to.display(symbols)))?;
            Ok(to)
        }
        Op::Slice { starts, sizes, strides } => slice(one(operands)?, (starts, sizes, strides), symbols),
        Op::Concat { axis } => concat(operands, *axis),
        Op::Pad { low, high, value } => {
            let x = one(operands)?;
            let counts = low.len() == x.rank() && high.len() == x.rank();
            let positive = low.iter().chain(high).all(|d| d.bounds(symbols).0 >= 0);
            ensure(1, counts && positive, || format!("low and high for rank {}", x.rank()))?;
            ensure(2, value.fits(x.dtype), || format!("value does not fit {}", x.dtype))?;
            let shape = x.shape.iter().zip(low.iter().zip(high)).map(|(d, (l, h))| d.add(l).add(h));
            Ok(TensorType::new(x.dtype, shape.collect()))
        }
        Op::Reverse { axes } => {
            let x = one(operands)?;
            distinct(1, axes, x)?;
            Ok(x.clone())
        }
        Op::Window { axis, size, stride, dilation } => {
            window(one(operands)?, *axis, [*size, *stride, *dilation], symbols)
        }
        Op::Gather { axis, batch } => {
            let [x, index] = take(operands)?;
            gather(x, index, *axis, *batch)
        }
        Op::Scatter { axis, batch, mode } => {
            let [base, index, rows] = take(operands)?;
            let expected = gather(base, index, *axis, *batch)?;
            ensure(3, rows.shape == expected.shape, || {
                format!("rows are {}, expected {}", rows.display(symbols), expected.display(symbols))
            })?;
            ensure(4, rows.dtype == base.dtype, || format!("base {}, rows {}", base.dtype, rows.dtype))?;
            let adds = *mode == ScatterMode::Set || base.dtype != DType::Bool;
            ensure(5, adds, || "truth values do not add".into())?;
            Ok(base.clone())
        }
        Op::Reduce { op, axes, keep } => reduce(*op, one(operands)?, axes, *keep),
        Op::Contract { spec } => {
            let [lhs, rhs] = take(operands)?;
            contract(spec, lhs, rhs, symbols)
        }
        Op::Fps { n } => {
            let x = one(operands)?;
            points(1, x, symbols)?;
            at_most(2, n, &x.shape[1], symbols)?;
            Ok(TensorType::new(DType::I32, vec![x.shape[0].clone(), n.clone()]))
        }
        Op::Knn { k } => {
            let [q, p] = take(operands)?;
            points(1, q, symbols)?;
            points(1, p, symbols)?;
            ensure(1, q.shape[0] == p.shape[0], || "batch extents differ".into())?;
            at_most(2, k, &p.shape[1], symbols)?;
            Ok(TensorType::new(DType::I32, vec![q.shape[0].clone(), q.shape[1].clone(), k.clone()]))
        }
        Op::TopK { k, .. } => {
            let x = one(operands)?;
            ensure(1, x.rank() >= 1 && x.dtype != DType::Bool, || x.display(symbols))?;
            at_most(2, k, &x.shape[x.rank() - 1], symbols)?;
            let mut shape = x.shape.clone();
            shape[x.rank() - 1] = k.clone();
            Ok(TensorType::new(DType::I32, shape))
        }
        Op::Composite(c) => composite(c, operands, symbols),
    }
}

fn take<'a, const N: usize>(operands: &[&'a TensorType]) -> Result<[&'a TensorType; N], Fault> {
    operands.try_into().or_else(|_| fault(0, format!("takes {N} operands, got {}", operands.len())))
}

fn one<'a>(operands: &[&'a TensorType]) -> Result<&'a TensorType, Fault> {
    let [x] = take(operands)?;
    Ok(x)
}

fn leaf(operands: &[&TensorType], ty: &TensorType) -> Inferred {
    let [] = take(operands)?;
    Ok(ty.clone())
}

fn join(rule: u8, x: DType, y: DType) -> Result<DType, Fault> {
    match (x == y, x.is_float() && y.is_float()) {
        (true, _) => Ok(x),
        (false, true) => Ok(DType::F32),
        (false, false) => fault(rule, format!("dtypes {x} and {y}; cast one")),
    }
}

fn broadcast(rule: u8, operands: &[&TensorType], symbols: &Symbols) -> Result<Vec<Dim>, Fault> {
    let rank = operands.iter().map(|t| t.rank()).max().unwrap_or(0);
    let mut shape = vec![Dim::constant(1); rank];
    for ty in operands {
        for (have, extent) in shape[rank - ty.rank()..].iter_mut().zip(&ty.shape) {
            if have.is(1) {
                *have = extent.clone();
            } else if have != extent && !extent.is(1) {
                let (a, b) = (have.display(symbols), extent.display(symbols));
                return fault(rule, format!("extents {a} and {b} do not broadcast"));
            }
        }
    }
    Ok(shape)
}

fn unary(op: UnaryOp, x: &TensorType) -> Inferred {
    let suits = match op {
        UnaryOp::Not => !x.dtype.is_float(),
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => x.dtype != DType::Bool,
        _ => x.dtype.is_float(),
    };
    ensure(1, suits, || format!("{} of {}", op.name(), x.dtype))?;
    Ok(x.clone())
}

fn binary(op: BinaryOp, x: &TensorType, y: &TensorType, symbols: &Symbols) -> Inferred {
    let shape = broadcast(1, &[x, y], symbols)?;
    let dtype = join(2, x.dtype, y.dtype)?;
    let suits = if op.is_bitwise() {
        !dtype.is_float()
    } else if op == BinaryOp::Pow {
        dtype.is_float()
    } else {
        op.is_comparison() || dtype != DType::Bool
    };
    ensure(3, suits, || format!("{} of {dtype}", op.name()))?;
    Ok(TensorType::new(if op.is_comparison() { DType::Bool } else { dtype }, shape))
}

fn slice(x: &TensorType, (starts, sizes, strides): (&[Dim], &[Dim], &[i64]), symbols: &Symbols) -> Inferred {
    let full = starts.len() == x.rank() && sizes.len() == x.rank() && strides.len() == x.rank();
    ensure(1, full, || format!("starts, sizes and strides for rank {}", x.rank()))?;
    ensure(3, strides.iter().all(|&s| s >= 1), || format!("strides {strides:?}"))?;
    for (i, extent) in x.shape.iter().enumerate() {
        let span = sizes[i].sub(&Dim::constant(1)).mul(&Dim::constant(strides[i]));
        let last = starts[i].add(&span);
        let inside = extent.sub(&last).bounds(symbols).0 >= 1;
        let positive = starts[i].bounds(symbols).0 >= 0 && sizes[i].bounds(symbols).0 >= 1;
        ensure(2, inside && positive, || {
            format!("axis {i}: last index {} of {}", last.display(symbols), extent.display(symbols))
        })?;
    }
    Ok(TensorType::new(x.dtype, sizes.to_vec()))
}

fn concat(operands: &[&TensorType], axis: usize) -> Inferred {
    let Some(first) = operands.first() else { return fault(0, "takes at least one operand") };
    ensure(2, axis < first.rank(), || format!("axis {axis} of rank {}", first.rank()))?;
    let mut ty = (*first).clone();
    for other in &operands[1..] {
        ensure(1, other.dtype == ty.dtype, || format!("dtypes {} and {}", ty.dtype, other.dtype))?;
        let agree = other.rank() == ty.rank() && (0..ty.rank()).all(|i| i == axis || other.shape[i] == ty.shape[i]);
        ensure(2, agree, || "an extent off the axis differs".into())?;
        ty.shape[axis] = ty.shape[axis].add(&other.shape[axis]);
        ensure(0, ty.shape[axis].is_short(), || "the joined axis has too many terms".into())?;
    }
    Ok(ty)
}

fn distinct(rule: u8, axes: &[usize], x: &TensorType) -> Result<(), Fault> {
    let bad = axes.iter().enumerate().find(|(i, a)| **a >= x.rank() || axes[..*i].contains(a));
    match bad {
        Some((_, a)) => fault(rule, format!("axis {a} of {axes:?} for rank {}", x.rank())),
        None => Ok(()),
    }
}

fn window(x: &TensorType, axis: usize, [size, stride, dilation]: [i64; 3], symbols: &Symbols) -> Inferred {
    ensure(1, axis < x.rank() && size >= 1 && stride >= 1 && dilation >= 1, || format!("axis {axis}, size {size}"))?;
    let span = (size - 1).checked_mul(dilation).and_then(|s| s.checked_add(1));
    let Some(span) = span else { return fault(1, "window span overflows") };
    let rest = x.shape[axis].sub(&Dim::constant(span));
    ensure(1, rest.bounds(symbols).0 >= 0, || format!("span {span} of {}", x.shape[axis].display(symbols)))?;
    let steps = match rest.as_const() {
        Some(rest) => Dim::constant(rest / stride),
        None => match rest.div_exact(&Dim::constant(stride)) {
            Some(steps) => steps,
            None => return fault(2, format!("{} by {stride}", rest.display(symbols))),
        },
    };
    let mut shape = x.shape.clone();
    shape[axis] = steps.add(&Dim::constant(1));
    shape.insert(axis + 1, Dim::constant(size));
    Ok(TensorType::new(x.dtype, shape))
}

fn gather(x: &TensorType, index: &TensorType, axis: usize, batch: usize) -> Inferred {
    let kind = matches!(index.dtype, DType::I32 | DType::I64 | DType::U32);
    ensure(1, kind, || format!("index is {}", index.dtype))?;
    ensure(2, batch <= axis && axis < x.rank() && batch <= index.rank(), || format!("batch {batch}, axis {axis}"))?;
    ensure(3, x.shape[..batch] == index.shape[..batch], || "batch extents differ".into())?;
    let shape = [&x.shape[..axis], &index.shape[batch..], &x.shape[axis + 1..]].concat();
    Ok(TensorType::new(x.dtype, shape))
}

fn reduce(op: ReduceOp, x: &TensorType, axes: &[usize], keep: bool) -> Inferred {
    distinct(1, axes, x)?;
    ensure(2, !op.is_index() || axes.len() == 1, || format!("{} axes", axes.len()))?;
    let suits = match op {
        ReduceOp::Sum | ReduceOp::Prod | ReduceOp::ArgMax | ReduceOp::ArgMin => x.dtype != DType::Bool,
        ReduceOp::Max | ReduceOp::Min => true,
    };
    ensure(3, suits, || format!("{} of {}", op.name(), x.dtype))?;
    let dtype = if op.is_index() { DType::I32 } else { x.dtype };
    Ok(TensorType::new(dtype, reduced_shape(x, axes, keep)))
}

fn reduced_shape(x: &TensorType, axes: &[usize], keep: bool) -> Vec<Dim> {
    let mut shape = Vec::with_capacity(x.rank());
    for (i, extent) in x.shape.iter().enumerate() {
        match (axes.contains(&i), keep) {
            (false, _) => shape.push(extent.clone()),
            (true, true) => shape.push(Dim::constant(1)),
            (true, false) => {}
        }
    }
    shape
}

fn contract(spec: &ContractSpec, lhs: &TensorType, rhs: &TensorType, symbols: &Symbols) -> Inferred {
    ensure(1, lhs.dtype.is_float() && rhs.dtype.is_float(), || format!("{} and {}", lhs.dtype, rhs.dtype))?;
    let ranks = spec.lhs().len() == lhs.rank() && spec.rhs().len() == rhs.rank();
    ensure(2, ranks, || format!("ranks {} and {} for {spec}", lhs.rank(), rhs.rank()))?;
    let extent = |c: &char| {
        let l = spec.lhs().iter().position(|x| x == c).map(|i| &lhs.shape[i]);
        let r = spec.rhs().iter().position(|x| x == c).map(|i| &rhs.shape[i]);
        (l, r)
    };
    for c in spec.lhs() {
        if let (Some(l), Some(r)) = extent(c) {
            ensure(2, l == r, || format!("letter `{c}` is {} and {}", l.display(symbols), r.display(symbols)))?;
        }
    }
    let shape = spec
        .out()
        .iter()
        .filter_map(|c| {
            {
                let (l, r) = extent(c);
                l.or(r)
            }
            .cloned()
        })
        .collect();
    Ok(TensorType::new(join(1, lhs.dtype, rhs.dtype)?, shape))
}

fn points(rule: u8, x: &TensorType, symbols: &Symbols) -> Result<(), Fault> {
    let fits = x.dtype == DType::F32 && x.rank() == 3 && x.shape[2].is(3);
    ensure(rule, fits, || format!("expected f32[B, N, 3], got {}", x.display(symbols)))
}

fn at_most(rule: u8, k: &Dim, n: &Dim, symbols: &Symbols) -> Result<(), Fault> {
    let fits = k.bounds(symbols).0 >= 1 && n.sub(k).bounds(symbols).0 >= 0;
    ensure(rule, fits, || format!("{} of {}", k.display(symbols), n.display(symbols)))
}

fn composite(c: &Composite, operands: &[&TensorType], symbols: &Symbols) -> Inferred {
    let all_float = |rule: u8, list: &[&TensorType]| {
        ensure(rule, list.iter().all(|t| t.dtype.is_float()), || "an operand is not float".into())
    };
    match c {
        Composite::Relu | Composite::Sigmoid | Composite::Silu | Composite::Gelu { .. } | Composite::StopGradient => {
            let x = one(operands)?;
            all_float(1, operands)?;
            Ok(x.clone())
        }
        Composite::Softmax { axis } | Composite::LogSoftmax { axis } => {
            let x = one(operands)?;
            all_float(1, operands)?;
            ensure(2, *axis < x.rank(), || format!("axis {axis} of rank {}", x.rank()))?;
            Ok(x.clone())
        }
        Composite::Mean { axes, keep } | Composite::Variance { axes, keep, .. } => {
            let x = one(operands)?;
            all_float(1, operands)?;
            distinct(2, axes, x)?;
            Ok(TensorType::new(x.dtype, reduced_shape(x, axes, *keep)))
        }
        Composite::RmsNorm { eps } => norm(operands, 1, None, *eps),
        Composite::LayerNorm { eps } => norm(operands, 2, None, *eps),
        Composite::BatchNorm { axis, eps } => norm(operands, 4, Some(*axis), *eps),
        Composite::Attention { .. } => {
            let operands = take(operands)?;
            attention(operands, symbols)?;
            Ok(operands[0].clone())
        }
        Composite::AttentionLse { .. } => {
            let [q, k, low, high] = take(operands)?;
            attention([q, k, k, low, high], symbols)?;
            Ok(TensorType::new(DType::F32, q.shape[..2].to_vec()))
        }
        Composite::AttentionGrad { by, .. } => {
            let [q, k, v, dy, low, high, lse, delta] = take(operands)?;
            attention([q, k, v, low, high], symbols)?;
            let rows = TensorType::new(DType::F32, q.shape[..2].to_vec());
            let agree = dy.shape == q.shape && dy.dtype.is_float() && *lse == rows && *delta == rows;
            ensure(4, agree, || {
                format!("dy {}, lse {}, delta {}", dy.display(symbols), lse.display(symbols), delta.display(symbols))
            })?;
            Ok(match by {
                AttentionOperand::Query => q.clone(),
                AttentionOperand::Key => k.clone(),
                AttentionOperand::Value => v.clone(),
            })
        }
        Composite::RandomBits { stream, shape } => {
            let [seed, step] = take(operands)?;
            let fits = [seed, step].iter().all(|t| t.dtype == DType::I64 && t.rank() == 0);
            ensure(1, fits, || format!("seed {}, step {}", seed.display(symbols), step.display(symbols)))?;
            ensure(2, (0..1 << 32).contains(stream), || format!("stream {stream}"))?;
            Ok(TensorType::new(DType::U32, shape.clone()))
        }
        Composite::CrossEntropy { .. } => {
            let [logits, labels] = take(operands)?;
            ensure(1, logits.dtype.is_float() && logits.rank() == 2, || logits.display(symbols))?;
            let fits = labels.dtype == DType::I32 && labels.shape[..] == logits.shape[..1];
            ensure(2, fits, || labels.display(symbols))?;
            Ok(TensorType::new(DType::F32, vec![]))
        }
        Composite::LinearCrossEntropy { columns, .. } => {
            let [hidden, matrix, labels] = take(operands)?;
            let float = hidden.dtype.is_float() && matrix.dtype.is_float() && hidden.rank() == 2 && matrix.rank() == 2;
            let agree =
                float && hidden.shape[1] == matrix.shape[1] && matrix.shape[0].as_const().is_some_and(|v| v >= 1);
            ensure(1, agree, || format!("hidden {}, matrix {}", hidden.display(symbols), matrix.display(symbols)))?;
            let fits = labels.dtype == DType::I32 && labels.shape[..] == hidden.shape[..1];
            ensure(2, fits, || labels.display(symbols))?;
            ensure(3, *columns >= 1, || format!("{columns} columns"))?;
            Ok(TensorType::new(DType::F32, vec![]))
        }
    }
}

/// q, k, v, low and high fit each other.
fn attention([q, k, v, low, high]: [&TensorType; 5], symbols: &Symbols) -> Result<(), Fault> {
    let float = [q, k, v].iter().all(|t| t.dtype.is_float());
    ensure(1, float, || "an operand is not float".into())?;
    ensure(1, q.rank() == 3 && k.rank() == 3 && v.rank() == 3, || "q, k and v have rank 3".into())?;
    let heads = q.shape[1].as_const().zip(k.shape[1].as_const());
    let groups = heads.is_some_and(|(h, g)| g >= 1 && h % g == 0);
    let agree = k.shape == v.shape && q.shape[2] == k.shape[2] && q.shape[2].as_const().is_some();
    ensure(2, groups && agree, || {
        format!("q {}, k {}, v {}", q.display(symbols), k.display(symbols), v.display(symbols))
    })?;
    let range = TensorType::new(DType::I32, vec![q.shape[0].clone()]);
    ensure(3, *low == range && *high == range, || format!("expected {}", range.display(symbols)))
}

/// Norms: `x` and `n` vectors of the normed axis' extent (the last axis when none is given).
fn norm(operands: &[&TensorType], n: usize, axis: Option<usize>, eps: Scalar) -> Inferred {
    ensure(0, operands.len() == n + 1, || format!("takes {} operands, got {}", n + 1, operands.len()))?;
    let (x, vectors) = (operands[0], &operands[1..]);
    let float = operands.iter().all(|t| t.dtype.is_float()) && matches!(eps, Scalar::F(e) if e >= 0.0);
    ensure(1, float, || "an operand is not float, or eps is negative".into())?;
    let axis = axis.unwrap_or(x.rank().saturating_sub(1));
    ensure(2, axis < x.rank(), || format!("axis {axis} of rank {}", x.rank()))?;
    let channels = std::slice::from_ref(&x.shape[axis]);
    ensure(if n == 4 { 3 } else { 2 }, vectors.iter().all(|v| v.shape == channels), || "a vector is not [C]".into())?;
    Ok(x.clone())
}
