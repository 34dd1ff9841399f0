{#- Part `member` of TEAM of the keys of item `item` (token, head) meets its query. Leaves `top`, `total` and, per warp w,
    weight[w] and os[w * D + c], so that sum_w os[w * D + c] * weight[w] / total is the result over these keys; the item
    sees the keys `first` to `last`.
    Warp w takes every WARPS-th group of AHEAD keys, its lanes split the channels; warps merge in order.
    smem, f32: ms [WARPS], sums [WARPS], os [WARPS][D]. Sync: one block barrier before the merge. -#}
    extern __shared__ float4 smem[];
    float* ms = reinterpret_cast<float*>(smem);
    float* sums = ms + WARPS;
    float* os = sums + WARPS;
    const float minus_inf = __int_as_float(0xff800000);
    const int tid = thread_index(), warp = tid / 32, lane = tid % 32;
    const int h = (int)(item % HEADS), g = h * GROUPS / HEADS;
    const idx t = (idx)(item / HEADS), n_keys = keys_size(a);
    const long long low_t = low(a, t), high_t = high(a, t);
    const idx first = (idx)(low_t < 0 ? 0 : (low_t > n_keys ? n_keys : low_t));
    const idx last = (idx)(high_t < 0 ? 0 : (high_t > n_keys ? n_keys : high_t));
    const idx stretch = last > first ? (last - first + TEAM - 1) / TEAM : 0;
    const idx from = first + stretch * member, to = from + stretch < last ? from + stretch : last;
    float x[D_EACH], o[D_EACH], m = minus_inf, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < D_EACH; ++i) {
        const int c = lane + i * 32;
        x[i] = c < D ? query_at(a, t, h, c) : 0.0f;
        o[i] = 0.0f;
    }
    for (idx key0 = from + warp * AHEAD; key0 < to; key0 += WARPS * AHEAD) {
        float s[AHEAD], top = minus_inf;
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            float dot = 0.0f;
#pragma unroll
            for (int i = 0; i < D_EACH; ++i) {
                const int c = lane + i * 32;
                if (key0 + j < to && (D % 32 == 0 || c < D)) dot = fmaf(x[i], key_at(a, key0 + j, g, c), dot);
            }
            s[j] = dot;
        }
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) s[j] += __shfl_xor_sync(0xffffffffu, s[j], mask);
            s[j] = key0 + j < to ? s[j] * {{ scale }} : minus_inf;
            top = fmaxf(top, s[j]);
        }
        const float m_new = fmaxf(m, top);
        const float keep = m == minus_inf ? 0.0f : expf(m - m_new);
        sum *= keep;
#pragma unroll
        for (int i = 0; i < D_EACH; ++i) o[i] *= keep;
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            const float p = s[j] == minus_inf ? 0.0f : expf(s[j] - m_new);
            sum += p;
#pragma unroll
            for (int i = 0; i < D_EACH; ++i) {
                const int c = lane + i * 32;
                if (key0 + j < to && (D % 32 == 0 || c < D)) o[i] = fmaf(p, value_at(a, key0 + j, g, c), o[i]);
            }
        }
        m = m_new;
    }
    if (lane == 0) {
        ms[warp] = m;
        sums[warp] = sum;
    }
#pragma unroll
    for (int i = 0; i < D_EACH; ++i) {
        const int c = lane + i * 32;
        if (c < D) os[warp * D + c] = o[i];
    }
    __syncthreads();
    float top = minus_inf, total = 0.0f, weight[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; ++w) top = fmaxf(top, ms[w]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        weight[w] = ms[w] == minus_inf ? 0.0f : expf(ms[w] - top);
        // A warp of NaN scores keeps the maximum minus infinity and has a NaN sum.
        total += ms[w] == minus_inf && sums[w] == 0.0f ? 0.0f : sums[w] * weight[w];
    }
