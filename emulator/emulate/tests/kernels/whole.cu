// A whole program, as people write them: the kernels must be found among all that is for the host.
#include <cstdio>
#include <cstdlib>
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <helper_cuda.h>
#include <torch/extension.h>
#ifdef __cplusplus
extern "C" {
#endif
int c_api(const char *name, int n = 3);
#ifdef __cplusplus
}
#endif
#define CUDA_CHECK(call)                                             \
  do {                                                               \
    cudaError_t e = (call);                                          \
    if (e != cudaSuccess) {                                          \
      fprintf(stderr, "error %s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(e)); \
      exit(EXIT_FAILURE);                                            \
    }                                                                \
  } while (0)
#define DEFINE(T) __global__ void k_##T(T* x) { x[threadIdx.x] += 1; }
DEFINE(int)
DEFINE(float)
static const char *sample = "simple";
enum class Mode : int { Fast, Slow };
constexpr int kBlock = 128;
const float kTable[3] = {1.f, 2.f, 3.f};
using Clock = std::chrono::steady_clock;
struct Timer {
  Clock::time_point start;
  Timer() : start(Clock::now()) {}
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
};
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& s) : std::runtime_error(s) {}
};
template <typename T> struct Vec3 {
  T x, y, z;
  __host__ __device__ Vec3() : x(0), y(0), z(0) {}
  __host__ __device__ Vec3(T a, T b, T c) : x{a}, y{b}, z{c} {}
  __host__ __device__ Vec3 operator+(const Vec3& o) const { return Vec3(x + o.x, y + o.y, z + o.z); }
  __host__ __device__ bool operator==(const Vec3& o) const { return x == o.x; }
  std::string str() const { return std::to_string(x); }
  static Vec3 random() { return Vec3(rand(), rand(), rand()); }
  friend std::ostream& operator<<(std::ostream& os, const Vec3& v) { os << v.x; return os; }
};
template <typename T> std::ostream& print(std::ostream& os, const Vec3<T>& v) { return os << v.x; }
struct Params { int n; float scale; Mode mode; };
inline int divUp(int a, int b) { return (a + b - 1) / b; }
static inline void *xmalloc(size_t n) { void *p = malloc(n); if (!p) { perror("malloc"); abort(); } return p; }
void __host__ hostonly(float* p, int n) { for (int i = 0; i < n; i++) p[i] = rand() / (float)RAND_MAX; }
auto lambda = [](int x) { return std::string(x, 'a'); };
std::map<std::string, std::function<int(int)>> registry = {{"a", [](int x) { return x; }}};
int (*fp)(int) = nullptr;
static std::unique_ptr<float[]> buf;
unsigned long long seed = time(NULL);
__device__ float dtable[4] = {1, 2, 3, 4};
__constant__ Params cparams;
namespace {
int anonymous = atoi("3");
template <class T> T readOption(const char* s) { return static_cast<T>(atof(s)); }
}
namespace app { namespace detail {
void log(const char* fmt, ...) { va_list a; va_start(a, fmt); vprintf(fmt, a); va_end(a); }
__device__ __forceinline__ float sq(float x) { return x * x; }
} }
__global__ void __launch_bounds__(kBlock) kernel(const float* in, float* out, Params p) {
  Vec3<float> v(in[threadIdx.x], divUp(p.n, 2), 1.f);
  v = v + Vec3<float>();
  float m = -INFINITY;
  for (int i = 0; i < 3; ++i) m = fmaxf(m, kTable[i]);
  out[threadIdx.x] = app::detail::sq(v.x) * p.scale + m + std::max(v.y, 1.0f) + (p.mode == Mode::Fast) + dtable[1];
}
template <int N> __global__ void tk(float* x) { x[threadIdx.x] *= N; }
template __global__ void tk<3>(float*);
void launch(float* a, float* b, cudaStream_t stream = 0) {
  Params p{3, 2.f, Mode::Fast};
  kernel<<<dim3(1), dim3(kBlock), 0, stream>>>(a, b, p);
  CUDA_CHECK(cudaGetLastError());
}
torch::Tensor forward(torch::Tensor x) { return x; }
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
int main(int argc, char **argv) try {
  Timer t;
  launch(nullptr, nullptr);
  printf("%s %f\n", sample, t.elapsed());
  std::cout << R"(raw "string" { )" << '\'' << std::endl;
  return 0;
} catch (const std::exception& e) {
  std::cerr << e.what();
  return 1;
}
