// What cooperative groups, barriers and pipelines share: scopes, orders, and copies in the largest pieces they may have.
#pragma once
namespace cuda {
enum thread_scope { thread_scope_system, thread_scope_device, thread_scope_block, thread_scope_thread };
enum memory_order { memory_order_relaxed, memory_order_consume, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };
template <size_t alignment> struct aligned_size_t {
  size_t value;
  __host__ __device__ constexpr explicit aligned_size_t(size_t n) : value(n) {}
  __host__ __device__ constexpr operator size_t() const { return value; }
};
namespace enel {
__device__ inline unsigned shared(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
// A group of one.
struct alone {
  __device__ static unsigned thread_rank() { return 0; }
  __device__ static unsigned size() { return 1; }
};
// Copies that cannot be asynchronous, for their place or their alignment, are done at once.
template <class Group> __device__ void copy(const Group& group, void* target, const void* source, size_t bytes) {
  char* to = (char*)target;
  const char* from = (const char*)source;
  size_t rank = group.thread_rank(), n = group.size(), at = 0;
  bool is_async = __isShared(target) && __isGlobal(source);
  if (is_async && (((size_t)to | (size_t)from) & 15) == 0) {
    for (size_t i = rank; i < bytes / 16; i += n)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared(to + 16 * i)), "l"(from + 16 * i) : "memory");
    at = bytes / 16 * 16;
  }
  if (is_async && (((size_t)to | (size_t)from) & 3) == 0) {
    for (size_t i = at / 4 + rank; i < bytes / 4; i += n)
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared(to + 4 * i)), "l"(from + 4 * i) : "memory");
    at = bytes / 4 * 4;
  }
  for (size_t i = at + rank; i < bytes; i += n) to[i] = from[i];
}
}  // namespace enel
}  // namespace cuda
