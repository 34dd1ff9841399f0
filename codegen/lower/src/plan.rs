//! Which buffers, which order? Groups become steps; states are updated in place where no later step reads the old value.

use crate::group::{Lowered, lower_copy, lower_group};
use crate::join::{behind, join};
use crate::share::{Item, MAX_PARTS, launches};
use enel_bundle::{Body, Buffer, BufferKind, Call, Desc, Kernel, Piece, Plan, Port, Step};
use enel_ir::{DType, Dim, Graph, InputKind, NodeId, Op, Verified};
use enel_passes::Partition;
use std::collections::HashMap;

/// A plan and the kernels it calls.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Kernels, shared by all plans lowered into this.
    pub kernels: Vec<Kernel>,
    /// One per graph.
    pub plans: Vec<Plan>,
}

/// Why a graph cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// Two plans of one bundle share a name.
    #[error("two graphs of one bundle are named `{0}`")]
    Name(String),
}

/// Lowers `graph`, already divided, and adds its plan and new kernels to `into`.
///
/// # Errors
/// [`LowerError::Name`].
pub fn lower(graph: Verified<'_>, partition: &Partition, into: &mut Compiled) -> Result<(), LowerError> {
    if into.plans.iter().any(|p| p.name == graph.name()) {
        return Err(LowerError::Name(graph.name().to_owned()));
    }
    let mut maker = Maker::new(&graph, partition);
    maker.lower_groups();
    maker.mark_bound();
    maker.assign_buffers();
    maker.emit_steps(&mut into.kernels);
    into.plans.push(maker.plan);
    Ok(())
}

/// One group's kernels: scatters may need their base copied first.
struct Work {
    output: NodeId,
    base_copy: Option<Lowered>,
    kernel: Lowered,
    bound: bool,
    /// The state whose buffer it changes.
    in_place: Option<NodeId>,
    /// Further results its kernel makes, each with the state whose buffer it changes.
    also: Vec<(NodeId, NodeId)>,
}

impl Work {
    /// In the order they run.
    fn kernels(&self) -> impl Iterator<Item = &Lowered> {
        self.base_copy.iter().chain([&self.kernel])
    }

    /// What it makes.
    fn outputs(&self) -> impl Iterator<Item = NodeId> {
        std::iter::once(self.output).chain(self.also.iter().map(|&(output, _)| output))
    }

    /// The states whose buffers it changes.
    fn replaced(&self) -> impl Iterator<Item = NodeId> {
        self.in_place.into_iter().chain(self.also.iter().map(|&(_, state)| state))
    }
}

struct Maker<'g> {
    graph: &'g Graph,
    partition: &'g Partition,
    work: Vec<Work>,
    buffers: HashMap<NodeId, u32>,
    plan: Plan,
    /// State updates that cannot happen in place: from, to.
    late: Vec<(u32, u32)>,
    /// Kernels that fill a state with what reads nothing, once every other step has run.
    fills: Vec<(Lowered, u32)>,
}

impl<'g> Maker<'g> {
    fn new(graph: &'g Graph, partition: &'g Partition) -> Maker<'g> {
        let plan = Plan {
            name: graph.name().to_owned(),
            symbols: graph.symbols.clone(),
            buffers: Vec::new(),
            bind: Vec::new(),
            steps: Vec::new(),
            outputs: Vec::new(),
        };
        Maker { graph, partition, work: Vec::new(), buffers: HashMap::new(), plan, late: Vec::new(), fills: Vec::new() }
    }

    fn lower_groups(&mut self) {
        for group in &self.partition.groups {
            let kernel = lower_group(self.graph, self.partition, group);
            let base_copy = match (&kernel.desc.body, group.anchor) {
                (Body::Scatter(_), Some(anchor)) => {
                    let base = self.graph.node(anchor).operands[0];
                    Some(lower_copy(self.graph, self.partition, base, group.output))
                }
                _ => None,
            };
            self.work.push(Work {
                output: group.output,
                base_copy,
                kernel,
                bound: group.bound,
                in_place: None,
                also: vec![],
            });
        }
    }

    /// A group runs at binding when it reads only weights and values computed at binding, and is no output.
    fn mark_bound(&mut self) {
        let mut bound: Vec<NodeId> = Vec::new();
        for work in &mut self.work {
            let reads = work.kernel.buffers.iter().chain(work.base_copy.iter().flat_map(|c| &c.buffers));
            let ready = reads.filter(|&&b| b != work.output).all(|b| {
                bound.contains(b) || matches!(self.graph.node(*b).op, Op::Input { kind: InputKind::Weight, .. })
            });
            let constant = work.kernel.dynamics.is_empty();
            let is_output = self.graph.outputs().iter().any(|o| o.value == work.output);
            work.bound &= ready && constant && !is_output;
            if work.bound {
                bound.push(work.output);
            }
        }
    }

    fn storage(&self, id: NodeId) -> DType {
        self.partition.storage[id].unwrap_or(self.graph.ty(id).dtype)
    }

    fn add_buffer(&mut self, kind: BufferKind, id: NodeId) -> u32 {
        let dtype = self.storage(id);
        self.plan.buffers.push(Buffer { kind, dtype, shape: self.graph.ty(id).shape.clone() });
        self.plan.buffers.len() as u32 - 1
    }

    fn assign_buffers(&mut self) {
        for (id, name, kind) in self.graph.inputs() {
            let name = name.to_owned();
            let kind = match kind {
                InputKind::Data => BufferKind::Input(name),
                InputKind::Weight => BufferKind::Weight(name),
                InputKind::State => BufferKind::State(name),
            };
            let buffer = self.add_buffer(kind, id);
            self.buffers.insert(id, buffer);
        }
        for at in 0..self.work.len() {
            let id = self.work[at].output;
            let buffer = match (self.state_in_place(at), self.joined(at)) {
                (Some((state, kernel)), _) => {
                    let work = &mut self.work[at];
                    (work.base_copy, work.kernel, work.in_place) = (None, kernel, Some(state));
                    self.buffers[&state]
                }
                (None, Some(pieces)) => self.add_buffer(BufferKind::Joined(pieces), id),
                (None, None) => {
                    let plain = self.graph.outputs().iter().find(|o| o.value == id && o.updates.is_none());
                    let kind = match plain {
                        _ if self.work[at].bound => BufferKind::Bound,
                        Some(output) => BufferKind::Output(output.name.clone()),
                        None => BufferKind::Temp,
                    };
                    self.add_buffer(kind, id)
                }
            };
            self.buffers.insert(id, buffer);
        }
    }

    /// The weights that lie one after the other in the result of work item `at`: there is nothing to run then.
    fn joined(&self, at: usize) -> Option<Vec<Piece>> {
        let Work { output, bound: true, .. } = self.work[at] else { return None };
        let node = self.graph.node(output);
        let Op::Concat { axis: 0 } = node.op else { return None };
        let piece = |id: &NodeId| {
            let Op::Input { name, kind: InputKind::Weight, .. } = &self.graph.node(*id).op else { return None };
            let rows = self.graph.ty(*id).shape[0].as_const()?;
            (self.storage(*id) == self.storage(output)).then(|| Piece { weight: name.clone(), rows })
        };
        node.operands.iter().map(piece).collect()
    }

    /// The state whose buffer work item `at` may change, and the kernel that does: the state is tied to its result, read
    /// by no later step, and by its own points only where each replaces what it read.
    fn state_in_place(&self, at: usize) -> Option<(NodeId, Lowered)> {
        let work = &self.work[at];
        let tie = self.graph.outputs().iter().find(|o| o.value == work.output && o.updates.is_some())?;
        let state = tie.updates?;
        let node = self.graph.node(work.output);
        let same = self.storage(state) == self.storage(work.output);
        let reads = |l: &Lowered| l.buffers.contains(&state);
        let later = self.work[at + 1..].iter().any(|w| w.kernels().any(reads));
        let shown =
            self.graph.outputs().iter().any(|o| o.value == state || (o.value == work.output && o.updates.is_none()));
        if !same || later || shown {
            return None;
        }
        let kernel = match (&work.base_copy, &node.op) {
            // A scatter changes its base; its rows must not come from there.
            (Some(_), Op::Scatter { .. }) if node.operands[0] == state => {
                (!reads(&work.kernel)).then(|| work.kernel.clone())?
            }
            (Some(_), _) => return None,
            (None, _) => work.kernel.replacing(state)?,
        };
        Some((state, kernel))
    }

    fn emit_steps(&mut self, kernels: &mut Vec<Kernel>) {
        let (bound, work): (Vec<Work>, Vec<Work>) = std::mem::take(&mut self.work).into_iter().partition(|w| w.bound);
        for work in bound {
            let joined = matches!(self.plan.buffers[self.buffers[&work.output] as usize].kind, BufferKind::Joined(_));
            let steps = work.kernels().filter(|_| !joined).map(|lowered| self.call(&[lowered], kernels));
            let steps: Vec<Step> = steps.collect();
            self.plan.bind.extend(steps);
        }
        let work = self.updates_joined(work);
        let items: Vec<Item> = (0..work.len()).map(|at| self.item(&work, at)).collect();
        for members in launches(&items) {
            let steps = match members[..] {
                [only] => work[only].kernels().map(|lowered| self.call(&[lowered], kernels)).collect(),
                [..] => {
                    let parts: Vec<&Lowered> = members.iter().map(|at| &work[*at].kernel).collect();
                    let joined = join(&parts);
                    vec![self.call(&joined.iter().collect::<Vec<_>>(), kernels)]
                }
            };
            self.plan.steps.extend(steps);
        }
        for output in self.graph.outputs() {
            let port = self.output(output.name.as_str(), output.value, output.updates, kernels);
            self.plan.outputs.push(Port { name: output.name.clone(), buffer: port });
        }
        for &(from, to) in &self.late {
            self.plan.steps.push(Step::Copy { from, to });
        }
        let fills = std::mem::take(&mut self.fills);
        for together in fills.chunks(if self.partition.share { MAX_PARTS } else { 1 }) {
            let kernel = intern(kernels, together.iter().map(|(fill, _)| fill.desc.clone()).collect());
            let buffers = together.iter().map(|(_, to)| *to).collect();
            let dynamics = together.iter().flat_map(|(fill, _)| fill.dynamics.clone()).collect();
            self.plan.steps.push(Step::Call(Call { kernel, buffers, dynamics }));
        }
    }

    /// Updates of states that follow each other and read the same elements, as one kernel each.
    fn updates_joined(&self, work: Vec<Work>) -> Vec<Work> {
        let mut joined: Vec<Work> = Vec::with_capacity(work.len());
        for next in work {
            let before = joined.last_mut().filter(|last| self.partition.share && last.in_place.is_some());
            let both = before.zip(next.in_place).and_then(|(last, state)| {
                Some((behind(&last.kernel, &next.kernel, &|id| self.buffers[&id])?, last, state))
            });
            match both {
                Some((kernel, last, state)) => {
                    last.kernel = kernel;
                    last.also.push((next.output, state));
                }
                None => joined.push(next),
            }
        }
        joined
    }

    /// Families whose launch is one short pass over their blocks share; long chains, and templates that fill a
    /// multiprocessor with few blocks, stay alone.
    fn item(&self, all: &[Work], at: usize) -> Item {
        let work = &all[at];
        let simple = match &work.kernel.desc.body {
            Body::Map(_) | Body::Reduce(_) | Body::Knn(_) | Body::TopK(_) => true,
            Body::Contract(body) => body.fold.is_none(),
            Body::Attention(_) | Body::AttentionGrad(_) | Body::Fps(_) | Body::Scatter(_) => false,
        };
        let largest: Vec<i64> = self.graph.symbols.iter().map(|symbol| symbol.max).collect();
        let extent = |dim: &Dim| dim.eval(&largest).ok().and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX);
        let shape = &self.graph.ty(work.output).shape;
        let reads = work.kernels().flat_map(|lowered| &lowered.buffers);
        // What is changed in place is changed after its last reader.
        let reads_old = |other: &&Work| {
            work.replaced().any(|state| other.kernels().any(|lowered| lowered.buffers.contains(&state)))
        };
        let readers = all[..at].iter().filter(reads_old).map(|other| other.output.index());
        Item {
            reads: reads
                .filter(|id| work.outputs().all(|own| own != **id))
                .map(|id| id.index())
                .chain(readers)
                .collect(),
            outputs: work.outputs().map(|id| id.index()).collect(),
            can_share: simple && self.partition.share,
            n_elems: shape.iter().map(extent).fold(1, u64::saturating_mul),
        }
    }

    /// The buffer callers find an output in, with a copy step where the value lies elsewhere.
    fn output(&mut self, name: &str, value: NodeId, state: Option<NodeId>, kernels: &mut Vec<Kernel>) -> u32 {
        let have = self.buffers.get(&value).copied();
        if let Some(state) = state {
            let to = self.buffers[&state];
            match have {
                Some(from) if from == to => {}
                // A leaf or another state's value is copied through a temp, after all steps have read the old state.
                Some(from) if self.plan.buffers[from as usize].dtype == self.plan.buffers[to as usize].dtype => {
                    self.late.push((from, to));
                }
                None if self.fill(value, state) => {}
                _ => {
                    let temp = self.copied(BufferKind::Temp, (value, state), kernels);
                    self.late.push((temp, to));
                }
            }
            return to;
        }
        match have {
            Some(b) if self.plan.buffers[b as usize].kind == BufferKind::Output(name.to_owned()) => b,
            _ => self.copied(BufferKind::Output(name.to_owned()), (value, value), kernels),
        }
    }

    /// Fills `state` with `value` if that reads nothing.
    fn fill(&mut self, value: NodeId, state: NodeId) -> bool {
        let lowered = crate::group::lower_view(self.graph, self.partition, value, self.storage(state));
        let reads_nothing = lowered.buffers.is_empty();
        if reads_nothing {
            self.fills.push((lowered, self.buffers[&state]));
        }
        reads_nothing
    }

    /// A new buffer of `like`'s storage filled with `value` by a kernel.
    fn copied(&mut self, kind: BufferKind, (value, like): (NodeId, NodeId), kernels: &mut Vec<Kernel>) -> u32 {
        let dtype = if value == like { self.graph.ty(value).dtype } else { self.storage(like) };
        self.plan.buffers.push(Buffer { kind, dtype, shape: self.graph.ty(value).shape.clone() });
        let to = self.plan.buffers.len() as u32 - 1;
        let mut lowered = crate::group::lower_view(self.graph, self.partition, value, dtype);
        let last = lowered.buffers.len();
        let mut buffers: Vec<u32> = lowered.buffers.iter().map(|b| self.buffers[b]).collect();
        buffers.push(to);
        debug_assert_eq!(last + 1, lowered.desc.buffers.len());
        let kernel = intern(kernels, vec![lowered.desc.clone()]);
        let dynamics = std::mem::take(&mut lowered.dynamics);
        self.plan.steps.push(Step::Call(Call { kernel, buffers, dynamics }));
        to
    }

    fn call(&self, parts: &[&Lowered], kernels: &mut Vec<Kernel>) -> Step {
        let kernel = intern(kernels, parts.iter().map(|part| part.desc.clone()).collect());
        let buffers = parts.iter().flat_map(|part| &part.buffers).map(|b| self.buffers[b]).collect();
        let dynamics = parts.iter().flat_map(|part| &part.dynamics).cloned().collect();
        Step::Call(Call { kernel, buffers, dynamics })
    }
}

/// The kernel of these meanings, added when it is new.
fn intern(kernels: &mut Vec<Kernel>, descs: Vec<Desc>) -> u32 {
    let at = kernels.iter().position(|k| k.descs().eq(&descs)).unwrap_or_else(|| {
        let mut kernel = Kernel::new(String::new(), descs);
        kernel.name = format!("{}_{}", kernel.family(), kernels.len());
        kernels.push(kernel);
        kernels.len() - 1
    });
    at as u32
}
