{#- Ranks of elements, which rise with what is wanted later: an expression of the value, or the squared distance of a
    point to its query, every product and sum rounded on its own or by one fma, as the host does it. Wants select.cuh. -#}
namespace {
{% if rank %}
struct Asked {};

__device__ __forceinline__ Asked asked_by(const Args&, idx) { return {}; }

__device__ __forceinline__ {{ rank_type }} rank_at(const Args& a, idx o, const Asked&, idx i) { return {{ rank }}; }
{% else %}
// The query.
struct Asked {
    float x[3];
};

// All lanes of a warp call it.
__device__ __forceinline__ Asked asked_by(const Args& a, idx o) {
    const idx b = o / queries_size(a), g = o % queries_size(a);
    Asked asked;
    read_point([&](int c) { return query(a, b, g, c); }, asked.x);
    return asked;
}

// Three loads of a warp touch the same sectors, which the first-level cache has by the second: dealing them out by
// shuffles, as fps does once, would take more instructions here than it saves.
__device__ __forceinline__ u32 rank_at(const Args& a, idx o, const Asked& asked, idx i) {
    const idx b = o / queries_size(a);
    const float dx = __fsub_rn(asked.x[0], point(a, b, i, 0));
    const float dy = __fsub_rn(asked.x[1], point(a, b, i, 1));
    const float dz = __fsub_rn(asked.x[2], point(a, b, i, 2));
    // No distance is negative, so its bits rise with it.
    return __float_as_uint(__fmaf_rn(dz, dz, __fmaf_rn(dy, dy, __fmul_rn(dx, dx))));
}
{% endif %}
}  // namespace
