//! Attention, farthest points, neighbours, top k and scatter over drawn sizes, with ties, NaN and empty ranges.

use crate::check::{check, run};
use crate::draw::{Args, Rng, binary, float, linear, load, space, store};
use crate::reference::V;
use enel_bundle::{
    Access, AttentionBody, Body, Desc, Extent, FpsBody, Instr, KnnBody, Program, ScatterBody, ScatterMode, TopKBody,
    Value,
};
use enel_runtime::cpu::CpuThreads;
use enel_types::{BinaryOp, DType};
use proptest::prelude::*;

/// The element of a buffer at the row-major index of the whole space.
fn element(buffer: u32, sizes: &[i64]) -> Value {
    let axes: Vec<u32> = (0..sizes.len() as u32).collect();
    let mut program = Program::new();
    let index = linear(&mut program, &axes, sizes);
    let reg = load(&mut program, buffer, index);
    Value { program, reg }
}

fn desc(args: &Args, body: Body) -> Desc {
    Desc { buffers: args.roles.clone(), dynamics: args.dynamics.clone(), body }
}

/// Gives a read buffer values on a coarse lattice, so that ties abound.
fn coarsen(args: &mut Args, buffer: u32, steps: f32) {
    let data = &mut args.data[buffer as usize];
    for i in 0..data.len() {
        if let V::F(x) = data.get(i) {
            data.set(i, V::F((x * steps).round() / steps));
        }
    }
}

fn drawn_attention(seed: u64) {
    let rng = &mut Rng(seed);
    let groups = [1i64, 2, 3][rng.below(3)];
    let heads = groups * (1 + rng.below(4)) as i64;
    let d = rng.pick(&[1i64, 3, 16, 33]);
    let (tokens, keys) = (rng.pick(&[1i64, 2, 7, 33, 65]), rng.pick(&[1i64, 5, 127, 128, 129, 300]));
    let mut args = Args::default();
    let dtype = rng.pick(&[DType::F32, DType::BF16, DType::F16]);
    let q = args.read(rng, dtype, (tokens * heads * d) as usize);
    let k = args.read(rng, dtype, (keys * groups * d) as usize);
    let v = args.read(rng, dtype, (keys * groups * d) as usize);
    let (low, high) = (args.read(rng, DType::I32, tokens as usize), args.read(rng, DType::I64, tokens as usize));
    for t in 0..tokens as usize {
        let (a, b) = (rng.below(keys as usize + 1) as i64, rng.below(keys as usize + 1) as i64);
        let empty = rng.chance(20);
        args.data[low as usize].set(t, V::I(if empty { a } else { a.min(b) }));
        args.data[high as usize].set(t, V::I(if empty { a } else { a.max(b) }));
    }
    if rng.chance(40) {
        // A row nobody sees may hold anything.
        let hidden = (keys - 1) as usize;
        for t in 0..tokens as usize {
            let seen = args.data[high as usize].get(t).i().min(hidden as i64);
            args.data[high as usize].set(t, V::I(seen));
        }
        let width = (groups * d) as usize;
        for i in 0..width {
            args.data[k as usize].set(hidden * width + i, V::F(f32::NAN));
            args.data[v as usize].set(hidden * width + i, V::F(f32::INFINITY));
        }
    }
    let sizes = [tokens, heads, d];
    let mut epilogue = Program::new();
    let acc = epilogue.push(Instr::Acc(0));
    let two = float(&mut epilogue, 2.0);
    let doubled = binary(&mut epilogue, BinaryOp::Mul, acc, two);
    let stores = vec![store(rng, &mut args, &mut epilogue, &sizes, doubled, DType::F32)];
    let body = AttentionBody {
        tokens: args.extent(rng, tokens),
        keys: args.extent(rng, keys),
        heads,
        groups,
        head_size: d,
        scale: (1.0 / (d as f32).sqrt()).to_bits(),
        q: element(q, &sizes),
        k: element(k, &[keys, groups, d]),
        v: Some(element(v, &[keys, groups, d])),
        low: element(low, &[tokens]),
        high: element(high, &[tokens]),
        bf16: dtype == DType::BF16,
        epilogue,
        stores,
    };
    let desc = desc(&args, Body::Attention(body));
    check(&desc, &args.data, &args.values, false);
}

fn drawn_fps(seed: u64) {
    let rng = &mut Rng(seed);
    let (batch, points) = (1 + rng.below(4) as i64, rng.pick(&[1i64, 2, 15, 16, 17, 100, 513, 1030]));
    let n = (1 + rng.below(40) as i64).min(points + 2);
    let mut args = Args::default();
    let cloud = args.read(rng, DType::F32, (batch * points * 3) as usize);
    if rng.chance(60) {
        coarsen(&mut args, cloud, 4.0);
    }
    let out = args.add(DType::I32, Access::Write, (batch * n) as usize);
    let xyz = element(cloud, &[batch, points, 3]);
    let (batch, points, n) = (args.extent(rng, batch), args.extent(rng, points), args.extent(rng, n));
    let desc = desc(&args, Body::Fps(FpsBody { batch, points, n, xyz, out }));
    check(&desc, &args.data, &args.values, true);
}

fn drawn_knn(seed: u64) {
    let rng = &mut Rng(seed);
    let (batch, points) = (1 + rng.below(3) as i64, rng.pick(&[1i64, 2, 31, 512, 513, 3000]));
    let queries = 1 + rng.below(40) as i64;
    let k = (1 + rng.below(90) as i64).min(points);
    let mut args = Args::default();
    let cloud = args.read(rng, DType::F32, (batch * points * 3) as usize);
    let from = args.read(rng, DType::F32, (batch * queries * 3) as usize);
    if rng.chance(60) {
        coarsen(&mut args, cloud, 4.0);
        coarsen(&mut args, from, 4.0);
    }
    let out = args.add(DType::I32, Access::Write, (batch * queries * k) as usize);
    let (query, point) = (element(from, &[batch, queries, 3]), element(cloud, &[batch, points, 3]));
    let batch = args.extent(rng, batch);
    let (queries, points) = (args.extent(rng, queries), args.extent(rng, points));
    let k = args.extent(rng, k);
    let desc = desc(&args, Body::Knn(KnnBody { batch, queries, points, k, query, point, out }));
    check(&desc, &args.data, &args.values, true);
}

fn drawn_topk(seed: u64) {
    let rng = &mut Rng(seed);
    let rank = rng.below(3);
    let outer = space(rng, rank, 100);
    let n = rng.pick(&[1i64, 2, 7, 97, 512, 1030]);
    let k = 1 + rng.below(n as usize) as i64;
    let mut args = Args::default();
    let sizes = [outer.as_slice(), &[n]].concat();
    let total = sizes.iter().product::<i64>() as usize;
    let dtype = rng.pick(&[DType::F32, DType::BF16, DType::I64, DType::U8]);
    let source = args.read(rng, dtype, total);
    if rng.chance(60) {
        coarsen(&mut args, source, 2.0);
    }
    if dtype == DType::F32 {
        for x in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::NAN] {
            args.data[source as usize].set(rng.below(total), V::F(x));
        }
    }
    let out = args.add(DType::I32, Access::Write, total / n as usize * k as usize);
    let value = element(source, &sizes);
    let outer = args.extents(rng, &outer);
    let (n, k) = (args.extent(rng, n), args.extent(rng, k));
    let desc = desc(&args, Body::TopK(TopKBody { outer, n, k, largest: rng.chance(50), value, out }));
    check(&desc, &args.data, &args.values, true);
}

fn drawn_scatter(seed: u64) {
    let rng = &mut Rng(seed);
    let (n_prefix, n_space, n_suffix) = (rng.below(3), rng.below(3), rng.below(3));
    let prefix = space(rng, n_prefix, 8);
    let index_space = space(rng, n_space, 300);
    let suffix = space(rng, n_suffix, 70);
    let extent = rng.pick(&[1i64, 2, 5, 40]);
    let batch = rng.below(n_prefix + 1);
    let mode = if rng.chance(50) { ScatterMode::Set } else { ScatterMode::Add };
    let dtype = rng.pick(&[DType::F32, DType::F32, DType::BF16, DType::I64, DType::I32, DType::U8]);
    let mut args = Args::default();
    let index_sizes = [&prefix[..batch], &index_space].concat();
    let row_sizes = [prefix.as_slice(), &index_space, &suffix].concat();
    let count = |sizes: &[i64]| sizes.iter().product::<i64>() as usize;
    let index = args.read(rng, DType::I32, count(&index_sizes));
    for i in 0..count(&index_sizes) {
        args.data[index as usize].set(i, V::I(rng.below(extent as usize + 2) as i64 - 1));
    }
    let rows = args.read(rng, dtype, count(&row_sizes));
    let base = args.read(rng, dtype, count(&prefix) * extent as usize * count(&suffix));
    let out = args.roles.len() as u32;
    args.roles.push(enel_bundle::BufferRole { dtype, access: Access::Update });
    let copy = args.data[base as usize].copy();
    args.data.push(copy);
    let (index, rows) = (element(index, &index_sizes), element(rows, &row_sizes));
    let (prefix, suffix) = (args.extents(rng, &prefix), args.extents(rng, &suffix));
    let (index_space, extent) = (args.extents(rng, &index_space), args.extent(rng, extent));
    let batch = batch as u32;
    let body = ScatterBody { mode, prefix, batch, extent, index_space, suffix, index, rows, out };
    let desc = desc(&args, Body::Scatter(body));
    check(&desc, &args.data, &args.values, true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_attention_equals_the_reference(seed in any::<u64>()) {
        drawn_attention(seed);
    }

    #[test]
    fn drawn_farthest_points_equal_the_reference(seed in any::<u64>()) {
        drawn_fps(seed);
    }

    #[test]
    fn drawn_neighbours_equal_the_reference(seed in any::<u64>()) {
        drawn_knn(seed);
    }

    #[test]
    fn a_drawn_top_k_equals_the_reference(seed in any::<u64>()) {
        drawn_topk(seed);
    }

    #[test]
    fn a_drawn_scatter_equals_the_reference(seed in any::<u64>()) {
        drawn_scatter(seed);
    }
}

#[test]
fn nan_coordinates_neither_crash_nor_hang() {
    let rng = &mut Rng(3);
    let mut args = Args::default();
    let cloud = args.read(rng, DType::F32, 300);
    for i in (0..300).step_by(7) {
        args.data[0].set(i, V::F(if i % 2 == 0 { f32::NAN } else { f32::INFINITY }));
    }
    let fps_out = args.add(DType::I32, Access::Write, 100);
    let knn_out = args.add(DType::I32, Access::Write, 100 * 100);
    let xyz = || element(cloud, &[1, 100, 3]);
    let (one, hundred) = (Extent::Const(1), Extent::Const(100));
    let fps = Body::Fps(FpsBody { batch: one, points: hundred, n: hundred, xyz: xyz(), out: fps_out });
    let (batch, queries, points, k) = (one, hundred, hundred, hundred);
    let knn = Body::Knn(KnnBody { batch, queries, points, k, query: xyz(), point: xyz(), out: knn_out });
    let out = run(&desc(&args, fps), &args.data, &[], &CpuThreads::single()).unwrap();
    assert!((0..100).all(|i| (0..100).contains(&out[fps_out as usize].get(i).i())));
    let out = run(&desc(&args, knn), &args.data, &[], &CpuThreads::single()).unwrap();
    for q in 0..100 {
        let mut row: Vec<i64> = (0..100).map(|j| out[knn_out as usize].get(q * 100 + j).i()).collect();
        row.sort_unstable();
        assert!(row.into_iter().eq(0..100), "every point is some neighbour of query {q}, once");
    }
}
