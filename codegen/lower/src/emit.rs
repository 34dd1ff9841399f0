//! What program computes one element of a value? Walks from the element back to stored values.
//!
//! A move changes coordinates, a pointwise op emits one instruction, a stored value is a load. Equal work inside one
//! program is shared; indices stay inside their buffers for every coordinate, whatever a select discards.

use enel_bundle::{Dynamic, Extent, Instr, Program, Reg, Value};
use enel_ir::{BinaryOp, Class, Composite, DType, Dim, Graph, NodeId, Op, Scalar, UnaryOp};
use std::collections::HashMap;

/// What the programs of one Desc share: which buffers and dynamic sizes they name.
pub(crate) struct Tables<'g> {
    pub(crate) graph: &'g Graph,
    /// True for values other groups store.
    pub(crate) stored: &'g dyn Fn(NodeId) -> bool,
    /// Values read, in buffer order.
    pub(crate) reads: Vec<NodeId>,
    /// Size expressions, in argument order.
    pub(crate) dynamics: Vec<Dim>,
}

impl<'g> Tables<'g> {
    pub(crate) fn new(graph: &'g Graph, stored: &'g dyn Fn(NodeId) -> bool) -> Tables<'g> {
        Tables { graph, stored, reads: Vec::new(), dynamics: Vec::new() }
    }

    pub(crate) fn buffer(&mut self, id: NodeId) -> u32 {
        let at = self.reads.iter().position(|r| *r == id).unwrap_or_else(|| {
            self.reads.push(id);
            self.reads.len() - 1
        });
        at as u32
    }

    fn dynamic(&mut self, dim: &Dim) -> u32 {
        let at = self.dynamics.iter().position(|d| d == dim).unwrap_or_else(|| {
            self.dynamics.push(dim.clone());
            self.dynamics.len() - 1
        });
        at as u32
    }

    pub(crate) fn extent(&mut self, dim: &Dim) -> Extent {
        match dim.as_const() {
            Some(n) => Extent::Const(n),
            None => Extent::Dyn(self.dynamic(dim)),
        }
    }

    pub(crate) fn extents(&mut self, dims: &[Dim]) -> Vec<Extent> {
        dims.iter().map(|d| self.extent(d)).collect()
    }

    pub(crate) fn described(&self) -> Vec<Dynamic> {
        let describe =
            |d: &Dim| Dynamic { max: d.bounds(&self.graph.symbols).1, multiple: d.divisor(&self.graph.symbols).max(1) };
        self.dynamics.iter().map(describe).collect()
    }
}

/// One program under construction.
pub(crate) struct Emitter<'t, 'g> {
    pub(crate) tables: &'t mut Tables<'g>,
    pub(crate) program: Program,
    /// Values the family hands over as accumulators.
    accs: Vec<(NodeId, u32)>,
    known: HashMap<(NodeId, Vec<Reg>), Reg>,
}

impl<'t, 'g> Emitter<'t, 'g> {
    pub(crate) fn new(tables: &'t mut Tables<'g>, accs: &[(NodeId, u32)]) -> Emitter<'t, 'g> {
        Emitter { tables, program: Program::new(), accs: accs.to_vec(), known: HashMap::new() }
    }

    /// A program whose value is one element of `id`; `coords` builds the element's coordinates from axes.
    pub(crate) fn value_of(tables: &'t mut Tables<'g>, id: NodeId, coords: &dyn Fn(&mut Program) -> Vec<Reg>) -> Value {
        let mut emitter = Emitter::new(tables, &[]);
        let coords = coords(&mut emitter.program);
        let reg = emitter.value(id, &coords);
        Value { program: emitter.program, reg }
    }

    fn graph(&self) -> &'g Graph {
        self.tables.graph
    }

    pub(crate) fn size(&mut self, dim: &Dim) -> Reg {
        match self.tables.extent(dim) {
            Extent::Const(n) => self.program.int(n),
            Extent::Dyn(i) => self.program.push(Instr::Size(i)),
        }
    }

    fn int_op(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Reg {
        self.program.int_op(op, x, y)
    }

    /// Row-major index of `coords` in `shape`.
    pub(crate) fn linear(&mut self, coords: &[Reg], shape: &[Dim]) -> Reg {
        let mut index = self.program.int(0);
        for (&c, extent) in coords.iter().zip(shape) {
            if extent.is(1) {
                continue;
            }
            let size = self.size(extent);
            index = self.rejoined(index, c, size).unwrap_or_else(|| {
                let scaled = self.int_op(BinaryOp::Mul, index, size);
                self.int_op(BinaryOp::Add, scaled, c)
            });
        }
        index
    }

    /// `index * size + c`, where `c` is what is left of a number whose quotient by `size` is the last term of `index`: that
    /// number again, so that a view of rows in pieces is seen to be the rows.
    fn rejoined(&mut self, index: Reg, c: Reg, size: Reg) -> Option<Reg> {
        let instr = |reg: Reg| self.program.instrs()[reg.0 as usize];
        let whole = match instr(c) {
            Instr::Binary(BinaryOp::Rem, whole, by) if by == size => whole,
            _ => return None,
        };
        let quotient = Instr::Binary(BinaryOp::Div, whole, size);
        if instr(index) == quotient {
            return Some(whole);
        }
        match instr(index) {
            Instr::Binary(BinaryOp::Add, before, last) if instr(last) == quotient => {
                let scaled = self.int_op(BinaryOp::Mul, before, size);
                Some(self.int_op(BinaryOp::Add, scaled, whole))
            }
            _ => None,
        }
    }

    /// Coordinates of row-major `index` in `shape`.
    pub(crate) fn unravel(&mut self, index: Reg, shape: &[Dim]) -> Vec<Reg> {
        let mut coords = vec![Reg(0); shape.len()];
        let mut rest = index;
        let first = shape.iter().position(|d| !d.is(1));
        for i in (0..shape.len()).rev() {
            coords[i] = if shape[i].is(1) {
                self.program.int(0)
            } else if Some(i) == first {
                rest
            } else {
                let size = self.size(&shape[i]);
                let c = self.int_op(BinaryOp::Rem, rest, size);
                rest = self.int_op(BinaryOp::Div, rest, size);
                c
            };
        }
        coords
    }

    /// The register holding element `coords` of `id`.
    pub(crate) fn value(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        if let Some((_, n)) = self.accs.iter().find(|(node, _)| *node == id) {
            let acc = self.program.push(Instr::Acc(*n));
            return self.finished(id, acc);
        }
        let key = (id, coords.to_vec());
        if let Some(&reg) = self.known.get(&key) {
            return reg;
        }
        let reg = if (self.tables.stored)(id) { self.load(id, coords) } else { self.compute(id, coords) };
        self.known.insert(key, reg);
        reg
    }

    /// What an accumulator stands for: squared deviations become a variance, integers that stood for bool go back.
    fn finished(&mut self, id: NodeId, acc: Reg) -> Reg {
        let node = self.graph().node(id);
        match &node.op {
            Op::Composite(Composite::Variance { axes, ddof, .. }) => {
                let shape = &self.graph().ty(node.operands[0]).shape;
                let count = Dim::product(axes.iter().map(|&a| &shape[a])).sub(&Dim::constant(*ddof));
                let count = self.size(&count);
                let count = self.program.push(Instr::Cast(DType::F32, count));
                self.program.push(Instr::Binary(BinaryOp::Div, acc, count))
            }
            Op::Reduce { .. } if node.ty.dtype == DType::Bool => self.program.push(Instr::Cast(DType::Bool, acc)),
            _ => acc,
        }
    }

    fn load(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        let index = self.linear(coords, &self.graph().ty(id).shape);
        let buffer = self.tables.buffer(id);
        self.program.push(Instr::Load { buffer, index })
    }

    /// Operand `o` read at the place of a pointwise result: aligned at the last axis, extents of 1 stay at 0.
    fn aligned(&mut self, o: NodeId, coords: &[Reg]) -> Reg {
        let shape = &self.graph().ty(o).shape;
        let own = &coords[coords.len() - shape.len()..];
        let own: Vec<Reg> =
            own.iter().zip(shape).map(|(&c, d)| if d.is(1) { self.program.int(0) } else { c }).collect();
        self.value(o, &own)
    }

    fn compute(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        let node = self.graph().node(id);
        match node.op.class() {
            Class::Leaf => self.leaf(id, coords),
            Class::Pointwise => self.pointwise(id, coords),
            Class::Move => self.moved(id, coords),
            Class::Reduce | Class::Contract | Class::Scatter | Class::Index | Class::Composite => {
                unreachable!("the partition stores every anchor or hands it over as an accumulator")
            }
        }
    }

    fn literal(&mut self, value: Scalar, dtype: DType) -> Reg {
        self.program.push(match value {
            Scalar::F(x) => Instr::Float((x as f32).to_bits()),
            Scalar::I(x) if dtype == DType::Bool => Instr::Bool(x != 0),
            Scalar::I(x) => Instr::Int(x),
        })
    }

    fn leaf(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        let node = self.graph().node(id);
        let dtype = node.ty.dtype;
        match &node.op {
            Op::Const { values, .. } => match values.as_slice() {
                [one] => self.literal(*one, dtype),
                list => {
                    let index = self.linear(coords, &node.ty.shape);
                    self.table(list, 0, index, dtype)
                }
            },
            Op::Iota { axis, .. } => self.cast(coords[*axis], dtype, DType::I64),
            Op::SizeOf { size, .. } => {
                let reg = self.size(size);
                self.cast(reg, dtype, DType::I64)
            }
            _ => unreachable!("inputs are stored"),
        }
    }

    /// A list of literals as a balanced tree of selects on the index.
    fn table(&mut self, list: &[Scalar], first: usize, index: Reg, dtype: DType) -> Reg {
        if let [one] = list {
            return self.literal(*one, dtype);
        }
        let (low, high) = list.split_at(list.len() / 2);
        let middle = self.program.int((first + low.len()) as i64);
        let a = self.table(low, first, index, dtype);
        let b = self.table(high, first + low.len(), index, dtype);
        let below = self.program.push(Instr::Binary(BinaryOp::Lt, index, middle));
        self.program.push(Instr::Select(below, a, b))
    }

    fn cast(&mut self, reg: Reg, to: DType, from: DType) -> Reg {
        if to == from || (to.is_float() && from.is_float()) || (to == DType::I64 && from.is_int()) {
            return reg;
        }
        self.program.push(Instr::Cast(to, reg))
    }

    /// Brings an integer result back into the range of its dtype.
    fn narrow(&mut self, reg: Reg, dtype: DType) -> Reg {
        match dtype {
            DType::I32 | DType::U32 | DType::U8 => self.program.push(Instr::Cast(dtype, reg)),
            DType::I64 | DType::F32 | DType::BF16 | DType::F16 | DType::Bool => reg,
        }
    }

    fn pointwise(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        let node = self.graph().node(id);
        let operands: Vec<Reg> = node.operands.iter().map(|&o| self.aligned(o, coords)).collect();
        let dtype_of = |i: usize| self.tables.graph.ty(node.operands[i]).dtype;
        match &node.op {
            Op::Unary(op) => {
                let y = self.program.push(Instr::Unary(*op, operands[0]));
                let wraps = matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not);
                if wraps { self.narrow(y, node.ty.dtype) } else { y }
            }
            Op::Binary(op) => {
                let dtype = dtype_of(0);
                let (mut x, mut y) = (operands[0], operands[1]);
                if dtype == DType::Bool && op.is_comparison() {
                    x = self.program.push(Instr::Cast(DType::I32, x));
                    y = self.program.push(Instr::Cast(DType::I32, y));
                }
                let z = self.program.push(Instr::Binary(*op, x, y));
                let wraps = matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div);
                if wraps && !op.is_comparison() { self.narrow(z, dtype) } else { z }
            }
            Op::Select => self.program.push(Instr::Select(operands[0], operands[1], operands[2])),
            Op::Cast { to } => {
                let from = dtype_of(0);
                self.cast(operands[0], *to, from)
            }
            _ => unreachable!("the class of the op is pointwise"),
        }
    }

    fn clamp(&mut self, c: Reg, extent: &Dim) -> Reg {
        let last = self.size(&extent.sub(&Dim::constant(1)));
        let zero = self.program.int(0);
        let low = self.program.push(Instr::Binary(BinaryOp::Max, c, zero));
        self.program.push(Instr::Binary(BinaryOp::Min, low, last))
    }

    fn moved(&mut self, id: NodeId, coords: &[Reg]) -> Reg {
        let node = self.graph().node(id);
        let x = node.operands[0];
        let from = &self.graph().ty(x).shape;
        let own: Vec<Reg> = match &node.op {
            Op::Reshape { shape } => self.reshaped(coords, shape, from),
            Op::Transpose { perm } => {
                let mut own = vec![Reg(0); perm.len()];
                for (i, &p) in perm.iter().enumerate() {
                    own[p] = coords[i];
                }
                own
            }
            Op::Broadcast { .. } => return self.aligned(x, coords),
            Op::Slice { starts, strides, .. } => {
                let mut own = Vec::with_capacity(coords.len());
                for (i, &c) in coords.iter().enumerate() {
                    let stride = self.program.int(strides[i]);
                    let start = self.size(&starts[i]);
                    let scaled = self.int_op(BinaryOp::Mul, c, stride);
                    own.push(self.int_op(BinaryOp::Add, scaled, start));
                }
                own
            }
            Op::Reverse { axes } => {
                let mut own = coords.to_vec();
                for &a in axes {
                    let last = self.size(&from[a].sub(&Dim::constant(1)));
                    own[a] = self.int_op(BinaryOp::Sub, last, coords[a]);
                }
                own
            }
            Op::Window { axis, stride, dilation, .. } => {
                let (s, d) = (self.program.int(*stride), self.program.int(*dilation));
                let a = self.int_op(BinaryOp::Mul, coords[*axis], s);
                let b = self.int_op(BinaryOp::Mul, coords[axis + 1], d);
                let at = self.int_op(BinaryOp::Add, a, b);
                [&coords[..*axis], &[at], &coords[axis + 2..]].concat()
            }
            Op::Gather { axis, batch } => {
                let index = node.operands[1];
                let inner = self.graph().ty(index).rank() - batch;
                let at = [&coords[..*batch], &coords[*axis..axis + inner]].concat();
                let row = self.value(index, &at);
                let row = self.clamp(row, &from[*axis]);
                [&coords[..*axis], &[row], &coords[axis + inner..]].concat()
            }
            Op::Concat { axis } => return self.concat(id, coords, *axis),
            Op::Pad { low, value, .. } => return self.pad(x, coords, low, *value),
            _ => unreachable!("the class of the op is move"),
        };
        self.value(x, &own)
    }

    /// Coordinates in `from` of element `coords` of the reshaped value `to`; runs of equal products map on their own.
    fn reshaped(&mut self, coords: &[Reg], to: &[Dim], from: &[Dim]) -> Vec<Reg> {
        let mut own = Vec::with_capacity(from.len());
        let (mut i, mut j) = (0, 0);
        while i < to.len() || j < from.len() {
            let (i0, j0) = (i, j);
            let (mut a, mut b) = (Dim::constant(1), Dim::constant(1));
            // Grow both runs until their products agree; the whole shapes agree, so this ends.
            loop {
                if a == b && (i > i0 || j > j0) {
                    break;
                }
                let behind = match (a.as_const(), b.as_const()) {
                    (Some(x), Some(y)) => x <= y,
                    _ => b.div_exact(&a).is_some() || j >= from.len(),
                };
                if (behind && i < to.len()) || j >= from.len() {
                    if i >= to.len() {
                        break;
                    }
                    a = a.mul(&to[i]);
                    i += 1;
                } else {
                    b = b.mul(&from[j]);
                    j += 1;
                }
            }
            if i - i0 == 1 && j - j0 == 1 {
                own.push(coords[i0]);
            } else {
                let index = self.linear(&coords[i0..i], &to[i0..i]);
                own.extend(self.unravel(index, &from[j0..j]));
            }
        }
        own
    }

    fn concat(&mut self, id: NodeId, coords: &[Reg], axis: usize) -> Reg {
        let node = self.graph().node(id);
        let mut start = Dim::constant(0);
        let mut result: Option<Reg> = None;
        for &part in &node.operands {
            let extent = self.graph().ty(part).shape[axis].clone();
            let first = self.size(&start);
            let local = self.int_op(BinaryOp::Sub, coords[axis], first);
            let local = self.clamp(local, &extent);
            let mut own = coords.to_vec();
            own[axis] = local;
            let value = self.value(part, &own);
            result = Some(match result {
                None => value,
                Some(before) => {
                    let here = self.program.push(Instr::Binary(BinaryOp::Ge, coords[axis], first));
                    self.program.push(Instr::Select(here, value, before))
                }
            });
            start = start.add(&extent);
        }
        result.expect("a concat has an operand")
    }

    fn pad(&mut self, x: NodeId, coords: &[Reg], low: &[Dim], fill: Scalar) -> Reg {
        let ty = self.graph().ty(x);
        let mut inside: Option<Reg> = None;
        let mut own = Vec::with_capacity(coords.len());
        for (i, &c) in coords.iter().enumerate() {
            let first = self.size(&low[i]);
            let local = self.int_op(BinaryOp::Sub, c, first);
            let clamped = self.clamp(local, &ty.shape[i]);
            let here = self.program.push(Instr::Binary(BinaryOp::Eq, local, clamped));
            inside = Some(match inside {
                None => here,
                Some(before) => self.program.push(Instr::Binary(BinaryOp::And, before, here)),
            });
            own.push(clamped);
        }
        let value = self.value(x, &own);
        let Some(inside) = inside else { return value };
        let fill = self.literal(fill, ty.dtype);
        self.program.push(Instr::Select(inside, value, fill))
    }
}
