//! The one place where tests touch the interpreter: a graph and its inputs, a loss, and its slope along every element.

use enel_autodiff::{GRAD, differentiate};
use enel_interp::{Rounding, Run, Tensor, Values, run};
use enel_ir::{DType, Dim, Graph, InputKind, NodeId, ReduceOp, Scalar, Symbols, TensorType, verify};
use std::collections::BTreeMap;

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// Central differences of step h are off by h^2 and by rounding over h: 1e-9 and 1e-11 for values of size 1.
const STEP: f64 = 3e-5;
const TOLERANCE: f64 = 2e-7;

/// SplitMix64: all a test draws, from its seed.
#[derive(Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Of 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn float(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    pub(crate) fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| 1 + self.below(4)).collect()
    }
}

/// Runs a claim for many seeds; the one that fails is printed.
pub(crate) fn for_seeds(count: u64, claim: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in 0..count {
        if let Err(fault) = std::panic::catch_unwind(|| claim(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(fault);
        }
    }
}

/// A graph under construction with a tensor for every input.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) inputs: Tensors,
    pub(crate) draw: Draw,
}

pub(crate) fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|&n| Dim::constant(n as i64)).collect()
}

impl Case {
    pub(crate) fn new(seed: u64) -> Case {
        Case { graph: Graph::new("case", Symbols::default()), inputs: Tensors::new(), draw: Draw::new(seed) }
    }

    fn input(&mut self, dtype: DType, shape: &[usize], values: Values) -> NodeId {
        let name = format!("x{}", self.inputs.len());
        let ty = TensorType::new(dtype, dims(shape));
        self.inputs.insert(name.clone(), Tensor::new(dtype, shape, values).unwrap());
        self.graph.input(&name, InputKind::Data, ty).unwrap()
    }

    /// A float input with the values given.
    pub(crate) fn given(&mut self, shape: &[usize], values: &[f64]) -> NodeId {
        self.input(DType::F32, shape, Values::F(values.to_vec()))
    }

    /// A float input of values between `low` and `high`.
    pub(crate) fn float(&mut self, shape: &[usize], (low, high): (f64, f64)) -> NodeId {
        self.float_of(DType::F32, shape, (low, high))
    }

    pub(crate) fn float_of(&mut self, dtype: DType, shape: &[usize], (low, high): (f64, f64)) -> NodeId {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.draw.float(low, high)).collect();
        self.input(dtype, shape, Values::F(values))
    }

    /// Numbers at least 0.1 apart, in random order: no maximum ties.
    pub(crate) fn distinct(&mut self, shape: &[usize]) -> NodeId {
        let count = shape.iter().product();
        let mut values: Vec<f64> = (0..count).map(|i| 0.1 * i as f64 - 1.0).collect();
        for i in (1..count).rev() {
            let j = self.draw.below(i + 1);
            values.swap(i, j);
        }
        self.given(shape, &values)
    }

    /// Integers of `low..high`.
    pub(crate) fn ints(&mut self, shape: &[usize], (low, high): (i64, i64)) -> NodeId {
        let count = shape.iter().product();
        let values = (0..count).map(|_| low + self.draw.below((high - low) as usize) as i64).collect();
        self.input(DType::I32, shape, Values::I(values))
    }

    /// Truth values.
    pub(crate) fn bools(&mut self, shape: &[usize]) -> NodeId {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.draw.below(2) as i64).collect();
        self.input(DType::Bool, shape, Values::I(values))
    }

    /// Makes a weighted sum of `y` the loss.
    pub(crate) fn close(&mut self, y: NodeId) {
        let g = &mut self.graph;
        let ty = TensorType::new(DType::F32, g.ty(y).shape.clone());
        let count = ty.elems().as_const().unwrap();
        let weights = (0..count).map(|_| Scalar::F(self.draw.float(-1.0, 1.0))).collect();
        let weights = g.push(enel_ir::Op::Const { values: weights, ty }, &[]).unwrap();
        let product = g.mul(y, weights).unwrap();
        let axes: Vec<usize> = (0..g.ty(product).rank()).collect();
        let loss = g.reduce(ReduceOp::Sum, product, &axes, false).unwrap();
        g.output("loss", loss);
    }

    pub(crate) fn derivatives(&self) -> Tensors {
        let derived = differentiate(verify(&self.graph).unwrap(), "loss", &|_| true).unwrap();
        outputs(&derived, &self.inputs)
    }

    /// Compares every derivative of the loss with its central difference.
    pub(crate) fn check(mut self, y: NodeId) {
        self.close(y);
        self.check_all();
    }

    pub(crate) fn check_all(&self) {
        let derived = self.derivatives();
        let floats: Vec<&String> = self.inputs.keys().filter(|n| self.inputs[*n].dtype.is_float()).collect();
        for name in floats {
            let got = &derived[&format!("{GRAD}{name}")];
            assert_eq!((got.dtype, &got.shape), (self.inputs[name].dtype, &self.inputs[name].shape), "{name}");
            for (at, got) in got.to_f64().into_iter().enumerate() {
                let want = (self.moved(name, at, STEP) - self.moved(name, at, -STEP)) / (2.0 * STEP);
                let close = (got - want).abs() <= TOLERANCE * want.abs().max(1.0);
                assert!(close, "{name}[{at}]: {got}, central difference {want}\n{}", self.graph);
            }
        }
    }

    fn moved(&self, name: &str, at: usize, by: f64) -> f64 {
        let mut inputs = self.inputs.clone();
        let Values::F(values) = &mut inputs.get_mut(name).unwrap().values else { panic!("{name} holds no floats") };
        values[at] += by;
        outputs(&self.graph, &inputs)["loss"].to_f64()[0]
    }
}

/// Outputs of a graph without symbols.
pub(crate) fn outputs(graph: &Graph, inputs: &Tensors) -> Tensors {
    let graph = verify(graph).unwrap();
    run(&Run { graph, symbols: &[], inputs, rounding: Rounding::None, keep: &[] }).unwrap().outputs
}
