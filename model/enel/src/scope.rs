//! How do layers get their weights? A graph under construction, a name prefix, and the layers that own weights.
//!
//! Law: a weight is declared once, with the shape the released state dict stores; matrices take the storage dtype,
//! vectors stay f32. What needs another shape is reshaped in the graph, never at loading.

use crate::config::{Bounds, ConfigError};
use crate::tap::Taps;
use crate::train::Adapters;
use enel_ir::{
    BuildError, Composite, DType, Dim, DimError, Graph, InputKind, NodeId, Op, Scalar, TensorType, VerifyError,
};
use std::collections::HashMap;

/// Why a model could not be written as a graph.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The config has no graph.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A run-time extent has impossible bounds.
    #[error(transparent)]
    Extent(#[from] DimError),
    /// A node could not be added.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A weight is asked for twice with different shapes.
    #[error("weight `{name}` is {had}, asked for as {asked}")]
    Weight {
        /// Full name.
        name: String,
        /// Type it was declared with.
        had: String,
        /// Type asked for.
        asked: String,
    },
    /// The graph has no derivative.
    #[error(transparent)]
    Autodiff(#[from] enel_autodiff::AutodiffError),
    /// A rewrite failed.
    #[error(transparent)]
    Pass(#[from] enel_passes::PassError),
    /// The finished graph breaks a rule no single node shows.
    #[error("the finished graph is malformed: {0}")]
    Malformed(VerifyError),
}

type Made = Result<NodeId, ModelError>;

/// A graph under construction.
#[derive(Debug)]
pub struct Scope {
    /// The graph so far.
    pub graph: Graph,
    /// Intermediate values to show.
    pub taps: Taps,
    storage: DType,
    norms: BatchNorms,
    weights: HashMap<String, NodeId>,
    adapters: Option<Adapters>,
    /// Matrices with factors beside them.
    adapted: HashMap<NodeId, Adapted>,
}

/// A matrix `[out, in]` with factors beside it.
#[derive(Clone, Debug)]
struct Adapted {
    factors: [String; 2],
    out: usize,
    inner: usize,
}

/// By which statistics batch normalisation normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNorms {
    /// The running ones, which are weights: inference, and training with frozen normalisation.
    Running,
    /// Those of the call, through which derivatives pass; the running ones are states that follow them.
    Own,
}

/// How much of a call's statistics the running ones take.
///
/// **Source** the default of PyTorch's BatchNorm, which the released code keeps.
const BN_MOMENTUM: f64 = 0.1;

impl Scope {
    /// Continues `graph`; matrices are stored as `bounds` says.
    pub fn new(graph: Graph, bounds: &Bounds, taps: Taps) -> Scope {
        Scope {
            graph,
            taps,
            storage: bounds.storage,
            norms: BatchNorms::Running,
            weights: HashMap::new(),
            adapters: None,
            adapted: HashMap::new(),
        }
    }

    /// Puts factors beside the matrices declared from here on.
    pub fn set_adapters(&mut self, adapters: Option<Adapters>) {
        self.adapters = adapters;
    }

    /// Normalises by these statistics from here on.
    pub fn set_batch_norms(&mut self, norms: BatchNorms) {
        self.norms = norms;
    }

    /// Storage type of matrices and activations.
    pub fn storage(&self) -> DType {
        self.storage
    }

    /// The weight called `name`: declared on first use, the same node afterwards.
    ///
    /// # Errors
    /// [`ModelError::Weight`] when it was declared with another shape.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Made {
        let dtype = if shape.len() > 1 { self.storage } else { DType::F32 };
        let ty = TensorType::new(dtype, shape.iter().map(|&n| dim(n)).collect());
        if let Some(&known) = self.weights.get(name) {
            if *self.graph.ty(known) == ty {
                return Ok(known);
            }
            let symbols = &self.graph.symbols;
            let (had, asked) = (self.graph.ty(known).display(symbols), ty.display(symbols));
            return Err(ModelError::Weight { name: name.to_owned(), had, asked });
        }
        let id = self.graph.input(name, InputKind::Weight, ty)?;
        self.weights.insert(name.to_owned(), id);
        if let (&[out, inner], Some(factors)) = (shape, self.adapters.as_ref().and_then(|a| a.of(name))) {
            self.adapted.insert(id, Adapted { factors, out, inner });
        }
        Ok(id)
    }

    /// An `i32` vector the host gives with every call.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn indices(&mut self, name: &str, len: &Dim) -> Made {
        Ok(self.graph.input(name, InputKind::Data, TensorType::new(DType::I32, vec![len.clone()]))?)
    }

    /// `x` times a matrix `[out, in]` along the last axis, in the storage dtype.
    ///
    /// # Errors
    /// [`ModelError::Build`] when the channels of `x` are not `in`.
    pub fn matmul(&mut self, x: NodeId, matrix: NodeId) -> Made {
        let x = self.stored(x)?;
        let rows = &"abcdefgh"[..self.graph.ty(x).rank().saturating_sub(1).min(8)];
        let spec = format!("{rows}i,oi->{rows}o");
        let y = self.graph.contract(&spec, x, matrix)?;
        match self.adapted.get(&matrix).cloned() {
            None => self.stored(y),
            Some(adapted) => {
                let beside = self.beside(x, &spec, &adapted)?;
                let y = self.graph.add(y, beside)?;
                self.stored(y)
            }
        }
    }

    /// Whether products with `matrix` have an adapter beside them.
    pub(crate) fn is_adapted(&self, matrix: NodeId) -> bool {
        self.adapted.contains_key(&matrix)
    }

    /// `(alpha / rank) B A x`.
    fn beside(&mut self, x: NodeId, spec: &str, adapted: &Adapted) -> Made {
        let Some((rank, scale)) = self.adapters.as_ref().map(|a| (a.rank, a.scale())) else { return Ok(x) };
        let [a, b] = &adapted.factors;
        let a = self.weight(a, &[rank, adapted.inner])?;
        let b = self.weight(b, &[adapted.out, rank])?;
        let low = self.graph.contract(spec, x, a)?;
        let low = self.stored(low)?;
        let y = self.graph.contract(spec, low, b)?;
        let scale = self.graph.splat(Scalar::F(scale), TensorType::new(self.graph.ty(y).dtype, vec![]))?;
        Ok(self.graph.mul(y, scale)?)
    }

    /// A convolution of width 1: the matrix is stored with trailing axes of extent 1.
    ///
    /// # Errors
    /// As [`Scope::matmul`].
    pub fn pointwise_conv(&mut self, x: NodeId, name: &str, stored_shape: &[usize]) -> Made {
        let stored = self.weight(&format!("{name}.weight"), stored_shape)?;
        let matrix = stored_shape.iter().take(2).map(|&n| dim(n)).collect();
        let matrix = self.graph.reshape(stored, matrix)?;
        self.matmul(x, matrix)
    }

    /// Adds the vector called `name.bias` along the last axis.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn add_bias(&mut self, x: NodeId, name: &str, channels: usize) -> Made {
        let bias = self.weight(&format!("{name}.bias"), &[channels])?;
        let y = self.graph.add(x, bias)?;
        self.stored(y)
    }

    /// Batch normalisation of the last axis, by the statistics [`Scope::set_batch_norms`] chose.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn batch_norm(&mut self, x: NodeId, name: &str, channels: usize, eps: f64) -> Made {
        let axis = self.graph.ty(x).rank().saturating_sub(1);
        let mut operands = vec![x];
        for part in ["weight", "bias"] {
            operands.push(self.weight(&format!("{name}.{part}"), &[channels])?);
        }
        match self.norms {
            BatchNorms::Own => operands.extend(self.own_statistics(x, name, channels)?),
            BatchNorms::Running => {
                for part in ["running_mean", "running_var"] {
                    operands.push(self.weight(&format!("{name}.{part}"), &[channels])?);
                }
            }
        }
        Ok(self.graph.composite(Composite::BatchNorm { axis, eps: Scalar::F(eps) }, &operands)?)
    }

    /// Mean and biased variance of each channel; the running ones (the variance unbiased) and the count move on.
    fn own_statistics(&mut self, x: NodeId, name: &str, channels: usize) -> Result<[NodeId; 2], ModelError> {
        let g = &mut self.graph;
        let x = g.cast(x, DType::F32)?;
        let axes: Vec<usize> = (0..g.ty(x).rank().saturating_sub(1)).collect();
        let n = Dim::product(axes.iter().map(|&a| &g.ty(x).shape[a]));
        let mean = g.composite(Composite::Mean { axes: axes.clone(), keep: false }, &[x])?;
        let var = g.composite(Composite::Variance { axes, keep: false, ddof: 0 }, &[x])?;
        let count = g.push(Op::SizeOf { size: n.clone(), dtype: DType::F32 }, &[])?;
        let less = g.push(Op::SizeOf { size: n.sub(&dim(1)), dtype: DType::F32 }, &[])?;
        let unbiased = g.mul(var, count)?;
        let unbiased = g.div(unbiased, less)?;
        for (part, now) in [("running_mean", mean), ("running_var", unbiased)] {
            let name = format!("{name}.{part}");
            let ty = TensorType::new(DType::F32, vec![dim(channels)]);
            let old = g.input(&name, InputKind::State, ty)?;
            let (keep, take) = (g.scalar(1.0 - BN_MOMENTUM)?, g.scalar(BN_MOMENTUM)?);
            let kept = g.mul(old, keep)?;
            let taken = g.mul(now, take)?;
            let new = g.add(kept, taken)?;
            g.output_state(&name, new, old);
        }
        let name = format!("{name}.num_batches_tracked");
        let calls = TensorType::new(DType::I64, vec![]);
        let old = g.input(&name, InputKind::State, calls.clone())?;
        let one = g.splat(Scalar::I(1), calls)?;
        let new = g.add(old, one)?;
        g.output_state(&name, new, old);
        Ok([mean, var])
    }

    /// `max(x, 0)`.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn relu(&mut self, x: NodeId) -> Made {
        Ok(self.graph.composite(Composite::Relu, &[x])?)
    }

    /// `x Phi(x)`, by the error function.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn gelu(&mut self, x: NodeId) -> Made {
        Ok(self.graph.composite(Composite::Gelu { tanh: false }, &[x])?)
    }

    /// `x` in the storage dtype.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn stored(&mut self, x: NodeId) -> Made {
        Ok(self.graph.cast(x, self.storage)?)
    }

    /// Makes every noted tap an output and hands the graph over, with the taps.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] with the first fault the verifier finds.
    pub fn finish(mut self) -> Result<(Graph, Taps), ModelError> {
        for tap in self.taps.list() {
            self.graph.output(&tap.name, tap.value);
        }
        if let Err(faults) = enel_ir::verify(&self.graph)
            && let Some(first) = faults.into_iter().next()
        {
            return Err(ModelError::Malformed(first));
        }
        Ok((self.graph, self.taps))
    }
}

/// A checked width as an extent; configs keep widths below 2^36.
pub(crate) fn dim(n: usize) -> Dim {
    Dim::constant(n as i64)
}
