//! Is a graph well formed? Every fault is reported with its node; what passes is [`Verified`].

use crate::graph::{Graph, NodeId};
use crate::infer::infer;
use crate::ops::{InputKind, Op};
use std::collections::HashSet;
use std::ops::Deref;

/// A graph [`verify`] has accepted: operands are defined before use, types follow the rules, state is used once.
///
/// Nothing else constructs one, so what takes it need not check again.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'g>(&'g Graph);

impl Deref for Verified<'_> {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        self.0
    }
}

/// One fault of a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A rule of an op's row is broken.
    #[error("{node} = {op} breaks C{rule}: {message}")]
    Rule {
        /// Where.
        node: NodeId,
        /// Mnemonic.
        op: String,
        /// Rule number of the op's row, 0 for operand count.
        rule: u8,
        /// Expected and found.
        message: String,
    },
    /// An operand or output names a node that is not defined before it.
    #[error("{node} uses {operand}, which is not defined before it")]
    Undefined {
        /// The user.
        node: NodeId,
        /// What it names.
        operand: NodeId,
    },
    /// The stated type is not the inferred one.
    #[error("{node} is stated as {stated}, inferred {inferred}")]
    Type {
        /// Where.
        node: NodeId,
        /// In the graph.
        stated: String,
        /// By the rules.
        inferred: String,
    },
    /// An extent can be below 1 for some binding.
    #[error("{node} has an extent that can be {low}; extents are at least 1")]
    Extent {
        /// Where.
        node: NodeId,
        /// Smallest possible value.
        low: i64,
    },
    /// A tensor can exceed 2^40 elements.
    #[error("{node} can have more than 2^40 elements")]
    TooLarge {
        /// Where.
        node: NodeId,
    },
    /// Two inputs or two outputs share a name.
    #[error("the name `{0}` is used twice")]
    Name(String),
    /// An output that is not in the graph.
    #[error("output `{name}` names {value}, which does not exist")]
    Output {
        /// Output name.
        name: String,
        /// What it names.
        value: NodeId,
    },
    /// A tie to something that is no state input, to one with another type, or a second tie.
    #[error("output `{name}` cannot update {state}: {why}")]
    Tie {
        /// Output name.
        name: String,
        /// The claimed state.
        state: NodeId,
        /// What is wrong.
        why: &'static str,
    },
    /// The old value of a state is read after its update.
    #[error("{user} reads state {state} after {update} has updated it")]
    StaleState {
        /// The reader.
        user: NodeId,
        /// The state input.
        state: NodeId,
        /// The node that holds the new value.
        update: NodeId,
    },
    /// There is nothing to compute.
    #[error("the graph has no outputs")]
    NoOutputs,
}

/// Largest tensor, in elements; keeps all size arithmetic inside i64.
const MAX_ELEMS: i64 = 1 << 40;

/// Checks every rule and reports every fault.
///
/// # Errors
/// All faults, in node order.
pub fn verify(graph: &Graph) -> Result<Verified<'_>, Vec<VerifyError>> {
    let mut faults = Vec::new();
    for id in graph.ids() {
        node_faults(graph, id, &mut faults);
    }
    name_faults(graph, &mut faults);
    output_faults(graph, &mut faults);
    if faults.is_empty() { Ok(Verified(graph)) } else { Err(faults) }
}

fn node_faults(graph: &Graph, id: NodeId, faults: &mut Vec<VerifyError>) {
    let node = graph.node(id);
    let undefined = node.operands.iter().filter(|o| o.index() >= id.index());
    let before = faults.len();
    faults.extend(undefined.map(|&operand| VerifyError::Undefined { node: id, operand }));
    if faults.len() > before {
        return;
    }
    let types: Vec<_> = node.operands.iter().map(|&o| graph.ty(o)).collect();
    match infer(&node.op, &types, &graph.symbols) {
        Err(f) => faults.push(VerifyError::Rule { node: id, op: node.op.name(), rule: f.rule, message: f.message }),
        Ok(ty) if ty != node.ty => faults.push(VerifyError::Type {
            node: id,
            stated: node.ty.display(&graph.symbols),
            inferred: ty.display(&graph.symbols),
        }),
        Ok(_) => {}
    }
    if let Some(low) = node.ty.shape.iter().map(|d| d.bounds(&graph.symbols).0).find(|&l| l < 1) {
        faults.push(VerifyError::Extent { node: id, low });
    } else if node.ty.elems().bounds(&graph.symbols).1 > MAX_ELEMS {
        faults.push(VerifyError::TooLarge { node: id });
    }
}

fn name_faults(graph: &Graph, faults: &mut Vec<VerifyError>) {
    let mut seen = HashSet::new();
    for (_, name, _) in graph.inputs() {
        if !seen.insert(name) {
            faults.push(VerifyError::Name(name.to_owned()));
        }
    }
    let mut seen = HashSet::new();
    for output in graph.outputs() {
        if !seen.insert(output.name.as_str()) {
            faults.push(VerifyError::Name(output.name.clone()));
        }
    }
    if graph.outputs().is_empty() {
        faults.push(VerifyError::NoOutputs);
    }
}

fn output_faults(graph: &Graph, faults: &mut Vec<VerifyError>) {
    let mut tied = HashSet::new();
    for output in graph.outputs() {
        if output.value.index() >= graph.len() {
            faults.push(VerifyError::Output { name: output.name.clone(), value: output.value });
            continue;
        }
        let Some(state) = output.updates else { continue };
        let tie = |why| VerifyError::Tie { name: output.name.clone(), state, why };
        let is_state =
            state.index() < graph.len() && matches!(graph.node(state).op, Op::Input { kind: InputKind::State, .. });
        if !is_state {
            faults.push(tie("it is no state input"));
        } else if graph.ty(state) != graph.ty(output.value) {
            faults.push(tie("types differ"));
        } else if !tied.insert(state) {
            faults.push(tie("it has another update"));
        } else {
            stale_faults(graph, state, output.value, faults);
        }
    }
}

/// No node after `update` may read `state`; the update itself reads it as its first operand.
fn stale_faults(graph: &Graph, state: NodeId, update: NodeId, faults: &mut Vec<VerifyError>) {
    for user in graph.ids().skip(update.index() + 1) {
        if graph.node(user).operands.contains(&state) {
            faults.push(VerifyError::StaleState { user, state, update });
        }
    }
    if update != state {
        let shown = graph.outputs().iter().filter(|o| o.value == state);
        faults.extend(shown.map(|_| VerifyError::StaleState { user: state, state, update }));
    }
}
