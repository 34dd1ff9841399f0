//! Every family against its meaning, on the emulator, at drawn sizes.

mod support;

use enel_bundle::{
    Acc, AccOp, Body, ContractBody, Dynamic, Extent, Instr, KnnBody, MapBody, Program, ReduceBody, Reg, Store, TopKBody,
};
use enel_codegen::render;
use enel_types::{BinaryOp, DType, UnaryOp};
use enel_verify::build::*;
use enel_verify::draw::{self, Drawn, Heads, Template, attention_case, box_grid, fps_case};
use enel_verify::{BF16, Case, Data, F32, Near};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::check_one;

/// Draws `cases` values, the same on every run, and shrinks the first that fails.
fn property(cases: u32, strategy: impl Strategy<Value = Drawn>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&strategy, |Drawn { case, near, .. }| check_one(&case, near).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn reduce_combines_every_accumulator() {
    property(16, draw::reduce());
}

#[test]
fn reduce_of_few_points_takes_teams() {
    property(4, draw::reduce_teams());
}

#[test]
fn contract_multiplies_any_sizes() {
    property(24, draw::contract());
}

#[test]
fn contract_multiplies_on_tensor_cores() {
    property(24, draw::contract_tensor());
}

#[test]
fn contract_folds_row_segments() {
    property(24, draw::contract_fold());
}

#[test]
fn attention_weighs_the_rows_each_token_sees() {
    property(24, draw::attention());
}

#[test]
fn attention_without_values_gives_logarithms_of_sums() {
    property(12, draw::attention_lse());
}

#[test]
fn attention_grad_adds_up_what_each_token_and_row_gains() {
    property(36, draw::attention_grad());
}

#[test]
fn attention_teams_share_long_caches() {
    property(8, draw::attention_decode());
}

#[test]
fn attention_runs_on_tensor_cores() {
    property(8, draw::attention_tensor());
}

/// Keys of two samples far apart, with rows between them that nobody has written.
#[test]
fn attention_never_reads_rows_nobody_sees() {
    for dtype in [DType::F32, DType::BF16] {
        let mut case = attention_case(&[40, 300, 30], Heads(1, 1, 16), dtype, Template::Tiles, 5);
        let (low, high) = (case.buffers[3].clone(), case.buffers[4].clone());
        let (Data::Int(_, low), Data::Int(_, high)) = (low, high) else { panic!("ranges are integers") };
        let blind = |x: &[i64]| {
            Data::int(DType::I32, x.iter().enumerate().map(|(t, v)| if (40..340).contains(&t) { 0 } else { *v }))
        };
        (case.buffers[3], case.buffers[4]) = (blind(&low), blind(&high));
        for at in [1, 2] {
            let Data::Float(_, values) = &mut case.buffers[at] else { panic!("keys are floats") };
            values[40 * 16..340 * 16].fill(f64::NAN);
        }
        check_one(&case, if dtype == DType::F32 { F32 } else { BF16 }).unwrap();
    }
}

#[test]
fn attention_takes_wide_heads() {
    for d in [300, 700] {
        for template in [Template::Tiles, Template::Token, Template::Team] {
            check_one(&attention_case(&[5, 19], Heads(2, 1, d), DType::F32, template, 3), F32).unwrap();
        }
    }
}

#[test]
fn fps_chooses_the_same_points() {
    property(16, draw::fps());
}

#[test]
fn distances_round_as_on_the_host() {
    let n = 7;
    for max in [400, 9000, 60_000] {
        check_one(&fps_case(1, 90, max, box_grid(n)), Near::Exact).unwrap();
    }
    let (points, coordinate) = (c(n * n * n), c(3));
    let body = KnnBody {
        batch: c(1),
        queries: c(40),
        points,
        k: c(60),
        query: loaded(0, &axes(&[c(1), points, coordinate])),
        point: loaded(0, &axes(&[c(1), points, coordinate])),
        out: 1,
    };
    let buffers = vec![box_grid(n), Data::zeros(DType::I32, 40 * 60)];
    let desc = desc(&[read(DType::F32), write(DType::I32)], &[], Body::Knn(body));
    check_one(&Case { desc, sizes: vec![], buffers }, Near::Exact).unwrap();
}

#[test]
fn knn_orders_by_distance_and_index() {
    property(24, draw::knn());
}

/// Elements of one thread are equal, so that far more than `k` lie below the bound its threads' smallest give.
#[test]
fn top_k_finds_its_bound_where_threads_hold_unlike_elements() {
    let (n, k) = (4096, 100);
    for largest in [false, true] {
        let value = loaded(0, &axes(&[c(1), c(n)]));
        let body = TopKBody { outer: vec![c(1)], n: c(n), k: c(k), largest, value, out: 1 };
        let input = Data::float(DType::F32, (0..n).map(|i| (i % 128) as f64 - 20.0));
        let buffers = vec![input, Data::zeros(DType::I32, k as usize)];
        let desc = desc(&[read(DType::F32), write(DType::I32)], &[], Body::TopK(body));
        assert_eq!(render("top_k", [&desc]).unwrap().configs[0].0["each"], 32);
        check_one(&Case { desc, sizes: vec![], buffers }, Near::Exact).unwrap();
    }
}

#[test]
fn top_k_ranks_values_and_indices() {
    property(20, draw::top_k());
}

#[test]
fn scatter_sets_and_adds_in_row_order() {
    property(24, draw::scatter());
}

#[test]
fn map_runs_over_dynamic_spaces() {
    property(12, draw::map());
}

#[test]
fn attention_of_few_tokens_takes_bf16() {
    for (heads, seed) in [(Heads(4, 2, 64), 1), (Heads(2, 1, 20), 2)] {
        for template in [Template::Token, Template::Team] {
            check_one(&attention_case(&[9, 30], heads, DType::BF16, template, seed), BF16).unwrap();
        }
    }
}

/// A convolution over windows: two row axes, two summed axes, more row tiles than one group of blocks has.
#[test]
fn contract_splits_groups_of_axes() {
    for bf16 in [false, true] {
        let (dtype, near) = if bf16 { (DType::BF16, BF16) } else { (DType::F32, F32) };
        let [long, wide, window, channels, cols] = [c(47), c(13), c(3), c(8), c(70)];
        let mut program = Program::new();
        let (at, step) = (program.push(Instr::Axis(0)), program.push(Instr::Axis(2)));
        let moved = program.push(Instr::Binary(BinaryOp::Add, at, step));
        let (n_wide, n_channels) = (program.int(13), program.int(8));
        let row = program.push(Instr::Binary(BinaryOp::Mul, moved, n_wide));
        let across = program.push(Instr::Axis(1));
        let cell = program.push(Instr::Binary(BinaryOp::Add, row, across));
        let start = program.push(Instr::Binary(BinaryOp::Mul, cell, n_channels));
        let channel = program.push(Instr::Axis(3));
        let index = program.push(Instr::Binary(BinaryOp::Add, start, channel));
        let reg = program.push(Instr::Load { buffer: 0, index });
        let (epilogue, stores) = store_accs(&[long, wide, cols], 2, 1);
        let body = ContractBody {
            batch: vec![],
            rows: vec![long, wide],
            cols: vec![cols],
            summed: vec![window, channels],
            lhs: enel_bundle::Value { program, reg },
            rhs: loaded(1, &[(0, cols), (1, window), (2, channels)]),
            bf16,
            epilogue,
            fold: None,
            stores,
        };
        let mut random = Random(4);
        let out = Data::zeros(DType::F32, 47 * 13 * 70);
        let buffers = vec![random.data(dtype, 49 * 13 * 8), random.data(dtype, 70 * 24), out];
        let roles = [read(dtype), read(dtype), write(DType::F32)];
        let case = Case { desc: desc(&roles, &[], Body::Contract(body)), sizes: vec![], buffers };
        check_one(&case, near).unwrap();
    }
}

/// What four neighbouring places may share, and what they may not: parts of a concat, whole quads or not, pairs,
/// unaligned and reversed runs, vectors and rows.
#[test]
fn contract_computes_operands_by_quads() {
    let (n_summed, n_cols) = (24, 70);
    for (bf16, n_rows) in [(false, 47), (true, 47), (false, 5), (true, 5)] {
        let (dtype, near) = if bf16 { (DType::BF16, BF16) } else { (DType::F32, F32) };
        let (rows, cols, summed) = (c(n_rows), c(n_cols), c(n_summed));
        let mut p = Program::new();
        let (row, k, zero) = (p.push(Instr::Axis(0)), p.push(Instr::Axis(1)), p.int(0));
        let mut reg = p.push(Instr::Float(0));
        let mut add = |p: &mut Program, x: Reg| reg = p.push(Instr::Binary(BinaryOp::Add, reg, x));
        let int = |p: &mut Program, op, x, y: i64| {
            let y = p.int(y);
            p.push(Instr::Binary(op, x, y))
        };
        for parts in [vec![8, 12, 4], vec![3, 21]] {
            let (mut start, mut whole) = (0, None);
            for extent in parts {
                let local = int(&mut p, BinaryOp::Sub, k, start);
                let low = p.push(Instr::Binary(BinaryOp::Max, local, zero));
                let clamped = int(&mut p, BinaryOp::Min, low, extent - 1);
                let first = int(&mut p, BinaryOp::Mul, row, extent);
                let index = p.push(Instr::Binary(BinaryOp::Add, first, clamped));
                let x = p.push(Instr::Load { buffer: 0, index });
                let here = int(&mut p, BinaryOp::Ge, k, start);
                whole = Some(whole.map_or(x, |before| p.push(Instr::Select(here, x, before))));
                start += extent;
            }
            add(&mut p, whole.unwrap());
        }
        let (half, bit) = (int(&mut p, BinaryOp::Div, k, 2), int(&mut p, BinaryOp::Rem, k, 2));
        let turn = int(&mut p, BinaryOp::Rem, half, 4);
        let of_turn = int(&mut p, BinaryOp::Mul, turn, 2);
        let eighth = int(&mut p, BinaryOp::Div, half, 4);
        let start = int(&mut p, BinaryOp::Mul, row, n_summed);
        let odd = int(&mut p, BinaryOp::Add, start, 1);
        let last = int(&mut p, BinaryOp::Add, start, n_summed - 1);
        let pairs = [
            (BinaryOp::Add, of_turn, bit),
            (BinaryOp::Add, row, eighth),
            (BinaryOp::Add, odd, k),
            (BinaryOp::Sub, last, k),
            (BinaryOp::Add, start, k),
            (BinaryOp::Add, zero, k),
            (BinaryOp::Add, zero, row),
        ];
        for (op, x, y) in pairs {
            let index = p.push(Instr::Binary(op, x, y));
            let x = p.push(Instr::Load { buffer: 0, index });
            add(&mut p, x);
        }
        let (epilogue, stores) = store_accs(&[rows, cols], 2, 1);
        let body = ContractBody {
            batch: vec![],
            rows: vec![rows],
            cols: vec![cols],
            summed: vec![summed],
            lhs: enel_bundle::Value { program: p, reg },
            rhs: loaded(1, &[(0, cols), (1, summed)]),
            bf16,
            epilogue,
            fold: None,
            stores,
        };
        let mut random = Random(6);
        let data = [n_rows * n_summed + 1, n_cols * n_summed].map(|n| random.data(dtype, n));
        let buffers = [&data[..], &[Data::zeros(DType::F32, (n_rows * n_cols) as usize)]].concat();
        let roles = [read(dtype), read(dtype), write(DType::F32)];
        let case = Case { desc: desc(&roles, &[], Body::Contract(body)), sizes: vec![], buffers };
        check_one(&case, near).unwrap();
    }
}

/// Bounds beyond 32 bits and beyond a million points: wide indices, several points a thread.
#[test]
fn large_bounds_change_nothing() {
    for max in [1 << 21, 1 << 33] {
        let dynamics = [Dynamic { max, multiple: 1 }];
        let space = [Extent::Dyn(0), c(3)];
        let mut program = Program::new();
        let x = load(&mut program, 0, &axes(&space));
        let value = program.push(Instr::Unary(UnaryOp::Neg, x));
        let index = linear(&mut program, &axes(&space));
        let body = MapBody { space: space.to_vec(), program, stores: vec![Store { buffer: 1, index, value }] };
        let buffers = vec![Random(1).data(DType::F32, 3 * 777), Data::zeros(DType::F32, 3 * 777)];
        let roles = [read(DType::F32), write(DType::F32)];
        let desc = desc(&roles, &dynamics, Body::Map(body));
        check_one(&Case { desc, sizes: vec![777], buffers }, Near::Exact).unwrap();

        let mut element = Program::new();
        let value = load(&mut element, 0, &[(0, c(5)), (1, c(3)), (2, Extent::Dyn(0))]);
        let (epilogue, stores) = store_accs(&[c(5)], 1, 2);
        let accs = [AccOp::Sum, AccOp::ArgMin].map(|op| Acc { op, value }).to_vec();
        let inner = vec![c(3), Extent::Dyn(0)];
        let body = ReduceBody { outer: vec![c(5)], inner, element, accs, epilogue, stores };
        let input = Random(2).grid(DType::F32, 5 * 3 * 400);
        let buffers = vec![input, Data::zeros(DType::F32, 5), Data::zeros(DType::I64, 5)];
        let roles = [read(DType::F32), write(DType::F32), write(DType::I64)];
        let desc = enel_verify::build::desc(&roles, &dynamics, Body::Reduce(body));
        check_one(&Case { desc, sizes: vec![400], buffers }, F32).unwrap();
    }
}
