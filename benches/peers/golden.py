"""Does a peer compute the right thing? Reads golden values and compares tensors with them.

A case is NAME.safetensors (tensors `w.` weights, `in.` inputs, `act.` activations, and results) beside NAME.json (sizes).
"""

import json
import math
import pathlib
import struct

import torch

# Source: the safetensors format, https://github.com/huggingface/safetensors#format; only what golden values use.
_DTYPES = {
    "F32": torch.float32, "F64": torch.float64, "BF16": torch.bfloat16,
    "I32": torch.int32, "I64": torch.int64, "U8": torch.uint8,
}


class Case:
    """One golden case: its name, its sizes, its tensors by name."""

    def __init__(self, path: pathlib.Path):
        self.name = path.stem
        self.config = json.loads(path.with_suffix(".json").read_text())["config"]
        self.tensors = read_safetensors(path)

    def weights(self) -> dict:
        """The weights, without the `w.` of their names."""
        return {name[2:]: tensor for name, tensor in self.tensors.items() if name.startswith("w.")}


class Checker:
    """Collects comparisons, a line each, and whether all held."""

    def __init__(self):
        self.rows, self.failed = [], 0

    def close(self, case: str, name: str, got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
        """Relative L2 distance within `tolerance`."""
        error = relative_l2(got, want)
        self._row(case, name, f"relative L2 {error:.1e}, tolerance {tolerance:.0e}", error <= tolerance)

    def equal(self, case: str, name: str, got: torch.Tensor, want: torch.Tensor) -> None:
        """Every element the same."""
        same = got.shape == want.shape and bool((got.cpu().long() == want.long()).all())
        self._row(case, name, "exact", same)

    def finish(self, as_json: bool) -> int:
        """Prints the rows; the exit code."""
        if as_json:
            print(json.dumps({"failed": self.failed, "compared": len(self.rows), "rows": self.rows}))
        else:
            for row in self.rows:
                print(f"{'ok  ' if row['ok'] else 'FAIL'} {row['case']} {row['name']}: {row['how']}")
            print(f"{len(self.rows)} compared, {self.failed} failed")
        return 1 if self.failed or not self.rows else 0

    def _row(self, case: str, name: str, how: str, ok: bool) -> None:
        self.rows.append({"case": case, "name": name, "how": how, "ok": ok})
        self.failed += not ok


def cases(folder: str, pattern: str) -> list:
    """The cases whose file name fits `pattern`; none is an error, since a check of nothing proves nothing."""
    found = sorted(pathlib.Path(folder).glob(pattern + ".safetensors"))
    if not found:
        raise SystemExit(f"{folder}: no golden values named {pattern}.safetensors")
    return [Case(path) for path in found]


def relative_l2(got: torch.Tensor, want: torch.Tensor) -> float:
    """|got - want| / |want| over whole tensors; infinite for another shape or what is not a number."""
    if got.shape != want.shape:
        return math.inf
    got, want = got.detach().cpu().double(), want.double()
    error = float((got - want).norm() / want.norm())
    return error if math.isfinite(error) else math.inf


def read_safetensors(path: pathlib.Path) -> dict:
    """All tensors of a file: a length, a JSON table of offsets, and the bytes."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + length])
    table.pop("__metadata__", None)
    tensors = {}
    for name, entry in table.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        # A copy of its own: a view may start at an address its dtype cannot.
        flat = torch.frombuffer(data[begin:end], dtype=_DTYPES[entry["dtype"]]) if end > begin else torch.empty(0, dtype=_DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    return tensors
