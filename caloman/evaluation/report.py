"""The report of an evaluation: metrics.json, figures, one self-contained HTML page and a table for the terminal."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from caloman.evaluation.conditions import QUANTITIES
from caloman.evaluation.explanations import explain
from caloman.evaluation.histograms import LABELS, format_window
from caloman.evaluation.measures import number
from caloman.evaluation.plots import Picture
from caloman.evaluation.plots.style import sample_color
from caloman.files import write

FLOOR = "the same of {} against {} Geant4 showers ({}), scaled to the number of showers"
KEY_MEASURES = (
    *("auc_low", "auc_high", "auc_trees", "auc_resnet", "separation_response", "separation_layer_energies"),
    *("separation_voxel_energy", "separation_sparsity", "fpd", "recall", "density"),
)
AT_A_GLANCE = (
    "equivalent",
    "deviations",
    "worst_histogram",
    "likelihood_ratio_trees",
    "likelihood_ratio_low",
    "energies",
)
"""Pictures for the first screen, of which the first three are shown that exist."""
MOST_TAILS = 12
CLOSURE_TESTS = {
    "reconstruction": "reconstructions, true layer energies: encoder and decoder",
    "latents": "sampled against encoded latents: density on the manifold",
    "shapes": "generated shapes, true layer energies: density and decoder",
    "full": "everything generated",
}


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
        write(self.page, _page(self.metrics, self.pictures))

    @property
    def page(self) -> Path:
        """The HTML page, which needs no other file and no network."""
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


def _page(metrics: Mapping, pictures: Sequence[Picture]) -> str:
    loader = PackageLoader("caloman.evaluation", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "base64": lambda content: base64.b64encode(content).decode(),
        "thousands": lambda count: f"{count:,}".replace(",", "\u202f"),
        "words": _with_subscripts,
        "energies": format_window,
        "quantity": lambda key: _with_subscripts(QUANTITIES[key]),
        "capital": lambda text: text[:1].upper() + text[1:],
    }
    drawn = {picture.name: picture for picture in pictures}
    glance = [drawn.pop(name) for name in [name for name in AT_A_GLANCE if name in drawn][:3]]
    return environment.get_template("page.html.jinja").render(
        metrics=metrics,
        samples=metrics["samples"],
        keys=[key for key in KEY_MEASURES if key in metrics["samples"][0]["metrics"]],
        glance=glance,
        pictures=list(drawn.values()),
        labels=LABELS,
        closure_tests=CLOSURE_TESTS,
        color=sample_color,
        explain=explain,
        most_tails=MOST_TAILS,
    )


def _with_subscripts(text: str) -> Markup:
    return Markup(str(escape(text)).replace("E_tot", "E<sub>tot</sub>").replace("E_inc", "E<sub>inc</sub>"))
