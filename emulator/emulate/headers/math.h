// Mathematical functions are built in; these are the constants, and the names in std.
#pragma once
#include <type_traits>
#ifndef INFINITY
#define INFINITY (__int_as_float(0x7f800000))
#endif
#ifndef NAN
#define NAN (__int_as_float(0x7fffffff))
#endif
#ifndef HUGE_VALF
#define HUGE_VALF INFINITY
#endif
#ifndef HUGE_VAL
#define HUGE_VAL ((double)INFINITY)
#endif
#ifndef M_PI
#define M_PI 3.14159265358979323846
#define M_PI_2 1.57079632679489661923
#define M_PI_4 0.78539816339744830962
#define M_1_PI 0.31830988618379067154
#define M_2_PI 0.63661977236758134308
#define M_2_SQRTPI 1.12837916709551257390
#define M_E 2.7182818284590452354
#define M_LN2 0.69314718055994530942
#define M_LN10 2.30258509299404568402
#define M_LOG2E 1.4426950408889634074
#define M_LOG10E 0.43429448190325182765
#define M_SQRT2 1.41421356237309504880
#define M_SQRT1_2 0.70710678118654752440
#endif
// Integers count as double; the floating types are built in.
#define ENEL_WIDE(name) template <class T> __device__ inline std::enable_if_t<std::is_integral<T>::value, double> name(T x) { return name((double)x); }
ENEL_WIDE(sqrt) ENEL_WIDE(exp) ENEL_WIDE(exp2) ENEL_WIDE(log) ENEL_WIDE(log2) ENEL_WIDE(log10) ENEL_WIDE(sin) ENEL_WIDE(cos) ENEL_WIDE(tan)
ENEL_WIDE(tanh) ENEL_WIDE(floor) ENEL_WIDE(ceil) ENEL_WIDE(round) ENEL_WIDE(trunc) ENEL_WIDE(fabs) ENEL_WIDE(cbrt)
#undef ENEL_WIDE
namespace std {
using ::abs; using ::acos; using ::acosh; using ::asin; using ::asinh; using ::atan; using ::atan2; using ::atanh; using ::cbrt; using ::ceil;
using ::copysign; using ::cos; using ::cosh; using ::erf; using ::erfc; using ::exp; using ::exp2; using ::expm1; using ::fabs; using ::fdim;
using ::floor; using ::fma; using ::fmax; using ::fmin; using ::fmod; using ::frexp; using ::hypot; using ::ilogb; using ::isfinite;
using ::isinf; using ::isnan; using ::labs; using ::ldexp; using ::lgamma; using ::llabs; using ::llrint; using ::llround; using ::log;
using ::log10; using ::log1p; using ::log2; using ::logb; using ::lrint; using ::lround; using ::modf; using ::nearbyint; using ::nextafter;
using ::pow; using ::remainder; using ::remquo; using ::rint; using ::round; using ::scalbln; using ::scalbn; using ::signbit; using ::sin;
using ::sinh; using ::sqrt; using ::tan; using ::tanh; using ::tgamma; using ::trunc;
using ::sqrtf; using ::expf; using ::logf; using ::sinf; using ::cosf; using ::tanhf; using ::powf; using ::fabsf; using ::floorf; using ::ceilf;
using ::fmaf; using ::fmaxf; using ::fminf;
}
