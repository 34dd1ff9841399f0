"""Does run.py compare, count and fail as it says? Programs are stubs; no PyTorch is needed.

    python benches/peers/test_run.py
"""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

import run

STUB = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write({name!r} + "\\n")
if "--check" in sys.argv:
    print(json.dumps({{"failed": {bad}, "compared": 1, "rows": [{{"case": "c", "name": "n", "how": "h", "ok": not {bad}}}]}}))
    sys.exit({bad})
if {broken}:
    sys.exit("no such work")
times = {{"median_s": {seconds}, "min_s": {seconds} / 2, "max_s": 1.0, "peak_bytes": 1 << 20}}
print(json.dumps(times | {{"device": "cpu", "torch": "0.0"}}, indent=2))
"""


class Stubs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def stub(self, name: str, seconds: float, bad: int = 0, broken: bool = False) -> str:
        path, log = self.folder / name, str(self.folder / "log")
        path.write_text(STUB.format(python=sys.executable, log=log, name=name, seconds=seconds, bad=bad, broken=broken))
        path.chmod(0o755)
        return str(path)

    def main(self, enel: str, torch: str, *more) -> tuple:
        """Exit code, standard output, standard error and the order programs ran in."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run.main(["--enel", enel, "--python", torch, "--threads", "1", "--rounds", "2", *more])
        return code, out.getvalue(), err.getvalue(), (self.folder / "log").read_text().split()

    def test_ratio_is_their_time_over_ours(self):
        result = self.folder / "run.json"
        more = ("--work", "prefill", "--modes", "f32", "--json", str(result))
        code, out, _, order = self.main(self.stub("enel", 0.25), self.stub("torch", 0.5), *more)
        self.assertEqual(code, 0)
        self.assertEqual(order, ["torch"] + 2 * ["enel", "torch"])
        (ratio,) = json.loads(result.read_text())["work"]["prefill"]["ratios"]
        self.assertEqual((ratio["per_round"], ratio["median"], ratio["of_shortest"]), ([2.0, 2.0], 2.0, 2.0))
        self.assertIn("| torch eager f32 / enel f32 | 2.00 | 2.00 | 2.00 | 2.00 |", out)

    def test_our_f32_is_not_held_against_their_bf16(self):
        result = self.folder / "run.json"
        self.main(self.stub("enel", 0.25), self.stub("torch", 0.5), "--work", "decode", "--json", str(result))
        pairs = [(r["ours"], r["theirs"]) for r in json.loads(result.read_text())["work"]["decode"]["ratios"]]
        self.assertNotIn(("enel f32", "torch eager bf16"), pairs)
        self.assertEqual(len(pairs), 3)

    def test_failed_check_times_nothing(self):
        code, out, err, order = self.main(self.stub("enel", 0.25), self.stub("torch", 0.5, bad=1), "--work", "decode")
        self.assertEqual((code, out, order), (1, "", ["torch"]))
        self.assertIn("c n: h", err)

    def test_program_that_fails_is_named(self):
        code, _, err, _ = self.main(self.stub("enel", 0.25, broken=True), self.stub("torch", 0.5), "--work", "embed")
        self.assertEqual(code, 1)
        self.assertIn("no such work", err)

    def test_archive_holds_no_paths(self):
        result = self.folder / "run.json"
        self.main(self.stub("enel", 0.25), self.stub("torch", 0.5), "--work", "embed", "--json", str(result))
        self.assertNotIn(str(self.folder), result.read_text())

    def test_unknown_work_is_bad_usage(self):
        with self.assertRaises(SystemExit) as raised, contextlib.redirect_stderr(io.StringIO()):
            run.main(["--work", "train"])
        self.assertEqual(raised.exception.code, 2)


if __name__ == "__main__":
    unittest.main()
