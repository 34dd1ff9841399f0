{#- Rows of a head into shared memory as bf16, [ROWS][PITCH], asynchronously where they lie so. Wants mma.cuh. -#}
namespace {

// Row r is element (row0 + r, head, 0..D) where `present(r)`, else zeros. A lane copies eight channels, or computes four:
// of eight a warp's loads would touch every sector twice.
template <class Operand, int ROWS, class Present>
__device__ __forceinline__ void fetch_rows(const Args& a, u16* to, idx row0, int head, const Present& present) {
    constexpr int EACH = Operand::VECTOR > 1 ? 8 : 4;
    static_assert(EACH == 8 || Operand::QUADS, "whole instructions are whole quads");
    for (int e = thread_index(); e < ROWS * D / EACH; e += THREADS) {
        const int r = e / (D / EACH), c = e % (D / EACH) * EACH;
        if constexpr (EACH == 8) {
            const u16* from = present(r) ? Operand::at(a, row0 + r, head, c) : Operand::base(a);
            copy_async(to + r * PITCH + c, from, present(r) ? 16 : 0);
        } else {
            float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            if (present(r)) Operand::quad(a, row0 + r, head, c, x);
            *reinterpret_cast<uint2*>(to + r * PITCH + c) = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
        }
    }
}

}  // namespace
