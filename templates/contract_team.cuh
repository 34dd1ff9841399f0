{#- The kernel around tile_product where tiles are few and sums long: TEAM blocks share a tile, each a stretch of the summed
    axis, and the last to arrive joins their sums in team order.
    scratch: counters u32 [tiles], padded to COUNTER_BYTES; sums f32 [tiles, TEAM, BM, BN]. -#}
{% include "team.cuh" %}
{% include "contract_results.cuh" %}
constexpr int TEAM = {{ team }}, COUNTER_BYTES = {{ counter_bytes }}, QUADS = BM * BN / 4, EACH = QUADS / THREADS;
static_assert(EACH * THREADS == QUADS, "every thread has as many quads of a tile");

{% include "entry.cuh" %}
    extern __shared__ float4 smem[];
    float* stage = reinterpret_cast<float*>(smem);
    const u32 item = block / TEAM;
    const idx member = (idx)(block % TEAM);
    const idx n_rows = rows_size(a), n_cols = cols_size(a);
    const Place place = block_place(item, (n_rows + BM - 1) / BM, (n_cols + BN - 1) / BN);
    const idx m0 = place.row_tile * BM, n0 = place.col_tile * BN;
    const idx steps = summed_steps(a), stretch = (steps + TEAM - 1) / TEAM;
    const idx from = member * stretch, to = from + stretch < steps ? from + stretch : steps;
    tile_product(a, stage, place.batch, m0, n_rows, n0, n_cols, from, to);
    float4* sums = reinterpret_cast<float4*>(a.scratch + COUNTER_BYTES) + (size_t)item * TEAM * QUADS;
    const int tid = thread_index();
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int q = e * THREADS + tid, r = q / (BN / 4), c = q % (BN / 4) * 4;
        sums[(int)member * QUADS + q] = *reinterpret_cast<const float4*>(stage + r * PITCH + c);
    }
    __syncthreads();
    if (!last_of_team(reinterpret_cast<u32*>(a.scratch) + item, TEAM)) return;
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int q = e * THREADS + tid, r = q / (BN / 4), c = q % (BN / 4) * 4;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
        for (int m = 0; m < TEAM; ++m) {
            const float4 part = sums[m * QUADS + q];
            sum = make_float4(sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w);
        }
        *reinterpret_cast<float4*>(stage + r * PITCH + c) = sum;
    }
    __syncthreads();
    store_results(a, stage, place.batch, m0, n0);
}
