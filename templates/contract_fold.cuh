{#- The kernel around tile_product: results go through `folded_value` back to stage, then into accumulators. -#}
constexpr int SEGMENTS = {{ segments }};
constexpr bool ONE_TILE = {{ one_tile }};
constexpr int FOLDS = (SEGMENTS * BN + THREADS - 1) / THREADS;
static_assert(ONE_TILE || SEGMENTS == 1, "a segment that takes several tiles is alone");
static_assert(THREADS % BN == 0, "a thread stays in its column");
// Threads of a column; they share the rows of each segment where segments cannot be dealt to them.
constexpr int LANES = THREADS / BN;
constexpr bool SPLIT = SEGMENTS % LANES != 0;

{% include "entry.cuh" %}
    extern __shared__ float4 smem[];
    float* stage = reinterpret_cast<float*>(smem);
    const int tid = thread_index();
    const idx n_rows = rows_size(a), n_cols = cols_size(a), n_kept = kept_size(a), length = fold_size(a);
    const Place place = block_place(block, (n_kept + SEGMENTS - 1) / SEGMENTS, (n_cols + BN - 1) / BN);
    const idx kept0 = place.row_tile * SEGMENTS, n0 = place.col_tile * BN;
    const idx column = n0 + tid % BN;
    const idx begin = kept0 * length, whole = begin + SEGMENTS * length;
    const idx end = whole < n_rows ? whole : n_rows;
    {{ acc }} folded[FOLDS];
#pragma unroll
    for (int p = 0; p < FOLDS; ++p) folded[p].init();
    for (idx m0 = begin; m0 < end; m0 += BM) {
        tile_product(a, stage, place.batch, m0, end, n0, n_cols, 0, summed_steps(a));
        // A column a thread, segment by segment: what depends on these alone is read once.
        const idx done = m0 - begin;
        const int rows = (int)(length - done < BM ? length - done : BM);
        for (int s = SPLIT ? 0 : tid / BN; s < SEGMENTS; s += SPLIT ? 1 : LANES) {
            if (column >= n_cols || kept0 + s >= n_kept) break;
            for (int r = SPLIT ? tid / BN : 0; r < rows; r += SPLIT ? LANES : 1) {
                float& x = stage[(s * (int)length + r) * PITCH + tid % BN];
                x = folded_value(a, place.batch, kept0 + s, done + r, column, x);
            }
        }
        __syncthreads();
#pragma unroll
        for (int p = 0; p < FOLDS; ++p) {
            const int slot = tid + p * THREADS, column = slot % BN;
            if (slot >= SEGMENTS * BN || n0 + column >= n_cols) continue;
            const idx from = begin + slot / BN * length, to = from + length;
            if (ONE_TILE) {
                // A tile holds whole segments, the last one perhaps fewer than it could.
                const int row = slot / BN * (int)length;
                for (int r = 0; from < end && r < (int)length; ++r) folded[p].add(stage[(row + r) * PITCH + column], 0);
            } else {
                const idx first = from > m0 ? from : m0;
                const idx tile_end = m0 + BM < end ? m0 + BM : end;
                const idx last = to < tile_end ? to : tile_end;
                for (idx m = first; m < last; ++m) folded[p].add(stage[(int)(m - m0) * PITCH + column], 0);
            }
        }
        if (ONE_TILE) break;
        // The next tile's operands overwrite stage.
        __syncthreads();
    }
#pragma unroll
    for (int p = 0; p < FOLDS; ++p) {
        const int slot = tid + p * THREADS;
        const idx kept = kept0 + slot / BN, n = n0 + slot % BN;
        if (slot < SEGMENTS * BN && kept < n_kept && n < n_cols) result(a, place.batch, kept, n, folded[p].result());
    }
}
