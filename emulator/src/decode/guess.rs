//! Which plain loads are guesses that a compare-and-swap checks?
//!
//! `old = *p; do { seen = old; old = atomicCAS(p, seen, f(seen)); } while (old != seen);` reads `p` while others update
//! it, which the memory model calls a race and every CUDA text does (programming guide, atomic functions): a wrong
//! guess costs one more turn and nothing else. Such a load counts as relaxed.

use super::op::{Addr, AtomOp, Bin64, Const, Instr, MemSpace, Op, R, Un32, Un64};

/// A compare-and-swap: where, and the register it compares with.
struct Swap {
    place: (MemSpace, R, i64),
    expected: R,
    wide: bool,
}

/// `sum = base + constant` for addresses.
type Sums = Vec<(R, (R, i64))>;

/// Space, register and offset of an address, constants added up.
fn place(addr: &Addr, sums: &Sums) -> (MemSpace, R, i64) {
    let (mut base, mut offset) = (addr.base, i64::from(addr.offset));
    if addr.wide
        && let Some(&(_, (from, by))) = sums.iter().find(|(sum, _)| *sum == base)
    {
        (base, offset) = (from, offset.wrapping_add(by));
    }
    (addr.space, base, offset)
}

/// Makes relaxed what one function guesses; `consts` are its 64-bit constants by register.
pub(super) fn relax(code: &mut [Instr], consts: &[(R, Const)]) {
    let is_swap = |instr: &Instr| matches!(&instr.op, Op::Atom(atom) if atom.op == AtomOp::Cas);
    if !code.iter().any(is_swap) {
        return;
    }
    let constant = |r: R| match consts.iter().find(|(idx, _)| *idx == r) {
        Some((_, Const::Bits(bits))) => Some(*bits as i64),
        _ => None,
    };
    let sum = |instr: &Instr| match instr.op {
        Op::Bin64(Bin64::Add, d, a, b) => Some((d, (a, constant(b)?))),
        _ => None,
    };
    let sums: Sums = code.iter().filter_map(sum).collect();
    let swap = |instr: &Instr| match &instr.op {
        Op::Atom(atom) if atom.op == AtomOp::Cas => {
            Some(Swap { place: place(&atom.addr, &sums), expected: atom.b, wide: atom.wide })
        }
        _ => None,
    };
    let swaps: Vec<Swap> = code.iter().filter_map(swap).collect();
    // Values reach a loop through moves.
    let copy = |instr: &Instr| match instr.op {
        Op::Un32(Un32::Mov, d, a) => Some((false, d, a)),
        Op::Un64(Un64::Mov, d, a) => Some((true, d, a)),
        _ => None,
    };
    let copies: Vec<(bool, R, R)> = code.iter().filter_map(copy).collect();
    for instr in code {
        let Op::Ld { elem, dst, addr } = &mut instr.op else { continue };
        let at = place(addr, &sums);
        let reaches = |s: &Swap| s.expected == dst[0] || copies.contains(&(s.wide, s.expected, dst[0]));
        let is_guess = |s: &Swap| s.wide == elem.wide && s.place == at && reaches(s);
        if elem.n == 1 && swaps.iter().any(is_guess) {
            elem.order.strong = true;
        }
    }
}
