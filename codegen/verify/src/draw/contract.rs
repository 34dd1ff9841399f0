//! Calls of contract: f32, tensor cores, and folded row segments.

use super::{Drawn, extent, float_dtype, seed, size};
use crate::build::{Random, add_replaced, axes, c, desc, linear, load, loaded, read, store_accs, update, write};
use crate::check::{BF16, Case, F32};
use crate::data::Data;
use enel_bundle::{AccOp, Body, BufferRole, ContractBody, Dynamic, Extent, Fold, Instr, Program, Store, Value};
use enel_types::{BinaryOp, DType};
use proptest::prelude::*;

/// A summed axis that is divided among blocks where there are few tiles.
const LONG: i64 = 520;

/// Operand `[batch, other, summed]`, or with its last two axes exchanged.
fn operand(buffer: u32, [batch, other, summed]: [Extent; 3], transposed: bool) -> Value {
    let order = if transposed { [(0, batch), (2, summed), (1, other)] } else { [(0, batch), (1, other), (2, summed)] };
    loaded(buffer, &order)
}

/// The buffer of `n` results: empty, or with numbers the stores add to.
fn result(
    (epilogue, stores): (&mut Program, &mut [Store]),
    (random, n): (&mut Random, i64),
    adds: bool,
) -> (Data, BufferRole) {
    if !adds {
        return (Data::zeros(DType::F32, n as usize), write(DType::F32));
    }
    add_replaced(epilogue, stores);
    (random.data(DType::F32, n), update(DType::F32))
}

/// Products of any sizes and layouts, relu or not, added to what was there or not.
pub fn contract() -> impl Strategy<Value = Drawn> {
    let small = prop_oneof![size(), Just(5), Just(8)];
    let summed = prop_oneof![9 => size(), 1 => Just(LONG)];
    let drawn = ((1..3i64, small, size(), summed), float_dtype(), any::<[bool; 5]>(), seed());
    drawn.prop_map(|((b, m, n, k), dtype, [dynamic, lhs_t, rhs_t, relu, adds], seed)| {
        let m = if k == LONG { m.clamp(9, 40) } else { m };
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let batch = c(b);
        let [rows, cols, summed] = [m, n, k].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        let mut epilogue = Program::new();
        let index = linear(&mut epilogue, &axes(&[batch, rows, cols]));
        let acc = epilogue.push(Instr::Acc(0));
        let zero = epilogue.push(Instr::Float(0));
        let value = if relu { epilogue.push(Instr::Binary(BinaryOp::Max, acc, zero)) } else { acc };
        let mut stores = vec![Store { buffer: 2, index, value }];
        let mut random = Random(seed);
        let buffers = vec![random.data(dtype, b * m * k), random.data(dtype, b * n * k)];
        let (out, role) = result((&mut epilogue, &mut stores), (&mut random, b * m * n), adds);
        let body = ContractBody {
            batch: vec![batch],
            rows: vec![rows],
            cols: vec![cols],
            summed: vec![summed],
            lhs: operand(0, [batch, rows, summed], lhs_t),
            rhs: operand(1, [batch, cols, summed], rhs_t),
            bf16: false,
            epilogue,
            fold: None,
            stores,
        };
        let buffers = [buffers, vec![out]].concat();
        let roles = [read(dtype), read(dtype), role];
        let what = format!(
            "contract {b} x [{m}, {k}] [{k}, {n}] {dtype}, dynamic {dynamic}, transposed {lhs_t} {rhs_t}, relu {relu}, \
             adds {adds}, seed {seed}"
        );
        Drawn { what, case: Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers }, near: F32 }
    })
}

/// Divisibility is what the asynchronous copies ask for.
fn divisible(dynamics: &mut [Dynamic], sizes: &[i64]) {
    for (dynamic, &value) in dynamics.iter_mut().zip(sizes) {
        if value % 8 == 0 {
            *dynamic = Dynamic { max: value + 8, multiple: 8 };
        }
    }
}

/// Products whose operands may be rounded to bf16: stored so, or f32 behind a relu.
pub fn contract_tensor() -> impl Strategy<Value = Drawn> {
    let m = prop_oneof![Just(9), Just(16), Just(64), Just(72), 9..100i64, Just(600)];
    let n = prop_oneof![Just(8), Just(128), 1..140i64];
    let k = prop_oneof![Just(8), Just(32), Just(72), 1..90i64, Just(LONG)];
    let drawn = ((1..3i64, m, n, k), any::<[bool; 5]>(), seed());
    drawn.prop_map(|((b, m, n, k), [dynamic, lhs_t, rhs_t, prologue, adds], seed)| {
        let m = if k == LONG { m.min(40) } else { m };
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let batch = c(b);
        let [rows, cols, summed] = [m, n, k].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        divisible(&mut dynamics, &sizes);
        let mut lhs = operand(0, [batch, rows, summed], lhs_t);
        if prologue {
            let zero = lhs.program.push(Instr::Float(0));
            lhs.reg = lhs.program.push(Instr::Binary(BinaryOp::Max, lhs.reg, zero));
        }
        let (mut epilogue, mut stores) = store_accs(&[batch, rows, cols], 2, 1);
        let lhs_dtype = if prologue { DType::F32 } else { DType::BF16 };
        let mut random = Random(seed);
        let buffers = vec![random.data(lhs_dtype, b * m * k), random.data(DType::BF16, b * n * k)];
        let (out, role) = result((&mut epilogue, &mut stores), (&mut random, b * m * n), adds);
        let body = ContractBody {
            batch: vec![batch],
            rows: vec![rows],
            cols: vec![cols],
            summed: vec![summed],
            lhs,
            rhs: operand(1, [batch, cols, summed], rhs_t),
            bf16: true,
            epilogue,
            fold: None,
            stores,
        };
        let buffers = [buffers, vec![out]].concat();
        let roles = [read(lhs_dtype), read(DType::BF16), role];
        let what = format!(
            "contract {b} x [{m}, {k}] [{k}, {n}] on tensor cores, dynamic {dynamic}, transposed {lhs_t} {rhs_t}, \
             prologue {prologue}, adds {adds}, seed {seed}"
        );
        Drawn { what, case: Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers }, near: BF16 }
    })
}

/// `acc / 100` plus a bias of each row.
fn biased(kept: Extent, folded: Extent) -> Value {
    let mut program = Program::new();
    let acc = program.push(Instr::Acc(0));
    let bias = load(&mut program, 3, &[(1, kept), (2, folded)]);
    let small = program.push(Instr::Float(0.01f32.to_bits()));
    let scaled = program.push(Instr::Binary(BinaryOp::Mul, acc, small));
    let reg = program.push(Instr::Binary(BinaryOp::Add, scaled, bias));
    Value { program, reg }
}

/// Products whose rows are folded in segments.
pub fn contract_fold() -> impl Strategy<Value = Drawn> {
    let op = prop_oneof![Just(AccOp::Sum), Just(AccOp::Prod), Just(AccOp::Max), Just(AccOp::Min)];
    let length = prop_oneof![Just(1), Just(9), Just(81), 1..140i64];
    let drawn = ((1..3i64, 1..5i64, length, size(), 1..40i64), op, any::<[bool; 2]>(), seed());
    drawn.prop_map(|((b, kept, folded, n, k), op, [dynamic, bf16], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let (batch, cols, summed) = (c(b), c(n), c(k));
        let [kept_e, folded_e] = [kept, folded].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        let Value { program: epilogue, reg: value } = biased(kept_e, folded_e);
        let (fold_epilogue, stores) = store_accs(&[batch, kept_e, cols], 2, 1);
        let body = ContractBody {
            batch: vec![batch],
            rows: vec![kept_e, folded_e],
            cols: vec![cols],
            summed: vec![summed],
            lhs: loaded(0, &[(0, batch), (1, kept_e), (2, folded_e), (3, summed)]),
            rhs: loaded(1, &[(1, cols), (2, summed)]),
            bf16,
            epilogue,
            fold: Some(Fold { op, axes: 1, value, epilogue: fold_epilogue }),
            stores,
        };
        let dtype = if bf16 { DType::BF16 } else { DType::F32 };
        let mut random = Random(seed);
        // Around 1, so that products neither vanish nor explode.
        let bias = Data::float(DType::F32, (0..kept * folded).map(|_| 1.0 + random.unit() * 0.05));
        let out = Data::zeros(DType::F32, (b * kept * n) as usize);
        let buffers = vec![random.data(dtype, b * kept * folded * k), random.data(dtype, n * k), out, bias];
        let roles = [read(dtype), read(dtype), write(DType::F32), read(DType::F32)];
        let what = format!(
            "contract [{b}, {kept}, {folded}, {k}] [{k}, {n}] folded by {op:?} over {folded} rows, {dtype}, dynamic \
             {dynamic}, seed {seed}"
        );
        let case = Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers };
        Drawn { what, case, near: if bf16 { BF16 } else { F32 } }
    })
}
