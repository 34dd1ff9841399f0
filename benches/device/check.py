"""Does everything hold on this machine's card, and how fast is it there? One command with one time limit.

Law: needs python3 and a packed folder, nothing else (PyTorch is used where it is there); asks the card and sets nothing;
what was found is written after every step, so that a kill loses only the step that runs.

    scripts/device-check pack DIR                      on a machine that builds
    scripts/device-check run DIR --device cuda:0       on the machine with the card
"""

import argparse
import concurrent.futures
import datetime
import gzip
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import facts
import pack
import report
import steps

HERE = pathlib.Path(__file__).resolve().parent
# One less minute than the nine a whole check may take, for what starts and ends around it.
BUDGET_S = 500
# A step that has less left is not begun.
LEAST_S = 3
# Characters of a failed program's own words that are kept.
MOST_SAID = 4000


class Programs:
    """The processes that run now; each leads a session of its own and ends with all it started."""

    def __init__(self):
        self.running, self.lock, self.stopped = set(), threading.Lock(), False

    def run(self, command: tuple, environment: dict, limit_s: float) -> tuple:
        """Exit code (`None` when it took too long), standard output and what it said."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self.lock:
                if self.stopped:
                    return None, "", "stopped"
                streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
                child = subprocess.Popen(command, **streams, env=environment, start_new_session=True)
                self.running.add(child)
            try:
                code = child.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self.end(child)
            return code, text(out), text(err)

    def end(self, child) -> None:
        with self.lock:
            self.running.discard(child)
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        child.wait()

    def stop(self) -> None:
        """Ends all; none starts any more."""
        with self.lock:
            self.stopped, children = True, list(self.running)
        for child in children:
            self.end(child)


def text(file) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


class Check:
    """One run: its limits, what is known of the machine, and what was found so far."""

    def __init__(self, args, made: dict):
        self.args, self.begin, self.programs, self.lock = args, time.monotonic(), Programs(), threading.Lock()
        self.environment, self.scratch = dict(os.environ), {}
        self.run = {
            "format": 1, "device": args.device, "date": datetime.date.today().isoformat(), "budget_s": args.budget,
            "made": made, "facts": {}, "seconds": 0.0, "steps": [],
        }

    def left(self) -> float:
        return self.args.budget - (time.monotonic() - self.begin)

    def do(self, group) -> None:
        """All steps of a group, some beside each other, inside its limit."""
        end = time.monotonic() + min(group.limit_s, self.left())
        with concurrent.futures.ThreadPoolExecutor(group.at_once) as pool:
            for done in [pool.submit(self.step, group, step, end) for step in group.steps]:
                done.result()

    def step(self, group, step, end: float) -> None:
        begin = time.monotonic()
        row = {"group": group.name, "name": step.name, "status": "skipped", "limit_s": step.limit_s, "exit": None}
        row |= {"command": shown(step.command), "summary": "", "result": None, "said": ""}
        missing = [need for need in step.needs if not self.has(need)]
        limit_s = min(step.limit_s, end - begin)
        if missing:
            row["summary"] = self.why_not(missing[0])
        elif limit_s < LEAST_S:
            row["summary"] = "no time was left"
        else:
            environment = self.environment | dict(step.variables)
            row["exit"], out, err = self.programs.run(step.command, environment, limit_s)
            if self.programs.stopped:
                return
            row |= judged(step, row["exit"], out, limit_s)
            if row["status"] != "ok":
                row["said"] = err.strip()[-MOST_SAID:]
        row["seconds"] = round(time.monotonic() - begin, 2)
        self.add(row)

    def add(self, row: dict) -> None:
        """Keeps a row and writes everything found so far."""
        with self.lock:
            self.run["steps"].append(row)
            self.run["seconds"] = round(time.monotonic() - self.begin, 1)
            self.write()
            say(f"{self.run['seconds']:6.1f} s  {report.MARKS[row['status']]:8} {row['name']}: {row['summary'][:160]}")

    def write(self) -> None:
        self.args.out.mkdir(parents=True, exist_ok=True)
        # The numbers first: whatever becomes of the table, they are there.
        for name, content in (("run.json", lambda run: json.dumps(run, indent=1) + "\n"), ("summary.md", report.summary)):
            partial = self.args.out / f"{name}.part"
            partial.write_text(self.plain(content(self.run)), encoding="utf-8")
            partial.replace(self.args.out / name)

    def plain(self, written: str) -> str:
        """Without the paths that tell whose machine it was."""
        paths = {str(self.args.dir): "PACK", **self.scratch, str(pathlib.Path.home()): "~"}
        for path, name in paths.items():
            written = written.replace(path, name) if len(path) > 1 else written
        return written

    def look(self, place) -> None:
        """Asks the machine what it is; a missing device is a failed step."""
        begin = time.monotonic()
        self.run["facts"] = facts.collect(place.bin / "enel", place.python, self.environment)
        good = self.has("device")
        found = self.run["facts"]["enel"]
        detail = found["cuda"]["detail"] if place.on_gpu or not good else self.args.device
        row = {"group": "environment", "name": "environment", "status": "ok" if good else "failed"}
        row |= {"limit_s": None, "exit": None, "command": [], "summary": detail, "result": None, "said": ""}
        row["seconds"] = round(time.monotonic() - begin, 2)
        self.add(row)

    def has(self, need: str) -> bool:
        found = self.run["facts"]
        if need == "torch":
            torch = found["torch"]
            return bool(torch) and (torch["sees_gpu"] or not self.args.device.startswith("cuda"))
        if need == "nvrtc":
            return found["enel"]["nvrtc"]["found"]
        return found["enel"]["cuda"]["found"] or not self.args.device.startswith("cuda")

    def why_not(self, need: str) -> str:
        if need == "torch":
            return "PyTorch is not there" if not self.run["facts"]["torch"] else "PyTorch sees no GPU"
        return self.run["facts"]["enel"]["nvrtc" if need == "nvrtc" else "cuda"]["detail"]


def judged(step, code: int | None, out: str, limit_s: float) -> dict:
    """State, line and result of a step that ran."""
    if code is None:
        return {"status": "late", "summary": f"stopped after {limit_s:.0f} s"}
    try:
        found = json.loads(step.output.read_text(encoding="utf-8") if step.output else out)
        good, line, kept = step.read(found)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return {"status": "failed", "summary": f"ended with {code} and no result that can be read ({type(error).__name__})"}
    return {"status": "ok" if good and code == 0 else "failed", "summary": line, "result": kept}


def shown(command: tuple) -> list:
    """A command with its paths cut down to names, so that an archive tells nothing about whose machine it was."""
    return [pathlib.Path(part).name if os.sep in part else part for part in command]


def unpacked(folder: pathlib.Path, to: pathlib.Path) -> None:
    """Programs and bundles as they are used."""
    for source in sorted(folder.glob("*/*.gz")):
        target = to / source.parent.name / source.stem
        target.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(source) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        if source.parent.name == "bin":
            target.chmod(0o755)


def run(args) -> int:
    try:
        made = json.loads((args.dir / pack.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        say(f"error: {args.dir} is no packed folder; make one with `scripts/device-check pack {args.dir}`")
        return 2
    check = Check(args, made)

    def stop(*_):
        check.programs.stop()
        sys.exit(1)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with tempfile.TemporaryDirectory(prefix="device-check-") as scratch:
        scratch = pathlib.Path(scratch)
        check.scratch[str(scratch)] = "SCRATCH"
        unpacked(args.dir, scratch)
        place = steps.Place(
            device=args.device, bin=scratch / "bin", bundles=scratch / "bundles", golden=args.dir / "golden",
            scripts=HERE.parent, scratch=scratch, python=args.python, cores=facts.cores(), rounds=args.rounds,
        )
        # Our search for the compiler library asks `python3`: it shall be the one whose packages are meant.
        first = str(pathlib.Path(args.python).parent)
        check.environment["PATH"] = os.pathsep.join([first, check.environment.get("PATH", "")])
        check.environment["XDG_CACHE_HOME"] = str(scratch / "cache")
        folder = facts.driver_folder() if place.on_gpu else None
        if folder:
            known = check.environment.get("LD_LIBRARY_PATH", "")
            check.environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [known, folder]))
        check.look(place)
        for group in steps.groups(place):
            check.do(group)
        check.run["facts"]["card_after"] = facts.card()
        check.write()
    print(check.plain(report.summary(check.run)), end="")
    say(f"wrote {args.out / 'run.json'} and {args.out / 'summary.md'}")
    return 1 if any(step["status"] in ("failed", "late") for step in check.run["steps"]) else 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="device-check", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="build and copy all that a machine without Rust needs")
    packing.add_argument("dir", type=pathlib.Path, nargs="?", default=pack.FOLDER, metavar="DIR")
    golden = "golden values (default: $ENEL_FIXTURES, or beside the checkout)"
    packing.add_argument("--golden", type=pathlib.Path, metavar="DIR", help=golden)
    limit = "of tracked files and folder together (default: %(default)s)"
    packing.add_argument("--limit", type=int, default=pack.LIMIT_MIB, metavar="MIB", help=limit)
    running = verbs.add_parser("run", help="check this machine with a packed folder")
    own = HERE.parent if (HERE.parent / pack.MANIFEST).exists() else pack.FOLDER
    running.add_argument("dir", type=pathlib.Path, nargs="?", default=own, metavar="DIR")
    device = "cuda:0 (CUDA_VISIBLE_DEVICES chooses the card), or emulated to try the check itself (default: %(default)s)"
    running.add_argument("--device", choices=("cuda:0", "emulated"), default="cuda:0", help=device)
    running.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where run.json and summary.md go (default: DIR/out)")
    budget = "for all steps together (default: %(default)s)"
    running.add_argument("--budget", type=int, default=BUDGET_S, metavar="SECONDS", help=budget)
    rounds = "how often ours and PyTorch's take turns in a bench (default: 2 on a card)"
    running.add_argument("--rounds", type=int, metavar="N", help=rounds)
    python = "interpreter that has PyTorch (default: this one)"
    running.add_argument("--python", default=sys.executable, metavar="PATH", help=python)
    args = parser.parse_args(argv)
    if args.verb == "run":
        args.dir = args.dir.resolve()
        args.out = (args.out or args.dir / "out").resolve()
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    return pack.pack(args.dir, args.golden, args.limit) if args.verb == "pack" else run(args)


if __name__ == "__main__":
    sys.exit(main())
