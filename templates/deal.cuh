{#- COUNT pieces of work dealt to N threads. -#}
namespace {

// `work(e)` for every e below COUNT; only the last round may have fewer pieces than threads, and it alone asks.
template <int COUNT, int N, class Work>
__device__ __forceinline__ void deal(const Work& work) {
    const int tid = thread_index();
#pragma unroll 4
    for (int first = 0; first < COUNT / N * N; first += N) work(first + tid);
    if (tid < COUNT % N) work(COUNT / N * N + tid);
}

}  // namespace
