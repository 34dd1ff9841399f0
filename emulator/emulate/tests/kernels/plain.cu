// Kernels as people write them, for one block or many: reductions, scans, histograms, transposes, conversions.
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cstdint>
#include <cassert>
#include <cstdio>
#include <cmath>
#include <algorithm>
#include <limits>

__global__ void reduce_shuffle(const float* x, float* out, int n) {
  __shared__ float partial[32];
  float sum = 0.f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += __ldg(&x[i]);
  for (int offset = warpSize / 2; offset > 0; offset >>= 1) sum += __shfl_down_sync(0xffffffff, sum, offset);
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = lane < (blockDim.x + 31) / 32 ? partial[lane] : 0.f;
    for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffff, sum, offset);
    if (lane == 0) atomicAdd(out, sum);
  }
}

// Work-efficient exclusive scan (Blelloch) in dynamic shared memory.
__global__ void scan_exclusive(const int* in, int* out, int n) {
  extern __shared__ int temp[];
  int t = threadIdx.x, offset = 1;
  temp[2 * t] = 2 * t < n ? in[2 * t] : 0;
  temp[2 * t + 1] = 2 * t + 1 < n ? in[2 * t + 1] : 0;
  int m = 2 * blockDim.x;
  for (int d = m >> 1; d > 0; d >>= 1) {
    __syncthreads();
    if (t < d) temp[offset * (2 * t + 2) - 1] += temp[offset * (2 * t + 1) - 1];
    offset *= 2;
  }
  if (t == 0) temp[m - 1] = 0;
  for (int d = 1; d < m; d *= 2) {
    offset >>= 1;
    __syncthreads();
    if (t < d) {
      int ai = offset * (2 * t + 1) - 1, bi = offset * (2 * t + 2) - 1, v = temp[ai];
      temp[ai] = temp[bi];
      temp[bi] += v;
    }
  }
  __syncthreads();
  if (2 * t < n) out[2 * t] = temp[2 * t];
  if (2 * t + 1 < n) out[2 * t + 1] = temp[2 * t + 1];
}

__global__ void histogram(const unsigned char* data, unsigned* bins, int n) {
  __shared__ unsigned local[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) atomicAdd(&local[data[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&bins[i], local[i]);
}

#define TILE 32
__global__ void transpose(const float* in, float* out, int width, int height) {
  __shared__ float tile[TILE][TILE + 1];
  int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
  for (int j = 0; j < TILE; j += blockDim.y)
    if (x < width && y + j < height) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * width + x];
  __syncthreads();
  x = blockIdx.y * TILE + threadIdx.x;
  y = blockIdx.x * TILE + threadIdx.y;
  for (int j = 0; j < TILE; j += blockDim.y)
    if (x < height && y + j < width) out[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
}

__global__ void half_math(const __half2* x, const __half2* y, __half2* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  __half2 a = x[i], b = y[i];
  out[4 * i] = __hfma2(a, b, __float2half2_rn(0.5f));
  out[4 * i + 1] = __hmax2(__hadd2(a, b), __hsub2(a, b));
  out[4 * i + 2] = h2exp2(__hmul2(a, __float2half2_rn(0.25f)));
  out[4 * i + 3] = __halves2half2(hsqrt(__habs(__low2half(a))), hrcp(__hadd(__habs(__high2half(b)), __float2half(1.f))));
}

__global__ void bf16_math(const __nv_bfloat16* x, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  __nv_bfloat16 a = x[i];
  __nv_bfloat162 two = __bfloat162bfloat162(a);
  out[4 * i] = __bfloat162float(__hadd(a, a));
  out[4 * i + 1] = __low2float(__hfma2(two, two, two));
  out[4 * i + 2] = __bfloat162float(__float2bfloat16(expf(__bfloat162float(a))));
  out[4 * i + 3] = __bfloat162float(__hmin(a, __float2bfloat16(0.25f)));
}

__device__ __noinline__ long long fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ __noinline__ void ackermann(unsigned m, unsigned n, unsigned* out) {
  if (m == 0) { *out = n + 1; return; }
  if (n == 0) { ackermann(m - 1, 1, out); return; }
  unsigned inner;
  ackermann(m, n - 1, &inner);
  ackermann(m - 1, inner, out);
}
__global__ void recursion(long long* fib, unsigned* ack) {
  int t = threadIdx.x;
  fib[t] = fibonacci(t % 13);
  unsigned v;
  ackermann(t % 3, t % 5, &v);
  ack[t] = v;
}

typedef float (*Unary)(float);
__device__ __noinline__ float twice(float x) { return 2.f * x; }
__device__ __noinline__ float square(float x) { return x * x; }
__device__ __noinline__ float negate(float x) { return -x; }
__device__ Unary table[3] = {twice, square, negate};
__global__ void function_pointers(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = table[i % 3](x[i]);
}

struct Shape {
  __device__ virtual float area() const = 0;
};
struct Square : Shape {
  float side;
  __device__ Square(float s) : side(s) {}
  __device__ float area() const override { return side * side; }
};
struct Circle : Shape {
  float radius;
  __device__ Circle(float r) : radius(r) {}
  __device__ float area() const override { return 3.f * radius * radius; }
};
__global__ void virtual_calls(const float* x, float* y, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  Square square(x[i]);
  Circle circle(x[i]);
  const Shape* shape = i & 1 ? (const Shape*)&circle : (const Shape*)&square;
  y[i] = shape->area();
}

__global__ void local_arrays(const int* in, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int sorted[16];
  for (int j = 0; j < 16; ++j) sorted[j] = in[i * 16 + j];
  for (int a = 1; a < 16; ++a) {
    int v = sorted[a], b = a - 1;
    while (b >= 0 && sorted[b] > v) { sorted[b + 1] = sorted[b]; --b; }
    sorted[b + 1] = v;
  }
  int pick = sorted[0] & 15;
  out[i * 2] = sorted[pick];
  out[i * 2 + 1] = sorted[15] - sorted[0];
}

__constant__ float weights[5] = {0.0625f, 0.25f, 0.375f, 0.25f, 0.0625f};
__global__ void stencil(const float* in, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float sum = 0.f;
#pragma unroll
  for (int j = -2; j <= 2; ++j) sum += weights[j + 2] * in[min(max(i + j, 0), n - 1)];
  out[i] = sum;
}

__global__ void doubles(const double* x, double* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  double v = x[i];
  out[8 * i] = sqrt(fabs(v));
  out[8 * i + 1] = exp(v);
  out[8 * i + 2] = log(fabs(v) + 1.0);
  out[8 * i + 3] = sin(v) * cos(v);
  out[8 * i + 4] = fma(v, v, -1.0);
  out[8 * i + 5] = v / 3.0;
  out[8 * i + 6] = pow(fabs(v) + 0.5, 1.7);
  out[8 * i + 7] = tanh(v) + atan2(v, 2.0);
}

__global__ void wide_atomics(unsigned long long* slots, double* sum, const unsigned long long* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(&slots[0], in[i]);
  atomicMax(&slots[1], in[i]);
  atomicMin(&slots[2], in[i]);
  atomicXor(&slots[3], in[i]);
  unsigned long long old = slots[4], seen;
  do { seen = old; old = atomicCAS(&slots[4], seen, seen + (in[i] & 7)); } while (seen != old);
  atomicAdd(sum, 0.5);
}

__global__ void votes(const int* in, unsigned* out) {
  int t = threadIdx.x, v = in[t];
  unsigned mask = __ballot_sync(~0u, v > 0);
  out[t * 8] = mask;
  out[t * 8 + 1] = __match_any_sync(~0u, v);
  int same;
  out[t * 8 + 2] = __match_all_sync(~0u, v, &same) + same;
  out[t * 8 + 3] = __reduce_add_sync(~0u, v);
  out[t * 8 + 4] = __syncthreads_count(v > 1);
  out[t * 8 + 5] = __syncthreads_and(v > -100) * 2 + __syncthreads_or(v == 3);
  out[t * 8 + 6] = __popc(__activemask());
  out[t * 8 + 7] = __fns(mask, 0, 2);
}

__global__ void switches(const int* in, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = in[i], r;
  switch (v) {
    case 0: r = 10; break;
    case 1: r = v * 3 + i; break;
    case 2: r = __clz(i + 1); break;
    case 3: r = __ffs(i); break;
    case 4: r = __brev(i) >> 8; break;
    case 5: r = __byte_perm(i, 0x01020304, 0x5140); break;
    case 6: r = __funnelshift_l(i, v, 7); break;
    case 7: r = __mulhi(i << 20, v << 20); break;
    case 8: r = __sad(i, v, 5); break;
    case 9: r = __dp4a(i * 0x01010101, 0x01020304, v); break;
    case 10: r = __vadd4(i * 0x01010101, 0x7f7f7f7f); break;
    default: r = -1;
  }
  out[i] = r;
}

__global__ void shifts(const unsigned long long* x, const int* by, unsigned long long* out, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  unsigned long long v = x[i];
  int s = by[i];
  out[6 * i] = v << s;
  out[6 * i + 1] = v >> s;
  out[6 * i + 2] = (unsigned long long)((long long)v >> s);
  out[6 * i + 3] = __umul64hi(v, v);
  out[6 * i + 4] = __popcll(v) + 100 * __clzll(v) + 10000 * __ffsll(v);
  out[6 * i + 5] = __brevll(v) ^ (v % 1000003ull) ^ (v / 7ull);
}

__global__ void talkative(const int* in, int* out, int n) {
  int i = threadIdx.x;
  long long start = clock64();
  if (i < n) {
    printf("%d is %d and %f\n", i, in[i], 0.5 * in[i]);
    __nanosleep(20);
    out[i] = in[i] + (clock64() >= start);
  }
}

__global__ void asserting(const int* in, int* out, int n) {
  int i = threadIdx.x;
  assert(i < n);
  assert(in[i] >= 0);
  out[i] = in[i];
}

__global__ void last_block(const int* in, int* partial, unsigned* counter, int* out) {
  __shared__ bool is_last;
  int sum = __reduce_add_sync(~0u, in[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    is_last = atomicInc(counter, gridDim.x) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 0) {
    int total = 0;
    for (int b = 0; b < gridDim.x; ++b) total += ((volatile int*)partial)[b];
    *out = total;
  }
}

template <typename T, int N> __global__ void axpy(T a, const T* x, T* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < N) y[i] = a * x[i] + y[i];
}
template __global__ void axpy<double, 50>(double, const double*, double*);

struct Particle { float3 position; float mass; int id; char flag; };
__global__ void structs(const Particle* in, Particle* out, float3 by, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  Particle p = in[i];
  p.position.x += by.x; p.position.y += by.y; p.position.z += by.z;
  p.id *= 2;
  p.flag = p.mass > 1.f ? 'y' : 'n';
  out[i] = p;
}

int main() {
  float *x, *y;
  cudaMalloc(&x, 400);
  cudaMalloc(&y, 4);
  reduce_shuffle<<<2, 64>>>(x, y, 100);
  cudaError_t error = cudaDeviceSynchronize();
  printf("%s\n", cudaGetErrorString(error));
  return 0;
}
