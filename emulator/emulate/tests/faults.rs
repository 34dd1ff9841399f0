//! Is what people get wrong in CUDA found, and the same kernel without it silent?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{program, zeros_i32};
use enel_emulate::{Finding, Job, RunError};

/// Each kernel takes an array of 64 and has a fault where `BAD` holds.
const KERNELS: &str = r#"
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
template <int BAD> __global__ void heap_overrun(int* x) {
  int* p = (int*)malloc(40);
  for (int i = 0; i < 10 + 9 * BAD; ++i) p[i] = i;
  x[threadIdx.x] = p[3];
  free(p);
}
template <int BAD> __global__ void heap_twice(int* x) {
  int* p = (int*)malloc(4);
  *p = 1;
  x[threadIdx.x] = *p;
  free(p);
  if (BAD) free(p);
}
template <int BAD> __global__ void heap_after(int* x) {
  int* p = new int(threadIdx.x);
  if (BAD) delete p;
  x[threadIdx.x] = *p;
  if (!BAD) delete p;
}
template <int BAD> __global__ void __cluster_dims__(2, 1, 1) early_end(int* x) {
  __shared__ int s;
  cg::cluster_group cluster = cg::this_cluster();
  if (threadIdx.x == 0) s = blockIdx.x;
  cluster.sync();
  x[blockIdx.x * 32 + threadIdx.x] = *cluster.map_shared_rank(&s, 1 - cluster.block_rank());
  if (!BAD) cluster.sync();
}
template <int BAD> __global__ void early_store(int* x) {
  __shared__ alignas(16) int s[32];
  s[threadIdx.x] = threadIdx.x;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned at = (unsigned)__cvta_generic_to_shared(s);
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 128;" :: "l"(x), "r"(at) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    if (!BAD) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
}
template <int BAD> __global__ void wrong_mask(int* x) {
  int v = threadIdx.x;
  if (threadIdx.x < 20) v = __shfl_xor_sync(BAD ? 0xffffffffu : 0xfffffu, v, 1);
  x[threadIdx.x] = v;
}
template <int BAD> __global__ void absent_lane(int* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, x[threadIdx.x], BAD ? 20 : 10);
}
template <int BAD> __global__ void in_vain(int* x) {
  if (threadIdx.x != 0) return;
  atomicAdd(x, 1);
  while (*(volatile int*)x < gridDim.x + BAD) {}
}
"#;

/// Kernel, blocks, and the kind of what is wrong with it.
const FAULTS: [(&str, u32, &str); 8] = [
    ("heap_overrun", 1, "out-of-bounds"),
    ("heap_twice", 1, "use-after-free"),
    ("heap_after", 1, "use-after-free"),
    ("early_end", 2, "block-ended"),
    ("early_store", 1, "async-copy"),
    ("wrong_mask", 1, "warp-sync"),
    ("absent_lane", 1, "warp-sync"),
    ("in_vain", 40, "deadlock"),
];

#[test]
fn what_people_get_wrong_is_found() {
    let names: Vec<[String; 2]> = FAULTS.map(|(name, ..)| [0, 1].map(|bad| format!("{name}<{bad}>"))).into();
    let instances: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
    let Some(program) = program("faults.cu", KERNELS, "sm_90a", &instances) else { return };
    let args = [zeros_i32(64)];
    for ((_, blocks, kind), [good, bad]) in FAULTS.into_iter().zip(&names) {
        for seed in common::SEEDS {
            let job = Job { grid: [blocks, 1, 1], block: [32, 1, 1], seed, ..Job::new(good, &args) };
            program.run(&job).unwrap_or_else(|e| panic!("{good}, seed {seed}: {}", common::chain(&e)));
            match program.run(&Job { kernel: bad, ..job }) {
                Err(RunError::Finding { finding, .. }) => {
                    let found = Finding::of(&finding);
                    assert_eq!(found.kind, kind, "{bad}, seed {seed}: {}", found.text);
                }
                other => panic!("{bad}, seed {seed}: {other:?}"),
            }
        }
    }
}
