"""Point clouds in the layout of ShowerData: lists whose lengths and places are not true, and odd points."""

import struct
from pathlib import Path

import h5py
import numpy as np

from fuzz import Commands
from fuzz import showers as fuzz_showers
from fuzz._plain import Rng
from fuzz.meshes import SMALL as MESH
from fuzz.showers import write_damaged

MOST = 2
NAMES = ("showers", "showers", "showers", "energies", "directions", "pdg", "shape")
LENGTHS = (0, 1, 3, 4, 400, 2**16, 2**24, 2**30, 2**31, 2**32 - 1)


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list) -> Commands:
    path, mesh = folder / "showers.hdf5", folder / "mesh.xml"
    MESH.to_xml(mesh)
    write_damaged(path, fill, NAMES[rng.integers(len(NAMES))], rng, [d for d in damages if d not in REFERENCES])
    for damage in damages:
        if damage in REFERENCES and path.is_file():
            damage(path, rng)
    rows = "" if rng.random() < 0.7 else f"[{rng.integers(60)}:{rng.integers(60)}]"
    return [["prepare", f"{path}{rows}", "prepared.h5", "--format", "showerdata", "--dataset", str(mesh)]]


def fill(file: h5py.File, rng: Rng) -> None:
    storage = [{}, {"chunks": (7,), "compression": "gzip", "shuffle": True}, {"chunks": (7,)}][rng.integers(3)]
    lists = file.create_dataset("showers", (50,), h5py.vlen_dtype(np.dtype("f4")), **storage)
    for row in range(50):
        n = int(rng.integers(30))
        points = [*rng.normal(0, 3, (2, n)), rng.choice([0, 1, 3], n), rng.gamma(1, 0.1, n)]
        lists[row] = np.stack(points, axis=1).astype("f4").ravel()
    directions = rng.normal((0, 0, 3), 1, (50, 3))
    file["energies"] = rng.uniform(1, 100, (50, 1)).astype("f4")
    file["directions"] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    file["pdg"] = rng.choice([11, 22], 50)
    file["shape"] = [50, 30, 4]


def odd_points(file: h5py.File, name: str, rng: Rng) -> None:
    points = file["showers"][rng.integers(50)]
    if len(points):
        points[rng.integers(len(points))] = fuzz_showers.STRANGE[rng.integers(len(fuzz_showers.STRANGE))]
    file["showers"][rng.integers(50)] = points if rng.random() < 0.7 else points[:-1]


def other_lists(file: h5py.File, name: str, rng: Rng) -> None:
    types = ["f8", "i4", "S3", ">f4", "u1", "f4,i4", "c8", h5py.vlen_dtype("f4"), "bool", "f2"]
    del file["showers"]
    file.create_dataset("showers", (50,), h5py.vlen_dtype(np.dtype(types[rng.integers(len(types))])))


def odd_shape(file: h5py.File, name: str, rng: Rng) -> None:
    del file["shape"]
    shapes = [
        [50, 30, 5],
        [50, 30, 0],
        [50, 30, 2**31],
        [50],
        [],
        4,
        [[50, 30, 4]],
        [np.nan] * 3,
        [1e300] * 3,
        [-1] * 3,
    ]
    file["shape"] = shapes[rng.integers(len(shapes))]


def references(path: Path) -> list[int]:
    """Where the references of the lists lie, as far as they are stored plainly and not cut off."""
    try:
        with h5py.File(path) as file:
            if not isinstance(file.get("showers", getlink=True), h5py.HardLink):
                return []
            table = file["showers"]
            start = table.id.get_offset() if table.chunks is None else table.id.get_chunk_info(0).byte_offset
            rows = len(table) if table.chunks is None else table.chunks[0]
            return [start + 16 * row for row in range(min(rows, (path.stat().st_size - start) // 16))]
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError):
        return []


def odd_references(path: Path, rng: Rng) -> None:
    """Other lengths, heaps and numbers."""
    content, places = bytearray(path.read_bytes()), references(path)
    for place in rng.choice(places, int(rng.integers(1, 50))) if places else ():
        length, heap, index = struct.unpack_from("<IQI", content, place)
        change = rng.integers(3)
        if change == 0:
            length = LENGTHS[rng.integers(len(LENGTHS))]
        elif change == 1:
            heap = int(rng.choice([0, heap + 8, heap - 1, len(content) - 8, 2**40, 2**63]))
        else:
            index = int(rng.choice([0, 1, 2, 2**16, 2**32 - 1]))
        struct.pack_into("<IQI", content, place, length, heap % 2**64, index)
    path.write_bytes(content)


def one_long_list(path: Path, rng: Rng) -> None:
    """All references lead to one heap at the end of the file, with one long object or very many short ones."""
    content, places = bytearray(path.read_bytes()), references(path)
    n_bytes = int(rng.choice([10**5, 10**7, 10**8]))
    many = rng.random() < 0.3
    heap = len(content)
    body = struct.pack("<H6xQ", 1, 0) * (n_bytes // 16) if many else struct.pack("<H6xQ", 1, n_bytes) + bytes(n_bytes)
    content += struct.pack("<8sQ", b"GCOL\1", len(body) + 16) + body
    if content[8] == 0:  # the oldest superblock, which has no checksum, tells the end of the file
        struct.pack_into("<Q", content, 40, len(content))
    for place in places:
        shift = 16 * int(rng.integers(1000)) if many else 0
        struct.pack_into("<IQI", content, place, n_bytes // 16 * 4 * (not many), heap + shift, 1)
    path.write_bytes(content)


REFERENCES = (odd_references, one_long_list)
DAMAGES = (*(odd_points, odd_points, other_lists, odd_shape, odd_references, odd_references, odd_references),
           one_long_list, *fuzz_showers.DAMAGES)  # fmt: skip
