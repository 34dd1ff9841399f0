//! How does an operand lie in memory? Strides of a load along one axis, and what its other terms are multiples of.
//!
//! Law: `None` means not known; what is answered holds for every coordinate inside the extents.

use enel_bundle::{Dynamic, Extent, Instr, Program, Reg, Value};
use enel_types::{BinaryOp, DType};

/// The buffer and index of a value that is one load and nothing else; casts between float dtypes do not count.
pub(crate) fn plain_load(value: &Value) -> Option<(u32, Reg)> {
    let mut reg = value.reg;
    loop {
        match value.program.instrs().get(reg.0 as usize)? {
            Instr::Load { buffer, index } => return Some((*buffer, *index)),
            Instr::Cast(DType::F32 | DType::BF16 | DType::F16, x) if x.0 < reg.0 => reg = *x,
            _ => return None,
        }
    }
}

/// How much the integer register grows when `axis` grows by one, where that is one constant.
pub(crate) fn stride(program: &Program, reg: Reg, axis: u32) -> Option<i64> {
    strides(program, axis).get(reg.0 as usize).copied().flatten()
}

fn strides(program: &Program, axis: u32) -> Vec<Option<i64>> {
    let mut known: Vec<Option<i64>> = Vec::with_capacity(program.instrs().len());
    for instr in program.instrs() {
        let at = |r: Reg| known.get(r.0 as usize).copied().flatten();
        let fixed = instr.operands().all(|r| at(r) == Some(0));
        let found = match *instr {
            Instr::Axis(n) => Some(i64::from(n == axis)),
            Instr::Binary(BinaryOp::Add, x, y) => at(x).zip(at(y)).and_then(|(a, b)| a.checked_add(b)),
            Instr::Binary(BinaryOp::Sub, x, y) => at(x).zip(at(y)).and_then(|(a, b)| a.checked_sub(b)),
            Instr::Binary(BinaryOp::Mul, x, y) => match (at(x), at(y), literal(program, x), literal(program, y)) {
                (Some(0), Some(0), ..) => Some(0),
                (Some(a), _, _, Some(factor)) => a.checked_mul(factor),
                (_, Some(b), Some(factor), _) => b.checked_mul(factor),
                (..) => None,
            },
            _ => fixed.then_some(0),
        };
        known.push(found);
    }
    known
}

fn literal(program: &Program, reg: Reg) -> Option<i64> {
    match program.instrs().get(reg.0 as usize) {
        Some(Instr::Int(value)) => Some(*value),
        _ => None,
    }
}

/// A number the register is a multiple of wherever `axis` is 0; 0 when it is always 0.
pub(crate) fn divisor(program: &Program, reg: Reg, axis: u32, dynamics: &[Dynamic]) -> i64 {
    let mut known: Vec<i64> = Vec::with_capacity(program.instrs().len());
    for instr in program.instrs() {
        let at = |r: Reg| known.get(r.0 as usize).copied().unwrap_or(1);
        known.push(match *instr {
            Instr::Axis(n) => i64::from(n != axis),
            Instr::Int(value) => value.saturating_abs(),
            Instr::Size(n) => dynamics.get(n as usize).map_or(1, |d| d.multiple.max(1)),
            Instr::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min, x, y)
            | Instr::Select(_, x, y) => gcd(at(x), at(y)),
            Instr::Binary(BinaryOp::Mul, x, y) => at(x).checked_mul(at(y)).unwrap_or(1),
            _ => 1,
        });
    }
    known.get(reg.0 as usize).copied().unwrap_or(1)
}

/// A number every value of the extent is a multiple of.
pub(crate) fn extent_divisor(extent: Extent, dynamics: &[Dynamic]) -> i64 {
    match extent {
        Extent::Const(n) => n,
        Extent::Dyn(i) => dynamics.get(i as usize).map_or(1, |d| d.multiple.max(1)),
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Strides of every load in the program along `axis`.
pub(crate) fn load_strides(program: &Program, axis: u32) -> impl Iterator<Item = Option<i64>> + '_ {
    let known = strides(program, axis);
    program.instrs().iter().filter_map(move |instr| match instr {
        Instr::Load { index, .. } => Some(known.get(index.0 as usize).copied().flatten()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_divisors_of_a_row_major_load() {
        let mut p = Program::new();
        let (row, col, size) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)), p.push(Instr::Size(0)));
        let pitch = p.int(24);
        let start = p.push(Instr::Binary(BinaryOp::Mul, row, pitch));
        let index = p.push(Instr::Binary(BinaryOp::Add, start, col));
        let dynamic = p.push(Instr::Binary(BinaryOp::Mul, row, size));
        assert_eq!((stride(&p, index, 0), stride(&p, index, 1)), (Some(24), Some(1)));
        assert_eq!((stride(&p, dynamic, 0), stride(&p, dynamic, 1)), (None, Some(0)));
        let sizes = [Dynamic { max: 64, multiple: 8 }];
        assert_eq!(divisor(&p, index, 1, &sizes), 24);
        assert_eq!(divisor(&p, index, 0, &sizes), 1);
        assert_eq!(divisor(&p, dynamic, 1, &sizes), 8);
        let load = p.push(Instr::Load { buffer: 3, index });
        let cast = p.push(Instr::Cast(DType::BF16, load));
        assert_eq!(plain_load(&Value { program: p.clone(), reg: cast }), Some((3, index)));
        assert_eq!(load_strides(&p, 0).collect::<Vec<_>>(), [Some(24)]);
    }

    #[test]
    fn a_gathered_row_is_opaque_but_aligned() {
        let mut p = Program::new();
        let (row, col) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)));
        let at = p.push(Instr::Load { buffer: 0, index: row });
        let pitch = p.int(64);
        let start = p.push(Instr::Binary(BinaryOp::Mul, at, pitch));
        let index = p.push(Instr::Binary(BinaryOp::Add, start, col));
        assert_eq!((stride(&p, index, 0), stride(&p, index, 1)), (None, Some(1)));
        assert_eq!(divisor(&p, index, 1, &[]), 64);
    }
}
