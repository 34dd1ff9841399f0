"""What is checked on a device, in which order, with how much time? Steps are data: commands, limits, and how to read them.

Law: what proves comes before what times, and each step is a process of its own: a kernel that faults ends its process's
hold on the card, and must not take the steps after it along.
"""

import dataclasses
import pathlib

FAMILIES = ("map", "reduce", "contract", "attention", "attention_grad", "fps", "knn", "topk", "scatter")
# A family or golden case is checked beside others; more at once would wait for each other's compilations.
MOST_AT_ONCE = 8
SLOWEST = 10


@dataclasses.dataclass(frozen=True)
class Step:
    """One process: what it runs, for how long at most, and what its JSON object says."""

    name: str
    command: tuple
    limit_s: float
    # JSON object to (good, one line, what of it is kept).
    read: object
    # Facts without which it is skipped: `device`, `nvrtc`, `torch`.
    needs: tuple = ("device",)
    # The file its JSON object is in; standard output where there is none.
    output: pathlib.Path | None = None
    # Set for this process on top of what all have.
    variables: tuple = ()


@dataclasses.dataclass(frozen=True)
class Group:
    """Steps that share a time limit and may run beside each other."""

    name: str
    limit_s: float
    at_once: int
    steps: tuple


@dataclasses.dataclass(frozen=True)
class Place:
    """Where everything lies, and what it runs on."""

    device: str
    bin: pathlib.Path
    bundles: pathlib.Path
    golden: pathlib.Path
    scripts: pathlib.Path
    scratch: pathlib.Path
    python: str
    cores: int
    # How often ours and PyTorch's take turns, where it is asked for.
    rounds: int | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is drawn, computed and timed."""

    cases: int
    bundle_cases: int
    bundle_work: int
    bundles: tuple | None
    golden: tuple
    # What is timed beside PyTorch, and how.
    works: tuple
    bench: tuple
    rounds: int
    # (work, preset, mode, more) whose kernels are timed one by one.
    kernels: tuple


CARD = Sizes(
    cases=24,
    bundle_cases=4,
    # Millions: enough for the largest kernel of all bundles at its smallest.
    bundle_work=50,
    bundles=None,
    golden=("a_*", "b_*", "c_*", "d_*", "e_*", "f_*", "g_*", "j_*"),
    works=("embed", "prefill", "decode", "train-step"),
    bench=("--repeat", "30"),
    rounds=2,
    kernels=(
        ("embed", "enel-7b", "f32", ()), ("embed", "enel-7b", "bf16", ()), ("prefill", "llama-110m", "bf16", ()),
        ("decode", "llama-110m", "bf16", ()), ("train-step", "small", "bf16", ("--clouds", "4", "--tokens", "192")),
        ("prefill", "enel-7b", "bf16", ()), ("decode", "enel-7b", "bf16", ()),
    ),
)
# What an emulator does in minutes on two cores; PyTorch is timed on the host, small, to show that the way there works.
EMULATED = Sizes(
    cases=4,
    bundle_cases=1,
    bundle_work=8,
    bundles=("families-f32", "families-bf16"),
    golden=("a_token_eval_b1", "f_llama_hd16", "g_*"),
    works=("embed", "prefill", "decode"),
    bench=("--repeat", "2", "--config", "small", "--embed-config", "small", "--tokens", "32"),
    rounds=1,
    kernels=(("decode", "tiny", "f32", ("--tokens", "8")),),
)


def groups(place: Place) -> list:
    """All steps, in order."""
    sizes = CARD if place.on_gpu else EMULATED
    at_once = max(1, min(MOST_AT_ONCE, place.cores // 2))
    # What is proved keeps a core each: the largest bundles first, so that none is left for the end.
    proofs = [verify_bundle(place, sizes, path) for path in carried(place, sizes)]
    proofs += [verify_family(place, sizes, name) for name in FAMILIES]
    proofs += [golden(place, sizes, glob) for glob in sizes.golden]
    return [
        Group("ceilings", 60, 1, (ceilings(place),)),
        Group("proofs", 180, at_once, tuple(proofs)),
        Group("beside PyTorch", 280, 1, tuple(bench(place, sizes, work) for work in sizes.works)),
        Group("slowest kernels", 80, 1, tuple(kernels(place, *what) for what in sizes.kernels)),
    ]


def ceilings(place: Place) -> Step:
    command = (place.python, str(place.scripts / "device" / "ceilings.py"), "--device", host_or_gpu(place))
    return Step("ceilings", command, 60, read_ceilings, ("torch",))


def verify_family(place: Place, sizes: Sizes, name: str) -> Step:
    command = (str(place.bin / "enel-compile"), "verify", "--family", name, "--cases", str(sizes.cases))
    return Step(f"verify {name}", (*command, "--device", place.device, "--json"), 90, read_proofs, ("device", "nvrtc"))


def carried(place: Place, sizes: Sizes) -> list:
    found = sorted(place.bundles.glob("*.enel"), key=lambda path: (-path.stat().st_size, path.name))
    return [path for path in found if sizes.bundles is None or path.stem in sizes.bundles]


def verify_bundle(place: Place, sizes: Sizes, path: pathlib.Path) -> Step:
    command = (str(place.bin / "enel-compile"), "verify", str(path), "--cases", str(sizes.bundle_cases))
    command += ("--work", str(sizes.bundle_work), "--device", place.device, "--json")
    # No compiler can be found by it, so what runs is what was carried.
    return Step(f"carried {path.stem}", command, 120, read_proofs, variables=(("ENEL_NVRTC", "/nowhere"),))


def golden(place: Place, sizes: Sizes, glob: str) -> Step:
    command = (str(place.bin / "enel"), "conformance", str(place.golden), "--case", glob, "--device", place.device)
    command += ("--offline", "--allow-unsupported", "--json")
    return Step(f"golden {glob}", command, 90, read_golden, ("device", "nvrtc"))


def bench(place: Place, sizes: Sizes, work: str) -> Step:
    """Ours and PyTorch's in turn, on a GPU also without its launches' cost on the host; off the GPU both run on the host."""
    output = place.scratch / f"{work}.json"
    more = ("--cuda-graph",) if place.on_gpu else ()
    command = (place.python, str(place.scripts / "peers" / "run.py"), "--python", place.python)
    command += ("--enel", str(place.bin / "enel"), "--check", str(place.golden), "--device", host_or_gpu(place))
    rounds = place.rounds or sizes.rounds
    command += ("--work", work, "--rounds", str(rounds), "--threads", str(min(place.cores, 16)), *sizes.bench)
    command += (*more, "--json", str(output))
    return Step(f"bench {work}", command, 110, read_bench, ("device", "nvrtc", "torch"), output)


def kernels(place: Place, work: str, preset: str, mode: str, more: tuple) -> Step:
    command = (str(place.bin / "enel"), "bench", work, "--config", preset, "--mode", mode, "--device", place.device)
    command += ("--repeat", "5" if place.on_gpu else "1", "--steps", "--no-limits", "--json", *more)
    return Step(f"kernels {work} {mode}", command, 40, read_kernels, ("device", "nvrtc"))


def host_or_gpu(place: Place) -> str:
    return "cuda" if place.on_gpu else "cpu"


def read_ceilings(found: dict) -> tuple:
    line = f"copy {found['copy_gb_per_s']:.0f} GB/s, bf16 {found['bf16_tflops']:.4g}, f32 {found['f32_tflops']:.3g} TFLOP/s"
    return True, f"{line}, launch {found['launch_us']:.1f} us", found


def read_proofs(found: dict) -> tuple:
    """Proofs of kernels: the largest error over its tolerance, or the first call that is wrong."""
    proofs, skipped = found["proofs"], found["skipped"]
    cases, worst = sum(p["cases"] for p in proofs), max((p["worst"] for p in proofs), default=0)
    line = f"{cases} calls of {len(proofs)} {'kernels' if len(proofs) > 1 else 'family'}, worst {worst:.3f} of tolerance"
    line += f", {len(skipped)} skipped" if skipped else ""
    wrong = [proof for proof in proofs if proof["failure"]]
    if wrong:
        line = f"{len(wrong)} wrong: {wrong[0]['name']}: {wrong[0]['failure']['call']}: {wrong[0]['failure']['reason']}"
    return found["passed"] and cases > 0, line, found


def read_golden(found: dict) -> tuple:
    summary, rows = found["summary"], found["rows"]
    failed = [row for row in rows if row["status"] not in ("ok", "unsupported")]
    line = f"{summary['ok']} agree, {summary['fail']} do not, {summary['unsupported']} not computed"
    line += f": {failed[0]['case']} {failed[0]['tensor']}: {failed[0]['detail']}" if failed else ""
    good = summary["fail"] == 0 and summary["ok"] > 0
    on_device = sum(row["computed_on"] == "device" for row in rows)
    return good, line, {"summary": summary, "on_device": on_device, "failed": failed[:50]}


def read_bench(found: dict) -> tuple:
    (result,) = found["work"].values()
    ours = [p for p in result["programs"] if p["name"] == "enel"]
    parts = [f"{p['dtype']} {1e3 * p['median_s']:.3f} ms" for p in ours]
    for mode in (p["dtype"] for p in ours):
        ratios = [r for r in result["ratios"] if r["ours"] == f"enel {mode}"]
        fastest = min(ratios, key=lambda r: r["median"])
        parts.append(f"{fastest['theirs']} / {mode} = {fastest['median']:.2f}")
    return True, ", ".join(parts), found


def read_kernels(found: dict) -> tuple:
    """Times of kernels by name, the largest sums first."""
    sums = {}
    for step in found["steps"]:
        total, count = sums.get(step["name"], (0.0, 0))
        sums[step["name"]] = (total + step["time_us"], count + 1)
    all_us = sum(total for total, _ in sums.values())
    slowest = sorted(sums.items(), key=lambda item: -item[1][0])
    rows = [{"name": name, "launches": count, "time_us": total} for name, (total, count) in slowest]
    top = ", ".join(f"{row['name']} {row['time_us']:.0f}" for row in rows[:3])
    line = f"{1e3 * found['median_s']:.3f} ms a run, kernels one by one {all_us:.0f} us, most: {top}"
    kept = {key: value for key, value in found.items() if key != "steps"}
    return True, line, kept | {"kernels_us": all_us, "slowest": rows[:SLOWEST], "all": rows}
