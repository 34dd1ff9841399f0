{#- The kernel around tile_product: results go through `folded_value` back to stage, then into accumulators. -#}
constexpr int SEGMENTS = {{ segments }};
constexpr bool ONE_TILE = {{ one_tile }};
constexpr int FOLDS = (SEGMENTS * BN + THREADS - 1) / THREADS;
static_assert(ONE_TILE || SEGMENTS == 1, "a segment that takes several tiles is alone");
static_assert(THREADS % BN == 0, "a thread stays in its column");
// Threads of a column; they share the rows of each segment where segments cannot be dealt to them.
constexpr int LANES = THREADS / BN;
constexpr bool SPLIT = SEGMENTS % LANES != 0;
// Rows of a segment in one tile, at most, and how far apart those of a thread lie.
constexpr int ROWS = {{ segment_rows }}, STEP = SPLIT ? LANES : 1;

// The segment of an accumulator; a thread's are all of its column.
__device__ __forceinline__ int segment_of(int slot) { return SEGMENTS == 1 ? 0 : slot / BN; }

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
            const auto fold_row = [&](int r) {
                float& x = stage[(s * (int)length + r) * PITCH + tid % BN];
                x = folded_value(a, place.batch, kept0 + s, done + r, column, x);
            };
            const int first = SPLIT ? tid / BN : 0;
            if constexpr (ONE_TILE) {
                // Whole segments: every thread has a row in all rounds but the last.
#pragma unroll 4
                for (int e = 0; e < ROWS / STEP; ++e) fold_row(e * STEP + first);
                if (first < ROWS % STEP) fold_row(ROWS / STEP * STEP + first);
            } else {
#pragma unroll 4
                for (int r = first; r < BM && r < rows; r += STEP) fold_row(r);
            }
        }
        __syncthreads();
#pragma unroll
        for (int p = 0; p < FOLDS; ++p) {
            const int slot = tid + p * THREADS, segment = segment_of(slot);
            if (slot >= SEGMENTS * BN || column >= n_cols || kept0 + segment >= n_kept) continue;
            const float* x = stage + segment * (int)length * PITCH + tid % BN;
            for (int r = 0; r < rows; ++r) folded[p].add(x[r * PITCH], 0);
        }
        if (ONE_TILE) break;
        // The next tile's operands overwrite stage.
        __syncthreads();
    }
#pragma unroll
    for (int p = 0; p < FOLDS; ++p) {
        const int slot = tid + p * THREADS;
        const idx kept = kept0 + segment_of(slot);
        if (slot < SEGMENTS * BN && kept < n_kept && column < n_cols)
            result(a, place.batch, kept, column, folded[p].result());
    }
}
