// Mathematical functions are built in; these are the constants.
#pragma once
#ifndef INFINITY
#define INFINITY (__int_as_float(0x7f800000))
#endif
#ifndef NAN
#define NAN (__int_as_float(0x7fffffff))
#endif
#ifndef HUGE_VALF
#define HUGE_VALF INFINITY
#endif
#define M_PI 3.14159265358979323846
#define M_PI_2 1.57079632679489661923
#define M_E 2.7182818284590452354
#define M_LN2 0.69314718055994530942
#define M_LOG2E 1.4426950408889634074
#define M_SQRT2 1.41421356237309504880
#define M_SQRT1_2 0.70710678118654752440
#define CUDART_INF_F (__int_as_float(0x7f800000))
#define CUDART_NAN_F (__int_as_float(0x7fffffff))
#define CUDART_PI_F 3.141592654f
namespace std {
#define ENEL_STD(name) \
  __device__ inline float name(float x) { return ::name##f(x); } \
  __device__ inline double name(double x) { return ::name(x); }
ENEL_STD(sqrt) ENEL_STD(exp) ENEL_STD(exp2) ENEL_STD(log) ENEL_STD(log2) ENEL_STD(log10) ENEL_STD(sin) ENEL_STD(cos) ENEL_STD(tan)
ENEL_STD(tanh) ENEL_STD(floor) ENEL_STD(ceil) ENEL_STD(round) ENEL_STD(trunc) ENEL_STD(fabs) ENEL_STD(erf) ENEL_STD(cbrt)
#undef ENEL_STD
__device__ inline float abs(float x) { return ::fabsf(x); }
__device__ inline double abs(double x) { return ::fabs(x); }
__device__ inline int abs(int x) { return x < 0 ? -x : x; }
__device__ inline long long abs(long long x) { return x < 0 ? -x : x; }
__device__ inline float pow(float x, float y) { return ::powf(x, y); }
__device__ inline double pow(double x, double y) { return ::pow(x, y); }
__device__ inline float fmax(float x, float y) { return ::fmaxf(x, y); }
__device__ inline float fmin(float x, float y) { return ::fminf(x, y); }
__device__ inline double fmax(double x, double y) { return ::fmax(x, y); }
__device__ inline double fmin(double x, double y) { return ::fmin(x, y); }
__device__ inline float fma(float x, float y, float z) { return ::fmaf(x, y, z); }
__device__ inline double fma(double x, double y, double z) { return ::fma(x, y, z); }
__device__ inline bool isnan(float x) { return x != x; }
__device__ inline bool isnan(double x) { return x != x; }
__device__ inline bool isinf(float x) { return ::fabsf(x) == INFINITY; }
__device__ inline bool isinf(double x) { return ::fabs(x) == (double)INFINITY; }
}
