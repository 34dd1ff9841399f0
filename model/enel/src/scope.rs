//! How do layers get their weights? A graph under construction, a name prefix, and the layers that own weights.
//!
//! Law: a weight is declared once, with the shape the released state dict stores; matrices take the storage dtype,
//! vectors stay f32. What needs another shape is reshaped in the graph, never at loading.

use crate::config::{Bounds, ConfigError};
use crate::tap::Taps;
use enel_ir::{BuildError, Composite, DType, Dim, DimError, Graph, InputKind, NodeId, Scalar, TensorType, VerifyError};
use std::collections::HashMap;

/// Why a model could not be written as a graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    weights: HashMap<String, NodeId>,
}

impl Scope {
    /// Continues `graph`; matrices are stored as `bounds` says.
    pub fn new(graph: Graph, bounds: &Bounds, taps: Taps) -> Scope {
        Scope { graph, taps, storage: bounds.storage, weights: HashMap::new() }
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
        let y = self.graph.contract(&format!("{rows}i,oi->{rows}o"), x, matrix)?;
        self.stored(y)
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

    /// Batch normalisation of the last axis by the running statistics.
    ///
    /// # Errors
    /// [`ModelError::Build`].
    pub fn batch_norm(&mut self, x: NodeId, name: &str, channels: usize, eps: f64) -> Made {
        let axis = self.graph.ty(x).rank().saturating_sub(1);
        let mut operands = vec![x];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            operands.push(self.weight(&format!("{name}.{part}"), &[channels])?);
        }
        Ok(self.graph.composite(Composite::BatchNorm { axis, eps: Scalar::F(eps) }, &operands)?)
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
