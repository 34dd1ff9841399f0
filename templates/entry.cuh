extern "C" __global__ void __launch_bounds__({{ threads }}, 1) {{ entry }}({{ params }}) {
    const Args a = { {{ names }} };
