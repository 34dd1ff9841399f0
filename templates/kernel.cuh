{#- What every kernel starts with: index type, scalar helpers, arguments, the functions made from the Desc's programs.
    Arguments of the entry: one pointer per buffer in Desc order, then one long long per dynamic size; pointers are
    aligned to 256 bytes. -#}
typedef {{ index }} idx;
{% include "scalar.cuh" %}
namespace {

struct Args {
{%- for field in fields %}
    {{ field }}
{%- endfor %}
};

{{ functions }}
}  // namespace
