//! How does a loss depend on what a program is given? Reverse mode, from a verified graph to a new graph.
//!
//! Law: every op has one arm, written in IR; integers carry no derivative, a dead branch gives no nodes, and where an op
//! has no derivative its arm says which of the one-sided ones it takes. Read next: `vjp` (what an arm may do), then the
//! arms by class: `pointwise`, `moves`, `rows` (gather and scatter), `sums` (reduce and contract), `composite`.
//! **Source** Griewank and Walther, Evaluating Derivatives, 2nd ed. 2008, section 3.2 (the reverse mode).

mod attention;
mod composite;
mod entropy;
mod moves;
mod norms;
mod pointwise;
mod rows;
mod sums;
mod vjp;

use enel_ir::{
    BuildError, Composite, Graph, IdMap, NodeId, Op, Scalar, TensorType, Verified, VerifyError, decompose, verify,
};
use std::collections::BTreeMap;
use vjp::{Operand, Vjp, push_vjps};

/// How the names of derivatives begin; the name of the input follows.
pub const GRAD: &str = "grad.";

/// Why a graph has no derivative.
#[derive(Debug, thiserror::Error)]
pub enum AutodiffError {
    /// The loss is no output.
    #[error("`{name}` is no output of the graph; outputs are {outputs}")]
    NoLoss {
        /// Name asked for.
        name: String,
        /// The names there are.
        outputs: String,
    },
    /// The loss is no single float.
    #[error("the loss `{name}` is {got}, expected one float")]
    LossType {
        /// Name of the output.
        name: String,
        /// Its type.
        got: String,
    },
    /// No float input has a name that was chosen.
    #[error("no float input was chosen; float inputs are {inputs}")]
    NothingChosen {
        /// Names of all float inputs.
        inputs: String,
    },
    /// The loss does not depend on chosen inputs: a frozen or detached part was asked to learn.
    #[error("the loss does not depend on {}", names.join(", "))]
    Unreached {
        /// The inputs.
        names: Vec<String>,
    },
    /// An arm wanted a node that breaks a rule: a defect of this crate.
    #[error("the derivative of {op} at {node}")]
    Build {
        /// Mnemonic.
        op: String,
        /// Node of the given graph, or of its copy once the arms run.
        node: NodeId,
        /// What is broken.
        #[source]
        source: BuildError,
    },
    /// The result is no valid graph: a defect of this crate.
    #[error("the derivative has {count} faults, the first one")]
    Verify {
        /// Number of faults.
        count: usize,
        /// The first.
        #[source]
        first: VerifyError,
    },
}

/// `graph` with an output `grad.NAME` more for every float input whose name `wrt` accepts: the derivative of the output
/// called `loss`, of the input's type.
///
/// All other outputs stay, so one run gives the loss and its derivatives. An accepted input the loss does not depend on
/// is an error and not zeros: asking a weight to learn that cannot is a mistake more often than a wish.
///
/// # Errors
/// [`AutodiffError`]: a loss that is no float scalar, a choice without inputs, or inputs the loss does not reach.
pub fn differentiate(graph: Verified<'_>, loss: &str, wrt: &dyn Fn(&str) -> bool) -> Result<Graph, AutodiffError> {
    let at = loss_index(&graph, loss)?;
    let Copied { graph: mut new, snapshots } = copy(&graph)?;
    let loss_value = new.outputs()[at].value;
    let chosen = chosen_inputs(&new, wrt)?;
    let needed = dependents(&new, &chosen);
    let cotangents = backward(&mut new, loss_value, &needed, &snapshots)?;
    let mut unreached = Vec::new();
    for (id, name) in chosen {
        match cotangents[id.index()] {
            Some(cotangent) => new.output(&format!("{GRAD}{name}"), cotangent),
            None => unreached.push(name),
        }
    }
    if !unreached.is_empty() {
        return Err(AutodiffError::Unreached { names: unreached });
    }
    match verify(&new) {
        Ok(_) => Ok(new),
        Err(faults) => match faults.first().cloned() {
            Some(first) => Err(AutodiffError::Verify { count: faults.len(), first }),
            None => Ok(new),
        },
    }
}

fn loss_index(graph: &Graph, loss: &str) -> Result<usize, AutodiffError> {
    let list = || graph.outputs().iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(at) = graph.outputs().iter().position(|o| o.name == loss) else {
        return Err(AutodiffError::NoLoss { name: loss.to_owned(), outputs: list() });
    };
    let ty = graph.ty(graph.outputs()[at].value);
    if !ty.dtype.is_float() || !ty.shape.iter().all(|d| d.is(1)) {
        return Err(AutodiffError::LossType { name: loss.to_owned(), got: ty.display(&graph.symbols) });
    }
    Ok(at)
}

/// A program, and what the way back reads in place of each updated state.
struct Copied {
    graph: Graph,
    snapshots: BTreeMap<NodeId, NodeId>,
}

/// The same program; composites without an arm of their own are replaced by their meaning.
///
/// The way back comes after every update, where the old value of a state must not be read: it reads a snapshot, which is
/// dead, and dropped by the clean-up, where nothing reads it.
fn copy(graph: &Graph) -> Result<Copied, AutodiffError> {
    let mut new = Graph::new(graph.name(), graph.symbols.clone());
    let mut ids: Vec<NodeId> = Vec::with_capacity(graph.len());
    let mut snapshots = BTreeMap::new();
    let updated: Vec<NodeId> = graph.outputs().iter().filter_map(|o| o.updates).collect();
    for id in graph.ids() {
        let node = graph.node(id);
        let operands: Vec<NodeId> = node.operands.iter().map(|o| ids[o.index()]).collect();
        let built = match &node.op {
            Op::Composite(c @ (Composite::AttentionGrad { .. } | Composite::AttentionLse { .. })) => {
                decompose(&mut new, c, &operands)
            }
            op => new.push(op.clone(), &operands),
        };
        let failed = |source| AutodiffError::Build { op: node.op.name(), node: id, source };
        let built = built.map_err(failed)?;
        if updated.contains(&id) {
            let same = Op::Reshape { shape: node.ty.shape.clone() };
            snapshots.insert(built, new.push(same, &[built]).map_err(failed)?);
        }
        ids.push(built);
    }
    for output in graph.outputs() {
        let value = ids[output.value.index()];
        match output.updates {
            None => new.output(&output.name, value),
            Some(state) => new.output_state(&output.name, value, ids[state.index()]),
        }
    }
    Ok(Copied { graph: new, snapshots })
}

fn chosen_inputs(graph: &Graph, wrt: &dyn Fn(&str) -> bool) -> Result<Vec<(NodeId, String)>, AutodiffError> {
    let floats = graph.inputs().filter(|(id, ..)| graph.ty(*id).dtype.is_float());
    let names: Vec<(NodeId, String)> = floats.map(|(id, name, _)| (id, name.to_owned())).collect();
    let chosen: Vec<(NodeId, String)> = names.iter().filter(|(_, name)| wrt(name)).cloned().collect();
    if chosen.is_empty() {
        let inputs = names.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ");
        return Err(AutodiffError::NothingChosen { inputs });
    }
    Ok(chosen)
}

/// Nodes through which the chosen inputs reach others: floats with such an operand.
fn dependents(graph: &Graph, chosen: &[(NodeId, String)]) -> IdMap<bool> {
    let mut needed = IdMap::filled(graph, false);
    for (id, _) in chosen {
        needed[*id] = true;
    }
    for id in graph.ids() {
        let depends = graph.node(id).operands.iter().any(|&o| needed[o]);
        if depends && graph.ty(id).dtype.is_float() {
            needed[id] = true;
        }
    }
    needed
}

/// The derivative of `loss` by every needed node it reaches, by index of the node.
fn backward(
    graph: &mut Graph,
    loss: NodeId,
    needed: &IdMap<bool>,
    snapshots: &BTreeMap<NodeId, NodeId>,
) -> Result<Vec<Option<NodeId>>, AutodiffError> {
    let n_forward = graph.len();
    let mut cotangents: Vec<Option<NodeId>> = vec![None; n_forward];
    let forward: Vec<NodeId> = graph.ids().collect();
    if !needed[loss] {
        return Ok(cotangents);
    }
    let failed = |op: &Op, node, source| AutodiffError::Build { op: op.name(), node, source };
    let one = TensorType::new(graph.ty(loss).dtype, graph.ty(loss).shape.clone());
    let one = graph.splat(Scalar::F(1.0), one);
    cotangents[loss.index()] = Some(one.map_err(|source| failed(&graph.node(loss).op, loss, source))?);
    for &id in forward.iter().rev() {
        let Some(dy) = cotangents[id.index()].filter(|_| needed[id]) else { continue };
        let node = graph.node(id).clone();
        let operand = |&id: &NodeId| Operand { id, read: *snapshots.get(&id).unwrap_or(&id), wanted: needed[id] };
        let operands = node.operands.iter().map(operand).collect();
        let mut vjp = Vjp::new(graph, (id, dy), operands);
        push_vjps(&mut vjp).map_err(|source| failed(&node.op, id, source))?;
        for (operand, cotangent) in vjp.finish() {
            let sum = match cotangents[operand.index()] {
                None => cotangent,
                Some(sum) => graph.add(sum, cotangent).map_err(|source| failed(&node.op, id, source))?,
            };
            cotangents[operand.index()] = Some(sum);
        }
    }
    Ok(cotangents)
}

/// Constants derivatives need: `value` everywhere, of a float type.
fn splat(graph: &mut Graph, value: f64, ty: TensorType) -> Result<NodeId, BuildError> {
    graph.splat(Scalar::F(value), ty)
}
