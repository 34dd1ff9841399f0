"""How fast can this device copy memory and multiply matrices at best? One JSON object, measured with PyTorch.

Law: data are random (products of zeros run faster than any user's), memory touched is far larger than caches, and the
median of many runs counts, timed on the device.

    python ceilings.py --device cuda
"""

import argparse
import json
import statistics
import sys
import time

import torch

# Elements copied and rows of square matrices: large enough to fill a data-centre card, and what two cores do in seconds.
SIZES = {"cuda": (1 << 28, 8192), "cpu": (1 << 24, 512)}
REPEAT = {"cuda": 20, "cpu": 5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=SIZES, default="cuda")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device: torch.cuda.is_available() is false")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    n_elems, n_rows = SIZES[args.device]
    print(json.dumps({
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "copy_gb_per_s": copy_rate(n_elems, args.device),
        "bf16_tflops": product_rate(n_rows, torch.bfloat16, args.device),
        "f32_tflops": product_rate(n_rows // 2, torch.float32, args.device),
        "launch_us": launch_time(args.device),
    }))
    return 0


def copy_rate(n_elems: int, device: str) -> float:
    """GB/s of a copy, what is read and what is written both counted."""
    source = torch.rand(n_elems, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * n_elems / median_seconds(lambda: target.copy_(source), device) / 1e9


def product_rate(n: int, dtype: torch.dtype, device: str) -> float:
    """TFLOP/s of a square product."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / median_seconds(lambda: a @ b, device) / 1e12


def launch_time(device: str, n: int = 200) -> float:
    """Microseconds from one small kernel to the next when many are launched one by one."""
    x = torch.zeros(32, device=device)

    def many():
        for _ in range(n):
            x.add_(1)

    return 1e6 * median_seconds(many, device) / n


def median_seconds(run, device: str) -> float:
    """Median time of a run, after three that do not count."""
    for _ in range(3):
        run()
    once = seconds_by_events if device == "cuda" else seconds_by_clock
    return statistics.median(once(run) for _ in range(REPEAT[device]))


def seconds_by_events(run) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def seconds_by_clock(run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
