"""``caloman fit``: runs the stages of a pipeline in order, each resumable, and writes the bundle."""

import json
import logging
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from caloman import bundle
from caloman.errors import CalomanError, first_of
from caloman.files import write
from caloman.models import ShowerModel
from caloman.run_folders import MEMBERS, PIPELINE, STAGES
from caloman.showers.conditions import Conditions, known
from caloman.showers.geometry import Geometry
from caloman.specification import to_yaml
from caloman.training.changes import digest, options_of
from caloman.training.checkpoints import read
from caloman.training.config import Pipeline, load_pipeline
from caloman.training.data import ShowerDataModule
from caloman.training.divergence import set_random_state
from caloman.training.folders import StageFolder, occupied
from caloman.training.manifest import Manifest
from caloman.training.processes import connect, launch
from caloman.training.progress import FitProgress
from caloman.training.stage import train_stage
from caloman.training.tasks import Task

logger = logging.getLogger(__name__)

DECISIVE = ("validation_fraction", "max_showers", "symmetries", "leave_out")
"""Options of the data with an influence on the result; the others say where and how to read them."""

NAMED = 5  # most tensors that are named
LARGEST_SEED = 2**32 - 2**16  # NumPy and Lightning take 32 bits; stages and members of ensembles add their numbers


def fit(
    config: str | Path,
    output: str | Path,
    stage: str | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Trains a generator and returns its run folder.

    A finished stage with the same configuration, data and upstream stages is skipped; an interrupted one goes on from
    its last checkpoint. The bundle is written when all stages are finished. The sections ``hardware``, ``wandb`` and
    ``monitor`` and the place and way of reading data may change in the meantime. Everything else decides on the
    result, ``max_epochs`` included: learning rates fall over its length.

    The arguments are those of `caloman.fit`.

    Raises:
        CalomanError: if configuration or data are unusable, an upstream stage is not finished, another process trains
            in the folder, or it holds an ensemble or stages with other options.
    """
    pipeline, resolved = load_pipeline(Path(config), overrides)
    if (Path(output) / MEMBERS).is_dir():
        raise CalomanError(f"{output}: holds an ensemble; choose another --output")
    if stage is not None:
        _check_stage(stage, pipeline)
    if not 0 <= pipeline.seed <= LARGEST_SEED:
        raise CalomanError(f"seed {pipeline.seed}: not a seed; give a number from 0 to {LARGEST_SEED}")
    with launch(pipeline.hardware) as fabric, occupied(Path(output)) if fabric.is_global_zero else nullcontext():
        Run(pipeline, resolved, Path(output), fabric).fit(stage, overwrite)
    return Path(output)


def replay(run: str | Path, stage: str) -> dict[str, float]:
    """Repeats the batch on which a stage diverged, with the same weights and random numbers, and returns its losses.

    Raises:
        CalomanError: if the stage did not diverge.
    """
    pipeline, resolved = load_pipeline(Path(run) / PIPELINE)
    _check_stage(stage, pipeline)
    fabric = connect(replace(pipeline.hardware, devices=1, num_nodes=1, strategy="auto"))
    return Run(pipeline, resolved, Path(run), fabric).replay(stage)


class Run:
    """A run folder while it is trained, by a pipeline whose complete configuration is also given as plain data."""

    def __init__(self, pipeline: Pipeline, config: dict[str, Any], folder: Path, fabric: Fabric) -> None:
        self.pipeline = pipeline
        self.config = config
        self.folder = folder
        self.stages = {name: StageFolder(folder, name) for name in pipeline.stages}
        self.fabric = fabric
        self.geometry = Geometry.load(pipeline.geometry)
        conditions = Conditions(map(known, pipeline.conditions))
        self.data = ShowerDataModule(self.geometry, pipeline.data, pipeline.seed, conditions)
        torch.manual_seed(pipeline.seed)
        self.model = pipeline.model(self.geometry, self.data.conditions)
        if pipeline.start_from:
            take_over(self.model, pipeline.start_from)
        self.model.prepare(voxels for voxels, _ in self.data.statistics_batches())
        self._finished: set[str] = set()  # parts of the model
        self.configurations = self._describe()
        self.manifest = Manifest(folder, self._facts())

    def fit(self, only: str | None, overwrite: bool) -> None:
        refusal = self._make_room(overwrite) if self.fabric.is_global_zero else None
        refusal = self.fabric.broadcast(refusal)
        if refusal:
            raise CalomanError(refusal)
        if self.fabric.is_global_zero:
            write(self.folder / PIPELINE, to_yaml(self.config))
        chosen = [name for name in self.stages if only in (None, name)]
        with self.manifest.training(), closing(self._progress(chosen)) as progress:
            for name in self.stages:
                self._run_stage(name, self._task(name), progress if name in chosen else None)
            if self.fabric.is_global_zero and len(self._finished) == len(self.pipeline.stages):
                self._write_bundle()

    def replay(self, stage: str) -> dict[str, float]:
        path = self.stages[stage].diverged
        record = read(path)
        if record is None:
            raise CalomanError(f"{path}: no record of a batch; a stage writes it when its loss is not finite")
        for name in self.pipeline.stages:
            task = self._task(name)
            if name == stage:
                break
            self._run_stage(name, task)
        task.module.load_state_dict(record["weights"])
        task.to(self.fabric.device)
        voxels, conditions = self.data.train[np.searchsorted(self.data.train.rows, record["rows"].numpy())]
        bfloat16 = self.pipeline.hardware.precision == "bf16-mixed"
        with torch.no_grad(), torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=bfloat16):
            set_random_state(record["random"], self.fabric.device)
            losses = task.losses_of((voxels.to(self.fabric.device), conditions.to(self.fabric.device)))
        return {name: float(loss) for name, loss in losses.items()}

    def _task(self, name: str) -> Task:
        pl.seed_everything(self.pipeline.seed + list(self.pipeline.stages).index(name), verbose=False)
        return self.pipeline.stages[name].task(self.model)

    def _make_room(self, overwrite: bool) -> str | None:
        """Deletes stages with other options if that is wanted, and else returns the reason to stop."""
        for path in sorted(self.folder.glob(f"{STAGES}/*/stage.json")):
            folder = StageFolder(self.folder, path.parent.name)
            known = self.configurations.get(folder.name)
            changed = folder.changes(known) if known else ["it is not in the pipeline any more"]
            if changed and not overwrite:
                return (
                    f"{self.folder}: stage {folder.name!r} was trained otherwise ({', '.join(changed[:3])}); choose "
                    "another --output, or --overwrite to lose it"
                )
            if changed:
                folder.remove()
        return None

    def _progress(self, chosen: Sequence[str]) -> FitProgress:
        unfinished = [name for name in chosen if not self.stages[name].is_finished(self.configurations[name])]
        epochs = {name: self.pipeline.stages[name].trainer.max_epochs for name in self.fabric.broadcast(unfinished)}
        return FitProgress(epochs, shown=self.fabric.is_global_zero)

    def _run_stage(self, name: str, task: Task, progress: FitProgress | None = None) -> None:
        """Loads the result of a stage; trains it first if it is not finished and there is progress to show."""
        folder = self.stages[name]
        missing = [part for part in task.upstream if part not in self._finished]
        if missing and progress:
            raise CalomanError(
                f"{self.folder}: stage {name!r} needs {missing[0]!r} trained; run the stage that trains it first"
            )
        configuration = self.configurations[name]
        if self.fabric.broadcast(folder.is_finished(configuration)):
            logger.info("%s: already finished, skipped", name)
        elif progress:
            train_stage(task, folder, configuration, self.pipeline, self.data, self.fabric, progress)
            self.manifest.add_stage(name, len(self.data.train))
        else:
            return
        self.model.load_state_dict(load_file(folder.weights), strict=False)
        self._finished.add(task.part)

    def _describe(self) -> dict[str, dict[str, Any]]:
        """Everything with an influence on the result, by stage."""
        data, model = self.pipeline.data, self.config["model"]
        shared = {
            "geometry": repr(self.geometry),
            "seed": self.pipeline.seed,
            "conditions": self.pipeline.conditions,
            **({"start_from": bundle.fingerprint(self.pipeline.start_from)} if self.pipeline.start_from else {}),
            "data": {
                "train": [file["sha256"] + file["rows"] for file in self.data.files],
                **{name: getattr(data, name) for name in DECISIVE},
            },
        }
        configurations, digests = {}, dict[str, str]()
        for name in self.pipeline.stages:
            task = self._task(name)
            configuration = {
                **shared,
                "model": {"transform": model["init_args"].get("transform"), **options_of(model, task.part.split("."))},
                "stages": {name: self.config["stages"][name]},
                "upstream": {part: digests.get(part) for part in task.upstream},
                "external": task.external,
            }
            configurations[name] = json.loads(json.dumps(configuration))  # as it is read from a file
            digests[task.part] = digest(configurations[name])
        return configurations

    def _facts(self) -> dict[str, Any]:
        return {
            "data": self.data.files,
            "showers": {"train": len(self.data.train), "validation": len(self.data.validation)},
            "seed": self.pipeline.seed,
            "stage_seeds": {name: self.pipeline.seed + index for index, name in enumerate(self.pipeline.stages)},
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }

    def _write_bundle(self) -> None:
        files = self.data.files
        training = {
            "files": [{"name": Path(f["path"]).name + f["rows"], "sha256": f["sha256"]} for f in files],
            "showers": len(self.data.train),
            "seed": self.pipeline.seed,
        }
        bundle.save(self.model, self.config["model"], training, self.folder / "bundle", self.manifest.content)
        logger.info("bundle written to %s", self.folder / "bundle")


def _check_stage(stage: str, pipeline: Pipeline) -> None:
    if stage not in pipeline.stages:
        raise CalomanError(f"no stage {stage!r}; the stages are {', '.join(pipeline.stages)}")


def take_over(model: ShowerModel, start: str) -> None:
    """Gives a generator the weights of another one, by its bundle or run folder, where names and shapes agree.

    Raises:
        CalomanError: if there is no bundle, or nothing agrees.
    """
    known, own = bundle.load(start).state_dict(), model.state_dict()
    agreeing = {name: known[name] for name in own if name in known and known[name].shape == own[name].shape}
    if not agreeing:
        raise CalomanError(f"start_from: {start}: has no weights of the shapes of this model; configure them alike")
    model.load_state_dict(agreeing, strict=False)
    new = [name for name in own if name not in agreeing]
    rest = f"; new are {first_of(new, NAMED)}" if new else ""
    logger.info("%d of %d tensors taken over from %s%s", len(agreeing), len(own), start, rest)
