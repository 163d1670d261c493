"""``caloman fit``: runs the stages of a pipeline in order, each resumable, and writes the bundle."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file

from caloman import bundle
from caloman.errors import CalomanError
from caloman.files import write
from caloman.geometry import Geometry
from caloman.training.config import Pipeline, load_pipeline, part_of
from caloman.training.data import ShowerDataModule
from caloman.training.manifest import Manifest
from caloman.training.stage import StageFolder, train_stage
from caloman.training.tasks import Task

logger = logging.getLogger(__name__)


def fit(config: str | Path, output: str | Path, stage: str | None = None, overrides: Sequence[str] = ()) -> Path:
    """Trains a generator and returns its run folder.

    A stage that is finished with the same configuration, data and upstream stages is skipped; one that was interrupted
    goes on from its last checkpoint. When all stages are finished, the bundle is written.

    Args:
        config: pipeline YAML.
        output: run folder.
        stage: train this stage only.
        overrides: options for single keys, such as ``--data.train=[my.hdf5]``.

    Raises:
        CalomanError: if configuration or data are unusable, or an upstream stage is not finished.
    """
    pipeline, resolved = load_pipeline(Path(config), overrides)
    if stage is not None and stage not in pipeline.stages:
        raise CalomanError(f"{config}: no stage {stage!r}; the stages are {', '.join(pipeline.stages)}")
    Run(pipeline, resolved, Path(output)).fit(stage)
    return Path(output)


class Run:
    """A run folder while it is trained.

    Args:
        pipeline: what to do.
        config: the same as plain data, all defaults included.
        folder: the run folder.
    """

    def __init__(self, pipeline: Pipeline, config: dict[str, Any], folder: Path) -> None:
        self.pipeline = pipeline
        self.config = config
        self.folder = folder
        self.geometry = Geometry.load(pipeline.geometry)
        self.data = ShowerDataModule(self.geometry, pipeline.data, pipeline.seed)
        torch.manual_seed(pipeline.seed)
        self.model = pipeline.model(self.geometry)
        self.model.energy_range.copy_(torch.tensor(self.data.energy_range))
        self._finished: dict[str, str] = {}  # part -> fingerprint of the stage that trained it
        self.manifest = Manifest(folder, self._facts())

    def fit(self, only: str | None) -> None:
        """Runs all stages, or one of them, and writes the bundle when all are finished."""
        write(self.folder / "pipeline.yaml", yaml.safe_dump(self.config, sort_keys=False))
        with self.manifest.training():
            for index, name in enumerate(self.pipeline.stages):
                self._run_stage(index, name, train=only in (None, name))
            if len(self._finished) == len(self.pipeline.stages):
                self._write_bundle()

    def _run_stage(self, index: int, name: str, train: bool) -> None:
        pl.seed_everything(self.pipeline.seed + index, verbose=False)
        task = self.pipeline.stages[name].task(self.model)
        folder = StageFolder(self.folder / "stages" / name)
        missing = [part for part in task.upstream if part not in self._finished]
        if missing and train:
            raise CalomanError(
                f"{self.folder}: stage {name!r} needs {missing[0]!r} trained; run the stage that trains it first"
            )
        fingerprint = self._fingerprint(name, task)
        if folder.is_finished(fingerprint):
            logger.info("%s: already finished, skipped", name)
        elif train:
            train_stage(name, task, folder, fingerprint, self.pipeline, self.data)
            self.manifest.add_stage(name, len(self.data.train))
        else:
            return
        self.model.load_state_dict(load_file(folder.weights), strict=False)
        self._finished[task.part] = fingerprint

    def _fingerprint(self, name: str, task: Task) -> str:
        """Hash of everything that the stage's result depends on."""
        depends_on = {
            "part": part_of(self.config, task.part),
            "transform": self.config["model"]["init_args"].get("transform"),
            "stage": self.config["stages"][name],
            "data": {
                key: getattr(self.pipeline.data, key) for key in ("validation_fraction", "max_showers", "symmetries")
            },
            "showers": [
                file["sha256"] + part.rows for file, part in zip(self.data.files, self.data.slices, strict=True)
            ],
            "geometry": repr(self.geometry),
            "seed": self.pipeline.seed,
            "upstream": [self._finished.get(part) for part in task.upstream],
        }
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()

    def _facts(self) -> dict[str, Any]:
        """What the manifest tells of the run itself."""
        files = zip(self.data.slices, self.data.files, strict=True)
        return {
            "data": [{"path": str(part.path), "rows": part.rows, "sha256": file["sha256"]} for part, file in files],
            "showers": {"train": len(self.data.train), "validation": len(self.data.validation)},
            "seed": self.pipeline.seed,
            "stage_seeds": {name: self.pipeline.seed + index for index, name in enumerate(self.pipeline.stages)},
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }

    def _write_bundle(self) -> None:
        training = {
            "files": self.data.files,
            "showers": len(self.data.train),
            "energy_range": list(self.data.energy_range),
            "seed": self.pipeline.seed,
        }
        bundle.save(self.model, self.config["model"], training, self.folder / "bundle", self.manifest.content)
        logger.info("bundle written to %s", self.folder / "bundle")
