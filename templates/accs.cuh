{#- The accumulators of one outer point, together; `element` gives what each of them takes. -#}
namespace {

struct Accs {
{%- for acc in accs %}
    {{ acc }} acc{{ loop.index0 }};
{%- endfor %}
    __device__ __forceinline__ void init() {
{%- for acc in accs %}
        acc{{ loop.index0 }}.init();
{%- endfor %}
    }
    __device__ __forceinline__ void add(const Args& a, idx o, idx i) {
{%- for kind in kinds %}
        {{ kind }} v{{ loop.index0 }};
{%- endfor %}
        element(a, o, i{% for acc in accs %}, v{{ loop.index0 }}{% endfor %});
{%- for acc in accs %}
        acc{{ loop.index0 }}.add(v{{ loop.index0 }}, i);
{%- endfor %}
    }
    __device__ __forceinline__ void merge(const Accs& other) {
{%- for acc in accs %}
        acc{{ loop.index0 }}.merge(other.acc{{ loop.index0 }});
{%- endfor %}
    }
    __device__ __forceinline__ Accs at_lane(int mask) const {
        Accs other;
{%- for acc in accs %}
        other.acc{{ loop.index0 }} = acc{{ loop.index0 }}.at_lane(mask);
{%- endfor %}
        return other;
    }
};

}  // namespace
