//! Do parts of a launch reduce the same elements? Then they are one part with an accumulator each, and read them once.

use crate::group::Lowered;
use enel_bundle::{Body, Instr, Program, ReduceBody, Reg, Store};

/// The parts of a launch, reductions of the same elements joined where the first of them stood.
pub(crate) fn join(parts: &[&Lowered]) -> Vec<Lowered> {
    let mut joined: Vec<Lowered> = Vec::with_capacity(parts.len());
    for part in parts {
        match joined.iter_mut().find_map(|first| both(first, part).map(|both| (first, both))) {
            Some((first, both)) => *first = both,
            None => joined.push((*part).clone()),
        }
    }
    joined
}

/// One kernel that stores what both do, if they read the same buffers and combine the same elements.
fn both(first: &Lowered, second: &Lowered) -> Option<Lowered> {
    let (Body::Reduce(a), Body::Reduce(b)) = (&first.desc.body, &second.desc.body) else { return None };
    let ReduceBody { outer, inner, element, accs, epilogue, stores } = b;
    let n_reads = second.buffers.len().checked_sub(stores.len())?;
    let same_space = a.outer == *outer && a.inner == *inner && a.element == *element;
    let same_reads = first.buffers.get(..n_reads) == second.buffers.get(..n_reads)
        && first.desc.buffers.get(..n_reads) == second.desc.buffers.get(..n_reads)
        && first.buffers.len() == n_reads + a.stores.len();
    if !same_space || !same_reads || first.dynamics != second.dynamics || first.desc.dynamics != second.desc.dynamics {
        return None;
    }
    let mut new = first.clone();
    new.buffers.extend_from_slice(&second.buffers[n_reads..]);
    new.desc.buffers.extend_from_slice(&second.desc.buffers[n_reads..]);
    let Body::Reduce(body) = &mut new.desc.body else { return None };
    let n_accs = body.accs.len() as u32;
    body.accs.extend(accs.iter().copied());
    // What the second writes, and may read where it replaces it, comes behind what the first writes.
    let shift = (first.buffers.len() - n_reads) as u32;
    let place = |buffer: u32| if (buffer as usize) < n_reads { buffer } else { buffer + shift };
    let moved = append(&mut body.epilogue, epilogue, (n_accs, &place));
    let store = |s: &Store| Store {
        buffer: place(s.buffer),
        index: moved[s.index.0 as usize],
        value: moved[s.value.0 as usize],
    };
    body.stores.extend(stores.iter().map(store));
    Some(new)
}

/// Appends `from`, whose accumulators are those from `first_acc` on and whose buffers lie elsewhere; its registers' new
/// places.
fn append(to: &mut Program, from: &Program, (first_acc, place): (u32, &dyn Fn(u32) -> u32)) -> Vec<Reg> {
    let mut moved: Vec<Reg> = Vec::with_capacity(from.instrs().len());
    for instr in from.instrs() {
        let at = |reg: Reg| moved[reg.0 as usize];
        let instr = match *instr {
            Instr::Acc(n) => Instr::Acc(n + first_acc),
            Instr::Load { buffer, index } => Instr::Load { buffer: place(buffer), index: at(index) },
            Instr::Unary(op, x) => Instr::Unary(op, at(x)),
            Instr::Binary(op, x, y) => Instr::Binary(op, at(x), at(y)),
            Instr::Select(c, x, y) => Instr::Select(at(c), at(x), at(y)),
            Instr::Cast(to, x) => Instr::Cast(to, at(x)),
            leaf @ (Instr::Axis(_) | Instr::Float(_) | Instr::Int(_) | Instr::Bool(_) | Instr::Size(_)) => leaf,
        };
        moved.push(to.push(instr));
    }
    moved
}
