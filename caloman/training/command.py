"""``caloman fit`` on the command line, with an option for each key of a pipeline file."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from caloman.errors import CalomanError
from caloman.training.config import add_pipeline_arguments
from caloman.training.ensemble import fit_ensemble, repeat
from caloman.training.pipeline import fit as run_pipeline
from caloman.training.processes import is_first_process

USAGE = """caloman fit (CONFIG | --from RUN) --output RUN [--stage NAME] [--ensemble N] [--trainer YAML]
       [--KEY=VALUE ...]"""
DESCRIPTION = """Train a generator: run the stages of a pipeline YAML in order and write RUN/bundle. The same command
goes on after an interruption and skips finished stages. Options override single keys of the file, such as
--data.train=[my.hdf5] or --stages.latent.trainer.max_epochs=5. With --from, an older run is repeated from its folder,
if its data are still the same."""


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
    own.add_argument("config", nargs="?")
    options, overrides = own.parse_known_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    config, ensemble = options.config, options.ensemble
    if (config is None) == (options.source is None):
        raise CalomanError("name either a pipeline YAML, such as configs/1-photons/caloman.yaml, or --from RUN")
    if options.source is not None:
        config, members = repeat(options.source)
        ensemble = ensemble or members
    if ensemble is None:
        folder = run_pipeline(config, options.output, options.stage, overrides)
    else:
        folder = fit_ensemble(config, options.output, ensemble, options.stage, overrides)
    return f"run folder: {folder}" if is_first_process() else None


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, help="run folder, such as runs/photons")
    parser.add_argument("--from", dest="source", type=Path, help="run folder to repeat, instead of a pipeline YAML")
    parser.add_argument("--stage", help="train this stage only")
    parser.add_argument("--ensemble", type=int, help="train so many members, with one seed each")
