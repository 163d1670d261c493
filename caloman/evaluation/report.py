"""The report of a comparison: metrics.json, figures and one self-contained HTML page."""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from caloman.evaluation.histograms import LABELS, RESPONSE, VOXEL_ENERGY
from caloman.evaluation.plots import Picture
from caloman.files import write

KEY_OBSERVABLES = (RESPONSE, "layer_energies", VOXEL_ENERGY, "sparsity")


@dataclass(frozen=True)
class Report:
    """The result of a comparison.

    Args:
        metrics: content of metrics.json.
        pictures: the figures.
        output: folder for the files.
    """

    metrics: dict
    pictures: Sequence[Picture]
    output: Path

    def save(self) -> None:
        """Writes metrics.json, figures/*.png and index.html; each file appears when it is complete.

        Raises:
            CalomanError: if the folder cannot be written.
        """
        for picture in self.pictures:
            write(self.output / "figures" / f"{picture.name}.png", picture.png)
        write(self.output / "metrics.json", json.dumps(self.metrics, indent=1, allow_nan=False, ensure_ascii=False))
        write(self.page, _html(self.metrics, self.pictures))

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.output / "index.html"

    def __str__(self) -> str:
        """Table for the terminal."""
        rows = [
            *((f"AUC {n}-level", *_cells(a, "mean")) for n, a in self.metrics["auc"].items()),
            *((f"separation, {LABELS[n]}", *_cells(m)) for n, m in self.metrics["separation"]["means"].items()),
        ]
        lines = [self.metrics["verdict"], "", f"{'':36}{'score':>20}{'floor':>20}"]
        lines += [f"{name:36}{score:>20}{floor:>20}" for name, score, floor in rows]
        lines += [f"! {warning}" for warning in self.metrics["warnings"]]
        return "\n".join([*lines, "", str(self.page)])


def _cells(entry: dict, key: str = "value") -> tuple[str, str]:
    """Score and floor, each with its error."""
    return _number(entry[key], entry["error"]), _number(entry["floor"], entry["floor_error"])


def _number(value: float, error: float) -> str:
    """Writes a number with as many decimals as its error has a meaning, at least three."""
    decimals = min(max(-math.floor(math.log10(error)), 3), 6) if error > 0 else 3
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _html(metrics: dict, pictures: Sequence[Picture]) -> str:
    template = Template(files("caloman.evaluation").joinpath("page.html").read_text(encoding="utf-8"))
    sizes = {role: entry["showers"] for role, entry in metrics["files"].items()}
    return template.substitute(
        title=escape(f"{metrics['files']['generated']['file']} against Geant4"),
        dataset=escape(metrics["dataset"]),
        sizes=f"{sizes['generated']:,} generated against {sizes['reference']:,} Geant4 showers".replace(",", "\u202f"),
        verdict=_text(metrics["verdict"]),
        warnings=_warnings(metrics["warnings"]),
        cards=_cards(metrics),
        means=_mean_table(metrics["separation"]["means"]),
        histograms=_histogram_table(metrics["separation"]["histograms"]),
        aucs=_auc_table(metrics["auc"]),
        figures="".join(map(_figure, pictures)),
        provenance=_provenance(metrics),
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f'<ul class="warnings">{"".join(f"<li>{_text(warning)}</li>" for warning in warnings)}</ul>'


def _cards(metrics: dict) -> str:
    means = metrics["separation"]["means"]
    entries = [(f"AUC, {name}-level classifier", *_cells(auc, "mean")) for name, auc in metrics["auc"].items()]
    entries += [(f"Separation, {LABELS[name]}", *_cells(means[name])) for name in KEY_OBSERVABLES]
    cards = []
    for label, score, floor in entries:
        value, error = score.split(" ± ")
        cards.append(
            f'<div class="card"><div class="label">{_text(label)}</div>'
            f'<div class="value">{value}<small> ± {error}</small></div><div class="floor">floor {floor}</div></div>'
        )
    return "".join(cards)


def _text(text: str) -> str:
    return escape(text).replace("E_tot", "E<sub>tot</sub>").replace("E_inc", "E<sub>inc</sub>")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _mean_table(means: dict) -> str:
    rows = ((LABELS[name], str(mean["histograms"]), *_cells(mean)) for name, mean in means.items())
    return _table(("observable", "histograms", "separation", "floor"), rows)


def _histogram_table(entries: Sequence[dict]) -> str:
    header = ("observable", "where", "separation", "floor", "entries", "outside bins")
    rows = (
        (
            LABELS[entry["observable"]],
            entry["where"],
            *_cells(entry),
            " / ".join(str(count) for count in entry["entries"]),
            " / ".join(f"{fraction:.1%}" for fraction in entry["outside"]),
        )
        for entry in entries
    )
    return _table(header, rows)


def _auc_table(aucs: dict) -> str:
    rows = (
        (
            f"{name}-level",
            *_cells(auc, "mean"),
            " ".join(f"{value:.3f}" for value in auc["repeats"]),
            " / ".join(map(str, auc["scored_showers"])),
        )
        for name, auc in aucs.items()
    )
    return _table(("classifier", "AUC", "floor", "trainings", "showers scored"), rows)


def _figure(picture: Picture) -> str:
    image = base64.b64encode(picture.png).decode()
    return (
        f'<figure id="{escape(picture.name)}"><h3>{_text(picture.title)}</h3>'
        f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _provenance(metrics: dict) -> str:
    settings, floor = metrics["settings"], metrics["floor"]
    preset = ", ".join(f"{key} {value}" for key, value in settings["classifier"].items())
    rows = [
        (role, f"{entry['file']}: {entry['showers']} showers, sha256 {entry['sha256']}")
        for role, entry in metrics["files"].items()
    ]
    rows += [
        ("floor measured with", f"{floor['kind']}: {floor['showers'][0]} against {floor['showers'][1]} Geant4 showers"),
        ("readout threshold", f"{settings['threshold_mev']:.6g} MeV"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("classifier", preset),
        ("caloman", metrics["caloman"]),
    ]
    return _table(("", ""), rows)
