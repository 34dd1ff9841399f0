//! Kernels of map, reduce and scatter.

use super::{Part, Shipped, d, drawn, floats, integers};
use crate::build::{axes, c, linear, load, loaded, read, store_accs, update, write};
use crate::check::{Case, F32, Near};
use enel_bundle::{Acc, AccOp, Body, Extent, Instr, MapBody, Program, ReduceBody, ScatterBody, ScatterMode, Store};
use enel_types::{BinaryOp, DType, UnaryOp};

pub(super) fn kernels() -> Vec<Shipped> {
    let all = [AccOp::Sum, AccOp::Prod, AccOp::Max, AccOp::Min, AccOp::ArgMax, AccOp::ArgMin, AccOp::Deviations];
    let sum = [AccOp::Sum];
    let team = [AccOp::Sum, AccOp::ArgMin, AccOp::Deviations];
    let (f32, bf16) = (DType::F32, DType::BF16);
    vec![
        transposed(DType::F16).alone("map", &[[7, 37], [1, 1], [33, 16], [2, 300]], drawn),
        wide().alone("map_wide", &[[1], [100], [200], [300], [1100]], drawn),
        functions().alone("map_functions", &[[1], [900]], awkward),
        integer_functions().alone("map_integers", &[[1], [300]], divisors),
        reduction(&all, f32, false, [(400, 1), (8, 1)]).alone("reduce_lane", &[[1, 1], [12, 8], [300, 7]], extremes),
        reduction(&all, bf16, false, [(90, 1), (64, 1)]).alone("reduce_lanes", &[[1, 1], [12, 9], [40, 64]], extremes),
        reduction(&all, f32, false, [(40, 1), (1000, 1)]).alone(
            "reduce_warp",
            &[[1, 1], [12, 33], [33, 300]],
            extremes,
        ),
        reduction(&all, f32, false, [(400, 1), (3000, 1)]).alone(
            "reduce_block",
            &[[1, 1], [12, 255], [24, 2600]],
            extremes,
        ),
        reduction(&all, f32, true, [(100, 1), (200, 1)]).alone(
            "reduce_column",
            &[[1, 1], [33, 3], [90, 140]],
            extremes,
        ),
        reduction(&team, f32, true, [(70, 1), (4000, 1)]).alone(
            "reduce_column_team",
            &[[1, 1], [33, 600], [70, 3900]],
            extremes,
        ),
        reduction(&sum, DType::F16, true, [(100_000, 1), (30, 1)]).alone(
            "reduce_columns",
            &[[1, 1], [33, 5], [70, 29]],
            drawn,
        ),
        reduction(&team, f32, false, [(24, 1), (50_000, 1)]).alone(
            "reduce_team",
            &[[1, 1], [3, 700], [22, 5900], [23, 6500], [24, 7000]],
            extremes,
        ),
        scatter(ScatterMode::Set, bf16, [4, 60]).alone("scatter_set", &[[1, 1, 1], [2, 7, 3], [3, 50, 33]], places),
        scatter(ScatterMode::Set, f32, [4, 3000]).alone(
            "scatter_set_wide",
            &[[1, 1, 1], [2, 7, 130], [2, 170, 1200]],
            places,
        ),
        scatter(ScatterMode::Add, f32, [4, 64]).alone(
            "scatter_add",
            &[[1, 1, 1], [2, 7, 3], [2, 0, 5], [1, 49, 64], [2, 150, 33]],
            places,
        ),
        scatter(ScatterMode::Add, DType::I32, [4, 900]).alone(
            "scatter_add_wide",
            &[[1, 1, 1], [2, 7, 130], [1, 150, 600]],
            places,
        ),
    ]
}

/// `exp` of a transposed matrix of dynamic sizes.
pub(super) fn transposed(dtype: DType) -> Part {
    let space = [d(0), d(1)];
    let mut program = Program::new();
    let x = load(&mut program, 0, &[(1, space[1]), (0, space[0])]);
    let value = program.push(Instr::Unary(UnaryOp::Exp, x));
    let index = linear(&mut program, &axes(&space));
    let body = MapBody { space: space.to_vec(), program, stores: vec![Store { buffer: 1, index, value }] };
    let buffers = vec![(read(dtype), space.to_vec()), (write(dtype), space.to_vec())];
    Part::new(buffers, &[(300, 1), (300, 1)], Body::Map(body), F32)
}

/// More points than 32 bits count, four of them a thread.
fn wide() -> Part {
    let space = [d(0), c(3)];
    let mut program = Program::new();
    let x = load(&mut program, 0, &axes(&space));
    let value = program.push(Instr::Unary(UnaryOp::Neg, x));
    let index = linear(&mut program, &axes(&space));
    let body = MapBody { space: space.to_vec(), program, stores: vec![Store { buffer: 1, index, value }] };
    let buffers = vec![(read(DType::F32), space.to_vec()), (write(DType::F32), space.to_vec())];
    Part::new(buffers, &[(1 << 33, 1)], Body::Map(body), Near::Exact)
}

/// Every scalar function of floats, each into its own buffer.
fn functions() -> Part {
    use UnaryOp::{Abs, Ceil, Cos, Erf, Exp, Floor, Log, Neg, Recip, Round, Rsqrt, Sign, Sin, Sqrt, Tanh};
    let space = vec![d(0)];
    let mut program = Program::new();
    let x = load(&mut program, 0, &axes(&space));
    let index = linear(&mut program, &axes(&space));
    let ops = [Neg, Abs, Sign, Floor, Ceil, Round, Sqrt, Rsqrt, Recip, Exp, Log, Sin, Cos, Tanh, Erf];
    let values = ops.map(|op| program.push(Instr::Unary(op, x)));
    let stores = values.iter().enumerate().map(|(at, &value)| Store { buffer: at as u32 + 1, index, value }).collect();
    let mut buffers = vec![(read(DType::F32), space.clone())];
    buffers.extend(ops.map(|_| (write(DType::F32), space.clone())));
    Part::new(buffers, &[(1000, 1)], Body::Map(MapBody { space, program, stores }), Near::Relative(4e-6))
}

/// Arguments that take every branch of the functions' code: huge, tiny, infinite, none.
fn awkward(case: &mut Case) {
    floats(case, 0, |at, x| match at % 12 {
        0 => (x * 1e6).round(),
        1 => (x * 1e9).round(),
        2 => x * 1e-3,
        // Below the smallest normal number, and still with a reciprocal.
        3 => (x.signum() * 0.6 + x * 0.4) * 1e-38,
        4 => x * 20.0,
        5 => x * 3e37,
        6 => [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0, -0.0, 1.0][at / 12 % 6],
        7 => x * 87.0,
        _ => x * 4.0,
    });
}

/// Whole numbers: division, remainder, comparisons, and powers.
fn integer_functions() -> Part {
    let space = vec![d(0)];
    let mut program = Program::new();
    let (x, y) = (load(&mut program, 0, &axes(&space)), load(&mut program, 1, &axes(&space)));
    let index = linear(&mut program, &axes(&space));
    let (seven, twelve) = (program.int(7), program.int(12));
    let values = [
        program.push(Instr::Binary(BinaryOp::Div, x, y)),
        program.push(Instr::Binary(BinaryOp::Rem, x, y)),
        program.push(Instr::Binary(BinaryOp::Div, x, seven)),
        program.push(Instr::Binary(BinaryOp::Rem, y, twelve)),
        program.push(Instr::Binary(BinaryOp::Max, x, y)),
        program.push(Instr::Binary(BinaryOp::Xor, x, y)),
    ];
    let stores = values.iter().enumerate().map(|(at, &value)| Store { buffer: at as u32 + 2, index, value }).collect();
    let mut buffers = vec![(read(DType::I32), space.clone()), (read(DType::I64), space.clone())];
    buffers.extend(values.map(|_| (write(DType::I64), space.clone())));
    Part::new(buffers, &[(1000, 1)], Body::Map(MapBody { space, program, stores }), Near::Exact)
}

/// Divisors of every size and sign, none, and dividends beyond 32 bits.
fn divisors(case: &mut Case) {
    integers(case, 0, |at| {
        [0, 1, -1, 7, -7, i64::from(i32::MAX), i64::from(i32::MIN), 1000][at % 8] + at as i64 / 8 % 3
    });
    integers(case, 1, |at| [1, -1, 0, 3, -5, 1 << 40, -(1 << 35), 12, i64::MIN, i64::MAX, 1 << 31][at % 11]);
}

/// Rows of dynamic number and length, summed.
pub(super) fn rows_of(most: i64) -> Part {
    reduction(&[AccOp::Sum], DType::F32, false, [(40, 1), (most, 1)])
}

fn reduction(ops: &[AccOp], dtype: DType, transposed: bool, bounds: [(i64, i64); 2]) -> Part {
    let (outer, inner) = (d(0), d(1));
    let mut element = Program::new();
    let order = if transposed { [(1, inner), (0, outer)] } else { [(0, outer), (1, inner)] };
    let value = load(&mut element, 0, &order);
    // Near 1, so that a product of many stays finite.
    let small = element.push(Instr::Float(0.02f32.to_bits()));
    let one = element.push(Instr::Float(1f32.to_bits()));
    let scaled = element.push(Instr::Binary(BinaryOp::Mul, value, small));
    let factor = element.push(Instr::Binary(BinaryOp::Add, scaled, one));
    let accs: Vec<Acc> =
        ops.iter().map(|&op| Acc { op, value: if op == AccOp::Prod { factor } else { value } }).collect();
    let (epilogue, stores) = store_accs(&[outer], 1, accs.len() as u32);
    let mut buffers = vec![(read(dtype), vec![outer, inner])];
    for op in ops {
        let is_index = matches!(op, AccOp::ArgMax | AccOp::ArgMin);
        buffers.push((write(if is_index { DType::I32 } else { DType::F32 }), vec![outer]));
    }
    let body = ReduceBody { outer: vec![outer], inner: vec![inner], element, accs, epilogue, stores };
    Part::new(buffers, &bounds, Body::Reduce(body), F32)
}

/// Values on a coarse grid, where extremes tie, and one beyond it: the first element, the last, and others on both sides of
/// a warp's and a block's edge. Every eighth row has a NaN.
fn extremes(case: &mut Case) {
    let (rows, n) = (case.sizes[0] as usize, case.sizes[1] as usize);
    let Body::Reduce(body) = &case.desc.body else { return };
    // The element's index begins with the axis that is stored first.
    let is_transposed = body.element.instrs().iter().find_map(|i| match i {
        Instr::Axis(axis) => Some(*axis == 1),
        _ => None,
    });
    // The first rows have it at an edge, the others in each warp of a block in turn.
    let place = |row: usize| match row {
        0..8 => [0, n - 1, n / 2, 1, 31, 32, 33, 63][row] % n,
        _ if row % 2 == 1 => (row - 8) * n / rows,
        _ => (row % 8 * 32 + row * 5 % 32 + row * 7 / 8 * 256) % n,
    };
    floats(case, 0, |at, x| {
        let (row, i) = if is_transposed == Some(true) { (at % rows, at / rows) } else { (at / n, at % n) };
        let grid = (x * 8.0).round() / 8.0;
        match (i == place(row), i == place((row + 5) % rows)) {
            _ if row % 8 == 7 && i == n / 3 => f64::NAN,
            (true, _) => 2.0 + grid,
            (_, true) => -2.0 - grid,
            (false, false) => grid,
        }
    });
}

/// `[prefix, rows, suffix]` into `[prefix, 6, suffix]`, indices along the prefix.
fn scatter(mode: ScatterMode, dtype: DType, [prefix, suffix]: [i64; 2]) -> Part {
    let (p, rows, s, extent): (Extent, Extent, Extent, Extent) = (d(0), d(1), d(2), c(6));
    let body = ScatterBody {
        mode,
        prefix: vec![p],
        batch: 1,
        extent,
        index_space: vec![rows],
        suffix: vec![s],
        index: loaded(0, &axes(&[p, rows])),
        rows: loaded(1, &axes(&[p, rows, s])),
        out: 2,
    };
    let buffers =
        vec![(read(DType::I32), vec![p, rows]), (read(dtype), vec![p, rows, s]), (update(dtype), vec![p, extent, s])];
    let near = if dtype.is_float() { F32 } else { Near::Exact };
    Part::new(buffers, &[(prefix, 1), (200, 1), (suffix, 1)], Body::Scatter(body), near)
}

/// Indices from one below the axis to one beyond it; among many, few are inside and equal ones as far apart as the steps of a
/// search.
fn places(case: &mut Case) {
    let rows = case.sizes[1] as usize;
    integers(case, 0, |at| match (rows, at % rows) {
        // Many of each, more than a loop takes at once.
        (49, row) => row as i64 % 3,
        (0..50, _) => (at as i64 * 5 + at as i64 / 7) % 8 - 1,
        (_, 0 | 33) => 1,
        (_, 5 | 134) => 2,
        (_, 7 | 40 | 41) => 3,
        (_, 9) => 5,
        (_, 11 | 31) => 0,
        (_, 60..=70) => 4,
        (_, row) => {
            if row % 2 == 0 {
                -1
            } else {
                6
            }
        }
    });
}
