//! Contract over drawn sizes: every way an operand may lie in memory, fused programs, folds, long sums, few rows.

use crate::check::check;
use crate::draw::{Args, Rng, binary, float, linear, load, store};
use enel_bundle::{AccOp, Body, ContractBody, Desc, Fold, Instr, Program, Value};
use enel_types::{BinaryOp, DType};
use proptest::prelude::*;

#[derive(Clone, Debug, Default)]
struct Case {
    batch: Vec<i64>,
    rows: Vec<i64>,
    cols: Vec<i64>,
    summed: Vec<i64>,
    fold: Option<(AccOp, u32)>,
    /// Plain f32 loads only.
    plain: bool,
}

/// An operand over batch, lines, summed: a layout, a dtype, perhaps a gather and a clamp.
fn operand(rng: &mut Rng, args: &mut Args, sizes: &[i64], ends: (usize, usize), plain: bool) -> Value {
    let (b, r) = ends;
    let rank = sizes.len() as u32;
    let axes: Vec<u32> = match rng.below(if b > 0 { 5 } else { 4 }) {
        0 | 1 => (0..rank).collect(),
        // Summed axes outside the lines: the transpose.
        2 => (0..b as u32).chain(r as u32..rank).chain(b as u32..r as u32).collect(),
        // Every axis backwards.
        3 if !plain => (0..rank).rev().collect(),
        3 => (0..rank).collect(),
        // The same for every batch.
        _ => (b as u32..rank).collect(),
    };
    let len: i64 = axes.iter().map(|a| sizes[*a as usize]).product();
    let dtype = if plain { DType::F32 } else { rng.pick(&[DType::F32, DType::F32, DType::BF16, DType::F16]) };
    let source = args.read(rng, dtype, len as usize + 3);
    let mut program = Program::new();
    let flat = linear(&mut program, &axes, sizes);
    let shift = program.int(rng.below(3) as i64);
    let index = program.int_op(BinaryOp::Add, flat, shift);
    let mut reg = load(&mut program, source, index);
    if !plain && rng.chance(30) {
        let zero = float(&mut program, 0.0);
        reg = binary(&mut program, BinaryOp::Max, reg, zero);
    }
    if !plain && rng.chance(30) && r > b {
        // A gather along the first line axis.
        let n = sizes[b];
        let table = args.read(rng, DType::I32, n as usize);
        for i in 0..n {
            args.data[table as usize].set(i as usize, crate::reference::V::I(n - 1 - i));
        }
        let at = linear(&mut program, &[b as u32], sizes);
        let row = load(&mut program, table, at);
        let width: i64 = sizes[r..].iter().product();
        let gathered = args.read(rng, DType::F32, (n * width) as usize);
        let width = program.int(width);
        let base = program.int_op(BinaryOp::Mul, row, width);
        let summed: Vec<u32> = (r as u32..rank).collect();
        let k = linear(&mut program, &summed, sizes);
        let index = program.int_op(BinaryOp::Add, base, k);
        let other = load(&mut program, gathered, index);
        reg = binary(&mut program, BinaryOp::Add, reg, other);
    }
    Value { program, reg }
}

fn check_case(seed: u64, case: &Case) {
    let rng = &mut Rng(seed);
    let Case { batch, rows, cols, summed, fold, plain } = case;
    let mut args = Args::default();
    let left = [batch.as_slice(), rows, summed].concat();
    let right = [batch.as_slice(), cols, summed].concat();
    let lhs = operand(rng, &mut args, &left, (batch.len(), batch.len() + rows.len()), *plain);
    let rhs = operand(rng, &mut args, &right, (batch.len(), batch.len() + cols.len()), *plain);
    let space = [batch.as_slice(), rows, cols].concat();
    let mut epilogue = Program::new();
    let mut value = epilogue.push(Instr::Acc(0));
    if rng.chance(60) {
        let axes: Vec<u32> = ((batch.len() + rows.len()) as u32..space.len() as u32).collect();
        let n = cols.iter().product::<i64>() as usize;
        let bias = args.read(rng, DType::F32, n);
        let index = linear(&mut epilogue, &axes, &space);
        let bias = load(&mut epilogue, bias, index);
        value = binary(&mut epilogue, BinaryOp::Add, value, bias);
    }
    let (fold, stores) = match fold {
        None => (None, vec![store(rng, &mut args, &mut epilogue, &space, value, DType::F32)]),
        Some((op, axes)) => {
            let kept = rows.len() - *axes as usize;
            let space = [batch.as_slice(), &rows[..kept], cols].concat();
            let mut after = Program::new();
            let acc = after.push(Instr::Acc(0));
            let two = float(&mut after, 2.0);
            let halved = binary(&mut after, BinaryOp::Div, acc, two);
            let stores = vec![store(rng, &mut args, &mut after, &space, halved, DType::F32)];
            (Some(Fold { op: *op, axes: *axes, value, epilogue: after }), stores)
        }
    };
    let body = ContractBody {
        batch: args.extents(rng, batch),
        rows: args.extents(rng, rows),
        cols: args.extents(rng, cols),
        summed: args.extents(rng, summed),
        lhs,
        rhs,
        bf16: false,
        epilogue,
        fold,
        stores,
    };
    let desc = Desc { buffers: args.roles, dynamics: args.dynamics, body: Body::Contract(body) };
    check(&desc, &args.data, &args.values, false);
}

fn drawn_case(seed: u64) -> Case {
    let rng = &mut Rng(seed ^ 0x5eed);
    let mut size = |many: &[i64]| many[rng.below(many.len())];
    let batch = size(&[1, 1, 2, 5, 40]);
    let (m, n) = (size(&[1, 2, 3, 4, 5, 17, 31, 64, 129]), size(&[1, 2, 3, 6, 17, 31, 64, 129]));
    let k = size(&[1, 2, 3, 6, 31, 64, 200, 513, 1100]);
    let mut split = |n: i64| match rng.below(3) {
        0 => vec![n],
        1 => vec![n, 1 + rng.below(2) as i64],
        _ => vec![1, n],
    };
    let large = batch * m * n * k > 1_000_000;
    let batch = if batch == 1 || large { vec![] } else { split(batch) };
    let m = if large { m.min(31) } else { m };
    let (mut rows, cols, summed) = (split(m), split(n), split(k));
    let fold = rng.chance(35).then(|| {
        let folded = 1 + rng.below(5) as i64;
        rows.push(folded);
        let op = rng.pick(&[AccOp::Sum, AccOp::Max, AccOp::Min]);
        (op, 1 + rng.below(rows.len()) as u32)
    });
    Case { batch, rows, cols, summed, fold, plain: rng.chance(25) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_contraction_equals_the_reference(seed in any::<u64>()) {
        check_case(seed, &drawn_case(seed));
    }
}

#[test]
fn a_long_sum_cut_into_parts_equals_the_reference() {
    for seed in 0..6 {
        let case = Case { rows: vec![7], cols: vec![5], summed: vec![20_011], plain: seed < 3, ..Case::default() };
        check_case(seed, &case);
    }
}

#[test]
fn several_blocks_of_rows_and_columns_equal_the_reference() {
    for seed in 0..4 {
        let case = Case { rows: vec![530], cols: vec![1100], summed: vec![5], plain: seed == 0, ..Case::default() };
        check_case(seed, &case);
        let case = Case { rows: vec![1100], cols: vec![37], summed: vec![11], plain: seed == 0, ..Case::default() };
        check_case(seed, &case);
    }
}

#[test]
fn few_rows_equal_the_reference() {
    for seed in 0..8 {
        let m = 1 + seed as i64 % 4;
        let case = Case { rows: vec![m], cols: vec![300], summed: vec![700], plain: seed < 4, ..Case::default() };
        check_case(seed, &case);
    }
}

#[test]
fn folds_of_81_rows_and_of_all_rows_equal_the_reference() {
    for op in [AccOp::Sum, AccOp::Max, AccOp::Min] {
        for (seed, rows) in [(1, vec![20, 81]), (2, vec![1700]), (3, vec![3, 600]), (4, vec![9, 9, 9])] {
            let case = Case { rows, cols: vec![33], summed: vec![20], fold: Some((op, 1)), ..Case::default() };
            check_case(seed, &case);
            let wide = Case { cols: vec![1030], summed: vec![3], batch: vec![2], ..case };
            check_case(seed, &wide);
        }
    }
}
