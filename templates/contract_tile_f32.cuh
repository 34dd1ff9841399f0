{#- One tile of a matrix product in f32, any sizes: stage[r][c] = sum of lhs(m0 + r, k) * rhs(n0 + c, k) over k from steps
    `begin` to `end` of BK each.
    smem: operands [BK][BM + 4] and [BK][BN + 4], later overlaid by stage [BM][PITCH], all f32, aligned to 16 bytes.
    Launch: block (THREADS = (BM / TM) * (BN / TN)), dynamic smem SMEM_BYTES. Operand elements come through their
    programs; what lies outside rows, columns or summed axis counts as 0.
    Sync: all threads of the block call tile_product together; stage is complete when it returns, and the caller
    synchronises before it calls again. -#}
constexpr int BM = {{ bm }}, BN = {{ bn }}, BK = {{ bk }}, TM = {{ tm }}, TN = {{ tn }};
constexpr int THREADS = {{ threads }};
constexpr int TX = BN / TN, TY = BM / TM;
constexpr int A_PITCH = BM + 4, B_PITCH = BN + 4, PITCH = BN + 4;
static_assert(TX * TY == THREADS && TM % 4 == 0 && TN % 4 == 0, "four neighbouring results a vector load");
static_assert({{ smem_bytes }} >= 4 * BK * (A_PITCH + B_PITCH) && {{ smem_bytes }} >= 4 * BM * PITCH, "both uses fit");

namespace {

// One operand on its way to shared memory, [BK][ROWS + 4]: a thread's elements wait in registers while a tile is used.
template <class Operand, int ROWS>
struct Side {
    static constexpr int SIDE_PITCH = ROWS + 4, EACH = ROWS * BK / THREADS;
    // Elements a lane takes side by side along the summed axis.
    static constexpr int WIDTH = Operand::FAST_K && Operand::QUADS ? 4 : 1;
    static_assert(EACH * THREADS == ROWS * BK && EACH % 4 == 0, "every thread loads as many quads");
    float next[EACH];

    static __device__ __forceinline__ int row(int e) {
        const int at = thread_index() + e / WIDTH * THREADS;
        return Operand::FAST_K ? at / (BK / WIDTH) : at % ROWS;
    }

    static __device__ __forceinline__ int column(int e) {
        const int at = thread_index() + e / WIDTH * THREADS;
        return Operand::FAST_K ? at % (BK / WIDTH) * WIDTH + e % WIDTH : at / ROWS;
    }

    __device__ __forceinline__ void fetch(const Args& a, idx b, idx i0, idx i_end, idx k0, idx n_k) {
#pragma unroll
        for (int e = 0; e < EACH; e += WIDTH) {
            const idx i = i0 + row(e), k = k0 + column(e);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v) next[e + v] = 0.0f;
            if (i >= i_end || k >= n_k) continue;
            if constexpr (WIDTH == 4) {
                Operand::quad(a, b, i, k, next + e);
            } else {
                next[e] = Operand::value(a, b, i, k);
            }
        }
    }

    __device__ __forceinline__ void put(float* to) const {
#pragma unroll
        for (int e = 0; e < EACH; ++e) to[column(e) * SIDE_PITCH + row(e)] = next[e];
    }
};

__device__ __forceinline__ void tile_product(const Args& a, float* smem, idx b, idx m0, idx m_end, idx n0, idx n_end,
                                             idx begin, idx end) {
    float* as = smem;
    float* bs = smem + BK * A_PITCH;
    const int tid = thread_index(), tx = tid % TX, ty = tid / TX;
    const idx n_k = summed_size(a);
    float c[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) c[i][j] = 0.0f;

    Side<Lhs, BM> side_a;
    Side<Rhs, BN> side_b;
    auto fetch = [&](idx k0) {
        side_a.fetch(a, b, m0, m_end, k0, n_k);
        side_b.fetch(a, b, n0, n_end, k0, n_k);
    };

    fetch(begin * BK);
    for (idx step = begin; step < end; ++step) {
        side_a.put(as);
        side_b.put(bs);
        __syncthreads();
        if (step + 1 < end) fetch((step + 1) * BK);
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
