//! Kernels of several parts: each computes what it computes alone, whatever stands beside it.

mod support;

use enel_bundle::{Acc, AccOp, Body, ContractBody, Desc, Extent, Instr, KnnBody, MapBody, Program, ReduceBody, Store};
use enel_codegen::render;
use enel_types::{BinaryOp, DType};
use enel_verify::build::*;
use enel_verify::{BF16, Case, Data, F32, Near};
use support::check;

/// `out = x + x` over a dynamic number of elements.
fn doubled(n: i64, seed: u64) -> Case {
    let mut program = Program::new();
    let space = [Extent::Dyn(0)];
    let index = linear(&mut program, &axes(&space));
    let x = program.push(Instr::Load { buffer: 0, index });
    let value = program.push(Instr::Binary(BinaryOp::Add, x, x));
    let body = MapBody { space: space.to_vec(), program, stores: vec![Store { buffer: 1, index, value }] };
    let buffers = vec![Random(seed).data(DType::F32, n), Data::zeros(DType::F32, n as usize)];
    let roles = [read(DType::F32), write(DType::F32)];
    Case { desc: desc(&roles, &[bounded(n)], Body::Map(body)), sizes: vec![n], buffers }
}

/// Sums of `inner` elements each, `outer` of them.
fn sums(outer: i64, inner: i64, seed: u64) -> Case {
    let extents = [c(outer), Extent::Dyn(0)];
    let mut element = Program::new();
    let value = load(&mut element, 0, &axes(&extents));
    let (epilogue, stores) = store_accs(&extents[..1], 1, 1);
    let accs = vec![Acc { op: AccOp::Sum, value }];
    let body = ReduceBody { outer: vec![extents[0]], inner: vec![extents[1]], element, accs, epilogue, stores };
    let buffers = vec![Random(seed).data(DType::F32, outer * inner), Data::zeros(DType::F32, outer as usize)];
    let roles = [read(DType::F32), write(DType::F32)];
    Case { desc: desc(&roles, &[bounded(inner)], Body::Reduce(body)), sizes: vec![inner], buffers }
}

/// `[m, k] x [n, k]`, rows dynamic.
fn product([m, n, k]: [i64; 3], bf16: bool, seed: u64) -> Case {
    let (rows, cols, summed) = (Extent::Dyn(0), c(n), c(k));
    let (epilogue, stores) = store_accs(&[rows, cols], 2, 1);
    let body = ContractBody {
        batch: vec![],
        rows: vec![rows],
        cols: vec![cols],
        summed: vec![summed],
        lhs: loaded(0, &[(0, rows), (1, summed)]),
        rhs: loaded(1, &[(0, cols), (1, summed)]),
        bf16,
        epilogue,
        fold: None,
        stores,
    };
    let dtype = if bf16 { DType::BF16 } else { DType::F32 };
    let mut random = Random(seed);
    let out = Data::zeros(DType::F32, (m * n) as usize);
    let buffers = vec![random.data(dtype, m * k), random.data(dtype, n * k), out];
    let roles = [read(dtype), read(dtype), write(DType::F32)];
    Case { desc: desc(&roles, &[bounded(m)], Body::Contract(body)), sizes: vec![m], buffers }
}

/// The `k` nearest of `n` points to each of `queries`.
fn nearest([queries, n, k]: [i64; 3], seed: u64) -> Case {
    let body = KnnBody {
        batch: c(1),
        queries: c(queries),
        points: c(n),
        k: Extent::Dyn(0),
        query: loaded(0, &axes(&[c(1), c(queries), c(3)])),
        point: loaded(1, &axes(&[c(1), c(n), c(3)])),
        out: 2,
    };
    let mut random = Random(seed);
    let buffers = vec![
        random.grid(DType::F32, queries * 3),
        random.grid(DType::F32, n * 3),
        Data::zeros(DType::I32, (queries * k) as usize),
    ];
    let roles = [read(DType::F32), read(DType::F32), write(DType::I32)];
    Case { desc: desc(&roles, &[bounded(k)], Body::Knn(body)), sizes: vec![k], buffers }
}

/// Parts with different numbers of threads, of static and of dynamic shared memory, and sizes of their own.
#[test]
fn parts_of_all_kinds_run_in_one_launch() {
    let (sum, map) = (sums(3, 20_000, 1), doubled(1000, 2));
    let (f32_product, bf16_product) = (product([67, 33, 29], false, 3), product([70, 40, 72], true, 4));
    let knn = nearest([5, 90, 7], 5);
    check(&[(&sum, F32), (&map, F32), (&knn, Near::Exact)]).unwrap();
    check(&[(&map, F32), (&bf16_product, BF16), (&f32_product, F32), (&sum, F32)]).unwrap();
    check(&[(&knn, Near::Exact), (&bf16_product, BF16), (&map, F32), (&knn, Near::Exact), (&map, F32)]).unwrap();
}

#[test]
fn a_part_without_blocks_leaves_the_others_alone() {
    let (empty, map) = (doubled(0, 1), doubled(300, 2));
    check(&[(&empty, F32), (&map, F32)]).unwrap();
    check(&[(&map, F32), (&empty, F32), (&map, F32)]).unwrap();
}

#[test]
fn a_launch_has_the_largest_needs_of_its_parts() {
    let cases = [sums(3, 20_000, 1), product([70, 40, 72], true, 4), doubled(1000, 2)];
    let descs: Vec<&Desc> = cases.iter().map(|case| &case.desc).collect();
    let alone = |at: usize| render("k", [descs[at]]).unwrap().launch;
    let together = render("k", descs.iter().copied()).unwrap().launch;
    assert_eq!(together.threads, (0..3).map(|at| alone(at).threads).max().unwrap());
    assert_eq!(together.smem_bytes, (0..3).map(|at| alone(at).smem_bytes).max().unwrap());
    let sizes = [20_000, 70, 1000];
    assert_eq!(together.blocks(&sizes), (0..3).map(|at| alone(at).blocks(&sizes[at..])).sum::<i64>());
}
