//! Which tensors does a pickled state dict name, and where do they say their numbers lie?
//!
//! A machine for the few opcodes PyTorch writes. Law: nothing is ever called; a name that is not on the list below ends
//! the reading. Objects lie in one arena and refer to each other by number, so shared and circular ones cost nothing.
//! **Source** CPython's `pickletools.py` for the opcodes; `torch/serialization.py` and `torch/_utils.py` for the names.

use std::collections::HashMap;

use safetensors::Dtype;

use super::TorchError;

/// PyTorch tensors have no more axes.
const MAX_RANK: usize = 64;
/// Storages are numbered; a longer name is no number. Both limits keep what is copied small.
const MAX_KEY_BYTES: usize = 64;

/// Number of an object.
type Id = usize;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callable {
    OrderedDict,
    Tensor,
    Parameter,
    Storage(Dtype),
}

/// Everything a state dict may name.
const GLOBALS: [(&str, &str, Callable); 13] = [
    ("collections", "OrderedDict", Callable::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Callable::Tensor),
    ("torch._utils", "_rebuild_parameter", Callable::Parameter),
    ("torch", "FloatStorage", Callable::Storage(Dtype::F32)),
    ("torch", "DoubleStorage", Callable::Storage(Dtype::F64)),
    ("torch", "HalfStorage", Callable::Storage(Dtype::F16)),
    ("torch", "BFloat16Storage", Callable::Storage(Dtype::BF16)),
    ("torch", "LongStorage", Callable::Storage(Dtype::I64)),
    ("torch", "IntStorage", Callable::Storage(Dtype::I32)),
    ("torch", "ShortStorage", Callable::Storage(Dtype::I16)),
    ("torch", "CharStorage", Callable::Storage(Dtype::I8)),
    ("torch", "ByteStorage", Callable::Storage(Dtype::U8)),
    ("torch", "BoolStorage", Callable::Storage(Dtype::BOOL)),
];

/// Keys of a training checkpoint below which the state dict lies.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "module"];

#[derive(Clone, Debug)]
enum Object {
    /// None, a float, and whatever else no tensor is made of.
    Other,
    Int(i64),
    Text(String),
    Global(Callable),
    Tuple(Vec<Id>),
    List,
    Dict(Vec<(Id, Id)>),
    Storage(Box<Storage>),
    Tensor(Box<PickledTensor>),
}

/// A run of numbers that tensors look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    /// Name of its file in the archive.
    pub(super) key: String,
    pub(super) n_elems: usize,
}

/// A view of a storage, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PickledTensor {
    pub(super) storage: Storage,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The tensors of a state dict, by name, in the file's order.
pub(super) fn state_dict(bytes: &[u8]) -> Result<Vec<(String, PickledTensor)>, TorchError> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), arena: vec![] };
    let top = machine.run()?;
    let found = machine.tensors_of(top);
    if !found.is_empty() {
        return Ok(found);
    }
    let Object::Dict(items) = &machine.arena[top] else { return Err(TorchError::NoStateDict) };
    let is_wrapper = |key: Id| matches!(&machine.arena[key], Object::Text(text) if WRAPPERS.contains(&text.as_str()));
    let inner = items.iter().filter(|(key, _)| is_wrapper(*key)).map(|(_, value)| machine.tensors_of(*value));
    inner.into_iter().find(|found| !found.is_empty()).ok_or(TorchError::NoStateDict)
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack where open lists of items begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    arena: Vec<Object>,
}

impl<'b> Machine<'b> {
    /// Runs to the end; gives the object that is left.
    fn run(&mut self) -> Result<Id, TorchError> {
        loop {
            let at = self.at;
            let opcode = self.take(1)?[0];
            match opcode {
                // PROTO, FRAME: nothing follows from them.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'N' | 0x88 | 0x89 => self.push(Object::Other),
                b'G' => {
                    self.take(8)?;
                    self.push(Object::Other);
                }
                b'K' | b'M' | b'J' => self.number(opcode)?,
                0x8a => self.long()?,
                b'X' | 0x8c => self.text(opcode)?,
                b')' => self.push(Object::Tuple(Vec::new())),
                0x85..=0x87 => self.small_tuple(usize::from(opcode - 0x84))?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Object::Tuple(items));
                }
                b']' => self.push(Object::List),
                b'a' => drop(self.pop()?),
                b'e' => drop(self.pop_mark()?),
                b'}' => self.push(Object::Dict(Vec::new())),
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                b'c' => self.global_line()?,
                0x93 => self.global_stack()?,
                b'q' | b'r' | 0x94 => self.remember(opcode)?,
                b'h' | b'j' => self.recall(opcode)?,
                b'Q' => self.persistent()?,
                b'R' => self.reduce()?,
                // BUILD: attributes of a dict, such as the versions of its modules, say nothing of tensors.
                b'b' => {
                    self.pop()?;
                    self.top()?;
                }
                opcode => return Err(TorchError::Opcode { offset: at, opcode }),
            }
        }
    }

    fn fault(&self, what: &'static str) -> TorchError {
        TorchError::Pickle { offset: self.at, what }
    }

    fn take(&mut self, n: usize) -> Result<&'b [u8], TorchError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or(self.fault("the end comes early"))?];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TorchError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn push(&mut self, object: Object) {
        self.arena.push(object);
        self.stack.push(self.arena.len() - 1);
    }

    /// Below this height items belong to what was begun before the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, TorchError> {
        if self.stack.len() <= self.floor() {
            return Err(self.fault("nothing is there to take"));
        }
        self.stack.pop().ok_or(self.fault("nothing is there to take"))
    }

    fn top(&self) -> Result<Id, TorchError> {
        self.stack.last().copied().ok_or(self.fault("nothing is there to change"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, TorchError> {
        let first = self.marks.pop().ok_or(self.fault("a list was never begun"))?;
        Ok(self.stack.split_off(first.min(self.stack.len())))
    }

    /// BININT1, BININT2, BININT.
    fn number(&mut self, opcode: u8) -> Result<(), TorchError> {
        let value = match opcode {
            b'K' => self.take(1)?[0].into(),
            b'M' => u16::from_le_bytes(self.array()?).into(),
            _ => i32::from_le_bytes(self.array()?).into(),
        };
        self.push(Object::Int(value));
        Ok(())
    }

    /// BINUNICODE, SHORT_BINUNICODE.
    fn text(&mut self, opcode: u8) -> Result<(), TorchError> {
        let n = match opcode {
            b'X' => u32::from_le_bytes(self.array()?) as usize,
            _ => usize::from(self.take(1)?[0]),
        };
        let bytes = self.take(n)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.fault("a text is not UTF-8"))?;
        self.push(Object::Text(text.to_owned()));
        Ok(())
    }

    /// TUPLE1 to TUPLE3.
    fn small_tuple(&mut self, n: usize) -> Result<(), TorchError> {
        let first = self.stack.len().checked_sub(n).filter(|&first| first >= self.floor());
        let items = self.stack.split_off(first.ok_or(self.fault("a tuple of nothing"))?);
        self.push(Object::Tuple(items));
        Ok(())
    }

    /// LONG1: a two's complement number of up to 255 bytes, of which 8 suffice for sizes.
    fn long(&mut self) -> Result<(), TorchError> {
        let n = usize::from(self.take(1)?[0]);
        let bytes = self.take(n)?;
        let object = match bytes {
            [] => Object::Int(0),
            [.., last] if n <= 8 => {
                let fill = if last & 0x80 == 0 { 0 } else { 0xff };
                let mut raw = [fill; 8];
                raw[..n].copy_from_slice(bytes);
                Object::Int(i64::from_le_bytes(raw))
            }
            _ => Object::Other,
        };
        self.push(object);
        Ok(())
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE.
    fn remember(&mut self, opcode: u8) -> Result<(), TorchError> {
        let key = match opcode {
            b'q' => self.take(1)?[0].into(),
            b'r' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    /// BINGET, LONG_BINGET.
    fn recall(&mut self, opcode: u8) -> Result<(), TorchError> {
        let key = match opcode {
            b'h' => self.take(1)?[0].into(),
            _ => u32::from_le_bytes(self.array()?),
        };
        let id = self.memo.get(&key).copied().ok_or(self.fault("an object is named that was never remembered"))?;
        self.stack.push(id);
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), TorchError> {
        let top = self.top()?;
        let odd = self.fault("a key has no value");
        let no_dict = self.fault("items are put into what is no dict");
        let Object::Dict(list) = &mut self.arena[top] else { return Err(no_dict) };
        let (pairs, rest) = items.as_chunks::<2>();
        list.extend(pairs.iter().map(|&[key, value]| (key, value)));
        if rest.is_empty() { Ok(()) } else { Err(odd) }
    }

    fn global_line(&mut self) -> Result<(), TorchError> {
        let module = self.line()?;
        let name = self.line()?;
        self.global(module, name)
    }

    fn line(&mut self) -> Result<&'b str, TorchError> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&byte| byte == b'\n').ok_or(self.fault("a name has no end"))?;
        let line = std::str::from_utf8(self.take(n)?).map_err(|_| self.fault("a name is not UTF-8"))?;
        self.take(1)?;
        Ok(line)
    }

    fn global_stack(&mut self) -> Result<(), TorchError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Object::Text(module), Object::Text(name)) = (&self.arena[module], &self.arena[name]) else {
            return Err(self.fault("a name is no text"));
        };
        let (module, name) = (module.clone(), name.clone());
        self.global(&module, &name)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), TorchError> {
        let known = GLOBALS.iter().find(|(m, n, _)| *m == module && *n == name);
        let refused = || TorchError::Global { name: shortened(&format!("{module}.{name}")) };
        self.push(Object::Global(known.ok_or_else(refused)?.2));
        Ok(())
    }

    /// A reference to a file of the archive: `("storage", type, key, place, elements)`.
    fn persistent(&mut self) -> Result<(), TorchError> {
        let id = self.pop()?;
        let storage = self.storage(id).ok_or(self.fault("a storage is not described as PyTorch does"))?;
        self.push(Object::Storage(Box::new(storage)));
        Ok(())
    }

    fn storage(&self, id: Id) -> Option<Storage> {
        let Object::Tuple(items) = &self.arena[id] else { return None };
        let &[kind, global, key, _place, count] = &items[..] else { return None };
        let (Object::Text(kind), Object::Text(key)) = (&self.arena[kind], &self.arena[key]) else { return None };
        let Object::Global(Callable::Storage(dtype)) = self.arena[global] else { return None };
        let n_elems = self.count(count)?;
        (kind == "storage" && key.len() <= MAX_KEY_BYTES).then(|| Storage { dtype, key: key.clone(), n_elems })
    }

    /// A number that counts something.
    fn count(&self, id: Id) -> Option<usize> {
        match self.arena[id] {
            Object::Int(n) => usize::try_from(n).ok(),
            _ => None,
        }
    }

    fn counts(&self, id: Id) -> Option<Vec<usize>> {
        let Object::Tuple(items) = &self.arena[id] else { return None };
        (items.len() <= MAX_RANK).then_some(())?;
        items.iter().map(|&item| self.count(item)).collect()
    }

    fn reduce(&mut self) -> Result<(), TorchError> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let made = match (&self.arena[callee], &self.arena[args]) {
            (Object::Global(Callable::OrderedDict), Object::Tuple(items)) if items.is_empty() => {
                Some(Object::Dict(Vec::new()))
            }
            (Object::Global(Callable::Tensor), Object::Tuple(items)) => {
                self.tensor(items).map(|tensor| Object::Tensor(Box::new(tensor)))
            }
            (Object::Global(Callable::Parameter), Object::Tuple(items)) => {
                items.first().map(|&item| self.arena[item].clone()).filter(|item| matches!(item, Object::Tensor(_)))
            }
            _ => None,
        };
        self.push(made.ok_or(self.fault("something is made that is no tensor and no dict"))?);
        Ok(())
    }

    /// Arguments: storage, offset, sizes, strides, and what gradients need.
    fn tensor(&self, items: &[Id]) -> Option<PickledTensor> {
        let &[storage, offset, shape, strides, ..] = items else { return None };
        let Object::Storage(storage) = &self.arena[storage] else { return None };
        let (shape, strides) = (self.counts(shape)?, self.counts(strides)?);
        (shape.len() == strides.len()).then_some(())?;
        Some(PickledTensor { storage: Storage::clone(storage), offset: self.count(offset)?, shape, strides })
    }

    /// Entries of a dict that are tensors; of equal names the last counts, as in Python.
    fn tensors_of(&self, id: Id) -> Vec<(String, PickledTensor)> {
        let Object::Dict(items) = &self.arena[id] else { return Vec::new() };
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut found: Vec<(String, PickledTensor)> = Vec::new();
        for (key, value) in items {
            let (Object::Text(name), Object::Tensor(tensor)) = (&self.arena[*key], &self.arena[*value]) else {
                continue;
            };
            match places.get(name.as_str()) {
                Some(&at) => found[at].1 = PickledTensor::clone(tensor),
                None => {
                    places.insert(name, found.len());
                    found.push((name.clone(), PickledTensor::clone(tensor)));
                }
            }
        }
        found
    }
}

/// The first hundred characters: names of hostile files are as long as the file.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}
