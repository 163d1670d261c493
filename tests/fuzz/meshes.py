"""Binning files: odd numbers, entities, depths and lengths, and damaged text; as files and inside of shower files."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from fuzz import Commands

MOST = 2
SMALL = Geometry("small", "photon", (Layer(0, (0, 1, 3)), Layer(1, (0, 1, 2, 4), 4), Layer(3, (0, 5, 10))), 0.01)
NUMBERS = ("-1", "0", "1", "1e9", "1000000000", "10000000", "9" * 30, "9" * 5000, "nan", "inf", "-inf", "1e-300",
           "1e400", "0x10", "1_0", "", " ", "a", "0.5", "\u0663")  # fmt: skip
BOMB = '<!DOCTYPE b [<!ENTITY a0 "0,">{}]>\n'.format(
    "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
)

Rng = np.random.Generator
Damage = Callable[[str, Rng], str]


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list[Damage]) -> Commands:
    mesh = [SMALL, BUILT_IN["1-photons"], BUILT_IN["2"]][rng.choice(3, p=(0.6, 0.3, 0.1))]
    text = mesh.to_text()
    for damage in damages:
        text = damage(text, rng)
    path = folder / "mesh.xml"
    if rng.random() < 0.05:
        [os.mkfifo, Path.mkdir, lambda p: p.symlink_to(p), lambda p: p.symlink_to("/dev/zero")][rng.integers(4)](path)
    else:
        path.write_bytes(text.encode("utf-16" if rng.random() < 0.05 else "utf-8", errors="surrogatepass"))
    showers = folder / "showers.hdf5"
    with h5py.File(showers, "w", libver=("v108", "v108")) as file:
        file["incident_energies"] = np.full((3, 1), 1e3)
        file["showers"] = rng.dirichlet(np.ones(mesh.n_voxels), 3) * 1e3
        try:
            file.attrs["geometry"] = text
        except ValueError:  # h5py does not write it
            file.attrs["geometry"] = "other"
    simulate = ["simulate", "out.hdf5", "--dataset", str(path), "--n", "2", "--energies", "1GeV"]
    return [["check", str(showers), "--dataset", str(path)], ["check", str(showers)], simulate]


def number(text: str, rng: Rng) -> str:
    """Another number in an attribute."""
    quoted = text.split('"')
    if len(quoted) < 2:
        return text
    place = rng.integers(len(quoted) // 2) * 2 + 1
    values = quoted[place].split(",")
    values[rng.integers(len(values))] = NUMBERS[rng.integers(len(NUMBERS))]
    quoted[place] = ",".join(values)
    return '"'.join(quoted)


def layer_number(text: str, rng: Rng) -> str:
    """Another number of a layer."""
    key = rng.choice([' id="', ' n_bin_alpha="', ' r_edges="0,', ' threshold="'])
    return text.replace(key, key + NUMBERS[rng.integers(len(NUMBERS))], int(rng.integers(1, 3)))


def without_attribute(text: str, rng: Rng) -> str:
    key = rng.choice(["id", "n_bin_alpha", "r_edges", "threshold", "name", "dataset"])
    return text.replace(f' {key}="', ' other="', 1)


def many_layers(text: str, rng: Rng) -> str:
    n = int(rng.choice([100, 10**4, 10**5]))
    layers = "".join(f'<Layer id="{i}" r_edges="0,1" n_bin_alpha="1000"/>' for i in range(n))
    return f'<Bins><Bin name="photon">{layers}</Bin></Bins>'


def many_edges(text: str, rng: Rng) -> str:
    edges = ",".join(map(str, range(int(rng.choice([100, 10**5, 2 * 10**6])))))
    return text.replace('r_edges="0', f'r_edges="{edges}', 1)


def entities(text: str, rng: Rng) -> str:
    return BOMB + text.replace('r_edges="', 'r_edges="&a9;', 1)


def external_entity(text: str, rng: Rng) -> str:
    return '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n' + text.replace('name="', 'name="&a;', 1)


def deep(text: str, rng: Rng) -> str:
    n = int(rng.choice([100, 10**4, 10**6]))
    return f"<Bins>{'<Bin>' * n}{'</Bin>' * n if rng.random() < 0.7 else ''}</Bins>"


def long_name(text: str, rng: Rng) -> str:
    name = rng.choice(["x" * 10**6, "a\tb", "\u202ea", "../../a", "2", "1-pions", "a$1_$b"])
    return text.replace('dataset="', f'dataset="{name}', 1).replace('name="', f'name="{name}', int(rng.integers(2)))


def long_text(text: str, rng: Rng) -> str:
    return text + " " * int(rng.choice([10**6, 2**24, 10**8]))


def damaged(text: str, rng: Rng) -> str:
    letters = list(text[: 10**6])
    for place in rng.integers(len(letters) or 1, size=rng.integers(1, 9) if letters else 0):
        letters[place] = chr(rng.choice([0, 9, 34, 38, 60, 62, 0x7F, 0xFFFE, 0xD800, rng.integers(32, 127)]))
    return "".join(letters)


def cut(text: str, rng: Rng) -> str:
    return text[: rng.integers(len(text) + 1)]


def shuffled(text: str, rng: Rng) -> str:
    lines = text.split("\n")
    return "\n".join(lines[index] for index in rng.permutation(len(lines)))


DAMAGES = (
    *(number, number, number, layer_number, layer_number, without_attribute, many_layers, many_edges, entities),
    *(external_entity, deep, long_name, long_text, damaged, damaged, cut, shuffled),
)
