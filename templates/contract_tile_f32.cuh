{#- One tile of a matrix product in f32, any sizes: stage[r][c] = sum over k of lhs(m0 + r, k) * rhs(n0 + c, k).
    smem: operands [BK][BM + 4] and [BK][BN + 4], later overlaid by stage [BM][PITCH], all f32, aligned to 16 bytes.
    Launch: block (THREADS = (BM / TM) * (BN / TN)), dynamic smem SMEM_BYTES. Operand elements come through their
    programs; what lies outside rows, columns or summed axis counts as 0.
    Sync: all threads of the block call tile_product together; stage is complete when it returns, and the caller
    synchronises before it calls again. -#}
constexpr int BM = {{ bm }}, BN = {{ bn }}, BK = {{ bk }}, TM = {{ tm }}, TN = {{ tn }};
constexpr int THREADS = {{ threads }};
constexpr int TX = BN / TN, TY = BM / TM;
constexpr int A_PITCH = BM + 4, B_PITCH = BN + 4, PITCH = BN + 4;
constexpr bool A_FAST_K = {{ lhs_fast_k }}, B_FAST_K = {{ rhs_fast_k }};
constexpr int A_EACH = BM * BK / THREADS, B_EACH = BN * BK / THREADS;
static_assert(TX * TY == THREADS && TM % 4 == 0 && TN % 4 == 0, "four neighbouring results a vector load");
static_assert(A_EACH * THREADS == BM * BK && B_EACH * THREADS == BN * BK, "every thread loads as much");
static_assert({{ smem_bytes }} >= 4 * BK * (A_PITCH + B_PITCH) && {{ smem_bytes }} >= 4 * BM * PITCH, "both uses fit");

namespace {

__device__ __forceinline__ void tile_product(const Args& a, float* smem, idx b, idx m0, idx m_end, idx n0, idx n_end) {
    float* as = smem;
    float* bs = smem + BK * A_PITCH;
    const int tid = thread_index(), tx = tid % TX, ty = tid / TX;
    const idx n_k = summed_size(a);
    float c[TM][TN], next_a[A_EACH], next_b[B_EACH];
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) c[i][j] = 0.0f;

    auto fetch = [&](idx k0) {
#pragma unroll
        for (int e = 0; e < A_EACH; ++e) {
            const int at = tid + e * THREADS;
            const idx m = m0 + (A_FAST_K ? at / BK : at % BM), k = k0 + (A_FAST_K ? at % BK : at / BM);
            next_a[e] = m < m_end && k < n_k ? lhs(a, b, m, k) : 0.0f;
        }
#pragma unroll
        for (int e = 0; e < B_EACH; ++e) {
            const int at = tid + e * THREADS;
            const idx n = n0 + (B_FAST_K ? at / BK : at % BN), k = k0 + (B_FAST_K ? at % BK : at / BN);
            next_b[e] = n < n_end && k < n_k ? rhs(a, b, n, k) : 0.0f;
        }
    };

    fetch(0);
    for (idx k0 = 0; k0 < n_k; k0 += BK) {
#pragma unroll
        for (int e = 0; e < A_EACH; ++e) {
            const int at = tid + e * THREADS;
            as[(A_FAST_K ? at % BK : at / BM) * A_PITCH + (A_FAST_K ? at / BK : at % BM)] = next_a[e];
        }
#pragma unroll
        for (int e = 0; e < B_EACH; ++e) {
            const int at = tid + e * THREADS;
            bs[(B_FAST_K ? at % BK : at / BN) * B_PITCH + (B_FAST_K ? at / BK : at % BN)] = next_b[e];
        }
        __syncthreads();
        if (k0 + BK < n_k) fetch(k0 + BK);
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            float x[TM], y[TN];
#pragma unroll
            for (int i = 0; i < TM; i += 4)
                *reinterpret_cast<float4*>(x + i) = *reinterpret_cast<const float4*>(as + k * A_PITCH + i * TY + ty * 4);
#pragma unroll
            for (int j = 0; j < TN; j += 4)
                *reinterpret_cast<float4*>(y + j) = *reinterpret_cast<const float4*>(bs + k * B_PITCH + j * TX + tx * 4);
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) c[i][j] = fmaf(x[i], y[j], c[i][j]);
        }
        // The next round overwrites what this one has read; after the last, stage does.
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int r = i / 4 * 4 * TY + ty * 4 + i % 4;
#pragma unroll
        for (int j = 0; j < TN; j += 4)
            *reinterpret_cast<float4*>(smem + r * PITCH + j * TX + tx * 4) =
                make_float4(c[i][j], c[i][j + 1], c[i][j + 2], c[i][j + 3]);
    }
    __syncthreads();
}

}  // namespace
