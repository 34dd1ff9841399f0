//! How does a random graph grow? A pool of nodes with facts; every append goes through [`Draw::emit`].

use super::RandomConfig;
use super::fact::{Fact, MAX_ERR, MAX_MAG};
use super::inputs::{Fill, cloud_fact};
use super::rng::Rng;
use enel_ir::{Graph, InputKind, NodeId, Op, Scalar, TensorType, infer};
use enel_types::{BinaryOp, DType, Dim, SymId, Symbol, Symbols, UnaryOp};

/// A graph under construction.
pub(crate) struct Draw<'c> {
    pub(crate) rng: Rng,
    pub(crate) config: &'c RandomConfig,
    pub(crate) graph: Graph,
    pub(crate) facts: Vec<Fact>,
    /// Point clouds, whose coordinates geometry ops may read: f32[B, N, 3] straight from an input.
    pub(crate) clouds: Vec<NodeId>,
    inputs: usize,
}

impl<'c> Draw<'c> {
    pub(crate) fn new(mut rng: Rng, config: &'c RandomConfig) -> Draw<'c> {
        let mut symbols = Symbols::default();
        if config.symbols {
            let step = rng.pick(&[1, 2]);
            let list = [("B", 1, rng.between(2, 3), 1), ("T", step, step * rng.between(3, 5), step)];
            for (name, min, max, multiple) in list {
                let symbol = Symbol { name: name.to_owned(), min, max, multiple };
                symbols.add(symbol).expect("names differ and bounds are in order");
            }
        }
        let graph = Graph::new("random", symbols);
        Draw { rng, config, graph, facts: Vec::new(), clouds: Vec::new(), inputs: 0 }
    }

    /// Appends a node if the verifier will take it, it is small enough, and its fact keeps the laws.
    pub(crate) fn emit(&mut self, op: Op, operands: &[NodeId], fact: Fact) -> Option<NodeId> {
        let types: Vec<&TensorType> = operands.iter().map(|&o| self.graph.ty(o)).collect();
        let ty = infer(&op, &types, &self.graph.symbols).ok()?;
        let small = ty.shape.iter().all(|d| d.bounds(&self.graph.symbols).0 >= 1)
            && ty.elems().bounds(&self.graph.symbols).1 <= self.config.max_elems;
        let fact = fact.settle(ty.dtype);
        let tame = !ty.dtype.is_float() || (fact.mag() <= MAX_MAG && fact.err <= MAX_ERR);
        if !small || !tame || ty.rank() > 6 {
            return None;
        }
        let id = self.graph.push(op, operands).ok()?;
        self.facts.push(fact);
        Some(id)
    }

    pub(crate) fn fact(&self, id: NodeId) -> Fact {
        self.facts[id.index()]
    }

    pub(crate) fn dtype(&self, id: NodeId) -> DType {
        self.graph.ty(id).dtype
    }

    pub(crate) fn shape(&self, id: NodeId) -> Vec<Dim> {
        self.graph.ty(id).shape.clone()
    }

    pub(crate) fn min_of(&self, d: &Dim) -> i64 {
        d.bounds(&self.graph.symbols).0
    }

    pub(crate) fn max_of(&self, d: &Dim) -> f64 {
        d.bounds(&self.graph.symbols).1 as f64
    }

    /// A node that satisfies `want`, later ones twice as likely.
    pub(crate) fn choose(&mut self, want: impl Fn(&Draw<'_>, NodeId) -> bool) -> Option<NodeId> {
        let list: Vec<NodeId> = self.graph.ids().filter(|&id| want(self, id)).collect();
        if list.is_empty() {
            return None;
        }
        let at = self.rng.below(list.len()).max(self.rng.below(list.len()));
        Some(list[at])
    }

    pub(crate) fn float(&mut self) -> Option<NodeId> {
        self.choose(|d, id| d.dtype(id).is_float())
    }

    /// A float node, or also an integer or bool one.
    pub(crate) fn any(&mut self) -> Option<NodeId> {
        self.choose(|_, _| true)
    }

    pub(crate) fn float_dtype(&mut self) -> DType {
        self.rng.pick(&self.config.floats)
    }

    /// A small extent: constant, or a symbol.
    pub(crate) fn dim(&mut self) -> Dim {
        let n = self.graph.symbols.len();
        if n > 0 && self.rng.below(5) < 2 {
            return Dim::sym(SymId(self.rng.below(n) as u32));
        }
        Dim::constant(self.rng.pick(&[1, 2, 3, 4, 4, 5, 7, 8]))
    }

    /// A new input with values of the given kind.
    pub(crate) fn input(&mut self, fill: Fill, kind: InputKind, ty: TensorType) -> Option<NodeId> {
        let name = format!("x{}.{}", self.inputs, fill.name());
        let fact = fill.fact(ty.dtype);
        let id = self.emit(Op::Input { name, kind, ty }, &[], fact)?;
        // What an input holds is representable: it carries no error.
        self.facts[id.index()] = Fact { err: 0.0, ..fact.settle(self.dtype(id)) };
        self.inputs += 1;
        Some(id)
    }

    /// A new float input, exact or not.
    pub(crate) fn float_input(&mut self, dtype: DType, shape: Vec<Dim>) -> Option<NodeId> {
        let fill = self.rng.pick(&[Fill::Smooth, Fill::Smooth, Fill::Grid]);
        // Weights are bound before symbols are: their extents are constant.
        let constant = shape.iter().all(|d| d.as_const().is_some());
        let drawn = self.rng.pick(&[InputKind::Data, InputKind::Data, InputKind::Weight]);
        let kind = if constant { drawn } else { InputKind::Data };
        self.input(fill, kind, TensorType::new(dtype, shape))
    }

    /// A new integer or bool input.
    pub(crate) fn int_input(&mut self, dtype: DType, shape: Vec<Dim>) -> Option<NodeId> {
        let fill = self.rng.pick(&[Fill::Small, Fill::Small, Fill::Wide]);
        self.input(fill, InputKind::Data, TensorType::new(dtype, shape))
    }

    /// A new point cloud f32[B, N, 3].
    pub(crate) fn cloud(&mut self, batch: Dim, points: Dim) -> Option<NodeId> {
        let fill = self.rng.pick(&[Fill::Lattice, Fill::Cloud]);
        let ty = TensorType::new(DType::F32, vec![batch, points, Dim::constant(3)]);
        let id = self.input(fill, InputKind::Data, ty)?;
        self.facts[id.index()] = cloud_fact(fill);
        self.clouds.push(id);
        Some(id)
    }

    /// The first inputs.
    pub(crate) fn leaves(&mut self) {
        // One element fits every limit, so there is always something to draw from and to return.
        let dtype = self.float_dtype();
        self.scalar(1.0, dtype);
        for _ in 0..3 {
            let shape: Vec<Dim> = (0..self.rng.between(1, 3)).map(|_| self.dim()).collect();
            let dtype = self.float_dtype();
            self.float_input(dtype, shape);
        }
        if self.config.ints {
            let shape = vec![self.dim()];
            self.int_input(DType::I32, shape);
        }
        if self.config.state {
            let shape = vec![self.dim(), self.dim()];
            let dtype = self.float_dtype();
            self.input(Fill::Grid, InputKind::State, TensorType::new(dtype, shape));
        }
    }

    /// A leaf: input, constant, counter, size, or a state.
    pub(crate) fn leaf(&mut self) -> Option<NodeId> {
        let rank = self.rng.between(0, 3);
        let shape: Vec<Dim> = (0..rank).map(|_| self.dim()).collect();
        let ints = [DType::I32, DType::I32, DType::I64, DType::U32, DType::U8, DType::Bool];
        let dtype = if self.config.ints && self.rng.one_in(2) { self.rng.pick(&ints) } else { self.float_dtype() };
        let ty = TensorType::new(dtype, shape);
        match self.rng.below(6) {
            0 => self.constant(ty),
            1 if dtype != DType::Bool && ty.rank() > 0 => {
                let axis = self.rng.below(ty.rank());
                let high = self.max_of(&ty.shape[axis]) - 1.0;
                self.emit(Op::Iota { axis, ty }, &[], Fact::exact(0.0, high, 0))
            }
            2 if dtype != DType::Bool => {
                let size = self.dim().mul(&self.dim());
                let high = self.max_of(&size);
                self.emit(Op::SizeOf { size, dtype }, &[], Fact::exact(0.0, high, 0))
            }
            3 if self.config.state => {
                let fill = if dtype.is_float() { Fill::Smooth } else { Fill::Small };
                self.input(fill, InputKind::State, ty)
            }
            _ if dtype.is_float() => self.float_input(dtype, ty.shape),
            _ => self.int_input(dtype, ty.shape),
        }
    }

    /// One value everywhere, or a list for a constant shape.
    fn constant(&mut self, ty: TensorType) -> Option<NodeId> {
        let count = ty.elems().as_const().filter(|_| self.rng.one_in(2)).unwrap_or(1);
        let quarter = |rng: &mut Rng| rng.between(-8, 8) as f64 / 4.0;
        let values: Vec<Scalar> = (0..count)
            .map(|_| match ty.dtype {
                DType::Bool => Scalar::I(self.rng.between(0, 1)),
                DType::U8 | DType::U32 | DType::I32 | DType::I64 => Scalar::I(self.rng.between(0, 7)),
                DType::F32 | DType::BF16 | DType::F16 => Scalar::F(quarter(&mut self.rng)),
            })
            .collect();
        let fact = if ty.dtype.is_float() { Fact::exact(-2.0, 2.0, 2) } else { Fact::exact(0.0, 7.0, 0) };
        self.emit(Op::Const { values, ty }, &[], fact)
    }

    /// A rank-0 constant.
    pub(crate) fn scalar(&mut self, value: f64, dtype: DType) -> Option<NodeId> {
        let s = (0..=12).find(|&s| (value * f64::from(1u32 << s)).fract() == 0.0);
        let fact = Fact { lo: value, hi: value, grid: s, err: 0.0 };
        let literal = if dtype.is_float() { Scalar::F(value) } else { Scalar::I(value as i64) };
        self.emit(Op::Const { values: vec![literal], ty: TensorType::new(dtype, vec![]) }, &[], fact)
    }

    /// `x`, scaled by a power of two when it can exceed `bound`.
    pub(crate) fn tame(&mut self, x: NodeId, bound: f64) -> Option<NodeId> {
        let mag = self.fact(x).mag();
        if mag <= bound {
            return Some(x);
        }
        let scale = (bound / mag).log2().floor().exp2();
        let factor = self.scalar(scale, self.dtype(x))?;
        let fact = self.fact(x).times(self.fact(factor));
        self.emit(Op::Binary(BinaryOp::Mul), &[x, factor], fact)
    }

    /// A value of 0.5 to 4 that depends on `x`.
    pub(crate) fn positive(&mut self, x: NodeId) -> Option<NodeId> {
        let f = self.fact(x);
        if f.above(0.25) && f.mag() <= 4.0 {
            return Some(x);
        }
        let bounded = self.tame(x, 1.75)?;
        let f = self.fact(bounded);
        let size = if self.config.kinks && self.rng.one_in(2) {
            let fact = Fact { lo: 0.0, hi: f.mag(), ..f };
            self.emit(Op::Unary(UnaryOp::Abs), &[bounded], fact)?
        } else {
            let fact = Fact { lo: 0.0, ..f.times(f) };
            self.emit(Op::Binary(BinaryOp::Mul), &[bounded, bounded], fact)?
        };
        let half = self.scalar(0.5, self.dtype(size))?;
        let fact = self.fact(size).plus(self.fact(half));
        self.emit(Op::Binary(BinaryOp::Add), &[size, half], fact)
    }

    /// A float of this shape: one there is, or a new input, with something of the graph added where shapes allow.
    pub(crate) fn with_shape(&mut self, shape: &[Dim], dtype: Option<DType>) -> Option<NodeId> {
        let fits = |d: &Draw<'_>, id| {
            d.dtype(id).is_float() && d.graph.ty(id).shape == shape && dtype.is_none_or(|t| t == d.dtype(id))
        };
        if let Some(found) = self.choose(fits).filter(|_| self.rng.below(4) > 0) {
            return Some(found);
        }
        let new = match dtype {
            Some(dtype) => dtype,
            None => self.float_dtype(),
        };
        let x = self.float_input(new, shape.to_vec())?;
        let suffix = |d: &Draw<'_>, id| {
            let other = &d.graph.ty(id).shape;
            d.dtype(id) == new && id != x && shape.ends_with(other) && d.fact(id).mag() <= 64.0
        };
        let Some(y) = self.choose(suffix) else { return Some(x) };
        let fact = self.fact(x).plus(self.fact(y));
        self.emit(Op::Binary(BinaryOp::Add), &[x, y], fact).or(Some(x))
    }

    /// Ties states, names outputs, and draws bindings.
    pub(crate) fn finish(mut self) -> (Graph, Vec<Vec<i64>>) {
        let states: Vec<NodeId> =
            self.graph.inputs().filter(|(_, _, k)| *k == InputKind::State).map(|(id, ..)| id).collect();
        let plain: Vec<NodeId> = self.graph.ids().filter(|id| !states.contains(id)).collect();
        // Updates come last: nothing may read a state after its update, and no update reads another state.
        let updates: Vec<(NodeId, NodeId)> =
            states.iter().filter_map(|&s| Some((self.update(s, &states)?, s))).collect();
        let counts = self.graph.use_counts();
        let ends: Vec<NodeId> = plain.iter().copied().filter(|&id| counts[id] == 0).collect();
        for i in 0..self.rng.between(1, 4) {
            let inner = ends.is_empty() || self.rng.one_in(5);
            let value = if inner { self.rng.pick(&plain) } else { self.rng.pick(&ends) };
            self.graph.output(&format!("y{i}"), value);
        }
        for (value, state) in updates {
            let name = format!("s{}", state.index());
            self.graph.output_state(&name, value, state);
        }
        let bindings = self.bindings();
        (self.graph, bindings)
    }

    fn bindings(&mut self) -> Vec<Vec<i64>> {
        let list: Vec<Symbol> = self.graph.symbols.iter().cloned().collect();
        let least = list.iter().map(|s| s.min).collect();
        let most = list.iter().map(|s| s.max / s.multiple * s.multiple).collect();
        let inner =
            list.iter().map(|s| self.rng.between(s.min / s.multiple, s.max / s.multiple) * s.multiple).collect();
        let mut all: Vec<Vec<i64>> = vec![least, most, inner];
        all.sort();
        all.dedup();
        all
    }
}
