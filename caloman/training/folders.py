"""The folders that a fit writes to: the run, for one process at a time, and its stages."""

import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from caloman.errors import CalomanError
from caloman.files import check_name, locked, write
from caloman.run_folders import STAGES, read_json
from caloman.training.changes import changes
from caloman.training.checkpoints import latest_usable, read

logger = logging.getLogger(__name__)


@contextmanager
def occupied(run: Path) -> Iterator[None]:
    """Keeps all other processes from training in a run folder; refuses one with such a process."""
    holder = run / ".process"
    with ExitStack() as stack:
        run.parent.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(locked(run))
        except CalomanError as error:
            raise CalomanError(f"{error}{f' ({holder.read_text()})' if holder.is_file() else ''}") from None
        write(holder, f"process {os.getpid()} on {platform.node()}")
        stack.callback(holder.unlink, missing_ok=True)
        yield


def remove(folder: Path, file: str, kind: str) -> None:
    """Deletes a folder, if there is one; refuses one without the file that is in each folder of this kind."""
    if not folder.exists():
        return
    if not (folder / file).is_file() and any(folder.iterdir()):
        raise CalomanError(f"{folder}: not the folder of a {kind}; move it away or choose another --output")
    removed = folder.with_name(f".{folder.name}.removed")  # whole or gone, even if this process is killed here
    shutil.rmtree(removed, ignore_errors=True)
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


class StageFolder:
    """The files of one stage of a run, whose name has to be that of a folder inside the run.

    Besides those named here: ``stage.json``, ``metrics.csv`` and ``monitor/``.
    """

    def __init__(self, run: Path, name: str) -> None:
        check_name(name, "stage")
        self.name = name
        self.path = run / STAGES / name
        self.weights = self.path / "part.safetensors"  # and statistics, once the stage is finished
        self.checkpoints = self.path / "checkpoints"
        self.diverged = self.path / "diverged.pt"  # record of a `DivergenceGuard`

    @property
    def batch_size(self) -> int | None:
        """The batch size that was found to fit into the memory."""
        return self._state().get("batch_size")

    def is_finished(self, configuration: Mapping[str, Any]) -> bool:
        state = self._state()
        return state.get("configuration") == configuration and state.get("finished") is True and self.weights.is_file()

    def changes(self, configuration: Mapping[str, Any]) -> list[str]:
        """The differences from the options of the epochs in the folder, if there are any epochs."""
        if not (self.weights.is_file() or any(self.checkpoints.glob("*.ckpt"))):
            return []
        return list(changes(self._state().get("configuration"), configuration))

    def start(self, configuration: Mapping[str, Any], part: Mapping[str, torch.Tensor]) -> Path | None:
        """Prepares the folder and returns the checkpoint to go on from, if there is one of this configuration."""
        state = self._state()
        if state.get("configuration") != configuration or state.get("finished") is not False:
            self.remove()
            self.note(configuration=configuration, finished=False)
        checkpoint = latest_usable(self.checkpoints, part)
        if checkpoint:
            logger.info("%s: going on from %s", self.name, checkpoint)
        elif self.checkpoints.is_dir():
            logger.info("%s: no usable checkpoint, starts anew", self.name)
        return checkpoint

    def remove(self) -> None:
        remove(self.path, "stage.json", "stage")

    def finish(self) -> None:
        """Stores the best epoch's part of the model as the result and marks the stage as finished."""
        best = self.checkpoints / "best.ckpt"
        checkpoint = read(best)
        if checkpoint is None:
            raise CalomanError(f"{best}: damaged; remove {self.path} and run the same command again")
        weights = {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items()}
        write(self.weights, save({name: value.contiguous() for name, value in weights.items()}))
        self.note(finished=True)

    def note(self, **values: Any) -> None:  # noqa: ANN401 - any JSON
        """Adds to ``stage.json``."""
        write(self.path / "stage.json", json.dumps({**self._state(), **values}, indent=2))

    def _state(self) -> dict[str, Any]:
        return read_json(self.path / "stage.json")
