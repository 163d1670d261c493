"""caloman: calorimeter showers from a learned manifold and a density on it.

Importing the package is light: torch and Lightning are loaded when a name that needs them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caloman.bundle import load
    from caloman.errors import CalomanError
    from caloman.evaluation.compare import compare
    from caloman.evaluation.evaluate import evaluate
    from caloman.exporting.command import export
    from caloman.generation.streaming import GeneratedShowers
    from caloman.showers.geometry import Geometry, Layer
    from caloman.showers.observables import Observables, compute_observables
    from caloman.showers.showers import ShowerFile, Showers, ShowerWriter

__version__ = "0.1.0"

_HOMES = {
    "CalomanError": "caloman.errors",
    "GeneratedShowers": "caloman.generation.streaming",
    "Geometry": "caloman.showers.geometry",
    "Layer": "caloman.showers.geometry",
    "Observables": "caloman.showers.observables",
    "ShowerFile": "caloman.showers.showers",
    "ShowerWriter": "caloman.showers.showers",
    "Showers": "caloman.showers.showers",
    "compare": "caloman.evaluation.compare",
    "compute_observables": "caloman.showers.observables",
    "evaluate": "caloman.evaluation.evaluate",
    "export": "caloman.exporting.command",
    "load": "caloman.bundle",
}

__all__ = [
    "CalomanError", "GeneratedShowers", "Geometry", "Layer", "Observables", "ShowerFile", "ShowerWriter", "Showers",
    "compare", "compute_observables", "evaluate", "export", "load",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'caloman' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
