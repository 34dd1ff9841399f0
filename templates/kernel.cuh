{#- What every part of a kernel starts with: index type, arguments, the functions made from the Desc's programs. Scalar
    helpers (scalar.cuh) stand before all parts. Buffers are aligned to 256 bytes. -#}
typedef {{ index }} idx;
namespace {

struct Args {
{%- for field in fields %}
    {{ field }}
{%- endfor %}
};

{{ functions }}
}  // namespace
