//! What do four neighbouring places of an axis share? Such quads are spelled together and loaded as vectors.
//!
//! Law: a quad starts at a multiple of four and lies inside its axis; what is answered holds for every such quad. What
//! is not known is `Each`.

use crate::affine::divisor;
use crate::spell::Spelled;
use enel_bundle::{Dynamic, Instr, Program, Reg};
use enel_types::BinaryOp;

/// Places of a quad.
pub(crate) const WIDTH: usize = 4;

/// How a register's value differs between the places of a quad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Not at all.
    Same,
    /// A multiple of four at the first place, one more at each further one.
    Run,
    /// An even number at the first two places, one more at the others: half a run.
    Pairs,
    /// A run, or the same everywhere: a multiple of four, or three more than one. What clamping makes of a run where
    /// the extent is a multiple of four.
    Clamped,
    /// In any way.
    Each,
}

/// The form of `reg`, given those of all registers before it; quads lie along `axis`.
pub(crate) fn form(program: &Program, reg: Reg, done: &Spelled, (axis, dynamics): (u32, &[Dynamic])) -> Form {
    let instr = program.get(reg);
    let multiples = |r: Reg, of: i64| done.form(r) == Form::Same && divisor(program, r, axis, dynamics) % of == 0;
    let (fours, evens) = (|r| multiples(r, WIDTH as i64), |r| multiples(r, 2));
    let literal = |r: Reg| match program.get(r) {
        Instr::Int(value) => Some(value),
        _ => None,
    };
    // The last element of an extent that is a multiple of four.
    let last = |r: Reg| literal(r).is_some_and(|value| value >= 0 && value % WIDTH as i64 == WIDTH as i64 - 1);
    let is_run = |r: Reg| done.form(r) == Form::Run;
    let is_pairs = |r: Reg| done.form(r) == Form::Pairs;
    let is_clamped = |r: Reg| matches!(done.form(r), Form::Run | Form::Clamped);
    match instr {
        Instr::Axis(n) if n == axis => return Form::Run,
        _ if instr.operands().all(|r| done.form(r) == Form::Same) => return Form::Same,
        Instr::Binary(BinaryOp::Add, x, y) if fours(y) && is_clamped(x) => return done.form(x),
        Instr::Binary(BinaryOp::Add, x, y) if fours(x) && is_clamped(y) => return done.form(y),
        Instr::Binary(BinaryOp::Sub, x, y) if fours(y) && is_clamped(x) => return done.form(x),
        Instr::Binary(BinaryOp::Div, x, y) if is_run(x) && fours(y) && positive(done, x, y) => return Form::Same,
        Instr::Binary(BinaryOp::Rem, x, y) if is_run(x) && fours(y) && positive(done, x, y) => return Form::Run,
        Instr::Binary(BinaryOp::Div, x, y) if is_run(x) && literal(y) == Some(2) && positive(done, x, y) => {
            return Form::Pairs;
        }
        Instr::Binary(BinaryOp::Div, x, y) if is_pairs(x) && evens(y) && positive(done, x, y) => return Form::Same,
        Instr::Binary(BinaryOp::Rem, x, y) if is_pairs(x) && evens(y) && positive(done, x, y) => return Form::Pairs,
        Instr::Binary(BinaryOp::Ge | BinaryOp::Lt, x, y) if is_run(x) && fours(y) => return Form::Same,
        Instr::Binary(BinaryOp::Max, x, y) if is_clamped(x) && literal(y) == Some(0) => {
            return if done.range(x).natural() { done.form(x) } else { Form::Clamped };
        }
        Instr::Binary(BinaryOp::Min, x, y) if is_clamped(x) && last(y) => {
            return if done.range(x).high <= done.range(y).low { done.form(x) } else { Form::Clamped };
        }
        _ => {}
    }
    Form::Each
}

/// What `reg`, of this form, is at `place`, where that follows from its first place or from nothing.
pub(crate) fn follows(program: &Program, reg: Reg, done: &Spelled, (form, place): (Form, usize)) -> Option<String> {
    let first = format!("r{}_0", reg.0);
    match (form, program.get(reg)) {
        (Form::Run, _) if place > 0 => Some(format!("{first} + {place}")),
        (Form::Pairs, _) if place > 0 => Some(format!("{first} + {}", place / 2)),
        (Form::Each, Instr::Binary(BinaryOp::Rem, x, y)) if done.form(x) == Form::Run && positive(done, x, y) => {
            (program.get(y) == Instr::Int(2)).then(|| (place % 2).to_string())
        }
        _ => None,
    }
}

/// True where `x / y` rounds down and is defined.
fn positive(done: &Spelled, x: Reg, y: Reg) -> bool {
    done.range(x).natural() && done.range(y).low > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::Range;
    use crate::spell::{Scope, spell_quad};
    use enel_bundle::{Access, BufferRole};
    use enel_types::DType;

    /// Form of what `build` makes of a row and a place of 24, and the text of a load there.
    fn of(build: impl Fn(&mut Program, Reg, Reg) -> Reg) -> (Form, String) {
        let mut program = Program::new();
        let (row, place) = (program.push(Instr::Axis(0)), program.push(Instr::Axis(1)));
        let index = build(&mut program, row, place);
        let wanted = program.push(Instr::Load { buffer: 0, index });
        let buffers = [BufferRole { dtype: DType::BF16, access: Access::Read }];
        let axes = vec![("m".to_owned(), Range::up_to(9)), ("k".to_owned(), Range::up_to(23))];
        let scope = Scope { function: "f", buffers: &buffers, dynamics: &[], axes, accs: &[] };
        let spelled = spell_quad(&program, wanted, &scope, 1).unwrap();
        (spelled.form(index), spelled.text)
    }

    fn with(program: &mut Program, op: BinaryOp, x: Reg, y: i64) -> Reg {
        let y = program.int(y);
        program.int_op(op, x, y)
    }

    #[test]
    fn neighbours_are_one_load_where_quads_are_aligned() {
        let row_major = |pitch: i64, first: i64| {
            move |p: &mut Program, row, place| {
                let start = with(p, BinaryOp::Mul, row, pitch);
                let start = with(p, BinaryOp::Add, start, first);
                p.int_op(BinaryOp::Add, start, place)
            }
        };
        let (form, text) = of(row_major(24, 8));
        assert!(form == Form::Run && text.contains("quad_of_bf16(a.b0 + r"), "{text}");
        for (pitch, first) in [(24, 1), (25, 0), (26, 2)] {
            let (form, text) = of(row_major(pitch, first));
            assert!(form == Form::Each && !text.contains("quad_of"), "{text}");
        }
        let (form, text) = of(|p, row, _| with(p, BinaryOp::Mul, row, 24));
        assert!(form == Form::Same && text.matches("from_bf16").count() == 1, "{text}");
    }

    #[test]
    fn a_part_of_a_concat_stays_a_quad_where_parts_are_whole() {
        let part = |start: i64, extent: i64| {
            move |p: &mut Program, _, place| {
                let local = with(p, BinaryOp::Sub, place, start);
                let low = with(p, BinaryOp::Max, local, 0);
                with(p, BinaryOp::Min, low, extent - 1)
            }
        };
        assert_eq!(of(part(0, 24)).0, Form::Run);
        let (form, text) = of(part(8, 12));
        assert!(form == Form::Clamped && text.contains("clamped_quad"), "{text}");
        assert_eq!(of(part(3, 12)).0, Form::Each);
        assert_eq!(of(part(8, 11)).0, Form::Each);
    }

    #[test]
    fn divisions_know_where_a_quad_begins() {
        assert_eq!(of(|p, _, place| with(p, BinaryOp::Div, place, 12)).0, Form::Same);
        assert_eq!(of(|p, _, place| with(p, BinaryOp::Rem, place, 12)).0, Form::Run);
        assert_eq!(of(|p, _, place| with(p, BinaryOp::Div, place, 2)).0, Form::Pairs);
        assert_eq!(of(|p, _, place| with(p, BinaryOp::Div, place, 6)).0, Form::Each);
        let (form, text) = of(|p, _, place| with(p, BinaryOp::Rem, place, 2));
        assert!(form == Form::Each && text.contains("_1 = 1;") && text.contains("_2 = 0;"), "{text}");
        let quarter = |p: &mut Program, _, place| {
            let half = with(p, BinaryOp::Div, place, 2);
            with(p, BinaryOp::Div, half, 6)
        };
        assert_eq!(of(quarter).0, Form::Same);
    }
}
