{#- What every part of a kernel starts with: index type, arguments, the functions made from the Desc's programs. Scalar
    helpers (scalar.cuh) stand before all parts. Buffers are aligned to 256 bytes. -#}
typedef {{ index }} idx;
namespace {

struct Args {
{%- for field in fields %}
    {{ field }}
{%- endfor %}
};

// This thread's number; told that it lies inside the block, the compiler divides it by a shift.
__device__ __forceinline__ int thread_index() {
    const int i = (int)threadIdx.x;
    __builtin_assume(i >= 0 && i < {{ threads }});
    return i;
}

{{ functions }}
}  // namespace
