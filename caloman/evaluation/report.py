"""The report of an evaluation: metrics.json, figures, one self-contained HTML page and a table for the terminal."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from caloman.evaluation.binnings import LABELS, format_window
from caloman.evaluation.measures import number
from caloman.evaluation.plots import Picture
from caloman.evaluation.plots.style import sample_color
from caloman.files import write


@dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    Args:
        metrics: content of metrics.json.
        pictures: the figures.
        output: folder for the files.
    """

    metrics: Mapping[str, Any]
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
        write(self.page, _page(self.metrics, self.pictures))

    @property
    def page(self) -> Path:
        """The HTML page, which needs no other file and no network."""
        return self.output / "index.html"

    def __str__(self) -> str:
        """Table for the terminal."""
        samples, floor = self.metrics["samples"], self.metrics["floor"]
        lines = [f"{sample['name']}: {sample['verdict']}" for sample in samples]
        rows = []
        for key, first in samples[0]["metrics"].items():
            entries = [sample["metrics"][key] for sample in samples]
            values = [number(entry["value"], entry["error"]) for entry in entries]
            rows.append([first["label"], number(first["floor"], first["floor_error"]), *values])
        header = ["", "floor", *(sample["name"] for sample in samples)]
        lines += ["", tabulate(rows, header, "simple", colalign=["left", *["right"] * (len(header) - 1)]), ""]
        lines.append("floor: the same of {} against {} Geant4 showers ({}), scaled to the number of showers".format(
            *floor["showers"], floor["kind"]))  # fmt: skip
        for sample in samples:
            lines += [f"! {sample['name']}: {warning}" for warning in sample["warnings"]]
        if "ensemble" in self.metrics:
            lines.append(self.metrics["ensemble"]["statement"])
        return "\n".join([*lines, "", str(self.page)])


def _page(metrics: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    loader = PackageLoader("caloman.evaluation", "page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "base64": lambda content: base64.b64encode(content).decode(),
        "thousands": lambda count: f"{count:,}".replace(",", "\u202f"),
        "words": _with_subscripts,
        "energies": format_window,
        "capital": lambda text: text[:1].upper() + text[1:],
    }
    return environment.get_template("page.html.jinja").render(
        metrics=metrics, samples=metrics["samples"], pictures=pictures, labels=LABELS, color=sample_color
    )


def _with_subscripts(text: str) -> Markup:
    return Markup(str(escape(text)).replace("E_tot", "E<sub>tot</sub>").replace("E_inc", "E<sub>inc</sub>"))
