//! Random moves, gathers and scatters: values stay what they are, so facts pass through.

use super::draw::Draw;
use super::fact::Fact;
use enel_ir::{InputKind, NodeId, Op, Scalar, ScatterMode, TensorType};
use enel_types::{DType, Dim, SymId};

impl Draw<'_> {
    /// A move of a node of rank 1 or more.
    pub(crate) fn movement(&mut self) -> Option<NodeId> {
        let x = self.choose(|d, id| d.graph.ty(id).rank() >= 1)?;
        let f = self.fact(x);
        let shape = self.shape(x);
        let rank = shape.len();
        let axis = self.rng.below(rank);
        let op = match self.rng.below(8) {
            0 => Op::Reshape { shape: self.regrouped(shape, axis) },
            1 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(axis, self.rng.below(rank));
                perm.rotate_left(self.rng.below(rank));
                Op::Transpose { perm }
            }
            2 => {
                let mut shape = shape;
                for d in shape.iter_mut().filter(|d| d.is(1)) {
                    *d = self.dim();
                }
                shape.insert(0, self.dim());
                Op::Broadcast { shape }
            }
            3 => self.slice(&shape),
            4 => return self.concat(x, axis),
            5 => return self.pad(x),
            6 => {
                let axes: Vec<usize> = (0..rank).filter(|_| self.rng.one_in(2)).collect();
                Op::Reverse { axes }
            }
            _ => self.window(&shape, axis),
        };
        self.emit(op, &[x], f)
    }

    /// Two neighbouring axes merged, one split, or an axis of extent 1 added.
    fn regrouped(&mut self, mut shape: Vec<Dim>, axis: usize) -> Vec<Dim> {
        let split = [2, 3].into_iter().find_map(|n| {
            let n = Dim::constant(n);
            Some((shape[axis].div_exact(&n).filter(|d| self.min_of(d) >= 1)?, n))
        });
        match (self.rng.below(3), split) {
            (0, Some((outer, inner))) => {
                shape.splice(axis..=axis, [outer, inner]);
            }
            (0 | 1, _) if axis + 1 < shape.len() => {
                let merged = shape[axis].mul(&shape[axis + 1]);
                shape.splice(axis..=axis + 1, [merged]);
            }
            _ => shape.insert(axis, Dim::constant(1)),
        }
        shape
    }

    fn slice(&mut self, shape: &[Dim]) -> Op {
        let (mut starts, mut sizes, mut strides) = (Vec::new(), Vec::new(), Vec::new());
        for extent in shape {
            let least = self.min_of(extent);
            let (start, size, stride) = match self.rng.below(4) {
                // A constant part, from the front or from the end: the latter starts at a symbolic place.
                0 => (Dim::constant(0), Dim::constant(self.rng.between(1, least)), 1),
                1 => {
                    let size = Dim::constant(self.rng.between(1, least));
                    (extent.sub(&size), size, 1)
                }
                // Every second element of a constant stretch.
                2 => (Dim::constant(0), Dim::constant((least + 1) / 2), 2),
                _ => {
                    let start = Dim::constant(i64::from(least > 1 && self.rng.one_in(2)));
                    (start.clone(), extent.sub(&start), 1)
                }
            };
            starts.push(start);
            sizes.push(size);
            strides.push(stride);
        }
        Op::Slice { starts, sizes, strides }
    }

    fn concat(&mut self, x: NodeId, axis: usize) -> Option<NodeId> {
        let y = self.choose(|d, id| {
            let (a, b) = (d.graph.ty(x), d.graph.ty(id));
            let off_axis = |t: &TensorType| (0..t.rank()).filter(|&i| i != axis).map(|i| t.shape[i].clone()).collect();
            let (p, q): (Vec<Dim>, Vec<Dim>) = (off_axis(a), off_axis(b));
            a.dtype == b.dtype && a.rank() == b.rank() && p == q
        })?;
        let fact = self.fact(x).or(self.fact(y));
        self.emit(Op::Concat { axis }, &[x, y], fact)
    }

    fn pad(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.graph.ty(x).rank();
        let [low, high] = [0, 1].map(|_| (0..rank).map(|_| Dim::constant(self.rng.between(0, 2))).collect::<Vec<_>>());
        let (value, fact) = if self.dtype(x).is_float() {
            let v = self.rng.pick(&[0.0, -1.0, 0.5]);
            (Scalar::F(v), Fact::exact(v, v, 1))
        } else {
            let v = self.rng.between(0, 1);
            (Scalar::I(v), Fact::exact(v as f64, v as f64, 0))
        };
        let mut high = high;
        if self.config.symbols && self.rng.one_in(4) {
            high[0] = Dim::sym(SymId(0));
        }
        let fact = self.fact(x).or(fact);
        self.emit(Op::Pad { low, high, value }, &[x], fact)
    }

    fn window(&mut self, shape: &[Dim], axis: usize) -> Op {
        let least = self.min_of(&shape[axis]);
        let dilation = self.rng.between(1, 2);
        let size = self.rng.between(1, (least - 1) / dilation + 1);
        let stride = if shape[axis].as_const().is_some() { self.rng.between(1, 3) } else { 1 };
        Op::Window { axis, size, stride, dilation }
    }

    /// An index of rank 1 or 2 whose first `batch` extents are those of `shape`; values may lie outside any axis.
    fn index(&mut self, shape: &[Dim], batch: usize) -> Option<NodeId> {
        let fits = |d: &Draw<'_>, id| {
            let ty = d.graph.ty(id);
            matches!(ty.dtype, DType::I32 | DType::I64 | DType::U32)
                && (batch..=batch + 2).contains(&ty.rank())
                && ty.shape[..batch] == shape[..batch]
        };
        if let Some(found) = self.choose(fits).filter(|_| self.rng.one_in(2)) {
            return Some(found);
        }
        let mut index = shape[..batch].to_vec();
        index.push(self.dim());
        let dtype = self.rng.pick(&[DType::I32, DType::I32, DType::I64, DType::U32]);
        self.int_input(dtype, index)
    }

    /// Rows of a node at an index.
    pub(crate) fn gather(&mut self) -> Option<NodeId> {
        if !self.config.ints {
            return None;
        }
        let x = self.choose(|d, id| d.graph.ty(id).rank() >= 1)?;
        let shape = self.shape(x);
        let axis = self.rng.below(shape.len());
        let batch = self.rng.below(axis + 1).min(1);
        let index = self.index(&shape, batch)?;
        let fact = self.fact(x);
        self.emit(Op::Gather { axis, batch }, &[x, index], fact)
    }

    /// A node with rows of another written or added.
    pub(crate) fn scatter(&mut self) -> Option<NodeId> {
        if !self.config.ints {
            return None;
        }
        let base = self.choose(|d, id| d.graph.ty(id).rank() >= 1 && d.dtype(id).is_float())?;
        self.scatter_into(base)
    }

    fn scatter_into(&mut self, base: NodeId) -> Option<NodeId> {
        let shape = self.shape(base);
        let axis = self.rng.below(shape.len());
        let batch = self.rng.below(axis + 1).min(1);
        let index = self.index(&shape, batch)?;
        let places = self.shape(index);
        let rows_shape = [&shape[..axis], &places[batch..], &shape[axis + 1..]].concat();
        let rows = if self.dtype(base).is_float() {
            let rows = self.with_shape(&rows_shape, Some(self.dtype(base)))?;
            self.tame(rows, 8.0)?
        } else {
            self.int_input(self.dtype(base), rows_shape)?
        };
        let mode = self.rng.pick(&[ScatterMode::Set, ScatterMode::Add]);
        let n = self.max_of(&Dim::product(&places[batch..]));
        let fact = match mode {
            ScatterMode::Set => self.fact(base).or(self.fact(rows)),
            ScatterMode::Add => self.fact(base).plus(self.fact(rows).sum_of(n)).or(self.fact(base)),
        };
        self.emit(Op::Scatter { axis, batch, mode }, &[base, index, rows], fact)
    }

    /// The next value of a state: rows written, or something added; reads no other state.
    pub(crate) fn update(&mut self, state: NodeId, states: &[NodeId]) -> Option<NodeId> {
        let (dtype, shape) = (self.dtype(state), self.shape(state));
        let kind = InputKind::Data;
        if self.config.ints && !shape.is_empty() && self.rng.one_in(2) {
            let axis = 0;
            let places = vec![self.dim()];
            let rows_shape = [places.as_slice(), &shape[1..]].concat();
            let index = self.input(super::inputs::Fill::Small, kind, TensorType::new(DType::I32, places.clone()))?;
            let rows = self.fill(dtype, rows_shape)?;
            let mode = self.rng.pick(&[ScatterMode::Set, ScatterMode::Add]);
            let n = self.max_of(&places[0]);
            let fact = self.fact(state).plus(self.fact(rows).sum_of(n)).or(self.fact(state)).or(self.fact(rows));
            return self.emit(Op::Scatter { axis, batch: 0, mode }, &[state, index, rows], fact);
        }
        let same = |d: &Draw<'_>, id: NodeId| d.graph.ty(id) == d.graph.ty(state) && !states.contains(&id);
        let other = match self.choose(same) {
            Some(found) => found,
            None => self.fill(dtype, shape)?,
        };
        if dtype == DType::Bool {
            let fact = Fact::full(dtype);
            return self.emit(Op::Binary(enel_types::BinaryOp::Xor), &[state, other], fact);
        }
        let fact = self.fact(state).plus(self.fact(other));
        self.emit(Op::Binary(enel_types::BinaryOp::Add), &[state, other], fact)
    }

    fn fill(&mut self, dtype: DType, shape: Vec<Dim>) -> Option<NodeId> {
        if dtype.is_float() { self.float_input(dtype, shape) } else { self.int_input(dtype, shape) }
    }
}
