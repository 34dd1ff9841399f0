#!/usr/bin/env python3
"""Count the answers that are the captions they were trained on, to the letter.

    enel caption samples/train/clouds --model MODEL --prompt 'What is this?' --greedy --output results.jsonl
    python3 compare.py captions.json results.jsonl
"""

import json
import sys
from pathlib import Path


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    wanted = {entry["object_id"]: entry["conversations"][1]["value"] for entry in json.loads(Path(sys.argv[1]).read_text())}
    answers = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    n_right = 0
    for answer in answers:
        name = Path(answer["cloud"]).stem
        if answer["text"] == wanted[name]:
            n_right += 1
        else:
            print(f"{name}: {answer['text']!r}, expected {wanted[name]!r}")
    print(f"{n_right} of {len(wanted)} are right")
    return 0 if n_right == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
