//! Which nodes share a kernel? Each group has at most one anchor, with pointwise and move work fused before and after.
//!
//! Law: every node is either stored (a group's result, in its storage dtype) or recomputed inside each group that reads
//! it; a group's result depends on stored values only. Anchors are reductions, contractions, attention, scatters and
//! index ops. Values round to their storage dtype exactly where they are stored.

use enel_ir::{BinaryOp, Class, Composite, DType, Graph, IdMap, InputKind, NodeId, Op, ReduceOp, Verified};

/// Numeric mode of a compiled program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Storage and sums in f32.
    F32,
    /// Storage bf16, sums f32, tensor cores; geometry, statistics and vectors of weights stay f32.
    Bf16,
}

/// One kernel's share of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stored result.
    pub output: NodeId,
    /// The reduction, contraction, ... inside, if any.
    pub anchor: Option<NodeId>,
    /// A reduction over row axes of a contraction's results, fused behind it.
    pub fold: Option<NodeId>,
    /// True when it depends on weights and literals alone, so it runs once per binding.
    pub bound: bool,
}

/// The groups of a graph, in an order that respects dependences.
#[derive(Clone, Debug)]
pub struct Partition {
    /// In execution order.
    pub groups: Vec<Group>,
    /// Storage dtype of stored values, inputs included; `None` for values that are recomputed.
    pub storage: IdMap<Option<DType>>,
    /// Where values round, for the interpreter: `storage`, and operands that enter tensor cores unrounded.
    pub rounding: IdMap<Option<DType>>,
    /// Contractions and attentions whose operands may be rounded to bf16.
    pub low: IdMap<bool>,
    /// True when independent groups may share a launch.
    pub share: bool,
}

/// Work per element above which a value with several readers is stored instead of recomputed. A load counts 1, plain
/// arithmetic 1, a gather 4, a transcendental 8; a store and a load back cost about as much as 48 of these.
const RECOMPUTE_LIMIT: u32 = 48;
/// Work per element above which a value is stored in any case, so that programs stay of bounded length.
const PROGRAM_LIMIT: u32 = 160;
/// Most nodes between a stored value and what is computed from it; lowering walks them recursively.
const DEPTH_LIMIT: u32 = 100;
/// Work per element above which a value is stored for a product of few rows; a norm's gain is below, a gated activation
/// above.
const ENTRY_LIMIT: u32 = 8;
/// Up to this many rows wait for the other operand's memory, not for what is computed of theirs.
const FEW_ROWS: i64 = 8;
/// Elements along the other operand that a contraction's kernel takes at once, at most.
const TILE: i64 = 128;
/// Most pointwise nodes fused behind an anchor.
const EPILOGUE_LIMIT: usize = 48;

/// Divides `graph` into groups; `fuse` off stores every value and gives every group a launch of its own.
pub fn partition(graph: Verified<'_>, mode: Mode, fuse: bool) -> Partition {
    let mut maker = Maker::new(&graph);
    if fuse {
        maker.fuse_epilogues();
    } else {
        for id in graph.ids().filter(|&id| is_anchor(&graph.node(id).op)) {
            maker.close(id, Some(id), None);
        }
    }
    maker.store_outputs();
    maker.store_costly(mode, fuse);
    maker.finish(mode, fuse)
}

fn is_anchor(op: &Op) -> bool {
    match op.spec().class {
        Class::Reduce | Class::Contract | Class::Scatter | Class::Index | Class::Composite => true,
        Class::Leaf | Class::Pointwise | Class::Move => false,
    }
}

fn is_statistic(op: &Op) -> bool {
    matches!(op, Op::Reduce { .. } | Op::Composite(Composite::Variance { .. } | Composite::AttentionLse { .. }))
}

fn is_gather_of(graph: &Graph, user: NodeId, id: NodeId) -> bool {
    let node = graph.node(user);
    matches!(node.op, Op::Gather { .. }) && node.operands[0] == id
}

fn is_narrowed_state(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let of_state =
        |o: NodeId| matches!(graph.node(o).op, Op::Input { kind: InputKind::State, .. }) && graph.ty(o).rank() >= 2;
    matches!(node.op, Op::Cast { to: DType::BF16 | DType::F16 }) && of_state(node.operands[0])
}

fn is_leaf(op: &Op) -> bool {
    op.class() == Class::Leaf
}

/// What computing one element of an unstored value takes, from stored values on.
#[derive(Clone, Copy, Debug)]
struct Unstored {
    /// Work per element.
    cost: u32,
    /// Nodes on the longest way.
    depth: u32,
    /// True when transcendental work is part of it.
    costly: bool,
    /// True when it is stored values seen through moves alone.
    view: bool,
}

impl Default for Unstored {
    /// A stored value: one load.
    fn default() -> Unstored {
        Unstored { cost: 1, depth: 0, costly: false, view: true }
    }
}

impl Unstored {
    fn of(op: &Op, operands: impl Iterator<Item = Unstored>) -> Unstored {
        let moves = matches!(
            op,
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Gather { .. }
        );
        let own = matches!(op, Op::Unary(u) if u.is_costly());
        let start = Unstored { cost: own_cost(op), depth: 0, costly: own, view: moves };
        operands.fold(start, |sum, o| Unstored {
            cost: sum.cost.saturating_add(o.cost),
            depth: sum.depth.max(o.depth + 1),
            // Gathered values are read at will: their work is weighed by its cost alone.
            costly: sum.costly || (o.costly && !matches!(op, Op::Gather { .. })),
            view: sum.view && o.view,
        })
    }
}

struct Maker<'g> {
    graph: &'g Graph,
    users: IdMap<Vec<NodeId>>,
    is_output: IdMap<bool>,
    weight_only: IdMap<bool>,
    /// Nodes inside an epilogue, the exit excluded: they belong to that group alone.
    inner: IdMap<bool>,
    groups: IdMap<Option<Group>>,
}

impl<'g> Maker<'g> {
    fn new(graph: &'g Graph) -> Maker<'g> {
        let mut is_output = IdMap::filled(graph, false);
        for output in graph.outputs() {
            is_output[output.value] = true;
        }
        let mut weight_only = IdMap::filled(graph, false);
        for id in graph.ids() {
            let node = graph.node(id);
            weight_only[id] = match &node.op {
                Op::Input { kind, .. } => *kind == InputKind::Weight,
                // Sizes may depend on symbols, which a binding does not know.
                Op::SizeOf { .. } | Op::Iota { .. } | Op::Const { .. } => node.ty.elems().as_const().is_some(),
                _ => node.operands.iter().all(|&o| weight_only[o]),
            } && node.ty.elems().as_const().is_some()
                && !matches!(&node.op, Op::SizeOf { size, .. } if size.as_const().is_none());
        }
        Maker {
            users: graph.users(),
            is_output,
            weight_only,
            inner: IdMap::filled(graph, false),
            groups: IdMap::filled(graph, None),
            graph,
        }
    }

    fn close(&mut self, output: NodeId, anchor: Option<NodeId>, fold: Option<NodeId>) {
        self.groups[output] = Some(Group { output, anchor, fold, bound: self.weight_only[output] });
    }

    /// Last anchors first: what joins two belongs to the later, which finds the earlier's result stored.
    fn fuse_epilogues(&mut self) {
        let anchors: Vec<NodeId> = self.graph.ids().filter(|&id| is_anchor(&self.graph.node(id).op)).collect();
        let mut exits: IdMap<Option<NodeId>> = IdMap::filled(self.graph, None);
        for anchor in anchors.into_iter().rev() {
            let op = &self.graph.node(anchor).op;
            let grows = matches!(op, Op::Reduce { .. } | Op::Contract { .. } | Op::Composite(_));
            let exit = if grows { self.grow(anchor) } else { anchor };
            let fold = self.fold_behind(anchor, exit);
            match fold.and_then(|reduce| exits[reduce]) {
                None => self.close(exit, Some(anchor), None),
                // The reduction has its group already, and now more in front of it.
                Some(output) => {
                    self.inner[exit] = true;
                    self.close(output, Some(anchor), fold);
                }
            }
            exits[anchor] = Some(exit);
        }
    }

    /// The last node of the largest pointwise region behind `start` that has a single exit; marks the nodes inside.
    fn grow(&mut self, start: NodeId) -> NodeId {
        let shape = &self.graph.ty(start).shape;
        let mut region = vec![start];
        let mut best = (1, start);
        while region.len() <= EPILOGUE_LIMIT {
            let next = region.iter().flat_map(|&r| &self.users[r]).copied().filter(|u| !region.contains(u)).min();
            let Some(next) = next else { break };
            let node = self.graph.node(next);
            let fits = node.op.class() == Class::Pointwise
                && node.ty.shape == *shape
                && self.groups[next].is_none()
                && !self.inner[next];
            if !fits || self.weight_only[next] != self.weight_only[start] {
                break;
            }
            region.push(next);
            let exits = region.iter().filter(|&&r| {
                self.is_output[r] || self.users[r].iter().any(|u| !region.contains(u)) || self.users[r].is_empty()
            });
            let exits: Vec<NodeId> = exits.copied().collect();
            if let [exit] = exits[..] {
                best = (region.len(), exit);
            }
        }
        for &node in &region[..best.0] {
            self.inner[node] = node != best.1;
        }
        best.1
    }

    /// The reduction over the last row axes of the contraction `anchor` that is the only reader of `exit`.
    fn fold_behind(&self, anchor: NodeId, exit: NodeId) -> Option<NodeId> {
        let Op::Contract { spec } = &self.graph.node(anchor).op else { return None };
        let [reader] = self.users[exit][..] else { return None };
        if self.is_output[exit] {
            return None;
        }
        let Op::Reduce { op, axes, .. } = &self.graph.node(reader).op else { return None };
        let letters: Vec<char> = axes.iter().map(|&a| spec.out()[a]).collect();
        let rows = spec.rows();
        let tail = rows.len().checked_sub(letters.len()).map(|at| &rows[at..])?;
        let matches_tail = !tail.is_empty() && tail.iter().all(|c| letters.contains(c));
        (matches_tail && matches!(op, ReduceOp::Max | ReduceOp::Min | ReduceOp::Sum)).then_some(reader)
    }

    fn store_outputs(&mut self) {
        for output in self.graph.outputs() {
            let id = output.value;
            if self.groups[id].is_none() && !is_leaf(&self.graph.node(id).op) {
                self.close(id, None, None);
            }
        }
    }

    /// Stores what would be recomputed too often, walking in definition order with the work per element so far.
    fn store_costly(&mut self, mode: Mode, fuse: bool) {
        let mut unstored: IdMap<Unstored> = IdMap::filled(self.graph, Unstored::default());
        for id in self.graph.ids() {
            let node = self.graph.node(id);
            if is_leaf(&node.op) || self.inner[id] || self.groups[id].is_some() {
                continue;
            }
            let work = Unstored::of(&node.op, node.operands.iter().map(|&o| unstored[o]));
            let readers = self.users[id].len() as u32;
            let too_long = work.cost > PROGRAM_LIMIT || work.depth > DEPTH_LIMIT;
            let too_often = readers >= 2 && work.cost.saturating_mul(readers - 1) > RECOMPUTE_LIMIT;
            // A narrow copy of what lasts is made once: contractions would narrow it for each of their tiles.
            let narrowed = is_narrowed_state(self.graph, id);
            let slow = work.costly || (mode == Mode::Bf16 && self.starves(id, work));
            let spread = slow && self.users[id].iter().any(|&u| self.repeats(u, id));
            let bound = self.weight_only[id] && self.leaves_binding(id) && !work.view;
            if !fuse || too_long || too_often || spread || bound || narrowed {
                self.close(id, None, None);
            } else {
                unstored[id] = work;
            }
        }
    }

    /// True when `user` reads elements of `id` many times over.
    fn repeats(&self, user: NodeId, id: NodeId) -> bool {
        let (big, small) = (self.graph.ty(user).elems(), self.graph.ty(id).elems());
        let node = self.graph.node(user);
        if let Op::Contract { spec } = &node.op {
            let other = if node.operands[0] == id { spec.cols() } else { spec.rows() };
            let along = |c: &char| spec.out().iter().position(|o| o == c).map(|axis| &node.ty.shape[axis]);
            let times = other.iter().filter_map(along).map(|dim| dim.as_const().unwrap_or(i64::MAX));
            return times.fold(1, i64::saturating_mul) >= 4 * TILE;
        }
        let ratio = match (big.as_const(), small.as_const()) {
            (Some(b), Some(s)) => b / s.max(1),
            _ => big.div_exact(&small).and_then(|d| d.as_const()).unwrap_or(1),
        };
        matches!(node.op.class(), Class::Move | Class::Pointwise) && ratio >= 4
    }

    /// True when tensor cores would wait for `id` to be computed: what is stored they copy on the side.
    fn starves(&self, id: NodeId, work: Unstored) -> bool {
        self.users[id].iter().any(|&user| {
            let node = self.graph.node(user);
            let Op::Contract { spec } = &node.op else { return false };
            let rows = spec.out().iter().zip(&node.ty.shape).filter(|(c, _)| !spec.cols().contains(c));
            let most = rows.map(|(_, d)| d.bounds(&self.graph.symbols).1).fold(1, i64::saturating_mul);
            !work.view && (work.cost > ENTRY_LIMIT || most > FEW_ROWS)
        })
    }

    /// True for a term of a sum that another anchor goes on with: it keeps its digits until the sum is done.
    fn is_partial(&self, id: NodeId) -> bool {
        let [reader] = self.users[id][..] else { return false };
        let goes_on = self.inner[reader] || self.groups[reader].as_ref().is_some_and(|group| group.anchor.is_some());
        matches!(self.graph.node(reader).op, Op::Binary(BinaryOp::Add)) && goes_on
    }

    fn leaves_binding(&self, id: NodeId) -> bool {
        self.is_output[id] || self.users[id].iter().any(|&u| !self.weight_only[u])
    }

    fn finish(self, mode: Mode, share: bool) -> Partition {
        let graph = self.graph;
        let exact = exact_nodes(graph);
        let mut storage: IdMap<Option<DType>> = IdMap::filled(graph, None);
        for id in graph.ids() {
            let ty = graph.ty(id);
            let low = mode == Mode::Bf16 && ty.dtype == DType::F32 && !exact[id];
            let extents = ty.shape.iter().filter(|d| !d.is(1)).count();
            storage[id] = match (&graph.node(id).op, &self.groups[id]) {
                (Op::Input { kind: InputKind::Data, .. }, _) => Some(ty.dtype),
                (Op::Input { kind: InputKind::Weight, .. }, _) => {
                    Some(if low && extents >= 2 { DType::BF16 } else { ty.dtype })
                }
                // What lasts keeps the digits it was declared with: a sum over steps would lose them.
                (Op::Input { kind: InputKind::State, .. }, _) => Some(ty.dtype),
                (_, Some(group)) => {
                    let statistics = group.anchor.is_some_and(|a| is_statistic(&graph.node(a).op));
                    // Differences of gathered rows cancel: rows computed to be gathered keep all their digits.
                    let gathered = group.anchor.is_some() && self.users[id].iter().any(|&u| is_gather_of(graph, u, id));
                    let vector = group.bound && extents < 2;
                    let keep = statistics || gathered || vector || self.is_partial(id) || self.is_output[id];
                    Some(if low && !keep { DType::BF16 } else { ty.dtype })
                }
                (_, None) => None,
            };
        }
        tie_states(graph, &mut storage);
        let mut low: IdMap<bool> = IdMap::filled(graph, false);
        let mut rounding = storage.clone();
        for id in graph.ids().filter(|_| mode == Mode::Bf16) {
            let node = graph.node(id);
            let floats = match node.op {
                Op::Contract { .. } => 2,
                Op::Composite(Composite::AttentionLse { .. }) => 2,
                Op::Composite(Composite::Attention { .. }) => 3,
                Op::Composite(Composite::AttentionGrad { .. }) => 4,
                _ => continue,
            };
            let operands = &node.operands[..floats];
            // A value stored wider than bf16 would be rounded on its way in, where nothing says so; one that is computed
            // on its way in is listed.
            let narrow = |o: NodeId| graph.ty(o).dtype != DType::F16 && storage[o].is_none_or(|d| d == DType::BF16);
            low[id] = !exact[id] && operands.iter().all(|&o| narrow(o));
            for &operand in operands.iter().filter(|&&o| low[id] && storage[o].is_none()) {
                rounding[operand] = Some(DType::BF16);
            }
        }
        let groups = graph.ids().filter_map(|id| self.groups[id].clone()).collect();
        Partition { groups, storage, rounding, low, share }
    }
}

/// A tied output and its state share a buffer, so they share a storage dtype.
fn tie_states(graph: &Graph, storage: &mut IdMap<Option<DType>>) {
    for output in graph.outputs() {
        if let Some(state) = output.updates
            && storage[output.value].is_some()
        {
            storage[output.value] = storage[state];
        }
    }
    // A scatter continues the storage of its base, so that it can work in place.
    for id in graph.ids() {
        let node = graph.node(id);
        if matches!(node.op, Op::Scatter { .. }) && graph.outputs().iter().any(|o| o.value == id && o.updates.is_some())
        {
            storage[id] =
                graph.outputs().iter().find(|o| o.value == id).and_then(|o| o.updates).and_then(|s| storage[s]);
        }
    }
}

/// Nodes that choose places: what index ops compare, what is used as an index or range, what is shown as an integer, and
/// everything those are computed from. Sums of products end the walk: they are close on every device, not equal.
fn exact_nodes(graph: &Graph) -> IdMap<bool> {
    let mut exact = IdMap::filled(graph, false);
    for output in graph.outputs().iter().filter(|o| !graph.ty(o.value).dtype.is_float()) {
        exact[output.value] = true;
    }
    for id in graph.ids().rev() {
        let node = graph.node(id);
        let sums = matches!(node.op.class(), Class::Contract)
            || matches!(
                node.op,
                Op::Composite(
                    Composite::Attention { .. } | Composite::AttentionLse { .. } | Composite::AttentionGrad { .. }
                )
            );
        for &operand in &node.operands {
            let chooses = match &node.op {
                Op::Gather { .. } | Op::Scatter { .. } => operand == node.operands[1],
                op if op.class() == Class::Index => true,
                _ => sums && !graph.ty(operand).dtype.is_float(),
            };
            exact[operand] |= chooses || (exact[id] && !sums);
        }
    }
    exact
}

fn own_cost(op: &Op) -> u32 {
    match op {
        Op::Unary(u) if u.is_costly() => 8,
        Op::Gather { .. } => 4,
        Op::Binary(enel_ir::BinaryOp::Div | enel_ir::BinaryOp::Rem | enel_ir::BinaryOp::Pow) => 4,
        Op::Concat { .. } | Op::Pad { .. } => 2,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => 0,
        _ => 1,
    }
}
