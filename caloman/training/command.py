"""The command ``caloman fit``."""

import logging
from collections.abc import Sequence
from pathlib import Path

from caloman.training.ensemble import fit_ensemble, repeat
from caloman.training.pipeline import fit as fit_run


def fit(
    config: str | Path,
    *,
    output: str | Path,
    stage: str | None = None,
    ensemble: int | None = None,
    trainer: Sequence[str | Path] = (),
    overwrite: bool = False,
    overrides: Sequence[str] = (),
) -> Path:
    """Trains a generator from a pipeline.

    Runs the stages of a pipeline in order and writes OUTPUT/bundle, from which showers are generated. The same command
    goes on after an interruption and skips finished stages.

    Args:
        config: YAML file, name of a pipeline of the package such as 1-photons/caloman, or run folder to repeat.
        output: run folder, such as runs/photons.
        stage: train this stage only.
        ensemble: train so many members, with one seed each, into one bundle.
        trainer: files or names of pipelines to lay over the configuration, such as trainer/gpu.
        overwrite: train stages anew that were trained with other options or data; without it they are never touched.
        overrides: options for single keys, such as --data.train=[my.hdf5] or --stages.latent.trainer.max_epochs=5.

    Returns:
        The run folder.

    Raises:
        CalomanError: if configuration or data are unusable, or the folder holds another run.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    overrides = [*(f"--trainer={layer}" for layer in trainer), *overrides]
    if Path(config).is_dir():
        config, members = repeat(Path(config))
        ensemble = ensemble or members
    if ensemble is None:
        return fit_run(config, output, stage, overrides, overwrite)
    return fit_ensemble(config, output, ensemble, stage, overrides, overwrite)
