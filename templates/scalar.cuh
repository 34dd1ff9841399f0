{#- Scalar helpers the spelled programs call. Meanings: enel-types `scalar`, enel-bundle `Instr`.
    No arguments, no shared memory, no synchronisation. -#}
namespace {

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

__device__ __forceinline__ float from_bf16(u16 x) { return __uint_as_float((u32)x << 16); }

__device__ __forceinline__ u16 to_bf16(float x) {
    u16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float from_f16(u16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

__device__ __forceinline__ u16 to_f16(float x) {
    u16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

// Four neighbours from a multiple of four elements.
__device__ __forceinline__ float4 quad_of(const float* p) { return *reinterpret_cast<const float4*>(p); }

__device__ __forceinline__ float4 quad_of_bf16(const u16* p) {
    const uint2 raw = *reinterpret_cast<const uint2*>(p);
    return make_float4(__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u), __uint_as_float(raw.y << 16),
                       __uint_as_float(raw.y & 0xffff0000u));
}

__device__ __forceinline__ float4 quad_of_f16(const u16* p) {
    const uint2 raw = *reinterpret_cast<const uint2*>(p);
    return make_float4(from_f16((u16)raw.x), from_f16((u16)(raw.x >> 16)), from_f16((u16)raw.y),
                       from_f16((u16)(raw.y >> 16)));
}

// What four places of a clamped index read: neighbours, or all of them the first, or the last, of the quad.
__device__ __forceinline__ float4 clamped_quad(const float4& quad, bool is_run, bool at_last) {
    const float edge = at_last ? quad.w : quad.x;
    return is_run ? quad : make_float4(edge, edge, edge, edge);
}

// NaN if either is: fmaxf and fminf would drop it.
__device__ __forceinline__ float max_nan(float x, float y) {
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

__device__ __forceinline__ float min_nan(float x, float y) {
    float z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

__device__ __forceinline__ float sign_of(float x) { return x > 0.0f ? 1.0f : (x < 0.0f ? -1.0f : x); }

__device__ __forceinline__ long long wrap_add(long long x, long long y) { return (long long)((u64)x + (u64)y); }
__device__ __forceinline__ long long wrap_sub(long long x, long long y) { return (long long)((u64)x - (u64)y); }
__device__ __forceinline__ long long wrap_mul(long long x, long long y) { return (long long)((u64)x * (u64)y); }

// Anything over 0 is 0; the one quotient that does not fit wraps.
__device__ __forceinline__ long long safe_div(long long x, long long y) {
    return y == 0 ? 0 : (y == -1 ? wrap_sub(0, x) : x / y);
}
__device__ __forceinline__ long long safe_rem(long long x, long long y) { return y == 0 || y == -1 ? 0 : x % y; }

// Truncate and saturate; NaN gives 0, which cvt does not do for 64-bit results.
__device__ __forceinline__ long long float_to_i64(float x) { return x != x ? 0 : __float2ll_rz(x); }
__device__ __forceinline__ int float_to_i32(float x) { return x != x ? 0 : __float2int_rz(x); }
__device__ __forceinline__ long long float_to_u32(float x) { return x != x ? 0 : (long long)__float2uint_rz(x); }
__device__ __forceinline__ int float_to_u8(float x) { return __float2int_rz(fminf(fmaxf(x, 0.0f), 255.0f)); }

}  // namespace
