"""Files in the layout of LEMURS: tables or records, with all that can be wrong with tables, and with fields."""

from pathlib import Path

import h5py
import numpy as np

from caloman.showers.geometry import Geometry, Layer
from fuzz import Commands
from fuzz import showers as fuzz_showers
from fuzz._plain import Rng
from fuzz.showers import write_damaged

MOST = 2
MESH = Geometry("mesh", "photon", tuple(Layer(i, (0, 1, 3), 2) for i in range(5)))
NAMES = ("showers", "incident_energy", "incident_theta", "incident_phi", "events")
FIELDS = [("showers", "f4", (2, 2, 5)), *((name, "f4") for name in NAMES[1:4])]


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list) -> Commands:
    path, mesh = folder / "showers.hdf5", folder / "mesh.xml"
    MESH.to_xml(mesh)
    records = rng.random() < 0.5
    name = "events" if records else NAMES[rng.integers(4)]
    write_damaged(path, records_of if records else tables, name, rng, damages)
    rows = "" if rng.random() < 0.7 else f"[{rng.integers(60)}:{rng.integers(60)}]"
    return [["prepare", f"{path}{rows}", "prepared.h5", "--format", "lemurs", "--dataset", str(mesh)]]


def showers(rng: Rng, fields: list = FIELDS) -> np.ndarray:
    records = np.zeros(50, fields)
    ranges = {"showers": (0, 1e3), "incident_energy": (1e3, 1e5), "incident_theta": (0.8, 2.2), "incident_phi": (-3, 3)}
    for name, ends in ranges.items():
        if name in (records.dtype.names or ()) and records[name].dtype.kind in "fiu":
            records[name] = rng.uniform(*ends, records[name].shape)
    return records


def records_of(file: h5py.File, rng: Rng) -> None:
    storage = [{}, {"chunks": (8,), "compression": "gzip", "shuffle": True}][rng.integers(2)]
    file.create_dataset("events", data=showers(rng), **storage)


def tables(file: h5py.File, rng: Rng) -> None:
    content = showers(rng)
    chunks = [{}, {"chunks": (7, 2, 1, 2), "compression": "gzip"}][rng.integers(2)]
    for name in content.dtype.names:
        file.create_dataset(name, data=content[name], **(chunks if name == "showers" else {}))


def other_fields(file: h5py.File, name: str, rng: Rng) -> None:
    """A field that is missing, of another type or shape, or far too long."""
    fields: list = list(FIELDS)
    place = rng.integers(4)
    types = ["f8", "i4", "u1", "c8", "S5", "bool", "f2", [("a", "f4")], ">f4", h5py.string_dtype()]
    shapes = [(1,), (2,), (0,), (2, 2, 5), (5, 2, 2), (1, 1), (5,) * 6]
    change = rng.integers(4)
    if change == 0:
        fields.pop(place)
    elif change == 1:
        fields[place] = (fields[place][0], types[rng.integers(len(types))], *fields[place][2:])
    elif change == 2:
        fields[place] = (fields[place][0], "f4", shapes[rng.integers(len(shapes))])
    else:
        fields.append(("long", "f4", (int(rng.choice([10, 10**5, 10**6])),)))
    file.pop(name, None)
    chunks = {"chunks": (1,), "compression": "gzip"} if change == 3 or rng.random() < 0.5 else {}
    file.create_dataset("events", data=showers(rng, fields), **chunks)


def odd_numbers(file: h5py.File, name: str, rng: Rng) -> None:
    values = file[name][:]
    field = values if name != "events" else values[rng.choice(values.dtype.names)]
    for value in rng.choice(fuzz_showers.STRANGE, 3):
        field.reshape(-1)[rng.integers(field.size)] = value
    file[name][:] = values


def another_length(file: h5py.File, name: str, rng: Rng) -> None:
    values = file[name][:]
    del file[name]
    shapes = [(49,), (0,), (51,), (50, 2), (50, 1), (25, 2)]
    file[name] = np.resize(values, shapes[rng.integers(len(shapes))])


def long_records(file: h5py.File, name: str, rng: Rng) -> None:
    """Records of many megabytes in a small file: zeros that gzip makes a thousand times shorter."""
    fields = [*FIELDS, ("long", "f4", (int(rng.choice([10**6, 10**7, 10**8])),))]
    file.pop(name, None)
    table = file.create_dataset("events", (10,), fields, chunks=(1,), compression=9)
    table[0] = np.zeros((), fields)
    content = table.id.read_direct_chunk((0,))[1]
    for row in range(1, 10):
        table.id.write_direct_chunk((row,), content)


DAMAGES = (*(other_fields, other_fields, other_fields, odd_numbers, odd_numbers, another_length, another_length),
           long_records, *fuzz_showers.DAMAGES)  # fmt: skip
