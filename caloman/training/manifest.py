"""``RUN/manifest.json``: what a run was made of and with."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from caloman import __version__
from caloman.errors import CalomanError
from caloman.files import sha256, write
from caloman.run_folders import MANIFEST, METRICS, STAGES, read_manifest, read_metrics, values
from caloman.specification import plugins

PACKAGES = ("torch", "pytorch-lightning", "numpy", "h5py", "jsonargparse", "safetensors")
ENVIRONMENT = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"),
    *("PYTORCH_CUDA_ALLOC_CONF", "NCCL_SOCKET_IFNAME", "NCCL_DEBUG", "MASTER_PORT", "WORLD_SIZE"),
    *("SLURM_JOB_ID", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_RESTART_COUNT"),
)
"""The variables that change a training; others are not stored, for they may hold secrets."""


class Manifest:
    """The manifest of a run while it is trained, written whenever it changes.

    Args:
        folder: the run folder; the stages in an older manifest are kept.
        facts: data, seeds, number of parameters.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self._folder = folder
        self.content: dict[str, Any] = {
            **facts,
            "versions": {
                **{"caloman": __version__, "python": platform.python_version()},
                **{name: version(name) for name in PACKAGES},
                **dict(plugins().values()),
            },
            "git": _git(Path(__file__).parents[1]),
            "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            "hardware": {
                "machine": platform.machine(),
                "system": platform.platform(),
                "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
                "threads": torch.get_num_threads(),
                "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            },
            "stages": read_manifest(folder).get("stages", {}),
        }

    @contextmanager
    def training(self) -> Iterator[None]:
        """Records how the training ends, unless the process is killed."""
        self._write("training")
        try:
            yield
        except Exception as error:
            self._write("failed", " ".join(str(error).split())[:300])
            raise
        except BaseException:
            self._write("interrupted")
            raise
        self._write("ended")

    def add_stage(self, name: str, n: int) -> None:
        """Records time, throughput and validation of a trained stage over all interruptions; an epoch has n showers."""
        metrics = read_metrics(self._folder / STAGES / name / METRICS)
        seconds = values(metrics, "seconds")
        self.content["stages"][name] = {
            "epochs": len(seconds),
            "seconds": round(sum(seconds), 3),
            "showers_per_second": round(n * len(seconds) / max(sum(seconds), 1e-9), 1),
            "validation_loss": min(values(metrics, "validation_loss"), default=None),
            **{name: next(reversed(values(metrics, name)), None) for name in ("separation", "separation_floor")},
        }
        self._write("training")

    @rank_zero_only
    def _write(self, state: str, reason: str = "") -> None:
        process = {
            "state": state,
            "reason": reason,
            "host": platform.node(),
            "pid": os.getpid(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write(self._folder / MANIFEST, json.dumps({"process": process, **self.content}, indent=2) + "\n")


def refuse_changed_data(run: Path) -> None:
    """Makes sure that the training files of a run are still the same."""
    files = read_manifest(run).get("data")
    if files is None:
        raise CalomanError(f"{run / MANIFEST}: no such file, so the data cannot be compared; use its pipeline.yaml")
    for file in files:
        path = Path(file["path"])
        if not path.is_file() or sha256(path) != file["sha256"]:
            raise CalomanError(f"{path}: not the file that {run} was trained on (its SHA-256 differs); restore it")


def _git(package: Path) -> dict[str, str | bool] | None:
    """Commit of the package's checkout, and whether it was changed; None without a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an environment may lie inside a foreign repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None
