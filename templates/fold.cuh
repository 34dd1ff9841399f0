{#- Accumulators: how values combine, in a thread, between lanes, and between warps. Each has init, add(value, index),
    merge(other), from_lane(mask) (the value of the lane whose number differs by mask) and result.
    Float sums carry the rounding errors of their additions along (Ogita, Rump, Oishi 2005, "Accurate sum and dot
    product", Sum2), so a long sum is as good as one in twice the precision, rounded; __fadd_rn keeps the compiler
    from contracting what must stay three roundings. No shared memory; from_lane needs all 32 lanes. -#}
namespace {

template <class T>
__device__ __forceinline__ T from_lane(T x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }

struct SumFloat {
    float sum, error;
    __device__ __forceinline__ void init() { sum = 0.0f; error = 0.0f; }
    __device__ __forceinline__ void add(float v, idx) {
        const float s = __fadd_rn(sum, v);
        const float b = __fsub_rn(s, sum);
        error = __fadd_rn(error, __fadd_rn(__fsub_rn(sum, __fsub_rn(s, b)), __fsub_rn(v, b)));
        sum = s;
    }
    __device__ __forceinline__ void merge(const SumFloat& o) { add(o.sum, 0); error += o.error; }
    __device__ __forceinline__ SumFloat at_lane(int mask) const { return {from_lane(sum, mask), from_lane(error, mask)}; }
    // An infinite or NaN sum has no meaningful error term.
    __device__ __forceinline__ float result() const { return fabsf(sum) <= 3.402823466e38f ? sum + error : sum; }
};

struct SumInt {
    long long sum;
    __device__ __forceinline__ void init() { sum = 0; }
    __device__ __forceinline__ void add(long long v, idx) { sum = wrap_add(sum, v); }
    __device__ __forceinline__ void merge(const SumInt& o) { add(o.sum, 0); }
    __device__ __forceinline__ SumInt at_lane(int mask) const { return {from_lane(sum, mask)}; }
    __device__ __forceinline__ long long result() const { return sum; }
};

struct ProdFloat {
    float product;
    __device__ __forceinline__ void init() { product = 1.0f; }
    __device__ __forceinline__ void add(float v, idx) { product *= v; }
    __device__ __forceinline__ void merge(const ProdFloat& o) { product *= o.product; }
    __device__ __forceinline__ ProdFloat at_lane(int mask) const { return {from_lane(product, mask)}; }
    __device__ __forceinline__ float result() const { return product; }
};

struct ProdInt {
    long long product;
    __device__ __forceinline__ void init() { product = 1; }
    __device__ __forceinline__ void add(long long v, idx) { product = wrap_mul(product, v); }
    __device__ __forceinline__ void merge(const ProdInt& o) { add(o.product, 0); }
    __device__ __forceinline__ ProdInt at_lane(int mask) const { return {from_lane(product, mask)}; }
    __device__ __forceinline__ long long result() const { return product; }
};

template <bool LARGEST>
struct ExtremeFloat {
    float value;
    __device__ __forceinline__ void init() { value = __int_as_float(LARGEST ? 0xff800000 : 0x7f800000); }
    __device__ __forceinline__ void add(float v, idx) { value = LARGEST ? max_nan(value, v) : min_nan(value, v); }
    __device__ __forceinline__ void merge(const ExtremeFloat& o) { add(o.value, 0); }
    __device__ __forceinline__ ExtremeFloat at_lane(int mask) const { return {from_lane(value, mask)}; }
    __device__ __forceinline__ float result() const { return value; }
};

template <bool LARGEST>
struct ExtremeInt {
    long long value;
    __device__ __forceinline__ void init() { value = (long long)(LARGEST ? 0x8000000000000000ull : 0x7fffffffffffffffull); }
    __device__ __forceinline__ void add(long long v, idx) { value = (LARGEST ? v > value : v < value) ? v : value; }
    __device__ __forceinline__ void merge(const ExtremeInt& o) { add(o.value, 0); }
    __device__ __forceinline__ ExtremeInt at_lane(int mask) const { return {from_lane(value, mask)}; }
    __device__ __forceinline__ long long result() const { return value; }
};

template <bool LARGEST>
struct ExtremeBool {
    int value;
    __device__ __forceinline__ void init() { value = LARGEST ? 0 : 1; }
    __device__ __forceinline__ void add(bool v, idx) { value = LARGEST ? (value | (int)v) : (value & (int)v); }
    __device__ __forceinline__ void merge(const ExtremeBool& o) { add(o.value != 0, 0); }
    __device__ __forceinline__ ExtremeBool at_lane(int mask) const { return {from_lane(value, mask)}; }
    __device__ __forceinline__ bool result() const { return value != 0; }
};

// NaN is the most extreme value either way; equal values keep the lowest index. Index -1: nothing seen yet.
template <class T, bool LARGEST>
struct ArgExtreme {
    T value;
    idx at;
    __device__ __forceinline__ void init() { value = 0; at = -1; }
    __device__ __forceinline__ void add(T v, idx i) {
        const bool mine_nan = value != value, other_nan = v != v;
        const bool ahead = LARGEST ? v > value : v < value;
        const bool tied = (mine_nan && other_nan) || v == value;
        const bool better = at < 0 || (other_nan && !mine_nan) || (!mine_nan && ahead) || (tied && i < at);
        value = better ? v : value;
        at = better ? i : at;
    }
    __device__ __forceinline__ void merge(const ArgExtreme& o) { if (o.at >= 0) add(o.value, o.at); }
    __device__ __forceinline__ ArgExtreme at_lane(int mask) const { return {from_lane(value, mask), from_lane(at, mask)}; }
    __device__ __forceinline__ long long result() const { return at; }
};

// Welford's step, Chan, Golub and LeVeque's merge (1983, "Algorithms for computing the sample variance", eq. 2.1).
struct Deviations {
    float count, mean, squares;
    __device__ __forceinline__ void init() { count = 0.0f; mean = 0.0f; squares = 0.0f; }
    __device__ __forceinline__ void add(float v, idx) {
        count += 1.0f;
        const float d = v - mean;
        mean += d / count;
        squares += d * (v - mean);
    }
    __device__ __forceinline__ void merge(const Deviations& o) {
        const float n = count + o.count;
        const float part = n > 0.0f ? o.count / n : 0.0f;
        const float d = o.mean - mean;
        squares += o.squares + d * d * count * part;
        mean += d * part;
        count = n;
    }
    __device__ __forceinline__ Deviations at_lane(int mask) const {
        return {from_lane(count, mask), from_lane(mean, mask), from_lane(squares, mask)};
    }
    __device__ __forceinline__ float result() const { return squares; }
};

}  // namespace
