//! Scalar programs: every operation on ordinary and on odd operands, and random straight lines.

mod support;

use enel_bundle::{Body, Instr, Kind, MapBody, Program, Reg, Store};
use enel_types::{BinaryOp, DType, UnaryOp};
use enel_verify::build::*;
use enel_verify::{Case, Data, Near};
use support::check_one;

/// A map of `n` points whose inputs are `inputs`, one buffer each, and whose stores are `values` of the program.
fn map_case(inputs: Vec<Data>, program: Program, values: &[(Reg, DType)]) -> Case {
    let n = inputs[0].len() as i64;
    let mut buffers: Vec<_> = inputs.iter().map(|d| read(d.dtype())).collect();
    let mut data = inputs;
    let mut program = program;
    let index = program.push(Instr::Axis(0));
    let mut stores = Vec::new();
    for (value, dtype) in values {
        stores.push(Store { buffer: buffers.len() as u32, index, value: *value });
        buffers.push(write(*dtype));
        data.push(Data::zeros(*dtype, n as usize));
    }
    let body = MapBody { space: vec![c(n)], program, stores };
    Case { desc: desc(&buffers, &[], Body::Map(body)), sizes: vec![], buffers: data }
}

fn input(program: &mut Program, buffer: u32) -> Reg {
    let index = program.push(Instr::Axis(0));
    program.push(Instr::Load { buffer, index })
}

/// All pairs of these.
fn pairs<T: Copy>(values: &[T]) -> (Vec<T>, Vec<T>) {
    values.iter().flat_map(|x| values.iter().map(move |y| (*x, *y))).unzip()
}

const INF: f64 = f64::INFINITY;

#[test]
fn float_operations_are_exact_where_they_can_be() {
    let values = [f64::NAN, INF, -INF, 0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.25, 1e30, 1e-40, 16_777_217.0];
    let (x, y) = pairs(&values);
    let mut p = Program::new();
    let (a, b) = (input(&mut p, 0), input(&mut p, 1));
    let mut out = Vec::new();
    for op in [
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sign,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Sqrt,
        UnaryOp::Recip,
    ] {
        out.push((p.push(Instr::Unary(op, a)), DType::F32));
    }
    for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Rem, BinaryOp::Max, BinaryOp::Min]
    {
        out.push((p.push(Instr::Binary(op, a, b)), DType::F32));
    }
    for op in BinaryOp::ALL.iter().copied().filter(|op| op.is_comparison()) {
        out.push((p.push(Instr::Binary(op, a, b)), DType::Bool));
    }
    let floats = |v| Data::float(DType::F32, v);
    check_one(&map_case(vec![floats(x), floats(y)], p, &out), Near::Exact).unwrap();
}

#[test]
fn functions_are_accurate() {
    let inputs = [
        (UnaryOp::Exp, -20.0, 20.0),
        (UnaryOp::Log, 1e-3, 50.0),
        (UnaryOp::Sin, -60.0, 60.0),
        (UnaryOp::Cos, -60.0, 60.0),
        (UnaryOp::Tanh, -5.0, 5.0),
        (UnaryOp::Erf, -4.0, 4.0),
        (UnaryOp::Rsqrt, 1e-3, 50.0),
    ];
    for (op, low, high) in inputs {
        let mut random = Random(1);
        let mut p = Program::new();
        let a = input(&mut p, 0);
        let value = p.push(Instr::Unary(op, a));
        let x = Data::float(DType::F32, (0..200).map(|_| low + (high - low) * (random.unit() + 1.0) / 2.0));
        // Two units in the last place of the result, the bound CUDA documents for these or less.
        check_one(&map_case(vec![x], p, &[(value, DType::F32)]), Near::Relative(2.4e-7)).unwrap();
    }
    let mut p = Program::new();
    let (a, b) = (input(&mut p, 0), input(&mut p, 1));
    let value = p.push(Instr::Binary(BinaryOp::Pow, a, b));
    let mut random = Random(2);
    let x = Data::float(DType::F32, (0..200).map(|_| 1.0 + random.unit() * 0.9));
    let y = random.data(DType::F32, 200);
    check_one(&map_case(vec![x, y], p, &[(value, DType::F32)]), Near::Relative(4.8e-7)).unwrap();
}

#[test]
fn integer_operations_wrap_and_never_trap() {
    let values = [0, 1, -1, 2, 3, -7, 100, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN, 1 << 40];
    for dtype in [DType::I64, DType::I32, DType::U32, DType::U8] {
        let (x, y) = pairs(&values);
        let mut p = Program::new();
        let (a, b) = (input(&mut p, 0), input(&mut p, 1));
        let mut out = Vec::new();
        for op in [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign, UnaryOp::Not] {
            out.push((p.push(Instr::Unary(op, a)), DType::I64));
        }
        for op in BinaryOp::ALL.iter().copied().filter(|op| *op != BinaryOp::Pow) {
            let dtype = if op.is_comparison() { DType::Bool } else { DType::I64 };
            out.push((p.push(Instr::Binary(op, a, b)), dtype));
        }
        let three = p.int(3);
        for op in [BinaryOp::Div, BinaryOp::Rem, BinaryOp::Mul] {
            out.push((p.push(Instr::Binary(op, a, three)), DType::I64));
        }
        let ints = |v| Data::int(dtype, v);
        check_one(&map_case(vec![ints(x), ints(y)], p, &out), Near::Exact).unwrap();
    }
}

#[test]
fn casts_saturate_wrap_and_round() {
    let floats = [
        f64::NAN,
        INF,
        -INF,
        0.0,
        -0.0,
        0.99,
        -0.99,
        255.5,
        256.0,
        -1.5,
        3e9,
        -3e9,
        5e9,
        1e19,
        -1e19,
        65504.0,
        65520.0,
        1e-8,
    ];
    let ints = [0, 1, -1, 255, 256, i64::MAX, i64::MIN, i64::from(i32::MAX) + 1, 16_777_217, -5];
    let bools = [0, 1];
    for (data, kind) in [
        (Data::float(DType::F32, floats), Kind::Float),
        (Data::int(DType::I64, ints), Kind::Int),
        (Data::int(DType::Bool, bools), Kind::Bool),
    ] {
        let mut p = Program::new();
        let a = input(&mut p, 0);
        // Through every dtype, and stored in it too: storage rounds floats, casts do not.
        let mut out: Vec<(Reg, DType)> = DType::ALL.iter().map(|to| (p.push(Instr::Cast(*to, a)), *to)).collect();
        if kind == Kind::Bool {
            let not = p.push(Instr::Unary(UnaryOp::Not, a));
            out.push((p.push(Instr::Select(not, out[0].0, out[1].0)), DType::F32));
        }
        check_one(&map_case(vec![data], p, &out), Near::Exact).unwrap();
    }
}

#[test]
fn every_dtype_survives_load_and_store() {
    for dtype in DType::ALL {
        let mut p = Program::new();
        let a = input(&mut p, 0);
        check_one(&map_case(vec![Random(3).data(dtype, 70)], p, &[(a, dtype)]), Near::Exact).unwrap();
    }
}

/// A register of `kind`, if the program has one.
fn pick(random: &mut Random, kinds: &[Kind], kind: Kind) -> Option<Reg> {
    let all: Vec<usize> = (0..kinds.len()).filter(|i| kinds[*i] == kind).collect();
    (!all.is_empty()).then(|| Reg(all[random.below(all.len() as u64) as usize] as u32))
}

/// One more random instruction. Floats stay small and on a grid, so that contraction cannot change them.
fn step(random: &mut Random, kinds: &[Kind]) -> Option<Instr> {
    let int = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Xor,
        BinaryOp::Max,
        BinaryOp::Min,
    ];
    let float = [BinaryOp::Max, BinaryOp::Min, BinaryOp::Add, BinaryOp::Sub];
    let compare = [BinaryOp::Eq, BinaryOp::Ne, BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge];
    let unary = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Round];
    let kind = [Kind::Int, Kind::Float, Kind::Bool][random.below(3) as usize];
    let x = pick(random, kinds, kind)?;
    let y = pick(random, kinds, kind)?;
    Some(match (random.below(5), kind) {
        (0, Kind::Int) => {
            Instr::Unary([UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign, UnaryOp::Not][random.below(4) as usize], x)
        }
        (0, Kind::Float) => Instr::Unary(unary[random.below(6) as usize], x),
        (0, Kind::Bool) => Instr::Unary(UnaryOp::Not, x),
        (1, Kind::Int | Kind::Float) => Instr::Binary(compare[random.below(6) as usize], x, y),
        (2, _) => Instr::Select(pick(random, kinds, Kind::Bool)?, x, y),
        (3, Kind::Int) => {
            Instr::Cast([DType::I32, DType::U32, DType::U8, DType::I64, DType::Bool][random.below(5) as usize], x)
        }
        (3, Kind::Bool) => Instr::Cast([DType::I32, DType::F32][random.below(2) as usize], x),
        (3, Kind::Float) => Instr::Cast([DType::I32, DType::U8, DType::Bool][random.below(3) as usize], x),
        (_, Kind::Int) => Instr::Binary(int[random.below(10) as usize], x, y),
        (_, Kind::Float) => Instr::Binary(float[random.below(4) as usize], x, y),
        (_, Kind::Bool) => Instr::Binary([BinaryOp::And, BinaryOp::Or, BinaryOp::Xor][random.below(3) as usize], x, y),
    })
}

#[test]
fn random_programs_mean_what_they_say() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let dtypes = [DType::F32, DType::I32, DType::I64, DType::U8, DType::Bool];
        let inputs: Vec<Data> =
            dtypes.iter().map(|d| if d.is_float() { random.grid(*d, 90) } else { random.data(*d, 90) }).collect();
        let mut p = Program::new();
        for buffer in 0..5 {
            input(&mut p, buffer);
        }
        p.int(random.below(1 << 20) as i64 - 1000);
        for _ in 0..40 {
            let kinds = p.kinds(&dtypes, &[]).unwrap();
            if let Some(instr) = step(&mut random, &kinds) {
                p.push(instr);
            }
        }
        let kinds = p.kinds(&dtypes, &[]).unwrap();
        let mut out = Vec::new();
        for (at, kind) in kinds.iter().enumerate().skip(7.max(kinds.len() - 20)) {
            let dtype = match kind {
                Kind::Float => DType::F32,
                Kind::Int => DType::I64,
                Kind::Bool => DType::Bool,
            };
            out.push((Reg(at as u32), dtype));
        }
        check_one(&map_case(inputs, p, &out), Near::Exact).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn malformed_descs_are_refused() {
    use enel_codegen::{EmitError, render};
    let mut p = Program::new();
    let a = input(&mut p, 0);
    let sine = p.push(Instr::Unary(UnaryOp::Sin, a));
    let good = map_case(vec![Data::zeros(DType::F32, 4)], p.clone(), &[(sine, DType::F32)]).desc;
    assert!(render("k", [&good]).is_ok());
    let on_ints = map_case(vec![Data::zeros(DType::I32, 4)], p.clone(), &[(sine, DType::I32)]).desc;
    assert!(matches!(render("k", [&on_ints]), Err(EmitError::Operation { op: "sin", .. })));
    let wrong_store = map_case(vec![Data::zeros(DType::F32, 4)], p.clone(), &[(sine, DType::I32)]).desc;
    assert!(matches!(render("k", [&wrong_store]), Err(EmitError::Kind { .. })));
    let lost = map_case(vec![Data::zeros(DType::F32, 4)], p.clone(), &[(Reg(99), DType::F32)]).desc;
    assert!(matches!(render("k", [&lost]), Err(EmitError::Reference { what: "register", index: 99, .. })));
    let mut far_axis = p;
    let index = far_axis.push(Instr::Axis(5));
    let load = far_axis.push(Instr::Load { buffer: 0, index });
    let far = map_case(vec![Data::zeros(DType::F32, 4)], far_axis, &[(load, DType::F32)]).desc;
    assert!(matches!(render("k", [&far]), Err(EmitError::Reference { what: "axis", index: 5, .. })));
    let mut empty = good;
    let Body::Map(body) = &mut empty.body else { panic!("a map") };
    body.space = vec![c(0)];
    assert!(matches!(render("k", [&empty]), Err(EmitError::Size { got: 0, .. })));
}
