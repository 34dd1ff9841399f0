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
    ("math_constants.h", "#include <math.h>\n"),
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
    "string.h" from "host.h",
    "cstring" from "host.h",
    "iostream" from "host.h",
    "fstream" from "host.h",
    "sstream" from "host.h",
    "iomanip" from "host.h",
    "string" from "host.h",
    "vector" from "host.h",
    "map" from "host.h",
    "random" from "host.h",
    "chrono" from "host.h",
    "ctime" from "host.h",
    "time.h" from "host.h",
    "sys/time.h" from "host.h",
    "unistd.h" from "host.h",
    "numeric" from "host.h",
    "functional" from "host.h",
    "memory" from "host.h",
    "stdexcept" from "host.h",
    "cublas_v2.h" from "host.h",
    "curand.h" from "host.h",
    "device_launch_parameters.h" from "host.h",
    "vector_types.h" from "host.h",
    "vector_functions.h" from "host.h",
    "device_functions.h" from "host.h",
    "sm_20_intrinsics.h" from "host.h",
    "driver_types.h" from "cuda_runtime.h",
    "cuda.h" from "cuda.h",
    "cudaTypedefs.h" from "cudaTypedefs.h",
    "cooperative_groups.h" from "cooperative_groups.h",
    "mma.h" from "mma.h",
    "cuda_pipeline.h" from "cuda_pipeline.h",
    "cuda/barrier" from "cuda_barrier",
    "cuda/ptx" from "cuda_ptx",
    "cuda/std/type_traits" from "cuda_std",
    "cuda/atomic" from "cuda_atomic",
};

/// All of them, by the name they are included under.
pub(crate) fn all() -> Vec<(&'static str, &'static str)> {
    HEADERS.iter().chain(ALIASES).copied().collect()
}
