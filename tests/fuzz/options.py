"""Options of the commands on good files: numbers beyond all bounds, texts, paths and combinations without sense."""

import tempfile
from functools import cache
from pathlib import Path

import caloman
from caloman.cli import command_parser
from caloman.generation.generate import generate
from fuzz import Commands
from fuzz._plain import Rng
from fuzz.bundles import MESH, write_bundle

DAMAGES = ("generate", "merge", "reconstruct", "encode", "score", "prepare", "simulate", "check", "dimension")
"""Commands that get odd options."""
MOST = 1
VALUES = (
    "", " ", "x", "0", "-1", "1", "2", "3/2", "1/0", "0/1", "9" * 30, "-" + "9" * 30, str(2**63), str(2**64), "1e400",
    "nan", "inf", "-inf", "0.5", "1e-320", "true", "None", "..", "/", "/dev/null", "/dev/zero", "/missing/x", "a\nb",
    "~", "1GeV", "0MeV", "-1GeV", "nanGeV", "1e300TeV", "uniform:1GeV", "uniform:2GeV:1GeV", "log-uniform:0:1GeV",
    "discrete:1GeV=1e308,2GeV=1e308", "discrete:1GeV=-1", "histogram:/dev/zero", "{x}", "[0:5]",
    "cuda:99", "meta", "mps", "cpu:7", "x" * 5000, "\u202e", "1-photons", "2", "tcp://127.0.0.1:1",
)  # fmt: skip


@cache
def generated() -> bytes:
    """A file of `caloman generate`, which every other command reads, too."""
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "bundle")
        output = Path(folder) / "showers.hdf5"
        generate(Path(folder) / "bundle", output, "log-uniform:1GeV:10GeV", n=50)
        return output.read_bytes()


def inputs(folder: Path) -> dict[str, str]:
    """Writes a bundle, showers and a mesh, and returns good values of arguments."""
    run, showers, mesh = folder / "run", folder / "showers.hdf5", folder / "mesh.xml"
    run.mkdir()
    write_bundle(run / "bundle")
    showers.write_bytes(generated())
    mesh.write_text(MESH.to_text())
    good = {"run": str(run), "output": "out.hdf5", "n": "3", "energies": "1GeV,2GeV", "dataset": str(mesh)}
    return good | dict.fromkeys(("inputs", "showers", "file", "files", "path"), str(showers))


def warm(folder: Path) -> Commands:
    good = inputs(folder)
    run, showers, spectrum = good["run"], good["showers"], ["--energies", good["energies"], "--n", good["n"]]
    return [
        ["generate", run, "generated.hdf5", *spectrum],
        *([command, run, showers, f"{command}.hdf5"] for command in ("reconstruct", "encode", "score")),
        ["merge", "merged.hdf5", showers],
        ["prepare", showers, "prepared.h5"],
        ["simulate", "simulated.hdf5", "--dataset", good["dataset"], *spectrum],
        ["check", showers],
        ["dimension", showers, "--n", "50"],
    ]


def write(folder: Path, rng: Rng, damages: list[str]) -> Commands:
    (command,), good = damages, inputs(folder)
    arguments = [command]
    for action in command_parser(command, getattr(caloman, command))._actions:
        option = action.option_strings
        if action.dest == "help" or (option and action.dest not in ("n", "energies") and rng.random() < 0.7):
            continue
        odd = rng.random() < (0.5 if option else 0.1)
        value = VALUES[rng.integers(len(VALUES))] if odd else good.get(action.dest, "1")
        if action.nargs == 0:
            arguments.append(option[0])
        else:
            arguments.append(f"{option[0]}={value}" if option else value)
    return [arguments]
