"""The report of an evaluation: metrics.json, figures, one self-contained HTML page and a table for the terminal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from caloman.evaluation.measures import number
from caloman.evaluation.page import render
from caloman.evaluation.plots import Picture
from caloman.files import write

FLOOR = "the same of {} against {} Geant4 showers ({}), scaled to the number of showers"


@dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    Args:
        metrics: content of metrics.json.
        pictures: the figures.
        output: folder for the files.
    """

    metrics: dict
    pictures: Sequence[Picture]
    output: Path

    def save(self) -> None:
        """Writes metrics.json, figures/*.png, figures/*.pdf and index.html; each file appears when it is complete.

        Raises:
            CalomanError: if the folder cannot be written.
        """
        for picture in self.pictures:
            write(self.output / "figures" / f"{picture.name}.png", picture.png)
            write(self.output / "figures" / f"{picture.name}.pdf", picture.pdf)
        write(self.output / "metrics.json", json.dumps(self.metrics, indent=1, allow_nan=False, ensure_ascii=False))
        write(self.page, render(self.metrics, self.pictures))

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.output / "index.html"

    def __str__(self) -> str:
        """Table for the terminal."""
        samples = self.metrics["samples"]
        lines = [f"{sample['name']}: {sample['verdict']}" for sample in samples]
        rows = []
        for key, first in samples[0]["metrics"].items():
            entries = [sample["metrics"][key] for sample in samples]
            values = [number(entry["value"], entry["error"]) for entry in entries]
            rows.append([first["label"], number(first["floor"], first["floor_error"]), *values])
        header = ["", "floor", *(sample["name"] for sample in samples)]
        lines += ["", tabulate(rows, header, "simple", colalign=["left", *["right"] * (len(header) - 1)]), ""]
        lines += [f"floor: {FLOOR.format(*self.metrics['floor']['showers'], self.metrics['floor']['kind'])}"]
        for sample in samples:
            lines += [f"! {sample['name']}: {warning}" for warning in sample["warnings"]]
        if "ensemble" in self.metrics:
            lines.append(self.metrics["ensemble"]["statement"])
        return "\n".join([*lines, "", str(self.page)])
