{#- Chunks of an operand along the summed axis. Lhs and Rhs say how the operand lies: VECTOR elements at `at` are one
    aligned run (VECTOR 1: nothing is known), `value` is its program, `quad` the same for four places (QUADS). No shared
    memory, no synchronisation. -#}
namespace {

__device__ __forceinline__ void unpack(const float* from, float* to) {
    *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
}

__device__ __forceinline__ void unpack(const u16* from, float* to) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const u32 words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

template <class Operand, int V>
__device__ __forceinline__ void load_chunk(const Args& a, idx b, idx i, idx k, idx n_k, float* to) {
    if constexpr (Operand::VECTOR > 1) {
#pragma unroll
        for (int v = 0; v < V; v += Operand::VECTOR) {
            if (V == Operand::VECTOR || k + v < n_k) {
                unpack(Operand::at(a, b, i, k + v), to + v);
            } else {
#pragma unroll
                for (int w = 0; w < Operand::VECTOR; ++w) to[v + w] = 0.0f;
            }
        }
    } else if constexpr (Operand::QUADS && V % 4 == 0) {
#pragma unroll
        for (int v = 0; v < V; v += 4) {
            if (V == 4 || k + v < n_k) {
                Operand::quad(a, b, i, k + v, to + v);
            } else {
#pragma unroll
                for (int w = 0; w < 4; ++w) to[v + w] = 0.0f;
            }
        }
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) to[v] = k + v < n_k ? Operand::value(a, b, i, k + v) : 0.0f;
    }
}

}  // namespace
