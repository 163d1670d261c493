"""``caloman fit`` on the command line, with an option for each key of a pipeline file."""

import argparse
import logging
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from caloman.training.config import add_pipeline_arguments
from caloman.training.pipeline import fit as run_pipeline
from caloman.training.processes import is_first_process

USAGE = "caloman fit CONFIG --output RUN [--stage NAME] [--trainer YAML] [--KEY=VALUE ...]"
DESCRIPTION = """Train a generator: run the stages of a pipeline YAML in order and write RUN/bundle. The same command
goes on after an interruption and skips finished stages. Options override single keys of the file, such as
--data.train=[my.hdf5] or --stages.latent.trainer.max_epochs=5."""


def fit(arguments: Sequence[str]) -> str | None:
    """Parses the command line, trains, and says where the run is, once for all devices.

    Raises:
        CalomanError: if configuration or data are unusable.
    """
    own = argparse.ArgumentParser(prog="caloman fit", usage=USAGE, add_help=False, allow_abbrev=False)
    _add_run_arguments(own)
    if any(argument.endswith(("-h", "help")) for argument in arguments):  # also --model.help and the like
        full = ArgumentParser(prog="caloman fit", usage=USAGE, description=DESCRIPTION)
        _add_run_arguments(full)
        add_pipeline_arguments(full)
        full.parse_args(arguments)
    own.add_argument("config")
    options, overrides = own.parse_known_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    folder = run_pipeline(options.config, options.output, options.stage, overrides)
    return f"run folder: {folder}" if is_first_process() else None


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, help="run folder, such as runs/photons")
    parser.add_argument("--stage", help="train this stage only")
