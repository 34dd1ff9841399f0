{#- Ordered keys: what is asked for first has the smallest key. A key is the value's rank in the upper 32 bits and the
    index in the lower, so keys are distinct and ties go to the lower index. -#}
{% include "points.cuh" %}
namespace {

// Rising with the float; -0 and +0 are one value, NaN comes after everything.
__device__ __forceinline__ u32 rank_of(float x) {
    const u32 bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return x != x ? 0xffffffffu : ((bits >> 31) != 0 ? ~bits : bits | 0x80000000u);
}

__device__ __forceinline__ u32 falling_rank_of(float x) { return x != x ? 0xffffffffu : ~rank_of(x); }

__device__ __forceinline__ u64 wide_rank_of(long long x) { return (u64)x ^ 0x8000000000000000ull; }

__device__ __forceinline__ u64 with_index(u32 rank, idx i) { return (u64)rank << 32 | (u32)i; }

// Sorts list[0 .. length), a power of two, by all THREADS threads of the block (bitonic sort: Batcher 1968). The
// block has synchronised since the list was written; what is read after is sorted.
template <int THREADS>
__device__ __forceinline__ void sort_list(u64* list, const int length) {
    for (int size = 2; size <= length; size *= 2) {
        for (int half = size / 2; half > 0; half /= 2) {
            for (int pair = thread_index(); pair < length / 2; pair += THREADS) {
                const int low = 2 * half * (pair / half) + pair % half, high = low + half;
                const bool rising = (low & size) == 0;
                const u64 x = list[low], y = list[high];
                if ((x > y) == rising) {
                    list[low] = y;
                    list[high] = x;
                }
            }
            __syncthreads();
        }
    }
}

}  // namespace
