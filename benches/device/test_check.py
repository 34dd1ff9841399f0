"""Does the check keep its limits, read what programs print, and write what it found? Programs are stubs.

    python benches/device/test_check.py
"""

import contextlib
import gzip
import io
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import check
import facts
import pack
import report
import steps

DOCTOR = {
    "findings": [
        {"name": "cuda", "found": False, "detail": "no driver", "advice": None},
        {"name": "CUDA compiler", "found": True, "detail": "13.0", "advice": None},
    ]
}
PROOF = {"name": "map", "family": "map", "cases": 2, "worst": 0.5, "seconds": 0.1, "failure": None}
PROOFS = {"passed": True, "proofs": [PROOF], "skipped": []}
GOLDEN = {"summary": {"ok": 1, "fail": 0, "unsupported": 0}, "rows": [{"status": "ok", "computed_on": "device"}]}
KERNELS = {"median_s": 0.001, "steps": [{"name": "a", "time_us": 2}, {"name": "b", "time_us": 3}, {"name": "a", "time_us": 4}]}
# Answers by the first word of a command; what stands in for a word sleeps or fails.
STUB = """#!{python}
import json, sys, time
answers = json.loads({answers!r})
found = answers[sys.argv[1]]
if found == "sleep":
    time.sleep(60)
if found == "fail":
    sys.exit("it does not work")
print(json.dumps(found))
"""


def packed(folder: pathlib.Path, **answers) -> pathlib.Path:
    """A packed folder whose programs are stubs."""
    answers = {"doctor": DOCTOR, "verify": PROOFS, "conformance": GOLDEN, "bench": KERNELS} | answers
    for part in ("bin", "bundles", "golden"):
        (folder / part).mkdir()
    for name in pack.PROGRAMS:
        stub = STUB.format(python=sys.executable, answers=json.dumps(answers))
        pack.compress(stub.encode(), folder / "bin" / f"{name}.gz")
    pack.compress(b"code", folder / "bundles" / "families-f32.enel.gz")
    (folder / pack.MANIFEST).write_text(json.dumps({"commit": "0" * 40, "changed": False}))
    return folder


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        # No PyTorch: what needs it is skipped.
        torch = mock.patch.object(facts, "ASK_TORCH", "raise SystemExit(1)")
        torch.start()
        self.addCleanup(torch.stop)

    def main(self, *more) -> tuple:
        """Exit code, what was printed, and the run that was written."""
        out, before = io.StringIO(), {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = check.main(["run", str(self.folder), "--device", "emulated", *more])
        for number, handler in before.items():
            signal.signal(number, handler)
        return code, out.getvalue(), json.loads((self.folder / "out" / "run.json").read_text())

    def test_good_programs_give_exit_code_0_and_a_row_each(self):
        packed(self.folder)
        code, out, run = self.main()
        self.assertEqual(code, 0, out)
        states = {step["name"]: step["status"] for step in run["steps"]}
        self.assertEqual([states[f"verify {family}"] for family in steps.FAMILIES], len(steps.FAMILIES) * ["ok"])
        self.assertEqual((states["carried families-f32"], states["golden g_*"], states["ceilings"]), ("ok", "ok", "skipped"))
        self.assertIn("| verify map | ok |", out)
        self.assertEqual(out, (self.folder / "out" / "summary.md").read_text())
        self.assertNotIn(str(self.folder), (self.folder / "out" / "run.json").read_text())

    def test_one_that_fails_leaves_the_rest_to_run(self):
        packed(self.folder, verify="fail")
        code, out, run = self.main()
        failed = [step for step in run["steps"] if step["status"] == "failed"]
        self.assertEqual((code, len(failed)), (1, len(steps.FAMILIES) + 1))
        self.assertIn("it does not work", failed[0]["said"])
        self.assertIn("| golden g_* | ok |", out)

    def test_wrong_kernels_are_named(self):
        wrong = PROOF | {"failure": {"call": "map [1, 1]", "reason": "buffer 1"}}
        packed(self.folder, verify=PROOFS | {"passed": False, "proofs": [wrong]})
        code, out, _ = self.main()
        self.assertEqual(code, 1)
        self.assertIn("1 wrong: map: map [1, 1]: buffer 1", out)

    def test_the_budget_holds_whatever_hangs(self):
        packed(self.folder, verify="sleep")
        begin = time.monotonic()
        code, _, run = self.main("--budget", "5")
        self.assertLess(time.monotonic() - begin, 15)
        states = [step["status"] for step in run["steps"]]
        self.assertEqual((code, "late" in states, "ok" in states[2:]), (1, True, False))

    def test_a_killed_check_has_written_what_it_found_and_leaves_nothing_running(self):
        packed(self.folder, conformance="sleep")
        command = [sys.executable, check.__file__, "run", str(self.folder), "--device", "emulated"]
        command += ["--python", "/nowhere/python3"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted, path = "carried families-f32", self.folder / "out" / "run.json"
        for _ in range(300):
            time.sleep(0.1)
            if path.exists() and wanted in path.read_text():
                break
        time.sleep(0.5)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(timeout=20), 1)
        names = [step["name"] for step in json.loads(path.read_text())["steps"]]
        self.assertIn(wanted, names)
        self.assertFalse([name for name in names if name.startswith("golden")])
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        self.assertNotIn(f"conformance {self.folder}", listed)

    def test_a_missing_card_is_a_failure_and_its_steps_are_skipped(self):
        packed(self.folder)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = check.main(["run", str(self.folder), "--device", "cuda:0"])
        states = [step["status"] for step in json.loads((self.folder / "out" / "run.json").read_text())["steps"]]
        self.assertEqual((code, states[0], set(states[1:])), (1, "failed", {"skipped"}))

    def test_bad_usage_is_2(self):
        for argv in (["run", str(self.folder), "--device", "tpu"], ["jump"]):
            with self.assertRaises(SystemExit) as raised, contextlib.redirect_stderr(io.StringIO()):
                check.main(argv)
            self.assertEqual(raised.exception.code, 2)
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(check.main(["run", str(self.folder), "--device", "emulated"]), 2)


class Plans(unittest.TestCase):
    def place(self, device: str) -> steps.Place:
        here = pathlib.Path("/p")
        return steps.Place(device, here, here, here, here, here, "python3", 16)

    def test_a_card_is_proved_before_it_is_timed(self):
        groups = steps.groups(self.place("cuda:0"))
        names = [group.name for group in groups]
        self.assertLess(names.index("proofs"), names.index("beside PyTorch"))
        self.assertTrue(all(group.at_once == 1 for group in groups if "PyTorch" in group.name or "kernels" in group.name))
        # What proves leaves time for what measures, even if all of it hangs.
        proofs = sum(group.limit_s for group in groups[: names.index("beside PyTorch")])
        self.assertLess(proofs, check.BUDGET_S - 120)
        commands = [" ".join(step.command) for group in groups for step in group.steps]
        self.assertEqual(sum("verify --family" in command for command in commands), len(steps.FAMILIES))
        self.assertFalse([command for command in commands if "nvidia-smi" in command])

    def test_kernels_of_one_name_are_summed(self):
        good, _, kept = steps.read_kernels(KERNELS)
        self.assertEqual((good, kept["slowest"][0]), (True, {"name": "a", "launches": 2, "time_us": 6.0}))

    def test_share_of_the_ceiling_is_of_the_larger_limit(self):
        rates = {"copy_gb_per_s": 1000, "bf16_tflops": 500, "f32_tflops": 50}
        run = {"device": "cuda:0", "steps": [{"name": "ceilings", "status": "ok", "result": rates}]}
        program = {"dtype": "bf16", "median_s": 0.002, "rounds": [{"gflop": 500, "read_gb": 0.5}]}
        self.assertAlmostEqual(report.of_ceiling(run, program), 0.5)
        self.assertIsNone(report.of_ceiling(run, program | {"rounds": [{}]}))


class Packs(unittest.TestCase):
    def test_the_latest_c_library_asked_for_counts(self):
        self.assertEqual(pack.glibc(b"..\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0"), (2, 34))

    def test_equal_content_gives_equal_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = pathlib.Path(folder, "a.gz"), pathlib.Path(folder, "b.gz")
            pack.compress(b"x" * 1000, first)
            pack.compress(b"x" * 1000, second)
            self.assertEqual(first.read_bytes(), second.read_bytes())
            self.assertEqual(gzip.decompress(first.read_bytes()), b"x" * 1000)

    def test_a_folder_above_the_limit_does_not_stay(self):
        with tempfile.TemporaryDirectory() as folder:
            target = pathlib.Path(folder, "pack")
            target.mkdir()
            with contextlib.redirect_stdout(io.StringIO()), self.assertRaises(pack.Failure):
                pack.weigh(target, 0)
            self.assertFalse(target.exists())


if __name__ == "__main__":
    unittest.main()
