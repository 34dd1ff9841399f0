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

// Sorts list[0 .. length), a power of two from 2 to MOST, by all THREADS threads of the block (bitonic sort: Batcher 1968).
// Two sorted halves are merged by exchanging with the mirror image first, so that every comparison asks for the same order.
// The block has synchronised since the list was written; what is read after is sorted. One stage is all the code there is.
template <int THREADS, int MOST>
__device__ __forceinline__ void sort_list(u64* list, const u32 length) {
    u32 size = 2;
#pragma unroll 1
    do {
        u32 half = size, apart = size - 1;
#pragma unroll 1
        do {
            half /= 2;
#pragma unroll
            for (u32 first = 0; first < MOST / 2; first += THREADS) {
                const u32 pair = first + thread_index();
                if (pair >= length / 2) break;
                // Of 2 * half neighbours the first half: twice what comes before them, and the place among them.
                const u32 low = 2 * pair - (pair & (half - 1)), high = low ^ apart;
                const u64 x = list[low], y = list[high];
                if (x > y) {
                    list[low] = y;
                    list[high] = x;
                }
            }
            __syncthreads();
            apart = half / 2;
        } while (half > 1);
        size *= 2;
    } while (size <= length);
}

}  // namespace
