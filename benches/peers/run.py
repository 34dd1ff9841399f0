"""How does enel compare with PyTorch on this machine? Runs both in turn, several rounds, and reports ratios.

Law: what is compared ran in the same round, on the same device, with the same number of threads; and no time is taken
of a peer before it has computed the right thing.

    python benches/peers/run.py --python PEERS_PYTHON --threads 2 --check GOLDEN_VALUES --json run.json

Needs only the standard library; PEERS_PYTHON is an interpreter that has requirements.txt.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT_S = 3600  # for one program; a first run that compiles for a GPU takes minutes
REPEAT = {"embed": 3, "prefill": 5, "decode": 30, "train-step": 3}
MODES = {"embed": "f32", "prefill": "f32,bf16", "decode": "f32,bf16", "train-step": "f32"}
SCRIPTS = {"embed": "embed.py", "prefill": "llama.py", "decode": "llama.py", "train-step": "train.py"}
# A caption's worth of text behind each cloud of a step.
TRAIN = ("--config", "small", "--clouds", "4", "--tokens", "192")
NARROW = {"f32": 0, "bf16": 1}


class Failure(Exception):
    """A program that ended badly; the message says which and what it wrote."""


@dataclasses.dataclass(frozen=True)
class Program:
    """One side of a comparison: a command that prints one JSON object."""

    name: str
    dtype: str
    command: tuple


def ours(work: str, args) -> list:
    """Our programs for `work`, one for each mode."""
    device = f"cpu:{args.threads}" if args.device == "cpu" else "cuda:0"
    sizes = {"embed": ("--config", args.embed_config), "train-step": TRAIN}
    sizes = sizes.get(work, ("--config", args.config, "--tokens", str(args.tokens)))
    common = [*sizes, "--device", device, "--repeat", str(repeats(work, args)), "--json"]
    command = (str(args.enel), "bench", work, *common, "--mode")
    return [Program("enel", mode, (*command, mode)) for mode in modes(work, args)]


def theirs(work: str, args) -> list:
    """The peers for `work`: each form of it, in each dtype."""
    common = ["--device", args.device, "--threads", str(args.threads), "--repeat", str(repeats(work, args)), "--json"]
    if work == "embed":
        config = "paper" if args.embed_config == "enel-7b" else args.embed_config
        script = (str(HERE / "embed.py"), "--config", config)
        forms = [(form, ("--form", form)) for form in ("plain", "tuned")]
    elif work == "train-step":
        script, forms = (str(HERE / "train.py"), *TRAIN), [("eager", ())]
    else:
        script = (str(HERE / "llama.py"), work, "--config", args.config, "--tokens", str(args.tokens))
        forms = [("eager", ())]
    ways = [("", ())]
    ways += [("+compile", ("--compile",))] if args.compile else []
    # The embedder of a step looks at what it masked: no recording of launches can.
    ways += [("+graph", ("--cuda-graph",))] if args.cuda_graph and work != "train-step" else []
    return [
        Program(f"torch {form}{way}", dtype, (args.python, *script, *form_args, *way_args, *common, "--dtype", dtype))
        for dtype in modes(work, args)
        for form, form_args in forms
        for way, way_args in ways
    ]


def modes(work: str, args) -> list:
    return (args.modes or MODES[work]).split(",")


def repeats(work: str, args) -> int:
    return args.repeat or REPEAT[work]


def call(command, args) -> tuple:
    """Runs a program; its exit code and the JSON object it printed."""
    environment = dict(os.environ)
    # Threads that may move land on one core when others are busy, and every parallel loop then waits a time slice.
    environment.setdefault("OMP_PROC_BIND", "true")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=environment,
        start_new_session=args.nice != 0, preexec_fn=(lambda: favour(args.nice)) if args.nice else None,
    )
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        wrote = (done.stderr or done.stdout).strip()[-2000:]
        raise Failure(f"{' '.join(command)}\nended with {done.returncode} and no JSON object; it wrote:\n{wrote}") from None


def favour(nice: int) -> None:
    """Gives the calling process, which leads a session of its own, the priority `nice`."""
    os.nice(nice)
    # Where Linux groups processes by session, niceness counts only inside a group. Source: sched(7), autogroup.
    group = pathlib.Path("/proc/self/autogroup")
    if group.exists():
        group.write_text(str(nice))


def check_peers(args) -> list:
    """Lets each peer that will run prove itself; their rows. A failed one ends the program."""
    scripts = {SCRIPTS[work] for work in args.work}
    rows = []
    for script in sorted(scripts):
        command = [args.python, str(HERE / script), "--device", args.device, "--json", "--check"]
        code, result = call(command + ([args.check] if args.check else []), args)
        rows += result["rows"]
        if code != 0:
            bad = "\n".join(f"  {row['case']} {row['name']}: {row['how']}" for row in result["rows"] if not row["ok"])
            raise Failure(f"{script} computes something else; nothing was timed\n{bad}")
        say(f"{script}: {result['compared']} comparisons hold")
    return rows


def measure(args) -> dict:
    """All rounds of all workloads: for each, programs with their results and pairs with their ratios."""
    measured = {}
    for work in args.work:
        left, right = [] if args.peers_only else ours(work, args), theirs(work, args)
        runs = {program: [] for program in left + right}
        for at in range(args.rounds):
            for program in in_turn(left, right):
                code, result = call(program.command, args)
                if code != 0:
                    raise Failure(f"{' '.join(program.command)} ended with {code}")
                result["load"] = load()
                runs[program].append(result)
                say(f"round {at + 1}/{args.rounds} {work} {program.dtype} {program.name}: {1e3 * result['median_s']:.2f} ms")
        measured[work] = {
            "programs": [summary(program, results) for program, results in runs.items()],
            "ratios": [ratio(a, b, runs) for a in left for b in right if comparable(a, b)],
        }
    return measured


def in_turn(left: list, right: list):
    """One of ours, one of theirs, and so on; whichever has more ends the round."""
    for i in range(max(len(left), len(right))):
        yield from left[i : i + 1]
        yield from right[i : i + 1]


def comparable(our: Program, their: Program) -> bool:
    """Ours may be the narrower type, as PyTorch's user would otherwise stay with f32; never theirs."""
    return NARROW[our.dtype] >= NARROW[their.dtype]


def summary(program: Program, results: list) -> dict:
    """What a program did over all rounds."""
    medians = [result["median_s"] for result in results]
    return {
        "name": program.name,
        "dtype": program.dtype,
        "median_s": statistics.median(medians),
        "min_s": min(result["min_s"] for result in results),
        "peak_bytes": max(result.get("peak_bytes", 0) for result in results),
        "command": list(shown(program.command)),
        "rounds": results,
    }


def ratio(our: Program, their: Program, runs: dict) -> dict:
    """Their time over ours: in every round, and of the shortest times of all rounds."""
    per_round = [b["median_s"] / a["median_s"] for a, b in zip(runs[our], runs[their])]
    shortest = [min(result["min_s"] for result in runs[program]) for program in (our, their)]
    return {
        "ours": f"{our.name} {our.dtype}",
        "theirs": f"{their.name} {their.dtype}",
        "per_round": per_round,
        "min": min(per_round),
        "median": statistics.median(per_round),
        "max": max(per_round),
        "of_shortest": shortest[1] / shortest[0],
    }


def machine(args) -> dict:
    """The computer, as far as times depend on it."""
    info = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": args.threads,
        "system": platform.platform(),
        "nice": args.nice,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        info["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return info


def cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(args) -> dict:
    """Commit of this tree, and which binary was timed: the two need not belong together."""
    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    found = {"commit": commit or "unknown", "changed": bool(changed), "python": platform.python_version()}
    if not args.peers_only:
        found["enel_sha256"] = hashlib.sha256(args.enel.read_bytes()).hexdigest()
    return found


def git(*what: str) -> str:
    """What git says of this tree; nothing where there is none."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *what], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def load() -> list:
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else []


def shown(command):
    """A command with its paths cut down to names, so that an archive tells nothing about whose machine it was."""
    return (pathlib.Path(part).name if os.sep in part else part for part in command)


def table(run: dict) -> str:
    """The result as Markdown."""
    m, v = run["machine"], run["versions"]
    device = "" if run["device"] in ("cpu", "") else f", {run['device']}"
    lines = [
        f"{m['cpu']}{device}, {m['threads']} threads of {m['cores']} cores; {run['date']}; torch {v.get('torch', '?')}; "
        f"commit {v['commit'][:12]}{' with changes' if v['changed'] else ''}; {run['rounds']} rounds; "
        f"peers checked {run['checked']}.",
    ]
    for work, result in run["work"].items():
        lines += ["", f"## {work}", "", "| program | dtype | median ms | shortest ms | peak MiB | of limit |", "|---|---|---|---|---|---|"]
        for p in result["programs"]:
            reached = [r["limit_s"] / r["median_s"] for r in p["rounds"] if r.get("limit_s")]
            lines.append(
                f"| {p['name']} | {p['dtype']} | {1e3 * p['median_s']:.2f} | {1e3 * p['min_s']:.2f} | "
                f"{p['peak_bytes'] / 2**20:.0f} | {f'{statistics.median(reached):.2f}' if reached else ''} |"
            )
        if result["ratios"]:
            lines += ["", "| theirs / ours | median | min | max | of shortest |", "|---|---|---|---|---|"]
        for r in result["ratios"]:
            lines.append(
                f"| {r['theirs']} / {r['ours']} | {r['median']:.2f} | {r['min']:.2f} | {r['max']:.2f} | {r['of_shortest']:.2f} |"
            )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", default=",".join(REPEAT), help=f"of {', '.join(REPEAT)} (default: all)")
    parser.add_argument("--enel", type=pathlib.Path, metavar="PATH", help="our binary (default: in target/release)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that has PyTorch")
    parser.add_argument("--check", metavar="DIR", help="golden values the peers must agree with")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="CPU threads of both")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--repeat", type=int, metavar="N", help=f"timed runs of a program (default: {REPEAT})")
    parser.add_argument("--modes", metavar="LIST", help="f32, bf16 (default: f32 for embed and train-step, both for the others)")
    parser.add_argument("--config", default="llama-110m", help="decoder of prefill and decode (default: %(default)s)")
    parser.add_argument("--embed-config", default="enel-7b", help="preset whose embedder is run (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=512, metavar="N", help="of the prompt")
    parser.add_argument("--compile", action="store_true", help="also run the peers with torch.compile")
    parser.add_argument("--cuda-graph", action="store_true", help="also run the peers as recorded CUDA graphs")
    parser.add_argument("--peers-only", action="store_true", help="time the peers alone")
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="priority of what is timed; below 0 needs rights")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--archive", metavar="MACHINE", help="write benches/runs/<date>-MACHINE/")
    args = parser.parse_args(argv)
    args.work = args.work.split(",")
    unknown = [work for work in args.work if work not in REPEAT] + [
        mode for work in args.work if work in REPEAT for mode in modes(work, args) if mode not in NARROW
    ]
    if unknown:
        parser.error(f"unknown work or mode: {', '.join(unknown)}")
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.enel is None:
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        args.enel = target / "release" / ("enel.exe" if os.name == "nt" else "enel")
    if not args.peers_only and not args.enel.is_file():
        parser.error(f"no binary at {args.enel}: build it with `cargo build --release -p enel-cli`, or give --enel")
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    try:
        rows = check_peers(args)
        run = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(args),
            "versions": versions(args),
            "checked": "against golden values" if args.check else "against themselves only",
            "checks": rows,
            "rounds": args.rounds,
            "work": measure(args),
        }
    except (Failure, OSError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        return 1
    peer = next(p for result in run["work"].values() for p in result["programs"] if p["name"] != "enel")["rounds"][0]
    run["device"], run["versions"]["torch"] = peer["device"], peer["torch"]
    text = table(run)
    print(text)
    written = {args.json: json.dumps(run, indent=1) + "\n"} if args.json else {}
    if args.archive:
        folder = HERE.parent / "runs" / f"{run['date']}-{args.archive}"
        folder.mkdir(parents=True, exist_ok=True)
        written |= {folder / "run.json": json.dumps(run, indent=1) + "\n", folder / "summary.md": text + "\n"}
    for path, content in written.items():
        path.write_text(content)
        say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
