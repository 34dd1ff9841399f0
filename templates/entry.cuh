extern "C" __global__ void __launch_bounds__({{ threads }}) {{ entry }}({{ params }}) {
    const Args a = { {{ names }} };
