"""The ``caloman`` command: a table of commands, each a function that is imported when it is called."""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

from caloman import __version__
from caloman.errors import CalomanError

COMMANDS = {
    "fit": ("caloman.training.command:fit", "train a generator from a pipeline YAML"),
    "runs": ("caloman.runs:runs", "list run folders with their state and best figures"),
    "generate": ("caloman.generation.generate:generate", "generate showers into a CaloChallenge file"),
    "merge": ("caloman.generation.shards:merge", "join the shards of a generation into one file"),
    "export": ("caloman.exporting.command:export", "write a generator as one file: ONNX, torch.export or TorchScript"),
    "benchmark": (
        "caloman.benchmarking.command:benchmark",
        "measure the time per shower, beside published generators",
    ),
    "reconstruct": ("caloman.generation.closure:reconstruct", "encode and decode showers, to judge the manifold"),
    "encode": (
        "caloman.generation.closure:encode",
        "write latents of showers, encoded or generated",
    ),
    "score": ("caloman.generation.anomaly:score", "tell how unusual showers are to a model with a manifold"),
    "dimension": ("caloman.evaluation.dimension:dimension", "estimate how many coordinates showers need"),
    "evaluate": ("caloman.evaluation.evaluate:evaluate", "compare a sample with Geant4 and write a report"),
    "compare": ("caloman.evaluation.compare:compare", "what became better or worse between evaluations"),
    "download": ("caloman.data.download:download", "download official files from Zenodo"),
    "prepare": ("caloman.data.prepare:prepare", "join shower files into one that training reads fast"),
    "simulate": (
        "caloman.data.simulation.simulate:simulate",
        "simulate showers with a parametric sampler",
    ),
    "check": ("caloman.data.check:check", "check that a shower file is valid"),
}
"""Command -> (module:function, help). The function's signature and docstring make its options and their help."""

SEVERAL: dict[str, dict[str, tuple[type, str]]] = {
    "benchmark": {
        "exports": (str, "ONNX files of the run to measure, too"),
        "--batches": (int, "showers per call"),
        "--engines": (str, "what runs the generators, of eager, compiled and ONNX"),
    },
    "compare": {
        "reports": (str, "metrics.json files, their folders, or FILE:NAME for one sample; the first is the baseline"),
    },
    "dimension": {
        "--representation": (str, "coordinates of the showers, of incident, layer, sqrt and logit; all by default"),
        "--k": (int, "numbers of neighbors of the maximum likelihood"),
        "--n": (int, "numbers of showers, drawn at random"),
    },
    "download": {"--files": (str, "which files, by name or by role (train, reference); all by default")},
    "evaluate": {
        "generated": (str, "HDF5 files with generated showers, which stand side by side; NAME=FILE names one"),
        "--modes": (str, "what to measure; by default all but cls-low-normed and cls-resnet"),
        "--latents": (str, "gate: `caloman encode` of the reference with and without --sampled"),
        "--times": (float, "generation time of each sample [ms per shower]"),
    },
    "merge": {"inputs": (str, "the shards, in any order")},
    "prepare": {"inputs": (str, "HDF5 files in the CaloChallenge format, and last the file to make")},
    "runs": {"folders": (str, "run folders, or folders that hold some; runs by default")},
}
"""Command -> arguments that take several values without brackets -> type and help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        _say(_overview())
        return 0
    if name == "--version":
        _say(f"caloman {__version__}")
        return 0
    if name not in COMMANDS:
        return _fail(f"caloman: unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("caloman").setLevel(logging.INFO)
    try:
        result = _run(name, arguments[1:])
    except CalomanError as error:
        return _fail(f"caloman {name}: error: {error}")
    except OSError as error:  # a full disk or a folder that may not be written to, wherever it was met
        return _fail(f"caloman {name}: error: {error}")
    except KeyboardInterrupt:
        return _fail(f"caloman {name}: interrupted")
    if result is not None:
        _say(str(result))
    return int(getattr(result, "exit_status", 0))


def _run(name: str, arguments: list[str]) -> object:
    from jsonargparse import ArgumentParser

    module, function = COMMANDS[name][0].split(":")
    command = getattr(import_module(module), function)
    if name == "fit":  # its options are the keys of a pipeline file
        return command(arguments)
    parser = ArgumentParser(prog=f"caloman {name}")
    several = SEVERAL.get(name, {})
    skip: set[str | int] = {argument.lstrip("-") for argument in several}
    leads = next(iter(signature(command).parameters)) in skip
    if not leads:
        parser.add_function_arguments(command, as_positional=True, skip=skip)
    for argument, (kind, text) in several.items():
        default = signature(command).parameters[argument.lstrip("-")].default
        if isinstance(default, tuple):
            default = list(default)
        options: dict[str, Any] = {} if default is Parameter.empty else {"default": default}
        nargs = "*" if options and not argument.startswith("--") else "+"
        parser.add_argument(argument, nargs=nargs, type=kind, help=text, **options)
    if leads:
        parser.add_function_arguments(command, as_positional=True, skip=skip)
    return command(**parser.parse_args(_spell_out(arguments, command)))


def _spell_out(arguments: list[str], command: Callable[..., object]) -> list[str]:
    """Lets ``--flag`` stand for ``--flag true``, and ``--two-words`` for ``--two_words``."""
    flags = {f"--{name}" for name, parameter in signature(command).parameters.items() if parameter.default is False}
    arguments = [_with_underscores(argument) if argument.startswith("--") else argument for argument in arguments]
    pairs = zip(arguments, [*arguments, ""][1:], strict=True)
    return [
        f"{this}=true" if this in flags and following not in ("true", "false") else this for this, following in pairs
    ]


def _with_underscores(argument: str) -> str:
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _overview() -> str:
    commands = "\n".join(f"  {name:<11} {help_text}" for name, (_, help_text) in COMMANDS.items())
    return (
        "caloman: calorimeter showers from a learned manifold and a density on it\n\n"
        f"usage: caloman COMMAND ...\n\ncommands:\n{commands}\n\n"
        "`caloman COMMAND --help` explains each; `caloman --version` tells the version.\n\n"
        "example:\n"
        "  caloman fit configs/1-photons/caloman.yaml --output runs/photons\n"
        "  caloman generate runs/photons showers.hdf5 --energies 1GeV,4GeV,16GeV --n 3000\n"
        "  caloman evaluate showers.hdf5 reference.hdf5 --output report"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
