{#- The kernel around tile_product: each result goes to `result`, neighbouring threads along columns, or along rows where
    results lie so. -#}
{% include "entry.cuh" %}
    extern __shared__ float4 smem[];
    float* stage = reinterpret_cast<float*>(smem);
    const idx n_rows = rows_size(a), n_cols = cols_size(a);
    const Place place = block_place(block, (n_rows + BM - 1) / BM, (n_cols + BN - 1) / BN);
    const idx m0 = place.row_tile * BM, n0 = place.col_tile * BN;
    tile_product(a, stage, place.batch, m0, n_rows, n0, n_cols);
    // A thread keeps its columns: what depends on them alone is read once. Along rows a warp takes 16 of them and two
    // columns, whole sectors of either width.
    constexpr bool ALONG_ROWS = {{ results_along_rows }};
    constexpr int ACROSS = ALONG_ROWS ? THREADS / 16 : BN, DOWN = THREADS / ACROSS;
    static_assert(ACROSS * DOWN == THREADS, "every thread has a column");
    const int tid = thread_index();
    const int rows = (int)(n_rows - m0 < BM ? n_rows - m0 : BM), columns = (int)(n_cols - n0 < BN ? n_cols - n0 : BN);
    for (int c = ALONG_ROWS ? tid / DOWN : tid % ACROSS; c < columns; c += ACROSS)
        for (int r = ALONG_ROWS ? tid % DOWN : tid / ACROSS; r < rows; r += DOWN)
            result(a, place.batch, m0 + r, n0 + c, stage[r * PITCH + c]);
}
