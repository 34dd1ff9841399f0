//! Which operations do calls decode to: of functions, through registers, of what the device library offers?

use super::Symbol;
use super::func::{Bank, Decoder, Local};
use super::mods::Mods;
use super::op::*;
use crate::error::ParseError;
use crate::syntax::ast::Operand;

type Decoded<T> = Result<T, ParseError>;

/// Functions every device has without a body in the text, and the sizes of their parameters and result.
const BUILTINS: [(&str, Builtin, &[u32], &[u32]); 5] = [
    ("vprintf", Builtin::Printf, &[8, 8], &[4]),
    ("__assertfail", Builtin::AssertFail, &[8, 8, 4, 8, 8], &[]),
    ("malloc", Builtin::Malloc, &[8], &[8]),
    ("free", Builtin::Free, &[8], &[]),
    ("__assert_fail", Builtin::AssertFail, &[8, 8, 4, 8], &[]),
];

/// What an external function of this name is.
pub(super) fn builtin(name: &str) -> Option<usize> {
    BUILTINS.iter().position(|(known, ..)| *known == name)
}

impl Decoder<'_> {
    pub(super) fn call(&mut self, mods: &mut Mods<'_>, ops: &[Operand]) -> Decoded<Op> {
        mods.take("uni");
        let (results, rest) = match ops {
            [Operand::List(results), rest @ ..] => (results.as_slice(), rest),
            rest => (&[][..], rest),
        };
        let Some(target @ Operand::Name(name)) = rest.first() else { return Err(mods.unknown("no function name")) };
        let args = match rest.get(1) {
            Some(Operand::List(args)) => args.as_slice(),
            // The prototype of an indirect call.
            None | Some(Operand::Name(_)) => &[],
            Some(other) => return Err(self.bad(mods, "arguments in parentheses", other)),
        };
        let (args, results) = (self.slots(args, mods)?, self.slots(results, mods)?);
        match self.lookup(name) {
            Some(Local::Module(Symbol::Function(callee))) => {
                Ok(Op::Call(Box::new(Call { target: Target::Function(callee), args, results })))
            }
            Some(Local::Reg(Bank::Wide, r)) => {
                Ok(Op::Call(Box::new(Call { target: Target::Register(r), args, results })))
            }
            Some(Local::Module(Symbol::Builtin(index))) => {
                let (_, builtin, want_args, want_results) = BUILTINS[index];
                let fits = |slots: &[(u32, u32)], want: &[u32]| slots.iter().map(|s| s.1).eq(want.iter().copied());
                if !fits(&args, want_args) || !fits(&results, want_results) {
                    return Err(self.bad(mods, "the arguments this function takes", target));
                }
                Ok(Op::Call(Box::new(Call { target: Target::Builtin(builtin), args, results })))
            }
            Some(_) => Err(self.bad(mods, "a function", target)),
            None => Err(ParseError::Undeclared { line: mods.line, name: name.clone() }),
        }
    }

    fn slots(&mut self, list: &[Operand], mods: &Mods<'_>) -> Decoded<Vec<(u32, u32)>> {
        let mut slots = Vec::with_capacity(list.len());
        for operand in list {
            match operand {
                Operand::Name(name) => match self.lookup(name) {
                    Some(Local::Frame(offset, bytes)) => slots.push((offset, bytes)),
                    _ => return Err(self.bad(mods, "a parameter variable", operand)),
                },
                _ => return Err(self.bad(mods, "a parameter variable", operand)),
            }
        }
        Ok(slots)
    }
}
