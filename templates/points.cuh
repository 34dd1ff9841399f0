{#- Coordinates of neighbouring points. A lane that read its own point would skip the two next to it: three loads of a
    warp, each touching all sectors of its 32 points. Read in the order they lie, each sector is touched once. -#}
namespace {

// Three floats `read(i, c)`, coordinate c of the warp's i-th point, for the point of each lane; all lanes call it.
// Lane l reads values l, l + 32 and l + 64. Coordinate c of point l is value 3 l + c, which lane (3 l + c) % 32 has; the
// point that asks lane l for its coordinate c is 11 (l - c) % 32, because 3 * 11 = 33.
template <class Read>
__device__ __forceinline__ void read_points(const Read& read, float* own) {
    const int lane = thread_index() % 32;
    float have[3];
#pragma unroll
    for (int v = 0; v < 3; ++v) have[v] = read((lane + 32 * v) / 3, (lane + 32 * v) % 3);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const int from = (11 * (lane - c + 32) % 32 * 3 + c) / 32;
        const float asked = from == 0 ? have[0] : (from == 1 ? have[1] : have[2]);
        own[c] = __shfl_sync(0xffffffffu, asked, (3 * lane + c) % 32);
    }
}

// Three floats `read(c)`, coordinate c of one point, for all lanes of a warp; all call it.
template <class Read>
__device__ __forceinline__ void read_point(const Read& read, float* own) {
    const float mine = read(thread_index() % 32 % 3);
#pragma unroll
    for (int c = 0; c < 3; ++c) own[c] = __shfl_sync(0xffffffffu, mine, c);
}

}  // namespace
