//! Which headers does a foreign text find without a CUDA toolkit? Small stand-ins, one table.

/// Second names of headers.
const ALIASES: &[(&str, &str)] = &[
    ("cstdint", "#include <stdint.h>\n"),
    ("cuda/std/cstdint", "#include <stdint.h>\n"),
    ("cstddef", "#include <stddef.h>\n"),
    ("cassert", "#include <assert.h>\n"),
    ("climits", "#include <limits.h>\n"),
    ("cfloat", "#include <float.h>\n"),
    ("cmath", "#include <math.h>\n"),
    ("stdbool.h", ""),
    ("initializer_list", ""),
    ("inttypes.h", "#include <stdint.h>\n"),
    ("cinttypes", "#include <stdint.h>\n"),
    ("cuda/std/cmath", "#include <math.h>\n"),
    ("cuda/std/climits", "#include <limits.h>\n"),
    ("cuda/std/cfloat", "#include <float.h>\n"),
    ("cuda/std/cstddef", "#include <stddef.h>\n"),
    ("cuda/std/cassert", "#include <assert.h>\n"),
    ("cuda/std/initializer_list", ""),
    ("cstdio", "#include <stdio.h>\n"),
    ("cstdlib", "#include <stdlib.h>\n"),
    ("cuda_runtime.h", "#include <driver_types.h>\n"),
    ("cuda_runtime_api.h", "#include <driver_types.h>\n"),
    ("cooperative_groups/reduce.h", "#include <cooperative_groups.h>\n"),
    ("cooperative_groups/scan.h", "#include <cooperative_groups.h>\n"),
    ("cooperative_groups/memcpy_async.h", "#include <cooperative_groups.h>\n"),
    ("cuda_pipeline_primitives.h", "#include <cuda_pipeline.h>\n"),
    ("cuda/std/utility", "#include <cuda/std/type_traits>\n"),
    ("cuda/std/limits", "#include <cuda/std/type_traits>\n"),
    ("cuda/std/array", "#include <cuda/std/type_traits>\n"),
    ("cuda/std/algorithm", "#include <cuda/std/type_traits>\n"),
    ("cuda/std/atomic", "#include <cuda/atomic>\n"),
];

macro_rules! headers {
    ($($name:literal from $file:literal,)*) => {
        &[$(($name, include_str!(concat!("../headers/", $file))),)*]
    };
}

/// Headers by the name they are included under.
const HEADERS: &[(&str, &str)] = headers! {
    "stdint.h" from "stdint.h",
    "stddef.h" from "stddef.h",
    "assert.h" from "assert.h",
    "limits.h" from "limits.h",
    "float.h" from "float.h",
    "math.h" from "math.h",
    "stdio.h" from "stdio.h",
    "stdlib.h" from "stdlib.h",
    "limits" from "limits",
    "type_traits" from "type_traits",
    "utility" from "utility",
    "algorithm" from "algorithm",
    "array" from "array",
    "math_constants.h" from "math_constants.h",
    "enel/before.h" from "before.h",
    "enel/host.h" from "host.h",
    "driver_types.h" from "cuda_runtime.h",
    "cuda.h" from "cuda.h",
    "cudaTypedefs.h" from "cudaTypedefs.h",
    "cooperative_groups.h" from "cooperative_groups.h",
    "mma.h" from "mma.h",
    "cuda_pipeline.h" from "cuda_pipeline.h",
    "enel/async.h" from "async.h",
    "cuda/pipeline" from "cuda_pipeline",
    "cuda/barrier" from "cuda_barrier",
    "cuda/ptx" from "cuda_ptx",
    "cuda/std/type_traits" from "cuda_std",
    "cuda/atomic" from "cuda_atomic",
};

/// What is read before every text.
pub(crate) const BEFORE: &str = "enel/before.h";

/// Headers whose own content only host code uses, or is built in.
const HOST: &[&str] = &[
    "any",
    "atomic",
    "barrier",
    "bit",
    "bitset",
    "cctype",
    "cerrno",
    "cfenv",
    "charconv",
    "chrono",
    "climits.h",
    "complex",
    "complex.h",
    "concepts",
    "condition_variable",
    "csignal",
    "cstdarg",
    "cstring",
    "ctime",
    "ctype.h",
    "cwchar",
    "deque",
    "errno.h",
    "exception",
    "execution",
    "fcntl.h",
    "fenv.h",
    "filesystem",
    "format",
    "forward_list",
    "fstream",
    "functional",
    "future",
    "getopt.h",
    "iomanip",
    "ios",
    "iosfwd",
    "iostream",
    "istream",
    "iterator",
    "list",
    "locale",
    "malloc.h",
    "map",
    "memory",
    "memory.h",
    "mutex",
    "new",
    "numbers",
    "numeric",
    "omp.h",
    "optional",
    "ostream",
    "pthread.h",
    "queue",
    "random",
    "ranges",
    "ratio",
    "regex",
    "semaphore",
    "set",
    "shared_mutex",
    "signal.h",
    "source_location",
    "span",
    "sstream",
    "stack",
    "stdarg.h",
    "stdexcept",
    "streambuf",
    "string",
    "string.h",
    "string_view",
    "strings.h",
    "sys/mman.h",
    "sys/stat.h",
    "sys/time.h",
    "sys/types.h",
    "system_error",
    "thread",
    "time.h",
    "tuple",
    "typeindex",
    "typeinfo",
    "unistd.h",
    "unordered_map",
    "unordered_set",
    "valarray",
    "variant",
    "vector",
    "version",
    // Of the toolkit and its libraries.
    "channel_descriptor.h",
    "cuda_device_runtime_api.h",
    "cuda_profiler_api.h",
    "cufft.h",
    "curand.h",
    "cusolverDn.h",
    "cusparse.h",
    "device_atomic_functions.h",
    "device_functions.h",
    "device_launch_parameters.h",
    "device_types.h",
    "helper_cuda.h",
    "helper_functions.h",
    "helper_string.h",
    "helper_timer.h",
    "host_defines.h",
    "mpi.h",
    "nccl.h",
    "nvToolsExt.h",
    "nvtx3/nvToolsExt.h",
    "nvrtc.h",
    "sm_20_intrinsics.h",
    "sm_30_intrinsics.h",
    "sm_35_intrinsics.h",
    "vector_functions.h",
    "vector_types.h",
];

/// Libraries of host code whose headers bring the short floats along.
const WITH_HALVES: &[&str] = &["cublas.h", "cublasLt.h", "cublas_v2.h", "cudnn.h", "cudnn_frontend.h", "cusparseLt.h"];

/// What stands for a header of which only host code needs more.
pub(crate) const NOTHING: &str = "#include <enel/host.h>\n";

/// All of them, by the name they are included under.
pub(crate) fn all() -> Vec<(&'static str, &'static str)> {
    let host = HOST.iter().map(|&name| (name, NOTHING));
    let halves = "#include <enel/host.h>\n#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n";
    let with_halves = WITH_HALVES.iter().map(|&name| (name, halves));
    HEADERS.iter().chain(ALIASES).copied().chain(host).chain(with_halves).collect()
}

/// Whether only host code needs more of a header than its stand-in.
pub(crate) fn is_host(name: &str) -> bool {
    HOST.contains(&name) || WITH_HALVES.contains(&name)
}

/// Whether a header has a stand-in that device code uses.
pub(crate) fn is_device(name: &str) -> bool {
    HEADERS.iter().chain(ALIASES).any(|(known, _)| *known == name)
}
