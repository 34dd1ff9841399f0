{#- One tile of a matrix product on tensor cores, any sizes: stage[r][c] = sum of lhs(m0 + r, k) * rhs(n0 + c, k) over k
    from steps `begin` to `end` of BK each, operands rounded to bf16, sums in f32.
    smem: STAGES of both operands as u16, [ROWS][BK + 8] or, for operands that run along their rows, [BK][ROWS + 8]; the
    8 spare elements keep ldmatrix free of bank conflicts. Later overlaid by stage, f32 [BM][PITCH]. Aligned to 16 bytes.
    Launch: block (THREADS = 32 * WARPS_M * WARPS_N), dynamic smem SMEM_BYTES.
    Operands that are aligned runs of a bf16 buffer are copied asynchronously, others computed by their programs, by quads
    where the summed axis has whole ones; what lies outside rows, columns or summed axis counts as 0.
    Sync: all threads of the block call tile_product together; stage is complete when it returns, and the caller
    synchronises before it calls again. -#}
{% include "mma.cuh" %}
constexpr int BM = {{ bm }}, BN = {{ bn }}, BK = {{ bk }}, STAGES = {{ stages }};
constexpr int WARPS_M = {{ warps_m }}, WARPS_N = {{ warps_n }}, THREADS = {{ threads }};
constexpr int MT = BM / WARPS_M / 16, NT = BN / WARPS_N / 8, PITCH = BN + 4;
static_assert(THREADS == 32 * WARPS_M * WARPS_N && STAGES >= 2, "whole warps, one stage to read and one to fill");
static_assert(MT * WARPS_M * 16 == BM && NT * WARPS_N * 8 == BN && NT % 2 == 0 && BK % 16 == 0, "whole instructions");

namespace {

template <class Operand, int ROWS>
struct Side {
    static constexpr bool ALONG_ROWS = Operand::VECTOR > 1 && Operand::ALONG_ROWS;
    static constexpr int SIDE_PITCH = (ALONG_ROWS ? ROWS : BK) + 8;
    static constexpr int ELEMS = (ALONG_ROWS ? BK : ROWS) * SIDE_PITCH;
    static constexpr int CHUNKS = ROWS * BK / 8, QUADS = ROWS * BK / 4;

    static __device__ __forceinline__ void fetch(const Args& a, u16* to, idx b, idx i0, idx i_end, idx k0, idx n_k) {
        if constexpr (Operand::VECTOR == 1 && Operand::FAST_K) {
            // A lane takes four elements of EACH rows. Each row is reached through the one before, so that what depends
            // on the place along the summed axis alone is read once.
            constexpr int EACH = QUADS / THREADS, APART = THREADS / (BK / 4);
            static_assert(EACH * THREADS == QUADS && THREADS % (BK / 4) == 0, "every lane takes whole rows of quads");
            const int first = thread_index() / (BK / 4), k = thread_index() % (BK / 4) * 4;
            float x[EACH][4];
#pragma unroll
            for (int r = 0; r < EACH; ++r)
#pragma unroll
                for (int v = 0; v < 4; ++v) x[r][v] = 0.0f;
            if (k0 + k < n_k) {
#pragma unroll
                for (int r = 0; r < EACH; ++r) {
                    const idx i = i0 + first + r * APART;
                    if (i >= i_end) break;
                    if constexpr (Operand::QUADS) {
                        Operand::quad(a, b, i, k0 + k, x[r]);
                    } else {
#pragma unroll
                        for (int v = 0; v < 4; ++v)
                            if (k0 + k + v < n_k) x[r][v] = Operand::value(a, b, i, k0 + k + v);
                    }
                }
            }
#pragma unroll
            for (int r = 0; r < EACH; ++r)
                *reinterpret_cast<uint2*>(to + (first + r * APART) * SIDE_PITCH + k) =
                    make_uint2(pack_bf16(x[r][0], x[r][1]), pack_bf16(x[r][2], x[r][3]));
            return;
        }
#pragma unroll
        for (int first = 0; first < CHUNKS; first += THREADS) {
            const int e = first + thread_index();
            if (CHUNKS % THREADS != 0 && e >= CHUNKS) break;
            if constexpr (ALONG_ROWS) {
                const int k = e / (ROWS / 8), r = e % (ROWS / 8) * 8;
                const bool inside = i0 + r < i_end && k0 + k < n_k;
                const u16* from = inside ? Operand::at(a, b, i0 + r, k0 + k) : Operand::base(a);
                copy_async(to + k * SIDE_PITCH + r, from, inside ? 16 : 0);
            } else if constexpr (Operand::VECTOR > 1) {
                const int r = e / (BK / 8), k = e % (BK / 8) * 8;
                const bool inside = i0 + r < i_end && k0 + k < n_k;
                const u16* from = inside ? Operand::at(a, b, i0 + r, k0 + k) : Operand::base(a);
                copy_async(to + r * SIDE_PITCH + k, from, inside ? 16 : 0);
            } else {
                const int r = e % ROWS, k = e / ROWS * 8;
                float x[8];
#pragma unroll
                for (int v = 0; v < 8; ++v)
                    x[v] = i0 + r < i_end && k0 + k + v < n_k ? Operand::value(a, b, i0 + r, k0 + k + v) : 0.0f;
                *reinterpret_cast<uint4*>(to + r * SIDE_PITCH + k) =
                    make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
            }
        }
    }

    // Fragments of the 16 x 16 block at (r, k), rows first: as A, or as B of two neighbouring columns blocks when
    // `swapped`, which exchanges the second and third matrix.
    template <bool SWAPPED>
    static __device__ __forceinline__ void fragments(u32* to, const u16* from, int r, int k) {
        const int lane = thread_index() % 32, row = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
        const int dr = SWAPPED ? third : second, dk = SWAPPED ? second : third;
        if constexpr (ALONG_ROWS) {
            load_matrices<true>(to, from + (k + dk + row) * SIDE_PITCH + r + dr);
        } else {
            load_matrices<false>(to, from + (r + dr + row) * SIDE_PITCH + k + dk);
        }
    }
};

typedef Side<Lhs, BM> SideA;
typedef Side<Rhs, BN> SideB;
constexpr bool COPIES = Lhs::VECTOR > 1 || Rhs::VECTOR > 1;
static_assert({{ smem_bytes }} >= 2 * STAGES * (SideA::ELEMS + SideB::ELEMS), "all stages fit");
static_assert({{ smem_bytes }} >= 4 * BM * PITCH, "the result fits");

__device__ __forceinline__ void tile_product(const Args& a, float* smem, idx b, idx m0, idx m_end, idx n0, idx n_end,
                                             idx begin, idx end) {
    u16* stages = reinterpret_cast<u16*>(smem);
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    const int wm = warp / WARPS_N * (BM / WARPS_M), wn = warp % WARPS_N * (BN / WARPS_N);
    const idx n_k = summed_size(a);
    float c[MT][NT][4];
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int v = 0; v < 4; ++v) c[i][j][v] = 0.0f;

    auto fetch = [&](idx tile) {
        u16* to = stages + (int)(tile % STAGES) * (SideA::ELEMS + SideB::ELEMS);
        if (tile < end) {
            SideA::fetch(a, to, b, m0, m_end, tile * BK, n_k);
            SideB::fetch(a, to + SideA::ELEMS, b, n0, n_end, tile * BK, n_k);
        }
        // An empty group keeps the count of groups equal to the count of tiles.
        if constexpr (COPIES) commit_copies();
    };

#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) fetch(begin + s);
    for (idx tile = begin; tile < end; ++tile) {
        if constexpr (COPIES) wait_copies<STAGES - 2>();
        // This tile has landed for every thread, and every thread is done with the stage that is filled next.
        __syncthreads();
        fetch(tile + STAGES - 1);
        const u16* as = stages + (int)(tile % STAGES) * (SideA::ELEMS + SideB::ELEMS);
        const u16* bs = as + SideA::ELEMS;
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
            u32 fa[MT][4], fb[NT / 2][4];
#pragma unroll
            for (int i = 0; i < MT; ++i) SideA::template fragments<false>(fa[i], as, wm + i * 16, k);
#pragma unroll
            for (int j = 0; j < NT / 2; ++j) SideB::template fragments<true>(fb[j], bs, wn + j * 16, k);
#pragma unroll
            for (int i = 0; i < MT; ++i)
#pragma unroll
                for (int j = 0; j < NT; ++j) multiply(c[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
    }
    // Stage takes the operands' place; every tile has landed, the groups left are empty.
    __syncthreads();
    const int g = lane / 4, t = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int j = 0; j < NT; ++j) {
            float* to = smem + (wm + i * 16 + g) * PITCH + wn + j * 8 + t;
            *reinterpret_cast<float2*>(to) = make_float2(c[i][j][0], c[i][j][1]);
            *reinterpret_cast<float2*>(to + 8 * PITCH) = make_float2(c[i][j][2], c[i][j][3]);
        }
    __syncthreads();
}

}  // namespace
