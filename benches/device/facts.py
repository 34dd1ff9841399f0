"""What is this machine? Card, driver, compiler library, PyTorch: asked, never set.

Law: every answer may be missing, and a missing one is `None`, not a failure; nothing here changes the card's state.
"""

import ctypes
import json
import os
import pathlib
import platform
import subprocess

# What nvidia-smi is asked; it only reads.
CARD = (
    "name", "driver_version", "compute_cap", "memory.total", "memory.used", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "clocks.max.mem", "power.limit", "power.draw", "temperature.gpu", "ecc.mode.current", "mig.mode.current",
)
# Of these every driver knows; it answers nothing at all when one name is new to it.
CARD_AT_LEAST = CARD[:3]
# Where containers put the driver when the loader does not know it.
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib")
ASK_TORCH = (
    "import json, torch; c = torch.cuda.is_available(); "
    "print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, 'sees_gpu': c, "
    "'gpu': torch.cuda.get_device_name() if c else None, "
    "'multiprocessors': torch.cuda.get_device_properties(0).multi_processor_count if c else None}))"
)


def collect(enel: pathlib.Path, python: str, environment: dict) -> dict:
    """Everything that times and failures may depend on."""
    return {
        "card": card(),
        "machine": machine(),
        "torch": asked([python, "-c", ASK_TORCH], environment, 90),
        "enel": doctor(asked([str(enel), "doctor", "--json"], environment, 60)),
    }


def card() -> dict | None:
    """The first card as nvidia-smi has it now."""
    for names in (CARD, CARD_AT_LEAST):
        command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
        values = [value.strip() for value in (said(command, dict(os.environ), 20) or "").strip().split(",")]
        if len(values) == len(names):
            return dict(zip(names, values))
    return None


def machine() -> dict:
    info = {
        "cpu": platform.processor() or platform.machine(),
        "cores": cores(),
        "system": platform.system(),
        "libc": "-".join(platform.libc_ver()),
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        info["cpu"] = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    if "SC_PHYS_PAGES" in os.sysconf_names:
        info["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return info


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def doctor(report: dict | None) -> dict:
    """Of our own report: the device and the compiler library, each with what is said of it."""
    findings = {finding["name"]: finding for finding in (report or {}).get("findings", [])}

    def found(name: str) -> dict:
        finding = findings.get(name, {"found": False, "detail": "enel doctor did not answer"})
        return {"found": finding["found"], "detail": finding["detail"]}

    return {"cuda": found("cuda"), "nvrtc": found("CUDA compiler")}


def driver_folder() -> str | None:
    """A folder the loader has to be told of, where the driver's library is not found by name alone."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return next((f for f in DRIVER_FOLDERS if pathlib.Path(f, "libcuda.so.1").exists()), None)
    return None


def asked(command: list, environment: dict, limit_s: float) -> dict | None:
    """The JSON object a program prints."""
    try:
        return json.loads(said(command, environment, limit_s) or "null")
    except json.JSONDecodeError:
        return None


def said(command: list, environment: dict, limit_s: float) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
