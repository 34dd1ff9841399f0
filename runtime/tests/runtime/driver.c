/* A stand-in for NVIDIA's driver that runs one kernel, `add_one`, on the host, for tests of the calls made of it.

   Memory is the host's. Machine code is whatever is an ELF file. Calls recorded by a capture are kept and replayed with
   their addresses. Each misuse the real driver would refuse, or silently get wrong, is said on stderr as `misuse: ...`.
   STAND_IN_VERSION, STAND_IN_MAJOR: CUDA and compute capability; STAND_IN_REFUSE: no machine code loads; STAND_IN_FAULT=n:
   the n-th launch faults, and everything after it fails. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, NO_CONTEXT = 201, NO_BINARY = 209, ILLEGAL_ADDRESS = 700 };
enum { SHARED_STATIC = 1024, SHARED_LIMIT = 232448, MAX_CALLS = 256 };

typedef struct { int kind; uint64_t to, from; size_t size; } Call; /* kind: 0 add_one, 1 copy, 2 fill */
typedef struct { Call calls[MAX_CALLS]; int n; } Graph;
typedef struct { int is_add_one; int dynamic_shared; } Function;

static void *current;
static Graph *capture;
static int faulted;
static long n_launches, n_allocated, n_modules, n_events, n_graphs;

static int number(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }
static void misuse(const char *what) { fprintf(stderr, "misuse: %s\n", what); }
#define READY(outside_capture)                                          \
    if (!current) { misuse("no context is current"); return NO_CONTEXT; } \
    if (outside_capture && capture) misuse("a call that a capture forbids"); \
    if (faulted) return ILLEGAL_ADDRESS

/* The library is opened and closed once before it is used, so only an end with work behind it counts. */
__attribute__((destructor)) static void end(void) {
    if (n_launches) fprintf(stderr, "left: %ld allocations, %ld modules, %ld events, %ld graphs\n", n_allocated, n_modules, n_events, n_graphs);
}

static void perform(const Call *call) {
    if (call->kind == 1) memcpy((void *)call->to, (void *)call->from, call->size);
    if (call->kind == 2) memset((void *)call->to, (int)call->from, call->size);
    for (size_t i = 0; call->kind == 0 && i < call->size; i++) ((float *)call->to)[i] = ((float *)call->from)[i] + 1;
}

static int take(Call call) {
    if (!capture) perform(&call);
    else if (capture->n < MAX_CALLS) capture->calls[capture->n++] = call;
    return OK;
}

int cuInit(unsigned flags) { (void)flags; return OK; }
int cuDriverGetVersion(int *version) { *version = number("STAND_IN_VERSION", 13000); return OK; }
int cuDeviceGetCount(int *n) { *n = 1; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, (size_t)size, "Stand-in"); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? number("STAND_IN_MAJOR", 9) : attribute == 76 ? 0 : attribute == 97 ? SHARED_LIMIT : 1;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = &current; return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
int cuCtxGetCurrent(void **context) { *context = current; return OK; }
int cuCtxSetCurrent(void *context) { current = context; return OK; }
int cuCtxSynchronize(void) { READY(1); return OK; }
int cuGetErrorName(int error, const char **name) {
    *name = error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == NO_BINARY ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR";
    return OK;
}
int cuGetErrorString(int error, const char **text) { (void)error; *text = "as said"; return OK; }

int cuStreamCreate(void **stream, unsigned flags) { (void)flags; READY(1); *stream = &capture; return OK; }
int cuStreamDestroy_v2(void *stream) { (void)stream; return OK; }
int cuStreamSynchronize(void *stream) { (void)stream; READY(1); return OK; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    READY(1);
    if (size == 0) return INVALID_VALUE;
    *address = (uint64_t)(uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);
    memset((void *)*address, 0xcd, size);
    n_allocated++;
    return OK;
}
int cuMemFree_v2(uint64_t address) { READY(1); free((void *)address); n_allocated--; return OK; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    (void)stream;
    READY(1);
    memcpy((void *)to, from, size);
    return OK;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    (void)stream;
    READY(1);
    memcpy(to, (void *)from, size);
    return OK;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
    (void)stream;
    READY(0);
    return take((Call){1, to, from, size});
}
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t size, void *stream) {
    (void)stream;
    READY(0);
    return take((Call){2, to, byte, size});
}

int cuModuleLoadData(void **module, const char *image) {
    READY(1);
    int is_machine_code = memcmp(image, "\x7f" "ELF", 4) == 0;
    if (is_machine_code && getenv("STAND_IN_REFUSE")) return NO_BINARY;
    fprintf(stderr, "loaded: %s\n", is_machine_code ? "machine code" : "text");
    *module = malloc(1);
    n_modules++;
    return OK;
}
int cuModuleUnload(void *module) { free(module); n_modules--; return OK; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    READY(1);
    static Function found; /* One kernel: one function, whichever module it is asked of. */
    found.is_add_one = strcmp(name, "add_one") == 0;
    *function = &found;
    return OK;
}
int cuFuncGetAttribute(int *value, int attribute, void *function) {
    (void)function;
    *value = attribute == 1 ? SHARED_STATIC : 0;
    return OK;
}
int cuFuncSetAttribute(Function *function, int attribute, int value) {
    if (attribute == 8) function->dynamic_shared = value;
    return value + SHARED_STATIC > SHARED_LIMIT ? INVALID_VALUE : OK;
}
int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    (void)stream, (void)extra;
    READY(0);
    if (!function->is_add_one || gx * gy * gz == 0 || bx * by * bz == 0 || bx * by * bz > 1024) return INVALID_VALUE;
    if (shared + SHARED_STATIC > 48u << 10 && (int)shared > function->dynamic_shared) {
        misuse("shared memory that was not asked for");
        return INVALID_VALUE;
    }
    if (++n_launches == number("STAND_IN_FAULT", -1)) { faulted = 1; return OK; }
    int64_t n = *(int64_t *)params[2];
    if ((int64_t)gx * bx < n) misuse("a grid that leaves elements out");
    return take((Call){0, *(uint64_t *)params[1], *(uint64_t *)params[0], (size_t)n});
}

int cuStreamBeginCapture_v2(void *stream, int mode) {
    (void)stream, (void)mode;
    READY(1);
    capture = calloc(1, sizeof(Graph));
    n_graphs++;
    return OK;
}
int cuStreamEndCapture(void *stream, void **graph) { (void)stream; *graph = capture; capture = NULL; return OK; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    (void)flags;
    READY(1);
    *executable = graph;
    return OK;
}
int cuGraphLaunch(Graph *graph, void *stream) {
    (void)stream;
    READY(1);
    fprintf(stderr, "replayed\n");
    for (int i = 0; i < graph->n; i++) perform(&graph->calls[i]);
    return OK;
}
int cuGraphExecDestroy(void *executable) { (void)executable; return OK; }
int cuGraphDestroy(void *graph) { free(graph); n_graphs--; return OK; }

int cuEventCreate(void **event, unsigned flags) {
    READY(1);
    if (flags & 2) misuse("an event without times");
    *event = malloc(1);
    n_events++;
    return OK;
}
int cuEventDestroy_v2(void *event) { free(event); n_events--; return OK; }
int cuEventRecord(void *event, void *stream) { (void)event, (void)stream; READY(0); return OK; }
int cuEventSynchronize(void *event) { (void)event; READY(1); return OK; }
int cuEventElapsedTime_v2(float *ms, void *begin, void *end) { (void)begin, (void)end; READY(1); *ms = 0.25f; return OK; }
