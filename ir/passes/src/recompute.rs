//! Which values are worth computing twice? Those that wait long and cost little, until what is alive at once fits.
//!
//! Law: the result computes the same values by the same operations; only lives get shorter. It runs after all rewrites, as
//! the clean-up would merge what it doubles. Positions are those of groups, sizes those at the largest symbol values.
//! **Source** Chen et al. 2016, arXiv:1604.06174, for trading time for memory; the choice is greedy, at the fullest moment.

use crate::partition::{Mode, Partition, partition};
use crate::rebuild::PassError;
use enel_ir::{Class, Composite, DType, Graph, IdMap, InputKind, Node, NodeId, Op, Verified, verify};
use std::collections::{BTreeMap, BTreeSet};

/// Memory that temporaries may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At the largest sizes.
    pub bytes: u64,
}

/// Rounds of choosing; each begins where the last one left the fullest moment.
const MOST_ROUNDS: usize = 64;
/// Arithmetic a GPU does in the time it moves a byte. **Source** an H100's bf16 rate over its memory's, 989 / 3.35.
const FLOPS_PER_BYTE: f64 = 300.0;

/// `graph` with values computed again where they are read late, so that its temporaries fit `memory`, or as near to it as
/// this gets.
///
/// # Errors
/// [`PassError`] only by a defect of this pass.
pub fn recompute(graph: Verified<'_>, mode: Mode, memory: Memory) -> Result<Graph, PassError> {
    let mut current: Graph = (*graph).clone();
    for _ in 0..MOST_ROUNDS {
        match round(&current, mode, memory)? {
            Some(next) => current = next,
            None => break,
        }
    }
    Ok(current)
}

/// The graph with its fullest moment less full, if it is too full and can be: what is computed again wants memory too, so of
/// values that do not help together the cheaper half is tried.
fn round(graph: &Graph, mode: Mode, memory: Memory) -> Result<Option<Graph>, PassError> {
    let verified = checked(graph)?;
    let lives = Lives::new(&verified, &partition(verified, mode, true));
    let (place, before) = lives.peak();
    let Some((after, _)) = lives.groups.get(place).filter(|_| before > memory.bytes) else { return Ok(None) };
    let mut values = lives.choose(place, before - memory.bytes);
    while !values.is_empty() {
        let next = doubled(&verified, &lives, &Chosen { after: *after, values: values.iter().copied().collect() })?;
        let verified = checked(&next)?;
        if Lives::new(&verified, &partition(verified, mode, true)).peak().1 < before {
            return Ok(Some(next));
        }
        values.truncate(values.len() / 2);
    }
    Ok(None)
}

fn checked(graph: &Graph) -> Result<Verified<'_>, PassError> {
    verify(graph).map_err(|faults| PassError::Verify { pass: "recompute", faults })
}

/// What is stored, from when to when.
struct Lives<'g> {
    graph: &'g Graph,
    stored: IdMap<bool>,
    /// Groups in order: the stored result, and the stored values it is computed from.
    groups: Vec<(NodeId, Vec<NodeId>)>,
    /// Place of the group that makes a value.
    made: BTreeMap<NodeId, usize>,
    /// Places of the groups that read it, rising.
    read: BTreeMap<NodeId, Vec<usize>>,
    /// Bytes of a temporary; 0 for what lies elsewhere.
    bytes: IdMap<u64>,
}

/// Values that are computed again for every reader behind `after`.
struct Chosen {
    after: NodeId,
    values: BTreeSet<NodeId>,
}

impl<'g> Lives<'g> {
    fn new(graph: &'g Graph, partition: &Partition) -> Lives<'g> {
        let stored = stored(graph, partition);
        let mut bytes = IdMap::filled(graph, 0);
        let mut groups = Vec::with_capacity(partition.groups.len());
        let (mut made, mut read): (BTreeMap<_, _>, BTreeMap<NodeId, Vec<usize>>) = (BTreeMap::new(), BTreeMap::new());
        let largest: Vec<i64> = graph.symbols.iter().map(|symbol| symbol.max).collect();
        for (at, group) in partition.groups.iter().enumerate() {
            let id = group.output;
            let is_output = graph.outputs().iter().any(|o| o.value == id);
            if !is_output && !group.bound {
                let dtype: DType = partition.storage[id].unwrap_or(graph.ty(id).dtype);
                let elems = graph.ty(id).elems().eval(&largest).unwrap_or(i64::MAX).max(0) as u64;
                bytes[id] = elems.saturating_mul(dtype.size_bytes() as u64);
            }
            let reads = reads(graph, &stored, id);
            reads.iter().for_each(|value| read.entry(*value).or_default().push(at));
            made.insert(id, at);
            groups.push((id, reads));
        }
        Lives { graph, stored, groups, made, read, bytes }
    }

    fn last_read(&self, id: NodeId) -> usize {
        let own = self.made.get(&id).copied().unwrap_or(0);
        self.read.get(&id).and_then(|list| list.last()).copied().unwrap_or(own)
    }

    /// The place where most is alive, and how much.
    fn peak(&self) -> (usize, u64) {
        let mut change = vec![0i128; self.groups.len() + 1];
        for (id, at) in &self.made {
            change[*at] += i128::from(self.bytes[*id]);
            change[self.last_read(*id) + 1] -= i128::from(self.bytes[*id]);
        }
        let (mut alive, mut best) = (0i128, (0, 0u64));
        for (at, step) in change.iter().take(self.groups.len()).enumerate() {
            alive += step;
            let now = u64::try_from(alive).unwrap_or(0);
            best = if now > best.1 { (at, now) } else { best };
        }
        best
    }

    /// The cheapest values that wait at `at`, as many as free `bytes` there, cheapest first.
    fn choose(&self, at: usize, bytes: u64) -> Vec<NodeId> {
        let mut waiting: Vec<(f64, u64, NodeId)> = self
            .made
            .keys()
            .filter_map(|id| self.gain(*id, at).map(|(cost, gain)| (cost / gain as f64, gain, *id)))
            .collect();
        waiting.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
        let mut freed = 0u64;
        let enough = |(_, gain, _): &(f64, u64, NodeId)| {
            let more = freed < bytes;
            freed = freed.saturating_add(*gain);
            more
        };
        waiting.into_iter().take_while(enough).map(|(_, _, id)| id).collect()
    }

    /// What computing `id` again costs, in bytes moved, and what it frees at `place`; none where it is needed there, cannot be
    /// computed later, or frees nothing.
    fn gain(&self, id: NodeId, place: usize) -> Option<(f64, u64)> {
        let at = *self.made.get(&id)?;
        let readers = self.read.get(&id)?;
        if at >= place || self.bytes[id] == 0 || readers.contains(&place) || self.last_read(id) <= place {
            return None;
        }
        let reads = &self.groups[at].1;
        if reads.iter().any(|value| self.is_changed(*value)) {
            return None;
        }
        // What it is computed from waits instead, unless it waits anyway.
        let kept: u64 =
            reads.iter().filter(|value| self.last_read(**value) < place).map(|value| self.bytes[*value]).sum();
        let gain = self.bytes[id].checked_sub(kept).filter(|gain| *gain > 0)?;
        let moved: u64 = reads.iter().map(|value| self.bytes[*value]).sum();
        Some((self.flops(id) / FLOPS_PER_BYTE + (moved + self.bytes[id]) as f64, gain))
    }

    /// True for a state this graph updates: later it may hold another value.
    fn is_changed(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id).op, Op::Input { kind: InputKind::State, .. })
            && self.graph.outputs().iter().any(|o| o.updates == Some(id))
    }

    /// Arithmetic of the group that makes `id`; sampling is a chain of steps that no rate describes.
    fn flops(&self, id: NodeId) -> f64 {
        let graph = self.graph;
        let largest: Vec<i64> = graph.symbols.iter().map(|symbol| symbol.max).collect();
        let elems = |id: NodeId| graph.ty(id).elems().eval(&largest).unwrap_or(i64::MAX) as f64;
        let mut total = 0.0;
        walk(graph, &self.stored, id, &mut |node, value| {
            total += match &node.op {
                Op::Contract { spec } => {
                    let lhs = graph.ty(node.operands[0]);
                    let summed = spec.summed();
                    let axes = spec.lhs().iter().zip(&lhs.shape).filter(|(letter, _)| summed.contains(letter));
                    let k: f64 = axes.map(|(_, d)| d.eval(&largest).unwrap_or(1) as f64).product();
                    2.0 * elems(value) * k
                }
                Op::Fps { .. } => f64::INFINITY,
                op if op.class() == Class::Index => 64.0 * elems(node.operands[0]) * elems(value),
                // Every token by every row, as if it saw all.
                Op::Composite(
                    Composite::Attention { .. } | Composite::AttentionLse { .. } | Composite::AttentionGrad { .. },
                ) => {
                    let rows = graph.ty(node.operands[1]).shape[0].eval(&largest).unwrap_or(1);
                    4.0 * elems(node.operands[0]) * rows as f64
                }
                _ => node.operands.iter().map(|o| elems(*o)).sum::<f64>(),
            };
        });
        total
    }
}

fn stored(graph: &Graph, partition: &Partition) -> IdMap<bool> {
    let mut stored = IdMap::filled(graph, false);
    for id in graph.ids() {
        stored[id] = partition.storage[id].is_some();
    }
    stored
}

/// Visits the nodes of a group from its result back, up to what is stored.
fn walk(graph: &Graph, stored: &IdMap<bool>, id: NodeId, visit: &mut dyn FnMut(&Node, NodeId)) {
    let (mut seen, mut open) = (BTreeSet::from([id]), vec![id]);
    while let Some(at) = open.pop() {
        let node = graph.node(at);
        visit(node, at);
        open.extend(node.operands.iter().filter(|o| !stored[**o] && seen.insert(**o)));
    }
}

/// The stored values a group is computed from.
fn reads(graph: &Graph, stored: &IdMap<bool>, id: NodeId) -> Vec<NodeId> {
    let mut found = BTreeSet::new();
    walk(graph, stored, id, &mut |node, _| found.extend(node.operands.iter().filter(|o| stored[**o])));
    found.into_iter().collect()
}

/// `graph` in which nodes behind `chosen.after` read doubles of the chosen values.
fn doubled(graph: &Graph, lives: &Lives<'_>, chosen: &Chosen) -> Result<Graph, PassError> {
    let mut maker = Maker {
        graph,
        stored: &lives.stored,
        values: &chosen.values,
        new: Graph::new(graph.name(), graph.symbols.clone()),
        moved: Vec::with_capacity(graph.len()),
        doubles: BTreeMap::new(),
        reaches: BTreeMap::new(),
    };
    for id in graph.ids() {
        let node = graph.node(id);
        let operands =
            node.operands.iter().map(|&o| if id > chosen.after { maker.late(o) } else { Ok(maker.moved[o.index()]) });
        let operands: Vec<NodeId> = operands.collect::<Result<_, _>>()?;
        let moved = maker.push(id, &operands)?;
        maker.moved.push(moved);
    }
    let Maker { mut new, moved, .. } = maker;
    for output in graph.outputs() {
        let value = moved[output.value.index()];
        match output.updates {
            None => new.output(&output.name, value),
            Some(state) => new.output_state(&output.name, value, moved[state.index()]),
        }
    }
    Ok(new)
}

struct Maker<'g> {
    graph: &'g Graph,
    stored: &'g IdMap<bool>,
    values: &'g BTreeSet<NodeId>,
    new: Graph,
    moved: Vec<NodeId>,
    doubles: BTreeMap<NodeId, NodeId>,
    /// Whether an unstored value is computed from a chosen one.
    reaches: BTreeMap<NodeId, bool>,
}

impl Maker<'_> {
    fn push(&mut self, id: NodeId, operands: &[NodeId]) -> Result<NodeId, PassError> {
        let op = self.graph.node(id).op.clone();
        self.new.push(op, operands).map_err(|source| PassError::Build { pass: "recompute", node: id, source })
    }

    /// What a late reader of `id` reads.
    fn late(&mut self, id: NodeId) -> Result<NodeId, PassError> {
        let again = self.values.contains(&id) || self.reaches(id);
        if again { self.double(id) } else { Ok(self.moved[id.index()]) }
    }

    /// `id` once more, with all of its group that is not stored.
    fn double(&mut self, id: NodeId) -> Result<NodeId, PassError> {
        if let Some(double) = self.doubles.get(&id) {
            return Ok(*double);
        }
        let mut operands = Vec::new();
        for &o in &self.graph.node(id).operands {
            let is_leaf = self.graph.node(o).op.class() == Class::Leaf;
            operands.push(if self.stored[o] || is_leaf { self.late(o)? } else { self.double(o)? });
        }
        let double = self.push(id, &operands)?;
        self.doubles.insert(id, double);
        Ok(double)
    }

    fn reaches(&mut self, id: NodeId) -> bool {
        if self.stored[id] || self.graph.node(id).op.class() == Class::Leaf {
            return false;
        }
        if let Some(known) = self.reaches.get(&id) {
            return *known;
        }
        let operands = &self.graph.node(id).operands;
        let found =
            operands.iter().any(|o| self.values.contains(o)) || operands.clone().iter().any(|o| self.reaches(*o));
        self.reaches.insert(id, found);
        found
    }
}
