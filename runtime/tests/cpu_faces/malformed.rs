//! Broken Descs and calls that do not fit: an error each, never a panic.

use crate::draw::{Args, Rng, float, linear, load, store};
use enel_bundle::{
    Access, Body, BufferRole, ContractBody, Desc, Extent, Fold, Instr, MapBody, Program, Reg, Store, Value,
};
use enel_runtime::cpu::{AlignedBytes, CpuArg, CpuError, CpuKernel, CpuThreads};
use enel_types::{BinaryOp, DType, UnaryOp};
use proptest::prelude::*;

const N: i64 = 100;

/// `out[i] = in[i + shift]`.
fn shifted(shift: i64) -> (Desc, Args) {
    let mut args = Args::default();
    let source = args.read(&mut Rng(5), DType::F32, N as usize);
    let mut p = Program::new();
    let (at, by) = (linear(&mut p, &[0], &[N]), p.int(shift));
    let index = p.int_op(BinaryOp::Add, at, by);
    let x = load(&mut p, source, index);
    let stores = vec![store(&mut Rng(1), &mut args, &mut p, &[N], x, DType::F32)];
    let body = Body::Map(MapBody { space: vec![Extent::Const(N)], program: p, stores });
    (Desc { buffers: args.roles.clone(), dynamics: vec![], body }, args)
}

#[test]
fn an_index_outside_its_buffer_is_an_error() {
    let (desc, args) = shifted(0);
    assert!(crate::check::run(&desc, &args.data, &[], &CpuThreads::single()).is_ok());
    for (shift, index) in [(1, N), (-1, -1), (i64::MAX - 3, i64::MAX - 3)] {
        let (desc, args) = shifted(shift);
        let got = crate::check::run(&desc, &args.data, &[], &CpuThreads::new(2).unwrap()).unwrap_err();
        assert_eq!(got, CpuError::OutOfBounds { buffer: 0, index, len: N as usize });
    }
}

#[test]
fn a_call_that_does_not_fit_is_an_error() {
    let (desc, _) = shifted(0);
    let kernel = CpuKernel::prepare(&desc).unwrap();
    let source = AlignedBytes::zeroed(400).unwrap();
    let (mut out, mut odd) = (AlignedBytes::zeroed(400).unwrap(), AlignedBytes::zeroed(399).unwrap());
    let threads = CpuThreads::single();
    let args = &mut [CpuArg::Read(&source), CpuArg::Write(&mut out)];
    assert_eq!(kernel.run(args, &[], &threads), Ok(()));
    assert_eq!(kernel.run(args, &[1], &threads), Err(CpuError::DynamicCount { expected: 0, got: 1 }));
    assert_eq!(kernel.run(&mut args[..1], &[], &threads), Err(CpuError::BufferCount { expected: 2, got: 1 }));
    let args = &mut [CpuArg::Read(&source), CpuArg::Read(&source)];
    assert_eq!(kernel.run(args, &[], &threads), Err(CpuError::ReadOnly { buffer: 1 }));
    let args = &mut [CpuArg::Read(&source), CpuArg::Write(&mut odd)];
    let layout = CpuError::Layout { buffer: 1, bytes: 399, dtype: DType::F32 };
    assert_eq!(kernel.run(args, &[], &threads), Err(layout));
    let args = &mut [CpuArg::Read(&source), CpuArg::Write(&mut out[..396])];
    assert!(matches!(kernel.run(args, &[], &threads), Err(CpuError::OutOfBounds { buffer: 1, .. })));
}

#[test]
fn two_stores_to_one_element_are_no_undefined_behaviour() {
    let mut args = Args::default();
    let out = args.add(DType::F32, Access::Write, 70_000);
    let mut p = Program::new();
    let (index, value) = (p.int(7), float(&mut p, 2.5));
    let stores = vec![Store { buffer: out, index, value }];
    let body = Body::Map(MapBody { space: vec![Extent::Const(70_000)], program: p, stores });
    let desc = Desc { buffers: args.roles, dynamics: vec![], body };
    let got = crate::check::run(&desc, &args.data, &[], &CpuThreads::new(2).unwrap()).unwrap();
    assert_eq!(got[0].get(7).f(), 2.5);
}

fn refused(desc: &Desc) {
    assert!(matches!(CpuKernel::prepare(desc), Err(CpuError::Malformed { .. })), "{desc:?}");
}

#[test]
fn malformed_maps_are_refused() {
    let (good, _) = shifted(0);
    let Body::Map(body) = &good.body else { panic!("a map") };
    let with = |change: &dyn Fn(&mut MapBody)| {
        let mut body = body.clone();
        change(&mut body);
        refused(&Desc { body: Body::Map(body), ..good.clone() });
    };
    with(&|b| b.stores[0].buffer = 9);
    with(&|b| b.stores[0].buffer = 0);
    with(&|b| b.stores[0].value = Reg(99));
    with(&|b| b.stores[0].index = b.stores[0].value);
    with(&|b| b.stores[0].value = b.stores[0].index);
    with(&|b| b.space = vec![Extent::Dyn(0)]);
    with(&|b| b.space = vec![Extent::Const(-1)]);
    with(&|b| b.space = vec![]);
    for instr in [
        Instr::Axis(1),
        Instr::Size(0),
        Instr::Acc(0),
        Instr::Load { buffer: 1, index: Reg(0) },
        Instr::Load { buffer: 7, index: Reg(0) },
        Instr::Unary(UnaryOp::Exp, Reg(0)),
        Instr::Unary(UnaryOp::Neg, Reg(1000)),
    ] {
        with(&|b| {
            b.program.push(Instr::Axis(0));
            b.program.push(instr);
        });
    }
}

#[test]
fn an_unthinkable_space_is_refused() {
    let (mut desc, args) = shifted(0);
    if let Body::Map(body) = &mut desc.body {
        body.space = vec![Extent::Const(i64::MAX)];
    }
    let got = crate::check::run(&desc, &args.data, &[], &CpuThreads::single());
    assert!(matches!(got, Err(CpuError::Size { .. })), "{:?}", got.err());
}

#[test]
fn a_fold_of_more_axes_than_rows_is_refused() {
    let rng = &mut Rng(1);
    let mut args = Args::default();
    let source = args.read(rng, DType::F32, 4);
    let side = || {
        let mut program = Program::new();
        let index = linear(&mut program, &[0], &[2]);
        let reg = load(&mut program, source, index);
        Value { program, reg }
    };
    let mut epilogue = Program::new();
    let value = epilogue.push(Instr::Acc(0));
    let fold = Fold { op: enel_bundle::AccOp::Sum, axes: 2, value, epilogue: epilogue.clone() };
    let two = vec![Extent::Const(2)];
    let body = ContractBody {
        batch: vec![],
        rows: two.clone(),
        cols: two.clone(),
        summed: two,
        lhs: side(),
        rhs: side(),
        bf16: false,
        epilogue,
        fold: Some(fold),
        stores: vec![],
    };
    refused(&Desc { buffers: args.roles, dynamics: vec![], body: Body::Contract(body) });
}

/// Any instruction over registers, buffers and axes that need not exist.
fn wild(rng: &mut Rng) -> Instr {
    let mut reg = || Reg(rng.below(9) as u32);
    let (x, y, z) = (reg(), reg(), reg());
    match rng.below(11) {
        0 => Instr::Axis(rng.below(3) as u32),
        1 => Instr::Float(rng.next() as u32),
        2 => Instr::Int(rng.next() as i64),
        3 => Instr::Bool(true),
        4 => Instr::Size(rng.below(2) as u32),
        5 => Instr::Load { buffer: rng.below(4) as u32, index: x },
        6 => Instr::Acc(0),
        7 => Instr::Unary(rng.pick(UnaryOp::ALL), x),
        8 => Instr::Binary(rng.pick(BinaryOp::ALL), x, y),
        9 => Instr::Select(x, y, z),
        _ => Instr::Cast(rng.pick(&DType::ALL), x),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wild_programs_never_panic(seed in any::<u64>()) {
        let rng = &mut Rng(seed);
        let mut args = Args::default();
        for access in [Access::Read, Access::Read, Access::Write] {
            let dtype = rng.pick(&DType::ALL);
            args.read(rng, dtype, 40);
            *args.roles.last_mut().unwrap() = BufferRole { dtype, access };
        }
        // Read from a file, as `push` refuses registers that do not exist.
        let instrs: Vec<Instr> =
            std::iter::once(Instr::Axis(0)).chain((0..1 + rng.below(6)).map(|_| wild(rng))).collect();
        let program: Program = serde_json::from_str(&serde_json::to_string(&instrs).unwrap()).unwrap();
        let mut reg = || Reg(rng.below(8) as u32);
        let stores = vec![Store { buffer: 2, index: reg(), value: reg() }];
        let space = vec![Extent::Const(5), Extent::Const(7)];
        let body = Body::Map(MapBody { space, program, stores });
        let desc = Desc { buffers: args.roles, dynamics: vec![], body };
        let _ = crate::check::run(&desc, &args.data, &[], &CpuThreads::single());
    }
}
