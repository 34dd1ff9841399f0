//! A small bundle: `y = w2 . relu(x * w + 1)`, with a state that counts and a bound copy of a weight.

use enel_bundle::{
    Access, Body, Buffer, BufferKind, BufferRole, Bundle, Call, Config, ContractBody, Desc, Dynamic, Extent, Grid,
    Image, ImageKind, Instr, Kernel, Launch, MapBody, Part, Plan, Port, Program, Step, Store, Value,
};
use enel_types::{BinaryOp, DType, Dim, Symbol, Symbols};

pub(crate) fn role(dtype: DType, access: Access) -> BufferRole {
    BufferRole { dtype, access }
}

/// `out[i] = x[i] + 1` over n0 elements.
pub(crate) fn add_one() -> Desc {
    let mut p = Program::new();
    let i = p.push(Instr::Axis(0));
    let x = p.push(Instr::Load { buffer: 0, index: i });
    let one = p.push(Instr::Float(1f32.to_bits()));
    let y = p.push(Instr::Binary(BinaryOp::Add, x, one));
    let stores = vec![Store { buffer: 1, index: i, value: y }];
    Desc {
        buffers: vec![role(DType::F32, Access::Read), role(DType::F32, Access::Write)],
        dynamics: vec![Dynamic { max: 1 << 20, multiple: 1 }],
        body: Body::Map(MapBody { space: vec![Extent::Dyn(0)], program: p, stores }),
    }
}

/// `out[m, n] = sum_k a[m, k] * b[n, k]` with m = n0, n = 4, k = 8.
pub(crate) fn matmul() -> Desc {
    let side = |buffer: u32| {
        let mut p = Program::new();
        let (row, k) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)));
        let eight = p.int(8);
        let at = p.int_op(BinaryOp::Mul, row, eight);
        let at = p.int_op(BinaryOp::Add, at, k);
        let reg = p.push(Instr::Load { buffer, index: at });
        Value { program: p, reg }
    };
    let mut p = Program::new();
    let (m, n) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)));
    let four = p.int(4);
    let at = p.int_op(BinaryOp::Mul, m, four);
    let index = p.int_op(BinaryOp::Add, at, n);
    let value = p.push(Instr::Acc(0));
    Desc {
        buffers: vec![role(DType::F32, Access::Read), role(DType::F32, Access::Read), role(DType::F32, Access::Write)],
        dynamics: vec![Dynamic { max: 64, multiple: 1 }],
        body: Body::Contract(ContractBody {
            batch: vec![],
            rows: vec![Extent::Dyn(0)],
            cols: vec![Extent::Const(4)],
            summed: vec![Extent::Const(8)],
            lhs: side(0),
            rhs: side(1),
            bf16: false,
            epilogue: p,
            fold: None,
            stores: vec![Store { buffer: 2, index, value }],
        }),
    }
}

pub(crate) fn kernel(name: &str, desc: Desc) -> Kernel {
    let grid = Grid(vec![(vec![Extent::Dyn(0)], 256)]);
    let launch = Launch { entry: name.to_owned(), grids: vec![grid], threads: 256, smem_bytes: 0, scratch_bytes: 0 };
    let config = Config([("threads".to_owned(), 256)].into());
    Kernel { name: name.to_owned(), parts: vec![Part { desc, config }], launch: Some(launch) }
}

pub(crate) fn buffer(kind: BufferKind, shape: &[Dim]) -> Buffer {
    Buffer { kind, dtype: DType::F32, shape: shape.to_vec() }
}

pub(crate) fn plan() -> Plan {
    let mut symbols = Symbols::default();
    let t = symbols.add(Symbol { name: "T".into(), min: 1, max: 64, multiple: 1 }).unwrap();
    let (t, c) = (Dim::sym(t), Dim::constant);
    let add = |from, to, n: &Dim| Step::Call(Call { kernel: 0, buffers: vec![from, to], dynamics: vec![n.clone()] });
    Plan {
        name: "prefill".into(),
        buffers: vec![
            buffer(BufferKind::Input("x".into()), &[t.clone(), c(8)]),
            buffer(BufferKind::Weight("w".into()), &[c(4), c(8)]),
            buffer(BufferKind::Bound, &[c(4), c(8)]),
            buffer(BufferKind::Temp, &[t.clone(), c(8)]),
            buffer(BufferKind::Output("y".into()), &[t.clone(), c(4)]),
            buffer(BufferKind::State("count".into()), &[c(1)]),
            buffer(BufferKind::Temp, &[c(1)]),
        ],
        symbols,
        bind: vec![add(1, 2, &c(32))],
        steps: vec![
            add(0, 3, &t.mul(&c(8))),
            Step::Call(Call { kernel: 1, buffers: vec![3, 2, 4], dynamics: vec![t] }),
            add(5, 6, &c(1)),
            Step::Copy { from: 6, to: 5 },
        ],
        outputs: vec![Port { name: "y".into(), buffer: 4 }, Port { name: "count".into(), buffer: 5 }],
    }
}

pub(crate) fn bundle() -> Bundle {
    let image = |kernel: u32, kind, bytes: &[u8]| Image { kernel, target: "sm_80".into(), kind, bytes: bytes.to_vec() };
    Bundle {
        mode: "f32".into(),
        plans: vec![plan()],
        kernels: vec![kernel("add_one", add_one()), kernel("matmul", matmul())],
        images: vec![image(0, ImageKind::Ptx, b".version 8.0"), image(1, ImageKind::Cubin, &[1, 2, 3, 0, 255])],
        meta: serde_json::json!({ "model": { "hidden": 8, "eps": 0.5 }, "note": "\u{e9}" }),
    }
}
