"""``caloman compare``: what became better and what worse between evaluations, beyond their errors."""

import json as json_format
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from caloman.errors import CalomanError
from caloman.evaluation.measures import SIGNIFICANCE, Measured
from caloman.evaluation.schema import Document, Metric, Sample
from caloman.evaluation.validation import read_metrics
from caloman.files import write

WORDS = ("better", "worse", "same within errors", "both at the floor")


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
    def word(self) -> str:
        """One of `WORDS`."""
        if self.baseline.at_floor and self.sample.at_floor:
            return "both at the floor"
        if abs(self.significance) <= SIGNIFICANCE:
            return "same within errors"
        return "better" if self.significance < 0 else "worse"


@dataclass(frozen=True)
class Differences:
    """A sample beside the baseline, what changed beyond errors first, and why numbers may differ for other reasons."""

    baseline: str
    sample: str
    changes: Sequence[Change]
    warnings: Sequence[str]

    @property
    def summary(self) -> str:
        counts = Counter(change.word for change in self.changes)
        words = ", ".join(f"{counts[word]} {word}" for word in WORDS if word in counts)
        return f"{self.sample}: {words or 'no metric in common'}"

    def __str__(self) -> str:
        rows = [
            (change.label, str(change.baseline), str(change.sample), f"{change.significance:+.1f} σ", change.word)  # noqa: RUF001
            for change in self.changes
        ]
        header, align = ("", "baseline", "sample", "change", ""), ("left", "right", "right", "right", "left")
        table = tabulate(rows, header, "plain", disable_numparse=True, colalign=align)
        return "\n".join([self.summary, table, *(f"! {warning}" for warning in self.warnings)])


@dataclass(frozen=True)
class Comparisons:
    """All samples beside the baseline."""

    samples: Sequence[Differences]

    def __str__(self) -> str:
        return "\n\n".join([f"baseline {self.samples[0].baseline}", *map(str, self.samples)])


class Evaluation(NamedTuple):
    """A sample of a metrics.json, and how to address it."""

    address: str
    document: Document
    sample: Sample


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
        content = {"comparisons": [_to_json(differences) for differences in result.samples]}
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
    if not path.is_file():
        raise CalomanError(f"{path}: no such file; name a metrics.json of `caloman evaluate` or its folder")
    document = read_metrics(path)
    found = {own["name"]: Evaluation(f"{path}:{own['name']}", document, own) for own in document["samples"]}
    if name and name not in found:
        raise CalomanError(f"{path}: no sample {name!r} in this file; it has {', '.join(found)}")
    return [found[name]] if name else list(found.values())


def _differences(baseline: Evaluation, sample: Evaluation) -> Differences:
    datasets = [evaluation.document["dataset"] for evaluation in (sample, baseline)]
    if datasets[0] != datasets[1]:
        raise CalomanError(
            f"{sample.address}: is of dataset {datasets[0]}, but {baseline.address} is of {datasets[1]}; "
            "compare evaluations of one dataset"
        )
    before, after = baseline.sample["metrics"], sample.sample["metrics"]
    changes = [Change(k, before[k]["label"], _measured(before[k]), _measured(after[k])) for k in before if k in after]
    changes.sort(key=lambda change: (change.word not in ("better", "worse"), -abs(change.significance)))
    pairs = zip(_circumstances(baseline), _circumstances(sample), strict=True)
    warnings = [
        f"Not the {name} of the baseline: {now}, instead of {then}; numbers may differ by that."
        for (name, then), (_, now) in pairs
        if now != then
    ]
    return Differences(baseline.address, sample.address, changes, warnings)


def _measured(metric: Metric) -> Measured:
    return Measured(metric["value"], metric["error"], metric["floor"], metric["floor_error"], metric["target"])


def _circumstances(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """What two evaluations must share to be compared."""
    document = evaluation.document
    reference, floor = document["reference"], document["floor"]
    yield "reference", f"{reference['file']}, {reference['showers']} showers, SHA-256 {reference['sha256'][:12]}"
    yield "floor", f"{floor['kind']}, {' and '.join(map(str, floor['showers']))} showers"
    yield "number of showers", str(evaluation.sample["showers"])
    yield "preset", document["preset"]
    yield "modes", " ".join(document["modes"])
    yield "threshold", f"{document['settings']['threshold_mev']:g} MeV"
    yield "format", f"schema {document['schema']}"


def _to_json(differences: Differences) -> dict[str, object]:
    """The same as a dictionary; a significance that is infinite is null."""
    changes = [
        {**asdict(c), "significance": c.significance if math.isfinite(c.significance) else None, "word": c.word}
        for c in differences.changes
    ]
    return {**asdict(differences), "changes": changes}
