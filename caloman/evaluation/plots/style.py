"""How figures look, and a figure as the files of a report."""

import io
from dataclasses import dataclass
from typing import Self

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.linewidth": 0.8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3c4043",
    "xtick.color": "#3c4043",
    "ytick.color": "#3c4043",
    "text.color": "#202124",
    "legend.frameon": False,
    "savefig.dpi": 150,
}
REFERENCE = "#7a8087"
# colors of Okabe and Ito, which differ for every kind of color vision
SAMPLES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Picture:
    """A figure for the report: name of its files without suffix, kind and subject of its caption, two formats."""

    name: str
    kind: str
    subject: str
    png: bytes
    pdf: bytes

    @classmethod
    def of(cls, name: str, figure: Figure, kind: str = "", subject: str = "") -> Self:
        png = rendered(figure, "png")
        figure.set_layout_engine("none")  # it has done its work, which is most of the time
        return cls(name, kind or name, subject, png, rendered(figure, "pdf"))


def formula(label: str) -> str:
    """A label whose energies are set as a formula."""
    return label.replace("E_tot / E_inc", r"$E_{tot}\,/\,E_{inc}$")


def sample_color(position: int) -> str:
    """Color of the sample at a position of the report."""
    return SAMPLES[position % len(SAMPLES)]


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a file of the given kind, png or pdf."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # without a date, so that equal figures are equal files
    metadata = {"CreationDate": None} if kind == "pdf" else None
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
