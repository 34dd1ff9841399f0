//! Is a kernel's meaning well formed? Kinds, register order, buffer access, stores and extents, all faults at once.

use crate::desc::{
    Acc, AccOp, Access, AttentionBody, AttentionGradBody, Body, ContractBody, Desc, Extent, FpsBody, KnnBody, MapBody,
    ReduceBody, ScatterBody, Store, TopKBody, Value,
};
use crate::program::{Instr, Kind, Program, Reg};
use enel_types::{BinaryOp, DType, UnaryOp};

/// One thing wrong with a [`Desc`]; `place` names the part of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescFault {
    /// An instruction reads a later register, an unknown buffer or accumulator, or mixes kinds.
    #[error("{place}: instruction {at} reads something undefined or mixes kinds")]
    Undefined {
        /// Part of the body.
        place: &'static str,
        /// Instruction.
        at: usize,
    },
    /// An instruction names an axis or dynamic size that is not there.
    #[error("{place}: instruction {at} reads {what} {index} of {count}")]
    Range {
        /// Part of the body.
        place: &'static str,
        /// Instruction.
        at: usize,
        /// `axis` or `size`.
        what: &'static str,
        /// The one named.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// A program loads from a buffer the kernel writes, and not the element it replaces: points have no order, so it may
    /// see either value.
    #[error("{place}: instruction {at} loads buffer {buffer}, which is {access:?}")]
    Load {
        /// Part of the body.
        place: &'static str,
        /// Instruction.
        at: usize,
        /// Buffer.
        buffer: u32,
        /// Its role.
        access: Access,
    },
    /// An operation is not defined on its operands' kind.
    #[error("{place}: instruction {at} is not defined on {kind:?}")]
    Operand {
        /// Part of the body.
        place: &'static str,
        /// Instruction.
        at: usize,
        /// Kind of its operands.
        kind: Kind,
    },
    /// A result names a register its program does not define.
    #[error("{place}: register {} is not defined", reg.0)]
    NoRegister {
        /// Part of the body.
        place: &'static str,
        /// The register.
        reg: Reg,
    },
    /// A value has another kind than its use needs.
    #[error("{place}: needs {expected:?}, got {got:?}")]
    Kind {
        /// Part of the body.
        place: &'static str,
        /// What the use needs.
        expected: Kind,
        /// What the register holds.
        got: Kind,
    },
    /// A result goes to a buffer that does not exist, is not writable, or has the wrong dtype.
    #[error("{place}: buffer {buffer} is no buffer this can be written to")]
    Target {
        /// Part of the body.
        place: &'static str,
        /// Buffer.
        buffer: u32,
    },
    /// A buffer declared as written is not.
    #[error("buffer {buffer} is declared as written but nothing writes it")]
    NeverWritten {
        /// Buffer.
        buffer: usize,
    },
    /// An extent is negative or names a dynamic size that is not there.
    #[error("extent {extent:?} is negative or unknown")]
    Extent {
        /// The extent.
        extent: Extent,
    },
    /// The iteration space has more points than i64 can count.
    #[error("the iteration space does not fit 64 bits")]
    TooLarge,
    /// A dynamic size has no possible value.
    #[error("dynamic size {index} needs max >= 0 and multiple >= 1")]
    Dynamic {
        /// The dynamic size.
        index: usize,
    },
    /// A number of the body is out of its range.
    #[error("{rule}")]
    Body {
        /// The rule broken.
        rule: &'static str,
    },
}

/// Checks one kernel's meaning.
///
/// # Errors
/// Every fault found.
pub fn check_desc(desc: &Desc) -> Result<(), Vec<DescFault>> {
    let dtypes = desc.buffers.iter().map(|b| b.dtype).collect();
    let mut check = Check { desc, dtypes, written: vec![false; desc.buffers.len()], faults: Vec::new() };
    for (index, d) in desc.dynamics.iter().enumerate() {
        check.ensure(d.max >= 0 && d.multiple >= 1, DescFault::Dynamic { index });
    }
    match &desc.body {
        Body::Map(b) => check.map(b),
        Body::Reduce(b) => check.reduce(b),
        Body::Contract(b) => check.contract(b),
        Body::Attention(b) => check.attention(b),
        Body::AttentionGrad(b) => check.attention_grad(b),
        Body::Fps(b) => check.fps(b),
        Body::Knn(b) => check.knn(b),
        Body::TopK(b) => check.topk(b),
        Body::Scatter(b) => check.scatter(b),
    }
    for (buffer, role) in desc.buffers.iter().enumerate() {
        let missing = role.access != Access::Read && !check.written[buffer];
        check.ensure(!missing, DescFault::NeverWritten { buffer });
    }
    if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
}

/// A program in its surroundings.
struct Site<'a> {
    place: &'static str,
    axes: usize,
    accs: &'a [Kind],
    /// Stores beside the program.
    stores: &'a [Store],
}

struct Check<'a> {
    desc: &'a Desc,
    dtypes: Vec<DType>,
    written: Vec<bool>,
    faults: Vec<DescFault>,
}

impl Check<'_> {
    fn ensure(&mut self, holds: bool, fault: DescFault) {
        if !holds {
            self.faults.push(fault);
        }
    }

    fn space(&mut self, parts: &[&[Extent]]) {
        let mut points = Some(1i64);
        for &extent in parts.iter().copied().flatten() {
            let max = match extent {
                Extent::Const(n) => Some(n).filter(|n| *n >= 0),
                Extent::Dyn(i) => self.desc.dynamics.get(i as usize).map(|d| d.max.max(0)),
            };
            self.ensure(max.is_some(), DescFault::Extent { extent });
            // An empty axis must not hide that the others overflow.
            points = points.and_then(|p| p.checked_mul(max.unwrap_or(1).max(1)));
        }
        self.ensure(points.is_some(), DescFault::TooLarge);
    }

    /// Kinds of the registers; empty when the program is broken.
    fn program(&mut self, program: &Program, site: &Site) -> Vec<Kind> {
        let place = site.place;
        let kinds = match program.kinds(&self.dtypes, site.accs) {
            Ok(kinds) => kinds,
            Err(at) => {
                self.faults.push(DescFault::Undefined { place, at });
                return Vec::new();
            }
        };
        for (at, instr) in program.instrs().iter().enumerate() {
            match *instr {
                Instr::Axis(index) => {
                    let count = site.axes;
                    let fault = DescFault::Range { place, at, what: "axis", index, count };
                    self.ensure((index as usize) < count, fault);
                }
                Instr::Size(index) => {
                    let count = self.desc.dynamics.len();
                    let fault = DescFault::Range { place, at, what: "size", index, count };
                    self.ensure((index as usize) < count, fault);
                }
                Instr::Load { buffer, index } => {
                    let access = self.desc.buffers[buffer as usize].access;
                    let replaced =
                        access == Access::Update && site.stores.iter().any(|store| store.replaces(buffer, index));
                    self.ensure(access == Access::Read || replaced, DescFault::Load { place, at, buffer, access });
                }
                Instr::Unary(op, x) => {
                    let kind = kinds[x.0 as usize];
                    self.ensure(unary_takes(op, kind), DescFault::Operand { place, at, kind });
                }
                Instr::Binary(op, x, _) => {
                    let kind = kinds[x.0 as usize];
                    self.ensure(binary_takes(op, kind), DescFault::Operand { place, at, kind });
                }
                Instr::Float(_)
                | Instr::Int(_)
                | Instr::Bool(_)
                | Instr::Acc(_)
                | Instr::Select(..)
                | Instr::Cast(..) => {}
            }
        }
        kinds
    }

    fn register(&mut self, kinds: &[Kind], reg: Reg, place: &'static str) -> Option<Kind> {
        let kind = kinds.get(reg.0 as usize).copied();
        self.ensure(kind.is_some(), DescFault::NoRegister { place, reg });
        kind
    }

    /// Kind of a value whose program sees no accumulators.
    fn value(&mut self, value: &Value, place: &'static str, axes: usize) -> Option<Kind> {
        let kinds = self.program(&value.program, &Site { place, axes, accs: &[], stores: &[] });
        self.register(&kinds, value.reg, place)
    }

    fn value_of(&mut self, value: &Value, place: &'static str, axes: usize, expected: Kind) {
        if let Some(got) = self.value(value, place, axes) {
            self.ensure(got == expected, DescFault::Kind { place, expected, got });
        }
    }

    fn stores(&mut self, stores: &[Store], kinds: &[Kind]) {
        for store in stores {
            if let Some(got) = self.register(kinds, store.index, "store index") {
                self.ensure(got == Kind::Int, DescFault::Kind { place: "store index", expected: Kind::Int, got });
            }
            let value = self.register(kinds, store.value, "store");
            let Some(role) = self.desc.buffers.get(store.buffer as usize).filter(|b| b.access != Access::Read) else {
                self.faults.push(DescFault::Target { place: "store", buffer: store.buffer });
                continue;
            };
            self.written[store.buffer as usize] = true;
            let expected = Kind::of(role.dtype);
            if let Some(got) = value {
                self.ensure(got == expected, DescFault::Kind { place: "store", expected, got });
            }
        }
    }

    /// A whole buffer of indices the family itself writes.
    fn indices(&mut self, buffer: u32) {
        let fits =
            self.desc.buffers.get(buffer as usize).is_some_and(|b| b.access == Access::Write && b.dtype == DType::I32);
        self.ensure(fits, DescFault::Target { place: "out", buffer });
        if let Some(written) = self.written.get_mut(buffer as usize) {
            *written = true;
        }
    }

    fn map(&mut self, body: &MapBody) {
        let MapBody { space, program, stores } = body;
        self.space(&[space]);
        let kinds = self.program(program, &Site { place: "program", axes: space.len(), accs: &[], stores });
        self.stores(stores, &kinds);
    }

    fn reduce(&mut self, body: &ReduceBody) {
        let ReduceBody { outer, inner, element, accs, epilogue, stores } = body;
        self.space(&[outer, inner]);
        let axes = outer.len() + inner.len();
        let kinds = self.program(element, &Site { place: "element", axes, accs: &[], stores: &[] });
        let accs: Vec<Kind> = accs.iter().map(|acc| self.acc(*acc, &kinds)).collect();
        let site = Site { place: "epilogue", axes: outer.len(), accs: &accs, stores };
        let kinds = self.program(epilogue, &site);
        self.stores(stores, &kinds);
    }

    /// Kind of the accumulator's result.
    fn acc(&mut self, acc: Acc, kinds: &[Kind]) -> Kind {
        let Some(kind) = self.register(kinds, acc.value, "accumulator") else { return Kind::Float };
        let takes = match acc.op {
            AccOp::Sum | AccOp::Prod | AccOp::ArgMax | AccOp::ArgMin => kind != Kind::Bool,
            AccOp::Max | AccOp::Min => true,
            AccOp::Deviations => kind == Kind::Float,
        };
        self.ensure(takes, DescFault::Kind { place: "accumulator", expected: Kind::Float, got: kind });
        match acc.op {
            AccOp::ArgMax | AccOp::ArgMin => Kind::Int,
            AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min | AccOp::Deviations => kind,
        }
    }

    fn contract(&mut self, body: &ContractBody) {
        let ContractBody { batch, rows, cols, summed, lhs, rhs, bf16: _, epilogue, fold, stores } = body;
        self.space(&[batch, rows, cols, summed]);
        let kind = self.value(lhs, "lhs", batch.len() + rows.len() + summed.len()).unwrap_or(Kind::Float);
        self.ensure(kind != Kind::Bool, DescFault::Kind { place: "lhs", expected: Kind::Float, got: kind });
        self.value_of(rhs, "rhs", batch.len() + cols.len() + summed.len(), kind);
        let axes = batch.len() + rows.len() + cols.len();
        let own: &[Store] = if fold.is_some() { &[] } else { stores };
        let site = Site { place: "epilogue", axes, accs: &[kind], stores: own };
        let mut kinds = self.program(epilogue, &site);
        if let Some(fold) = fold {
            let folds = fold.axes as usize;
            self.ensure((1..=rows.len()).contains(&folds), DescFault::Body { rule: "a fold takes 1 to all row axes" });
            let combines = matches!(fold.op, AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min);
            self.ensure(combines, DescFault::Body { rule: "a fold is a sum, product, maximum or minimum" });
            let acc = self.acc(Acc { op: fold.op, value: fold.value }, &kinds);
            let axes = axes.saturating_sub(folds);
            kinds = self.program(&fold.epilogue, &Site { place: "fold epilogue", axes, accs: &[acc], stores });
        }
        self.stores(stores, &kinds);
    }

    fn attention(&mut self, body: &AttentionBody) {
        let AttentionBody { tokens, keys, heads, groups, head_size, scale: _, q, k, v, low, high, .. } = body;
        let AttentionBody { bf16: _, epilogue, stores, .. } = body;
        self.attention_sizes([*tokens, *keys], [*heads, *groups, *head_size]);
        for (value, place) in [(Some(q), "q"), (Some(k), "k"), (v.as_ref(), "v")] {
            let Some(value) = value else { continue };
            self.value_of(value, place, 3, Kind::Float);
        }
        self.value_of(low, "low", 1, Kind::Int);
        self.value_of(high, "high", 1, Kind::Int);
        let axes = if v.is_some() { 3 } else { 2 };
        let site = Site { place: "epilogue", axes, accs: &[Kind::Float], stores };
        let kinds = self.program(epilogue, &site);
        self.stores(stores, &kinds);
    }

    fn attention_sizes(&mut self, [tokens, keys]: [Extent; 2], [heads, groups, head_size]: [i64; 3]) {
        let positive = heads >= 1 && groups >= 1 && head_size >= 1 && heads % groups == 0;
        let rule = "attention needs positive heads, groups and head size, and groups that divide heads";
        self.ensure(positive, DescFault::Body { rule });
        self.space(&[&[tokens, keys, Extent::Const(heads), Extent::Const(head_size)]]);
    }

    fn attention_grad(&mut self, body: &AttentionGradBody) {
        let AttentionGradBody { tokens, keys, heads, groups, head_size, scale: _, by: _, bf16: _, .. } = body;
        let AttentionGradBody { q, k, v, dy, low, high, lse, delta, epilogue, stores, .. } = body;
        self.attention_sizes([*tokens, *keys], [*heads, *groups, *head_size]);
        let floats = [(q, "q", 3), (k, "k", 3), (v, "v", 3), (dy, "dy", 3), (lse, "lse", 2), (delta, "delta", 2)];
        for (value, place, axes) in floats {
            self.value_of(value, place, axes, Kind::Float);
        }
        self.value_of(low, "low", 1, Kind::Int);
        self.value_of(high, "high", 1, Kind::Int);
        let kinds = self.program(epilogue, &Site { place: "epilogue", axes: 3, accs: &[Kind::Float], stores });
        self.stores(stores, &kinds);
    }

    fn fps(&mut self, body: &FpsBody) {
        let FpsBody { batch, points, n, xyz, out } = body;
        self.space(&[&[*batch, *points, *n]]);
        self.value_of(xyz, "xyz", 3, Kind::Float);
        self.indices(*out);
    }

    fn knn(&mut self, body: &KnnBody) {
        let KnnBody { batch, queries, points, k, query, point, out } = body;
        self.space(&[&[*batch, *queries, *points]]);
        self.space(&[&[*batch, *queries, *k]]);
        self.value_of(query, "query", 3, Kind::Float);
        self.value_of(point, "point", 3, Kind::Float);
        self.indices(*out);
    }

    fn topk(&mut self, body: &TopKBody) {
        let TopKBody { outer, n, k, largest: _, value, out } = body;
        self.space(&[outer, &[*n]]);
        self.space(&[outer, &[*k]]);
        let kind = self.value(value, "value", outer.len() + 1).unwrap_or(Kind::Float);
        self.ensure(kind != Kind::Bool, DescFault::Kind { place: "value", expected: Kind::Float, got: kind });
        self.indices(*out);
    }

    fn scatter(&mut self, body: &ScatterBody) {
        let ScatterBody { mode: _, prefix, batch, extent, index_space, suffix, index, rows, out } = body;
        self.space(&[prefix, &[*extent], suffix]);
        self.space(&[prefix, index_space, suffix]);
        let batch = *batch as usize;
        let rule = "scatter indices depend on at most all prefix axes";
        self.ensure(batch <= prefix.len(), DescFault::Body { rule });
        self.value_of(index, "index", batch.saturating_add(index_space.len()), Kind::Int);
        let axes = prefix.len() + index_space.len() + suffix.len();
        let kind = self.value(rows, "rows", axes);
        let Some(role) = self.desc.buffers.get(*out as usize).filter(|b| b.access == Access::Update) else {
            self.faults.push(DescFault::Target { place: "out", buffer: *out });
            return;
        };
        self.written[*out as usize] = true;
        let expected = Kind::of(role.dtype);
        if let Some(got) = kind {
            self.ensure(got == expected, DescFault::Kind { place: "rows", expected, got });
        }
    }
}

fn unary_takes(op: UnaryOp, kind: Kind) -> bool {
    match op {
        UnaryOp::Not => kind != Kind::Float,
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => kind != Kind::Bool,
        UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Sqrt
        | UnaryOp::Rsqrt
        | UnaryOp::Recip
        | UnaryOp::Exp
        | UnaryOp::Log
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tanh
        | UnaryOp::Erf => kind == Kind::Float,
    }
}

fn binary_takes(op: BinaryOp, kind: Kind) -> bool {
    match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => kind != Kind::Float,
        BinaryOp::Pow => kind == Kind::Float,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => kind != Kind::Bool,
        BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge => true,
    }
}
