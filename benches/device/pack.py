"""What does a machine without Rust need to be checked? Programs, bundles with machine code, golden values, scripts.

Law: whatever is packed was built from this tree in this call; a folder above the limit is refused.
"""

import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target" / "device-check"
MANIFEST = "manifest.json"
# Tracked files and the folder together.
LIMIT_MIB = 56
PROGRAMS = ("enel", "enel-compile")
# What machine code is carried for: A100 and later cards of its major version, H100 and H200; text for the rest.
TARGETS = "sm_80,sm_90a"
GRAPHS = {
    "families": HERE / "families.tir",
    "tiny": "tiny",
    "lga": ROOT / "tests" / "graphs" / "lga.tir",
    "set_abstraction": ROOT / "tests" / "graphs" / "set_abstraction.tir",
    "bert": ROOT / "tests" / "graphs" / "bert.tir",
    "conv1d": ROOT / "tests" / "graphs" / "conv1d.tir",
}
# The C library of Ubuntu 22.04; programs that need a later one do not start there.
NEWEST_GLIBC = (2, 35)


class Failure(Exception):
    """Why nothing was packed."""


def pack(folder: pathlib.Path, golden: pathlib.Path | None, limit_mib: int) -> int:
    """Fills `folder`; the exit code."""
    try:
        filled(folder.resolve(), golden_folder(golden), limit_mib)
    except (Failure, OSError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def filled(folder: pathlib.Path, golden: pathlib.Path, limit_mib: int) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise Failure(f"{folder} holds other things than a pack")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    programs = built()
    made = versions() | {"programs": {}, "bundles": {}, "targets": TARGETS}
    for name, path in programs.items():
        made["programs"][name] = packed_program(path, folder / "bin" / f"{name}.gz")
    for name, graph in GRAPHS.items():
        for mode in ("f32", "bf16"):
            to = folder / "bundles" / f"{name}-{mode}.enel.gz"
            made["bundles"][f"{name}-{mode}"] = packed_bundle(programs["enel-compile"], str(graph), mode, to)
    shutil.copytree(golden, folder / "golden")
    for scripts in (HERE, HERE.parent / "peers"):
        shutil.copytree(scripts, folder / scripts.name, ignore=shutil.ignore_patterns("__pycache__", "test_*", "*.tir"))
    (folder / MANIFEST).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    weigh(folder, limit_mib)


def golden_folder(given: pathlib.Path | None) -> pathlib.Path:
    """As the tests find it."""
    found = given or pathlib.Path(os.environ.get("ENEL_FIXTURES") or ROOT.parent / "shared" / "fixtures")
    if not found.is_dir():
        raise Failure(f"no golden values at {found}: name their folder with --golden")
    return found


def built() -> dict:
    """Our programs, built now."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--package", "enel-cli", "--bins"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return {name: target / "release" / name for name in PROGRAMS}


def packed_program(path: pathlib.Path, to: pathlib.Path) -> dict:
    """Strips and packs a program; what it is."""
    plain = to.with_suffix("")
    shutil.copy2(path, plain)
    # What it does without: names and lines, four fifths of it.
    subprocess.run(["strip", str(plain)], check=True)
    data = plain.read_bytes()
    plain.unlink()
    needed = glibc(data)
    if needed > NEWEST_GLIBC:
        spelled = [".".join(map(str, version)) for version in (needed, NEWEST_GLIBC)]
        raise Failure(f"{path.name} needs glibc {spelled[0]}, later than {spelled[1]}: build it on an older system")
    compress(data, to)
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "glibc": f"{needed[0]}.{needed[1]}"}


def glibc(program: bytes) -> tuple:
    """Latest version of the C library whose symbols a program asks for."""
    return max((tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_(\d+\.\d+)", program)), default=(0, 0))


def packed_bundle(compiler: pathlib.Path, graph: str, mode: str, to: pathlib.Path) -> dict:
    """Compiles a graph to machine code and packs it; how much it holds."""
    to.parent.mkdir(exist_ok=True)
    plain = to.with_suffix("")
    command = [str(compiler), "build", graph, "--mode", mode, "--target", TARGETS, "-o", str(plain), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{to.stem} does not compile\n{done.stderr.strip()}")
    row = json.loads(done.stdout)
    compress(plain.read_bytes(), to)
    plain.unlink()
    return {"kernels": row["kernels"], "images": row["images"], "bytes": row["bytes"]}


def compress(data: bytes, to: pathlib.Path) -> None:
    # No time of day inside: equal content, equal bytes.
    to.write_bytes(gzip.compress(data, mtime=0))


def versions() -> dict:
    """Which tree this is."""
    def git(*what: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *what], capture_output=True, text=True).stdout.strip()

    return {"commit": git("rev-parse", "HEAD") or "unknown", "changed": bool(git("status", "--porcelain", "-uno"))}


def weigh(folder: pathlib.Path, limit_mib: int) -> None:
    """Prints what is carried; above the limit nothing stays."""
    def mib(paths) -> float:
        return sum(path.lstat().st_size for path in paths if path.is_file()) / 2**20

    sizes = {part.name: mib(part.rglob("*")) for part in sorted(folder.iterdir()) if part.is_dir()}
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True).stdout
    tracked, carried = mib(ROOT / name for name in listed.split("\0") if name), mib(folder.rglob("*"))
    for name, size in sizes.items():
        print(f"{name:10} {size:6.1f} MiB")
    for name, size in (("carried", carried), ("tracked", tracked), ("together", tracked + carried)):
        print(f"{name:10} {size:6.1f} MiB{f' of {limit_mib}' if name == 'together' else ''}")
    if tracked + carried > limit_mib:
        shutil.rmtree(folder)
        raise Failure(f"{tracked + carried:.1f} MiB are more than the {limit_mib} MiB that may travel")
