"""``caloman runs``: what became of the runs of a folder, from their small files alone."""

import csv
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from caloman.errors import CalomanError
from caloman.files import check_name, read_text
from caloman.specification import parse_yaml

Value = TypeVar("Value")

PIPELINE = "pipeline.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.csv"
STAGES = "stages"
MEMBERS = "members"
SILENCE = 3600  # seconds without a sign after which a process on another machine counts as dead


@dataclass(frozen=True)
class StageSummary:
    """How far a stage has come; `best` is the quantity that picks the best epoch, and its lowest value."""

    name: str
    epochs: int
    max_epochs: int
    finished: bool
    best: tuple[str, float] | None = None
    separation: float | None = None

    @property
    def progress(self) -> str:
        return f"{self.name}, epoch {self.epochs} of {self.max_epochs}"

    def __str__(self) -> str:
        if not self.epochs and not self.finished:
            return f"{self.name:<12} not started"
        parts = [f"{self.epochs:>4} of {self.max_epochs} epochs{', finished' if self.finished else ''}"]
        if self.best:
            parts.append(f"best {self.best[0]} {self.best[1]:.4g}")
        if self.separation is not None:
            parts.append(f"separation {self.separation:.2g}")
        return f"{self.name:<12} {', '.join(parts)}"


@dataclass(frozen=True)
class RunSummary:
    """A run folder, its state in words and its last sign of life, in seconds since 1970."""

    name: str
    state: str
    dataset: str = ""
    parameters: int | None = None
    when: float = 0.0
    stages: list[StageSummary] = field(default_factory=list)

    def __str__(self) -> str:
        size = "" if self.parameters is None else f"{self.parameters:,} parameters"
        when = datetime.fromtimestamp(self.when).strftime("%Y-%m-%d %H:%M")
        head = "  ".join(filter(None, (self.name, when, self.dataset, size, self.state)))
        return "\n".join([head, *(f"  {stage}" for stage in self.stages)])


class RunList(list[RunSummary]):
    """Runs, newest last; its text is what ``caloman runs`` says."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no runs"


def runs(*folders: str | Path) -> RunList:
    """Lists run folders with their state and best figures; damaged ones are listed as such.

    Args:
        folders: run folders, or folders with run folders; ``runs`` by default.

    Raises:
        CalomanError: if there is no such folder.
    """
    roots = [Path(folder) for folder in folders or ("runs",)]
    for root in roots:
        if not root.is_dir():
            raise CalomanError(f"{root}: no such folder; name one that holds run folders")
    found = [_summary(path) for root in roots for path in _run_folders(root)]
    return RunList(sorted(found, key=lambda run: run.when))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if there is no file. A damaged one is refused."""
    content = _read(path, json.loads) if path.is_file() else {}
    if not isinstance(content, dict):
        raise CalomanError(f"{path}: damaged; remove it")
    return content


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a stage's ``metrics.csv``, one per epoch, without its empty columns. A damaged file is refused."""
    rows = _read(path, lambda text: list(csv.DictReader(text.splitlines()))) if path.is_file() else []
    try:
        numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
        return sorted(numbers, key=lambda row: row["epoch"])
    except (ValueError, TypeError, KeyError):
        raise CalomanError(f"{path}: damaged; remove it") from None


def values(metrics: list[dict[str, float]], column: str) -> list[float]:
    """The values of a column of `read_metrics`, by epoch."""
    return [row[column] for row in metrics if column in row]


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run; empty if it has none."""
    return read_json(run / MANIFEST)


def _read(path: Path, parse: Callable[[str], Any]) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return parse(read_text(path))
    except (ValueError, RecursionError, csv.Error):
        raise CalomanError(f"{path}: damaged; remove it") from None


def _run_folders(root: Path, depth: int = 2) -> Iterator[Path]:
    """Run folders at most `depth` levels below; an ensemble is listed by its members."""
    if (root / MEMBERS).is_dir():
        yield from _subfolders(root / MEMBERS)
    elif (root / PIPELINE).exists() or (root / STAGES).is_dir():
        yield root
    elif depth:
        for path in _subfolders(root):
            if not path.is_symlink():
                yield from _run_folders(path, depth - 1)


def _subfolders(folder: Path) -> list[Path]:
    with suppress(OSError):  # one that this user may not read
        return sorted(path for path in folder.iterdir() if path.is_dir())
    return []


def _summary(run: Path) -> RunSummary:
    name, when = str(run), 0.0
    try:
        when = max(path.lstat().st_mtime for path in (run, *run.glob("*.*"), *run.glob(f"{STAGES}/*/*.*")))
        config: Any = parse_yaml(read_text(run / PIPELINE), str(run / PIPELINE))
        manifest = read_manifest(run)
        stages = [_stage(run, key, stage["trainer"]) for key, stage in config["stages"].items()]
        state = _state(manifest.get("process", {}), stages, when)
        parameters = manifest.get("parameters")
        return RunSummary(name, state, _of(str, config["geometry"]), parameters and _of(int, parameters), when, stages)
    except CalomanError as error:
        return RunSummary(name, f"damaged: {str(error).removeprefix(f'{run}/').split(';')[0]}", when=when)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return RunSummary(name, f"damaged: {PIPELINE}, {MANIFEST} or a stage is not of this version", when=when)


def _of(kind: type[Value], value: object) -> Value:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _stage(run: Path, name: str, trainer: Mapping[str, Any]) -> StageSummary:
    check_name(name, "stage")
    folder = run / STAGES / name
    status = read_json(folder / "stage.json")
    rows = read_metrics(folder / METRICS)
    monitor = _of(str, trainer["monitor"])
    best = min(values(rows, monitor), default=None)
    return StageSummary(
        name,
        int(rows[-1]["epoch"]) + 1 if rows else 0,
        _of(int, trainer["max_epochs"]),
        _of(bool, status["finished"]) if status else False,
        None if best is None else (monitor, best),
        next(reversed(values(rows, "separation")), None),
    )


def _state(process: Mapping[str, Any], stages: list[StageSummary], when: float) -> str:
    """The state of a run in words; `process` is a section of its manifest."""
    current = next((stage for stage in stages if not stage.finished), None)
    state = process.get("state")
    if state == "training" and _is_alive(process, when):
        return f"training {current.progress}" if current else "training"
    if current is None:
        return "finished"
    if state == "failed":
        return f"failed in {current.progress}: {' '.join(_of(str, process['reason']).split())}"
    if state == "ended":
        return f"next stage: {current.name}"
    started = any(stage.finished or stage.epochs for stage in stages)
    return f"interrupted in {current.progress}" if started else "not started"


def _is_alive(process: Mapping[str, Any], when: float) -> bool:
    if process["host"] != platform.node():
        return time.time() - when < SILENCE
    try:
        with suppress(PermissionError):  # alive, but of another user
            os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    return True
