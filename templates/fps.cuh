{#- Exact distances and the next centre, for the fps templates. Order: the larger distance, then the lower index.
    Every product and sum is rounded on its own or by one fma, as the host does it. -#}
{% include "points.cuh" %}
namespace {

struct Point {
    float x, y, z;
};

struct Best {
    float d;
    int at;
    Point p;
};

__device__ __forceinline__ Point point(const Args& a, idx b, idx i) {
    return {xyz(a, b, i, 0), xyz(a, b, i, 1), xyz(a, b, i, 2)};
}

// Points first .. first + 31, one for each lane of the warp, zeros from `end` on; all lanes call it.
__device__ __forceinline__ Point point_of_lane(const Args& a, idx b, idx first, idx end) {
    float p[3];
    read_points([&](int i, int c) { return first + i < end ? xyz(a, b, first + i, c) : 0.0f; }, p);
    return {p[0], p[1], p[2]};
}

// Point i for all lanes of the warp; all call it.
__device__ __forceinline__ Point point_of_all(const Args& a, idx b, idx i) {
    float p[3];
    read_point([&](int c) { return xyz(a, b, i, c); }, p);
    return {p[0], p[1], p[2]};
}

// The chosen points on their way out: of the first warp a lane keeps one of 32, then all are written together.
__device__ __forceinline__ void put_chosen(int* out, int s, int n, int chosen, int& kept) {
    const int tid = thread_index(), at = s % 32;
    if (at == tid) kept = chosen;
    if ((at == 31 || s == n - 1) && tid <= at) out[s - at + tid] = kept;
}

__device__ __forceinline__ float squared_distance(const Point& p, const Point& q) {
    const float dx = __fsub_rn(p.x, q.x), dy = __fsub_rn(p.y, q.y), dz = __fsub_rn(p.z, q.z);
    return __fmaf_rn(dz, dz, __fmaf_rn(dy, dy, __fmul_rn(dx, dx)));
}

// Which of 32 candidates is the best, known to all lanes: distances are not negative, so their bits, read as signed, rise
// with them, and what is nothing comes below.
__device__ __forceinline__ int best_of_lanes(float d, int at) {
    const int bits = __float_as_int(d), most = __reduce_max_sync(0xffffffffu, bits);
    return __reduce_min_sync(0xffffffffu, bits == most ? at : 0x7fffffff);
}

// What a thread without points has: it loses to any point, so its place is never read.
__device__ __forceinline__ Best nothing_yet(int at, Point p) { return {-1.0f, at, p}; }

// The block's best, known to all threads. `slots` has two rows that take turns, so one barrier a call suffices: a row
// is written again only after the barrier of the call between. A warp by itself needs neither.
template <int WARPS>
__device__ __forceinline__ Best block_best(const Best& best, Best (*slots)[WARPS], int turn) {
    const int first = best_of_lanes(best.d, best.at);
    if constexpr (WARPS == 1) {
        const int holder = __ffs(__ballot_sync(0xffffffffu, best.at == first)) - 1;
        const auto of_holder = [&](float x) { return __shfl_sync(0xffffffffu, x, holder); };
        return {best.d, first, {of_holder(best.p.x), of_holder(best.p.y), of_holder(best.p.z)}};
    } else {
        const int lane = thread_index() % 32, warp = thread_index() / 32;
        if (best.at == first) slots[turn][warp] = best;
        __syncthreads();
        // Lanes beyond the warps repeat the last one.
        const Best& own = slots[turn][lane < WARPS ? lane : WARPS - 1];
        const int at = best_of_lanes(own.d, own.at);
        return slots[turn][__ffs(__ballot_sync(0xffffffffu, own.at == at)) - 1];
    }
}

}  // namespace
