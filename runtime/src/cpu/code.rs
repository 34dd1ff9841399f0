//! How does a program become code over strips? Linear indices kept as forms, axes merged, registers put in slots.
//!
//! Law: code belongs to one binding of the dynamic sizes. Registers that do not change along a strip are computed once
//! per row or once per call as single numbers; indices that depend on the place in a row alone are tables made here;
//! only the rest costs a vector. Read next: `strip` runs the code.

use super::check::{Typed, product};
use super::error::CpuError;
use super::linear::{Linear, forms};
use super::ops::{self, Src};
use enel_bundle::{Access, Instr, Kind, Reg, Store};
use enel_types::{BinaryOp, DType, UnaryOp};
use std::sync::Arc;

/// Most points a strip has: 2 KiB of f32, so that a dozen registers stay in L1.
pub(crate) const STRIP: usize = 512;

/// Rows shorter than this are joined with the axis outside them, because a strip costs some 10 ns per instruction.
const SHORT_ROW: i64 = 32;

/// Elements of four bytes in a cache line of 64: a longer stride costs no more.
const CACHE_LINE_ELEMS: i64 = 16;

/// Where a register lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loc {
    /// A vector, one element per point.
    Strip(u32),
    /// Floats side by side in a buffer, read where they are.
    Direct(u32),
    /// One number for the whole strip.
    Uniform(u32),
}

/// `base + outer . row coordinates + trail . strip coordinates + sum coef * register`.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) base: i64,
    pub(crate) outer: Vec<i64>,
    pub(crate) trail: Vec<i64>,
    /// The one stride over the linear position in the trailing axes, where there is one.
    pub(crate) flat: Option<i64>,
    pub(crate) terms: Vec<(Loc, i64)>,
}

/// Longest row whose indices are kept in tables.
const MAX_TABLE: i64 = 1 << 16;

/// Offsets by place in a row, the smallest 0.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) offsets: Arc<[u32]>,
    pub(crate) max: u32,
}

/// What an operation computes.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Float(f32),
    Bool(bool),
    Form(Form),
    /// Load along a form whose terms are all uniform.
    LoadForm(u32, Form),
    /// As `LoadForm` where the elements lie side by side: nothing is copied.
    Borrow(u32, Form),
    /// Load at a form that is uniform, plus a table's offsets.
    LoadTable(u32, Form, Table),
    /// Load at an index vector.
    LoadIndex(u32, Loc),
    Acc(u32),
    Unary(UnaryOp, Loc),
    Binary(BinaryOp, Loc, Loc),
    Select(Loc, Loc, Loc),
    Cast(DType, Loc),
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) dst: Loc,
    /// Kind of the result.
    pub(crate) kind: Kind,
    /// Kind of the last operand.
    pub(crate) from: Kind,
    pub(crate) work: Work,
}

/// Index of a store.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Form(Form),
    Index(Loc),
}

/// A store.
#[derive(Clone, Debug)]
pub(crate) struct StoreOp {
    pub(crate) buffer: u32,
    pub(crate) at: At,
    pub(crate) value: Loc,
    pub(crate) kind: Kind,
}

/// Slots needed, by kind: float, int, bool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    pub(crate) strips: [usize; 3],
    pub(crate) uniforms: [usize; 3],
    /// Borrowed strips of floats.
    pub(crate) direct: usize,
}

/// A program for one space.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// Points of the space.
    pub(crate) total: i64,
    /// Extents of the merged axes that strips do not cross.
    pub(crate) outer: Vec<i64>,
    /// Extents of the merged axes inside strips.
    pub(crate) trail: Vec<i64>,
    /// Product of `trail`, at least 1.
    pub(crate) row_len: i64,
    pub(crate) once: Vec<Op>,
    pub(crate) per_row: Vec<Op>,
    pub(crate) per_strip: Vec<Op>,
    pub(crate) stores: Vec<StoreOp>,
    pub(crate) roots: Vec<(Loc, Kind)>,
    pub(crate) slots: Slots,
}

impl Code {
    /// The load that is all of this code, if its only root is one and nothing is computed before it.
    pub(crate) fn plain_load(&self) -> Option<(u32, &Form)> {
        let ([op], [(root, _)]) = (self.per_strip.as_slice(), self.roots.as_slice()) else { return None };
        match &op.work {
            Work::LoadForm(buffer, form) | Work::Borrow(buffer, form)
                if op.dst == *root && form.terms.is_empty() && self.stores.is_empty() =>
            {
                Some((*buffer, form))
            }
            _ => None,
        }
    }

    /// Bytes of cache lines touched per point, roughly: what decides between two loop orders.
    pub(crate) fn load_cost(&self) -> i64 {
        let cost = |op: &Op| match &op.work {
            Work::LoadForm(_, form) | Work::Borrow(_, form) => {
                let stride = form.flat.or(form.trail.last().copied()).unwrap_or(0);
                stride.saturating_abs().min(CACHE_LINE_ELEMS)
            }
            Work::LoadIndex(..) | Work::LoadTable(..) => CACHE_LINE_ELEMS,
            _ => 0,
        };
        self.per_strip.iter().map(cost).sum()
    }
}

/// The space a program runs over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space<'a> {
    /// Extents by axis of the program.
    pub(crate) extents: &'a [i64],
    /// Those axes from the outermost loop to the innermost.
    pub(crate) loops: &'a [usize],
    /// The call's dynamic sizes.
    pub(crate) dynamics: &'a [i64],
}

pub(crate) const fn slot_kind(kind: Kind) -> usize {
    match kind {
        Kind::Float => 0,
        Kind::Int => 1,
        Kind::Bool => 2,
    }
}

/// Compiles a program whose axes are looped over in their own order.
pub(crate) fn compile(
    typed: &Typed,
    extents: &[i64],
    dynamics: &[i64],
    roots: &[Reg],
    stores: &[Store],
) -> Result<Code, CpuError> {
    let loops: Vec<usize> = (0..extents.len()).collect();
    compile_ordered(typed, Space { extents, loops: &loops, dynamics }, roots, stores)
}

/// Compiles a program; `roots` are the registers handed to the family.
pub(crate) fn compile_ordered(
    typed: &Typed,
    space: Space<'_>,
    roots: &[Reg],
    stores: &[Store],
) -> Result<Code, CpuError> {
    let total = product(space.extents)?;
    let forms = forms(&typed.program, &typed.kinds, space.extents, space.dynamics);
    let mut compiler =
        Compiler { typed, forms, levels: Vec::new(), axes: Vec::new(), split: 0, rows: vec![], stores, roots };
    let live = compiler.live();
    compiler.merge_axes(&space, &live);
    compiler.find_levels();
    compiler.find_rows();
    let live = compiler.live();
    Ok(compiler.emit(&live, total))
}

/// When a register changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Once,
    Row,
    Strip,
}

struct Compiler<'a> {
    typed: &'a Typed,
    forms: Vec<Option<Linear>>,
    levels: Vec<Level>,
    /// Merged axes, outermost first: extent, and the innermost program axis merged into it.
    axes: Vec<(i64, usize)>,
    /// Merged axes from here on are inside strips.
    split: usize,
    /// Values along a row of the opaque registers that depend on nothing else.
    rows: Vec<Option<Vec<i64>>>,
    stores: &'a [Store],
    roots: &'a [Reg],
}

impl Compiler<'_> {
    fn form(&self, reg: Reg) -> &Linear {
        self.forms[reg.0 as usize].as_ref().expect("checked: an index is an Int register")
    }

    /// The form of an Int register that is no opaque register itself.
    fn resolved(&self, at: usize) -> Option<&Linear> {
        self.forms[at].as_ref().filter(|f| f.terms != [(at as u32, 1)] || f.base != 0 || f.axes.iter().any(|c| *c != 0))
    }

    /// True when an index must be a vector: one of its opaque registers changes along the strip.
    fn scattered(&self, index: Reg) -> bool {
        let changes = |(reg, _): &(u32, i64)| self.levels.get(*reg as usize) == Some(&Level::Strip);
        self.form(index).terms.iter().any(changes)
    }

    /// Marks what a store's index needs.
    fn mark_index(&self, index: Reg, live: &mut [bool]) {
        if self.scattered(index) {
            live[index.0 as usize] = true;
        }
        for (reg, _) in &self.form(index).terms {
            live[*reg as usize] = true;
        }
    }

    /// Marks what a load's index needs.
    fn mark_load(&self, index: Reg, live: &mut [bool]) {
        if !self.tabled(index) {
            return self.mark_index(index, live);
        }
        for (reg, _) in self.form(index).terms.iter().filter(|(reg, _)| !self.has_row(*reg)) {
            live[*reg as usize] = true;
        }
    }

    fn has_row(&self, reg: u32) -> bool {
        self.rows.get(reg as usize).is_some_and(Option::is_some)
    }

    /// True when all that changes an index along the strip is known here.
    fn tabled(&self, index: Reg) -> bool {
        let known = |(reg, _): &(u32, i64)| self.levels[*reg as usize] != Level::Strip || self.has_row(*reg);
        self.scattered(index) && self.form(index).terms.iter().all(known) && self.table(index).is_some()
    }

    /// The offsets of an index along a row; `None` where they are too far apart.
    fn table(&self, index: Reg) -> Option<(i64, Table)> {
        let form = self.form(index);
        let moving = Linear {
            base: 0,
            axes: form.axes.clone(),
            terms: form.terms.iter().copied().filter(|(reg, _)| self.has_row(*reg)).collect(),
        };
        let row = self.row_of(&moving)?;
        let (min, max) = (*row.iter().min()?, *row.iter().max()?);
        let span = u32::try_from(max.checked_sub(min)?).ok()?;
        let offsets = row.iter().map(|value| (value - min) as u32).collect();
        Some((min, Table { offsets, max: span }))
    }

    /// The values of a form along a row, whose coefficients on outer axes do not count.
    fn row_of(&self, form: &Linear) -> Option<Vec<i64>> {
        let trail = &self.axes[self.split..];
        let len = trail.iter().fold(1i64, |len, axis| len.saturating_mul(axis.0));
        if len > MAX_TABLE {
            return None;
        }
        let mut row = vec![form.base; len as usize];
        let mut inner = 1;
        for (extent, axis) in trail.iter().rev() {
            let coef = form.axes[*axis];
            for (at, value) in row.iter_mut().enumerate() {
                *value = value.wrapping_add(coef.wrapping_mul(at as i64 / inner % extent));
            }
            inner *= extent;
        }
        for (reg, coef) in &form.terms {
            let term = self.rows.get(*reg as usize)?.as_ref()?;
            row.iter_mut().zip(term).for_each(|(value, x)| *value = value.wrapping_add(coef.wrapping_mul(*x)));
        }
        Some(row)
    }

    /// Computes the opaque integers that depend on the place in a row alone: quotients and remainders of coordinates.
    fn find_rows(&mut self) {
        self.rows = vec![None; self.forms.len()];
        for at in 0..self.forms.len() {
            if self.levels[at] != Level::Strip || self.typed.kinds[at] != Kind::Int || self.resolved(at).is_some() {
                continue;
            }
            let Instr::Binary(op, x, y) = self.typed.program.instrs()[at] else { continue };
            let inside = |reg: Reg| self.axes[..self.split].iter().all(|(_, axis)| self.form(reg).axes[*axis] == 0);
            if self.typed.kinds[x.0 as usize] != Kind::Int || !inside(x) || !inside(y) {
                continue;
            }
            let (Some(a), Some(b)) = (self.row_of(self.form(x)), self.row_of(self.form(y))) else { continue };
            let mut row = vec![0; a.len()];
            ops::binary_int(op, &mut row, Src::Strip(&a), Src::Strip(&b));
            self.rows[at] = Some(row);
        }
    }

    /// Registers whose value is computed.
    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.forms.len()];
        for reg in self.roots.iter().chain(self.stores.iter().map(|s| &s.value)) {
            live[reg.0 as usize] = true;
        }
        for store in self.stores {
            self.mark_index(store.index, &mut live);
        }
        for at in (0..live.len()).rev() {
            if !live[at] {
                continue;
            }
            if let Some(form) = self.resolved(at) {
                form.terms.iter().for_each(|(reg, _)| live[*reg as usize] = true);
            } else if let Instr::Load { index, .. } = self.typed.program.instrs()[at] {
                self.mark_load(index, &mut live);
            } else {
                self.typed.program.instrs()[at].operands().for_each(|r| live[r.0 as usize] = true);
            }
        }
        live
    }

    fn live_forms(&self, live: &[bool]) -> Vec<&Linear> {
        let mut found: Vec<&Linear> = self.stores.iter().map(|s| self.form(s.index)).collect();
        for at in (0..live.len()).filter(|at| live[*at]) {
            if let Some(form) = self.resolved(at) {
                found.push(form);
            } else if let Instr::Load { index, .. } = self.typed.program.instrs()[at] {
                found.push(self.form(index));
            }
        }
        found
    }

    /// Joins neighbouring axes every live form walks as one, and decides which are inside strips.
    fn merge_axes(&mut self, space: &Space<'_>, live: &[bool]) {
        let forms = self.live_forms(live);
        let mut axes: Vec<(i64, usize)> = Vec::new();
        for &axis in space.loops {
            let extent = space.extents[axis];
            if extent == 1 {
                continue;
            }
            let joins = |outer: usize| forms.iter().all(|f| f.axes[outer] == f.axes[axis].wrapping_mul(extent));
            match axes.last_mut() {
                Some(last) if joins(last.1) => *last = (last.0.saturating_mul(extent), axis),
                Some(_) | None => axes.push((extent, axis)),
            }
        }
        let mut split = axes.len();
        let mut row = 1i64;
        while split > 0 && row < SHORT_ROW {
            split -= 1;
            row = row.saturating_mul(axes[split].0);
        }
        (self.axes, self.split) = (axes, split);
    }

    fn level_of_form(&self, form: &Linear, levels: &[Level]) -> Level {
        let moves = |axes: &[(i64, usize)]| axes.iter().any(|(_, axis)| form.axes[*axis] != 0);
        let own = match (moves(&self.axes[self.split..]), moves(&self.axes[..self.split])) {
            (true, _) => Level::Strip,
            (false, true) => Level::Row,
            (false, false) => Level::Once,
        };
        form.terms.iter().map(|(r, _)| levels[*r as usize]).fold(own, Level::max)
    }

    fn find_levels(&mut self) {
        let mut levels: Vec<Level> = Vec::with_capacity(self.forms.len());
        for (at, instr) in self.typed.program.instrs().iter().enumerate() {
            let level = match (self.resolved(at), instr) {
                (Some(form), _) => self.level_of_form(form, &levels),
                (None, Instr::Load { index, .. }) => self.level_of_form(self.form(*index), &levels),
                (None, Instr::Acc(_)) => Level::Strip,
                (None, _) => instr.operands().map(|r| levels[r.0 as usize]).fold(Level::Once, Level::max),
            };
            levels.push(level);
        }
        self.levels = levels;
    }

    fn emit(&self, live: &[bool], total: i64) -> Code {
        let mut slots = SlotMap::new(self, live);
        let outer: Vec<i64> = self.axes[..self.split].iter().map(|a| a.0).collect();
        let trail: Vec<i64> = self.axes[self.split..].iter().map(|a| a.0).collect();
        let row_len = trail.iter().product::<i64>().max(1);
        let (mut once, mut per_row, mut per_strip) = (Vec::new(), Vec::new(), Vec::new());
        for at in (0..live.len()).filter(|at| live[*at]) {
            let dst = slots.place(self, at);
            let (work, from) = self.work(at, &slots.locs);
            let op = Op { dst, kind: self.typed.kinds[at], from, work };
            match self.levels[at] {
                Level::Once => once.push(op),
                Level::Row => per_row.push(op),
                Level::Strip => per_strip.push(op),
            }
            slots.release(self, at);
        }
        let loc = |reg: Reg| slots.locs[reg.0 as usize];
        let kind = |reg: Reg| self.typed.kinds[reg.0 as usize];
        let store = |s: &Store| StoreOp {
            buffer: s.buffer,
            at: if self.scattered(s.index) {
                At::Index(loc(s.index))
            } else {
                At::Form(self.bound_form(self.form(s.index), &slots.locs))
            },
            value: loc(s.value),
            kind: kind(s.value),
        };
        let stores = self.stores.iter().map(store).collect();
        let roots = self.roots.iter().map(|r| (loc(*r), kind(*r))).collect();
        Code { total, outer, trail, row_len, once, per_row, per_strip, stores, roots, slots: slots.slots }
    }

    fn work(&self, at: usize, locs: &[Loc]) -> (Work, Kind) {
        let kinds = &self.typed.kinds;
        let loc = |r: &Reg| locs[r.0 as usize];
        let kind = |r: &Reg| kinds[r.0 as usize];
        if let Some(form) = self.resolved(at) {
            return (Work::Form(self.bound_form(form, locs)), Kind::Int);
        }
        match &self.typed.program.instrs()[at] {
            Instr::Float(bits) => (Work::Float(f32::from_bits(*bits)), Kind::Float),
            Instr::Bool(value) => (Work::Bool(*value), Kind::Bool),
            Instr::Load { buffer, index } if self.tabled(*index) => {
                let (min, table) = self.table(*index).expect("an index that is tabled has a table");
                let form = self.form(*index);
                let still = Linear {
                    base: form.base.wrapping_add(min),
                    axes: form.axes.clone(),
                    terms: form.terms.iter().copied().filter(|(reg, _)| !self.has_row(*reg)).collect(),
                };
                let mut form = self.bound_form(&still, locs);
                form.trail.fill(0);
                form.flat = Some(0);
                (Work::LoadTable(*buffer, form, table), Kind::Int)
            }
            Instr::Load { buffer, index } if self.scattered(*index) => {
                (Work::LoadIndex(*buffer, loc(index)), Kind::Int)
            }
            Instr::Load { buffer, index } => {
                let form = self.bound_form(self.form(*index), locs);
                let work = if self.borrowed(at) { Work::Borrow(*buffer, form) } else { Work::LoadForm(*buffer, form) };
                (work, Kind::Int)
            }
            Instr::Acc(n) => (Work::Acc(*n), kinds[at]),
            Instr::Unary(op, x) => (Work::Unary(*op, loc(x)), kind(x)),
            Instr::Binary(op, x, y) => (Work::Binary(*op, loc(x), loc(y)), kind(x)),
            Instr::Select(c, x, y) => (Work::Select(loc(c), loc(x), loc(y)), kind(x)),
            Instr::Cast(to, x) => (Work::Cast(*to, loc(x)), kind(x)),
            Instr::Axis(_) | Instr::Int(_) | Instr::Size(_) => unreachable!("these always have a form"),
        }
    }

    /// True for a load of f32 that lie side by side along the strip.
    fn borrowed(&self, at: usize) -> bool {
        let Instr::Load { buffer, index } = self.typed.program.instrs()[at] else { return false };
        let is_f32 = self.typed.dtypes[buffer as usize] == DType::F32;
        let is_fixed = self.typed.accesses[buffer as usize] == Access::Read;
        is_f32
            && is_fixed
            && self.levels[at] == Level::Strip
            && !self.scattered(index)
            && self.flat(self.form(index)) == Some(1)
    }

    /// The one stride of a form over the linear position in a row, where there is one.
    fn flat(&self, form: &Linear) -> Option<i64> {
        let trail = &self.axes[self.split..];
        let joined = trail.windows(2).all(|w| form.axes[w[0].1] == form.axes[w[1].1].wrapping_mul(w[1].0));
        joined.then(|| trail.last().map_or(0, |axis| form.axes[axis.1]))
    }

    fn bound_form(&self, form: &Linear, locs: &[Loc]) -> Form {
        let coefs = |axes: &[(i64, usize)]| axes.iter().map(|(_, axis)| form.axes[*axis]).collect::<Vec<i64>>();
        Form {
            base: form.base,
            outer: coefs(&self.axes[..self.split]),
            flat: self.flat(form),
            trail: coefs(&self.axes[self.split..]),
            terms: form.terms.iter().map(|(r, c)| (locs[*r as usize], *c)).collect(),
        }
    }

    /// The registers the operation of `at` reads.
    fn reads(&self, at: usize) -> Vec<u32> {
        if let Some(form) = self.resolved(at) {
            return form.terms.iter().map(|t| t.0).collect();
        }
        match self.typed.program.instrs()[at] {
            Instr::Load { index, .. } if self.tabled(index) => {
                self.form(index).terms.iter().map(|t| t.0).filter(|reg| !self.has_row(*reg)).collect()
            }
            Instr::Load { index, .. } if self.scattered(index) => vec![index.0],
            Instr::Load { index, .. } => self.form(index).terms.iter().map(|t| t.0).collect(),
            instr => instr.operands().map(|r| r.0).collect(),
        }
    }
}

/// Slots by linear scan: a vector is reused after the last operation that reads it.
struct SlotMap {
    locs: Vec<Loc>,
    slots: Slots,
    free: [Vec<u32>; 3],
    last_read: Vec<usize>,
    kinds: Vec<Kind>,
    levels: Vec<Level>,
}

impl SlotMap {
    fn new(compiler: &Compiler<'_>, live: &[bool]) -> SlotMap {
        let n = live.len();
        let mut last_read: Vec<usize> = (0..n).collect();
        for at in (0..n).filter(|at| live[*at]) {
            compiler.reads(at).iter().for_each(|r| last_read[*r as usize] = at);
        }
        for reg in compiler.roots.iter().chain(compiler.stores.iter().flat_map(|s| [&s.value, &s.index])) {
            last_read[reg.0 as usize] = usize::MAX;
        }
        for store in compiler.stores {
            compiler.form(store.index).terms.iter().for_each(|t| last_read[t.0 as usize] = usize::MAX);
        }
        SlotMap {
            locs: vec![Loc::Uniform(u32::MAX); n],
            slots: Slots::default(),
            free: Default::default(),
            last_read,
            kinds: compiler.typed.kinds.clone(),
            levels: compiler.levels.clone(),
        }
    }

    fn place(&mut self, compiler: &Compiler<'_>, at: usize) -> Loc {
        let kind = slot_kind(self.kinds[at]);
        let fresh = |count: &mut usize| {
            *count += 1;
            *count as u32 - 1
        };
        self.locs[at] = if compiler.borrowed(at) {
            Loc::Direct(fresh(&mut self.slots.direct))
        } else if self.levels[at] == Level::Strip {
            Loc::Strip(self.free[kind].pop().unwrap_or_else(|| fresh(&mut self.slots.strips[kind])))
        } else {
            Loc::Uniform(fresh(&mut self.slots.uniforms[kind]))
        };
        self.locs[at]
    }

    fn release(&mut self, compiler: &Compiler<'_>, at: usize) {
        let mut dead = compiler.reads(at);
        dead.push(at as u32);
        dead.sort_unstable();
        dead.dedup();
        for reg in dead {
            if let (Loc::Strip(slot), true) = (self.locs[reg as usize], self.last_read[reg as usize] == at) {
                self.free[slot_kind(self.kinds[reg as usize])].push(slot);
            }
        }
    }
}
