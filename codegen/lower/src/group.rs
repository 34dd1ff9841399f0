//! What does one group compute? Its anchor chooses the family; programs before and after it are emitted around.

use crate::emit::{Emitter, Tables};
use enel_bundle::{
    Acc, AccOp, Access, AttentionBody, AttentionGradBody, Body, BufferRole, By, ContractBody, Desc, Extent, Fold,
    FpsBody, Instr, KnnBody, MapBody, Program, ReduceBody, Reg, ScatterBody, ScatterMode, Store, TopKBody, Value,
    check_desc,
};
use enel_ir::{AttentionOperand, Composite, DType, Dim, Graph, NodeId, Op, ReduceOp};
use enel_passes::{Group, Partition};

/// A Desc with the graph values behind its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    pub(crate) desc: Desc,
    /// Value behind each buffer; the written one is the group's output.
    pub(crate) buffers: Vec<NodeId>,
    pub(crate) dynamics: Vec<Dim>,
}

impl Lowered {
    /// The same kernel with its result in the buffer of `state`, where each element of that is read by nobody but the
    /// one that replaces it.
    pub(crate) fn replacing(&self, state: NodeId) -> Option<Lowered> {
        let Some(at) = self.buffers.iter().position(|id| *id == state) else { return Some(self.clone()) };
        let mut new = self.clone();
        // The result is the last buffer, so no other changes its number.
        let (out, _) = (new.desc.buffers.pop()?, new.buffers.pop()?);
        let role = &mut new.desc.buffers[at];
        role.access = Access::Update;
        let same = role.dtype == out.dtype;
        place_output(&mut new.desc.body, at as u32);
        (same && check_desc(&new.desc).is_ok()).then_some(new)
    }
}

/// Placeholder for the written buffer until all reads are known.
const OUT: u32 = u32::MAX;

/// Lowers `group` to its kernel.
pub(crate) fn lower_group(graph: &Graph, partition: &Partition, group: &Group) -> Lowered {
    let inside = |id: NodeId| id == group.output || Some(id) == group.anchor || Some(id) == group.fold;
    let stored = |id: NodeId| partition.storage[id].is_some() && !inside(id);
    let mut tables = Tables::new(graph, &stored);
    let body = match group.anchor {
        None => map_body(&mut tables, group.output),
        Some(anchor) => anchored(&mut tables, group, anchor, partition.low[anchor]),
    };
    finish(tables, body, group.output, partition)
}

/// The kernel that writes `source` unchanged to the buffer of `target`, for bases of scatters and outputs named twice.
pub(crate) fn lower_copy(graph: &Graph, partition: &Partition, source: NodeId, target: NodeId) -> Lowered {
    let stored = |id: NodeId| partition.storage[id].is_some() && id != target;
    let mut tables = Tables::new(graph, &stored);
    let body = map_body(&mut tables, source);
    finish(tables, body, target, partition)
}

/// The kernel that writes `source` to one more buffer of dtype `to`, which comes last and is no graph value.
pub(crate) fn lower_view(graph: &Graph, partition: &Partition, source: NodeId, to: DType) -> Lowered {
    let stored = |id: NodeId| partition.storage[id].is_some();
    let mut tables = Tables::new(graph, &stored);
    let mut body = map_body(&mut tables, source);
    let dtype = |id: &NodeId| partition.storage[*id].expect("every buffer holds a stored value");
    let buffers = tables.reads.clone();
    let read = |id| BufferRole { dtype: dtype(id), access: Access::Read };
    let mut roles: Vec<BufferRole> = buffers.iter().map(read).collect();
    place_output(&mut body, roles.len() as u32);
    roles.push(BufferRole { dtype: to, access: Access::Write });
    let desc = Desc { buffers: roles, dynamics: tables.described(), body };
    Lowered { desc, buffers, dynamics: tables.dynamics }
}

fn finish(tables: Tables<'_>, mut body: Body, output: NodeId, partition: &Partition) -> Lowered {
    let dtype = |id: NodeId| partition.storage[id].expect("every buffer holds a stored value");
    let mut buffers = tables.reads.clone();
    let mut roles: Vec<BufferRole> =
        buffers.iter().map(|&id| BufferRole { dtype: dtype(id), access: Access::Read }).collect();
    let access = if matches!(body, Body::Scatter(_)) { Access::Update } else { Access::Write };
    let out = buffers.len() as u32;
    buffers.push(output);
    roles.push(BufferRole { dtype: dtype(output), access });
    place_output(&mut body, out);
    let desc = Desc { buffers: roles, dynamics: tables.described(), body };
    Lowered { desc, buffers, dynamics: tables.dynamics }
}

fn place_output(body: &mut Body, out: u32) {
    let stores = match body {
        Body::Map(b) => &mut b.stores,
        Body::Reduce(b) => &mut b.stores,
        Body::Contract(b) => &mut b.stores,
        Body::Attention(b) => &mut b.stores,
        Body::AttentionGrad(b) => &mut b.stores,
        Body::Fps(FpsBody { out: o, .. })
        | Body::Knn(KnnBody { out: o, .. })
        | Body::TopK(TopKBody { out: o, .. })
        | Body::Scatter(ScatterBody { out: o, .. }) => {
            *o = out;
            return;
        }
    };
    for store in stores {
        store.buffer = out;
    }
}

fn axes(program: &mut Program, range: std::ops::Range<usize>) -> Vec<Reg> {
    range.map(|i| program.push(Instr::Axis(i as u32))).collect()
}

fn map_body(tables: &mut Tables<'_>, output: NodeId) -> Body {
    let shape = tables.graph.ty(output).shape.clone();
    let space = tables.extents(&shape);
    let mut e = Emitter::new(tables, &[]);
    let coords = axes(&mut e.program, 0..shape.len());
    let value = e.value(output, &coords);
    let index = e.linear(&coords, &shape);
    Body::Map(MapBody { space, stores: vec![Store { buffer: OUT, index, value }], program: e.program })
}

/// The program that turns accumulator 0, the value of `start`, into the stored `output`; `coords` are those of `start`.
fn epilogue(tables: &mut Tables<'_>, start: NodeId, output: NodeId, coords: &CoordsFn<'_>) -> (Program, Vec<Store>) {
    let shape = tables.graph.ty(output).shape.clone();
    let mut e = Emitter::new(tables, &[(start, 0)]);
    let coords = coords(&mut e.program);
    let value = e.value(output, &coords);
    let index = e.linear(&coords, &shape);
    (e.program, vec![Store { buffer: OUT, index, value }])
}

type CoordsFn<'a> = dyn Fn(&mut Program) -> Vec<Reg> + 'a;

fn anchored(tables: &mut Tables<'_>, group: &Group, anchor: NodeId, low: bool) -> Body {
    let node = tables.graph.node(anchor);
    let operands = &node.operands;
    match &node.op {
        Op::Reduce { op, axes, keep } => {
            reduce_body(tables, group, &Over { op: acc_op(*op), axes, keep: *keep }, operands[0])
        }
        Op::Composite(Composite::Variance { axes, keep, .. }) => {
            reduce_body(tables, group, &Over { op: AccOp::Deviations, axes, keep: *keep }, operands[0])
        }
        Op::Contract { .. } => contract_body(tables, group, anchor, low),
        Op::Composite(Composite::Attention { scale }) => {
            let v = Some(operands[2]);
            let parts = Attended { q: operands[0], k: operands[1], v, low: operands[3], high: operands[4] };
            attention_body(tables, (group, anchor), parts, (scale.as_f64() as f32, low))
        }
        Op::Composite(Composite::AttentionLse { scale }) => {
            let parts = Attended { q: operands[0], k: operands[1], v: None, low: operands[2], high: operands[3] };
            attention_body(tables, (group, anchor), parts, (scale.as_f64() as f32, low))
        }
        Op::Composite(Composite::AttentionGrad { scale, by }) => {
            let by = match by {
                AttentionOperand::Query => By::Query,
                AttentionOperand::Key => By::Key,
                AttentionOperand::Value => By::Value,
            };
            attention_grad_body(tables, (group, anchor), by, (scale.as_f64() as f32, low))
        }
        Op::Fps { n } => {
            let shape = tables.graph.ty(operands[0]).shape.clone();
            let (batch, points, n) = (tables.extent(&shape[0]), tables.extent(&shape[1]), tables.extent(n));
            Body::Fps(FpsBody { batch, points, n, xyz: plain(tables, operands[0]), out: OUT })
        }
        Op::Knn { k } => {
            let q = tables.graph.ty(operands[0]).shape.clone();
            let p = tables.graph.ty(operands[1]).shape.clone();
            Body::Knn(KnnBody {
                batch: tables.extent(&q[0]),
                queries: tables.extent(&q[1]),
                points: tables.extent(&p[1]),
                k: tables.extent(k),
                query: plain(tables, operands[0]),
                point: plain(tables, operands[1]),
                out: OUT,
            })
        }
        Op::TopK { k, largest } => {
            let shape = tables.graph.ty(operands[0]).shape.clone();
            let (n, outer) = shape.split_last().expect("topk takes rank 1 or more");
            Body::TopK(TopKBody {
                outer: tables.extents(outer),
                n: tables.extent(n),
                k: tables.extent(k),
                largest: *largest,
                value: plain(tables, operands[0]),
                out: OUT,
            })
        }
        Op::Scatter { axis, batch, mode } => {
            let mode = match mode {
                enel_ir::ScatterMode::Set => ScatterMode::Set,
                enel_ir::ScatterMode::Add => ScatterMode::Add,
            };
            let base = tables.graph.ty(operands[0]).shape.clone();
            let index = tables.graph.ty(operands[1]).shape.clone();
            Body::Scatter(ScatterBody {
                mode,
                prefix: tables.extents(&base[..*axis]),
                batch: *batch as u32,
                extent: tables.extent(&base[*axis]),
                index_space: tables.extents(&index[*batch..]),
                suffix: tables.extents(&base[axis + 1..]),
                index: plain(tables, operands[1]),
                rows: plain(tables, operands[2]),
                out: OUT,
            })
        }
        _ => unreachable!("the partition anchors groups at these ops only"),
    }
}

/// Element of `id` at the axes of its own shape.
fn plain(tables: &mut Tables<'_>, id: NodeId) -> Value {
    let rank = tables.graph.ty(id).rank();
    Emitter::value_of(tables, id, &|p| axes(p, 0..rank))
}

fn acc_op(op: ReduceOp) -> AccOp {
    match op {
        ReduceOp::Sum => AccOp::Sum,
        ReduceOp::Prod => AccOp::Prod,
        ReduceOp::Max => AccOp::Max,
        ReduceOp::Min => AccOp::Min,
        ReduceOp::ArgMax => AccOp::ArgMax,
        ReduceOp::ArgMin => AccOp::ArgMin,
    }
}

/// What a reduction combines: operation, axes, and whether they stay as extents of 1.
struct Over<'a> {
    op: AccOp,
    axes: &'a [usize],
    keep: bool,
}

fn reduce_body(tables: &mut Tables<'_>, group: &Group, over: &Over<'_>, x: NodeId) -> Body {
    let (reduced, keep) = (over.axes, over.keep);
    let shape = tables.graph.ty(x).shape.clone();
    let dtype = tables.graph.ty(x).dtype;
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !reduced.contains(a)).collect();
    let mut inner_axes = reduced.to_vec();
    inner_axes.sort_unstable();
    let pick = |list: &[usize]| list.iter().map(|&a| shape[a].clone()).collect::<Vec<Dim>>();
    let outer = tables.extents(&pick(&kept));
    let inner = tables.extents(&pick(&inner_axes));
    let mut element = Emitter::value_of(tables, x, &|p| {
        let axis = |a: usize| match kept.iter().position(|&k| k == a) {
            Some(i) => i,
            None => kept.len() + inner_axes.iter().position(|&r| r == a).expect("an axis is kept or reduced"),
        };
        (0..shape.len()).map(|a| p.push(Instr::Axis(axis(a) as u32))).collect()
    });
    if dtype == DType::Bool {
        element.reg = element.program.push(Instr::Cast(DType::I32, element.reg));
    }
    let anchor = group.anchor.expect("a reduction has an anchor");
    let coords = |p: &mut Program| -> Vec<Reg> {
        if !keep {
            return axes(p, 0..kept.len());
        }
        (0..shape.len())
            .map(|a| match kept.iter().position(|&k| k == a) {
                Some(i) => p.push(Instr::Axis(i as u32)),
                None => p.int(0),
            })
            .collect()
    };
    let (epilogue, stores) = epilogue(tables, anchor, group.output, &coords);
    let accs = vec![Acc { op: over.op, value: element.reg }];
    Body::Reduce(ReduceBody { outer, inner, element: element.program, accs, epilogue, stores })
}

fn contract_body(tables: &mut Tables<'_>, group: &Group, anchor: NodeId, bf16: bool) -> Body {
    let node = tables.graph.node(anchor);
    let Op::Contract { spec } = &node.op else { unreachable!("called for contractions") };
    let (l, r) = (node.operands[0], node.operands[1]);
    let (batch, rows, cols, summed) = (spec.batch(), spec.rows(), spec.cols(), spec.summed());
    let extent_of = |t: &Tables<'_>, c: char| -> Dim {
        match spec.lhs().iter().position(|x| *x == c) {
            Some(i) => t.graph.ty(l).shape[i].clone(),
            None => {
                t.graph.ty(r).shape[spec.rhs().iter().position(|x| *x == c).expect("a letter has an operand")].clone()
            }
        }
    };
    let mut extents = |list: &[char]| -> Vec<Extent> {
        list.iter()
            .map(|&c| {
                let d = extent_of(tables, c);
                tables.extent(&d)
            })
            .collect()
    };
    let (batch_x, rows_x, cols_x, summed_x) = (extents(&batch), extents(&rows), extents(&cols), extents(&summed));
    let by_letters = |order: Vec<char>, want: Vec<char>| {
        move |p: &mut Program| -> Vec<Reg> {
            let axis = |c: &char| order.iter().position(|o| o == c).expect("every letter has an axis");
            want.iter().map(|c| p.push(Instr::Axis(axis(c) as u32))).collect()
        }
    };
    let join = |lists: &[&[char]]| lists.concat();
    let lhs = Emitter::value_of(tables, l, &by_letters(join(&[&batch, &rows, &summed]), spec.lhs().to_vec()));
    let rhs = Emitter::value_of(tables, r, &by_letters(join(&[&batch, &cols, &summed]), spec.rhs().to_vec()));
    let all = by_letters(join(&[&batch, &rows, &cols]), spec.out().to_vec());
    let (epilogue_program, stores, fold) = match group.fold {
        None => {
            let (p, s) = epilogue(tables, anchor, group.output, &all);
            (p, s, None)
        }
        Some(reduce) => {
            let Op::Reduce { op, axes: reduced, keep } = &tables.graph.node(reduce).op else {
                unreachable!("a fold is a reduction")
            };
            let folded = tables.graph.node(reduce).operands[0];
            let mut e = Emitter::new(tables, &[(anchor, 0)]);
            let coords = all(&mut e.program);
            let value = e.value(folded, &coords);
            let before = e.program;
            let left = &rows[..rows.len() - reduced.len()];
            let order = join(&[&batch, left, &cols]);
            let after = |p: &mut Program| -> Vec<Reg> {
                let mut own = Vec::new();
                for (i, c) in spec.out().iter().enumerate() {
                    match (reduced.contains(&i), keep) {
                        (false, _) => {
                            let at = order.iter().position(|o| o == c).expect("an unfolded letter has an axis");
                            own.push(p.push(Instr::Axis(at as u32)));
                        }
                        (true, true) => own.push(p.int(0)),
                        (true, false) => {}
                    }
                }
                own
            };
            let (p, s) = epilogue(tables, reduce, group.output, &after);
            let fold = Fold { op: acc_op(*op), axes: reduced.len() as u32, value, epilogue: p };
            (before, s, Some(fold))
        }
    };
    Body::Contract(ContractBody {
        batch: batch_x,
        rows: rows_x,
        cols: cols_x,
        summed: summed_x,
        lhs,
        rhs,
        bf16,
        epilogue: epilogue_program,
        fold,
        stores,
    })
}

/// Operands of attention, with or without values.
struct Attended {
    q: NodeId,
    k: NodeId,
    v: Option<NodeId>,
    low: NodeId,
    high: NodeId,
}

fn attention_body(
    tables: &mut Tables<'_>,
    (group, anchor): (&Group, NodeId),
    parts: Attended,
    (scale, bf16): (f32, bool),
) -> Body {
    let Attended { q, k, v, low, high } = parts;
    let heads = heads(tables, q, k);
    let rank = if v.is_some() { 3 } else { 2 };
    let [q, k] = [plain(tables, q), plain(tables, k)];
    let v = v.map(|v| plain(tables, v));
    let [low, high] = [plain(tables, low), plain(tables, high)];
    let (epilogue, stores) = epilogue(tables, anchor, group.output, &|p| axes(p, 0..rank));
    let Heads { tokens, keys, heads, groups, head_size } = heads;
    let scale = scale.to_bits();
    Body::Attention(AttentionBody {
        tokens,
        keys,
        heads,
        groups,
        head_size,
        scale,
        q,
        k,
        v,
        low,
        high,
        bf16,
        epilogue,
        stores,
    })
}

fn attention_grad_body(
    tables: &mut Tables<'_>,
    (group, anchor): (&Group, NodeId),
    by: By,
    (scale, bf16): (f32, bool),
) -> Body {
    let operands = tables.graph.node(anchor).operands.clone();
    let Heads { tokens, keys, heads, groups, head_size } = heads(tables, operands[0], operands[1]);
    let [q, k, v, dy] = [0, 1, 2, 3].map(|i| plain(tables, operands[i]));
    let [low, high, lse, delta] = [4, 5, 6, 7].map(|i| plain(tables, operands[i]));
    let (epilogue, stores) = epilogue(tables, anchor, group.output, &|p| axes(p, 0..3));
    let scale = scale.to_bits();
    Body::AttentionGrad(AttentionGradBody {
        tokens,
        keys,
        heads,
        groups,
        head_size,
        scale,
        by,
        q,
        k,
        v,
        dy,
        low,
        high,
        lse,
        delta,
        bf16,
        epilogue,
        stores,
    })
}

/// Sizes attention and its derivatives share.
struct Heads {
    tokens: Extent,
    keys: Extent,
    heads: i64,
    groups: i64,
    head_size: i64,
}

fn heads(tables: &mut Tables<'_>, q: NodeId, k: NodeId) -> Heads {
    let (q, k) = (tables.graph.ty(q).shape.clone(), tables.graph.ty(k).shape.clone());
    let constant = |d: &Dim| d.as_const().expect("the verifier wants constant heads and head size");
    Heads {
        tokens: tables.extent(&q[0]),
        keys: tables.extent(&k[0]),
        heads: constant(&q[1]),
        groups: constant(&k[1]),
        head_size: constant(&q[2]),
    }
}
