"""Options of the commands on good files: numbers beyond all bounds, texts, paths and combinations without sense."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

import caloman
from caloman.cli import command_parser
from caloman.showers.showers import Showers
from fuzz import Case
from fuzz._plain import Rng
from fuzz.bundles import MESH, whole

COMMANDS = ("generate", "merge", "reconstruct", "encode", "score", "prepare", "simulate", "check", "dimension")
VALUES = (
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "1",
        "2",
        "3/2",
        "1/0",
        "0/1",
        "9" * 30,
        "-" + "9" * 30,
        str(2**63),
        str(2**64),
        "1e400",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "0.5",
        "1e-320",
        "true",
        "None",
        "..",
        "/",
        "/dev/null",
        "/dev/zero",
        "/missing/x",
        "a\nb",
        "~",
    ),
    *("1GeV", "0MeV", "-1GeV", "nanGeV", "1e300TeV", "uniform:1GeV", "uniform:2GeV:1GeV", "log-uniform:0:1GeV"),
    *("discrete:1GeV=1e308,2GeV=1e308", "discrete:1GeV=-1", "histogram:/dev/zero", "{x}", "[0:5]"),
    *("cuda:99", "meta", "mps", "cpu:7", "x" * 5000, "\u202e", "1-photons", "2", "tcp://127.0.0.1:1"),
)


def cases(seed: int) -> Iterator[Case]:
    for number in count():
        rng = np.random.default_rng([seed, number])
        command = COMMANDS[rng.integers(len(COMMANDS))]
        yield Case(command, lambda folder, rng=rng, command=command: [write(folder, rng, command)])


def write(folder: Path, rng: Rng, command: str) -> list[str]:
    bundle, showers = folder / "run" / "bundle", folder / "showers.hdf5"
    bundle.mkdir(parents=True)
    for name, content in whole().items():
        (bundle / name).write_bytes(content)
    energies = rng.uniform(1e3, 1e4, 30).astype(np.float32)
    Showers(energies, rng.gamma(0.5, 100, (30, 16)).astype(np.float32), MESH).save(showers)
    (folder / "mesh.xml").write_text(MESH.to_text())
    given = {"run": str(folder / "run"), "output": "out.hdf5", "n": "3", "energies": "1GeV,2GeV"}
    given |= dict.fromkeys(("inputs", "showers", "file", "files", "path"), str(showers))
    given["dataset"] = str(folder / "mesh.xml")
    arguments = [command]
    for action in command_parser(command, getattr(caloman, command))._actions:
        if action.dest == "help" or (
            action.option_strings and action.dest not in ("n", "energies") and rng.random() < 0.7
        ):
            continue
        odd = rng.random() < (0.5 if action.option_strings else 0.1)
        value = VALUES[rng.integers(len(VALUES))] if odd else given.get(action.dest, "1")
        if action.nargs == 0:
            arguments.append(action.option_strings[0])
        elif action.option_strings:
            arguments.append(f"{action.option_strings[0]}={value}")
        else:
            arguments.append(value)
    return arguments
