//! How does a syntax tree become something a machine can run?
//!
//! Every name is resolved, every function gets a frame layout, all code lies in one array. Read [`op`] first.

mod bulk;
mod call;
mod class;
mod control;
mod float;
pub(crate) mod func;
mod guess;
mod hopper;
pub(crate) mod hopper_op;
mod integer;
pub(crate) mod kinds;
mod memory;
mod mods;
pub(crate) mod op;
pub(crate) mod registers;
mod tensor;
mod wgmma;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ParseError;
use crate::syntax::ast::{Function, Init, Text, Ty, Var, VarSpace};
use crate::syntax::parser;
use op::{Const, Instr};

/// Number in the name of a target (`sm_80`).
pub(crate) fn compute_capability(target: &str) -> Option<u32> {
    let digits: String = target.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Shared memory one block can have on any device known today, in bytes (CUDA programming guide, compute capability 9.0).
pub(crate) const MAX_SHARED_BYTES: u64 = 227 * 1024;

/// Shared memory one block can have on `target` (`sm_80`), in bytes; the most of all where the name says nothing.
///
/// **Source** CUDA C++ programming guide 13.0, technical specifications per compute capability.
pub(crate) fn shared_limit(target: &str) -> u64 {
    1024 * match compute_capability(target) {
        Some(70 | 72) => 96,
        Some(75) => 64,
        Some(80 | 87) => 163,
        Some(86 | 89 | 120 | 121) => 99,
        _ => return MAX_SHARED_BYTES,
    }
}
/// Local memory of one thread (CUDA programming guide, technical specifications).
pub(crate) const MAX_LOCAL_BYTES: u32 = 512 * 1024;
/// Module variables of one module; a guard against absurd texts, not a device limit.
const MAX_GLOBAL_BYTES: u64 = 1 << 30;
/// Kernel parameters (PTX ISA 8.1 and later).
const MAX_PARAM_BYTES: u64 = 32_764;
/// Instructions of one module.
const MAX_INSTRUCTIONS: usize = 1 << 23;

/// A parsed and decoded PTX text.
#[derive(Debug)]
pub struct Module {
    pub(crate) id: u64,
    pub(crate) code: Vec<Instr>,
    pub(crate) functions: Vec<Frame>,
    pub(crate) globals: Vec<GlobalVar>,
    pub(crate) shared: Vec<SharedVar>,
    /// Shared variables that belong to no kernel alone come first.
    pub(crate) n_common_shared: usize,
    pub(crate) locations: Vec<(u32, u32)>,
    pub(crate) files: HashMap<u32, String>,
    pub(crate) target: String,
    /// Instructions this machine does not know; traps stand in their places.
    unknown: Vec<(u32, ParseError)>,
    /// Names of the functions, in the order of `functions`.
    pub(crate) names: Vec<String>,
    entries: Vec<Entry>,
}

/// A kernel of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, as PTX spells it.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Shared memory with a fixed size, in bytes.
    pub static_smem_bytes: u32,
    /// Block size the kernel insists on (`.reqntid`).
    pub reqntid: Option<[u32; 3]>,
    /// Largest block the kernel was compiled for (`.maxntid`).
    pub maxntid: Option<[u32; 3]>,
    /// Blocks of a cluster, where the kernel fixes them (`.reqnctapercluster`).
    pub reqnctapercluster: Option<[u32; 3]>,
    pub(crate) function: usize,
    /// First and last-plus-one of its own shared variables.
    pub(crate) own_shared: (usize, usize),
}

/// A kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Offset in the parameter block.
    pub offset: u32,
    /// Size in bytes.
    pub bytes: u32,
    /// Scalar type; byte arrays are `B8` with a larger size.
    pub ty: Ty,
}

/// Frame layout of a function.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) entry_pc: u32,
    pub(crate) n32: u32,
    pub(crate) n64: u32,
    pub(crate) n_preds: u32,
    pub(crate) consts32: Vec<(u32, Const)>,
    pub(crate) consts64: Vec<(u32, Const)>,
    pub(crate) const_preds: Vec<(u32, bool)>,
    pub(crate) local_bytes: u32,
    /// Frame offset and size of parameters and results of a device function.
    pub(crate) params: Vec<(u32, u32)>,
    pub(crate) returns: Vec<(u32, u32)>,
}

/// A variable in device memory.
#[derive(Debug)]
pub(crate) struct GlobalVar {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) elem_bytes: u32,
    pub(crate) init: Vec<Init>,
    pub(crate) is_external: bool,
}

/// A variable in shared memory.
#[derive(Debug)]
pub(crate) struct SharedVar {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Offset in the block's shared memory; of no meaning for dynamic ones.
    pub(crate) offset: u32,
    pub(crate) align: u32,
    pub(crate) is_dynamic: bool,
}

/// What a module-level name means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Symbol {
    Global(usize),
    Shared(usize),
    Function(usize),
    /// Index into the table of functions that need no body.
    Builtin(usize),
}

/// Everything known while functions are decoded.
pub(crate) struct Builder {
    pub(crate) symbols: HashMap<String, Symbol>,
    pub(crate) globals: Vec<GlobalVar>,
    pub(crate) shared: Vec<SharedVar>,
    /// Bytes of static shared memory laid out so far, per module and per kernel being decoded.
    pub(crate) shared_bytes: u64,
    global_bytes: u64,
    pub(crate) code: Vec<Instr>,
    pub(crate) locations: Vec<(u32, u32)>,
    /// Instructions nobody knows, by place.
    pub(crate) unknown: Vec<(u32, ParseError)>,
}

impl Builder {
    /// Declares a variable in global, const or shared space.
    pub(crate) fn declare(&mut self, var: &Var) -> Result<Symbol, ParseError> {
        let too_large = |limit_bytes| ParseError::TooLarge {
            line: var.line,
            what: format!("variable `{}`", var.name),
            need_bytes: var.bytes(),
            limit_bytes,
        };
        if var.space == VarSpace::Shared {
            let is_dynamic = var.count == 0;
            let offset = self.shared_bytes.next_multiple_of(u64::from(var.align));
            if offset + var.bytes().min(MAX_SHARED_BYTES + 1) > MAX_SHARED_BYTES {
                return Err(too_large(MAX_SHARED_BYTES));
            }
            if !is_dynamic {
                self.shared_bytes = offset + var.bytes();
            }
            let (name, bytes) = (var.name.clone(), var.bytes());
            self.shared.push(SharedVar { name, bytes, offset: offset as u32, align: var.align, is_dynamic });
            return Ok(Symbol::Shared(self.shared.len() - 1));
        }
        self.global_bytes = self.global_bytes.saturating_add(var.bytes());
        if self.global_bytes > MAX_GLOBAL_BYTES {
            return Err(too_large(MAX_GLOBAL_BYTES));
        }
        self.globals.push(GlobalVar {
            name: var.name.clone(),
            bytes: var.bytes(),
            elem_bytes: var.ty.bytes(),
            init: var.init.clone(),
            is_external: var.count == 0,
        });
        Ok(Symbol::Global(self.globals.len() - 1))
    }
}

impl Module {
    /// Parses and decodes a PTX text.
    ///
    /// # Errors
    /// [`ParseError`] with the line: bad syntax, an undeclared name, an unknown instruction or modifier that every kernel
    /// comes to. Where only some do, their launches are refused.
    pub fn parse(ptx: &str) -> Result<Module, ParseError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let text = parser::parse(ptx)?;
        let (builder, functions, entries) = build(&text)?;
        let n_common_shared = entries.first().map_or(builder.shared.len(), |e| e.own_shared.0);
        let module = Module {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            code: builder.code,
            functions,
            globals: builder.globals,
            shared: builder.shared,
            n_common_shared,
            locations: builder.locations,
            names: text.functions.iter().filter(|f| f.body.is_some()).map(|f| f.name.clone()).collect(),
            files: text.files,
            target: text.target,
            unknown: builder.unknown,
            entries,
        };
        let mut refused = module.entries.iter().map(|entry| module.unknown_in(entry));
        match refused.next() {
            Some(Some((first, _))) if refused.all(|error| error.is_some()) => Err(first),
            _ => Ok(module),
        }
    }

    /// The first instruction this machine does not know in a kernel and all it may call.
    pub(crate) fn unknown_in(&self, entry: &Entry) -> Option<(ParseError, Option<(String, u32)>)> {
        if self.unknown.is_empty() {
            return None;
        }
        let starts = |pc: u32| self.functions.iter().map(|f| f.entry_pc).filter(move |&start| start > pc).min();
        let range = |f: usize| {
            let start = self.functions[f].entry_pc;
            start..starts(start).unwrap_or(self.code.len() as u32)
        };
        let (mut reached, mut next) = (vec![false; self.functions.len()], vec![entry.function]);
        while let Some(function) = next.pop() {
            if std::mem::replace(&mut reached[function], true) {
                continue;
            }
            if let Some((pc, error)) = self.unknown.iter().find(|(pc, _)| range(function).contains(pc)) {
                return Some((error.clone(), self.source(*pc)));
            }
            for pc in range(function) {
                let op::Op::Call(call) = &self.code[pc as usize].op else { continue };
                match call.target {
                    op::Target::Function(callee) => next.push(callee),
                    op::Target::Register(_) => next.extend((0..reached.len()).filter(|f| !reached[*f])),
                    op::Target::Builtin(_) => {}
                }
            }
        }
        None
    }

    /// Names of the kernels, in the order of the text.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// The kernel called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Whether some kernel asks for memory of its own.
    pub(crate) fn uses_heap(&self) -> bool {
        let is_malloc = |call: &op::Call| call.target == op::Target::Builtin(op::Builtin::Malloc);
        self.code.iter().any(|i| matches!(&i.op, op::Op::Call(call) if is_malloc(call)))
    }

    /// Source file and line of instruction `pc`, where the text has `.loc`.
    pub(crate) fn source(&self, pc: u32) -> Option<(String, u32)> {
        let &(file, line) = self.locations.get((self.code.get(pc as usize)?.loc as usize).checked_sub(1)?)?;
        let path = self.files.get(&file)?;
        Some((path.rsplit('/').next().unwrap_or(path).to_owned(), line))
    }
}

type Built = (Builder, Vec<Frame>, Vec<Entry>);

fn build(text: &Text) -> Result<Built, ParseError> {
    let mut builder = Builder {
        symbols: HashMap::new(),
        globals: Vec::new(),
        shared: Vec::new(),
        shared_bytes: 0,
        global_bytes: 0,
        code: Vec::new(),
        locations: Vec::new(),
        unknown: Vec::new(),
    };
    for var in &text.vars {
        let symbol = builder.declare(var)?;
        if builder.symbols.insert(var.name.clone(), symbol).is_some() {
            return Err(ParseError::Duplicate { line: var.line, name: var.name.clone() });
        }
    }
    for function in text.functions.iter().filter(|f| f.body.is_none()) {
        if let Some(index) = call::builtin(&function.name) {
            builder.symbols.insert(function.name.clone(), Symbol::Builtin(index));
        }
    }
    let bodies: Vec<&Function> = text.functions.iter().filter(|f| f.body.is_some()).collect();
    for (index, function) in bodies.iter().enumerate() {
        let before = builder.symbols.insert(function.name.clone(), Symbol::Function(index));
        if before.is_some_and(|symbol| !matches!(symbol, Symbol::Builtin(_))) {
            return Err(ParseError::Duplicate { line: function.line, name: function.name.clone() });
        }
    }
    // Functions called by kernels may hold shared variables of their own, so these are laid out first.
    let mut frames: Vec<Frame> = bodies.iter().map(|_| Frame::default()).collect();
    let mut entries = Vec::new();
    for (index, function) in bodies.iter().enumerate().filter(|(_, f)| !f.is_entry) {
        frames[index] = func::decode(&mut builder, function)?;
    }
    let common_shared = builder.shared_bytes;
    for (index, function) in bodies.iter().enumerate().filter(|(_, f)| f.is_entry) {
        builder.shared_bytes = common_shared;
        let first_shared = builder.shared.len();
        frames[index] = func::decode(&mut builder, function)?;
        let mut params = Vec::new();
        for (var, &(offset, bytes)) in function.params.iter().zip(&frames[index].params) {
            params.push(Param { offset, bytes, ty: var.ty });
        }
        entries.push(Entry {
            name: function.name.clone(),
            params,
            static_smem_bytes: builder.shared_bytes as u32,
            reqntid: function.reqntid,
            maxntid: function.maxntid,
            reqnctapercluster: function.reqnctapercluster,
            function: index,
            own_shared: (first_shared, builder.shared.len()),
        });
    }
    check_calls(&builder, &frames)?;
    Ok((builder, frames, entries))
}

/// Arguments and results of every call must fit the callee.
fn check_calls(builder: &Builder, frames: &[Frame]) -> Result<(), ParseError> {
    for instr in &builder.code {
        let op::Op::Call(call) = &instr.op else { continue };
        let op::Target::Function(callee) = call.target else { continue };
        let callee = &frames[callee];
        let sizes = |list: &[(u32, u32)]| list.iter().map(|&(_, bytes)| bytes).collect::<Vec<_>>();
        if sizes(&call.args) != sizes(&callee.params) || sizes(&call.results) != sizes(&callee.returns) {
            return Err(ParseError::Operand {
                line: instr.line,
                text: "call".into(),
                expected: "arguments and results as the callee declares them",
                found: format!("{:?} -> {:?} bytes", sizes(&call.args), sizes(&call.results)),
            });
        }
    }
    Ok(())
}
