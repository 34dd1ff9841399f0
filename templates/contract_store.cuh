{#- The kernel around tile_product: a block has its tile alone. -#}
{% include "contract_results.cuh" %}

{% include "entry.cuh" %}
    extern __shared__ float4 smem[];
    float* stage = reinterpret_cast<float*>(smem);
    const idx n_rows = rows_size(a), n_cols = cols_size(a);
    const Place place = block_place(block, (n_rows + BM - 1) / BM, (n_cols + BN - 1) / BN);
    const idx m0 = place.row_tile * BM, n0 = place.col_tile * BN;
    tile_product(a, stage, place.batch, m0, n_rows, n0, n_cols, 0, summed_steps(a));
    store_results(a, stage, place.batch, m0, n0);
}
