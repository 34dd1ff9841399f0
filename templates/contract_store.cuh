{#- The kernel around tile_product: each result goes to `result`, neighbouring threads along columns. -#}
{% include "entry.cuh" %}
    extern __shared__ float4 smem[];
    float* stage = reinterpret_cast<float*>(smem);
    const idx n_rows = rows_size(a), n_cols = cols_size(a);
    const Place place = block_place(block, (n_rows + BM - 1) / BM, (n_cols + BN - 1) / BN);
    const idx m0 = place.row_tile * BM, n0 = place.col_tile * BN;
    tile_product(a, stage, place.batch, m0, n_rows, n0, n_cols);
    static_assert(BM * BN % THREADS == 0, "every thread stores as much");
#pragma unroll 4
    for (int first = 0; first < BM * BN; first += THREADS) {
        const int e = first + thread_index();
        const idx m = m0 + e / BN, n = n0 + e % BN;
        if (m < n_rows && n < n_cols) result(a, place.batch, m, n, stage[e / BN * PITCH + e % BN]);
    }
}
