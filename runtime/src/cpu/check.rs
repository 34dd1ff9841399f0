//! Does a Desc hold together? Every program typed, every index in range, before anything is compiled.
//!
//! Law: what passes here cannot make the rest of this folder panic; the rest may index by registers, axes, sizes and
//! buffers freely.

use super::error::CpuError;
use enel_bundle::{AccOp, Access, BufferRole, Extent, Instr, Kind, Program, Reg, Store, Value};
use enel_types::{BinaryOp, DType, UnaryOp};

/// A checked program.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) program: Program,
    pub(crate) kinds: Vec<Kind>,
    /// Dtype of each buffer of the Desc.
    pub(crate) dtypes: Vec<DType>,
    /// How each is used.
    pub(crate) accesses: Vec<Access>,
}

/// What programs and stores of one Desc may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) buffers: &'a [BufferRole],
    pub(crate) n_dynamics: usize,
}

pub(crate) fn malformed(part: &str, message: impl Into<String>) -> CpuError {
    CpuError::Malformed { part: part.to_owned(), message: message.into() }
}

impl Scope<'_> {
    /// Checks a program over a space of `rank` axes that nothing is stored beside.
    pub(crate) fn program(&self, part: &str, program: &Program, rank: usize, accs: &[Kind]) -> Result<Typed, CpuError> {
        self.typed(part, program, rank, (accs, &[]))
    }

    /// Checks a program over a space of `rank` axes, and the stores beside it.
    pub(crate) fn storing(
        &self,
        part: &str,
        program: &Program,
        rank: usize,
        (accs, stores): (&[Kind], &[Store]),
    ) -> Result<Typed, CpuError> {
        let typed = self.typed(part, program, rank, (accs, stores))?;
        self.stores(part, &typed, stores)?;
        Ok(typed)
    }

    fn typed(
        &self,
        part: &str,
        program: &Program,
        rank: usize,
        (accs, stores): (&[Kind], &[Store]),
    ) -> Result<Typed, CpuError> {
        let dtypes: Vec<DType> = self.buffers.iter().map(|b| b.dtype).collect();
        let at = |at: usize| malformed(part, format!("instruction {at}: {:?}", program.instrs().get(at)));
        let kinds = program.kinds(&dtypes, accs).map_err(at)?;
        for (i, instr) in program.instrs().iter().enumerate() {
            let kind = |r: &Reg| kinds[r.0 as usize];
            let fits = match instr {
                Instr::Axis(n) => (*n as usize) < rank,
                Instr::Size(n) => (*n as usize) < self.n_dynamics,
                Instr::Load { buffer, index } => match self.buffers[*buffer as usize].access {
                    Access::Read => true,
                    Access::Update => stores.iter().any(|store| store.replaces(*buffer, *index)),
                    Access::Write => false,
                },
                Instr::Unary(op, x) => unary_takes(*op, kind(x)),
                Instr::Binary(op, x, _) => binary_takes(*op, kind(x)),
                Instr::Float(_)
                | Instr::Int(_)
                | Instr::Bool(_)
                | Instr::Acc(_)
                | Instr::Select(..)
                | Instr::Cast(..) => true,
            };
            if !fits {
                return Err(at(i));
            }
        }
        let accesses = self.buffers.iter().map(|b| b.access).collect();
        Ok(Typed { program: program.clone(), kinds, dtypes, accesses })
    }

    /// Checks a program whose value is of `kind`.
    pub(crate) fn value(&self, part: &str, value: &Value, rank: usize, kind: Kind) -> Result<Typed, CpuError> {
        let typed = self.program(part, &value.program, rank, &[])?;
        if typed.kind(part, value.reg)? != kind {
            return Err(malformed(part, format!("its value is no {kind:?}")));
        }
        Ok(typed)
    }

    /// Checks stores of registers of `typed`.
    fn stores(&self, part: &str, typed: &Typed, stores: &[Store]) -> Result<(), CpuError> {
        for store in stores {
            let dtype = self.written(part, store.buffer)?;
            if typed.kind(part, store.index)? != Kind::Int || typed.kind(part, store.value)? != Kind::of(dtype) {
                return Err(malformed(part, format!("{store:?} mixes kinds")));
            }
        }
        Ok(())
    }

    /// The dtype of a buffer the body writes.
    pub(crate) fn written(&self, part: &str, buffer: u32) -> Result<DType, CpuError> {
        let role = self.buffers.get(buffer as usize).filter(|role| role.access != Access::Read);
        role.map(|r| r.dtype).ok_or_else(|| malformed(part, format!("buffer {buffer} is not written")))
    }

    /// Checks that extents name dynamic sizes that exist and are not negative.
    pub(crate) fn extents(&self, part: &str, extents: &[Extent]) -> Result<(), CpuError> {
        let fits = |e: &Extent| match e {
            Extent::Const(n) => *n >= 0,
            Extent::Dyn(i) => (*i as usize) < self.n_dynamics,
        };
        match extents.iter().find(|e| !fits(e)) {
            Some(e) => Err(malformed(part, format!("extent {e:?}"))),
            None => Ok(()),
        }
    }
}

impl Typed {
    /// Kind of a register a body names.
    pub(crate) fn kind(&self, part: &str, reg: Reg) -> Result<Kind, CpuError> {
        let kind = self.kinds.get(reg.0 as usize).copied();
        kind.ok_or_else(|| malformed(part, format!("register {} does not exist", reg.0)))
    }
}

fn unary_takes(op: UnaryOp, kind: Kind) -> bool {
    match kind {
        Kind::Float => op != UnaryOp::Not,
        Kind::Int => !op.float_only(),
        Kind::Bool => op == UnaryOp::Not,
    }
}

fn binary_takes(op: BinaryOp, kind: Kind) -> bool {
    match kind {
        Kind::Float => !op.is_bitwise(),
        Kind::Int => op != BinaryOp::Pow,
        Kind::Bool => op.is_comparison() || op.is_bitwise() || matches!(op, BinaryOp::Max | BinaryOp::Min),
    }
}

/// The kind an accumulator has, if it takes elements of `value`.
pub(crate) fn acc_kind(op: AccOp, value: Kind) -> Option<Kind> {
    match (op, value) {
        (AccOp::Sum | AccOp::Prod, Kind::Bool) => None,
        (AccOp::Sum | AccOp::Prod | AccOp::Max | AccOp::Min, kind) => Some(kind),
        (AccOp::ArgMax | AccOp::ArgMin, _) => Some(Kind::Int),
        (AccOp::Deviations, Kind::Float) => Some(Kind::Float),
        (AccOp::Deviations, Kind::Int | Kind::Bool) => None,
    }
}

/// Extents for a call, and that their product fits.
pub(crate) fn sizes(extents: &[Extent], dynamics: &[i64]) -> Result<Vec<i64>, CpuError> {
    let sizes: Vec<i64> = extents.iter().map(|e| e.value(dynamics)).collect();
    product(&sizes)?;
    Ok(sizes)
}

/// Number of points of a space.
pub(crate) fn product(sizes: &[i64]) -> Result<i64, CpuError> {
    if sizes.contains(&0) {
        return Ok(0);
    }
    let product = sizes.iter().try_fold(1i64, |p, n| p.checked_mul(*n).filter(|p| *p <= 1 << 48));
    product.ok_or(CpuError::Size { what: "iteration space", value: -1 })
}
