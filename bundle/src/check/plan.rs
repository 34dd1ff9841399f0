//! Do a plan's calls fit their kernels, and does every step read only what is there? All faults at once.

use crate::desc::{Access, BufferRole, Extent};
use crate::plan::{Buffer, BufferKind, Call, Grid, Kernel, Launch, Piece, Plan, PlanError, Step};
use enel_types::{Dim, Symbols};
use std::collections::BTreeSet;

/// Checks one plan against the kernels it calls.
///
/// Sizes, names, dtypes and argument counts fit; every buffer is written before it is read and every output is written;
/// inputs and weights are never written; bind steps touch weights and bound buffers only; a call's written buffers are
/// none of its other arguments.
///
/// # Errors
/// Every fault found.
pub fn check_plan(plan: &Plan, kernels: &[Kernel]) -> Result<(), Vec<PlanError>> {
    let mut check = Check { plan, kernels, elems: Vec::new(), filled: Vec::new(), faults: Vec::new(), step: 0 };
    check.symbols();
    check.buffers();
    if check.faults.is_empty() {
        for (phase, steps) in [(Phase::Bind, &plan.bind), (Phase::Run, &plan.steps)] {
            for step in steps {
                check.step(step, phase);
                check.step += 1;
            }
        }
        check.outputs();
    }
    if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
}

/// Scratch memory holds states of blocks, not tensors.
const MOST_SCRATCH_BYTES: u64 = 256 << 20;

/// What is wrong with a kernel's launch parameters, if anything.
pub(crate) fn check_launch(launch: &Launch, kernel: &Kernel) -> Option<&'static str> {
    let Launch { entry, grids, threads, smem_bytes: _, scratch_bytes } = launch;
    if entry.is_empty() || entry.contains('\0') {
        return Some("the entry point has no name");
    }
    if !(1..=1024).contains(threads) {
        return Some("a block has 1 to 1024 threads");
    }
    if *scratch_bytes > MOST_SCRATCH_BYTES {
        return Some("a kernel has at most 256 MiB of scratch memory");
    }
    if grids.len() != kernel.parts.len() {
        return Some("every part needs a grid");
    }
    let n_dynamics = kernel.dynamics().count();
    let known = |extent: &Extent| match extent {
        Extent::Const(n) => *n >= 0,
        Extent::Dyn(i) => (*i as usize) < n_dynamics,
    };
    let sound = |Grid(factors): &Grid| factors.iter().all(|(extents, tile)| *tile >= 1 && extents.iter().all(known));
    if grids.iter().all(sound) { None } else { Some("a grid needs tiles of at least 1 over known extents") }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Bind,
    Run,
}

struct Check<'a> {
    plan: &'a Plan,
    kernels: &'a [Kernel],
    /// Element count of every buffer.
    elems: Vec<Dim>,
    filled: Vec<bool>,
    faults: Vec<PlanError>,
    /// Position, bind steps first.
    step: usize,
}

impl Check<'_> {
    fn name(&self) -> String {
        self.plan.name.clone()
    }

    fn fault(&mut self, message: String) {
        let (plan, step) = (self.name(), self.step);
        self.faults.push(PlanError::Step { plan, step, message });
    }

    fn symbols(&mut self) {
        let mut again = Symbols::default();
        for symbol in self.plan.symbols.iter() {
            if let Err(source) = again.add(symbol.clone()) {
                let plan = self.name();
                self.faults.push(PlanError::Size { plan, source });
            }
        }
    }

    fn buffers(&mut self) {
        let mut names = BTreeSet::new();
        for (at, buffer) in self.plan.buffers.iter().enumerate() {
            let Buffer { kind, dtype: _, shape } = buffer;
            let mut messages = Vec::new();
            let (what, name) = match kind {
                BufferKind::Input(name) => ("input", name.as_str()),
                BufferKind::Weight(name) => ("weight", name.as_str()),
                BufferKind::State(name) => ("state", name.as_str()),
                BufferKind::Output(name) => ("output", name.as_str()),
                BufferKind::Joined(_) | BufferKind::Bound | BufferKind::Temp => ("", ""),
            };
            if !what.is_empty() && !names.insert((what, name)) {
                messages.push(format!("a second {what} called `{name}`"));
            }
            let fixed = kind.is_fixed();
            if let BufferKind::Joined(pieces) = kind
                && !adds_up(pieces, shape)
            {
                messages.push("its weights' first axes do not add up to its own".to_owned());
            }
            for dim in shape {
                if let Err(message) = check_dim(dim, &self.plan.symbols) {
                    messages.push(message.to_owned());
                } else if fixed && dim.as_const().is_none() {
                    messages.push("weights and what is computed from them have constant extents".to_owned());
                } else if dim.as_const().is_some_and(|n| n < 0) {
                    messages.push("an extent is negative".to_owned());
                }
            }
            let elems = if messages.is_empty() { Dim::short_product(shape) } else { Some(Dim::constant(0)) };
            if elems.is_none() {
                messages.push("the shape has too many terms".to_owned());
            }
            self.elems.push(elems.unwrap_or(Dim::constant(0)));
            let given = !matches!(kind, BufferKind::Bound | BufferKind::Output(_) | BufferKind::Temp);
            self.filled.push(given);
            let plan = self.name();
            let fault = |message| PlanError::Buffer { plan: plan.clone(), buffer: at, message };
            self.faults.extend(messages.into_iter().map(fault));
        }
    }

    fn step(&mut self, step: &Step, phase: Phase) {
        match step {
            Step::Call(call) => self.call(call, phase),
            Step::Copy { from, to } => self.copy(*from, *to, phase),
        }
    }

    fn copy(&mut self, from: u32, to: u32, phase: Phase) {
        let buffers = &self.plan.buffers;
        let (Some(source), Some(target)) = (buffers.get(from as usize), buffers.get(to as usize)) else {
            return self.fault(format!("copies buffer {from} to {to}, of {}", buffers.len()));
        };
        let fits = from != to && source.dtype == target.dtype && self.elems[from as usize] == self.elems[to as usize];
        if !fits {
            self.fault(format!("buffers {from} and {to} are one, or differ in dtype or size"));
        }
        self.read(from, phase);
        self.write(to, phase);
    }

    fn call(&mut self, call: &Call, phase: Phase) {
        let Call { kernel, buffers, dynamics } = call;
        let kernels = self.kernels;
        let Some(kernel) = kernels.get(*kernel as usize) else {
            return self.fault(format!("calls kernel {kernel} of {}", kernels.len()));
        };
        let roles: Vec<BufferRole> = kernel.buffers().collect();
        let n_dynamics = kernel.dynamics().count();
        let name = &kernel.name;
        if buffers.len() != roles.len() {
            return self.fault(format!("`{name}` takes {} buffers, got {}", roles.len(), buffers.len()));
        }
        if dynamics.len() != n_dynamics {
            return self.fault(format!("`{name}` takes {n_dynamics} sizes, got {}", dynamics.len()));
        }
        for dim in dynamics {
            if let Err(message) = check_dim(dim, &self.plan.symbols) {
                self.fault(format!("`{name}`: {message}"));
            }
        }
        for (&buffer, role) in buffers.iter().zip(&roles) {
            let Some(found) = self.plan.buffers.get(buffer as usize) else {
                self.fault(format!("`{name}` is given buffer {buffer} of {}", self.plan.buffers.len()));
                continue;
            };
            if found.dtype != role.dtype {
                self.fault(format!("`{name}` takes {} where buffer {buffer} is {}", role.dtype, found.dtype));
            }
            if role.access != Access::Write {
                self.read(buffer, phase);
            }
            if role.access != Access::Read && buffers.iter().filter(|b| **b == buffer).count() > 1 {
                self.fault(format!("`{name}` writes buffer {buffer}, which is also another argument"));
            }
        }
        // What a call writes is there for later steps only.
        for (&buffer, role) in buffers.iter().zip(&roles) {
            if role.access != Access::Read && (buffer as usize) < self.filled.len() {
                self.write(buffer, phase);
            }
        }
    }

    fn read(&mut self, buffer: u32, phase: Phase) {
        let kind = &self.plan.buffers[buffer as usize].kind;
        if phase == Phase::Bind && !kind.is_fixed() {
            self.fault(format!("binding reads buffer {buffer}, which is {}", what(kind)));
        } else if !self.filled[buffer as usize] {
            self.fault(format!("reads buffer {buffer} before anything wrote it"));
        }
    }

    fn write(&mut self, buffer: u32, phase: Phase) {
        let kind = &self.plan.buffers[buffer as usize].kind;
        let allowed = match (phase, kind) {
            (Phase::Bind, BufferKind::Bound) => true,
            (Phase::Run, BufferKind::State(_) | BufferKind::Output(_) | BufferKind::Temp) => true,
            (Phase::Bind | Phase::Run, _) => false,
        };
        if !allowed {
            let when = if phase == Phase::Bind { "binding" } else { "a run" };
            self.fault(format!("{when} writes buffer {buffer}, which is {}", what(kind)));
        }
        self.filled[buffer as usize] = true;
    }

    fn outputs(&mut self) {
        let mut names = BTreeSet::new();
        for port in &self.plan.outputs {
            let message = match self.plan.buffers.get(port.buffer as usize) {
                _ if !names.insert(port.name.as_str()) => Some("there is another of this name"),
                None => Some("its buffer does not exist"),
                Some(_) if !self.filled[port.buffer as usize] => Some("nothing writes its buffer"),
                Some(_) => None,
            };
            if let Some(message) = message {
                let (plan, name) = (self.name(), port.name.clone());
                self.faults.push(PlanError::Output { plan, name, message });
            }
        }
    }
}

fn what(kind: &BufferKind) -> &'static str {
    match kind {
        BufferKind::Input(_) => "an input",
        BufferKind::Weight(_) => "a weight",
        BufferKind::Joined(_) => "several weights",
        BufferKind::Bound => "computed when binding",
        BufferKind::State(_) => "a state",
        BufferKind::Output(_) => "an output",
        BufferKind::Temp => "a temp",
    }
}

fn adds_up(pieces: &[Piece], shape: &[Dim]) -> bool {
    let rows =
        pieces.iter().try_fold(0i64, |sum, piece| if piece.rows < 0 { None } else { sum.checked_add(piece.rows) });
    rows.is_some() && shape.first().and_then(Dim::as_const) == rows && !pieces.is_empty()
}

/// Size expressions that were read may be in no canonical form, or name symbols that do not exist.
fn check_dim(dim: &Dim, symbols: &Symbols) -> Result<(), &'static str> {
    if !dim.is_short() {
        return Err("a size has too many terms");
    }
    if dim.terms().any(|(_, monomial)| monomial.iter().any(|s| symbols.get(*s).is_none())) {
        return Err("a size names an unknown symbol");
    }
    if dim.map_symbols(|s| s) != *dim {
        return Err("a size is not in canonical form");
    }
    Ok(())
}
