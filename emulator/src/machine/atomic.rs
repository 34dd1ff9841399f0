//! What do `atom` and `red` do? One lane after another, each read-modify-write indivisible.

use std::sync::atomic::Ordering::SeqCst;

use super::access::{Home, Lane, MemoryFault, Request, resolve};
use super::block::Env;
use super::num;
use super::race::Touch;
use super::warp::{LANES, Warp};
use crate::decode::op::{Atom, AtomOp, Half, Rnd};
use crate::error::Access;
use crate::memory::{Allocation, Memory};
use crate::syntax::ast::Ty;

/// New value of a word of type `ty`.
fn update(op: AtomOp, ty: Ty, old: u64, b: u64, c: u64) -> u64 {
    let bits = 8 * ty.bytes();
    let sx = |x: u64| ((x << (64 - bits)) as i64) >> (64 - bits);
    match op {
        AtomOp::AddU => old.wrapping_add(b),
        AtomOp::AddF => add_float(ty, old, b),
        AtomOp::MinS => sx(old).min(sx(b)) as u64,
        AtomOp::MaxS => sx(old).max(sx(b)) as u64,
        AtomOp::MinU => old.min(b),
        AtomOp::MaxU => old.max(b),
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomOp::MinF | AtomOp::MaxF => extreme_half(op, ty, old, b),
    }
}

fn add_half(half: Half, x: u64, y: u64) -> u64 {
    let value = |bits: u64| f64::from(num::half_to_f32(bits as u32 & 0xffff, half));
    u64::from(num::narrow(num::add_odd(value(x), value(y)), num::half_format(half), Rnd::Near))
}

fn add_float(ty: Ty, x: u64, y: u64) -> u64 {
    let pair = |half| add_half(half, x, y) | add_half(half, x >> 16, y >> 16) << 16;
    match ty {
        Ty::F64 => (f64::from_bits(x) + f64::from_bits(y)).to_bits(),
        Ty::F32 => u64::from((f32::from_bits(x as u32) + f32::from_bits(y as u32)).to_bits()),
        Ty::F16x2 => pair(Half::F16),
        Ty::Bf16x2 => pair(Half::Bf16),
        Ty::F16 => add_half(Half::F16, x, y),
        _ => add_half(Half::Bf16, x, y),
    }
}

/// Minimum or maximum of halves: a NaN loses, and -0 lies below +0. The decoder lets no other type pass.
fn extreme_half(op: AtomOp, ty: Ty, x: u64, y: u64) -> u64 {
    let half = if ty == Ty::F16 { Half::F16 } else { Half::Bf16 };
    let value = |bits: u64| num::half_to_f32(bits as u32 & 0xffff, half);
    let (a, b) = (value(x), value(y));
    let first = match (a.is_nan(), b.is_nan()) {
        (true, _) => false,
        (_, true) => true,
        _ if op == AtomOp::MinF => a.total_cmp(&b).is_le(),
        _ => a.total_cmp(&b).is_ge(),
    };
    if first { x } else { y }
}

/// New value of an element that a reduction meets, cut to its size.
pub(crate) fn reduce(op: AtomOp, ty: Ty, old: u64, b: u64) -> u64 {
    update(op, ty, old, b, b) & u64::MAX >> (64 - 8 * ty.bytes())
}

/// The same in global memory, where other blocks may be at work.
pub(crate) fn update_global(memory: &Memory, allocation: &Allocation, offset: usize, (op, ty): (AtomOp, Ty), b: u64) {
    if ty.bytes() == 8 {
        let _guard = memory.wide_lock.lock();
        let old = allocation.load(offset, 8);
        allocation.store(offset, 8, reduce(op, ty, old, b));
        return;
    }
    let keep = u32::MAX >> (32 - 8 * ty.bytes());
    let shift = offset % 4 * 8;
    let next = |word: u32| {
        let new = reduce(op, ty, u64::from(word >> shift & keep), b) as u32;
        Some(word & !(keep << shift) | new << shift)
    };
    // Never fails: the closure always returns a value.
    let _ = allocation.words[offset / 4].fetch_update(SeqCst, SeqCst, next);
}

impl Env<'_> {
    pub(crate) fn exec_atom(&mut self, warp: &mut Warp, m: u32, atom: &Atom) -> Lane<()> {
        let addresses = warp.addresses(atom.addr);
        let bytes = atom.ty.bytes();
        let mut old_row = [0u64; LANES];
        let mut is_change = false;
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let operand = |r| if atom.wide { warp.get64(r)[lane] } else { u64::from(warp.get32(r)[lane]) };
            let cut = if bytes == 2 { 0xffff } else { u64::MAX };
            let (b, c) = (operand(atom.b) & cut, operand(atom.c) & cut);
            let (home, address) = resolve(atom.addr.space, addresses[lane]);
            let req = Request { lane, access: Access::Atomic, home, address, bytes };
            // Atomics must be aligned on every device, whatever is checked.
            if !address.is_multiple_of(bytes.into()) {
                return req.fault(MemoryFault::Misaligned);
            }
            old_row[lane] = match home {
                Home::Global => self.atom_global(req, atom, b, c)?,
                Home::Shared => {
                    let mut old = [0];
                    self.load(warp, req, bytes, &mut old)?;
                    let new = update(atom.op, atom.ty, old[0], b, c);
                    self.store(warp, req, bytes, &[new])?;
                    old[0]
                }
                Home::Local | Home::Param => return req.fault(MemoryFault::OutOfBounds),
            };
            is_change |= update(atom.op, atom.ty, old_row[lane], b, c) & cut != old_row[lane] & cut;
        }
        if is_change {
            self.changes += 1;
        } else {
            warp.polls = warp.polls.saturating_add(1);
        }
        let (space, access, order) = (atom.addr.space, Access::Atomic, atom.order);
        let touch = Touch { space, addresses: &addresses, bytes, access, order, is_swap: atom.op == AtomOp::Cas };
        self.count(m, &touch, false);
        self.watch(warp, m, &touch)?;
        if let Some(d) = atom.d {
            if atom.wide {
                warp.set64(d, m, &old_row);
            } else {
                warp.set32(d, m, &old_row.map(|x| x as u32));
            }
        }
        Ok(())
    }

    fn atom_global(&self, req: Request, atom: &Atom, b: u64, c: u64) -> Lane<u64> {
        let Some((allocation, offset)) = self.memory.find(req.address, req.bytes.into()) else {
            return req.fault(MemoryFault::OutOfBounds);
        };
        let offset = offset as usize;
        if self.checks.uninitialised && !allocation.is_written(offset, req.bytes) {
            return req.fault(MemoryFault::Uninitialised);
        }
        if req.bytes == 8 {
            let _guard = self.memory.wide_lock.lock();
            let old = allocation.load(offset, 8);
            allocation.store(offset, 8, update(atom.op, atom.ty, old, b, c));
            return Ok(old);
        }
        // Halves share their word with a neighbour.
        let (shift, keep) = if req.bytes == 2 { (offset % 4 * 8, 0xffff_u32) } else { (0, u32::MAX) };
        let word = &allocation.words[offset / 4];
        let mut seen = word.load(SeqCst);
        loop {
            let old = u64::from(seen >> shift & keep);
            let new = update(atom.op, atom.ty, old, b, c) as u32 & keep;
            match word.compare_exchange_weak(seen, seen & !(keep << shift) | new << shift, SeqCst, SeqCst) {
                Ok(_) => {
                    allocation.written[offset / 4]
                        .fetch_or(if req.bytes == 2 { 3 << (shift / 8) } else { 0xf }, SeqCst);
                    return Ok(old);
                }
                Err(now) => seen = now,
            }
        }
    }
}
