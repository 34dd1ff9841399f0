//! Do kernels read the same elements? Then they are one, and read them once: reductions of a launch with an accumulator
//! each, and maps that update states side by side.

use crate::group::Lowered;
use enel_bundle::{Access, Body, Instr, MapBody, Program, ReduceBody, Reg, Store, check_desc};
use enel_ir::{DType, NodeId};

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
    let moved = append(&mut body.epilogue, epilogue, n_accs, |buffer, index| Found::Load(place(buffer), index));
    body.stores.extend(stores.iter().map(|s| placed(s, place(s.buffer), &moved)));
    Some(new)
}

/// Instructions of one map at most: what a state's update takes, several times over.
const MAX_INSTRS: usize = 256;

/// One map that does what `first` and then `second` do, both over the same points, where that saves a load: `second` reads,
/// where its point is, what `first` reads or makes there. `buffer_of` says which values lie in one buffer.
pub(crate) fn behind(first: &Lowered, second: &Lowered, buffer_of: &dyn Fn(NodeId) -> u32) -> Option<Lowered> {
    let (Body::Map(a), Body::Map(MapBody { space, program, stores })) = (&first.desc.body, &second.desc.body) else {
        return None;
    };
    let same_space = a.space == *space && first.dynamics == second.dynamics;
    if !same_space || first.desc.dynamics != second.desc.dynamics {
        return None;
    }
    let mut new = first.clone();
    let mut places = Vec::with_capacity(second.buffers.len());
    for (&id, &role) in second.buffers.iter().zip(&second.desc.buffers) {
        let known = new.buffers.iter().position(|&own| buffer_of(own) == buffer_of(id));
        let place = known.unwrap_or(new.buffers.len());
        if known.is_none() {
            new.buffers.push(id);
            new.desc.buffers.push(role);
        }
        let own = &mut new.desc.buffers[place];
        own.access = match (own.access, role.access) {
            _ if own.dtype != role.dtype => return None,
            _ if known.is_none() => role.access,
            (access, Access::Read) => access,
            (Access::Read, Access::Write | Access::Update) => Access::Update,
            (Access::Write | Access::Update, Access::Write | Access::Update) => return None,
        };
        places.push(place as u32);
    }
    let (mut saves, mut fits) = (false, true);
    let Body::Map(body) = &mut new.desc.body else { return None };
    let moved = append(&mut body.program, program, 0, |buffer, index| {
        let place = places[buffer as usize];
        let made = a.stores.iter().find(|store| store.buffer == place);
        // A value that is stored narrower is not what comes back.
        fits &= made.is_none_or(|store| store.index == index && new.desc.buffers[place as usize].dtype == DType::F32);
        let load = Instr::Load { buffer: place, index };
        saves |= made.is_some() || (a.stores.iter().any(|s| s.index == index) && a.program.instrs().contains(&load));
        made.map_or(Found::Load(place, index), |store| Found::Value(store.value))
    });
    body.stores.extend(stores.iter().map(|s| placed(s, places[s.buffer as usize], &moved)));
    let is_short = body.program.instrs().len() <= MAX_INSTRS;
    (saves && fits && is_short && check_desc(&new.desc).is_ok()).then_some(new)
}

/// A store of a program that was appended.
fn placed(store: &Store, buffer: u32, moved: &[Reg]) -> Store {
    Store { buffer, index: moved[store.index.0 as usize], value: moved[store.value.0 as usize] }
}

/// Where a program that is appended finds what it loads.
enum Found {
    /// At a place of a buffer.
    Load(u32, Reg),
    /// In a register.
    Value(Reg),
}

/// Appends `from`, whose accumulators are those from `first_acc` on and whose loads are found by `find`, which gets their
/// buffer and the new place of their index; its registers' new places.
fn append(to: &mut Program, from: &Program, first_acc: u32, mut find: impl FnMut(u32, Reg) -> Found) -> Vec<Reg> {
    let mut moved: Vec<Reg> = Vec::with_capacity(from.instrs().len());
    for instr in from.instrs() {
        let at = |reg: Reg| moved[reg.0 as usize];
        let instr = match *instr {
            Instr::Acc(n) => Instr::Acc(n + first_acc),
            Instr::Load { buffer, index } => match find(buffer, at(index)) {
                Found::Load(buffer, index) => Instr::Load { buffer, index },
                Found::Value(reg) => {
                    moved.push(reg);
                    continue;
                }
            },
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
