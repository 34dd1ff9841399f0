//! How do the names inside one function resolve? Scopes, lazily numbered registers, constants, labels.

use std::collections::{HashMap, HashSet};

use super::class::class;
use super::mods::Mods;
use super::op::{Addr, Const, Instr, MemSpace, Op, PSrc, R, Special};
use super::{Builder, Frame, MAX_INSTRUCTIONS, MAX_LOCAL_BYTES, MAX_PARAM_BYTES, Symbol};
use crate::error::ParseError;
use crate::memory::{FUNCTION_TAG, TAG_MASK};
use crate::syntax::ast::{Function, Guard, Operand, Stmt, StmtKind, Ty, Var, VarSpace};

/// Register banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bank {
    /// 8 to 32 bits.
    Word,
    /// 64 bits.
    Wide,
    /// Predicates.
    Pred,
}

/// What a name inside a function means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Local {
    Reg(Bank, R),
    /// Registers `name0` to `name(n-1)`, numbered on first use; the flag says they have 16 bits.
    Range(Bank, u64, bool),
    /// `.local` variable or call parameter at this frame offset with this size.
    Frame(u32, u32),
    /// Kernel parameter at this offset.
    Param(u32),
    Module(Symbol),
}

#[derive(Default)]
struct Scope {
    names: HashMap<String, Local>,
    labels: HashMap<String, u32>,
    targets: HashMap<String, Vec<String>>,
    parent: Option<usize>,
}

/// State while one function is decoded.
pub(crate) struct Decoder<'b> {
    pub(crate) builder: &'b mut Builder,
    pub(crate) frame: Frame,
    scopes: Vec<Scope>,
    scope: usize,
    word_consts: HashMap<Const, R>,
    wide_consts: HashMap<Const, R>,
    pred_consts: [Option<R>; 2],
    /// Registers of the 32-bit bank that have 16 bits.
    short: HashSet<R>,
    /// Operations that come before the one an instruction decodes to.
    pub(crate) before: Vec<Op>,
    /// Branches to patch: instruction, scope, labels, line.
    fixups: Vec<(usize, usize, Vec<String>, u32)>,
    loc: u32,
}

type Decoded<T> = Result<T, ParseError>;

/// Decodes one function, appending to the builder's code.
pub(crate) fn decode(builder: &mut Builder, function: &Function) -> Decoded<Frame> {
    let entry_pc = builder.code.len() as u32;
    let mut decoder = Decoder {
        builder,
        frame: Frame { entry_pc, ..Frame::default() },
        scopes: vec![Scope::default()],
        scope: 0,
        word_consts: HashMap::new(),
        wide_consts: HashMap::new(),
        pred_consts: [None; 2],
        short: HashSet::new(),
        before: Vec::new(),
        fixups: Vec::new(),
        loc: 0,
    };
    decoder.params(function)?;
    let body = function.body.as_deref().unwrap_or_default();
    decoder.find_targets(body)?;
    for stmt in body {
        decoder.statement(stmt)?;
    }
    let line = body.last().map_or(function.line, |s| s.line);
    decoder.push(Op::Ret, 0, line)?;
    decoder.patch()?;
    super::guess::relax(&mut decoder.builder.code[entry_pc as usize..], &decoder.frame.consts64);
    Ok(decoder.frame)
}

/// What a pointer to function `id` holds; no address of memory looks like it.
pub(crate) fn function_address(id: usize) -> u64 {
    FUNCTION_TAG | (id as u64 + 1) << 4
}

/// The function a pointer names, of `n`.
pub(crate) fn function_at(address: u64, n: usize) -> Option<usize> {
    let id = (address & !TAG_MASK) >> 4;
    let is_one = address & TAG_MASK == FUNCTION_TAG && address & 0xf == 0 && (1..=n as u64).contains(&id);
    is_one.then(|| id as usize - 1)
}

fn bank_of(ty: Ty) -> Bank {
    match ty {
        Ty::Pred => Bank::Pred,
        _ if ty.bytes() == 8 => Bank::Wide,
        _ => Bank::Word,
    }
}

impl Decoder<'_> {
    fn params(&mut self, function: &Function) -> Decoded<()> {
        let mut at = 0u64;
        for var in &function.params {
            let offset = at.next_multiple_of(u64::from(var.align));
            at = offset.saturating_add(var.bytes());
            if at > MAX_PARAM_BYTES {
                return Err(ParseError::TooLarge {
                    line: var.line,
                    what: format!("parameters of `{}`", function.name),
                    need_bytes: at,
                    limit_bytes: MAX_PARAM_BYTES,
                });
            }
            let (offset, bytes) = (offset as u32, var.bytes() as u32);
            if function.is_entry {
                self.frame.params.push((offset, bytes));
                self.declare(&var.name, Local::Param(offset), var.line)?;
            } else {
                let offset = self.frame_slot(var)?;
                self.frame.params.push((offset, bytes));
            }
        }
        for var in &function.returns {
            let offset = self.frame_slot(var)?;
            self.frame.returns.push((offset, var.bytes() as u32));
        }
        Ok(())
    }

    /// Room in the thread's local memory for `var`.
    fn frame_slot(&mut self, var: &Var) -> Decoded<u32> {
        let offset = u64::from(self.frame.local_bytes).next_multiple_of(u64::from(var.align.max(4)));
        let end = offset.saturating_add(var.bytes());
        if end > u64::from(MAX_LOCAL_BYTES) {
            return Err(ParseError::TooLarge {
                line: var.line,
                what: format!("local variable `{}`", var.name),
                need_bytes: end,
                limit_bytes: u64::from(MAX_LOCAL_BYTES),
            });
        }
        self.frame.local_bytes = end.next_multiple_of(4) as u32;
        self.declare(&var.name, Local::Frame(offset as u32, var.bytes() as u32), var.line)?;
        Ok(offset as u32)
    }

    fn declare(&mut self, name: &str, local: Local, line: u32) -> Decoded<()> {
        match self.scopes[self.scope].names.insert(name.to_owned(), local) {
            None => Ok(()),
            Some(_) => Err(ParseError::Duplicate { line, name: name.to_owned() }),
        }
    }

    /// `.branchtargets` may come after their use.
    fn find_targets(&mut self, body: &[Stmt]) -> Decoded<()> {
        for stmt in body {
            if let StmtKind::Targets(name, labels) = &stmt.kind {
                self.scopes[0].targets.insert(name.clone(), labels.clone());
            }
        }
        Ok(())
    }

    fn statement(&mut self, stmt: &Stmt) -> Decoded<()> {
        let line = stmt.line;
        match &stmt.kind {
            StmtKind::Label(name) => {
                let pc = self.builder.code.len() as u32;
                match self.scopes[self.scope].labels.insert(name.clone(), pc) {
                    None => Ok(()),
                    Some(_) => Err(ParseError::Duplicate { line, name: name.clone() }),
                }
            }
            StmtKind::Open => {
                self.scopes.push(Scope { parent: Some(self.scope), ..Scope::default() });
                self.scope = self.scopes.len() - 1;
                Ok(())
            }
            StmtKind::Close => {
                self.scope = self.scopes[self.scope].parent.unwrap_or(0);
                Ok(())
            }
            StmtKind::Reg { ty, name, range } => {
                let bank = bank_of(*ty);
                let is_short = bank == Bank::Word && ty.bytes() < 4;
                let local = match range {
                    Some(n) => Local::Range(bank, *n, is_short),
                    None => Local::Reg(bank, self.fresh_sized(bank, is_short)),
                };
                // A range and a register may share a stem: `%p<3>` beside `%p`.
                let key = if range.is_some() { format!("{name}<") } else { name.clone() };
                self.declare(&key, local, line)
            }
            StmtKind::Var(var) => self.variable(var),
            StmtKind::Loc { file, line } => {
                self.builder.locations.push((*file, *line));
                self.loc = self.builder.locations.len() as u32;
                Ok(())
            }
            StmtKind::Targets(..) => Ok(()),
            StmtKind::Instr { guard, opcode, operands } => self.instruction(guard.as_ref(), opcode, operands, line),
        }
    }

    fn variable(&mut self, var: &Var) -> Decoded<()> {
        match var.space {
            VarSpace::Local | VarSpace::Param => self.frame_slot(var).map(|_| ()),
            VarSpace::Global | VarSpace::Const | VarSpace::Shared => {
                let symbol = self.builder.declare(var)?;
                self.declare(&var.name, Local::Module(symbol), var.line)
            }
        }
    }

    fn instruction(&mut self, guard: Option<&Guard>, opcode: &str, operands: &[Operand], line: u32) -> Decoded<()> {
        let mut mods = Mods::new(opcode, line);
        let guard_code = match guard {
            None => 0,
            Some(guard) => {
                let idx = self.pred_named(&guard.name, &mods)?;
                idx * 2 + u32::from(guard.negated) + 1
            }
        };
        match self.decode_op(&mut mods, operands).and_then(|op| mods.finish().map(|()| op)) {
            Ok(op) => {
                for before in std::mem::take(&mut self.before) {
                    self.push(before, guard_code, line)?;
                }
                self.push(op, guard_code, line)
            }
            // Kernels that never get here run all the same.
            Err(error) if error.is_of_instruction() => {
                self.before.clear();
                self.builder.unknown.push((self.builder.code.len() as u32, error));
                self.push(Op::Trap, guard_code, line)
            }
            Err(error) => Err(error),
        }
    }

    fn push(&mut self, op: Op, guard: u32, line: u32) -> Decoded<()> {
        if self.builder.code.len() >= MAX_INSTRUCTIONS {
            return Err(ParseError::TooLarge {
                line,
                what: "code".into(),
                need_bytes: self.builder.code.len() as u64 + 1,
                limit_bytes: MAX_INSTRUCTIONS as u64,
            });
        }
        self.builder.code.push(Instr { class: class(&op), op, guard, line, loc: self.loc });
        Ok(())
    }

    fn decode_op(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        if let Some(op) = self.hopper(mods, ops)? {
            return Ok(op);
        }
        if let Some(op) = self.control(mods, ops)? {
            return Ok(op);
        }
        if let Some(op) = self.memory(mods, ops)? {
            return Ok(op);
        }
        if let Some(op) = self.tensor(mods, ops)? {
            return Ok(op);
        }
        if let Some(op) = self.float(mods, ops)? {
            return Ok(op);
        }
        match self.integer(mods, ops)? {
            Some(op) => Ok(op),
            None => Err(mods.unknown(format!("`{}`", mods.name()))),
        }
    }

    /// Remembers that the instruction about to be pushed jumps to `labels`.
    pub(crate) fn fix_later(&mut self, labels: Vec<String>, line: u32) {
        self.fixups.push((self.builder.code.len(), self.scope, labels, line));
    }

    /// Labels of a `.branchtargets` list.
    pub(crate) fn branch_targets(&self, name: &str) -> Option<Vec<String>> {
        self.scopes[0].targets.get(name).cloned()
    }

    fn patch(&mut self) -> Decoded<()> {
        for (pc, scope, labels, line) in std::mem::take(&mut self.fixups) {
            let mut found = Vec::with_capacity(labels.len());
            for label in &labels {
                found.push(
                    self.label(scope, label).ok_or_else(|| ParseError::Undeclared { line, name: label.clone() })?,
                );
            }
            match &mut self.builder.code[pc].op {
                Op::Bra(target) => *target = found[0],
                Op::BrxIdx { targets, .. } => *targets = found.into(),
                _ => {}
            }
        }
        Ok(())
    }

    fn label(&self, mut scope: usize, name: &str) -> Option<u32> {
        loop {
            if let Some(&pc) = self.scopes[scope].labels.get(name) {
                return Some(pc);
            }
            scope = self.scopes[scope].parent?;
        }
    }

    fn fresh(&mut self, bank: Bank) -> R {
        let counter = match bank {
            Bank::Word => &mut self.frame.n32,
            Bank::Wide => &mut self.frame.n64,
            Bank::Pred => &mut self.frame.n_preds,
        };
        *counter += 1;
        *counter - 1
    }

    fn fresh_sized(&mut self, bank: Bank, is_short: bool) -> R {
        let idx = self.fresh(bank);
        if is_short {
            self.short.insert(idx);
        }
        idx
    }

    /// Whether register `idx` of the 32-bit bank has 16 bits.
    pub(crate) fn is_short(&self, idx: R) -> bool {
        self.short.contains(&idx)
    }

    /// What `name` means here.
    pub(crate) fn lookup(&mut self, name: &str) -> Option<Local> {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let stem_key = (digits < name.len()).then(|| format!("{}<", &name[..digits]));
        let mut scope = Some(self.scope);
        while let Some(index) = scope {
            if let Some(&local) = self.scopes[index].names.get(name) {
                return Some(local);
            }
            if let Some(key) = &stem_key
                && let Some(&Local::Range(bank, n, is_short)) = self.scopes[index].names.get(key)
                && name[digits..].parse::<u64>().is_ok_and(|i| i < n)
            {
                let local = Local::Reg(bank, self.fresh_sized(bank, is_short));
                self.scopes[index].names.insert(name.to_owned(), local);
                return Some(local);
            }
            scope = self.scopes[index].parent;
        }
        self.builder.symbols.get(name).map(|&symbol| Local::Module(symbol))
    }

    /// Register holding `value` in the 32-bit bank.
    pub(crate) fn const32(&mut self, value: Const) -> R {
        if let Some(&idx) = self.word_consts.get(&value) {
            return idx;
        }
        let idx = self.fresh(Bank::Word);
        self.word_consts.insert(value, idx);
        self.frame.consts32.push((idx, value));
        idx
    }

    /// Register holding `value` in the 64-bit bank.
    pub(crate) fn const64(&mut self, value: Const) -> R {
        if let Some(&idx) = self.wide_consts.get(&value) {
            return idx;
        }
        let idx = self.fresh(Bank::Wide);
        self.wide_consts.insert(value, idx);
        self.frame.consts64.push((idx, value));
        idx
    }

    fn const_pred(&mut self, value: bool) -> R {
        if let Some(idx) = self.pred_consts[usize::from(value)] {
            return idx;
        }
        let idx = self.fresh(Bank::Pred);
        self.pred_consts[usize::from(value)] = Some(idx);
        self.frame.const_preds.push((idx, value));
        idx
    }

    pub(crate) fn bad(&self, mods: &Mods<'_>, expected: &'static str, found: &Operand) -> ParseError {
        ParseError::Operand { line: mods.line, text: mods.text.to_owned(), expected, found: found.to_string() }
    }

    /// Operand `index`, or an error naming what should be there.
    pub(crate) fn arg<'o>(&self, mods: &Mods<'_>, ops: &'o [Operand], index: usize) -> Decoded<&'o Operand> {
        ops.get(index).ok_or_else(|| ParseError::Operand {
            line: mods.line,
            text: mods.text.to_owned(),
            expected: "one more operand",
            found: format!("only {}", ops.len()),
        })
    }

    fn named(&mut self, name: &str, mods: &Mods<'_>) -> Decoded<Local> {
        self.lookup(name).ok_or_else(|| ParseError::Undeclared { line: mods.line, name: name.to_owned() })
    }

    /// Which bank a register operand lives in; constants have none.
    pub(crate) fn bank(&mut self, operand: &Operand) -> Option<Bank> {
        match operand {
            Operand::Name(name) => match self.lookup(name)? {
                Local::Reg(bank, _) => Some(bank),
                _ => None,
            },
            _ => None,
        }
    }

    fn symbol_const(&mut self, local: Local, offset: i64) -> Option<Const> {
        match local {
            Local::Frame(at, _) => Some(Const::Local(i64::from(at).wrapping_add(offset))),
            Local::Param(at) => Some(Const::ParamAddr(i64::from(at).wrapping_add(offset))),
            Local::Module(Symbol::Global(id)) => Some(Const::Global(id, offset)),
            Local::Module(Symbol::Shared(id)) => Some(Const::Shared(id, offset)),
            Local::Module(Symbol::Function(id)) => Some(Const::Bits(function_address(id))),
            Local::Module(Symbol::Builtin(_)) | Local::Reg(..) | Local::Range(..) => None,
        }
    }

    fn value_const(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<Option<Const>> {
        Ok(match operand {
            Operand::Int(bits) | Operand::F64(bits) => Some(Const::Bits(*bits)),
            Operand::F32(bits) => Some(Const::Bits(u64::from(*bits))),
            Operand::Name(name) if name == "WARP_SZ" => Some(Const::Bits(32)),
            Operand::Name(name) => match special(name) {
                Some(special) => Some(Const::Special(special)),
                None => {
                    let local = self.named(name, mods)?;
                    self.symbol_const(local, 0)
                }
            },
            Operand::Offset(name, offset) => {
                let local = self.named(name, mods)?;
                self.symbol_const(local, *offset)
            }
            _ => None,
        })
    }

    /// A source in the 32-bit bank.
    pub(crate) fn s32(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        if let Operand::Name(name) = operand
            && let Some(Local::Reg(Bank::Word, idx)) = self.lookup(name)
        {
            return Ok(idx);
        }
        match self.value_const(operand, mods)? {
            Some(Const::Bits(bits)) => Ok(self.const32(Const::Bits(u64::from(bits as u32)))),
            Some(value) => Ok(self.const32(value)),
            None => Err(self.bad(mods, "a 32-bit value", operand)),
        }
    }

    /// A source of 16 bits: constants are cut to their low half.
    pub(crate) fn s16(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        match operand {
            Operand::Int(bits) => Ok(self.const32(Const::Bits(*bits & 0xffff))),
            _ => self.s32(operand, mods),
        }
    }

    /// A single-precision source: a double literal is rounded.
    pub(crate) fn sf32(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        match operand {
            Operand::F64(bits) => {
                let value = f64::from_bits(*bits) as f32;
                Ok(self.const32(Const::Bits(u64::from(value.to_bits()))))
            }
            _ => self.s32(operand, mods),
        }
    }

    /// A source in the 64-bit bank.
    pub(crate) fn s64(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        if let Operand::Name(name) = operand
            && let Some(Local::Reg(Bank::Wide, idx)) = self.lookup(name)
        {
            return Ok(idx);
        }
        match self.value_const(operand, mods)? {
            Some(value) => Ok(self.const64(value)),
            None => Err(self.bad(mods, "a 64-bit value", operand)),
        }
    }

    /// A source of type `ty`, in the bank that type lives in.
    pub(crate) fn src(&mut self, ty: Ty, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        match ty {
            Ty::F32 => self.sf32(operand, mods),
            _ if ty.bytes() == 8 => self.s64(operand, mods),
            _ if ty.bytes() == 2 => self.s16(operand, mods),
            _ => self.s32(operand, mods),
        }
    }

    /// A destination in `bank`; `_` discards.
    pub(crate) fn dst(&mut self, bank: Bank, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        match operand {
            Operand::Name(name) if name == "_" => Ok(self.fresh(bank)),
            Operand::Name(name) => match self.lookup(name) {
                Some(Local::Reg(found, idx)) if found == bank => Ok(idx),
                None => Err(ParseError::Undeclared { line: mods.line, name: name.clone() }),
                Some(_) => Err(self.bad(
                    mods,
                    match bank {
                        Bank::Word => "a 32-bit or 16-bit register",
                        Bank::Wide => "a 64-bit register",
                        Bank::Pred => "a predicate register",
                    },
                    operand,
                )),
            },
            _ => Err(self.bad(mods, "a register", operand)),
        }
    }

    /// A destination of type `ty`.
    pub(crate) fn dst_ty(&mut self, ty: Ty, operand: &Operand, mods: &Mods<'_>) -> Decoded<R> {
        self.dst(bank_of(ty), operand, mods)
    }

    fn pred_named(&mut self, name: &str, mods: &Mods<'_>) -> Decoded<R> {
        match self.named(name, mods)? {
            Local::Reg(Bank::Pred, idx) => Ok(idx),
            _ => Err(self.bad(mods, "a predicate register", &Operand::Name(name.to_owned()))),
        }
    }

    /// A predicate source: register, negated register or constant.
    pub(crate) fn pred(&mut self, operand: &Operand, mods: &Mods<'_>) -> Decoded<PSrc> {
        match operand {
            Operand::Name(name) => Ok(PSrc { idx: self.pred_named(name, mods)?, neg: false }),
            Operand::Not(inner) => {
                let inner = self.pred(inner, mods)?;
                Ok(PSrc { idx: inner.idx, neg: !inner.neg })
            }
            Operand::Int(value) => Ok(PSrc { idx: self.const_pred(*value != 0), neg: false }),
            _ => Err(self.bad(mods, "a predicate", operand)),
        }
    }

    /// `[base+offset]` in `space`.
    pub(crate) fn address(&mut self, space: MemSpace, operand: &Operand, mods: &Mods<'_>) -> Decoded<Addr> {
        let Operand::Memory(base, offset) = operand else { return Err(self.bad(mods, "an address", operand)) };
        if let Operand::Name(name) = base.as_ref() {
            match self.named(name, mods)? {
                Local::Reg(bank @ (Bank::Word | Bank::Wide), idx) => {
                    let Ok(offset) = i32::try_from(*offset) else {
                        return Err(self.bad(mods, "an offset of 32 bits", operand));
                    };
                    return Ok(Addr { space, wide: bank == Bank::Wide, base: idx, offset });
                }
                Local::Reg(Bank::Pred, _) | Local::Range(..) => return Err(self.bad(mods, "an address", operand)),
                local => {
                    // Parameters of device functions live in local memory.
                    let space = match (space, local) {
                        (MemSpace::Param, Local::Frame(..)) => MemSpace::Local,
                        _ => space,
                    };
                    let Some(value) = self.symbol_const(local, *offset) else {
                        return Err(self.bad(mods, "an address", operand));
                    };
                    return Ok(Addr { space, wide: true, base: self.const64(value), offset: 0 });
                }
            }
        }
        match base.as_ref() {
            Operand::Int(value) => {
                let value = Const::Bits(value.wrapping_add(*offset as u64));
                Ok(Addr { space, wide: true, base: self.const64(value), offset: 0 })
            }
            _ => Err(self.bad(mods, "an address", operand)),
        }
    }
}

fn axis(name: &str, stem: &str) -> Option<u8> {
    match name.strip_prefix(stem)? {
        ".x" => Some(0),
        ".y" => Some(1),
        ".z" => Some(2),
        _ => None,
    }
}

/// Reads a special register.
fn special(name: &str) -> Option<Special> {
    let named = match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NWarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NSmId,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LaneMaskEq,
        "%lanemask_lt" => Special::LaneMaskLt,
        "%lanemask_le" => Special::LaneMaskLe,
        "%lanemask_gt" => Special::LaneMaskGt,
        "%lanemask_ge" => Special::LaneMaskGe,
        "%dynamic_smem_size" => Special::DynamicSmem,
        "%total_smem_size" => Special::TotalSmem,
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "%tid.w" | "%ctaid.w" => Special::Zero,
        "%ntid.w" | "%nctaid.w" => Special::One,
        _ => {
            return axis(name, "%tid")
                .map(Special::Tid)
                .or_else(|| axis(name, "%ntid").map(Special::Ntid))
                .or_else(|| axis(name, "%ctaid").map(Special::Ctaid))
                .or_else(|| axis(name, "%nctaid").map(Special::Nctaid))
                .or_else(|| axis(name, "%clusterid").map(Special::ClusterId))
                .or_else(|| axis(name, "%nclusterid").map(Special::NClusterId))
                .or_else(|| axis(name, "%cluster_ctaid").map(Special::ClusterCtaid))
                .or_else(|| axis(name, "%cluster_nctaid").map(Special::ClusterNctaid));
        }
    };
    Some(named)
}
