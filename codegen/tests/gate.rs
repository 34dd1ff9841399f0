//! Kernels of real sizes pass the compile gate: no spills, no notes, shared memory inside its limits.

mod support;

use enel_bundle::{
    Acc, AccOp, AttentionBody, AttentionGradBody, Body, By, ContractBody, Desc, Dynamic, Extent, Fold, FpsBody, Instr,
    KnnBody, MapBody, Program, ReduceBody, ScatterBody, ScatterMode, Store, TopKBody,
};
use enel_codegen::render;
use enel_nvrtc::{Arch, Limits, Unit, gate};
use enel_types::{BinaryOp, DType, UnaryOp};
use enel_verify::build::*;

fn any_size(max: i64) -> Dynamic {
    Dynamic { max, multiple: 1 }
}

fn product(m: Extent, n: i64, k: i64, dtype: DType, transposed: [bool; 2], gelu: bool) -> Desc {
    let (n, k) = (c(n), c(k));
    let order = |other, transposed| if transposed { [(1, k), (0, other)] } else { [(0, other), (1, k)] };
    let mut epilogue = Program::new();
    let index = linear(&mut epilogue, &axes(&[m, n]));
    let mut value = epilogue.push(Instr::Acc(0));
    if gelu {
        let e = epilogue.push(Instr::Unary(UnaryOp::Erf, value));
        value = epilogue.push(Instr::Binary(BinaryOp::Mul, value, e));
    }
    let body = ContractBody {
        batch: vec![],
        rows: vec![m],
        cols: vec![n],
        summed: vec![k],
        lhs: loaded(0, &order(m, transposed[0])),
        rhs: loaded(1, &order(n, transposed[1])),
        bf16: dtype == DType::BF16,
        epilogue,
        fold: None,
        stores: vec![Store { buffer: 2, index, value }],
    };
    desc(&[read(dtype), read(dtype), write(dtype)], &[any_size(4096)], Body::Contract(body))
}

/// The grouped stage: 81 neighbours a group, gathered, maximum over them.
fn grouped(dtype: DType) -> Desc {
    let (groups, near, channels, n) = (c(512), c(81), c(288), c(288));
    let mut program = Program::new();
    let neighbour = load(&mut program, 1, &[(0, groups), (1, near)]);
    let (width, channel) = (program.int(288), program.push(Instr::Axis(2)));
    let row = program.push(Instr::Binary(BinaryOp::Mul, neighbour, width));
    let index = program.push(Instr::Binary(BinaryOp::Add, row, channel));
    let x = program.push(Instr::Load { buffer: 0, index });
    let zero = program.push(Instr::Float(0));
    let reg = program.push(Instr::Binary(BinaryOp::Max, x, zero));
    let mut epilogue = Program::new();
    let value = epilogue.push(Instr::Acc(0));
    let (fold_epilogue, stores) = store_accs(&[groups, n], 3, 1);
    let body = ContractBody {
        batch: vec![],
        rows: vec![groups, near],
        cols: vec![n],
        summed: vec![channels],
        lhs: enel_bundle::Value { program, reg },
        rhs: loaded(2, &[(0, n), (1, channels)]),
        bf16: dtype == DType::BF16,
        epilogue,
        fold: Some(Fold { op: AccOp::Max, axes: 1, value, epilogue: fold_epilogue }),
        stores,
    };
    desc(&[read(dtype), read(DType::I32), read(dtype), write(dtype)], &[], Body::Contract(body))
}

fn attend(d: i64, tokens: i64, dtype: DType) -> Desc {
    let (token, row, heads, groups, channel) = (Extent::Dyn(0), Extent::Dyn(1), c(32), c(8), c(d));
    let (epilogue, stores) = store_accs(&[token, heads, channel], 5, 1);
    let body = AttentionBody {
        tokens: token,
        keys: row,
        heads: 32,
        groups: 8,
        head_size: d,
        scale: 0.125f32.to_bits(),
        q: loaded(0, &axes(&[token, heads, channel])),
        k: loaded(1, &axes(&[row, groups, channel])),
        v: Some(loaded(2, &axes(&[row, groups, channel]))),
        low: loaded(3, &[(0, token)]),
        high: loaded(4, &[(0, token)]),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let roles = [read(dtype), read(dtype), read(dtype), read(DType::I32), read(DType::I32), write(dtype)];
    desc(&roles, &[any_size(tokens), any_size(65536)], Body::Attention(body))
}

fn attend_grad(d: i64, by: By, dtype: DType) -> Desc {
    let (token, row, heads, groups, channel) = (Extent::Dyn(0), Extent::Dyn(1), c(32), c(8), c(d));
    let own = if by == By::Query { [token, heads, channel] } else { [row, groups, channel] };
    let (epilogue, stores) = store_accs(&own, 8, 1);
    let body = AttentionGradBody {
        tokens: token,
        keys: row,
        heads: 32,
        groups: 8,
        head_size: d,
        scale: 0.125f32.to_bits(),
        by,
        q: loaded(0, &axes(&[token, heads, channel])),
        k: loaded(1, &axes(&[row, groups, channel])),
        v: loaded(2, &axes(&[row, groups, channel])),
        dy: loaded(3, &axes(&[token, heads, channel])),
        low: loaded(4, &[(0, token)]),
        high: loaded(5, &[(0, token)]),
        lse: loaded(6, &axes(&[token, heads])),
        delta: loaded(7, &axes(&[token, heads])),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let mut roles = vec![read(dtype); 4];
    roles.extend([read(DType::I32), read(DType::I32), read(DType::F32), read(DType::F32), write(dtype)]);
    desc(&roles, &[any_size(4096), any_size(65536)], Body::AttentionGrad(body))
}

fn fps(points: i64) -> Desc {
    let body = FpsBody {
        batch: Extent::Dyn(0),
        points: c(points),
        n: c(512),
        xyz: loaded(0, &axes(&[Extent::Dyn(0), c(points), c(3)])),
        out: 1,
    };
    desc(&[read(DType::F32), write(DType::I32)], &[any_size(64)], Body::Fps(body))
}

fn knn(k: i64) -> Desc {
    let (batch, points) = (Extent::Dyn(0), c(8192));
    let body = KnnBody {
        batch,
        queries: c(512),
        points,
        k: c(k),
        query: loaded(0, &axes(&[batch, c(512), c(3)])),
        point: loaded(1, &axes(&[batch, points, c(3)])),
        out: 2,
    };
    desc(&[read(DType::F32), read(DType::F32), write(DType::I32)], &[any_size(64)], Body::Knn(body))
}

fn top_k(dtype: DType) -> Desc {
    let body = TopKBody {
        outer: vec![c(4)],
        n: c(32000),
        k: c(50),
        largest: true,
        value: loaded(0, &axes(&[c(4), c(32000)])),
        out: 1,
    };
    desc(&[read(dtype), write(DType::I32)], &[], Body::TopK(body))
}

fn scatter(mode: ScatterMode, dtype: DType) -> Desc {
    let (rows, width) = (Extent::Dyn(0), c(4096));
    let body = ScatterBody {
        mode,
        prefix: vec![],
        batch: 0,
        extent: c(32000),
        index_space: vec![rows],
        suffix: vec![width],
        index: loaded(0, &[(0, rows)]),
        rows: loaded(1, &axes(&[rows, width])),
        out: 2,
    };
    desc(&[read(DType::I32), read(dtype), update(dtype)], &[any_size(4096)], Body::Scatter(body))
}

fn reduce(transposed: bool, outer: i64, inner: i64) -> Desc {
    let (o, i) = (Extent::Dyn(0), c(inner));
    let mut element = Program::new();
    let value = load(&mut element, 0, &if transposed { [(1, i), (0, o)] } else { [(0, o), (1, i)] });
    let ops = [AccOp::Sum, AccOp::Deviations, AccOp::Max, AccOp::ArgMax];
    let (epilogue, stores) = store_accs(&[o], 1, 4);
    let accs = ops.map(|op| Acc { op, value }).to_vec();
    let body = ReduceBody { outer: vec![o], inner: vec![i], element, accs, epilogue, stores };
    let roles = [read(DType::BF16), write(DType::F32), write(DType::F32), write(DType::F32), write(DType::I32)];
    desc(&roles, &[any_size(outer)], Body::Reduce(body))
}

fn map() -> Desc {
    let space = [Extent::Dyn(0), c(11008)];
    let mut program = Program::new();
    let (x, y) = (load(&mut program, 0, &axes(&space)), load(&mut program, 1, &axes(&space)));
    let t = program.push(Instr::Unary(UnaryOp::Sin, x));
    let value = program.push(Instr::Binary(BinaryOp::Pow, t, y));
    let index = linear(&mut program, &axes(&space));
    let stores = vec![Store { buffer: 2, index, value }];
    let roles = [read(DType::BF16), read(DType::F16), write(DType::BF16)];
    desc(&roles, &[any_size(4096)], Body::Map(MapBody { space: space.to_vec(), program, stores }))
}

#[test]
fn kernels_of_real_sizes_pass_the_gate() {
    let Some(compiler) = support::compiler() else { return };
    let tokens = Extent::Dyn(0);
    let (f32, bf16) = (DType::F32, DType::BF16);
    let straight = [false, false];
    let cases = [
        ("map", map()),
        ("reduce_row", reduce(false, 4096, 4096)),
        ("reduce_long", reduce(false, 4096, 1 << 20)),
        ("reduce_team", reduce(false, 16, 1 << 20)),
        ("reduce_column", reduce(true, 4096, 4096)),
        ("product_f32", product(tokens, 4096, 4096, f32, straight, true)),
        ("product_f32_small", product(c(64), 4096, 4096, f32, straight, false)),
        ("product_bf16", product(tokens, 4096, 4096, bf16, straight, true)),
        ("product_bf16_across", product(tokens, 4096, 4096, bf16, [false, true], false)),
        ("product_bf16_both_across", product(c(4096), 4096, 4096, bf16, [true, true], false)),
        ("product_bf16_16", product(c(16), 4096, 4096, bf16, straight, false)),
        ("product_bf16_64", product(c(64), 4096, 4096, bf16, straight, false)),
        ("product_bf16_odd", product(tokens, 1001, 333, bf16, straight, false)),
        ("vector_bf16", product(c(1), 32000, 4096, bf16, straight, false)),
        ("vector_bf16_8", product(c(8), 32000, 4096, bf16, straight, false)),
        ("vector_f32", product(c(4), 1001, 333, f32, straight, false)),
        ("grouped_f32", grouped(f32)),
        ("grouped_bf16", grouped(bf16)),
        ("attend_f32_64", attend(64, 4096, f32)),
        ("attend_f32_512", attend(512, 4096, f32)),
        ("attend_bf16_64", attend(64, 4096, bf16)),
        ("attend_bf16_128", attend(128, 4096, bf16)),
        ("attend_bf16_256", attend(256, 4096, bf16)),
        ("attend_token_128", attend(128, 16, bf16)),
        ("attend_grad_f32_64", attend_grad(64, By::Key, f32)),
        ("attend_grad_f32_512", attend_grad(512, By::Query, f32)),
        ("attend_grad_bf16_64_q", attend_grad(64, By::Query, bf16)),
        ("attend_grad_bf16_64_k", attend_grad(64, By::Key, bf16)),
        ("attend_grad_bf16_128_q", attend_grad(128, By::Query, bf16)),
        ("attend_grad_bf16_128_k", attend_grad(128, By::Key, bf16)),
        ("attend_grad_bf16_128_v", attend_grad(128, By::Value, bf16)),
        ("fps_512", fps(512)),
        ("fps_8192", fps(8192)),
        ("fps_30000", fps(30_000)),
        ("fps_100000", fps(100_000)),
        ("knn_3", knn(3)),
        ("knn_81", knn(81)),
        ("knn_8192", knn(8192)),
        ("top_k", top_k(f32)),
        ("top_k_i64", top_k(DType::I64)),
        ("scatter_set", scatter(ScatterMode::Set, bf16)),
        ("scatter_add", scatter(ScatterMode::Add, bf16)),
    ];
    let mut faults = Vec::new();
    for arch in [Arch::SM_80, Arch::SM_90A] {
        for (name, desc) in &cases {
            let rendered = render(name, [desc]).unwrap();
            let unit = Unit { name, source: &rendered.source, arch, options: Default::default() };
            let compiled = compiler.compile(&unit).unwrap_or_else(|e| panic!("{e}"));
            let report = &compiled.report[0];
            println!("{arch} {name}: {} registers, {} B", report.registers, rendered.launch.smem_bytes);
            faults.extend(gate(&compiled.report, &Limits::default()).iter().map(|f| format!("{arch} {f}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_same_desc_gives_the_same_text() {
    for desc in [grouped(DType::BF16), attend(64, 16, DType::F32), knn(81)] {
        assert_eq!(render("a b-c", [&desc]).unwrap(), render("a b-c", [&desc]).unwrap());
        assert_eq!(render("a b-c", [&desc]).unwrap().launch.entry, "k_a_b_c");
    }
}

#[test]
fn aligned_operands_are_copied_and_odd_ones_computed() {
    let straight = |n, k| render("p", [&product(c(64), n, k, DType::BF16, [false, false], false)]).unwrap().source;
    assert_eq!(straight(4096, 64).matches("VECTOR = 8;").count(), 2);
    assert_eq!(straight(4096, 63).matches("VECTOR = 1;").count(), 2);
    let across = render("p", [&product(c(64), 128, 63, DType::BF16, [true, true], false)]).unwrap().source;
    assert_eq!(across.matches("VECTOR = 8;").count(), 2);
    assert_eq!(across.matches("ALONG_ROWS = true").count(), 2);
}
