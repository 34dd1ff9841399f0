//! Each rule of the checker refuses exactly what it names.

use crate::sample;
use enel_bundle::{
    Access, Body, BufferKind, Desc, DescFault, Dynamic, Extent, Instr, Kernel, Kind, MapBody, Piece, Plan, PlanError,
    Program, Reg, Step, Store, check_desc, check_plan, flops,
};
use enel_types::{BinaryOp, DType, Dim, UnaryOp};

fn faults(edit: impl FnOnce(&mut Desc)) -> Vec<DescFault> {
    let mut desc = sample::add_one();
    edit(&mut desc);
    check_desc(&desc).err().unwrap_or_default()
}

fn with_program(instrs: &[Instr], stores: Vec<Store>) -> Vec<DescFault> {
    faults(|desc| {
        let Body::Map(body) = &mut desc.body else { unreachable!() };
        body.program = Program::new();
        for instr in instrs {
            body.program.push(*instr);
        }
        body.stores = stores;
    })
}

#[test]
fn well_formed_descs_pass() {
    assert_eq!(check_desc(&sample::add_one()), Ok(()));
    assert_eq!(check_desc(&sample::matmul()), Ok(()));
}

#[test]
fn programs_are_checked() {
    let store = |index, value| vec![Store { buffer: 1, index: Reg(index), value: Reg(value) }];
    let load = Instr::Load { buffer: 0, index: Reg(0) };
    let place = "program";
    let axis = Instr::Axis(0);
    assert_eq!(
        with_program(&[Instr::Axis(1), load], store(0, 1)),
        [DescFault::Range { place, at: 0, what: "axis", index: 1, count: 1 }]
    );
    assert_eq!(
        with_program(&[Instr::Size(1), load], store(0, 1)),
        [DescFault::Range { place, at: 0, what: "size", index: 1, count: 1 }]
    );
    assert_eq!(
        with_program(&[axis, Instr::Unary(UnaryOp::Sqrt, Reg(0)), load], store(0, 2)),
        [DescFault::Operand { place, at: 1, kind: Kind::Int }]
    );
    assert_eq!(
        with_program(&[axis, load, Instr::Binary(BinaryOp::And, Reg(1), Reg(1))], store(0, 2)),
        [DescFault::Operand { place, at: 2, kind: Kind::Float }]
    );
    assert_eq!(
        with_program(&[axis, Instr::Load { buffer: 1, index: Reg(0) }], store(0, 1)),
        [DescFault::Load { place, at: 1, buffer: 1, access: Access::Write }]
    );
    assert_eq!(
        with_program(&[axis, load], store(0, 0)),
        [DescFault::Kind { place: "store", expected: Kind::Float, got: Kind::Int }]
    );
    assert_eq!(
        with_program(&[axis, load], store(1, 1)),
        [DescFault::Kind { place: "store index", expected: Kind::Int, got: Kind::Float }]
    );
    assert_eq!(with_program(&[axis, load], store(0, 9)), [DescFault::NoRegister { place: "store", reg: Reg(9) }]);
    assert_eq!(with_program(&[axis, load], vec![]), [DescFault::NeverWritten { buffer: 1 }]);
    let to_input = vec![Store { buffer: 0, index: Reg(0), value: Reg(1) }];
    assert_eq!(
        with_program(&[axis, load], to_input),
        [DescFault::Target { place: "store", buffer: 0 }, DescFault::NeverWritten { buffer: 1 }]
    );
    let undefined = with_program(&[Instr::Load { buffer: 0, index: Reg(5) }], store(0, 0));
    assert!(undefined.contains(&DescFault::Undefined { place, at: 0 }), "{undefined:?}");
}

#[test]
fn sizes_are_checked() {
    let space = |extents: &[Extent]| {
        faults(|desc| {
            let Body::Map(body) = &mut desc.body else { unreachable!() };
            body.space = extents.to_vec();
        })
    };
    let unknown = Extent::Dyn(3);
    assert_eq!(space(&[unknown]), [DescFault::Extent { extent: unknown }]);
    assert_eq!(space(&[Extent::Const(-1)]), [DescFault::Extent { extent: Extent::Const(-1) }]);
    assert_eq!(space(&[Extent::Const(1 << 40), Extent::Const(1 << 40), Extent::Const(0)]), [DescFault::TooLarge]);
    let none = faults(|desc| desc.dynamics[0] = Dynamic { max: 5, multiple: 0 });
    assert_eq!(none, [DescFault::Dynamic { index: 0 }]);
}

#[test]
fn a_written_buffer_is_loaded_only_where_it_is_replaced() {
    let loading = |access: Access, at: fn(&mut MapBody) -> Reg| {
        faults(|desc| {
            desc.buffers[1].access = access;
            let Body::Map(body) = &mut desc.body else { unreachable!() };
            let index = at(body);
            body.stores[0].value = body.program.push(Instr::Load { buffer: 1, index });
        })
    };
    assert_eq!(loading(Access::Update, |body| body.stores[0].index), []);
    let elsewhere = loading(Access::Update, |body| body.program.push(Instr::Int(0)));
    assert!(matches!(elsewhere[..], [DescFault::Load { buffer: 1, access: Access::Update, .. }]), "{elsewhere:?}");
    let unread = loading(Access::Write, |body| body.stores[0].index);
    assert!(matches!(unread[..], [DescFault::Load { buffer: 1, access: Access::Write, .. }]), "{unread:?}");
}

fn kernels() -> Vec<Kernel> {
    sample::bundle().kernels
}

fn messages(edit: impl FnOnce(&mut Plan)) -> Vec<String> {
    let mut plan = sample::plan();
    edit(&mut plan);
    let faults = check_plan(&plan, &kernels()).err().unwrap_or_default();
    faults.iter().map(PlanError::to_string).collect()
}

fn expect(edit: impl FnOnce(&mut Plan), part: &str) {
    let found = messages(edit);
    assert!(found.iter().any(|m| m.contains(part)), "{part} is not in {found:?}");
}

fn call(plan: &mut Plan, at: usize) -> &mut enel_bundle::Call {
    match &mut plan.steps[at] {
        Step::Call(call) => call,
        Step::Copy { .. } => unreachable!(),
    }
}

#[test]
fn plans_are_checked() {
    assert_eq!(messages(|_| ()), Vec::<String>::new());
    expect(|p| call(p, 0).kernel = 9, "kernel 9 of 2");
    expect(|p| call(p, 0).buffers = vec![0], "takes 2 buffers, got 1");
    expect(|p| call(p, 0).dynamics.clear(), "takes 1 sizes, got 0");
    expect(|p| call(p, 0).buffers = vec![0, 40], "buffer 40 of 7");
    expect(|p| p.buffers[3].dtype = DType::BF16, "takes f32 where buffer 3 is bf16");
    expect(|p| call(p, 0).buffers = vec![0, 0], "also another argument");
    expect(|p| call(p, 0).buffers = vec![0, 1], "a run writes buffer 1, which is a weight");
    expect(|p| call(p, 0).buffers = vec![0, 2], "a run writes buffer 2, which is computed when binding");
    expect(|p| p.steps.swap(0, 1), "reads buffer 3 before anything wrote it");
    expect(|p| p.bind.clear(), "reads buffer 2 before anything wrote it");
    expect(|p| p.bind.push(Step::Copy { from: 5, to: 2 }), "binding reads buffer 5, which is a state");
    expect(|p| p.bind.push(Step::Copy { from: 1, to: 6 }), "binding writes buffer 6, which is a temp");
    expect(|p| p.steps.push(Step::Copy { from: 3, to: 5 }), "differ in dtype or size");
    expect(|p| p.steps.push(Step::Copy { from: 99, to: 5 }), "copies buffer 99");
    expect(|p| p.outputs[0].buffer = 77, "its buffer does not exist");
    expect(|p| drop(p.steps.remove(1)), "nothing writes its buffer");
    expect(|p| p.outputs[1].name = "y".into(), "another of this name");
    expect(|p| p.buffers[3].kind = BufferKind::Input("x".into()), "a second input called `x`");
    expect(|p| p.buffers[1].shape[0] = Dim::sym(enel_types::SymId(0)), "constant extents");
    expect(|p| p.buffers[0].shape[0] = Dim::sym(enel_types::SymId(4)), "unknown symbol");
    expect(|p| p.buffers[0].shape[0] = Dim::constant(-2), "negative");
    let joined = |rows: [i64; 2]| BufferKind::Joined(rows.map(|rows| Piece { weight: "v".into(), rows }).to_vec());
    expect(|p| p.buffers[1].kind = joined([1, 2]), "do not add up");
    expect(|p| p.buffers[1].kind = joined([5, -1]), "do not add up");
    expect(|p| p.buffers[1].kind = BufferKind::Joined(vec![]), "do not add up");
    expect(|p| p.symbols = serde_json::from_str(r#"[{"name":"T","min":0,"max":9,"multiple":1}]"#).unwrap(), "1 <= min");
}

#[test]
fn a_shape_that_would_explode_is_refused() {
    let many = (0..60).map(|i| Dim::sym(enel_types::SymId(i))).fold(Dim::constant(1), |sum, d| sum.add(&d));
    let symbols: Vec<_> =
        (0..60).map(|i| serde_json::json!({"name": format!("s{i}"), "min": 1, "max": 9, "multiple": 1})).collect();
    expect(
        |p| {
            p.symbols = serde_json::from_value(symbols.into()).unwrap();
            p.buffers[0].shape = vec![many; 30];
        },
        "too many terms",
    );
}

#[test]
fn arithmetic_is_counted() {
    assert_eq!(flops(&sample::matmul(), &[10]), Some(2 * 10 * 4 * 8));
    assert_eq!(flops(&sample::add_one(), &[10]), Some(0));
    assert_eq!(flops(&sample::add_one(), &[]), None);
}
