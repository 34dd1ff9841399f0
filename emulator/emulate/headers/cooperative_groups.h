// Cooperative groups: blocks, tiles of a warp, coalesced lanes, clusters; reductions and scans over tiles.
#pragma once
#include <type_traits>
#include <enel/async.h>
namespace cooperative_groups {
namespace enel {
__device__ inline unsigned block_rank() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
__device__ inline unsigned lane() { unsigned r; asm volatile("mov.u32 %0, %%laneid;" : "=r"(r)); return r; }
template <class T> __device__ T shuffle(T v, unsigned mask, int from) {
  static_assert(sizeof(T) <= 32, "small values only");
  if constexpr (std::is_arithmetic<T>::value && sizeof(T) >= 4) return __shfl_sync(mask, v, from);
  else {
    union { T value; unsigned words[(sizeof(T) + 3) / 4]; } u;
    u.value = v;
    for (unsigned& word : u.words) word = __shfl_sync(mask, word, from);
    return u.value;
  }
}
}  // namespace enel

class thread_block {
 public:
  __device__ void sync() const { __syncthreads(); }
  __device__ static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
  __device__ static unsigned num_threads() { return size(); }
  __device__ static unsigned thread_rank() { return enel::block_rank(); }
  __device__ static dim3 group_index() { return dim3(blockIdx.x, blockIdx.y, blockIdx.z); }
  __device__ static dim3 thread_index() { return dim3(threadIdx.x, threadIdx.y, threadIdx.z); }
  __device__ static dim3 group_dim() { return dim3(blockDim.x, blockDim.y, blockDim.z); }
  __device__ static dim3 dim_threads() { return group_dim(); }
  // The barrier itself stands at the wait.
  struct arrival_token {};
  __device__ arrival_token barrier_arrive() const { return arrival_token(); }
  __device__ void barrier_wait(arrival_token&&) const { __syncthreads(); }
};
__device__ inline thread_block this_thread_block() { return thread_block(); }

// Arrivals of all grid barriers so far; a launch whose text names it keeps all its blocks resident.
__device__ unsigned enel_grid_barrier = 0;

class grid_group {
 public:
  __device__ static bool is_valid() { return true; }
  struct arrival_token { unsigned target; };
  __device__ static arrival_token barrier_arrive() {
    arrival_token token = {0};
    __syncthreads();
    if (enel::block_rank() == 0) {
      __threadfence();
      unsigned n = num_blocks();
      token.target = (atomicAdd(&enel_grid_barrier, 1u) / n + 1) * n;
    }
    return token;
  }
  __device__ static void barrier_wait(arrival_token&& token) {
    if (enel::block_rank() == 0) {
      unsigned seen;
      do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(&enel_grid_barrier) : "memory");
      while (seen < token.target);
      __threadfence();
    }
    __syncthreads();
  }
  __device__ static void sync() { barrier_wait(barrier_arrive()); }
  __device__ static unsigned long long block_rank() { return blockIdx.x + (unsigned long long)gridDim.x * (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z); }
  __device__ static unsigned long long num_blocks() { return (unsigned long long)gridDim.x * gridDim.y * gridDim.z; }
  __device__ static unsigned long long num_threads() { return num_blocks() * thread_block::size(); }
  __device__ static unsigned long long size() { return num_threads(); }
  __device__ static unsigned long long thread_rank() { return block_rank() * thread_block::size() + enel::block_rank(); }
  __device__ static dim3 group_dim() { return dim3(gridDim.x, gridDim.y, gridDim.z); }
  __device__ static dim3 dim_blocks() { return group_dim(); }
  __device__ static dim3 block_index() { return dim3(blockIdx.x, blockIdx.y, blockIdx.z); }
};
__device__ inline grid_group this_grid() { return grid_group(); }

class coalesced_group {
 protected:
  unsigned mask_, meta_rank_, meta_size_;
 public:
  __device__ explicit coalesced_group(unsigned mask, unsigned meta_rank = 0, unsigned meta_size = 1) : mask_(mask), meta_rank_(meta_rank), meta_size_(meta_size) {}
  __device__ unsigned mask() const { return mask_; }
  __device__ unsigned size() const { return __popc(mask_); }
  __device__ unsigned num_threads() const { return size(); }
  __device__ unsigned thread_rank() const { return __popc(mask_ & ((1u << enel::lane()) - 1)); }
  __device__ unsigned meta_group_rank() const { return meta_rank_; }
  __device__ unsigned meta_group_size() const { return meta_size_; }
  __device__ void sync() const { __syncwarp(mask_); }
  __device__ int lane_of(unsigned rank) const { return __fns(mask_, 0, rank + 1); }
  template <class T> __device__ T shfl(T v, unsigned from) const { return enel::shuffle(v, mask_, lane_of(from % size())); }
  template <class T> __device__ T shfl_up(T v, unsigned by) const { unsigned r = thread_rank(); return enel::shuffle(v, mask_, lane_of(r >= by ? r - by : r)); }
  template <class T> __device__ T shfl_down(T v, unsigned by) const { unsigned r = thread_rank(); return enel::shuffle(v, mask_, lane_of(r + by < size() ? r + by : r)); }
  __device__ int any(int p) const { return __ballot_sync(mask_, p) != 0; }
  __device__ int all(int p) const { return __ballot_sync(mask_, p) == mask_; }
  // Lanes of the warp as ranks of the group.
  __device__ unsigned packed(unsigned lanes) const { unsigned r = 0; for (unsigned i = 0; i < size(); ++i) r |= (lanes >> lane_of(i) & 1) << i; return r; }
  __device__ unsigned ballot(int p) const { return packed(__ballot_sync(mask_, p)); }
  template <class T> __device__ unsigned match_any(T v) const { return packed(__match_any_sync(mask_, v)); }
  template <class T> __device__ unsigned match_all(T v, int& same) const { return packed(__match_all_sync(mask_, v, &same)); }
};
__device__ inline coalesced_group coalesced_threads() { return coalesced_group(__activemask()); }

template <unsigned N, class Parent = thread_block> class thread_block_tile {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "a power of two up to 32");
  unsigned meta_rank_, meta_size_;
 public:
  __device__ thread_block_tile(unsigned meta_rank, unsigned meta_size) : meta_rank_(meta_rank), meta_size_(meta_size) {}
  template <class Other> __device__ thread_block_tile(const thread_block_tile<N, Other>& tile) : meta_rank_(tile.meta_group_rank()), meta_size_(tile.meta_group_size()) {}
  __device__ static unsigned first() { return enel::lane() & ~(N - 1); }
  __device__ static constexpr unsigned ones() { return N == 32 ? ~0u : (1u << (N % 32)) - 1; }
  __device__ static unsigned mask() { return ones() << first(); }
  __device__ static constexpr unsigned size() { return N; }
  __device__ static constexpr unsigned num_threads() { return N; }
  __device__ static unsigned thread_rank() { return enel::block_rank() & (N - 1); }
  __device__ unsigned meta_group_rank() const { return meta_rank_; }
  __device__ unsigned meta_group_size() const { return meta_size_; }
  __device__ void sync() const { __syncwarp(mask()); }
  template <class T> __device__ T shfl(T v, int from) const { return enel::shuffle(v, mask(), (int)first() + (from & (int)(N - 1))); }
  template <class T> __device__ T shfl_down(T v, unsigned by) const { unsigned r = thread_rank(); return shfl(v, r + by < N ? r + by : r); }
  template <class T> __device__ T shfl_up(T v, unsigned by) const { unsigned r = thread_rank(); return shfl(v, r >= by ? r - by : r); }
  template <class T> __device__ T shfl_xor(T v, unsigned by) const { return shfl(v, thread_rank() ^ by); }
  __device__ int any(int p) const { return __any_sync(mask(), p); }
  __device__ int all(int p) const { return __all_sync(mask(), p); }
  __device__ unsigned ballot(int p) const { return __ballot_sync(mask(), p) >> first() & ones(); }
  template <class T> __device__ unsigned match_any(T v) const { return __match_any_sync(mask(), v) >> first() & ones(); }
  template <class T> __device__ unsigned match_all(T v, int& same) const { return __match_all_sync(mask(), v, &same) >> first() & ones(); }
};
template <unsigned N> __device__ thread_block_tile<N, thread_block> tiled_partition(const thread_block&) {
  return thread_block_tile<N, thread_block>(enel::block_rank() / N, (thread_block::size() + N - 1) / N);
}
template <unsigned N, unsigned M, class Parent> __device__ thread_block_tile<N, thread_block_tile<M, Parent>> tiled_partition(const thread_block_tile<M, Parent>& parent) {
  static_assert(N <= M, "a part is no larger than the whole");
  return thread_block_tile<N, thread_block_tile<M, Parent>>(parent.thread_rank() / N, M / N);
}

// Any group: a block, or lanes of a warp.
class thread_group {
  bool is_block_;
  unsigned mask_;
  __device__ coalesced_group lanes() const { return coalesced_group(mask_); }
 public:
  __device__ thread_group(const thread_block&) : is_block_(true), mask_(0) {}
  __device__ thread_group(const coalesced_group& group) : is_block_(false), mask_(group.mask()) {}
  template <unsigned N, class Parent> __device__ thread_group(const thread_block_tile<N, Parent>& tile) : is_block_(false), mask_(tile.mask()) {}
  __device__ bool is_block() const { return is_block_; }
  __device__ unsigned mask() const { return mask_; }
  __device__ unsigned size() const { return is_block_ ? thread_block::size() : lanes().size(); }
  __device__ unsigned num_threads() const { return size(); }
  __device__ unsigned thread_rank() const { return is_block_ ? thread_block::thread_rank() : lanes().thread_rank(); }
  __device__ void sync() const { if (is_block_) __syncthreads(); else lanes().sync(); }
  __device__ static bool is_valid() { return true; }
};

// Parts of n lanes, by rank.
__device__ inline coalesced_group tiled_partition(const coalesced_group& group, unsigned n) {
  unsigned part = group.thread_rank() / n, mask = 0;
  for (unsigned i = part * n; i < part * n + n && i < group.size(); ++i) mask |= 1u << group.lane_of(i);
  return coalesced_group(mask, part, (group.size() + n - 1) / n);
}
template <unsigned N> __device__ coalesced_group tiled_partition(const coalesced_group& group) { return tiled_partition(group, N); }
__device__ inline thread_group tiled_partition(const thread_group& group, unsigned n) {
  if (!group.is_block()) return tiled_partition(coalesced_group(group.mask()), n);
  unsigned ones = n >= 32 ? ~0u : (1u << n) - 1;
  return coalesced_group(ones << (enel::lane() & ~(n - 1)));
}
// Lanes with the same label.
template <class Group, class Label> __device__ coalesced_group labeled_partition(const Group& group, Label label) {
  unsigned own = __match_any_sync(group.mask(), label);
  unsigned leaders = __ballot_sync(group.mask(), __ffs(own) - 1 == enel::lane());
  return coalesced_group(own, __popc(leaders & ((1u << (__ffs(own) - 1)) - 1)), __popc(leaders));
}
template <class Group> __device__ coalesced_group binary_partition(const Group& group, bool which) {
  unsigned yes = __ballot_sync(group.mask(), which);
  return coalesced_group(which ? yes : group.mask() & ~yes, which, 2);
}
template <class Group, class F, class... Args> __device__ void invoke_one(const Group& group, F&& f, Args&&... args) {
  if (group.thread_rank() == 0) f(args...);
}
template <class Group, class F, class... Args> __device__ auto invoke_one_broadcast(const Group& group, F&& f, Args&&... args) {
  decltype(f(args...)) result{};
  if (group.thread_rank() == 0) result = f(args...);
  return group.shfl(result, 0);
}

#if __CUDA_ARCH__ >= 900
class cluster_group {
 public:
  __device__ static void sync() { barrier_arrive(); barrier_wait(); }
  __device__ static void barrier_arrive() { asm volatile("barrier.cluster.arrive.aligned;" ::: "memory"); }
  __device__ static void barrier_wait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
  __device__ static unsigned block_rank() { unsigned r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
  __device__ static unsigned num_blocks() { unsigned r; asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r)); return r; }
  __device__ static unsigned num_threads() { return num_blocks() * thread_block::size(); }
  __device__ static unsigned size() { return num_threads(); }
  __device__ static unsigned thread_rank() { return block_rank() * thread_block::size() + enel::block_rank(); }
  __device__ static dim3 block_index() { dim3 r; asm volatile("mov.u32 %0, %%cluster_ctaid.x; mov.u32 %1, %%cluster_ctaid.y; mov.u32 %2, %%cluster_ctaid.z;" : "=r"(r.x), "=r"(r.y), "=r"(r.z)); return r; }
  __device__ static dim3 dim_blocks() { dim3 r; asm volatile("mov.u32 %0, %%cluster_nctaid.x; mov.u32 %1, %%cluster_nctaid.y; mov.u32 %2, %%cluster_nctaid.z;" : "=r"(r.x), "=r"(r.y), "=r"(r.z)); return r; }
  template <class T> __device__ static T* map_shared_rank(T* p, int rank) {
    unsigned long long out;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(out) : "l"(p), "r"(rank));
    return (T*)out;
  }
  __device__ static unsigned query_shared_rank(const void* p) { unsigned r; asm volatile("getctarank.u64 %0, %1;" : "=r"(r) : "l"(p)); return r; }
};
__device__ inline cluster_group this_cluster() { return cluster_group(); }
#endif

template <class Group> __device__ void sync(const Group& group) { group.sync(); }
template <class Group> __device__ unsigned thread_rank(const Group& group) { return group.thread_rank(); }
template <class Group> __device__ unsigned group_size(const Group& group) { return group.size(); }

template <class T = void> struct plus { template <class U> __device__ U operator()(U a, U b) const { return a + b; } };
template <class T = void> struct less { template <class U> __device__ U operator()(U a, U b) const { return b < a ? b : a; } };
template <class T = void> struct greater { template <class U> __device__ U operator()(U a, U b) const { return a < b ? b : a; } };
template <class T = void> struct bit_and { template <class U> __device__ U operator()(U a, U b) const { return a & b; } };
template <class T = void> struct bit_or { template <class U> __device__ U operator()(U a, U b) const { return a | b; } };
template <class T = void> struct bit_xor { template <class U> __device__ U operator()(U a, U b) const { return a ^ b; } };

template <class Group, class T, class Op> __device__ T reduce(const Group& group, T v, Op op) {
  T sum = group.shfl(v, 0);
  for (unsigned i = 1; i < group.size(); ++i) sum = op(sum, group.shfl(v, i));
  return sum;
}
template <class Group, class T, class Op> __device__ T inclusive_scan(const Group& group, T v, Op op) {
  T sum = v;
  for (unsigned by = 1; by < group.size(); by *= 2) {
    T below = group.shfl_up(sum, by);
    if (group.thread_rank() >= by) sum = op(below, sum);
  }
  return sum;
}
template <class Group, class T> __device__ T inclusive_scan(const Group& group, T v) { return inclusive_scan(group, v, plus<T>()); }
template <class Group, class T, class Op> __device__ T exclusive_scan(const Group& group, T v, Op op) {
  T sum = group.shfl_up(inclusive_scan(group, v, op), 1);
  return group.thread_rank() == 0 ? T() : sum;
}
template <class Group, class T> __device__ T exclusive_scan(const Group& group, T v) { return exclusive_scan(group, v, plus<T>()); }

template <class Group, class Atomic, class T, class Op> __device__ void reduce_update_async(const Group& group, Atomic& at, T v, Op op) {
  T sum = reduce(group, v, op);
  if (group.thread_rank() != 0) return;
  T old = at.load(::cuda::memory_order_relaxed);
  while (!at.compare_exchange_weak(old, op(old, sum), ::cuda::memory_order_relaxed));
}
template <class Group, class Atomic, class T, class Op> __device__ void reduce_store_async(const Group& group, Atomic& at, T v, Op op) {
  T sum = reduce(group, v, op);
  if (group.thread_rank() == 0) at.store(sum, ::cuda::memory_order_relaxed);
}

template <class Group, class T, class Size> __device__ void memcpy_async(const Group& group, T* to, const T* from, Size bytes) {
  ::cuda::enel::copy(group, to, from, bytes);
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Numbers of elements there is room for and there are.
template <class Group, class T, class Room, class Size> __device__ void memcpy_async(const Group& group, T* to, Room room, const T* from, Size n) {
  memcpy_async(group, to, from, ((size_t)room < (size_t)n ? (size_t)room : (size_t)n) * sizeof(T));
}
template <class Group> __device__ void wait(const Group& group) { asm volatile("cp.async.wait_all;" ::: "memory"); group.sync(); }
template <unsigned n, class Group> __device__ void wait_prior(const Group& group) { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); group.sync(); }
}  // namespace cooperative_groups
