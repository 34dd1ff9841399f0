//! Which integer registers are linear in the coordinates? `base + sum coef * axis + sum coef * register`.
//!
//! Law: a form equals its register for every coordinate, modulo 2^64 as the registers themselves wrap. Quotients,
//! remainders and clamps are resolved only where ranges prove the result; whatever stays opaque is a term of its own.

use enel_bundle::{Instr, Kind, Program};
use enel_types::{BinaryOp, DType, UnaryOp};

/// A form with more opaque registers than this is an opaque register itself.
const MAX_TERMS: usize = 4;

/// An integer as a linear combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) base: i64,
    /// One coefficient per axis of the program.
    pub(crate) axes: Vec<i64>,
    /// Opaque registers, ascending, with their coefficients.
    pub(crate) terms: Vec<(u32, i64)>,
}

impl Linear {
    fn constant(base: i64, rank: usize) -> Linear {
        Linear { base, axes: vec![0; rank], terms: Vec::new() }
    }

    fn opaque(reg: usize, rank: usize) -> Linear {
        Linear { terms: vec![(reg as u32, 1)], ..Linear::constant(0, rank) }
    }

    fn as_constant(&self) -> Option<i64> {
        (self.terms.is_empty() && self.axes.iter().all(|c| *c == 0)).then_some(self.base)
    }

    fn scaled(&self, by: i64) -> Linear {
        let terms = self.terms.iter().map(|(r, c)| (*r, c.wrapping_mul(by))).filter(|t| t.1 != 0);
        Linear {
            base: self.base.wrapping_mul(by),
            axes: self.axes.iter().map(|c| c.wrapping_mul(by)).collect(),
            terms: terms.collect(),
        }
    }

    fn plus(&self, other: &Linear) -> Option<Linear> {
        let mut terms = self.terms.clone();
        for (reg, coef) in &other.terms {
            match terms.iter_mut().find(|t| t.0 == *reg) {
                Some(term) => term.1 = term.1.wrapping_add(*coef),
                None => terms.push((*reg, *coef)),
            }
        }
        terms.retain(|t| t.1 != 0);
        terms.sort_unstable();
        let axes = self.axes.iter().zip(&other.axes).map(|(a, b)| a.wrapping_add(*b)).collect();
        let sum = Linear { base: self.base.wrapping_add(other.base), axes, terms };
        (sum.terms.len() <= MAX_TERMS).then_some(sum)
    }

    /// Smallest and largest value over the space; `None` with opaque terms or where it might wrap.
    pub(crate) fn range(&self, space: &[i64]) -> Option<(i64, i64)> {
        if !self.terms.is_empty() {
            return None;
        }
        let (mut low, mut high) = (i128::from(self.base), i128::from(self.base));
        for (coef, extent) in self.axes.iter().zip(space) {
            let reach = i128::from(*coef).checked_mul(i128::from((extent - 1).max(0)))?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some((i64::try_from(low).ok()?, i64::try_from(high).ok()?))
    }

    /// Quotient and remainder by `divisor > 0`, where ranges prove both linear and the quotient is not negative.
    fn divided(&self, divisor: i64, space: &[i64]) -> Option<(Linear, Linear)> {
        if divisor <= 0 || !self.terms.is_empty() {
            return None;
        }
        let mut quotient = Linear::constant(self.base.div_euclid(divisor), self.axes.len());
        let mut rest = Linear::constant(self.base.rem_euclid(divisor), self.axes.len());
        for (at, coef) in self.axes.iter().enumerate() {
            if coef % divisor == 0 {
                quotient.axes[at] = coef / divisor;
            } else {
                rest.axes[at] = *coef;
            }
        }
        let (low, high) = rest.range(space)?;
        let proven = self.range(space).is_some() && low >= 0 && high < divisor && quotient.range(space)?.0 >= 0;
        proven.then_some((quotient, rest))
    }
}

/// The form of every Int register of a program over `space` (extents by axis); `None` for other kinds.
pub(crate) fn forms(program: &Program, kinds: &[Kind], space: &[i64], dynamics: &[i64]) -> Vec<Option<Linear>> {
    let mut forms: Vec<Option<Linear>> = Vec::with_capacity(kinds.len());
    for (at, instr) in program.instrs().iter().enumerate() {
        let form = (kinds[at] == Kind::Int).then(|| {
            let found = form_of(instr, &forms, space, dynamics);
            found.unwrap_or_else(|| Linear::opaque(at, space.len()))
        });
        forms.push(form);
    }
    forms
}

fn form_of(instr: &Instr, forms: &[Option<Linear>], space: &[i64], dynamics: &[i64]) -> Option<Linear> {
    let rank = space.len();
    let form = |r: &enel_bundle::Reg| forms[r.0 as usize].as_ref();
    match instr {
        Instr::Axis(n) => {
            let mut axis = Linear::constant(0, rank);
            if space[*n as usize] != 1 {
                axis.axes[*n as usize] = 1;
            }
            Some(axis)
        }
        Instr::Int(value) => Some(Linear::constant(*value, rank)),
        Instr::Size(n) => Some(Linear::constant(dynamics[*n as usize], rank)),
        Instr::Unary(UnaryOp::Neg, x) => Some(form(x)?.scaled(-1)),
        Instr::Cast(to, x) => fitting_cast(*to, form(x)?, space),
        Instr::Binary(op, x, y) => binary(*op, form(x)?, form(y)?, space),
        Instr::Float(_)
        | Instr::Bool(_)
        | Instr::Load { .. }
        | Instr::Acc(_)
        | Instr::Unary(..)
        | Instr::Select(..) => None,
    }
}

fn fitting_cast(to: DType, x: &Linear, space: &[i64]) -> Option<Linear> {
    let (low, high) = match to {
        DType::I64 => return Some(x.clone()),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        DType::U8 => (0, i64::from(u8::MAX)),
        DType::F32 | DType::BF16 | DType::F16 | DType::Bool => return None,
    };
    let (least, most) = x.range(space)?;
    (low <= least && most <= high).then(|| x.clone())
}

fn binary(op: BinaryOp, x: &Linear, y: &Linear, space: &[i64]) -> Option<Linear> {
    match op {
        BinaryOp::Add => x.plus(y),
        BinaryOp::Sub => x.plus(&y.scaled(-1)),
        BinaryOp::Mul => match (x.as_constant(), y.as_constant()) {
            (_, Some(c)) => Some(x.scaled(c)),
            (Some(c), None) => Some(y.scaled(c)),
            (None, None) => None,
        },
        BinaryOp::Div => Some(x.divided(y.as_constant()?, space)?.0),
        BinaryOp::Rem => Some(x.divided(y.as_constant()?, space)?.1),
        BinaryOp::Max | BinaryOp::Min => {
            let (a, b) = (x.range(space)?, y.range(space)?);
            let (greater, lesser) = if op == BinaryOp::Max { (x, y) } else { (y, x) };
            match (a.0 >= b.1, b.0 >= a.1) {
                (true, _) => Some(greater.clone()),
                (_, true) => Some(lesser.clone()),
                (false, false) => None,
            }
        }
        BinaryOp::Pow
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enel_bundle::Reg;

    fn form_over(space: &[i64], build: impl Fn(&mut Program) -> Reg) -> Linear {
        let mut p = Program::new();
        let reg = build(&mut p);
        let kinds = p.kinds(&[], &[]).unwrap();
        forms(&p, &kinds, space, &[]).swap_remove(reg.0 as usize).unwrap()
    }

    #[test]
    fn a_reshape_through_quotient_and_remainder_is_linear() {
        let form = form_over(&[5, 12], |p| {
            let (i, j) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)));
            let (twelve, three) = (p.int(12), p.int(3));
            let row = p.int_op(BinaryOp::Mul, i, twelve);
            let linear = p.int_op(BinaryOp::Add, row, j);
            p.int_op(BinaryOp::Div, linear, twelve);
            let q = p.int_op(BinaryOp::Div, linear, twelve);
            let r = p.int_op(BinaryOp::Rem, linear, twelve);
            let q3 = p.int_op(BinaryOp::Mul, q, three);
            p.int_op(BinaryOp::Add, q3, r)
        });
        assert_eq!(form, Linear { base: 0, axes: vec![3, 1], terms: vec![] });
    }

    #[test]
    fn an_unproven_quotient_stays_opaque() {
        let form = form_over(&[12], |p| {
            let (i, five) = (p.push(Instr::Axis(0)), p.int(5));
            p.int_op(BinaryOp::Div, i, five)
        });
        assert_eq!(form.terms, vec![(2, 1)]);
    }
}
