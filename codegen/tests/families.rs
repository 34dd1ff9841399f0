//! Every family against its meaning, on the emulator, at drawn sizes.

mod support;

use enel_bundle::{
    Acc, AccOp, AttentionBody, Body, ContractBody, Dynamic, Extent, Fold, FpsBody, Instr, KnnBody, MapBody, Program,
    ReduceBody, ScatterBody, ScatterMode, Store, TopKBody,
};
use enel_codegen::render;
use enel_types::{BinaryOp, DType, UnaryOp};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::build::*;
use support::data::Data;
use support::eval::Precision;
use support::{Case, Near};

const F32: Near = Near::Float { low: Precision::Single, slack: 2e-6 };
const BF16: Near = Near::Float { low: Precision::Bf16, slack: 2e-6 };

/// Draws `cases` values, the same on every run, and shrinks the first that fails.
fn property<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), String>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&strategy, |value| test(value).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// 1, primes, and both sides of a tile's edge.
fn size() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1), Just(7), Just(15), Just(16), Just(17), Just(31), Just(33), Just(64), Just(67), 1..80i64]
}

fn float_dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::F16)]
}

/// `extent` as a constant or as dynamic size `n`.
fn extent(value: i64, dynamic: bool, sizes: &mut Vec<i64>, dynamics: &mut Vec<Dynamic>) -> Extent {
    if !dynamic {
        return Extent::Const(value);
    }
    sizes.push(value);
    dynamics.push(bounded(value));
    Extent::Dyn(sizes.len() as u32 - 1)
}

#[test]
fn reduce_combines_every_accumulator() {
    let ops = [AccOp::Sum, AccOp::Prod, AccOp::Max, AccOp::Min, AccOp::ArgMax, AccOp::ArgMin, AccOp::Deviations];
    let strategy = (size(), prop_oneof![size(), 200..3000i64], float_dtype(), any::<[bool; 3]>(), any::<u64>());
    property(16, strategy, |(o, i, dtype, [dynamic, transposed, grid], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let outer = extent(o, dynamic, &mut sizes, &mut dynamics);
        let inner = extent(i, dynamic, &mut sizes, &mut dynamics);
        let mut element = Program::new();
        let order = if transposed { [(1, inner), (0, outer)] } else { [(0, outer), (1, inner)] };
        let value = load(&mut element, 0, &order);
        // Near 1, so that a product of thousands stays finite.
        let (small, one) = (element.push(Instr::Float(1e-3f32.to_bits())), element.push(Instr::Float(1f32.to_bits())));
        let scaled = element.push(Instr::Binary(BinaryOp::Mul, value, small));
        let near_one = element.push(Instr::Binary(BinaryOp::Add, scaled, one));
        let accs = ops.map(|op| Acc { op, value: if op == AccOp::Prod { near_one } else { value } }).to_vec();
        let (epilogue, stores) = store_accs(&[outer], 1, 7);
        let mut random = Random(seed);
        let input = if grid { random.grid(dtype, o * i) } else { random.data(dtype, o * i) };
        let mut buffers = vec![read(dtype)];
        let mut data = vec![input];
        for op in ops {
            let out = if matches!(op, AccOp::ArgMax | AccOp::ArgMin) { DType::I32 } else { DType::F32 };
            buffers.push(write(out));
            data.push(Data::zeros(out, o as usize));
        }
        let body = ReduceBody { outer: vec![outer], inner: vec![inner], element, accs, epilogue, stores };
        let case = Case { desc: desc(&buffers, &dynamics, Body::Reduce(body)), sizes, buffers: data };
        case.check(F32)
    });
}

#[test]
fn reduce_of_few_points_takes_teams() {
    let ops = [AccOp::Sum, AccOp::Max, AccOp::ArgMax, AccOp::ArgMin, AccOp::Deviations];
    let strategy = (1..4i64, 32_768..50_000i64, float_dtype(), any::<bool>(), any::<u64>());
    property(4, strategy, |(o, i, dtype, dynamic, seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let outer = extent(o, dynamic, &mut sizes, &mut dynamics);
        let inner = extent(i, dynamic, &mut sizes, &mut dynamics);
        let mut element = Program::new();
        let value = load(&mut element, 0, &[(0, outer), (1, inner)]);
        let accs = ops.map(|op| Acc { op, value }).to_vec();
        let (epilogue, stores) = store_accs(&[outer], 1, ops.len() as u32);
        let mut buffers = vec![read(dtype)];
        let mut data = vec![Random(seed).data(dtype, o * i)];
        for op in ops {
            let out = if matches!(op, AccOp::ArgMax | AccOp::ArgMin) { DType::I32 } else { DType::F32 };
            buffers.push(write(out));
            data.push(Data::zeros(out, o as usize));
        }
        let body = ReduceBody { outer: vec![outer], inner: vec![inner], element, accs, epilogue, stores };
        Case { desc: desc(&buffers, &dynamics, Body::Reduce(body)), sizes, buffers: data }.check(F32)
    });
}

#[test]
fn contract_multiplies_any_sizes() {
    let small = prop_oneof![size(), Just(5), Just(8)];
    let strategy = ((1..3i64, small, size(), size()), float_dtype(), any::<[bool; 4]>(), any::<u64>());
    property(24, strategy, |((b, m, n, k), dtype, [dynamic, lhs_t, rhs_t, relu], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let batch = c(b);
        let [rows, cols, summed] = [m, n, k].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        let side = |buffer, other, transposed| {
            let order =
                if transposed { [(0, batch), (2, summed), (1, other)] } else { [(0, batch), (1, other), (2, summed)] };
            loaded(buffer, &order)
        };
        let mut epilogue = Program::new();
        let index = linear(&mut epilogue, &axes(&[batch, rows, cols]));
        let acc = epilogue.push(Instr::Acc(0));
        let zero = epilogue.push(Instr::Float(0));
        let value = if relu { epilogue.push(Instr::Binary(BinaryOp::Max, acc, zero)) } else { acc };
        let body = ContractBody {
            batch: vec![batch],
            rows: vec![rows],
            cols: vec![cols],
            summed: vec![summed],
            lhs: side(0, rows, lhs_t),
            rhs: side(1, cols, rhs_t),
            bf16: false,
            epilogue,
            fold: None,
            stores: vec![Store { buffer: 2, index, value }],
        };
        let mut random = Random(seed);
        let buffers = vec![
            random.data(dtype, b * m * k),
            random.data(dtype, b * n * k),
            Data::zeros(DType::F32, (b * m * n) as usize),
        ];
        let roles = [read(dtype), read(dtype), write(DType::F32)];
        Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers }.check(F32)
    });
}

/// Matrix products whose operands may be rounded to bf16: stored so, or f32 behind a relu.
#[test]
fn contract_multiplies_on_tensor_cores() {
    let m = prop_oneof![Just(9), Just(16), Just(64), Just(72), 9..100i64, Just(600)];
    let n = prop_oneof![Just(8), Just(128), 1..140i64];
    let k = prop_oneof![Just(8), Just(32), Just(72), 1..90i64];
    property(24, ((1..3i64, m, n, k), any::<[bool; 4]>(), any::<u64>()), |((b, m, n, k), flags, seed)| {
        let [dynamic, lhs_t, rhs_t, prologue] = flags;
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let batch = c(b);
        let [rows, cols, summed] = [m, n, k].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        for size in &mut dynamics {
            // Divisibility is what the asynchronous copies ask for.
            let value = size.max - 3;
            *size = if value % 8 == 0 { Dynamic { max: value + 8, multiple: 8 } } else { *size };
        }
        let order = |other, transposed| match transposed {
            true => [(0, batch), (2, summed), (1, other)],
            false => [(0, batch), (1, other), (2, summed)],
        };
        let mut lhs = loaded(0, &order(rows, lhs_t));
        if prologue {
            let zero = lhs.program.push(Instr::Float(0));
            lhs.reg = lhs.program.push(Instr::Binary(BinaryOp::Max, lhs.reg, zero));
        }
        let (epilogue, stores) = store_accs(&[batch, rows, cols], 2, 1);
        let body = ContractBody {
            batch: vec![batch],
            rows: vec![rows],
            cols: vec![cols],
            summed: vec![summed],
            lhs,
            rhs: loaded(1, &order(cols, rhs_t)),
            bf16: true,
            epilogue,
            fold: None,
            stores,
        };
        let mut random = Random(seed);
        let lhs_dtype = if prologue { DType::F32 } else { DType::BF16 };
        let out = Data::zeros(DType::F32, (b * m * n) as usize);
        let buffers = vec![random.data(lhs_dtype, b * m * k), random.data(DType::BF16, b * n * k), out];
        let roles = [read(lhs_dtype), read(DType::BF16), write(DType::F32)];
        Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers }.check(BF16)
    });
}

#[test]
fn contract_folds_row_segments() {
    let op = prop_oneof![Just(AccOp::Sum), Just(AccOp::Prod), Just(AccOp::Max), Just(AccOp::Min)];
    let length = prop_oneof![Just(1), Just(9), Just(81), 1..140i64];
    let strategy = ((1..3i64, 1..5i64, length, size(), 1..40i64), op, any::<[bool; 2]>(), any::<u64>());
    property(24, strategy, |((b, kept, folded, n, k), op, [dynamic, bf16], seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let (batch, cols) = (c(b), c(n));
        let [kept_e, folded_e] = [kept, folded].map(|x| extent(x, dynamic, &mut sizes, &mut dynamics));
        let summed = c(k);
        let mut epilogue = Program::new();
        let acc = epilogue.push(Instr::Acc(0));
        let bias = load(&mut epilogue, 3, &[(1, kept_e), (2, folded_e)]);
        let small = epilogue.push(Instr::Float(0.01f32.to_bits()));
        let scaled = epilogue.push(Instr::Binary(BinaryOp::Mul, acc, small));
        let value = epilogue.push(Instr::Binary(BinaryOp::Add, scaled, bias));
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
        let buffers = vec![
            random.data(dtype, b * kept * folded * k),
            random.data(dtype, n * k),
            Data::zeros(DType::F32, (b * kept * n) as usize),
            bias,
        ];
        let roles = [read(dtype), read(dtype), write(DType::F32), read(DType::F32)];
        Case { desc: desc(&roles, &dynamics, Body::Contract(body)), sizes, buffers }.check(if bf16 {
            BF16
        } else {
            F32
        })
    });
}

/// Which template serves it.
#[derive(Clone, Copy, Debug)]
enum Attention {
    Tiles,
    Token,
    Team,
}

/// Packed samples: token t of sample s sees the sample's keys up to its own position; some tokens see nothing.
fn attention_case(samples: &[i64], heads: (i64, i64, i64), dtype: DType, kernel: Attention, seed: u64) -> Case {
    let (n_heads, n_groups, d) = heads;
    let tokens: i64 = samples.iter().sum();
    // Bounds choose the kernel.
    let (more_tokens, more_keys) = match kernel {
        Attention::Tiles => (100, 0),
        Attention::Token => (0, 0),
        Attention::Team => (0, 4096),
    };
    let dynamics = [more_tokens, more_keys].map(|more| Dynamic { max: tokens + more, multiple: 1 });
    let (token, key) = (Extent::Dyn(0), Extent::Dyn(1));
    let [h, g, ch] = [n_heads, n_groups, d].map(c);
    let (epilogue, stores) = store_accs(&[token, h, ch], 5, 1);
    let body = AttentionBody {
        tokens: token,
        keys: key,
        heads: n_heads,
        groups: n_groups,
        head_size: d,
        scale: (1.0 / (d as f32).sqrt()).to_bits(),
        q: loaded(0, &axes(&[token, h, ch])),
        k: loaded(1, &axes(&[key, g, ch])),
        v: loaded(2, &axes(&[key, g, ch])),
        low: loaded(3, &[(0, token)]),
        high: loaded(4, &[(0, token)]),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let mut random = Random(seed);
    let (mut low, mut high, mut start) = (Vec::new(), Vec::new(), 0);
    for n in samples {
        for i in 0..*n {
            low.push(start);
            high.push(if random.below(9) == 0 { start } else { start + i + 1 });
        }
        start += n;
    }
    let mut buffers = vec![random.data(dtype, tokens * n_heads * d)];
    buffers.extend([0, 1].map(|_| random.data(dtype, tokens * n_groups * d)));
    buffers.extend([Data::int(DType::I32, low), Data::int(DType::I32, high)]);
    buffers.push(Data::zeros(DType::F32, (tokens * n_heads * d) as usize));
    let roles = [read(dtype), read(dtype), read(dtype), read(DType::I32), read(DType::I32), write(DType::F32)];
    Case { desc: desc(&roles, &dynamics, Body::Attention(body)), sizes: vec![tokens, tokens], buffers }
}

/// One token each, which sees all keys of its sample.
fn decode_case(samples: &[i64], heads: (i64, i64, i64), dtype: DType, seed: u64) -> Case {
    let mut case = attention_case(samples, heads, dtype, Attention::Team, seed);
    let (tokens, width) = (samples.len(), (heads.0 * heads.2) as usize);
    let starts = samples.iter().scan(0, |at, n| {
        *at += n;
        Some(*at - n)
    });
    case.sizes[0] = tokens as i64;
    case.desc.dynamics[0].max = 64;
    case.buffers[3] = Data::int(DType::I32, starts.clone());
    case.buffers[4] = Data::int(DType::I32, starts.zip(samples).map(|(start, n)| start + n));
    case.buffers[0] = Random(seed).data(dtype, (tokens * width) as i64);
    case.buffers[5] = Data::zeros(DType::F32, tokens * width);
    case
}

#[test]
fn attention_weighs_the_rows_each_token_sees() {
    let heads = prop_oneof![Just((1, 1)), Just((4, 2)), Just((3, 1))];
    let width = prop_oneof![Just(16), Just(64), 1..70i64];
    let kernel = prop_oneof![Just(Attention::Tiles), Just(Attention::Token), Just(Attention::Team)];
    let strategy = (prop::collection::vec(1..20i64, 1..4), heads, width, kernel, any::<u64>());
    property(24, strategy, |(samples, (h, g), d, kernel, seed)| {
        attention_case(&samples, (h, g, d), DType::F32, kernel, seed).check(F32)
    });
}

#[test]
fn attention_teams_share_long_caches() {
    let dtype = prop_oneof![Just((DType::F32, F32)), Just((DType::BF16, BF16))];
    let heads = prop_oneof![Just((1, 1, 64)), Just((4, 2, 16)), Just((3, 1, 40)), Just((2, 2, 128))];
    let strategy = (prop::collection::vec(1..600i64, 1..4), heads, dtype, any::<u64>());
    property(8, strategy, |(samples, heads, (dtype, near), seed)| {
        decode_case(&samples, heads, dtype, seed).check(near)
    });
}

#[test]
fn attention_runs_on_tensor_cores() {
    let heads = prop_oneof![Just((1, 1)), Just((4, 2))];
    let width = prop_oneof![Just(16), Just(48), Just(64), Just(128), Just(160)];
    let strategy = (prop::collection::vec(1..100i64, 1..4), heads, width, any::<u64>());
    property(8, strategy, |(samples, (h, g), d, seed)| {
        attention_case(&samples, (h, g, d), DType::BF16, Attention::Tiles, seed).check(BF16)
    });
}

/// Keys of two samples far apart, with rows between them that nobody has written.
#[test]
fn attention_never_reads_rows_nobody_sees() {
    for dtype in [DType::F32, DType::BF16] {
        let mut case = attention_case(&[40, 300, 30], (1, 1, 16), dtype, Attention::Tiles, 5);
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
        case.check(if dtype == DType::F32 { F32 } else { BF16 }).unwrap();
    }
}

#[test]
fn attention_takes_wide_heads() {
    for d in [300, 700] {
        for kernel in [Attention::Tiles, Attention::Token, Attention::Team] {
            attention_case(&[5, 19], (2, 1, d), DType::F32, kernel, 3).check(F32).unwrap();
        }
    }
}

/// Clouds on a lattice, where most distances tie.
fn cloud(random: &mut Random, lattice: bool, n: i64) -> Data {
    if lattice { random.grid(DType::F32, n) } else { random.data(DType::F32, n) }
}

fn fps_case(b: i64, n_points: i64, n: i64, max: i64, lattice: bool, seed: u64) -> Case {
    let points = Extent::Dyn(0);
    let body = FpsBody { batch: c(b), points, n: c(n), xyz: loaded(0, &axes(&[c(b), points, c(3)])), out: 1 };
    let mut random = Random(seed);
    let buffers = vec![cloud(&mut random, lattice, b * n_points * 3), Data::zeros(DType::I32, (b * n) as usize)];
    let roles = [read(DType::F32), write(DType::I32)];
    Case { desc: desc(&roles, &[Dynamic { max, multiple: 1 }], Body::Fps(body)), sizes: vec![n_points], buffers }
}

#[test]
fn fps_chooses_the_same_points() {
    let max = prop_oneof![Just(80), Just(600), Just(9000), Just(60_000)];
    property(
        16,
        (1..3i64, size(), 1..20i64, max, any::<bool>(), any::<u64>()),
        |(b, n_points, n, max, lattice, seed)| fps_case(b, n_points, n, max, lattice, seed).check(Near::Exact),
    );
}

/// A box grid whose pitch no float holds exactly: distances that are equal on paper differ in their last bit, and which
/// way depends on every rounding. Random clouds do not show a missing fma.
fn box_grid(n: i64) -> Data {
    let at = |i: i64| [i % n, i / n % n, i / n / n].map(|x| 0.1 * x as f64 + 0.037);
    Data::float(DType::F32, (0..n * n * n).flat_map(at))
}

#[test]
fn distances_round_as_on_the_host() {
    let n = 7;
    for max in [400, 9000, 60_000] {
        let mut case = fps_case(1, n * n * n, 90, max, false, 0);
        case.buffers[0] = box_grid(n);
        case.check(Near::Exact).unwrap();
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
    Case { desc, sizes: vec![], buffers }.check(Near::Exact).unwrap();
}

#[test]
fn knn_orders_by_distance_and_index() {
    let strategy =
        ((1..3i64, 1..6i64, prop_oneof![size(), 100..600i64], 1..90i64), any::<bool>(), 0..3usize, any::<u64>());
    property(24, strategy, |((b, nq, np, k), lattice, kernel, seed)| {
        let k = k.min(np);
        // Bounds choose the kernel: ranks in registers, a stream of keys, rounds for any k.
        let dynamics = [Dynamic { max: [k, 2000, 100_000][kernel], multiple: 1 }];
        let coordinate = c(3);
        let body = KnnBody {
            batch: c(b),
            queries: c(nq),
            points: c(np),
            k: Extent::Dyn(0),
            query: loaded(0, &axes(&[c(b), c(nq), coordinate])),
            point: loaded(1, &axes(&[c(b), c(np), coordinate])),
            out: 2,
        };
        let mut random = Random(seed);
        let buffers = vec![
            cloud(&mut random, lattice, b * nq * 3),
            cloud(&mut random, lattice, b * np * 3),
            Data::zeros(DType::I32, (b * nq * k) as usize),
        ];
        let roles = [read(DType::F32), read(DType::F32), write(DType::I32)];
        Case { desc: desc(&roles, &dynamics, Body::Knn(body)), sizes: vec![k], buffers }.check(Near::Exact)
    });
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
        Case { desc, sizes: vec![], buffers }.check(Near::Exact).unwrap();
    }
}

#[test]
fn top_k_ranks_values_and_indices() {
    let dtype = prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::I32), Just(DType::I64)];
    let strategy = ((1..4i64, prop_oneof![size(), 100..900i64], 1..70i64), dtype, any::<[bool; 2]>(), any::<u64>());
    property(20, strategy, |((o, n, k), dtype, [largest, nan], seed)| {
        let k = k.min(n);
        let body =
            TopKBody { outer: vec![c(o)], n: c(n), k: c(k), largest, value: loaded(0, &axes(&[c(o), c(n)])), out: 1 };
        let mut random = Random(seed);
        let mut input = if dtype.is_float() { random.grid(dtype, o * n) } else { random.data(dtype, o * n) };
        if let Data::Float(_, values) = &mut input {
            for x in values {
                *x = match random.below(12) {
                    0 if nan => f64::NAN,
                    1 => -0.0,
                    2 => f64::INFINITY,
                    3 => f64::NEG_INFINITY,
                    _ => *x,
                };
            }
        }
        let buffers = vec![input, Data::zeros(DType::I32, (o * k) as usize)];
        Case { desc: desc(&[read(dtype), write(DType::I32)], &[], Body::TopK(body)), sizes: vec![], buffers }
            .check(Near::Exact)
    });
}

#[test]
fn scatter_sets_and_adds_in_row_order() {
    let mode = prop_oneof![Just(ScatterMode::Set), Just(ScatterMode::Add)];
    let dtype = prop_oneof![Just(DType::F32), Just(DType::BF16), Just(DType::I32), Just(DType::U8)];
    let strategy =
        ((1..3i64, 1..3i64, 1..12i64, size(), prop_oneof![Just(1), 1..300i64]), mode, dtype, 0..3u32, any::<u64>());
    property(24, strategy, |((p0, p1, extent, rows, suffix), mode, dtype, batch, seed)| {
        let prefix = vec![c(p0), c(p1)];
        let index_axes: Vec<Extent> = prefix[..batch as usize].iter().copied().chain([c(rows)]).collect();
        let all: Vec<Extent> = prefix.iter().copied().chain([c(rows), c(suffix)]).collect();
        let body = ScatterBody {
            mode,
            prefix: prefix.clone(),
            batch,
            extent: c(extent),
            index_space: vec![c(rows)],
            suffix: vec![c(suffix)],
            index: loaded(0, &axes(&index_axes)),
            rows: loaded(1, &axes(&all)),
            out: 2,
        };
        let mut random = Random(seed);
        let n_index = rows * prefix[..batch as usize].iter().map(|e| e.value(&[])).product::<i64>();
        // One step outside on either side.
        let index = Data::int(DType::I32, (0..n_index).map(|_| random.below(extent as u64 + 2) as i64 - 1));
        let buffers =
            vec![index, random.data(dtype, p0 * p1 * rows * suffix), random.data(dtype, p0 * p1 * extent * suffix)];
        let roles = [read(DType::I32), read(dtype), update(dtype)];
        let near = if dtype == DType::F32 || dtype == DType::BF16 { F32 } else { Near::Exact };
        Case { desc: desc(&roles, &[], Body::Scatter(body)), sizes: vec![], buffers }.check(near)
    });
}

#[test]
fn map_runs_over_dynamic_spaces() {
    let strategy = (size(), size(), float_dtype(), any::<bool>(), any::<u64>());
    property(12, strategy, |(n0, n1, dtype, dynamic, seed)| {
        let (mut sizes, mut dynamics) = (Vec::new(), Vec::new());
        let space = [n0, n1].map(|n| extent(n, dynamic, &mut sizes, &mut dynamics));
        let mut program = Program::new();
        // Transposed in, so that index arithmetic is not the identity.
        let x = load(&mut program, 0, &[(1, space[1]), (0, space[0])]);
        let y = program.push(Instr::Unary(UnaryOp::Exp, x));
        let index = linear(&mut program, &axes(&space));
        let stores = vec![Store { buffer: 1, index, value: y }];
        let mut random = Random(seed);
        let buffers = vec![random.data(dtype, n0 * n1), Data::zeros(dtype, (n0 * n1) as usize)];
        let body = Body::Map(MapBody { space: space.to_vec(), program, stores });
        Case { desc: desc(&[read(dtype), write(dtype)], &dynamics, body), sizes, buffers }.check(F32)
    });
}

#[test]
fn attention_of_few_tokens_takes_bf16() {
    for (heads, seed) in [((4, 2, 64), 1), ((2, 1, 20), 2)] {
        for kernel in [Attention::Token, Attention::Team] {
            attention_case(&[9, 30], heads, DType::BF16, kernel, seed).check(BF16).unwrap();
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
        Case { desc: desc(&roles, &[], Body::Contract(body)), sizes: vec![], buffers }.check(near).unwrap();
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
        Case { desc, sizes: vec![777], buffers }.check(Near::Exact).unwrap();

        let mut element = Program::new();
        let value = load(&mut element, 0, &[(0, c(5)), (1, c(3)), (2, Extent::Dyn(0))]);
        let (epilogue, stores) = store_accs(&[c(5)], 1, 2);
        let accs = [AccOp::Sum, AccOp::ArgMin].map(|op| Acc { op, value }).to_vec();
        let inner = vec![c(3), Extent::Dyn(0)];
        let body = ReduceBody { outer: vec![c(5)], inner, element, accs, epilogue, stores };
        let input = Random(2).grid(DType::F32, 5 * 3 * 400);
        let buffers = vec![input, Data::zeros(DType::F32, 5), Data::zeros(DType::I64, 5)];
        let roles = [read(DType::F32), write(DType::F32), write(DType::I64)];
        let desc = support::build::desc(&roles, &dynamics, Body::Reduce(body));
        Case { desc, sizes: vec![400], buffers }.check(F32).unwrap();
    }
}
