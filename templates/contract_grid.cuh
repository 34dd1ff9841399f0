{#- How many steps of BK has the summed axis, and which tile is this block's? Blocks run in groups of 8 row tiles, rows fastest, so that neighbours share both
    operands in the second-level cache. -#}
namespace {

__device__ __forceinline__ idx summed_steps(const Args& a) {
    return (summed_size(a) + BK - 1) / BK;
}

struct Place {
    idx batch, row_tile, col_tile;
};

__device__ __forceinline__ Place block_place(u32 block, idx row_tiles, idx col_tiles) {
    const idx group = 8;
    const idx per_batch = row_tiles * col_tiles;
    const idx batch = (idx)block / per_batch;
    const idx t = (idx)block - batch * per_batch;
    const idx first = t / (group * col_tiles) * group;
    const idx height = row_tiles - first < group ? row_tiles - first : group;
    const idx inside = t - first * col_tiles;
    return {batch, first + inside % height, inside / height};
}

}  // namespace
