"""Shower files: odd structure, storage, values and attributes, and damaged bytes."""

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from fuzz import Commands
from fuzz.meshes import SMALL as MESH

MOST = 2
NAMES = ("incident_energies", "showers", "validation_rows")
STRANGE = [0, 1, -1, 2**31, 2**63 - 1, -(2**63), np.nan, np.inf, -np.inf, 1e300, 1e-300, 3.5, 1e39]

Rng = np.random.Generator
Damage = Callable[[h5py.File, str, Rng], None]


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list[Damage]) -> Commands:
    path = folder / "showers.hdf5"
    write_damaged(path, fill, NAMES[rng.choice(3, p=(0.3, 0.6, 0.1))], rng, damages)
    rows = "" if rng.random() < 0.7 else f"[{rng.integers(60)}:{rng.integers(60)}]"
    prepare = ["prepare", f"{path}{rows}", "prepared.h5"] + ["--compress"] * int(rng.integers(2))
    return [
        ["check", f"{path}{rows}"],
        prepare,
        ["simulate", "simulated.hdf5", "--dataset", "1-photons", "--n", "2", "--energies", f"{path}{rows}"],
    ]


def fill(file: h5py.File, rng: Rng) -> None:
    """Writes 50 good showers."""
    storage = [{}, {"chunks": (7, 9)}, {"chunks": (10, 16), "compression": "gzip", "shuffle": True},
               {"chunks": (7, 5), "compression": "gzip"}][rng.integers(4)]  # fmt: skip
    dtype = rng.choice(["f4", "f8"])
    file.create_dataset("incident_energies", data=rng.uniform(1e3, 1e5, (50, 1)).astype(dtype))
    voxels = rng.gamma(0.5, 1e3, (50, MESH.n_voxels)).astype(dtype)
    file.create_dataset("showers", data=voxels, **storage)
    file.attrs.update({"dataset": "small", "geometry": MESH.to_text()})
    if rng.random() < 0.3:
        file["validation_rows"] = np.sort(rng.choice(50, 5, replace=False))


def write_damaged(path: Path, fill: Callable[[h5py.File, Rng], None], name: str, rng: Rng, damages: list) -> None:
    """Writes a good file and damages it, mostly its table of this name."""
    with h5py.File(path, "w", libver=("earliest" if rng.random() < 0.3 else "v108", "latest")) as file:
        fill(file, rng)
        for damage in sorted(
            damages, key=lambda damage: damage is virtual
        ):  # HDF5 crashes when it writes to itself through others
            # two damages may not go together
            with suppress(OSError, RuntimeError, ValueError, TypeError, KeyError):
                if damage not in BYTES:
                    damage(file, name, rng)
    for damage in damages:
        if damage in BYTES and path.is_file() and path.stat().st_size:
            damage(path, rng)


def _replace(file: h5py.File, name: str) -> None:
    if name in file:
        del file[name]


def soft_link(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    file[name] = h5py.SoftLink(rng.choice(["/nothing", f"/{name}", "/", "/showers"]))


def external_link(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    target = Path(file.filename).parent / "pipe"
    if not target.exists():
        os.mkfifo(target)
    file[name] = h5py.ExternalLink(rng.choice([str(target), "showers.hdf5", "/dev/zero", "/etc/passwd"]), f"/{name}")


def external_storage(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    target = rng.choice(["/dev/zero", "/etc/passwd", "nothing"])
    file.create_dataset(name, (50, MESH.n_voxels), "f4", external=[(target, 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    layout = h5py.VirtualLayout((50, MESH.n_voxels), "f4")
    layout[:] = h5py.VirtualSource(rng.choice([".", "missing.hdf5", "/dev/zero"]), name, (50, MESH.n_voxels))
    file.create_virtual_dataset(name, layout)


def group(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    file.create_group(name)["inside"] = 1


def circle(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    file[name] = file["/"]


def odd_type(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    text = h5py.string_dtype()
    types = ["c8", "S5", "f2", "i1", "u8", "bool", "f4,i4", "longdouble", ">f8", h5py.vlen_dtype("f4"), h5py.ref_dtype,
             np.dtype("(3,)f4"), h5py.enum_dtype({"a": 1}), np.dtype("V7"), text]  # fmt: skip
    file.create_dataset(name, (50, MESH.n_voxels), types[rng.integers(len(types))])


def odd_shape(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    shapes = [(), (0,), (50,), (0, 1), (50, 0), (1, 50), (50, 1), (49, MESH.n_voxels), (50, 2, 8), (5,) * 8]
    shape = shapes[rng.integers(len(shapes))]
    file[name] = h5py.Empty("f4") if rng.random() < 0.1 else np.ones(shape, "f4")


def huge(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    columns = {"showers": (MESH.n_voxels,), "incident_energies": (1,)}.get(name, ())
    rows = int(rng.choice([10**6, 10**8, 10**9, 10**12, 2**62]))
    chunks = [None, (1000, *columns), (min(rows, 2**24), *(1 for _ in columns))][rng.integers(3)]
    gzip = {"compression": "gzip"} if chunks else {}
    file.create_dataset(name, (rows, *columns), "f4", chunks=chunks, **gzip)


def bomb(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    columns = MESH.n_voxels if name == "showers" else 1
    shuffle, checksum = bool(rng.integers(2)), bool(rng.integers(2))
    table = file.create_dataset(
        name, data=np.ones((50, columns), "f4"), chunks=(10, columns), compression="gzip", shuffle=shuffle,
        fletcher32=checksum,
    )  # fmt: skip
    content = zlib.compress(bytes(int(rng.choice([10**3, 10**6, 10**8, 3 * 10**8]))))
    kept = rng.integers(1, len(content) + 1) if rng.random() < 0.3 else len(content)
    table.id.write_direct_chunk((10, 0), content[:kept])


def other_filter(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    columns = MESH.n_voxels if name == "showers" else 1
    filters = [{"compression": "lzf"}, {"scaleoffset": 2}, {"compression": 32001, "allow_unknown_filter": True}]
    chosen = filters[rng.integers(len(filters))]
    file.create_dataset(name, (50, columns), "f4", chunks=(10, columns), **chosen)


def missing_chunks(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)
    columns = MESH.n_voxels if name == "showers" else 1
    table = file.create_dataset(name, (50, columns), "f4", chunks=(10, columns), compression="gzip")
    table[: rng.integers(50)] = 1


def nothing(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, name)


def strange_values(file: h5py.File, name: str, rng: Rng) -> None:
    table = file.get(name)
    plain = isinstance(table, h5py.Dataset) and not table.is_virtual  # HDF5 crashes if a table is made of itself
    if plain and table.dtype.kind == "f" and table.size and table.ndim == 2:
        for value in rng.choice(STRANGE, 3):
            with np.errstate(over="ignore"):
                table[rng.integers(len(table)), rng.integers(table.shape[1])] = value


def rows_for_validation(file: h5py.File, name: str, rng: Rng) -> None:
    _replace(file, "validation_rows")
    choices = [[5, 3], [-1], [50], [1, 1], [2**62], [0.5], [np.nan], [[1, 2]], 3, "text", []]
    file["validation_rows"] = choices[rng.integers(len(choices))]


def attribute(file: h5py.File, name: str, rng: Rng) -> None:
    values = [1, 1.5, "text", "2", "1-pions", "x.xml", "/dev/zero", b"\xff\xfe", [1, 2], ["a", "b"], h5py.Empty("f4"),
              1j, np.zeros(3, "f4,i4"), np.nan, "x" * 60_000, "<Bins/>", "<Bins><Bin name='a'/></Bins>",
              "[[[[", '[{"sha256": 1}]', '{"a": 1}', "a\nb\x00c", file.ref, np.void(b"abc")]  # fmt: skip
    key = rng.choice(["dataset", "geometry", "sources", "trained_on", "chunk"])
    try:
        file.attrs[key] = values[rng.integers(len(values))]
    except (ValueError, TypeError):  # h5py does not write it
        file.attrs[key] = "other"


def many_names(file: h5py.File, name: str, rng: Rng) -> None:
    for i in range(2000):
        file.create_group(f"{i} \x1b[31m \u202e")


def flipped(path: Path, rng: Rng) -> None:
    content = bytearray(path.read_bytes())
    early = rng.random() < 0.7
    for place in rng.integers(2500 if early else len(content), size=rng.integers(1, 9)):
        content[min(place, len(content) - 1)] = rng.integers(256)
    path.write_bytes(content)


def cut(path: Path, rng: Rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def overwritten(path: Path, rng: Rng) -> None:
    content = bytearray(path.read_bytes())
    start, n = rng.integers(len(content)), rng.integers(1, 300)
    content[start : start + n] = [bytes(n), b"\xff" * n, rng.bytes(n)][rng.integers(3)]
    path.write_bytes(content)


def replaced(path: Path, rng: Rng) -> None:
    path.unlink()
    [os.mkfifo, Path.mkdir, lambda p: p.symlink_to(p), lambda p: p.symlink_to("/dev/zero"), Path.touch,
     lambda p: p.write_bytes(rng.bytes(5000)), lambda p: p.write_text("text")][rng.integers(7)](path)  # fmt: skip


BYTES = (flipped, cut, overwritten, replaced)
DAMAGES = (
    *(soft_link, external_link, external_storage, virtual, group, circle, odd_type, odd_shape, huge, bomb),
    *(other_filter, missing_chunks, nothing, strange_values, rows_for_validation, attribute, many_names),
    *(flipped, flipped, flipped, cut, overwritten, overwritten, replaced),
)
