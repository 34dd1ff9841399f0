//! Hand-built bundles: `y = (x + 1) (w + 1)^T`, `top = max_c (x + 1)`, and a state that counts runs.

use enel_bundle::{
    Acc, AccOp, Access, Body, Buffer, BufferKind, BufferRole, Bundle, Call, ContractBody, Desc, Dynamic, Extent, Instr,
    Kernel, MapBody, Plan, Port, Program, ReduceBody, Reg, Step, Store, Value,
};
use enel_types::{BinaryOp, DType, Dim, Symbol, Symbols};

pub(crate) const COLS: i64 = 8;
pub(crate) const OUT: i64 = 4;

fn roles(list: &[(DType, Access)]) -> Vec<BufferRole> {
    list.iter().map(|(dtype, access)| BufferRole { dtype: *dtype, access: *access }).collect()
}

fn dynamic(max: i64) -> Vec<Dynamic> {
    vec![Dynamic { max, multiple: 1 }]
}

/// `axis0 * width + axis1`.
fn at(p: &mut Program, width: i64) -> Reg {
    let (row, col) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)));
    let width = p.int(width);
    let start = p.int_op(BinaryOp::Mul, row, width);
    p.int_op(BinaryOp::Add, start, col)
}

/// `out[i] = x[i] + 1` over n0 elements, x of any float dtype.
pub(crate) fn add_one(from: DType) -> Desc {
    let mut p = Program::new();
    let i = p.push(Instr::Axis(0));
    let x = p.push(Instr::Load { buffer: 0, index: i });
    let one = p.push(Instr::Float(1f32.to_bits()));
    let value = p.push(Instr::Binary(BinaryOp::Add, x, one));
    Desc {
        buffers: roles(&[(from, Access::Read), (DType::F32, Access::Write)]),
        dynamics: dynamic(4096),
        body: Body::Map(MapBody {
            space: vec![Extent::Dyn(0)],
            program: p,
            stores: vec![Store { buffer: 1, index: i, value }],
        }),
    }
}

/// `out[r] = max_c x[r, c]` over n0 rows.
fn row_max() -> Desc {
    let mut element = Program::new();
    let index = at(&mut element, COLS);
    let value = element.push(Instr::Load { buffer: 0, index });
    let mut epilogue = Program::new();
    let index = epilogue.push(Instr::Axis(0));
    let result = epilogue.push(Instr::Acc(0));
    Desc {
        buffers: roles(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]),
        dynamics: dynamic(64),
        body: Body::Reduce(ReduceBody {
            outer: vec![Extent::Dyn(0)],
            inner: vec![Extent::Const(COLS)],
            element,
            accs: vec![Acc { op: AccOp::Max, value }],
            epilogue,
            stores: vec![Store { buffer: 1, index, value: result }],
        }),
    }
}

/// `out[m, n] = sum_k a[m, k] b[n, k]` over n0 rows.
fn matmul() -> Desc {
    let side = |buffer| {
        let mut program = Program::new();
        let index = at(&mut program, COLS);
        let reg = program.push(Instr::Load { buffer, index });
        Value { program, reg }
    };
    let mut epilogue = Program::new();
    let index = at(&mut epilogue, OUT);
    let value = epilogue.push(Instr::Acc(0));
    Desc {
        buffers: roles(&[(DType::F32, Access::Read), (DType::F32, Access::Read), (DType::F32, Access::Write)]),
        dynamics: dynamic(64),
        body: Body::Contract(ContractBody {
            batch: vec![],
            rows: vec![Extent::Dyn(0)],
            cols: vec![Extent::Const(OUT)],
            summed: vec![Extent::Const(COLS)],
            lhs: side(0),
            rhs: side(1),
            bf16: false,
            epilogue,
            fold: None,
            stores: vec![Store { buffer: 2, index, value }],
        }),
    }
}

fn kernel(name: &str, desc: Desc) -> Kernel {
    Kernel::new(name.into(), [desc])
}

fn plan(name: &str) -> Plan {
    let mut symbols = Symbols::default();
    let t = symbols.add(Symbol { name: "T".into(), min: 1, max: 64, multiple: 1 }).unwrap();
    let b = symbols.add(Symbol { name: "B".into(), min: 1, max: 8, multiple: 1 }).unwrap();
    let (t, b, c) = (Dim::sym(t), Dim::sym(b), Dim::constant);
    let call = |kernel, buffers: &[u32], n: &Dim| {
        Step::Call(Call { kernel, buffers: buffers.to_vec(), dynamics: vec![n.clone()] })
    };
    let f32s =
        |kind, shape: &[&Dim]| Buffer { kind, dtype: DType::F32, shape: shape.iter().map(|d| (*d).clone()).collect() };
    let (cols, out) = (c(COLS), c(OUT));
    Plan {
        name: name.into(),
        buffers: vec![
            f32s(BufferKind::Input("x".into()), &[&t, &cols]),
            Buffer { dtype: DType::BF16, ..f32s(BufferKind::Weight("w".into()), &[&out, &cols]) },
            f32s(BufferKind::Bound, &[&out, &cols]),
            f32s(BufferKind::Temp, &[&t, &cols]),
            f32s(BufferKind::Output("y".into()), &[&t, &out]),
            f32s(BufferKind::Output("top".into()), &[&t]),
            f32s(BufferKind::State("count".into()), &[&b]),
            f32s(BufferKind::Temp, &[&b]),
        ],
        symbols,
        bind: vec![call(1, &[1, 2], &c(OUT * COLS))],
        steps: vec![
            call(0, &[0, 3], &t.mul(&cols)),
            call(2, &[3, 5], &t),
            call(3, &[3, 2, 4], &t),
            call(0, &[6, 7], &b),
            Step::Copy { from: 7, to: 6 },
        ],
        outputs: vec![
            Port { name: "y".into(), buffer: 4 },
            Port { name: "top".into(), buffer: 5 },
            Port { name: "count".into(), buffer: 6 },
        ],
    }
}

/// Two plans that share the weight, what is made of it, and the state.
pub(crate) fn bundle() -> Bundle {
    let kernels = vec![
        kernel("add_one", add_one(DType::F32)),
        kernel("add_one_bf16", add_one(DType::BF16)),
        kernel("row_max", row_max()),
        kernel("matmul", matmul()),
    ];
    Bundle { mode: "f32".into(), plans: vec![plan("prefill"), plan("decode")], kernels, ..Bundle::default() }
}
