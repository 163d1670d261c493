"""The judge: how well a file of generated showers agrees with a file of Geant4 showers.

Names are loaded when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caloman.evaluation.bands import calibrate, histogram_bands
    from caloman.evaluation.changes import compare
    from caloman.evaluation.classifier import ClassifierTest, Training, train_classifier
    from caloman.evaluation.command import evaluate
    from caloman.evaluation.distances import fpd, frechet_distance, kpd
    from caloman.evaluation.histograms import Binning, Histogram, challenge_binnings, fill_histograms, separation
    from caloman.evaluation.inputs import Inputs, high_level_inputs, low_level_inputs
    from caloman.evaluation.neighbors import prdc, prdc_legacy_inputs
    from caloman.evaluation.presets import ClassifierPreset, preset_for
    from caloman.evaluation.report import Report
    from caloman.evaluation.samples import LoadedSample, Sample, Summary, summarize

_NAMES = {
    "bands": ("calibrate", "histogram_bands"),
    "changes": ("compare",),
    "classifier": ("ClassifierTest", "Training", "train_classifier"),
    "command": ("evaluate",),
    "distances": ("fpd", "frechet_distance", "kpd"),
    "histograms": ("Binning", "Histogram", "challenge_binnings", "fill_histograms", "separation"),
    "inputs": ("Inputs", "high_level_inputs", "low_level_inputs"),
    "neighbors": ("prdc", "prdc_legacy_inputs"),
    "presets": ("ClassifierPreset", "preset_for"),
    "report": ("Report",),
    "samples": ("LoadedSample", "Sample", "Summary", "summarize"),
}
_HOMES = {name: f"caloman.evaluation.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "Binning", "ClassifierPreset", "ClassifierTest", "Histogram", "Inputs", "LoadedSample", "Report", "Sample",
    "Summary", "Training", "calibrate", "challenge_binnings", "compare", "evaluate", "fill_histograms", "fpd",
    "frechet_distance", "high_level_inputs", "histogram_bands", "kpd", "low_level_inputs", "prdc",
    "prdc_legacy_inputs", "preset_for", "separation", "summarize", "train_classifier",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'caloman.evaluation' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
