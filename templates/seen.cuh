{#- What a token sees: its range of rows, cut to those there are. Wants functions low and high. -#}
namespace {

__device__ __forceinline__ void seen_by(const Args& a, idx token, idx n_keys, idx& from, idx& to) {
    const long long low_t = low(a, token), high_t = high(a, token);
    from = (idx)(low_t < 0 ? 0 : (low_t > n_keys ? n_keys : low_t));
    to = (idx)(high_t < 0 ? 0 : (high_t > n_keys ? n_keys : high_t));
}

}  // namespace
