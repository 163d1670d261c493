"""What the page `showers` loads: the photon generator as an ONNX file, the mesh, and histograms of Geant4's showers."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman import __version__, bundle
from caloman.exporting.clients import make_target
from caloman.exporting.formats import write_onnx
from caloman.exporting.verify import reference_inputs
from caloman.showers.geometry import Geometry
from caloman.showers.observables import compute_observables
from caloman.showers.showers import ShowerFile

SAMPLES = Path(__file__).parents[1] / "data_prep" / "samples"
BINS = 24


def write_files(folder: Path) -> None:
    """Writes ``photons.onnx`` and ``photons.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = folder / "photons.onnx"
    newest = max(path.stat().st_mtime for path in (Path(__file__), bundle.find("photons") / "config.yaml"))
    if not generator.is_file() or generator.stat().st_mtime < newest:  # it takes half a minute
        write_generator(generator)
    (folder / "photons.json").write_text(json.dumps(describe(), separators=(",", ":")))


def write_generator(path: Path, run: str | Path = "photons") -> None:
    """Writes a generator."""
    model = bundle.load(run)
    target = make_target(model, "calochallenge")
    write_onnx(target, target.arguments(*reference_inputs(model, 2, seed=0)), {"caloman": __version__}, path)


def describe() -> dict[str, object]:
    """The mesh, and for each incident energy [MeV] what Geant4's showers leave in each layer and in all, over E_inc."""
    geometry = Geometry.load("1-photons")
    incident, fractions = [], []
    for name in ("photons_train.hdf5", "photons_test.hdf5"):
        with ShowerFile(SAMPLES / name, geometry) as file:
            observables = compute_observables(file.blocks(), threshold=0.0)
        incident.append(observables.incident_energies)
        deposits = np.column_stack([observables.layer_energies, observables.total_energy])
        fractions.append(deposits / observables.incident_energies[:, None])
    energies, shares = np.concatenate(incident), np.concatenate(fractions)
    return {
        "layers": [{"id": layer.id, "alpha": layer.n_alpha, "r": layer.r_edges} for layer in geometry.layers],
        "energies": [
            {
                "energy": float(energy),
                "showers": int((energies == energy).sum()),
                "deposits": [_distribution(values) for values in shares[energies == energy].T],
            }
            for energy in np.unique(energies)
        ],
    }


def _distribution(values: NDArray[np.floating]) -> dict[str, object]:
    """Mean, and a histogram that leaves out half a percent on each side."""
    low, high = (float(f"{edge:.3g}") for edge in np.quantile(values, [0.005, 0.995]))
    counts, _ = np.histogram(values, BINS, (low, high))
    return {"mean": float(f"{values.mean():.4g}"), "range": [low, high], "counts": counts.tolist()}
