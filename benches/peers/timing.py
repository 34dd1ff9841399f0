"""How long does a PyTorch workload take, and how much memory does it hold?

Law: a run that counts follows at least one that does not, and on a GPU nothing is read before the device is done.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options every peer shares."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="of weights and features")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0 leaves PyTorch's choice")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="timed runs; the median counts")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="runs before those that count")
    parser.add_argument("--compile", action="store_true", help="torch.compile what is timed")
    parser.add_argument("--cuda-graph", action="store_true", help="record the run and replay it; cuda only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--check", nargs="?", const="", metavar="DIR",
        help="compute no time; compare the peer with itself done another way, and with golden values in DIR",
    )


def prepare(args: argparse.Namespace) -> torch.device:
    """Sets threads and seed, and opens the device."""
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit("no CUDA device: torch.cuda.is_available() is false")
        # Our f32 mode multiplies in f32; so does the peer's.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    elif args.cuda_graph:
        sys.exit("--cuda-graph needs --device cuda")
    return device


def measure(run, args: argparse.Namespace, device: torch.device) -> dict:
    """Times `run`, a function without arguments, and returns what a report needs."""
    base_bytes = held_bytes()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    # The first runs compile, the second of them what the first has left open.
    for _ in range(max(args.warmup, 2 if args.compile else 1)):
        run()
    if args.cuda_graph:
        run = recorded(run)
    once = seconds_by_events if device.type == "cuda" else seconds_by_clock
    times = [once(run) for _ in range(args.repeat)]
    on_gpu = device.type == "cuda"
    return {
        "median_s": statistics.median(times),
        "min_s": min(times),
        "max_s": max(times),
        "times_s": times,
        "repeat": args.repeat,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else peak_bytes(),
        "before_bytes": base_bytes,
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "dtype": args.dtype,
        "threads": torch.get_num_threads(),
        "compile": args.compile,
        "cuda_graph": args.cuda_graph,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def report(result: dict, as_json: bool) -> None:
    """Prints the result: one JSON object, or three lines."""
    if as_json:
        print(json.dumps(result))
        return
    kind = " ".join(str(result[key]) for key in ("work", "config", "form", "dtype") if result.get(key))
    print(f"{kind} on {result['device']}, {result['threads']} threads, torch {result['torch']}")
    print(f"  median {result['median_s'] * 1e3:10.3f} ms   (min {result['min_s'] * 1e3:.3f}, max {result['max_s'] * 1e3:.3f})")
    print(f"  memory {result['peak_bytes'] / 2**20:10.1f} MiB peak")


def seconds_by_clock(run) -> float:
    """Wall time of one run on the host."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def seconds_by_events(run) -> float:
    """Time on the device from an idle start to the last kernel's end, launches included."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def recorded(run):
    """Replays what `run` launches, without the launches' cost on the host."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def peak_bytes() -> int:
    """Largest resident size of this process so far; 0 where unknown. Source: proc(5), VmHWM."""
    return _status("VmHWM:")


def held_bytes() -> int:
    """Resident size of this process now; 0 where unknown. Source: proc(5), VmRSS."""
    return _status("VmRSS:")


def _status(key: str) -> int:
    # Not getrusage: its maximum outlives exec, so a large parent would be counted.
    if not os.path.exists("/proc/self/status"):
        return 0
    with open("/proc/self/status", encoding="ascii") as lines:
        found = [line.split()[1] for line in lines if line.startswith(key)]
    return int(found[0]) * 1024 if found else 0
