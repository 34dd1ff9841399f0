//! How is compiled code run? Over any range of its space, strip by strip, handing results to stores or to the family.
//!
//! Law: a range may start and end anywhere; results do not depend on how a family cuts its ranges. Registers come from
//! a pool of the thread, so nothing is allocated per strip.

use super::buffers::View;
use super::code::{Code, Form, Loc, Op, STRIP, Slots};
use super::error::CpuError;
use super::eval::{Env, run_op};
use super::load;
use super::ops::Src;
use enel_bundle::Kind;
use std::cell::RefCell;

/// Values of an accumulator for the points of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AccIn<'a> {
    Float(&'a [f32]),
    Int(&'a [i64]),
    Bool(&'a [bool]),
}

impl<'a> AccIn<'a> {
    /// The values of `len` points from `from` on.
    pub(crate) fn part(self, from: usize, len: usize) -> AccIn<'a> {
        match self {
            AccIn::Float(values) => AccIn::Float(&values[from..from + len]),
            AccIn::Int(values) => AccIn::Int(&values[from..from + len]),
            AccIn::Bool(values) => AccIn::Bool(&values[from..from + len]),
        }
    }
}

/// Registers of running code.
#[derive(Debug, Default)]
pub(crate) struct Regs<'a> {
    vectors: Vectors,
    /// Strips read where they lie.
    pub(crate) direct: Vec<&'a [f32]>,
}

impl std::ops::Deref for Regs<'_> {
    type Target = Vectors;
    #[inline(always)]
    fn deref(&self) -> &Vectors {
        &self.vectors
    }
}

impl std::ops::DerefMut for Regs<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Vectors {
        &mut self.vectors
    }
}

/// Register storage, reused by the code that runs next.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    pub(crate) floats: Vec<Vec<f32>>,
    pub(crate) ints: Vec<Vec<i64>>,
    pub(crate) bools: Vec<Vec<bool>>,
    pub(crate) one_float: Vec<f32>,
    pub(crate) one_int: Vec<i64>,
    pub(crate) one_bool: Vec<bool>,
}

thread_local! {
    static POOL: RefCell<Vec<Vectors>> = const { RefCell::new(Vec::new()) };
}

fn grow<T: Clone + Default>(vectors: &mut Vec<Vec<T>>, to: usize) {
    while vectors.len() < to {
        vectors.push(vec![T::default(); STRIP]);
    }
}

fn grow_one<T: Clone + Default>(values: &mut Vec<T>, to: usize) {
    if values.len() < to {
        values.resize(to, T::default());
    }
}

impl Regs<'_> {
    fn take(slots: &Slots) -> Self {
        let mut regs = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
        grow(&mut regs.floats, slots.strips[0]);
        grow(&mut regs.ints, slots.strips[1]);
        grow(&mut regs.bools, slots.strips[2]);
        grow_one(&mut regs.one_float, slots.uniforms[0]);
        grow_one(&mut regs.one_int, slots.uniforms[1]);
        grow_one(&mut regs.one_bool, slots.uniforms[2]);
        Regs { vectors: regs, direct: vec![&[]; slots.direct] }
    }

    #[inline(always)]
    pub(crate) fn float(&self, loc: Loc, n: usize) -> Src<'_, f32> {
        match loc {
            Loc::Strip(slot) => Src::Strip(&self.floats[slot as usize][..n]),
            Loc::Direct(slot) => Src::Strip(&self.direct[slot as usize][..n]),
            Loc::Uniform(slot) => Src::One(self.one_float[slot as usize]),
        }
    }

    #[inline(always)]
    pub(crate) fn int(&self, loc: Loc, n: usize) -> Src<'_, i64> {
        match loc {
            Loc::Strip(slot) | Loc::Direct(slot) => Src::Strip(&self.ints[slot as usize][..n]),
            Loc::Uniform(slot) => Src::One(self.one_int[slot as usize]),
        }
    }

    #[inline(always)]
    pub(crate) fn bool(&self, loc: Loc, n: usize) -> Src<'_, bool> {
        match loc {
            Loc::Strip(slot) | Loc::Direct(slot) => Src::Strip(&self.bools[slot as usize][..n]),
            Loc::Uniform(slot) => Src::One(self.one_bool[slot as usize]),
        }
    }
}

/// Where a strip lies.
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// Coordinates along the outer axes.
    row: Vec<i64>,
    /// Linear position of the first point in the trailing axes.
    pub(crate) start: i64,
    /// Points.
    pub(crate) n: usize,
    /// Coordinates along the trailing axes where each run of consecutive innermost points starts, and its length.
    runs: Vec<(Vec<i64>, usize)>,
    n_runs: usize,
}

impl Position {
    fn set_row(&mut self, outer: &[i64], mut linear: i64) {
        self.row.resize(outer.len(), 0);
        for (at, extent) in outer.iter().enumerate().rev() {
            self.row[at] = linear % extent;
            linear /= extent;
        }
    }

    fn set_strip(&mut self, trail: &[i64], start: i64, n: usize) {
        (self.start, self.n, self.n_runs) = (start, n, 0);
        let Some(&inner) = trail.last() else { return };
        if trail.len() == 1 {
            return;
        }
        let (mut at, end) = (start, start + n as i64);
        while at < end {
            let len = (inner - at % inner).min(end - at);
            if self.n_runs == self.runs.len() {
                self.runs.push((Vec::new(), 0));
            }
            let (coords, run_len) = &mut self.runs[self.n_runs];
            coords.resize(trail.len(), 0);
            let mut linear = at;
            for (i, extent) in trail.iter().enumerate().rev() {
                coords[i] = linear % extent;
                linear /= extent;
            }
            *run_len = len as usize;
            self.n_runs += 1;
            at += len;
        }
    }
}

/// Points of a strip whose indices are `start, start + stride, ..`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// First point within the strip.
    pub(crate) from: usize,
    /// Points.
    pub(crate) n: usize,
    /// Index of the first.
    pub(crate) start: i64,
    /// Distance of neighbouring indices.
    pub(crate) stride: i64,
}

/// The runs of a form over a strip. An iterator rather than a callback, so that loops over it are inlined into the
/// SIMD dispatch they stand in.
pub(crate) struct Runs<'p> {
    form: &'p Form,
    pos: &'p Position,
    base: i64,
    at: usize,
    from: usize,
}

#[inline(always)]
pub(crate) fn runs<'p>(form: &'p Form, pos: &'p Position, regs: &Regs<'_>) -> Runs<'p> {
    let mut base = form.base;
    for (coef, coord) in form.outer.iter().zip(&pos.row) {
        base = base.wrapping_add(coef.wrapping_mul(*coord));
    }
    for (loc, coef) in &form.terms {
        if let Loc::Uniform(slot) = loc {
            base = base.wrapping_add(coef.wrapping_mul(regs.one_int[*slot as usize]));
        }
    }
    Runs { form, pos, base, at: 0, from: 0 }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        let Runs { form, pos, base, .. } = *self;
        if let Some(stride) = form.flat {
            let first = self.at == 0;
            self.at = 1;
            let start = base.wrapping_add(stride.wrapping_mul(pos.start));
            return first.then_some(Run { from: 0, n: pos.n, start, stride });
        }
        let (coords, n) = pos.runs[..pos.n_runs].get(self.at)?;
        let start = form.trail.iter().zip(coords).fold(base, |b, (c, x)| b.wrapping_add(c.wrapping_mul(*x)));
        let run = Run { from: self.from, n: *n, start, stride: form.trail.last().copied().unwrap_or(0) };
        self.at += 1;
        self.from += n;
        Some(run)
    }
}

/// The registers a family asked for, after a strip.
pub(crate) struct Results<'a> {
    code: &'a Code,
    regs: &'a Regs<'a>,
    n: usize,
}

impl Results<'_> {
    /// Root `i`, which is Float.
    pub(crate) fn float(&self, i: usize) -> Src<'_, f32> {
        self.regs.float(self.code.roots[i].0, self.n)
    }

    /// Root `i`, which is Int.
    pub(crate) fn int(&self, i: usize) -> Src<'_, i64> {
        self.regs.int(self.code.roots[i].0, self.n)
    }

    /// Root `i`, which is Bool.
    pub(crate) fn bool(&self, i: usize) -> Src<'_, bool> {
        self.regs.bool(self.code.roots[i].0, self.n)
    }

    /// Kind of root `i`.
    pub(crate) fn kind(&self, i: usize) -> Kind {
        self.code.roots[i].1
    }
}

/// What a family does with a strip: first point within the range, number of points, results.
pub(crate) type Sink<'s> = dyn FnMut(usize, usize, &Results<'_>) -> Result<(), CpuError> + 's;

/// Running code on one thread.
pub(crate) struct Exec<'a> {
    code: &'a Code,
    views: &'a [View<'a>],
    regs: Regs<'a>,
    pos: Position,
    /// The row the registers of `per_row` belong to; -1 before the first.
    row: i64,
    arch: pulp::Arch,
}

impl Drop for Exec<'_> {
    fn drop(&mut self) {
        let vectors = std::mem::take(&mut self.regs.vectors);
        POOL.with(|pool| pool.borrow_mut().push(vectors));
    }
}

struct Batch<'b, 'a> {
    ops: &'b [Op],
    regs: &'b mut Regs<'a>,
    env: Env<'b, 'a>,
}

impl pulp::NullaryFnOnce for Batch<'_, '_> {
    type Output = Result<(), CpuError>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        for op in self.ops {
            run_op(op, self.regs, &self.env)?;
        }
        Ok(())
    }
}

struct Stores<'b> {
    code: &'b Code,
    regs: &'b Regs<'b>,
    pos: &'b Position,
    views: &'b [View<'b>],
}

impl pulp::NullaryFnOnce for Stores<'_> {
    type Output = Result<(), CpuError>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        for store in &self.code.stores {
            load::store(store, self.pos, self.regs, &self.views[store.buffer as usize])?;
        }
        Ok(())
    }
}

struct Load<'b> {
    buffer: u32,
    form: &'b Form,
    out: &'b mut [f32],
    regs: &'b Regs<'b>,
    pos: &'b Position,
    views: &'b [View<'b>],
}

impl pulp::NullaryFnOnce for Load<'_> {
    type Output = Result<(), CpuError>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Load { buffer, form, out, regs, pos, views } = self;
        let view = &views[buffer as usize];
        for Run { from, n, start, stride } in runs(form, pos, regs) {
            load::floats(&mut out[from..from + n], view, buffer, start, stride)?;
        }
        Ok(())
    }
}

impl<'a> Exec<'a> {
    pub(crate) fn new(code: &'a Code, views: &'a [View<'a>]) -> Exec<'a> {
        let regs = Regs::take(&code.slots);
        Exec { code, views, regs, pos: Position::default(), row: -1, arch: pulp::Arch::new() }
    }

    fn batch(&mut self, ops: &'a [Op], accs: &[AccIn<'_>], offset: usize) -> Result<(), CpuError> {
        if ops.is_empty() {
            return Ok(());
        }
        let env = Env { pos: &self.pos, views: self.views, accs, offset };
        self.arch.dispatch(Batch { ops, regs: &mut self.regs, env })
    }

    /// Runs the code for points `start..start + len` of its space, stores included.
    pub(crate) fn range(
        &mut self,
        start: i64,
        len: usize,
        accs: &[AccIn<'_>],
        sink: &mut Sink<'_>,
    ) -> Result<(), CpuError> {
        let code = self.code;
        self.check_range(start, len)?;
        let (mut at, end) = (start, start + len as i64);
        while at < end {
            let (row, within) = (at / code.row_len, at % code.row_len);
            if self.row < 0 {
                (self.pos.n, self.pos.start) = (1, 0);
                self.batch(&code.once, &[], 0)?;
            }
            if row != self.row {
                self.pos.set_row(&code.outer, row);
                (self.pos.n, self.pos.start) = (1, 0);
                self.row = row;
                self.batch(&code.per_row, &[], 0)?;
            }
            let n = (end - at).min(code.row_len - within).min(STRIP as i64) as usize;
            self.pos.set_strip(&code.trail, within, n);
            let offset = (at - start) as usize;
            self.batch(&code.per_strip, accs, offset)?;
            if !code.stores.is_empty() {
                self.arch.dispatch(Stores { code, regs: &self.regs, pos: &self.pos, views: self.views })?;
            }
            sink(offset, n, &Results { code, regs: &self.regs, n })?;
            at += n as i64;
        }
        Ok(())
    }

    /// As `range`, for code that only stores.
    pub(crate) fn stores(&mut self, start: i64, len: usize, accs: &[AccIn<'_>]) -> Result<(), CpuError> {
        self.range(start, len, accs, &mut |_, _, _| Ok(()))
    }

    /// Writes root 0, which is Float, for points `start..start + out.len()` to `out`.
    pub(crate) fn floats(&mut self, start: i64, out: &mut [f32]) -> Result<(), CpuError> {
        let len = out.len();
        if let Some((buffer, form)) = self.code.plain_load() {
            return self.load(buffer, form, start, out);
        }
        self.range(start, len, &[], &mut |at, n, results| {
            results.float(0).copy_to(&mut out[at..at + n]);
            Ok(())
        })
    }

    /// As `floats` where the code is one load: no register between buffer and `out`.
    fn load(&mut self, buffer: u32, form: &Form, start: i64, out: &mut [f32]) -> Result<(), CpuError> {
        let code = self.code;
        self.check_range(start, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let at = start + done as i64;
            let (row, within) = (at / code.row_len, at % code.row_len);
            let n = (out.len() - done).min((code.row_len - within) as usize);
            self.pos.set_row(&code.outer, row);
            self.pos.set_strip(&code.trail, within, n);
            let out = &mut out[done..done + n];
            self.arch.dispatch(Load { buffer, form, out, regs: &self.regs, pos: &self.pos, views: self.views })?;
            done += n;
        }
        // The coordinates moved without the registers.
        self.row = -1;
        Ok(())
    }

    fn check_range(&self, start: i64, len: usize) -> Result<(), CpuError> {
        if start < 0 || len as i64 > self.code.total - start {
            return Err(CpuError::Size { what: "range", value: len as i64 });
        }
        Ok(())
    }

    /// Writes root 0, which is Int, for points `start..start + out.len()` to `out`.
    pub(crate) fn ints(&mut self, start: i64, out: &mut [i64]) -> Result<(), CpuError> {
        let len = out.len();
        self.range(start, len, &[], &mut |at, n, results| {
            results.int(0).copy_to(&mut out[at..at + n]);
            Ok(())
        })
    }
}
