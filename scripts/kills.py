"""Kills commands at random points, repeats them until they succeed, and compares the files with an undisturbed run.

    scripts/kills --kills 100 --seed 1
    scripts/kills --kills 20 --commands generate merge --run runs/photons

Each attempt is a process of its own that ends by SIGKILL, at a random point of the processor time that it would take. A
round has one to three attempts and a last one that is left alone; then the files have to be those of the undisturbed
run, to the bit, with no others beside them. Without --run a tiny model is trained first. The exit status is 1 if
anything differs.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil

import caloman
from caloman.cli import main as command_line
from caloman.files import sha256
from caloman.showers.geometry import Geometry, Layer
from caloman.specification import read_layers, to_yaml

MESH = Geometry("small", "photon", (Layer(0, (0, 1, 3)), Layer(1, (0, 1, 2, 4), 4), Layer(3, (0, 5, 10))), 0.01)
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""The system counts processor time in these steps [s]."""
SECONDS = 10.0
"""Shortest time between two words on how far it has come."""
Arguments = Callable[[Path, Path], list[str | Path]]
"""The inputs and an empty folder -> command line that writes into that folder."""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Args:
        arguments: its command line.
        result: patterns of the files that have to be equal to the bit.
    """

    arguments: Arguments
    result: tuple[str, ...] = ("*.hdf5",)


def generate(inputs: Path, folder: Path) -> list[str | Path]:
    """Generation in chunks, which goes on after a kill."""
    return ["generate", inputs / "run", folder / "showers.hdf5", *spectrum(inputs), "--n", "5500", "--seed", "3"]


COMMANDS = {
    "fit": Command(lambda i, o: ["fit", i / "pipeline.yaml", "--output", o / "run"], ("run/bundle/*.safetensors",)),
    "generate": Command(generate),
    "prepare": Command(lambda i, o: ["prepare", i / "a.hdf5", i / "b.hdf5", o / "prepared.hdf5"]),
    "merge": Command(lambda i, o: ["merge", o / "merged.hdf5", *(i / f"shard-{k}.hdf5" for k in range(3))]),
    "encode": Command(lambda i, o: ["encode", i / "run", i / "a.hdf5", o / "latents.hdf5"]),
    "reconstruct": Command(lambda i, o: ["reconstruct", i / "run", i / "a.hdf5", o / "reconstructed.hdf5"]),
    "export": Command(
        lambda i, o: ["export", i / "run", o / "generator.pt"], ("generator.pt.reference.bin",)
    ),  # the graph holds names of temporary files
    "evaluate": Command(
        lambda i, o: ["evaluate", i / "a.hdf5", i / "train.hdf5", "--output", o / "report", "--modes", "prdc"],
        ("report/metrics.json",),
    ),
}


@dataclass
class Tally:
    """What became of a command.

    Args:
        seconds: processor time of the undisturbed run.
        kills: attempts that were killed.
        rounds: runs that succeeded after kills.
        unequal: of these, with other bits than the undisturbed run.
        stray: of these, with other files.
        failed: attempts that ended with an error.
    """

    seconds: float
    kills: int = 0
    rounds: int = 0
    unequal: int = 0
    stray: int = 0
    failed: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether kills left no trace."""
        return not (self.unequal or self.stray or self.failed)


def attempt(arguments: list[str | Path], log: Path, end: float = float("inf")) -> tuple[int | None, float]:
    """Runs a command in a process, and kills that after so much processor time.

    Returns:
        The exit status, or None if it was killed, and the processor time [s].
    """
    process = os.fork()
    if process == 0:
        status = 70  # of a traceback
        try:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            status = command_line([str(argument) for argument in arguments])
        except BaseException:  # nothing may go on in the child
            traceback.print_exc()
        os._exit(status)
    watched = psutil.Process(process)
    while True:
        found, status, usage = os.wait4(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if sum(watched.cpu_times()[:2]) > end - TICK:
            time.sleep(end % TICK)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None, end
        time.sleep(0.0005)


def files(folder: Path) -> list[str]:
    """Names of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """Name and SHA-256 of the files that have to be equal."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    if not paths:
        raise SystemExit(f"{folder}: no {', '.join(patterns)}")
    return {str(path.relative_to(folder)): sha256(path) for path in paths}


def torment(command: Command, inputs: Path, kills: int, rng: np.random.Generator) -> Tally:
    """Kills a command so many times, in rounds."""
    folder, log = inputs.parent / "out", inputs.parent / "log"
    arguments = command.arguments(inputs, folder)

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    fresh()
    tally, spoken = Tally(run(arguments, log)), time.monotonic()
    expected, names = digests(folder, command.result), files(folder)
    while tally.kills < kills:
        fresh()
        for _ in range(rng.integers(1, 4)):
            status, _ = attempt(arguments, log, rng.uniform(0, tally.seconds))
            tally.kills += status is None
            if status is not None:
                break
        else:
            status, _ = attempt(arguments, log)
        tally.rounds += 1
        if time.monotonic() - spoken > SECONDS:
            print(f"{arguments[0]}: {tally.kills} of {kills} kills", file=sys.stderr, flush=True)
            spoken = time.monotonic()
        if status:
            tally.failed += 1
            tally.words.append(log.read_text().strip().splitlines()[-1])
            continue
        tally.unequal += digests(folder, command.result) != expected
        if (found := files(folder)) != names:
            tally.stray += 1
            tally.words.append(f"not the same files: {sorted(set(found) ^ set(names))}")
    return tally


def spectrum(inputs: Path) -> list[str | Path]:
    """Energies that the model knows."""
    low, high = caloman.load(inputs / "run").conditions[0].range
    return ["--energies", f"log-uniform:{low}:{high}"]


def tiny_pipeline(inputs: Path) -> Path:
    """Writes the photons' pipeline with networks and data that train in seconds."""
    spec = read_layers("1-photons/caloman") | {"geometry": str(inputs / "mesh.xml"), "monitor": None}
    spec["data"] = {"train": [str(inputs / "train.hdf5")], "max_showers": 600}
    parts = spec["model"]["init_args"]
    shape = parts["shape"]["init_args"]
    shape["autoencoder"]["init_args"] |= {"hidden": [32], "latent_dim": 4}
    for part in (shape["density"], shape["residual"], parts["energy"]):
        part["init_args"]["flow"]["init_args"] |= {"transforms": 2, "hidden": 16, "bins": 4}
    for stage in spec["stages"].values():
        stage["trainer"] = {"max_epochs": 3, "batch_size": 128}
    (inputs / "pipeline.yaml").write_text(to_yaml(spec))
    return inputs / "pipeline.yaml"


def prepare_inputs(inputs: Path, given: Path | None) -> None:
    """Makes the files that the commands read."""
    inputs.mkdir()
    log, mesh = inputs / "log", inputs / "mesh.xml"
    (caloman.load(given).geometry if given else MESH).to_xml(mesh)
    energies = ["--energies", "log-uniform:1GeV:100GeV", "--n", "2500"]
    run(["simulate", inputs / "train.hdf5", "--dataset", mesh, *energies], log)
    pipeline = tiny_pipeline(inputs)
    if given is None:
        run(["fit", pipeline, "--output", inputs / "run"], log)
    else:
        (inputs / "run").symlink_to(given.resolve())
    for name, *options in [
        *((f"{name}.hdf5", "--n", "2500", "--seed", str(ord(name))) for name in "ab"),
        *((f"shard-{k}.hdf5", "--n", "4500", "--shard", f"{k}/3") for k in range(3)),
    ]:
        run(["generate", inputs / "run", inputs / name, *options, *spectrum(inputs)], log)


def run(arguments: list[str | Path], log: Path) -> float:
    """Runs a command undisturbed, and returns its processor time [s]."""
    status, seconds = attempt(arguments, log)
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {log.read_text()}")
    return seconds


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        prog="kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--run", type=Path, help="run folder or bundle in the place of a tiny model")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("generate", *options.commands):  # or attempts would be killed while they import
        getattr(caloman, name)
    if "evaluate" in options.commands:
        import_module("matplotlib.pyplot")
    rng = np.random.default_rng(options.seed)
    tallies = {}
    print(f"{'command':<12}{'seconds':>9}{'kills':>7}{'rounds':>8}{'unequal':>9}{'stray':>7}{'failed':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs"
        prepare_inputs(inputs, options.run)
        for name in options.commands:
            tally = tallies[name] = torment(COMMANDS[name], inputs, options.kills, rng)
            print(f"{name:<12}{tally.seconds:>9.2f}{tally.kills:>7}{tally.rounds:>8}{tally.unequal:>9}{tally.stray:>7}"
                  f"{tally.failed:>8}", flush=True)  # fmt: skip
            for words in dict.fromkeys(tally.words):
                print(f"  {words}")
    if options.json:
        options.json.write_text(json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=1))
    return int(not all(tally.clean for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
