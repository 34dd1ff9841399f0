//! How is a program held? Nodes in definition order, each with one result, and named outputs.
//!
//! Law: append-only; a node's operands come before it. Read next: `ops` for what nodes do.

use crate::ops::{InputKind, Op};
use enel_types::{DType, Dim, Symbols};
use std::fmt;
use std::ops::{Index, IndexMut};

/// Index of a node in one [`Graph`]. Prints as `%7`, the spelling of the text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Position in definition order.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// One value per node of a graph.
#[derive(Clone, Debug)]
pub struct IdMap<T>(Vec<T>);

impl<T: Clone> IdMap<T> {
    /// A table holding `value` for every node of `graph`.
    pub fn filled(graph: &Graph, value: T) -> IdMap<T> {
        IdMap(vec![value; graph.len()])
    }
}

impl<T> IdMap<T> {
    /// All entries in node order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.0.iter().enumerate().map(|(i, t)| (NodeId(i as u32), t))
    }
}

impl<T> Index<NodeId> for IdMap<T> {
    type Output = T;
    fn index(&self, id: NodeId) -> &T {
        &self.0[id.index()]
    }
}

impl<T> IndexMut<NodeId> for IdMap<T> {
    fn index_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.0[id.index()]
    }
}

/// A literal element: a float, or an integer for integer dtypes and bool.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// Value of a float dtype.
    F(f64),
    /// Value of an integer dtype, or 0 and 1 for bool.
    I(i64),
}

impl Scalar {
    fn key(self) -> (bool, u64) {
        match self {
            Scalar::F(x) => (true, x.to_bits()),
            Scalar::I(x) => (false, x as u64),
        }
    }

    /// The value as f64.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::F(x) => x,
            Scalar::I(x) => x as f64,
        }
    }

    /// True when the kind of literal fits `dtype`.
    pub fn fits(self, dtype: DType) -> bool {
        match self {
            Scalar::F(_) => dtype.is_float(),
            Scalar::I(x) => !dtype.is_float() && dtype.wrap(x) == x,
        }
    }
}

// Bits, not IEEE equality: a NaN literal equals itself, and -0 differs from 0.
impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Scalar {}
impl std::hash::Hash for Scalar {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Storage type and extents of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// How elements are stored.
    pub dtype: DType,
    /// Extent of each axis, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type from constant extents.
    pub fn fixed(dtype: DType, shape: &[i64]) -> TensorType {
        TensorType { dtype, shape: shape.iter().map(|&d| Dim::constant(d)).collect() }
    }

    /// A type from its parts.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elems(&self) -> Dim {
        Dim::product(&self.shape)
    }

    /// Whether its number of elements has few terms, as [`Dim::short_product`] has it; parsing and inference see to it.
    pub fn is_short(&self) -> bool {
        Dim::short_product(&self.shape).is_some()
    }

    /// Prints as `f32[B, 64]`.
    pub fn display(&self, symbols: &Symbols) -> String {
        let dims: Vec<String> = self.shape.iter().map(|d| d.display(symbols).to_string()).collect();
        format!("{}[{}]", self.dtype, dims.join(", "))
    }
}

/// One operation and the type of its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// To which earlier values.
    pub operands: Vec<NodeId>,
    /// Type of the result.
    pub ty: TensorType,
}

/// A named result; `updates` ties it to a state input, whose next value it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name the caller uses.
    pub name: String,
    /// The value.
    pub value: NodeId,
    /// The state input whose buffer the value replaces.
    pub updates: Option<NodeId>,
}

/// A program: symbols, nodes, outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    pub(crate) name: String,
    /// The named dimensions shapes refer to.
    pub symbols: Symbols,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<Output>,
}

impl Graph {
    /// An empty program over `symbols`.
    pub fn new(name: &str, symbols: Symbols) -> Graph {
        Graph { name: name.to_owned(), symbols, nodes: Vec::new(), outputs: Vec::new() }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True without nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node behind an id of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Type of a value.
    pub fn ty(&self, id: NodeId) -> &TensorType {
        &self.nodes[id.index()].ty
    }

    /// All ids in definition order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The results.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// All inputs with name and kind, in definition order.
    pub fn inputs(&self) -> impl Iterator<Item = (NodeId, &str, InputKind)> {
        self.ids().filter_map(|id| match &self.node(id).op {
            Op::Input { name, kind, .. } => Some((id, name.as_str(), *kind)),
            _ => None,
        })
    }

    /// How many operand slots and outputs read each node.
    pub fn use_counts(&self) -> IdMap<usize> {
        let mut counts = IdMap::filled(self, 0);
        for node in &self.nodes {
            for &operand in &node.operands {
                counts[operand] += 1;
            }
        }
        for output in &self.outputs {
            counts[output.value] += 1;
        }
        counts
    }

    /// The nodes that read each node, each once, in definition order.
    pub fn users(&self) -> IdMap<Vec<NodeId>> {
        let mut users: IdMap<Vec<NodeId>> = IdMap::filled(self, Vec::new());
        for id in self.ids() {
            for &operand in &self.node(id).operands {
                if users[operand].last() != Some(&id) {
                    users[operand].push(id);
                }
            }
        }
        users
    }

    /// Appends a node without checking it; `verify` will.
    pub fn push_unchecked(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Names `value` as a result.
    pub fn output(&mut self, name: &str, value: NodeId) {
        self.outputs.push(Output { name: name.to_owned(), value, updates: None });
    }

    /// Names `value` as a result that becomes the next value of the state input `state`.
    pub fn output_state(&mut self, name: &str, value: NodeId, state: NodeId) {
        self.outputs.push(Output { name: name.to_owned(), value, updates: Some(state) });
    }
}
