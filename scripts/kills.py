"""Kills commands at random points, repeats them until they succeed, and compares the files with an undisturbed run.

    scripts/kills --kills 100 --seed 1
    scripts/kills --kills 20 --commands generate merge --run runs/photons

Each attempt is a process of its own that ends by SIGKILL. A round has one to three attempts and a last one that is left
alone; then the files have to be those of the undisturbed run, to the bit, with no others beside them. Without --run a
tiny model is trained first. The exit status is 1 if anything differs.
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
import yaml

import caloman
from caloman.cli import main as command_line
from caloman.files import sha256

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "1-photons" / "caloman.yaml"
SAMPLE = ROOT / "data_prep" / "samples" / "photons_train.hdf5"
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
        lambda i, o: ["evaluate", i / "a.hdf5", SAMPLE, "--output", o / "report", "--modes", "hist"],
        ("report/metrics.json",),
    ),
}


@dataclass
class Tally:
    """What became of a command.

    Args:
        seconds: time of the undisturbed run.
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


def attempt(arguments: list[str | Path], log: Path, seconds: float = 3600.0) -> int | None:
    """Runs a command in a process, and kills that after a while; returns the exit status, or None if it was killed."""
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
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
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
    start = time.monotonic()
    if attempt(arguments, log):
        raise SystemExit(f"{' '.join(map(str, arguments))}: {log.read_text()}")
    tally = Tally(time.monotonic() - start)
    expected, names = digests(folder, command.result), files(folder)
    while tally.kills < kills:
        fresh()
        for _ in range(rng.integers(1, 4)):
            status = attempt(arguments, log, rng.uniform(0, tally.seconds))
            tally.kills += status is None
            if status is not None:
                break
        else:
            status = attempt(arguments, log)
        tally.rounds += 1
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


def tiny_pipeline(path: Path) -> None:
    """Writes the photons' pipeline with networks and data that train in seconds."""
    spec = yaml.safe_load(CONFIG.read_text())
    spec["data"] |= {"train": [str(SAMPLE)], "max_showers": 600}
    parts = spec["model"]["init_args"]
    shape = parts["shape"]["init_args"]
    shape["autoencoder"]["init_args"] |= {"hidden": [32], "latent_dim": 4}
    for part in (shape["density"], shape["residual"], parts["energy"]):
        part["init_args"]["flow"]["init_args"] |= {"transforms": 2, "hidden": 16, "bins": 4}
    for stage in spec["stages"].values():
        stage["trainer"] = {"max_epochs": 3, "batch_size": 128}
    spec["monitor"] = None
    path.write_text(yaml.safe_dump(spec, sort_keys=False))


def prepare_inputs(inputs: Path, run: Path | None) -> None:
    """Makes the files that the commands read."""
    inputs.mkdir()
    tiny_pipeline(inputs / "pipeline.yaml")
    made: list[list[str | Path]] = []
    if run is None:
        made.append(["fit", inputs / "pipeline.yaml", "--output", inputs / "run"])
    else:
        (inputs / "run").symlink_to(run.resolve())
    for name, *options in [
        *((f"{name}.hdf5", "--n", "2500", "--seed", str(ord(name))) for name in "ab"),
        *((f"shard-{k}.hdf5", "--n", "4500", "--shard", f"{k}/3") for k in range(3)),
    ]:
        made.append(["generate", inputs / "run", inputs / name, *options])
    for arguments in made:
        energies = spectrum(inputs) if arguments[0] == "generate" else []
        if attempt([*arguments, *energies], inputs / "log"):
            raise SystemExit((inputs / "log").read_text())


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
    print(f"{'command':<12}{'seconds':>9}{'kills':>7}{'rounds':>8}{'unequal':>9}{'stray':>7}{'failed':>8}")
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
