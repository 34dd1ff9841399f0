{#- The head of the entry. The number of resident blocks is always said: left to guess, the assembler has spilled. -#}
extern "C" __global__ void __launch_bounds__({{ threads }}, {{ blocks }}) {{ entry }}({{ params }}) {
    const Args a = { {{ names }} };
