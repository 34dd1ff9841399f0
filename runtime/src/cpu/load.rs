//! How do elements get from buffers into strips and back? Contiguous, strided or gathered, widened or rounded.
//!
//! Law: every index is checked, a run by its two ends; outside the buffer is an error, never a read or write.

use super::buffers::{Source, Target, View, bf16_bits};
use super::code::{At, Loc, STRIP, StoreOp};
use super::error::CpuError;
use super::ops::{Src, map1};
use super::strip::{Position, Regs, Run, runs};
use enel_bundle::Kind;
use enel_types::DType;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::sync::atomic::Ordering::Relaxed;

#[cold]
fn outside(buffer: u32, index: i64, len: usize) -> CpuError {
    CpuError::OutOfBounds { buffer: buffer as usize, index, len }
}

/// Checks that `start, start + stride, ..` (n > 0 of them) lie in `0..len`; gives the first.
#[inline(always)]
fn check_run(buffer: u32, len: usize, n: usize, start: i64, stride: i64) -> Result<usize, CpuError> {
    let reach = stride.checked_mul(n as i64 - 1).and_then(|r| start.checked_add(r));
    for end in [start, reach.unwrap_or(i64::MAX)] {
        if end < 0 || end >= len as i64 {
            return Err(outside(buffer, end, len));
        }
    }
    Ok(start as usize)
}

#[inline(always)]
fn run<T: Copy, R: Copy>(out: &mut [R], source: &[T], first: usize, stride: i64, widen: impl Fn(T) -> R) {
    match stride {
        0 => out.fill(widen(source[first])),
        1 => {
            let part = &source[first..first + out.len()];
            out.iter_mut().zip(part).for_each(|(o, x)| *o = widen(*x));
        }
        2.. => {
            let part = source[first..].iter().step_by(stride as usize);
            out.iter_mut().zip(part).for_each(|(o, x)| *o = widen(*x));
        }
        ..0 => {
            let part = source[..=first].iter().rev().step_by(stride.unsigned_abs() as usize);
            out.iter_mut().zip(part).for_each(|(o, x)| *o = widen(*x));
        }
    }
}

#[inline(always)]
fn gather<T: Copy, R: Copy>(
    out: &mut [R],
    source: &[T],
    buffer: u32,
    index: Src<'_, i64>,
    widen: impl Fn(T) -> R,
) -> Result<(), CpuError> {
    for (i, o) in out.iter_mut().enumerate() {
        let at = index.at(i);
        let found = usize::try_from(at).ok().and_then(|at| source.get(at));
        *o = widen(*found.ok_or_else(|| outside(buffer, at, source.len()))?);
    }
    Ok(())
}

/// Loads elements this very code replaces.
#[inline(always)]
fn updated<R>(
    out: &mut [R],
    view: &View<'_>,
    buffer: u32,
    at: impl Fn(usize) -> i64,
    get: impl Fn(usize) -> R,
) -> Result<(), CpuError> {
    for (i, o) in out.iter_mut().enumerate() {
        let index = at(i);
        let found = usize::try_from(index).ok().filter(|at| *at < view.len);
        *o = get(found.ok_or_else(|| outside(buffer, index, view.len))?);
    }
    Ok(())
}

/// Elements `first + offset` for each offset, none of which exceeds `max`.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) first: i64,
    pub(crate) offsets: &'a [u32],
    pub(crate) max: u32,
}

impl Places<'_> {
    #[inline(always)]
    fn at(&self, i: usize) -> i64 {
        self.first + i64::from(self.offsets[i])
    }
}

/// A window of at most this many elements is read from a copy.
const SMALL_WINDOW: usize = 16;

#[inline(always)]
fn pick<T: Copy, R: Copy>(
    out: &mut [R],
    source: &[T],
    buffer: u32,
    places: Places<'_>,
    widen: impl Fn(T) -> R,
) -> Result<(), CpuError> {
    let Places { first, offsets, max } = places;
    let last = first.checked_add(i64::from(max));
    let window = usize::try_from(first).ok().zip(last.and_then(|l| usize::try_from(l).ok()));
    let window = window.and_then(|(first, last)| source.get(first..=last));
    let window = window
        .ok_or_else(|| outside(buffer, if first < 0 { first } else { last.unwrap_or(i64::MAX) }, source.len()))?;
    if window.len() <= SMALL_WINDOW {
        // A mask instead of a check for every element; offsets are inside the window as it is.
        let mut near = [widen(window[0]); SMALL_WINDOW];
        near.iter_mut().zip(window).for_each(|(o, x)| *o = widen(*x));
        out.iter_mut().zip(offsets).for_each(|(o, offset)| *o = near[*offset as usize % SMALL_WINDOW]);
    } else {
        out.iter_mut().zip(offsets).for_each(|(o, offset)| *o = widen(window[*offset as usize]));
    }
    Ok(())
}

/// Loads elements of a float buffer at a table's places.
#[inline(always)]
pub(crate) fn floats_at(out: &mut [f32], view: &View<'_>, buffer: u32, places: Places<'_>) -> Result<(), CpuError> {
    match view.source {
        Source::F32(values) => pick(out, values, buffer, places, |x| x),
        Source::Bf16(values) => pick(out, values, buffer, places, widen_bf16),
        Source::F16(values) => pick(out, values, buffer, places, f16::to_f32),
        _ => updated(out, view, buffer, |i| places.at(i), |at| view.get_float(at)),
    }
}

/// Loads elements of an integer buffer at a table's places.
#[inline(always)]
pub(crate) fn ints_at(out: &mut [i64], view: &View<'_>, buffer: u32, places: Places<'_>) -> Result<(), CpuError> {
    match view.source {
        Source::I64(values) => pick(out, values, buffer, places, |x| x),
        Source::I32(values) => pick(out, values, buffer, places, i64::from),
        Source::U32(values) => pick(out, values, buffer, places, i64::from),
        Source::U8(values) => pick(out, values, buffer, places, i64::from),
        _ => updated(out, view, buffer, |i| places.at(i), |at| view.get_int(at)),
    }
}

/// Loads elements of a bool buffer at a table's places.
#[inline(always)]
pub(crate) fn bools_at(out: &mut [bool], view: &View<'_>, buffer: u32, places: Places<'_>) -> Result<(), CpuError> {
    match view.source {
        Source::Bool(values) => pick(out, values, buffer, places, |x| x != 0),
        _ => updated(out, view, buffer, |i| places.at(i), |at| view.get_int(at) != 0),
    }
}

#[inline(always)]
fn widen_bf16(x: half::bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Loads a run of a float buffer.
#[inline(always)]
pub(crate) fn floats(out: &mut [f32], view: &View<'_>, buffer: u32, start: i64, stride: i64) -> Result<(), CpuError> {
    let first = check_run(buffer, view.len, out.len(), start, stride)?;
    match view.source {
        Source::F32(values) => run(out, values, first, stride, |x| x),
        Source::Bf16(values) => run(out, values, first, stride, widen_bf16),
        Source::F16(values) if stride == 1 => values[first..first + out.len()].convert_to_f32_slice(out),
        Source::F16(values) => run(out, values, first, stride, f16::to_f32),
        _ => return updated(out, view, buffer, |i| start + i as i64 * stride, |at| view.get_float(at)),
    }
    Ok(())
}

/// A run of an f32 buffer, where it lies.
#[inline(always)]
pub(crate) fn borrow<'a>(view: &View<'a>, buffer: u32, start: i64, n: usize) -> Result<&'a [f32], CpuError> {
    let first = check_run(buffer, view.len, n, start, 1)?;
    match view.source {
        Source::F32(values) => Ok(&values[first..first + n]),
        _ => Ok(&[]),
    }
}

/// Loads a run of an integer buffer.
#[inline(always)]
pub(crate) fn ints(out: &mut [i64], view: &View<'_>, buffer: u32, start: i64, stride: i64) -> Result<(), CpuError> {
    let first = check_run(buffer, view.len, out.len(), start, stride)?;
    match view.source {
        Source::I64(values) => run(out, values, first, stride, |x| x),
        Source::I32(values) => run(out, values, first, stride, i64::from),
        Source::U32(values) => run(out, values, first, stride, i64::from),
        Source::U8(values) => run(out, values, first, stride, i64::from),
        _ => return updated(out, view, buffer, |i| start + i as i64 * stride, |at| view.get_int(at)),
    }
    Ok(())
}

/// Loads a run of a bool buffer.
#[inline(always)]
pub(crate) fn bools(out: &mut [bool], view: &View<'_>, buffer: u32, start: i64, stride: i64) -> Result<(), CpuError> {
    let first = check_run(buffer, view.len, out.len(), start, stride)?;
    match view.source {
        Source::Bool(values) => run(out, values, first, stride, |x| x != 0),
        _ => return updated(out, view, buffer, |i| start + i as i64 * stride, |at| view.get_int(at) != 0),
    }
    Ok(())
}

/// Loads elements of a float buffer at any indices.
#[inline(always)]
pub(crate) fn gather_floats(
    out: &mut [f32],
    view: &View<'_>,
    buffer: u32,
    index: Src<'_, i64>,
) -> Result<(), CpuError> {
    match view.source {
        Source::F32(values) => gather(out, values, buffer, index, |x| x),
        Source::Bf16(values) => gather(out, values, buffer, index, widen_bf16),
        Source::F16(values) => gather(out, values, buffer, index, f16::to_f32),
        _ => updated(out, view, buffer, |i| index.at(i), |at| view.get_float(at)),
    }
}

/// Loads elements of an integer buffer at any indices.
#[inline(always)]
pub(crate) fn gather_ints(out: &mut [i64], view: &View<'_>, buffer: u32, index: Src<'_, i64>) -> Result<(), CpuError> {
    match view.source {
        Source::I64(values) => gather(out, values, buffer, index, |x| x),
        Source::I32(values) => gather(out, values, buffer, index, i64::from),
        Source::U32(values) => gather(out, values, buffer, index, i64::from),
        Source::U8(values) => gather(out, values, buffer, index, i64::from),
        _ => updated(out, view, buffer, |i| index.at(i), |at| view.get_int(at)),
    }
}

/// Loads elements of a bool buffer at any indices.
#[inline(always)]
pub(crate) fn gather_bools(
    out: &mut [bool],
    view: &View<'_>,
    buffer: u32,
    index: Src<'_, i64>,
) -> Result<(), CpuError> {
    match view.source {
        Source::Bool(values) => gather(out, values, buffer, index, |x| x != 0),
        _ => updated(out, view, buffer, |i| index.at(i), |at| view.get_int(at) != 0),
    }
}

/// Performs a store for the points of a strip.
#[inline(always)]
pub(crate) fn store(op: &StoreOp, pos: &Position, regs: &Regs<'_>, view: &View<'_>) -> Result<(), CpuError> {
    match &op.at {
        At::Form(form) => {
            for Run { from, n, start, stride } in runs(form, pos, regs) {
                let first = check_run(op.buffer, view.len, n, start, stride)?;
                let at = |i: usize| (start + stride * i as i64) as usize;
                match (op.kind, stride) {
                    (Kind::Float, 1) => put_floats(view, first, regs.float(op.value, pos.n).part(from, n), n),
                    (_, 1) => put_ints(view, first, from, n, |i| int_at(op, regs, pos.n, i)),
                    _ => (0..n).for_each(|i| put(op, regs, pos.n, from + i, view, at(i))),
                }
            }
            Ok(())
        }
        At::Index(index) => scatter(op, *index, pos.n, regs, view),
    }
}

#[inline(always)]
fn scatter(op: &StoreOp, index: Loc, n: usize, regs: &Regs<'_>, view: &View<'_>) -> Result<(), CpuError> {
    let index = regs.int(index, n);
    for i in 0..n {
        let at = index.at(i);
        if at < 0 || at >= view.len as i64 {
            return Err(outside(op.buffer, at, view.len));
        }
        put(op, regs, n, i, view, at as usize);
    }
    Ok(())
}

#[inline(always)]
fn int_at(op: &StoreOp, regs: &Regs<'_>, n: usize, i: usize) -> i64 {
    match op.kind {
        Kind::Bool => i64::from(regs.bool(op.value, n).at(i)),
        Kind::Int | Kind::Float => regs.int(op.value, n).at(i),
    }
}

#[inline(always)]
fn put(op: &StoreOp, regs: &Regs<'_>, n: usize, i: usize, view: &View<'_>, at: usize) {
    match op.kind {
        Kind::Float => view.set_float(at, regs.float(op.value, n).at(i)),
        Kind::Int | Kind::Bool => view.set_int(at, int_at(op, regs, n, i)),
    }
}

/// Rounds and writes consecutive floats.
#[inline(always)]
fn put_floats(view: &View<'_>, first: usize, values: Src<'_, f32>, n: usize) {
    match (view.dtype, view.target) {
        (DType::F32, Target::W32(cells)) => match values {
            Src::Strip(x) => cells[first..first + n].iter().zip(x).for_each(|(c, x)| c.store(x.to_bits(), Relaxed)),
            Src::One(x) => cells[first..first + n].iter().for_each(|c| c.store(x.to_bits(), Relaxed)),
        },
        (dtype, Target::W16(cells)) => {
            let mut bits = [0u16; STRIP];
            match (dtype, values) {
                (DType::F16, Src::Strip(x)) => {
                    let mut rounded = [f16::ZERO; STRIP];
                    rounded[..n].convert_from_f32_slice(x);
                    bits.iter_mut().zip(&rounded[..n]).for_each(|(b, r)| *b = r.to_bits());
                }
                (DType::F16, Src::One(x)) => bits[..n].fill(f16::from_f32(x).to_bits()),
                (_, values) => map1(&mut bits[..n], values, bf16_bits),
            }
            cells[first..first + n].iter().zip(&bits).for_each(|(c, b)| c.store(*b, Relaxed));
        }
        _ => {}
    }
}

/// Wraps and writes consecutive integers or truth values.
#[inline(always)]
fn put_ints(view: &View<'_>, first: usize, from: usize, n: usize, value: impl Fn(usize) -> i64) {
    match view.target {
        Target::W8(cells) => (0..n).for_each(|i| cells[first + i].store(value(from + i) as u8, Relaxed)),
        Target::W32(cells) => (0..n).for_each(|i| cells[first + i].store(value(from + i) as u32, Relaxed)),
        Target::W64(cells) => (0..n).for_each(|i| cells[first + i].store(value(from + i) as u64, Relaxed)),
        Target::W16(_) | Target::None => {}
    }
}
