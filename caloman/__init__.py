"""caloman: calorimeter showers from a learned manifold and a density on it.

Importing the package is light: torch and Lightning are loaded when a name that needs them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caloman.benchmarking.command import benchmark
    from caloman.bundle import load
    from caloman.data.check import check
    from caloman.data.dimension import dimension
    from caloman.data.download import download
    from caloman.data.prepare import prepare
    from caloman.data.simulation.simulate import simulate
    from caloman.errors import CalomanError
    from caloman.evaluation.changes import compare
    from caloman.evaluation.command import evaluate
    from caloman.exporting.command import export
    from caloman.exporting.submission import submit
    from caloman.generation.anomaly import score
    from caloman.generation.closure import encode, reconstruct
    from caloman.generation.generate import generate
    from caloman.generation.shards import merge
    from caloman.generation.streaming import GeneratedShowers
    from caloman.generators.listing import list_models
    from caloman.run_folders import runs
    from caloman.sharing import publish
    from caloman.showers.geometry import Geometry, Layer
    from caloman.showers.observables import Observables, compute_observables
    from caloman.showers.showers import ShowerFile, Showers
    from caloman.showers.writer import ShowerWriter
    from caloman.training.command import fit

__version__ = "0.3.0"

_HOMES = {
    "CalomanError": "caloman.errors",
    "GeneratedShowers": "caloman.generation.streaming",
    "Geometry": "caloman.showers.geometry",
    "Layer": "caloman.showers.geometry",
    "Observables": "caloman.showers.observables",
    "ShowerFile": "caloman.showers.showers",
    "ShowerWriter": "caloman.showers.writer",
    "Showers": "caloman.showers.showers",
    "benchmark": "caloman.benchmarking.command",
    "check": "caloman.data.check",
    "compare": "caloman.evaluation.changes",
    "compute_observables": "caloman.showers.observables",
    "dimension": "caloman.data.dimension",
    "download": "caloman.data.download",
    "encode": "caloman.generation.closure",
    "evaluate": "caloman.evaluation.command",
    "export": "caloman.exporting.command",
    "fit": "caloman.training.command",
    "generate": "caloman.generation.generate",
    "list_models": "caloman.generators.listing",
    "load": "caloman.bundle",
    "merge": "caloman.generation.shards",
    "prepare": "caloman.data.prepare",
    "publish": "caloman.sharing",
    "reconstruct": "caloman.generation.closure",
    "runs": "caloman.run_folders",
    "score": "caloman.generation.anomaly",
    "simulate": "caloman.data.simulation.simulate",
    "submit": "caloman.exporting.submission",
}
"""Public name -> its module. The functions but `load` and `compute_observables` are the commands, too.

`list_models` is the command ``models``, for `caloman.models` is a package.
"""

__all__ = [
    "CalomanError", "GeneratedShowers", "Geometry", "Layer", "Observables", "ShowerFile", "ShowerWriter", "Showers",
    "benchmark", "check", "compare", "compute_observables", "dimension", "download", "encode", "evaluate", "export",
    "fit", "generate", "list_models", "load", "merge", "prepare", "publish", "reconstruct", "runs", "score",
    "simulate", "submit",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'caloman' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
