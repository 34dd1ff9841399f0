#!/usr/bin/env python3
"""Make the sample clouds from the furniture libraries of Debian's sweethome3d-furniture 1.8-1.

    apt-get download sweethome3d-furniture=1.8-1
    dpkg-deb -x sweethome3d-furniture_1.8-1_all.deb unpacked
    python3 make.py unpacked/usr/share/sweethome3d/furniture .

Needs numpy and Pillow. Points are drawn by area with a fixed seed, so the files come out the same each time.
Axes and unit stay those of the model: Y up. Colours are the material's own or its texture's, without light or shade.
"""

import io
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

N_POINTS = 8192
SEED = 20250213

# Sample, library, model inside the library.
SAMPLES = [
    ("chair", "BlendSwap-CC-0", "antiqueChair"),
    ("table", "BlendSwap-CC-0", "oakTable"),
    ("lamp", "BlendSwap-CC-0", "desklamp"),
    ("sofa", "BlendSwap-CC-0", "couch"),
    ("plant", "BlendSwap-CC-0", "cactus"),
    ("teddy", "BlendSwap-CC-0", "teddyBear"),
    ("guitar", "BlendSwap-CC-0", "electricGuitar"),
    ("car", "KatorLegaz", "concept-sedan-02"),
]


def catalogue_entry(library, model):
    """Name, creator and path of a model, from the library's catalogue."""
    text = library.read("PluginFurnitureCatalog.properties").decode("latin-1")
    rows = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        rows.setdefault(number, {})[key] = value.strip()
    for row in rows.values():
        path = row.get("model", "").lstrip("/")
        if PurePosixPath(path).stem == model:
            return row["name"], row.get("creator", ""), path
    raise SystemExit(f"{library.filename}: no model called {model}")


def read_materials(library, path):
    """Colour and texture of each material of an MTL file."""
    materials, name = {}, None
    if path not in library.namelist():
        return materials
    for line in library.read(path).decode("latin-1").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            name = " ".join(words[1:])
            materials[name] = {"colour": np.array([0.8, 0.8, 0.8]), "texture": None}
        elif words[0] == "Kd" and name:
            materials[name]["colour"] = np.clip([float(word) for word in words[1:4]], 0, 1)
        elif words[0] == "map_Kd" and name:
            texture = str(PurePosixPath(path).parent / words[-1])
            if texture in library.namelist():
                image = Image.open(io.BytesIO(library.read(texture))).convert("RGB")
                materials[name]["texture"] = np.asarray(image, dtype=np.float64) / 255
    return materials


def read_model(library, path):
    """Triangles of an OBJ file: corners [T, 3, 3], texture coordinates [T, 3, 2], a material for each."""
    vertices, coordinates, materials = [], [], {}
    corners, texture_corners, names, name = [], [], [], None
    for line in library.read(path).decode("latin-1").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            coordinates.append([float(word) for word in words[1:3]])
        elif words[0] == "mtllib":
            materials.update(read_materials(library, str(PurePosixPath(path).parent / " ".join(words[1:]))))
        elif words[0] == "usemtl":
            name = " ".join(words[1:])
        elif words[0] == "f":
            face = [word.split("/") for word in words[1:]]
            points = [index(parts[0], vertices) for parts in face]
            uvs = [index(parts[1], coordinates) if len(parts) > 1 and parts[1] else None for parts in face]
            for k in range(1, len(face) - 1):
                fan = (0, k, k + 1)
                corners.append([vertices[points[i]] for i in fan])
                texture_corners.append([coordinates[uvs[i]] if uvs[i] is not None else [0.0, 0.0] for i in fan])
                names.append(name)
    return np.array(corners), np.array(texture_corners), names, materials


def index(word, items):
    """OBJ counts from 1, and from the end when negative."""
    number = int(word)
    return number - 1 if number > 0 else len(items) + number


def sample(corners, texture_corners, names, materials, random):
    """Points drawn evenly over the surface, and their colours."""
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    chosen = random.choice(len(area), N_POINTS, p=area / area.sum())
    # Uniform over a triangle: fold the unit square along its diagonal.
    u, v = random.random((2, N_POINTS))
    beyond = u + v > 1
    u[beyond], v[beyond] = 1 - u[beyond], 1 - v[beyond]
    weights = np.stack([1 - u - v, u, v], axis=1)[:, :, None]
    points = (corners[chosen] * weights).sum(axis=1)
    uv = (texture_corners[chosen] * weights).sum(axis=1)
    colours = np.empty((N_POINTS, 3))
    for i, triangle in enumerate(chosen):
        material = materials.get(names[triangle])
        if material is None:
            colours[i] = 0.8
        elif material["texture"] is None:
            colours[i] = material["colour"]
        else:
            # Nearest texel; textures repeat, and their rows run from the top.
            height, width = material["texture"].shape[:2]
            column = int(uv[i, 0] % 1 * width) % width
            row = int((1 - uv[i, 1] % 1) * height) % height
            colours[i] = material["texture"][row, column]
    return points, colours


def write_ply(path, points, colours):
    """Binary PLY: three floats and three bytes for each point."""
    row = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows = np.zeros(len(points), row)
    rows["xyz"], rows["rgb"] = points, np.rint(colours * 255)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    path.write_bytes("\n".join([*lines, "end_header", ""]).encode() + rows.tobytes())


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    for number, (sample_name, library_name, model) in enumerate(SAMPLES):
        with zipfile.ZipFile(source / f"{library_name}.sh3f") as library:
            name, creator, path = catalogue_entry(library, model)
            triangles = read_model(library, path)
        points, colours = sample(*triangles, np.random.default_rng([SEED, number]))
        write_ply(target / f"{sample_name}.ply", points, colours)
        n_colours = len(np.unique(np.rint(colours * 255), axis=0))
        print(f"{sample_name}: {name}, {creator}, {library_name}, {len(triangles[0])} triangles, {n_colours} colours")


if __name__ == "__main__":
    main()
