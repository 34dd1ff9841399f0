//! Which modifiers does an opcode carry, and has each been understood?

use super::op::{FMod, Rnd};
use crate::error::ParseError;
use crate::syntax::ast::Ty;

/// An opcode cut at its dots; whatever nobody takes is an error, so no modifier is silently ignored.
pub(crate) struct Mods<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: u32,
    parts: Vec<Option<&'a str>>,
    types: Vec<Ty>,
}

impl<'a> Mods<'a> {
    pub(crate) fn new(text: &'a str, line: u32) -> Self {
        let mut types = Vec::new();
        let mut parts = Vec::new();
        for part in text.split('.').skip(1) {
            match Ty::from_suffix(part) {
                Some(ty) => types.push(ty),
                None => parts.push(Some(part)),
            }
        }
        Mods { text, line, parts, types }
    }

    /// First word of the opcode.
    pub(crate) fn name(&self) -> &'a str {
        self.text.split('.').next().unwrap_or(self.text)
    }

    /// Type suffix number `index`.
    pub(crate) fn ty(&self, index: usize) -> Result<Ty, ParseError> {
        self.types.get(index).copied().ok_or_else(|| self.unknown("a type suffix is missing"))
    }

    /// All type suffixes.
    pub(crate) fn types(&self) -> &[Ty] {
        &self.types
    }

    /// Takes modifier `name` if present.
    pub(crate) fn take(&mut self, name: &str) -> bool {
        match self.parts.iter_mut().find(|p| **p == Some(name)) {
            Some(part) => {
                *part = None;
                true
            }
            None => false,
        }
    }

    /// Takes the first of `names` that is present.
    pub(crate) fn take_one<T: Copy>(&mut self, names: &[(&str, T)]) -> Option<T> {
        names.iter().find(|(name, _)| self.take(name)).map(|&(_, value)| value)
    }

    /// Like [`Self::take_one`], where one of them must be there.
    pub(crate) fn need_one<T: Copy>(&mut self, names: &[(&str, T)], what: &str) -> Result<T, ParseError> {
        self.take_one(names).ok_or_else(|| self.unknown(format!("no {what} this machine knows")))
    }

    /// The parts nobody has taken yet.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.parts.iter().flatten().copied()
    }

    pub(crate) fn unknown(&self, what: impl Into<String>) -> ParseError {
        ParseError::UnknownInstruction { line: self.line, text: self.text.to_owned(), what: what.into() }
    }

    /// Rounding mode, `Near` if none is written.
    pub(crate) fn rounding(&mut self) -> Rnd {
        self.take_one(&[
            ("rn", Rnd::Near),
            ("rz", Rnd::Zero),
            ("rm", Rnd::Down),
            ("rp", Rnd::Up),
            ("rna", Rnd::NearAway),
        ])
        .unwrap_or(Rnd::Near)
    }

    /// Rounding, flush and saturation of a float instruction.
    pub(crate) fn float(&mut self) -> FMod {
        FMod { rnd: self.rounding(), ftz: self.take("ftz"), sat: self.take("sat") }
    }

    /// Complains about anything left over.
    pub(crate) fn finish(&self) -> Result<(), ParseError> {
        match self.rest().next() {
            None => Ok(()),
            Some(part) => Err(self.unknown(format!("modifier `.{part}`"))),
        }
    }
}
