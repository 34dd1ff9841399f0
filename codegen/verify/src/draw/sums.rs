//! Calls of map, reduce and scatter.

use super::{Drawn, extent, float_dtype, seed, size};
use crate::build::{Random, add_replaced, axes, c, desc, linear, load, loaded, read, store_accs, update, write};
use crate::check::{Case, F32, Near};
use crate::data::Data;
use enel_bundle::{
    Acc, AccOp, Body, Extent, Instr, MapBody, Program, ReduceBody, Reg, ScatterBody, ScatterMode, Store,
};
use enel_types::{BinaryOp, DType, UnaryOp};
use proptest::prelude::*;

/// `exp` of a transposed matrix, added to what was there or not.
pub fn map() -> impl Strategy<Value = Drawn> {
    (size(), size(), float_dtype(), any::<[bool; 2]>(), seed()).prop_map(|(n0, n1, dtype, [dynamic, adds], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let space = [n0, n1].map(|n| extent(n, dynamic, &mut sizes, &mut dynamics));
        let mut program = Program::new();
        // Transposed in, so that index arithmetic is not the identity.
        let x = load(&mut program, 0, &[(1, space[1]), (0, space[0])]);
        let y = program.push(Instr::Unary(UnaryOp::Exp, x));
        let index = linear(&mut program, &axes(&space));
        let mut stores = vec![Store { buffer: 1, index, value: y }];
        let mut random = Random(seed);
        let mut buffers = vec![random.data(dtype, n0 * n1), Data::zeros(dtype, (n0 * n1) as usize)];
        let mut roles = [read(dtype), write(dtype)];
        if adds {
            add_replaced(&mut program, &mut stores);
            (roles[1], buffers[1]) = (update(dtype), random.data(dtype, n0 * n1));
        }
        let body = Body::Map(MapBody { space: space.to_vec(), program, stores });
        let case = Case { desc: desc(&roles, &dynamics, body), sizes, buffers };
        let what = format!("map [{n0}, {n1}] {dtype}, dynamic {dynamic}, adds {adds}, seed {seed}");
        Drawn { what, case, near: F32 }
    })
}

/// A reduction of buffer 0 by each of `accs`, one buffer of results each.
fn reduction(
    [outer, inner]: [Extent; 2],
    element: Program,
    accs: Vec<Acc>,
    input: Data,
    (sizes, dynamics): (Vec<i64>, Vec<enel_bundle::Dynamic>),
) -> Case {
    let (epilogue, stores) = store_accs(&[outer], 1, accs.len() as u32);
    let mut buffers = vec![read(input.dtype())];
    let mut data = vec![input];
    for acc in &accs {
        let out = if matches!(acc.op, AccOp::ArgMax | AccOp::ArgMin) { DType::I32 } else { DType::F32 };
        buffers.push(write(out));
        data.push(Data::zeros(out, outer.value(&sizes) as usize));
    }
    let body = ReduceBody { outer: vec![outer], inner: vec![inner], element, accs, epilogue, stores };
    Case { desc: desc(&buffers, &dynamics, Body::Reduce(body)), sizes, buffers: data }
}

/// Near 1, so that a product of thousands stays finite.
fn near_one(element: &mut Program, value: Reg) -> Reg {
    let (small, one) = (element.push(Instr::Float(1e-3f32.to_bits())), element.push(Instr::Float(1f32.to_bits())));
    let scaled = element.push(Instr::Binary(BinaryOp::Mul, value, small));
    element.push(Instr::Binary(BinaryOp::Add, scaled, one))
}

/// Every accumulator at once, over rows or columns.
pub fn reduce() -> impl Strategy<Value = Drawn> {
    let ops = [AccOp::Sum, AccOp::Prod, AccOp::Max, AccOp::Min, AccOp::ArgMax, AccOp::ArgMin, AccOp::Deviations];
    let drawn = (size(), prop_oneof![size(), 200..3000i64], float_dtype(), any::<[bool; 3]>(), seed());
    drawn.prop_map(move |(o, i, dtype, [dynamic, transposed, grid], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let outer = extent(o, dynamic, &mut sizes, &mut dynamics);
        let inner = extent(i, dynamic, &mut sizes, &mut dynamics);
        let mut element = Program::new();
        let order = if transposed { [(1, inner), (0, outer)] } else { [(0, outer), (1, inner)] };
        let value = load(&mut element, 0, &order);
        let factor = near_one(&mut element, value);
        let accs = ops.map(|op| Acc { op, value: if op == AccOp::Prod { factor } else { value } }).to_vec();
        let mut random = Random(seed);
        let input = if grid { random.grid(dtype, o * i) } else { random.data(dtype, o * i) };
        let case = reduction([outer, inner], element, accs, input, (sizes, dynamics));
        let what =
            format!("reduce [{o}, {i}] {dtype}, dynamic {dynamic}, transposed {transposed}, grid {grid}, seed {seed}");
        Drawn { what, case, near: F32 }
    })
}

/// Few and long rows, which blocks share in teams.
pub fn reduce_teams() -> impl Strategy<Value = Drawn> {
    let ops = [AccOp::Sum, AccOp::Max, AccOp::ArgMax, AccOp::ArgMin, AccOp::Deviations];
    let drawn = (1..4i64, 32_768..50_000i64, float_dtype(), any::<bool>(), seed());
    drawn.prop_map(move |(o, i, dtype, dynamic, seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let outer = extent(o, dynamic, &mut sizes, &mut dynamics);
        let inner = extent(i, dynamic, &mut sizes, &mut dynamics);
        let mut element = Program::new();
        let value = load(&mut element, 0, &[(0, outer), (1, inner)]);
        let accs = ops.map(|op| Acc { op, value }).to_vec();
        let input = Random(seed).data(dtype, o * i);
        let case = reduction([outer, inner], element, accs, input, (sizes, dynamics));
        Drawn { what: format!("reduce [{o}, {i}] {dtype}, dynamic {dynamic}, seed {seed}"), case, near: F32 }
    })
}

/// Rows set or added at indices, some of them outside.
pub fn scatter() -> impl Strategy<Value = Drawn> {
    let mode = prop_oneof![Just(ScatterMode::Set), Just(ScatterMode::Add)];
    let dtype = prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::I32), Just(DType::U8)];
    let sizes = (1..3i64, 1..3i64, 1..12i64, size(), prop_oneof![Just(1), 1..300i64]);
    (sizes, mode, dtype, 0..3u32, seed()).prop_map(|((p0, p1, extent, rows, suffix), mode, dtype, batch, seed)| {
        let prefix = vec![c(p0), c(p1)];
        let index_axes: Vec<Extent> = prefix[..batch as usize].iter().copied().chain([c(rows)]).collect();
        let all: Vec<Extent> = prefix.iter().copied().chain([c(rows), c(suffix)]).collect();
        let n_index = rows * prefix[..batch as usize].iter().map(|e| e.value(&[])).product::<i64>();
        let body = ScatterBody {
            mode,
            prefix,
            batch,
            extent: c(extent),
            index_space: vec![c(rows)],
            suffix: vec![c(suffix)],
            index: loaded(0, &axes(&index_axes)),
            rows: loaded(1, &axes(&all)),
            out: 2,
        };
        let mut random = Random(seed);
        // One step outside on either side.
        let index = Data::int(DType::I32, (0..n_index).map(|_| random.below(extent as u64 + 2) as i64 - 1));
        let buffers =
            vec![index, random.data(dtype, p0 * p1 * rows * suffix), random.data(dtype, p0 * p1 * extent * suffix)];
        let roles = [read(DType::I32), read(dtype), update(dtype)];
        let case = Case { desc: desc(&roles, &[], Body::Scatter(body)), sizes: vec![], buffers };
        let what = format!(
            "scatter {mode:?} {rows} rows of {suffix} into [{p0}, {p1}, {extent}, {suffix}] {dtype}, indices along \
             {batch} axes, seed {seed}"
        );
        Drawn { what, case, near: if dtype.is_float() { F32 } else { Near::Exact } }
    })
}
