// Cooperative groups, wmma, asynchronous copies, clusters.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda/barrier>
#include <cuda/ptx>
#include <cuda_pipeline.h>
#include <mma.h>
namespace cg = cooperative_groups;
using namespace nvcuda;

__global__ void tile_reduce(const int* in, int* sums, int* ranks) {
  cg::thread_block block = cg::this_thread_block();
  auto warp = cg::tiled_partition<32>(block);
  auto tile = cg::tiled_partition<8>(warp);
  int v = in[blockIdx.x * block.size() + block.thread_rank()];
  int sum = cg::reduce(tile, v, cg::plus<int>());
  int largest = cg::reduce(warp, v, cg::greater<int>());
  int scan = cg::inclusive_scan(tile, v, cg::plus<int>());
  int at = blockIdx.x * block.size() + block.thread_rank();
  sums[4 * at] = sum;
  sums[4 * at + 1] = largest;
  sums[4 * at + 2] = scan;
  sums[4 * at + 3] = tile.shfl_xor(v, 3) + tile.ballot(v & 1);
  if (v & 1) {
    auto odd = cg::coalesced_threads();
    ranks[at] = odd.thread_rank() * 100 + odd.size();
  } else {
    ranks[at] = -1;
  }
  cg::sync(block);
}

template <typename T> __device__ void multiply(const T* a, const T* b, float* c, int m, int n, int k) {
  int tile_m = blockIdx.y * 16, tile_n = blockIdx.x * 16;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 0.0f);
  for (int i = 0; i < k; i += 16) {
    wmma::load_matrix_sync(fa, a + tile_m * k + i, k);
    wmma::load_matrix_sync(fb, b + tile_n * k + i, k);
    wmma::mma_sync(sum, fa, fb, sum);
  }
  for (int i = 0; i < sum.num_elements; ++i) sum.x[i] = sum.x[i] * 0.5f;
  wmma::store_matrix_sync(c + tile_m * n + tile_n, sum, n, wmma::mem_row_major);
}
__global__ void wmma_half(const __half* a, const __half* b, float* c, int m, int n, int k) { multiply(a, b, c, m, n, k); }
__global__ void wmma_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) { multiply(a, b, c, m, n, k); }
__global__ void wmma_int8(const signed char* a, const signed char* b, int* c) {
  wmma::fragment<wmma::matrix_a, 32, 8, 16, signed char, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 32, 8, 16, signed char, wmma::row_major> fb;
  wmma::fragment<wmma::accumulator, 32, 8, 16, int> sum;
  wmma::fill_fragment(sum, 7);
  wmma::load_matrix_sync(fa, a, 16);
  wmma::load_matrix_sync(fb, b, 8);
  wmma::mma_sync(sum, fa, fb, sum);
  wmma::store_matrix_sync(c, sum, 8, wmma::mem_row_major);
}
__global__ void wmma_tf32(const float* a, const float* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 8, float> sum;
  wmma::fill_fragment(sum, 0.f);
  wmma::load_matrix_sync(fa, a, 8);
  wmma::load_matrix_sync(fb, b, 16);
  for (int i = 0; i < fa.num_elements; ++i) fa.x[i] = wmma::__float_to_tf32(fa.x[i]);
  for (int i = 0; i < fb.num_elements; ++i) fb.x[i] = wmma::__float_to_tf32(fb.x[i]);
  wmma::mma_sync(sum, fa, fb, sum);
  wmma::store_matrix_sync(c, sum, 16, wmma::mem_row_major);
}

__global__ void pipelined(const float4* in, float* out, int n) {
  __shared__ float4 buffer[2][64];
  int t = threadIdx.x, stages = n / 64;
  float sum = 0.f;
  __pipeline_memcpy_async(&buffer[0][t], &in[t], 16);
  __pipeline_commit();
  for (int s = 0; s < stages; ++s) {
    if (s + 1 < stages) __pipeline_memcpy_async(&buffer[(s + 1) & 1][t], &in[(s + 1) * 64 + t], 16);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    float4 v = buffer[s & 1][63 - t];
    sum += v.x - v.y + v.z * v.w;
    __syncthreads();
  }
  out[t] = sum;
}

using barrier = cuda::barrier<cuda::thread_scope_block>;
namespace cde = cuda::device::experimental;
__global__ void bulk_with_barrier(const float* in, float* out) {
  __shared__ alignas(16) float tile[256];
#pragma nv_diag_suppress static_var_with_dynamic_init
  __shared__ barrier bar;
  if (threadIdx.x == 0) {
    init(&bar, blockDim.x);
    cde::fence_proxy_async_shared_cta();
  }
  __syncthreads();
  barrier::arrival_token token;
  if (threadIdx.x == 0) {
    cde::cp_async_bulk_global_to_shared(tile, in + 256 * blockIdx.x, sizeof(tile), bar);
    token = cuda::device::barrier_arrive_tx(bar, 1, sizeof(tile));
  } else {
    token = bar.arrive();
  }
  bar.wait(std::move(token));
  for (int i = threadIdx.x; i < 256; i += blockDim.x) tile[i] = tile[i] * 2.f + 1.f;
  cde::fence_proxy_async_shared_cta();
  __syncthreads();
  if (threadIdx.x == 0) {
    cde::cp_async_bulk_shared_to_global(out + 256 * blockIdx.x, tile, sizeof(tile));
    cde::cp_async_bulk_commit_group();
    cde::cp_async_bulk_wait_group_read<0>();
  }
}

__global__ void __cluster_dims__(4, 1, 1) cluster_reduce(const float* in, float* out, int per_block) {
  __shared__ float partial;
  cg::cluster_group cluster = cg::this_cluster();
  auto warp = cg::tiled_partition<32>(cg::this_thread_block());
  float sum = 0.f;
  for (int i = threadIdx.x; i < per_block; i += 32) sum += in[blockIdx.x * per_block + i];
  sum = cg::reduce(warp, sum, cg::plus<float>());
  if (threadIdx.x == 0) partial = sum;
  cluster.sync();
  if (cluster.block_rank() == 0 && threadIdx.x == 0) {
    float total = 0.f;
    for (int r = 0; r < cluster.num_blocks(); ++r) total += *cluster.map_shared_rank(&partial, r);
    out[blockIdx.x / 4] = total;
  }
  cluster.sync();
}

// A histogram whose bins are spread over the blocks of the cluster.
__global__ void cluster_histogram(const int* in, int* bins, int n, int bins_per_block) {
  extern __shared__ int mine[];
  cg::cluster_group cluster = cg::this_cluster();
  for (int i = threadIdx.x; i < bins_per_block; i += blockDim.x) mine[i] = 0;
  cluster.sync();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    int* theirs = cluster.map_shared_rank(mine, in[i] / bins_per_block);
    atomicAdd(theirs + in[i] % bins_per_block, 1);
  }
  cluster.sync();
  int* to = bins + cluster.block_rank() * bins_per_block;
  for (int i = threadIdx.x; i < bins_per_block; i += blockDim.x) atomicAdd(&to[i], mine[i]);
}

// Three rounds of neighbours, each after all blocks have finished the one before.
__global__ void grid_rounds(int* a, int* b) {
  cg::grid_group grid = cg::this_grid();
  int n = grid.num_threads(), i = grid.thread_rank();
  for (int round = 0; round < 3; ++round) {
    b[i] = a[(i + 1) % n] + a[(i + n - 1) % n];
    grid.sync();
    a[i] = b[i] + 1;
    grid.sync();
  }
}

// A tile in, one added, the tile out: once through cuda::ptx, once through the experimental names.
namespace ptx = cuda::ptx;
__global__ void add_one_tile(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap out, int x, int y) {
  __shared__ alignas(128) int tile[8][16];
#pragma nv_diag_suppress static_var_with_dynamic_init
  __shared__ barrier bar;
  if (threadIdx.x == 0) { init(&bar, blockDim.x); ptx::fence_proxy_async(ptx::space_shared); }
  __syncthreads();
  barrier::arrival_token token;
  if (threadIdx.x == 0) {
    const int coords[2] = {x + 16 * (int)blockIdx.x, y};
    ptx::cp_async_bulk_tensor(ptx::space_cluster, ptx::space_global, &tile, &in, coords, cuda::device::barrier_native_handle(bar));
    token = cuda::device::barrier_arrive_tx(bar, 1, sizeof(tile));
  } else {
    token = bar.arrive();
  }
  bar.wait(std::move(token));
  for (int i = threadIdx.x; i < 128; i += blockDim.x) tile[i / 16][i % 16] += 1;
  ptx::fence_proxy_async(ptx::space_shared);
  __syncthreads();
  if (threadIdx.x == 0) {
    cde::cp_async_bulk_tensor_2d_shared_to_global(&out, x + 16 * blockIdx.x, y, &tile);
    ptx::cp_async_bulk_commit_group();
    ptx::cp_async_bulk_wait_group_read(ptx::n32_t<0>());
  }
  if (threadIdx.x == 0) (&bar)->~barrier();
}
