{#- Eight channels of a row into shared memory as bf16, asynchronously where they lie so. Wants mma.cuh. -#}
namespace {

// Row r of a tile is element (row, head, 0..D) where `present`, else zeros.
template <class Operand>
__device__ __forceinline__ void fetch_chunk(const Args& a, u16* to, idx row, int head, int c, bool present) {
    if constexpr (Operand::VECTOR > 1) {
        copy_async(to, present ? Operand::at(a, row, head, c) : Operand::base(a), present ? 16 : 0);
    } else {
        float x[8];
#pragma unroll
        for (int v = 0; v < 8; ++v) x[v] = present ? Operand::value(a, row, head, c + v) : 0.0f;
        *reinterpret_cast<uint4*>(to) =
            make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
    }
}

}  // namespace
