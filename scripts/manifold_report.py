"""Table and figure of the benchmark of manifolds, from its rows."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from caloman.demonstrations.results import Row, markdown, spread
from caloman.evaluation.plots.style import REFERENCE, STYLE, rendered, sample_color

COLUMNS = ("distance", "SWD", "reconstruction", "log p of samples", "excess", "CPU seconds")
TOYS = ("circle", "surface, narrow", "surface", "surface, wide", "lorenz")
METHODS = ("truth", "AF", "M/D", "joint", "OT/D", "PAE")
PUBLISHED = {"truth": ".0081 / 2.0", "AF": ".58 / -86", "M/D": ".92 / -94", "OT/D": ".009 / 0.6", "PAE": ".029 / -8.8"}
"""Distance and log p of samples of the circle after 12 epochs with affine couplings: code of arXiv:2003.13913."""


def table(rows: list[Row]) -> str:
    """Markdown with a line for each toy and method, and the published numbers beside ours."""
    lines = [["toy", "method", "seeds", *COLUMNS, "published distance / log p"]]
    found = {(row["toy"], row["method"]) for row in rows}
    for toy, method in sorted(found, key=lambda pair: (TOYS.index(pair[0]), METHODS.index(pair[1]))):
        group = [row for row in rows if (row["toy"], row["method"]) == (toy, method)]
        numbers = [spread(row[name] for row in group) if name in group[0] else "" for name in COLUMNS]
        lines.append([toy, method, str(len(group)), *numbers, PUBLISHED.get(method, "") if toy == "circle" else ""])
    return markdown(lines)


def figure(rows: list[Row]) -> bytes:
    """Samples of each method on the circle, of the first seed."""
    shown = {row["method"]: row["samples"] for row in reversed(rows) if "samples" in row}
    methods = [method for method in METHODS if method in shown]
    angle = np.linspace(0, 2 * np.pi, 200)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(2 * len(methods), 2.2), layout="constrained")
        for number, method in enumerate(methods):
            axes = drawn.add_subplot(1, len(methods), number + 1, title=method, aspect="equal")
            axes.plot(np.cos(angle), np.sin(angle), color=REFERENCE, linewidth=0.6)
            axes.plot(*np.transpose(shown[method]), ".", color=sample_color(number), markersize=2)
            axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        return rendered(drawn, "png")
