#!/usr/bin/env python3
"""Make the captioned clouds of this folder from the furniture library of Debian's sweethome3d-furniture 1.8-1.

    apt-get download sweethome3d-furniture=1.8-1
    dpkg-deb -x sweethome3d-furniture_1.8-1_all.deb unpacked
    python3 make.py unpacked/usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f path/to/enel .

Points are drawn from the meshes by `enel data convert` with its own seed, so the files come out the same each time.
A caption says what the catalogue says: name, tags, and the room the object is listed under.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

N_POINTS = 512
QUESTION = "<point>\nWhat is this?"
# Models of the library, by the name of their file; no two share a name in the catalogue.
MODELS = [
    "armchair", "bed1", "bedsideTable2", "bookcase", "caballito", "caffe_final", "cartoon_biplane", "cissors_swap",
    "deer", "desklamp", "kitchenaid", "led_tv", "mofx_mailbox", "oakTable", "pianoAQueue", "plasticCup", "poolTable",
    "radiator1", "ruler", "stool", "teddyBear", "umbrella", "headphones", "barrel", "electricGuitar", "basketball",
    "fireExtinguisher", "bread", "chicken", "cuckooClock", "bench", "forkLift",
]


def catalogue(library):
    """Rows of the catalogue by the name of the model's file."""
    text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
    rows = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        rows.setdefault(number, {})[key] = value.strip()
    return {PurePosixPath(row["model"]).stem: row for row in rows.values() if "model" in row}


def lower(word):
    """A word in small letters, unless it is made of capitals."""
    return word if word.isupper() else word.lower()


def caption(row):
    """What the catalogue says, as sentences."""
    tags = [lower(tag.strip()) for tag in row.get("tags", "").split(",") if tag.strip() != "Blend Swap"]
    sentences = [f"{row['name']}."]
    if tags:
        sentences.append(f"Tags: {', '.join(tags)}.")
    if row["category"] != "Miscellaneous":
        sentences.append(f"Listed under {row['category'].lower()}.")
    return " ".join(sentences)


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    source, enel, target = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    (target / "clouds").mkdir(exist_ok=True)
    entries, table = [], []
    with zipfile.ZipFile(source) as library, tempfile.TemporaryDirectory() as unpacked:
        library.extractall(unpacked)
        rows = catalogue(library)
        for model in MODELS:
            row = rows[model]
            mesh = Path(unpacked) / row["model"].lstrip("/")
            cloud = target / "clouds" / f"{model}.npy"
            command = [enel, "data", "convert", mesh, "--points", str(N_POINTS), "-o", cloud]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            talk = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": caption(row)}]
            entries.append({"object_id": model, "conversation_type": "simple_description", "conversations": talk})
            table.append(f"| `{model}` | {row['name']} | {row.get('creator', '')} |")
    # One object a line, so that a change shows.
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (target / "captions.json").write_text(f"[\n{lines}\n]\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
