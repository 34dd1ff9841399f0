//! What does one operation do to the registers? Finds its operands, takes its result's slot, calls the loop.

use super::buffers::View;
use super::code::{Form, Loc, Op, Table, Work};
use super::error::CpuError;
use super::load::{self, Places};
use super::ops::{self, Src};
use super::strip::{AccIn, Position, Regs, Run, runs};
use enel_bundle::Kind;

/// What operations read beside registers.
#[derive(Clone, Copy)]
pub(crate) struct Env<'e, 'a> {
    pub(crate) pos: &'e Position,
    pub(crate) views: &'a [View<'a>],
    pub(crate) accs: &'e [AccIn<'e>],
    /// First point of the strip within the range.
    pub(crate) offset: usize,
}

impl Env<'_, '_> {
    /// Where a tabled load of this strip looks.
    #[inline(always)]
    fn place<'t>(&self, form: &Form, table: &'t Table, regs: &Regs<'_>) -> Places<'t> {
        // The form is uniform, so there is one run.
        let first = runs(form, self.pos, regs).map(|run| run.start).next().unwrap_or(-1);
        let from = self.pos.start as usize;
        Places { first, offsets: &table.offsets[from..from + self.pos.n], max: table.max }
    }
}

#[inline(always)]
pub(crate) fn run_op<'a>(op: &Op, regs: &mut Regs<'a>, env: &Env<'_, 'a>) -> Result<(), CpuError> {
    let n = env.pos.n;
    match (op.kind, op.dst) {
        (Kind::Float, Loc::Strip(slot)) => {
            let mut out = std::mem::take(&mut regs.floats[slot as usize]);
            let done = float_op(op, &mut out[..n], regs, env);
            regs.floats[slot as usize] = out;
            done
        }
        (Kind::Int, Loc::Strip(slot)) => {
            let mut out = std::mem::take(&mut regs.ints[slot as usize]);
            let done = int_op(op, &mut out[..n], regs, env);
            regs.ints[slot as usize] = out;
            done
        }
        (Kind::Bool, Loc::Strip(slot)) => {
            let mut out = std::mem::take(&mut regs.bools[slot as usize]);
            let done = bool_op(op, &mut out[..n], regs, env);
            regs.bools[slot as usize] = out;
            done
        }
        (_, Loc::Direct(slot)) => {
            let Work::Borrow(buffer, form) = &op.work else { return Ok(()) };
            let view = &env.views[*buffer as usize];
            for Run { n, start, .. } in runs(form, env.pos, regs) {
                regs.direct[slot as usize] = load::borrow(view, *buffer, start, n)?;
            }
            Ok(())
        }
        (Kind::Float, Loc::Uniform(slot)) => {
            let mut out = [0.0];
            float_op(op, &mut out, regs, env)?;
            regs.one_float[slot as usize] = out[0];
            Ok(())
        }
        (Kind::Int, Loc::Uniform(slot)) => {
            let mut out = [0];
            int_op(op, &mut out, regs, env)?;
            regs.one_int[slot as usize] = out[0];
            Ok(())
        }
        (Kind::Bool, Loc::Uniform(slot)) => {
            let mut out = [false];
            bool_op(op, &mut out, regs, env)?;
            regs.one_bool[slot as usize] = out[0];
            Ok(())
        }
    }
}

#[inline(always)]
fn float_op(op: &Op, out: &mut [f32], regs: &Regs<'_>, env: &Env<'_, '_>) -> Result<(), CpuError> {
    let n = out.len();
    match (&op.work, op.from) {
        (Work::Float(value), _) => out.fill(*value),
        (Work::LoadForm(buffer, form) | Work::Borrow(buffer, form), _) => {
            let view = &env.views[*buffer as usize];
            for Run { from, n, start, stride } in runs(form, env.pos, regs) {
                load::floats(&mut out[from..from + n], view, *buffer, start, stride)?;
            }
        }
        (Work::LoadTable(buffer, form, table), _) => {
            return load::floats_at(out, &env.views[*buffer as usize], *buffer, env.place(form, table, regs));
        }
        (Work::LoadIndex(buffer, index), _) => {
            return load::gather_floats(out, &env.views[*buffer as usize], *buffer, regs.int(*index, n));
        }
        (Work::Acc(i), _) => {
            if let Some(AccIn::Float(values)) = env.accs.get(*i as usize) {
                out.copy_from_slice(&values[env.offset..env.offset + n]);
            }
        }
        (Work::Unary(o, x), _) => ops::unary_float(*o, out, regs.float(*x, n)),
        (Work::Binary(o, x, y), _) => ops::binary_float(*o, out, regs.float(*x, n), regs.float(*y, n)),
        (Work::Select(c, x, y), _) => ops::select(out, regs.bool(*c, n), regs.float(*x, n), regs.float(*y, n)),
        (Work::Cast(_, x), Kind::Float) => regs.float(*x, n).copy_to(out),
        (Work::Cast(_, x), Kind::Int) => ops::map1(out, regs.int(*x, n), |x| x as f32),
        (Work::Cast(_, x), Kind::Bool) => ops::map1(out, regs.bool(*x, n), |x| f32::from(u8::from(x))),
        (Work::Bool(_) | Work::Form(_), _) => {}
    }
    Ok(())
}

#[inline(always)]
fn int_op(op: &Op, out: &mut [i64], regs: &Regs<'_>, env: &Env<'_, '_>) -> Result<(), CpuError> {
    let n = out.len();
    match (&op.work, op.from) {
        (Work::Form(form), _) => {
            for Run { from, n, start, stride } in runs(form, env.pos, regs) {
                let mut value = start;
                for o in &mut out[from..from + n] {
                    *o = value;
                    value = value.wrapping_add(stride);
                }
            }
            for (loc, coef) in &form.terms {
                if let Loc::Strip(_) = loc
                    && let Src::Strip(values) = regs.int(*loc, n)
                {
                    out.iter_mut().zip(values).for_each(|(o, x)| *o = o.wrapping_add(x.wrapping_mul(*coef)));
                }
            }
        }
        (Work::LoadForm(buffer, form), _) => {
            let view = &env.views[*buffer as usize];
            for Run { from, n, start, stride } in runs(form, env.pos, regs) {
                load::ints(&mut out[from..from + n], view, *buffer, start, stride)?;
            }
        }
        (Work::LoadTable(buffer, form, table), _) => {
            return load::ints_at(out, &env.views[*buffer as usize], *buffer, env.place(form, table, regs));
        }
        (Work::LoadIndex(buffer, index), _) => {
            return load::gather_ints(out, &env.views[*buffer as usize], *buffer, regs.int(*index, n));
        }
        (Work::Acc(i), _) => {
            if let Some(AccIn::Int(values)) = env.accs.get(*i as usize) {
                out.copy_from_slice(&values[env.offset..env.offset + n]);
            }
        }
        (Work::Unary(o, x), _) => ops::unary_int(*o, out, regs.int(*x, n)),
        (Work::Binary(o, x, y), _) => ops::binary_int(*o, out, regs.int(*x, n), regs.int(*y, n)),
        (Work::Select(c, x, y), _) => ops::select(out, regs.bool(*c, n), regs.int(*x, n), regs.int(*y, n)),
        (Work::Cast(to, x), Kind::Float) => ops::float_to_int(*to, out, regs.float(*x, n)),
        (Work::Cast(to, x), Kind::Int) => ops::int_to_int(*to, out, regs.int(*x, n)),
        (Work::Cast(_, x), Kind::Bool) => ops::map1(out, regs.bool(*x, n), i64::from),
        (Work::Float(_) | Work::Bool(_) | Work::Borrow(..), _) => {}
    }
    Ok(())
}

#[inline(always)]
fn bool_op(op: &Op, out: &mut [bool], regs: &Regs<'_>, env: &Env<'_, '_>) -> Result<(), CpuError> {
    let n = out.len();
    match (&op.work, op.from) {
        (Work::Bool(value), _) => out.fill(*value),
        (Work::LoadForm(buffer, form), _) => {
            let view = &env.views[*buffer as usize];
            for Run { from, n, start, stride } in runs(form, env.pos, regs) {
                load::bools(&mut out[from..from + n], view, *buffer, start, stride)?;
            }
        }
        (Work::LoadTable(buffer, form, table), _) => {
            return load::bools_at(out, &env.views[*buffer as usize], *buffer, env.place(form, table, regs));
        }
        (Work::LoadIndex(buffer, index), _) => {
            return load::gather_bools(out, &env.views[*buffer as usize], *buffer, regs.int(*index, n));
        }
        (Work::Acc(i), _) => {
            if let Some(AccIn::Bool(values)) = env.accs.get(*i as usize) {
                out.copy_from_slice(&values[env.offset..env.offset + n]);
            }
        }
        (Work::Unary(_, x), _) => ops::not_bool(out, regs.bool(*x, n)),
        (Work::Binary(o, x, y), Kind::Float) => ops::compare(*o, out, regs.float(*x, n), regs.float(*y, n)),
        (Work::Binary(o, x, y), Kind::Int) => ops::compare(*o, out, regs.int(*x, n), regs.int(*y, n)),
        (Work::Binary(o, x, y), Kind::Bool) => ops::binary_bool(*o, out, regs.bool(*x, n), regs.bool(*y, n)),
        (Work::Select(c, x, y), _) => ops::select(out, regs.bool(*c, n), regs.bool(*x, n), regs.bool(*y, n)),
        (Work::Cast(_, x), Kind::Float) => ops::map1(out, regs.float(*x, n), |x| x != 0.0),
        (Work::Cast(_, x), Kind::Int) => ops::map1(out, regs.int(*x, n), |x| x != 0),
        (Work::Cast(_, x), Kind::Bool) => regs.bool(*x, n).copy_to(out),
        (Work::Float(_) | Work::Form(_) | Work::Borrow(..), _) => {}
    }
    Ok(())
}
