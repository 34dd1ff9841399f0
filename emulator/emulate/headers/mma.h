// nvcuda::wmma over the wmma instructions. Elements of a fragment may be used one by one, their places are not told.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>
namespace nvcuda { namespace wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major; struct col_major;
namespace precision { struct tf32; }
enum layout_t { mem_row_major, mem_col_major };
namespace enel {
template <class Use, int m, int n, int k> struct extent;
template <int m, int n, int k> struct extent<matrix_a, m, n, k> { static constexpr int value = m * k; };
template <int m, int n, int k> struct extent<matrix_b, m, n, k> { static constexpr int value = k * n; };
template <int m, int n, int k> struct extent<accumulator, m, n, k> { static constexpr int value = m * n; };
template <class T> struct stored { typedef T type; };
template <> struct stored<precision::tf32> { typedef float type; };
}
template <class Use, int m, int n, int k, class T, class Layout = void> class fragment {
 public:
  typedef typename enel::stored<T>::type element_type;
  typedef element_type storage_element_type;
  // The instruction holds every half of A and B twice.
  static constexpr bool is_input = !std::is_same<Use, accumulator>::value;
  static constexpr int num_elements = enel::extent<Use, m, n, k>::value / 32 * (is_input && std::is_same<T, __half>::value ? 2 : 1);
  static constexpr int num_storage_elements = num_elements;
  alignas(4) element_type x[num_elements];
  __device__ unsigned& word(int i) { return reinterpret_cast<unsigned*>(x)[i]; }
  __device__ const unsigned& word(int i) const { return reinterpret_cast<const unsigned*>(x)[i]; }
};
template <class Use, int m, int n, int k, class T, class L, class V> __device__ void fill_fragment(fragment<Use, m, n, k, T, L>& f, const V& v) {
  for (int i = 0; i < f.num_elements; ++i) f.x[i] = v;
}
__device__ inline float __float_to_tf32(float x) { unsigned r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x)); return __uint_as_float(r); }

#define ENEL_OUT8(f) "=r"(f.word(0)), "=r"(f.word(1)), "=r"(f.word(2)), "=r"(f.word(3)), "=r"(f.word(4)), "=r"(f.word(5)), "=r"(f.word(6)), "=r"(f.word(7))
#define ENEL_OUT4(f) "=r"(f.word(0)), "=r"(f.word(1)), "=r"(f.word(2)), "=r"(f.word(3))
#define ENEL_OUT2(f) "=r"(f.word(0)), "=r"(f.word(1))
#define ENEL_OUT1(f) "=r"(f.word(0))
#define ENEL_IN8(f) "r"(f.word(0)), "r"(f.word(1)), "r"(f.word(2)), "r"(f.word(3)), "r"(f.word(4)), "r"(f.word(5)), "r"(f.word(6)), "r"(f.word(7))
#define ENEL_IN4(f) "r"(f.word(0)), "r"(f.word(1)), "r"(f.word(2)), "r"(f.word(3))
#define ENEL_IN2(f) "r"(f.word(0)), "r"(f.word(1))
#define ENEL_IN1(f) "r"(f.word(0))
#define ENEL_LIST8 "{%0, %1, %2, %3, %4, %5, %6, %7}, [%8], %9;"
#define ENEL_LIST4 "{%0, %1, %2, %3}, [%4], %5;"
#define ENEL_LIST2 "{%0, %1}, [%2], %3;"
#define ENEL_LIST1 "{%0}, [%1], %2;"
#define ENEL_KEEP8 "[%8], {%0, %1, %2, %3, %4, %5, %6, %7}, %9;"
#define ENEL_KEEP4 "[%4], {%0, %1, %2, %3}, %5;"

// Loads of A and B: one specialisation for each layout.
#define ENEL_LOAD(use, letter, m, n, k, shape, T, ty, P, N) \
  __device__ inline void load_matrix_sync(fragment<use, m, n, k, T, row_major>& f, const P* p, unsigned ld) { \
    asm volatile("wmma.load." letter ".sync.aligned.row." shape "." ty " " ENEL_LIST##N : ENEL_OUT##N(f) : "l"(p), "r"(ld) : "memory"); } \
  __device__ inline void load_matrix_sync(fragment<use, m, n, k, T, col_major>& f, const P* p, unsigned ld) { \
    asm volatile("wmma.load." letter ".sync.aligned.col." shape "." ty " " ENEL_LIST##N : ENEL_OUT##N(f) : "l"(p), "r"(ld) : "memory"); }
// Loads and stores of accumulators.
#define ENEL_SUM(m, n, k, shape, T, ty, N) \
  __device__ inline void load_matrix_sync(fragment<accumulator, m, n, k, T>& f, const T* p, unsigned ld, layout_t layout) { \
    if (layout == mem_row_major) asm volatile("wmma.load.c.sync.aligned.row." shape "." ty " " ENEL_LIST##N : ENEL_OUT##N(f) : "l"(p), "r"(ld) : "memory"); \
    else asm volatile("wmma.load.c.sync.aligned.col." shape "." ty " " ENEL_LIST##N : ENEL_OUT##N(f) : "l"(p), "r"(ld) : "memory"); } \
  __device__ inline void store_matrix_sync(T* p, const fragment<accumulator, m, n, k, T>& f, unsigned ld, layout_t layout) { \
    if (layout == mem_row_major) asm volatile("wmma.store.d.sync.aligned.row." shape "." ty " " ENEL_KEEP##N ::ENEL_IN##N(f), "l"(p), "r"(ld) : "memory"); \
    else asm volatile("wmma.store.d.sync.aligned.col." shape "." ty " " ENEL_KEEP##N ::ENEL_IN##N(f), "l"(p), "r"(ld) : "memory"); }

#define ENEL_D8 "{%0, %1, %2, %3, %4, %5, %6, %7}, "
#define ENEL_D4 "{%0, %1, %2, %3}, "
#define ENEL_A8C8 "{%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23}, {%24, %25, %26, %27, %28, %29, %30, %31};"
#define ENEL_A8C4 "{%4, %5, %6, %7, %8, %9, %10, %11}, {%12, %13, %14, %15, %16, %17, %18, %19}, {%20, %21, %22, %23};"
#define ENEL_A4C8 "{%8, %9, %10, %11}, {%12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23};"
#define ENEL_A2C8 "{%8, %9}, {%10, %11}, {%12, %13, %14, %15, %16, %17, %18, %19};"
#define ENEL_A8B2C8 "{%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17}, {%18, %19, %20, %21, %22, %23, %24, %25};"
#define ENEL_A2B8C8 "{%8, %9}, {%10, %11, %12, %13, %14, %15, %16, %17}, {%18, %19, %20, %21, %22, %23, %24, %25};"
#define ENEL_A4B1C8 "{%8, %9, %10, %11}, {%12}, {%13, %14, %15, %16, %17, %18, %19, %20};"
#define ENEL_A1B4C8 "{%8}, {%9, %10, %11, %12}, {%13, %14, %15, %16, %17, %18, %19, %20};"
#define ENEL_MMA_ONE(m, n, k, T, LA, LB, lay, C, text, list, ND, NA, NB) \
  __device__ inline void mma_sync(fragment<accumulator, m, n, k, C>& d, const fragment<matrix_a, m, n, k, T, LA>& a, const fragment<matrix_b, m, n, k, T, LB>& b, const fragment<accumulator, m, n, k, C>& c) { \
    asm volatile("wmma.mma.sync.aligned." lay text list : ENEL_OUT##ND(d) : ENEL_IN##NA(a), ENEL_IN##NB(b), ENEL_IN##ND(c)); }
#define ENEL_MMA(m, n, k, T, C, text, list, ND, NA, NB) \
  ENEL_MMA_ONE(m, n, k, T, row_major, row_major, "row.row.", C, text, list, ND, NA, NB) \
  ENEL_MMA_ONE(m, n, k, T, row_major, col_major, "row.col.", C, text, list, ND, NA, NB) \
  ENEL_MMA_ONE(m, n, k, T, col_major, row_major, "col.row.", C, text, list, ND, NA, NB) \
  ENEL_MMA_ONE(m, n, k, T, col_major, col_major, "col.col.", C, text, list, ND, NA, NB)

#define ENEL_SHAPE16(m, n, shape, AB, BB, listb) \
  ENEL_LOAD(matrix_a, "a", m, n, 16, shape, __half, "f16", __half, 8) ENEL_LOAD(matrix_b, "b", m, n, 16, shape, __half, "f16", __half, 8) \
  ENEL_LOAD(matrix_a, "a", m, n, 16, shape, __nv_bfloat16, "bf16", __nv_bfloat16, AB) ENEL_LOAD(matrix_b, "b", m, n, 16, shape, __nv_bfloat16, "bf16", __nv_bfloat16, BB) \
  ENEL_SUM(m, n, 16, shape, float, "f32", 8) ENEL_SUM(m, n, 16, shape, __half, "f16", 4) \
  ENEL_MMA(m, n, 16, __half, float, shape ".f32.f32 ", ENEL_D8 ENEL_A8C8, 8, 8, 8) ENEL_MMA(m, n, 16, __half, __half, shape ".f16.f16 ", ENEL_D4 ENEL_A8C4, 4, 8, 8) \
  ENEL_MMA(m, n, 16, __nv_bfloat16, float, shape ".f32.bf16.bf16.f32 ", ENEL_D8 listb, 8, AB, BB)
ENEL_SHAPE16(16, 16, "m16n16k16", 4, 4, ENEL_A4C8)
ENEL_SHAPE16(32, 8, "m32n8k16", 8, 2, ENEL_A8B2C8)
ENEL_SHAPE16(8, 32, "m8n32k16", 2, 8, ENEL_A2B8C8)

#define ENEL_SHAPE8(m, n, shape, AB, BB, listb) \
  ENEL_LOAD(matrix_a, "a", m, n, 16, shape, signed char, "s8", signed char, AB) ENEL_LOAD(matrix_b, "b", m, n, 16, shape, signed char, "s8", signed char, BB) \
  ENEL_LOAD(matrix_a, "a", m, n, 16, shape, unsigned char, "u8", unsigned char, AB) ENEL_LOAD(matrix_b, "b", m, n, 16, shape, unsigned char, "u8", unsigned char, BB) \
  ENEL_SUM(m, n, 16, shape, int, "s32", 8) \
  ENEL_MMA(m, n, 16, signed char, int, shape ".s32.s8.s8.s32 ", ENEL_D8 listb, 8, AB, BB) ENEL_MMA(m, n, 16, unsigned char, int, shape ".s32.u8.u8.s32 ", ENEL_D8 listb, 8, AB, BB)
ENEL_SHAPE8(16, 16, "m16n16k16", 2, 2, ENEL_A2C8)
ENEL_SHAPE8(32, 8, "m32n8k16", 4, 1, ENEL_A4B1C8)
ENEL_SHAPE8(8, 32, "m8n32k16", 1, 4, ENEL_A1B4C8)

ENEL_LOAD(matrix_a, "a", 16, 16, 8, "m16n16k8", precision::tf32, "tf32", float, 4)
ENEL_LOAD(matrix_b, "b", 16, 16, 8, "m16n16k8", precision::tf32, "tf32", float, 4)
ENEL_SUM(16, 16, 8, "m16n16k8", float, "f32", 8)
ENEL_MMA(16, 16, 8, precision::tf32, float, "m16n16k8.f32.tf32.tf32.f32 ", ENEL_D8 ENEL_A4C8, 8, 4, 4)
} }
