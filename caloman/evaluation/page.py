"""The HTML page of a report, which needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from caloman.evaluation.histograms import LABELS
from caloman.evaluation.measures import number
from caloman.evaluation.plots import Picture
from caloman.evaluation.plots.style import sample_color

KEY_MEASURES = (
    *("auc_low", "auc_high", "auc_resnet", "separation_response", "separation_layer_energies"),
    *("separation_voxel_energy", "separation_sparsity", "fpd", "recall", "density"),
)
CLOSURE_TESTS = {
    "reconstruction": "reconstructions, true layer energies: encoder and decoder",
    "latents": "sampled against encoded latents: density on the manifold",
    "shapes": "generated shapes, true layer energies: density and decoder",
    "full": "everything generated",
}


def render(metrics: Mapping, pictures: Sequence[Picture]) -> str:
    """Returns the page for the content of metrics.json and its figures."""
    environment = Environment(
        loader=PackageLoader("caloman.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, base64=_base64, thousands=_thousands, words=_words)
    return environment.get_template("page.html.jinja").render(
        metrics=metrics,
        samples=metrics["samples"],
        keys=[key for key in KEY_MEASURES if key in metrics["samples"][0]["metrics"]],
        pictures=pictures,
        labels=LABELS,
        closure_tests=CLOSURE_TESTS,
        color=sample_color,
    )


def _words(text: str) -> Markup:
    """Text with its symbols set as in print."""
    return Markup(str(escape(text)).replace("E_tot", "E<sub>tot</sub>").replace("E_inc", "E<sub>inc</sub>"))


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
