// Parts of groups, groups as parameters, copies of any size, pipelines and atomics.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cuda/atomic>
#include <cuda/pipeline>
namespace cg = cooperative_groups;

// Any number of bytes, any alignment.
__global__ void copy_bytes(const char* in, char* out, int n, int shift) {
  __shared__ alignas(16) char s[2][80];
  auto warp = cg::tiled_partition<32>(cg::this_thread_block());
  int r = warp.meta_group_rank();
  cg::memcpy_async(warp, s[r] + shift, in + r * n, n);
  cg::wait(warp);
  for (int i = warp.thread_rank(); i < n; i += 32) out[r * n + i] = s[r][shift + i];
}

__global__ void two_stages(const float* in, float* out) {
  __shared__ alignas(16) float s[2][64];
  auto block = cg::this_thread_block();
  int t = threadIdx.x;
  cg::memcpy_async(block, s[0], in, cuda::aligned_size_t<16>(256));
  cg::memcpy_async(block, s[1], in + 64, cuda::aligned_size_t<16>(256));
  cg::wait_prior<1>(block);
  out[t] = s[0][63 - t];
  cg::wait(block);
  out[64 + t] = s[1][63 - t];
}

__global__ void piped(const int* in, int* out, int rounds) {
  __shared__ int s[2][64];
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
  auto block = cg::this_thread_block();
  auto pipe = cuda::make_pipeline(block, &state);
  int t = threadIdx.x, sum = 0;
  for (int made = 0, used = 0; used < rounds; ++used) {
    for (; made < rounds && made < used + 2; ++made) {
      pipe.producer_acquire();
      cuda::memcpy_async(block, s[made % 2], in + 64 * made, 256, pipe);
      pipe.producer_commit();
    }
    pipe.consumer_wait();
    sum += s[used % 2][63 - t];
    pipe.consumer_release();
  }
  out[t] = sum;
}

__device__ int sum_of(cg::thread_group group, int* x, int v) {
  int rank = group.thread_rank();
  for (int i = group.size() / 2; i; i /= 2) {
    x[rank] = v;
    group.sync();
    if (rank < i) v += x[rank + i];
    group.sync();
  }
  return v;
}

// Sums of the block, of its parts of 16 and of a tile of 8.
__global__ void sums(const int* in, int* out) {
  __shared__ int x[64];
  auto block = cg::this_thread_block();
  int t = threadIdx.x;
  int all = sum_of(block, x, in[t]);
  cg::thread_group part = cg::tiled_partition(block, 16);
  int sixteen = sum_of(part, x + t / 16 * 16, in[t]);
  int eight = sum_of(cg::tiled_partition<8>(block), x + t / 8 * 8, in[t]);
  if (t == 0) out[0] = all;
  if (part.thread_rank() == 0) out[1 + t / 16] = sixteen;
  if (t % 8 == 0) out[5 + t / 8] = eight;
}

__global__ void parts(const int* in, int* out) {
  int t = threadIdx.x, v = in[t];
  auto block = cg::this_thread_block();
  auto warp = cg::tiled_partition<32>(block);
  auto four = cg::tiled_partition<4>(warp);
  cg::thread_block_tile<4> same = four;
  auto labels = cg::labeled_partition(cg::coalesced_threads(), v & 3);
  auto signs = cg::binary_partition(warp, v > 8);
  auto tile = cg::tiled_partition<16>(block);
  int agree;
  out[8 * t] = same.meta_group_rank() + 100 * same.meta_group_size();
  out[8 * t + 1] = labels.size();
  out[8 * t + 2] = cg::reduce(labels, v, cg::plus<int>());
  out[8 * t + 3] = signs.size();
  out[8 * t + 4] = tile.match_any(v);
  out[8 * t + 5] = tile.match_all(v & 64, agree) + agree;
  __shared__ int once;
  cg::invoke_one(block, [&] { once = 5; });
  auto token = block.barrier_arrive();
  block.barrier_wait(std::move(token));
  out[8 * t + 6] = once + cg::invoke_one_broadcast(warp, [&] { return t; });
  out[8 * t + 7] = cg::tiled_partition(cg::coalesced_threads(), 8).thread_rank();
}

__device__ cuda::atomic<unsigned long long, cuda::thread_scope_device> largest{0};

__global__ void atomics(int* out) {
  cuda::atomic_ref<int, cuda::thread_scope_device> count(out[0]), bits(out[1]);
  count++;
  --count;
  count += 2;
  bits.fetch_xor(1 << threadIdx.x);
  largest.fetch_max(threadIdx.x, cuda::memory_order_relaxed);
  cuda::atomic_thread_fence(cuda::memory_order_seq_cst, cuda::thread_scope_device);
  __syncthreads();
  if (threadIdx.x == 0) {
    int v = count;
    out[2] = v + (int)largest.load();
  }
}
