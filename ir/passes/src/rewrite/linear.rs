//! Is a linear map taken of many copies of few rows? Then it is taken of the rows, and its results are copied.
//!
//! A map is linear, so it passes through sums, differences, factors that do not vary along the summed axis, and through
//! gathers, broadcasts and concatenations. The walk decides by multiplications; the result differs by rounding only.

use super::typical;
use crate::rebuild::{PassError, rebuild};
use enel_ir::{BinaryOp, BuildError, ContractSpec, Dim, Graph, NodeId, Op, Verified};

type Built = Result<NodeId, BuildError>;

/// Rewrites every contraction whose pushed-down form needs at most this share of the multiplications.
const WORTH: f64 = 0.75;

pub(super) fn apply(graph: Verified<'_>) -> Result<Graph, PassError> {
    rebuild("linear-before-gather", graph, &mut |new, _, node| {
        let Op::Contract { spec } = &node.op else { return new.push(node.op.clone(), &node.operands) };
        let Some(axis) = mapped_axis(spec) else { return new.push(node.op.clone(), &node.operands) };
        let (x, w) = (node.operands[0], node.operands[1]);
        let map = Map { w, start: Dim::constant(0) };
        let mut known = Vec::new();
        let plain = rows(new, x);
        if cost(new, x, axis, Spot::default(), &mut known) > WORTH * plain {
            return new.push(node.op.clone(), &node.operands);
        }
        push(new, x, axis, &map)
    })
}

/// The axis a spec like `abc,dc->abd` maps: the result is the left operand with the summed letter replaced.
fn mapped_axis(spec: &ContractSpec) -> Option<usize> {
    let (summed, cols) = (spec.summed(), spec.cols());
    let ([c], [d]) = (&summed[..], &cols[..]) else { return None };
    let replaced: Vec<char> = spec.lhs().iter().map(|l| if l == c { *d } else { *l }).collect();
    (replaced == spec.out() && spec.rhs() == [*d, *c]).then(|| spec.lhs().iter().position(|l| l == c))?
}

/// Columns `start..` of the weight `w` `[out, in]`, as many as the mapped value has channels.
#[derive(Clone)]
struct Map {
    w: NodeId,
    start: Dim,
}

/// Multiplications of mapping `x` as it stands, per output channel.
fn rows(g: &Graph, x: NodeId) -> f64 {
    g.ty(x).shape.iter().map(|d| typical(d, &g.symbols)).product()
}

/// How a value may pass a linear map on: its operands that are mapped, each with its channel axis.
enum Through {
    /// Operands along the summed axis, mapped by consecutive columns of the weight.
    Parts(Vec<NodeId>),
    /// A pointwise op of two mapped operands.
    Both([(NodeId, usize); 2]),
    /// A pointwise op whose first operand is mapped; the second does not vary along the axis.
    First(NodeId, usize),
    /// A move off the axis.
    Moved(NodeId, usize),
}

fn through(g: &Graph, x: NodeId, axis: usize) -> Option<Through> {
    let node = g.node(x);
    let rank = node.ty.rank();
    let channels = &node.ty.shape[axis];
    // The operand's own axis aligned with `axis`, if it varies along it.
    let aligned = |o: NodeId| {
        let at = (axis + g.ty(o).rank()).checked_sub(rank)?;
        (g.ty(o).shape[at] == *channels && !channels.is(1)).then_some(at)
    };
    let x0 = *node.operands.first()?;
    match &node.op {
        Op::Concat { axis: joined } if *joined == axis => Some(Through::Parts(node.operands.clone())),
        Op::Binary(BinaryOp::Add | BinaryOp::Sub) => {
            let y = node.operands[1];
            Some(Through::Both([(x0, aligned(x0)?), (y, aligned(y)?)]))
        }
        Op::Binary(BinaryOp::Mul | BinaryOp::Div) => {
            let y = node.operands[1];
            if aligned(y).is_some() { None } else { Some(Through::First(x0, aligned(x0)?)) }
        }
        Op::Gather { axis: rows, batch } => {
            let added = g.ty(node.operands[1]).rank() - batch;
            let source = if axis < *rows { axis } else { (axis + 1).checked_sub(added).filter(|s| s > rows)? };
            Some(Through::Moved(x0, source))
        }
        Op::Broadcast { .. } => Some(Through::Moved(x0, aligned(x0)?)),
        // New axes of extent 1 before a last axis of channels.
        Op::Reshape { .. } => {
            let last = g.ty(x0).rank().checked_sub(1)?;
            (axis + 1 == rank && g.ty(x0).shape[last] == *channels).then_some(Through::Moved(x0, last))
        }
        _ => None,
    }
}

/// Deepest chain a map is pushed through: both sides of every sum are walked, so the walk doubles with each level.
const DEPTH_LIMIT: u32 = 10;

/// Where the walk is: which columns of the weight, how deep.
#[derive(Clone, Copy, Default)]
struct Spot {
    columns: usize,
    depth: u32,
}

impl Spot {
    fn deeper(self) -> Spot {
        Spot { depth: self.depth + 1, ..self }
    }

    fn part(self, i: usize) -> Spot {
        Spot { columns: self.columns.wrapping_mul(16).wrapping_add(i + 1), depth: self.depth + 1 }
    }
}

/// Multiplications per output channel of the pushed-down form; a value mapped before by the same columns is free.
fn cost(g: &Graph, x: NodeId, axis: usize, spot: Spot, known: &mut Vec<(NodeId, usize)>) -> f64 {
    let columns = spot.columns;
    if known.contains(&(x, columns)) {
        return 0.0;
    }
    let plain = rows(g, x);
    let before = known.len();
    let pushed = match through(g, x, axis) {
        None => f64::INFINITY,
        Some(_) if spot.depth >= DEPTH_LIMIT => f64::INFINITY,
        Some(Through::Parts(parts)) => {
            let each = parts.iter().enumerate().map(|(i, &p)| cost(g, p, axis, spot.part(i), known));
            each.sum()
        }
        Some(Through::Both(both)) => both.iter().map(|&(o, a)| cost(g, o, a, spot.deeper(), known)).sum(),
        Some(Through::First(o, a) | Through::Moved(o, a)) => cost(g, o, a, spot.deeper(), known),
    };
    if pushed < plain {
        return pushed;
    }
    known.truncate(before);
    known.push((x, columns));
    plain
}

fn push(g: &mut Graph, x: NodeId, axis: usize, map: &Map) -> Built {
    let plain = rows(g, x);
    let form = through(g, x, axis);
    let pushed = cost(g, x, axis, Spot::default(), &mut known_maps(g, map));
    let Some(form) = form.filter(|_| pushed < plain) else { return contract(g, x, axis, map) };
    match form {
        Through::Parts(parts) => {
            let mut sum: Option<NodeId> = None;
            let mut start = map.start.clone();
            for part in parts {
                let y = push(g, part, axis, &Map { w: map.w, start: start.clone() })?;
                start = start.add(&g.ty(part).shape[axis]);
                sum = Some(match sum {
                    None => y,
                    Some(s) => g.add(s, y)?,
                });
            }
            Ok(sum.expect("a concat has an operand"))
        }
        Through::Both([(a, ax), (b, bx)]) => {
            let op = g.node(x).op.clone();
            let (a, b) = (push(g, a, ax, map)?, push(g, b, bx, map)?);
            g.push(op, &[a, b])
        }
        Through::First(a, ax) => {
            let (op, factor) = (g.node(x).op.clone(), g.node(x).operands[1]);
            let a = push(g, a, ax, map)?;
            g.push(op, &[a, factor])
        }
        Through::Moved(source, ax) => {
            let node = g.node(x).clone();
            let y = push(g, source, ax, map)?;
            let channels = g.ty(y).shape[ax].clone();
            let reshaped = |shape: &[Dim]| {
                let mut shape = shape.to_vec();
                shape[axis] = channels.clone();
                shape
            };
            match &node.op {
                Op::Broadcast { shape } => g.broadcast(y, reshaped(shape)),
                Op::Reshape { shape } => g.reshape(y, reshaped(shape)),
                op => g.push(op.clone(), &[&[y], &node.operands[1..]].concat()),
            }
        }
    }
}

/// Values this graph already maps by `map`.
fn known_maps(g: &Graph, map: &Map) -> Vec<(NodeId, usize)> {
    let mut list = Vec::new();
    for id in g.ids() {
        let node = g.node(id);
        if matches!(node.op, Op::Contract { .. }) && is_columns(g, node.operands[1], map) {
            list.push((node.operands[0], 0));
        }
    }
    list
}

fn is_columns(g: &Graph, w: NodeId, map: &Map) -> bool {
    match &g.node(w).op {
        Op::Slice { starts, .. } => g.node(w).operands[0] == map.w && starts[1] == map.start,
        _ => w == map.w && map.start.is(0),
    }
}

fn contract(g: &mut Graph, x: NodeId, axis: usize, map: &Map) -> Built {
    let channels = g.ty(x).shape[axis].clone();
    let w = if g.ty(map.w).shape[1] == channels { map.w } else { g.narrow(map.w, 1, map.start.clone(), channels)? };
    // An equal map made before is used again.
    let spec = spec_for(g.ty(x).rank(), axis);
    let op = Op::Contract { spec: ContractSpec::parse(&spec).map_err(BuildError::Spec)? };
    let same = g.ids().find(|&id| {
        let node = g.node(id);
        node.op == op
            && node.operands[0] == x
            && is_columns(g, node.operands[1], map)
            && g.ty(node.operands[1]) == g.ty(w)
    });
    match same {
        Some(id) => Ok(id),
        None => g.push(op, &[x, w]),
    }
}

fn spec_for(rank: usize, axis: usize) -> String {
    let letters: Vec<char> = ('a'..='w').take(rank).collect();
    let text = |replace: char| -> String {
        letters.iter().enumerate().map(|(i, &l)| if i == axis { replace } else { l }).collect()
    };
    format!("{},yz->{}", text('z'), text('y'))
}
