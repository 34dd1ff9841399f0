{#- Teams: several blocks share one item. Each leaves a state in scratch memory, and the block that arrives last joins the
    states in team order, so results do not depend on which block that is.
    Counters are zero before a launch, and zero again after it: the last arrival wraps them (atomicInc).
    **Source** CUDA C++ Programming Guide 13.0, "Memory Fence Functions", the example of a sum over blocks. -#}
namespace {

// True in all threads of the block that arrives last at `counter`; what the first threads of the team's blocks wrote
// before, or knew by a barrier, is visible to it.
__device__ __forceinline__ bool last_of_team(u32* counter, u32 team) {
    __shared__ u32 arrived;
    if (threadIdx.x == 0) {
        // What was written comes before it is counted, and what those counted before wrote comes before what follows: a fence
        // reaches what a barrier has brought its thread, and a barrier passes on what a fence has acquired.
        __threadfence();
        arrived = atomicInc(counter, team - 1);
        __threadfence();
    }
    __syncthreads();
    return arrived == team - 1;
}

}  // namespace
