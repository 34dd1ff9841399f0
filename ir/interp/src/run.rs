//! How is a program run? Inputs checked, composites expanded, live nodes evaluated in definition order.
//!
//! Law: the dispatch is one arm per op and no wildcard; every arm is one call into the file of the op's class.

use crate::expand::{Expanded, expand};
use crate::index::Unordered;
use crate::tensor::{Tensor, TensorError, Values};
use crate::{contract, index, leaf, moves, pointwise, reduce, scatter};
use enel_ir::{BuildError, Graph, IdMap, Node, NodeId, Op, TensorType, Verified, VerifyError, verify};
use enel_types::{DType, Dim, DimError};
use std::collections::{BTreeMap, BTreeSet};

/// Largest tensor the interpreter holds, in elements: 2 GiB of f64.
pub const MAX_ELEMS: usize = 1 << 28;

/// Where float values are rounded to storage.
#[derive(Clone, Copy, Debug)]
pub enum Rounding<'a> {
    /// Nowhere: f64 throughout.
    None,
    /// After each node with an entry, to that dtype: the values a partitioned program stores.
    At(&'a IdMap<Option<DType>>),
}

/// A program with everything one run of it needs.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The program.
    pub graph: Verified<'a>,
    /// One value per symbol of the graph.
    pub symbols: &'a [i64],
    /// One tensor per input of any kind, by name.
    pub inputs: &'a BTreeMap<String, Tensor>,
    /// Where values round.
    pub rounding: Rounding<'a>,
    /// Nodes whose values the outcome keeps, beside the outputs.
    pub keep: &'a [NodeId],
}

/// What a run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Every named output; for one tied to a state this is the new value, the input stays as it was.
    pub outputs: BTreeMap<String, Tensor>,
    /// Values of the nodes asked for.
    pub kept: BTreeMap<NodeId, Tensor>,
}

/// Why a program could not be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpError {
    /// Symbol values outside their bounds, or a size that does not fit.
    #[error("symbols of the run")]
    Symbols(#[source] DimError),
    /// An input has no tensor.
    #[error("input `{name}` is missing; expected {expected}")]
    Missing {
        /// Name of the input.
        name: String,
        /// Its type with sizes filled in.
        expected: String,
    },
    /// A tensor whose name is no input.
    #[error("`{name}` is no input of the graph; inputs are {inputs}")]
    Extra {
        /// The name given.
        name: String,
        /// The names there are.
        inputs: String,
    },
    /// Wrong dtype or shape.
    #[error("input `{name}` is {got}, expected {expected}")]
    InputType {
        /// Name of the input.
        name: String,
        /// Its type with sizes filled in.
        expected: String,
        /// Type of the tensor given.
        got: String,
    },
    /// A tensor whose parts do not fit together.
    #[error("input `{name}` is no tensor")]
    InputValues {
        /// Name of the input.
        name: String,
        /// What is wrong.
        #[source]
        source: TensorError,
    },
    /// A node that is to be kept does not exist.
    #[error("{0} is to be kept, but the graph has no such node")]
    Keep(NodeId),
    /// A value larger than [`MAX_ELEMS`].
    #[error("a value of {op} has {elems} elements; the interpreter holds {MAX_ELEMS} at most")]
    TooLarge {
        /// Mnemonic of the op.
        op: String,
        /// Elements for these symbol values; saturates.
        elems: usize,
    },
    /// A composite that does not decompose for its operands.
    #[error("the composite {node} does not decompose")]
    Decompose {
        /// Where.
        node: NodeId,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// The graph of primitives breaks a rule the graph of composites keeps.
    #[error("the expanded graph has {count} faults, the first one")]
    Expanded {
        /// Number of faults.
        count: usize,
        /// The first.
        #[source]
        first: VerifyError,
    },
    /// A point that is not a place.
    #[error("{op}: a coordinate of point {point} is NaN")]
    NanPoint {
        /// Mnemonic of the op.
        op: String,
        /// Point, counted over all clouds of the operand.
        point: usize,
    },
    /// Two points at infinity, whose distance is NaN.
    #[error("{op}: the distance of points {first} and {second} is NaN, both are infinite")]
    NanDistance {
        /// Mnemonic of the op.
        op: String,
        /// The chosen point or query, counted over all clouds.
        first: usize,
        /// The other point, counted over all clouds.
        second: usize,
    },
    /// A graph without nodes.
    #[error("the graph is empty")]
    Empty,
}

/// Runs a program once.
///
/// Dead nodes are not evaluated; their inputs are checked all the same.
///
/// # Errors
/// [`InterpError`]: symbols or inputs that do not fit, values too large, NaN geometry.
pub fn run(run: &Run<'_>) -> Result<Outcome, InterpError> {
    run.graph.symbols.check(run.symbols).map_err(InterpError::Symbols)?;
    check_inputs(run)?;
    if let Some(&bad) = run.keep.iter().find(|id| id.index() >= run.graph.len()) {
        return Err(InterpError::Keep(bad));
    }
    let Expanded { graph, map } = expand(&run.graph)?;
    verify(&graph).map_err(expanded_faults)?;
    let mut rounding: IdMap<Option<DType>> = IdMap::filled(&graph, None);
    if let Rounding::At(table) = run.rounding {
        for id in run.graph.ids() {
            rounding[map[id]] = table[id];
        }
    }
    let wanted: BTreeSet<NodeId> =
        graph.outputs().iter().map(|o| o.value).chain(run.keep.iter().map(|&k| map[k])).collect();
    let values = evaluate(run, &graph, &rounding, &wanted)?;
    let value = |id: NodeId| values[&id].clone();
    Ok(Outcome {
        outputs: graph.outputs().iter().map(|o| (o.name.clone(), value(o.value))).collect(),
        kept: run.keep.iter().map(|&k| (k, value(map[k]))).collect(),
    })
}

fn expanded_faults(faults: Vec<VerifyError>) -> InterpError {
    let count = faults.len();
    match faults.into_iter().next() {
        Some(first) => InterpError::Expanded { count, first },
        None => InterpError::Empty,
    }
}

fn check_inputs(run: &Run<'_>) -> Result<(), InterpError> {
    let mut names = Vec::new();
    for (id, name, _) in run.graph.inputs() {
        let ty = run.graph.ty(id);
        let shape = extents(&ty.shape, run.symbols)?;
        let expected = || format!("{}{shape:?}", ty.dtype);
        let Some(tensor) = run.inputs.get(name) else {
            return Err(InterpError::Missing { name: name.to_owned(), expected: expected() });
        };
        if tensor.dtype != ty.dtype || tensor.shape != shape {
            let got = format!("{}{:?}", tensor.dtype, tensor.shape);
            return Err(InterpError::InputType { name: name.to_owned(), expected: expected(), got });
        }
        tensor.check().map_err(|source| InterpError::InputValues { name: name.to_owned(), source })?;
        names.push(name);
    }
    match run.inputs.keys().find(|k| !names.contains(&k.as_str())) {
        Some(name) => Err(InterpError::Extra { name: name.clone(), inputs: names.join(", ") }),
        None => Ok(()),
    }
}

/// Values of `wanted`; all others are dropped after their last use.
fn evaluate(
    run: &Run<'_>,
    graph: &Graph,
    rounding: &IdMap<Option<DType>>,
    wanted: &BTreeSet<NodeId>,
) -> Result<BTreeMap<NodeId, Tensor>, InterpError> {
    let last_use = last_uses(graph, wanted);
    let mut values: BTreeMap<NodeId, Tensor> = BTreeMap::new();
    for id in graph.ids() {
        let Some(_) = last_use[id] else { continue };
        let node = graph.node(id);
        let operands: Vec<&Tensor> = node.operands.iter().map(|o| &values[o]).collect();
        let tensor = node_value(run, node, &operands)?;
        let tensor = match rounding[id] {
            Some(dtype) => tensor.rounded(dtype),
            None => tensor,
        };
        values.insert(id, tensor);
        for &operand in &node.operands {
            if last_use[operand] == Some(id) && !wanted.contains(&operand) {
                values.remove(&operand);
            }
        }
    }
    Ok(values)
}

/// The last live reader of each live node, itself where only the caller reads it; none for dead nodes.
fn last_uses(graph: &Graph, wanted: &BTreeSet<NodeId>) -> IdMap<Option<NodeId>> {
    let mut last: IdMap<Option<NodeId>> = IdMap::filled(graph, None);
    for id in graph.ids().rev() {
        if last[id].is_none() && wanted.contains(&id) {
            last[id] = Some(id);
        }
        if last[id].is_none() {
            continue;
        }
        for &operand in &graph.node(id).operands {
            last[operand] = last[operand].or(Some(id));
        }
    }
    last
}

fn extents(shape: &[Dim], symbols: &[i64]) -> Result<Vec<usize>, InterpError> {
    let one = |d: &Dim| {
        let size = d.eval(symbols).map_err(InterpError::Symbols)?;
        usize::try_from(size).map_err(|_| InterpError::Symbols(DimError::Overflow))
    };
    shape.iter().map(one).collect()
}

fn extent(size: &Dim, symbols: &[i64]) -> Result<usize, InterpError> {
    Ok(extents(std::slice::from_ref(size), symbols)?[0])
}

fn node_value(run: &Run<'_>, node: &Node, operands: &[&Tensor]) -> Result<Tensor, InterpError> {
    let TensorType { dtype, shape } = &node.ty;
    let shape = extents(shape, run.symbols)?;
    let elems = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
    if elems > MAX_ELEMS {
        return Err(InterpError::TooLarge { op: node.op.name(), elems });
    }
    let values = dispatch(run, node, operands, &shape)?;
    Ok(Tensor { dtype: *dtype, shape, values })
}

fn dispatch(run: &Run<'_>, node: &Node, operands: &[&Tensor], shape: &[usize]) -> Result<Values, InterpError> {
    let x = |i: usize| operands[i];
    let size = |d: &Dim| extent(d, run.symbols);
    let unordered = |fault| match fault {
        Unordered::Point(point) => InterpError::NanPoint { op: node.op.name(), point },
        Unordered::Pair(first, second) => InterpError::NanDistance { op: node.op.name(), first, second },
    };
    Ok(match &node.op {
        Op::Input { name, .. } => run.inputs[name].values.clone(),
        Op::Const { values, ty } => leaf::constant(values, ty.dtype, shape),
        Op::Iota { axis, ty } => leaf::iota(*axis, ty.dtype, shape),
        Op::SizeOf { size, dtype } => leaf::size_of(size.eval(run.symbols).map_err(InterpError::Symbols)?, *dtype),
        Op::Unary(op) => pointwise::unary(*op, x(0)),
        Op::Binary(op) => pointwise::binary(*op, x(0), x(1), shape),
        Op::Select => pointwise::select(x(0), x(1), x(2), shape),
        Op::Cast { to } => pointwise::cast(x(0), *to),
        Op::Reshape { .. } => x(0).values.clone(),
        Op::Transpose { perm } => moves::transpose(x(0), perm),
        Op::Broadcast { .. } => moves::broadcast(x(0), shape),
        Op::Slice { starts, strides, .. } => moves::slice(x(0), &extents(starts, run.symbols)?, strides, shape),
        Op::Concat { axis } => moves::concat(operands, *axis, shape),
        Op::Pad { low, value, .. } => moves::pad(x(0), &extents(low, run.symbols)?, *value, shape),
        Op::Reverse { axes } => moves::reverse(x(0), axes),
        Op::Window { axis, stride, dilation, .. } => moves::window(x(0), *axis, [*stride, *dilation], shape),
        Op::Gather { axis, batch } => moves::gather(x(0), x(1), *axis, *batch),
        Op::Scatter { axis, batch, mode } => scatter::scatter(x(0), x(1), x(2), (*axis, *batch, *mode)),
        Op::Reduce { op, axes, .. } => reduce::reduce(*op, x(0), axes),
        Op::Contract { spec } => contract::contract(spec, x(0), x(1)),
        Op::Fps { n } => index::fps(x(0), size(n)?).map_err(unordered)?,
        Op::Knn { k } => index::knn(x(0), x(1), size(k)?).map_err(unordered)?,
        Op::TopK { k, largest } => index::topk(x(0), size(k)?, *largest),
        Op::Composite(_) => unreachable!("expand replaced every composite"),
    })
}
