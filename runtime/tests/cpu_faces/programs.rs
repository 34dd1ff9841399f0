//! Map and reduce over drawn programs.

use crate::check::check;
use crate::draw::{Args, Drawer, Rng, binary, dtype_of, float, linear, load, space, store};
use enel_bundle::{Acc, AccOp, Body, Desc, Instr, Kind, MapBody, Program, ReduceBody, Reg};
use enel_types::{BinaryOp, DType, UnaryOp};
use proptest::prelude::*;

fn drawn_map(seed: u64) {
    let rng = &mut Rng(seed);
    let rank = rng.below(5);
    let sizes = space(rng, rank, 4000);
    let mut args = Args::default();
    for _ in 0..rng.below(4) {
        let (dtype, len) = (rng.pick(&DType::ALL), 1 + rng.below(5000));
        args.read(rng, dtype, len);
    }
    let extents = args.extents(rng, &sizes);
    let mut drawer = Drawer { rng, p: Program::new(), kinds: Vec::new(), sizes: &sizes };
    for _ in 0..3 + drawer.rng.below(40) {
        drawer.step(&args);
    }
    let mut stores = Vec::new();
    for _ in 0..1 + drawer.rng.below(3) {
        let kind = drawer.rng.pick(&[Kind::Float, Kind::Int, Kind::Bool]);
        let value = drawer.any(kind);
        let dtype = dtype_of(drawer.rng, kind);
        stores.push(store(drawer.rng, &mut args, &mut drawer.p, &sizes, value, dtype));
    }
    let body = Body::Map(MapBody { space: extents, program: drawer.p, stores });
    let desc = Desc { buffers: args.roles, dynamics: args.dynamics, body };
    check(&desc, &args.data, &args.values, true);
}

fn drawn_reduce(seed: u64) {
    let rng = &mut Rng(seed);
    let (n_outer, n_inner) = (rng.below(3), rng.below(3));
    let outer = space(rng, n_outer, 600);
    let left = 6000 / outer.iter().product::<i64>();
    let inner = space(rng, n_inner, left.max(1));
    let sizes = [outer.as_slice(), &inner].concat();
    let mut args = Args::default();
    for _ in 0..1 + rng.below(3) {
        let (dtype, len) = (rng.pick(&DType::ALL), 1 + rng.below(7000));
        args.read(rng, dtype, len);
    }
    let (outer_extents, inner_extents) = (args.extents(rng, &outer), args.extents(rng, &inner));
    let mut drawer = Drawer { rng, p: Program::new(), kinds: Vec::new(), sizes: &sizes };
    for _ in 0..2 + drawer.rng.below(10) {
        drawer.step(&args);
    }
    let mut accs = Vec::new();
    let mut results = Vec::new();
    for _ in 0..1 + drawer.rng.below(3) {
        use AccOp::{ArgMax, ArgMin, Deviations, Max, Min, Prod, Sum};
        let kind = drawer.rng.pick(&[Kind::Float, Kind::Float, Kind::Int, Kind::Bool]);
        let op = match kind {
            Kind::Float => drawer.rng.pick(&[Sum, Sum, Max, Min, ArgMax, ArgMin]),
            Kind::Int => drawer.rng.pick(&[Sum, Prod, Max, Min]),
            Kind::Bool => drawer.rng.pick(&[Max, Min, ArgMax, ArgMin]),
        };
        let value = drawer.any(kind);
        accs.push(Acc { op, value });
        results.push(if matches!(op, ArgMax | ArgMin) { Kind::Int } else { kind });
        if kind == Kind::Float && drawer.rng.chance(30) {
            // Of bounded values: drawn ones may leave f32.
            let bounded = drawer.push(Instr::Unary(UnaryOp::Sin, value), Kind::Float);
            accs.push(Acc { op: Deviations, value: bounded });
            results.push(Kind::Float);
        }
    }
    let mut epilogue = Program::new();
    let mut stores = Vec::new();
    for (n, kind) in results.iter().enumerate() {
        let value = epilogue.push(Instr::Acc(n as u32));
        let dtype = match kind {
            Kind::Float => DType::F32,
            Kind::Int => DType::I64,
            Kind::Bool => DType::Bool,
        };
        stores.push(store(drawer.rng, &mut args, &mut epilogue, &outer, value, dtype));
    }
    let body = ReduceBody { outer: outer_extents, inner: inner_extents, element: drawer.p, accs, epilogue, stores };
    let desc = Desc { buffers: args.roles, dynamics: args.dynamics, body: Body::Reduce(body) };
    check(&desc, &args.data, &args.values, false);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_map_equals_the_reference(seed in any::<u64>()) {
        drawn_map(seed);
    }

    #[test]
    fn a_drawn_reduction_equals_the_reference(seed in any::<u64>()) {
        drawn_reduce(seed);
    }
}

/// A reduction of one buffer `[outer, inner]`, read transposed or not.
fn plain_reduce(outer: i64, inner: i64, transposed: bool, ops: &[AccOp]) {
    let rng = &mut Rng(outer as u64 * 1000 + inner as u64);
    let mut args = Args::default();
    let sizes = [outer, inner];
    let source = args.read(rng, DType::F32, (outer * inner) as usize);
    let mut element = Program::new();
    let index = linear(&mut element, if transposed { &[1, 0] } else { &[0, 1] }, &sizes);
    let value = load(&mut element, source, index);
    let mut epilogue = Program::new();
    let mut stores = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        let acc = epilogue.push(Instr::Acc(n as u32));
        let dtype = if matches!(op, AccOp::ArgMax | AccOp::ArgMin) { DType::I32 } else { DType::F32 };
        stores.push(store(rng, &mut args, &mut epilogue, &sizes[..1], acc, dtype));
    }
    let accs = ops.iter().map(|op| Acc { op: *op, value }).collect();
    let (outer, inner) = (args.extents(rng, &sizes[..1]), args.extents(rng, &sizes[1..]));
    let body = Body::Reduce(ReduceBody { outer, inner, element, accs, epilogue, stores });
    check(&Desc { buffers: args.roles, dynamics: args.dynamics, body }, &args.data, &args.values, false);
}

#[test]
fn long_reductions_cut_into_parts_equal_the_reference() {
    use AccOp::{ArgMax, ArgMin, Deviations, Max, Min, Sum};
    let ops = [Sum, Max, Min, ArgMax, ArgMin, Deviations];
    for (outer, inner) in [(1, 100_003), (3, 70_001), (2, 32_769), (700, 150), (65, 4099), (8192, 3)] {
        for transposed in [false, true] {
            plain_reduce(outer, inner, transposed, &ops);
        }
    }
}

#[test]
fn deviations_of_values_far_from_zero_do_not_cancel() {
    let mut args = Args::default();
    let n = 10_007;
    let source = args.add(DType::F32, enel_bundle::Access::Read, n);
    for i in 0..n {
        args.data[0].set(i, crate::reference::V::F(4096.0 + (i % 2) as f32 / 1024.0));
    }
    let mut element = Program::new();
    let index = linear(&mut element, &[0], &[n as i64]);
    let value = load(&mut element, source, index);
    let mut epilogue = Program::new();
    let acc = epilogue.push(Instr::Acc(0));
    let stores = vec![store(&mut Rng(1), &mut args, &mut epilogue, &[], acc, DType::F32)];
    let inner = vec![enel_bundle::Extent::Const(n as i64)];
    let accs = vec![Acc { op: AccOp::Deviations, value }];
    let body = Body::Reduce(ReduceBody { outer: vec![], inner, element, accs, epilogue, stores });
    let desc = Desc { buffers: args.roles, dynamics: vec![], body };
    let out = crate::check::run(&desc, &args.data, &[], &enel_runtime::cpu::CpuThreads::single()).unwrap();
    // 5003 ones among 10007: n p (1 - p) of spacing 1/1024.
    let want = 5003.0 * 5004.0 / 10_007.0 / (1024.0 * 1024.0);
    let got = f64::from(out[1].get(0).f());
    assert!((got - want).abs() < 1e-6 * want, "{got} is not {want}");
}

/// A map of one operation over `values`: each with its result.
fn mapped(op: UnaryOp, values: impl ExactSizeIterator<Item = f32>) -> Vec<(f64, f64)> {
    let mut args = Args::default();
    let n = values.len();
    let source = args.add(DType::F32, enel_bundle::Access::Read, n);
    for (i, x) in values.enumerate() {
        args.data[0].set(i, crate::reference::V::F(x));
    }
    let mut p = Program::new();
    let index = linear(&mut p, &[0], &[n as i64]);
    let x = load(&mut p, source, index);
    let y = p.push(Instr::Unary(op, x));
    let stores = vec![store(&mut Rng(1), &mut args, &mut p, &[n as i64], y, DType::F32)];
    let body = Body::Map(MapBody { space: vec![enel_bundle::Extent::Const(n as i64)], program: p, stores });
    let desc = Desc { buffers: args.roles, dynamics: vec![], body };
    let out = crate::check::run(&desc, &args.data, &[], &enel_runtime::cpu::CpuThreads::single()).unwrap();
    (0..n).map(|i| (f64::from(args.data[0].get(i).f()), f64::from(out[1].get(i).f()))).collect()
}

#[test]
fn erf_is_the_integral_of_the_gaussian() {
    // Simpson's rule in f64 as an independent source.
    let erf = |x: f64| {
        let n = 2000;
        let h = x / f64::from(n);
        let f = |i: i32| (-(f64::from(i) * h).powi(2)).exp();
        let sum: f64 = (1..n).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        (f(0) + sum + f(n)) * h / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
    };
    for (x, got) in mapped(UnaryOp::Erf, (0..801).map(|i| (i as f32 - 400.0) / 100.0)) {
        assert!((got - erf(x)).abs() <= 1.2e-7 * erf(x).abs() + 1e-12, "erf({x}) = {got}");
    }
}

#[test]
fn exp_is_close_to_e_to_the_x() {
    for (x, got) in mapped(UnaryOp::Exp, (0..4001).map(|i| (i as f32 - 2000.0) / 23.0)) {
        // One and a half units in the last place of f32.
        assert!((got - x.exp()).abs() <= 1.8e-7 * x.exp() + 1e-45, "exp({x}) = {got}");
    }
}

#[test]
fn a_large_map_in_many_tasks_equals_the_reference() {
    for sizes in [[317i64, 257], [81_921, 1], [27_307, 3], [3, 27_307]] {
        let rng = &mut Rng(7);
        let mut args = Args::default();
        let source = args.read(rng, DType::BF16, (sizes[0] * sizes[1]) as usize);
        let gain = args.read(rng, DType::F16, sizes[1] as usize);
        let mut p = Program::new();
        let (flat, col) = (linear(&mut p, &[0, 1], &sizes), linear(&mut p, &[1], &sizes));
        let (x, g) = (load(&mut p, source, flat), load(&mut p, gain, col));
        let product = binary(&mut p, BinaryOp::Mul, x, g);
        let half = float(&mut p, 0.5);
        let value: Reg = binary(&mut p, BinaryOp::Max, product, half);
        let stores = vec![store(rng, &mut args, &mut p, &sizes, value, DType::BF16)];
        let space = args.extents(rng, &sizes);
        let body = Body::Map(MapBody { space, program: p, stores });
        check(&Desc { buffers: args.roles, dynamics: args.dynamics, body }, &args.data, &args.values, true);
    }
}
