{#- Results of a tile to where they belong: each goes to `result`, neighbouring threads along columns, or along rows where
    results lie so. All threads of the block call it, and `stage` is complete. -#}
namespace {

__device__ __forceinline__ void store_results(const Args& a, const float* stage, idx b, idx m0, idx n0) {
    const idx n_rows = rows_size(a), n_cols = cols_size(a);
    // A thread keeps its columns: what depends on them alone is read once. Along rows a warp takes 16 of them and two
    // columns, whole sectors of either width.
    constexpr bool ALONG_ROWS = {{ results_along_rows }};
    constexpr int ACROSS = ALONG_ROWS ? THREADS / 16 : BN, DOWN = THREADS / ACROSS;
    static_assert(ACROSS * DOWN == THREADS && BM % DOWN == 0, "every thread has a column, and a row in each round");
    const int tid = thread_index();
    const int rows = (int)(n_rows - m0 < BM ? n_rows - m0 : BM), columns = (int)(n_cols - n0 < BN ? n_cols - n0 : BN);
    for (int c = ALONG_ROWS ? tid / DOWN : tid % ACROSS; c < columns; c += ACROSS)
#pragma unroll 4
        for (int e = 0; e < BM / DOWN; ++e) {
            const int r = e * DOWN + (ALONG_ROWS ? tid % DOWN : tid / ACROSS);
            if (r >= rows) break;
            result(a, b, m0 + r, n0 + c, stage[r * PITCH + c]);
        }
}

}  // namespace
