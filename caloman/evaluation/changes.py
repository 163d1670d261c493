"""``caloman compare``: what became better and what worse between evaluations, beyond their errors."""

import json as json_format
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tabulate import tabulate

from caloman.errors import CalomanError
from caloman.evaluation.measures import SIGNIFICANCE, Measured
from caloman.evaluation.schema import Document, Sample
from caloman.evaluation.validation import read_metrics
from caloman.files import write

Word = Literal["better", "worse", "same within errors", "both at the floor"]


@dataclass(frozen=True)
class Change:
    """How a number of a sample differs from that of the baseline."""

    metric: str
    label: str
    baseline: Measured
    sample: Measured

    @property
    def significance(self) -> float:
        """Difference in standard errors, positive if the sample is worse; infinite if neither number has an error."""
        difference = self.sample.discrepancy - self.baseline.discrepancy
        error = math.hypot(self.sample.error, self.baseline.error)
        return difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0

    @property
    def word(self) -> Word:
        if self.baseline.at_floor and self.sample.at_floor:
            return "both at the floor"
        if abs(self.significance) <= SIGNIFICANCE:
            return "same within errors"
        return "better" if self.significance < 0 else "worse"

    @property
    def order(self) -> tuple[bool, float]:
        """Puts what changed beyond errors to the front, the largest change first."""
        return self.word not in ("better", "worse"), -abs(self.significance)


@dataclass(frozen=True)
class Evaluation:
    """A sample of a metrics.json: its numbers with their labels, and what two evaluations must share to be compared."""

    address: str
    dataset: str
    metrics: Mapping[str, tuple[str, Measured]]
    conditions: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, document: Document, sample: Sample) -> "Evaluation":
        metrics = {
            key: (m["label"], Measured(m["value"], m["error"], m["floor"], m["floor_error"], m["target"]))
            for key, m in sample["metrics"].items()
        }
        reference, floor = document["reference"], document["floor"]
        conditions = {
            "reference": f"{reference['file']}, {reference['showers']} showers, SHA-256 {reference['sha256'][:12]}",
            "floor": f"{floor['kind']}, {' and '.join(map(str, floor['showers']))} showers",
            "number of showers": str(sample["showers"]),
            "preset": document["preset"],
            "modes": " ".join(document["modes"]),
            "threshold": f"{document['settings']['threshold_mev']:g} MeV",
            "format": f"schema {document['schema']}",
        }
        return cls(f"{path}:{sample['name']}", document["dataset"], metrics, conditions)


@dataclass(frozen=True)
class Differences:
    """A sample beside the baseline, with reasons why numbers may differ although the showers do not."""

    baseline: str
    sample: str
    changes: Sequence[Change]
    warnings: Sequence[str]

    @property
    def summary(self) -> str:
        words = [change.word for change in self.changes]
        kinds: tuple[Word, ...] = ("better", "worse", "same within errors", "both at the floor")
        counts = ", ".join(f"{words.count(kind)} {kind}" for kind in kinds if kind in words)
        return f"{self.sample}: {counts or 'no metric in common'}"

    def __str__(self) -> str:
        rows = [
            (change.label, str(change.baseline), str(change.sample), f"{change.significance:+.1f} σ", change.word)  # noqa: RUF001
            for change in self.changes
        ]
        header, align = ("", "baseline", "sample", "change", ""), ("left", "right", "right", "right", "left")
        table = tabulate(rows, header, "plain", disable_numparse=True, colalign=align)
        warnings = [f"! {warning}" for warning in self.warnings]
        return "\n".join([self.summary, table, *warnings])

    def to_json(self) -> dict[str, Any]:
        """The same as a dictionary; a significance that is infinite is null."""
        changes = [
            {**asdict(c), "significance": c.significance if math.isfinite(c.significance) else None, "word": c.word}
            for c in self.changes
        ]
        return {**asdict(self), "changes": changes}


@dataclass(frozen=True)
class Comparisons:
    """All samples beside the baseline."""

    samples: Sequence[Differences]

    def __str__(self) -> str:
        return "\n\n".join([f"baseline {self.samples[0].baseline}", *map(str, self.samples)])


def compare(reports: Sequence[str | Path], json: str | Path | None = None) -> Comparisons:
    """Tells what is better and what is worse than in the first evaluation, beyond errors.

    A change is given in standard errors and is positive if it is for the worse. Beyond 2 it counts.

    Args:
        reports: metrics.json files of `caloman evaluate`, or their folders; FILE:NAME is one sample of a file.
        json: file to which the same is written as JSON.

    Raises:
        CalomanError: if there are fewer than two samples, a file is not a metrics.json of this version or the two
            before, the datasets differ, or the JSON cannot be written.
    """
    found = [evaluation for report in reports for evaluation in _read(str(report))]
    if len(found) < 2:
        raise CalomanError(f"{', '.join(map(str, reports))}: only {len(found)} sample; name at least two to compare")
    baseline, *samples = found
    result = Comparisons([_differences(baseline, sample) for sample in samples])
    if json is not None:
        content = {"comparisons": [differences.to_json() for differences in result.samples]}
        write(Path(json), json_format.dumps(content, indent=1, allow_nan=False, ensure_ascii=False))
    return result


def _read(report: str) -> list[Evaluation]:
    """The samples that are meant by a file, a folder, or one of these with the name of a sample."""
    path, name = Path(report), ""
    if not path.exists() and ":" in report:
        file, _, name = report.rpartition(":")
        path = Path(file)
    if path.is_dir():
        path /= "metrics.json"
    samples = _samples(path)
    if name and name not in samples:
        raise CalomanError(f"{path}: no sample {name!r} in this file; it has {', '.join(samples)}")
    return [samples[name]] if name else list(samples.values())


def _samples(path: Path) -> dict[str, Evaluation]:
    if not path.is_file():
        raise CalomanError(f"{path}: no such file; name a metrics.json of `caloman evaluate` or its folder")
    document = read_metrics(path)
    return {sample["name"]: Evaluation.read(path, document, sample) for sample in document["samples"]}


def _differences(baseline: Evaluation, sample: Evaluation) -> Differences:
    if sample.dataset != baseline.dataset:
        raise CalomanError(
            f"{sample.address}: is of dataset {sample.dataset}, but {baseline.address} is of {baseline.dataset}; "
            "compare evaluations of one dataset"
        )
    changes = [
        Change(metric, label, before, sample.metrics[metric][1])
        for metric, (label, before) in baseline.metrics.items()
        if metric in sample.metrics
    ]
    warnings = [
        f"Not the {name} of the baseline: {sample.conditions[name]}, instead of {before}; numbers may differ by that."
        for name, before in baseline.conditions.items()
        if sample.conditions[name] != before
    ]
    return Differences(baseline.address, sample.address, sorted(changes, key=lambda change: change.order), warnings)
