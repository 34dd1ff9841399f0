{#- The work of one block; `block` counts the part's own blocks. Threads beyond the part's own number never call it. -#}
__device__ __forceinline__ void run(const Args& a, const u32 block) {
    __builtin_assume(block <= 0x7fffffffu);
