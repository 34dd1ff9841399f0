{#- Teams: several blocks share one item. Each leaves a state in scratch memory, and the block that arrives last joins the
    states in team order, so results do not depend on which block that is.
    Counters are zero before a launch, and zero again after it: the last arrival wraps them (atomicInc).
    **Source** CUDA C++ Programming Guide 13.0, "Memory Fence Functions", the example of a sum over blocks. -#}
namespace {

// True in all threads of the block that arrives last at `counter`; what the team's threads wrote before is visible to it.
__device__ __forceinline__ bool last_of_team(u32* counter, u32 team) {
    __shared__ u32 arrived;
    // Every thread's writes come before its block is counted.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) arrived = atomicInc(counter, team - 1);
    __syncthreads();
    __threadfence();
    return arrived == team - 1;
}

}  // namespace
