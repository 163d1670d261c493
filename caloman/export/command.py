"""``caloman export``: a trained generator as one file for programs that do not run Python."""

import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import torch

from caloman import bundle, files
from caloman.errors import CalomanError
from caloman.export.formats import FORMATS, Array, find_format
from caloman.export.manifest import describe
from caloman.export.targets import Target, make_target
from caloman.export.verify import BATCHES, Parity, check, measure, reference_inputs, rounding
from caloman.models import ShowerModel


@dataclass(frozen=True)
class Export:
    """What was written, how it differs from the model, and the time per shower [ms]."""

    file: Path
    parity: Parity
    rounding: Parity
    timing: dict[str, dict[str, float]]

    def __str__(self) -> str:
        rows = [
            f"{name:<10}" + "".join(f"{value:>12.4f}" for value in row.values()) for name, row in self.timing.items()
        ]
        head = f"{'ms/shower':<10}" + "".join(f"{'batch ' + batch:>12}" for batch in self.timing["eager"])
        size = self.file.stat().st_size / 1e6
        return "\n".join(
            [
                f"{self.file}, {size:.1f} MB, gives the showers of the model",
                f"file against model: {self.parity}",
                f"float32 against float64 of the model: {self.rounding}",
                head,
                *rows,
            ]
        )


def export(
    run: str | Path, file: str | Path, target: str = "calochallenge", noise: str = "input", seed: int = 0
) -> Export:
    """Exports a generator as one file, from energy to voxels.

    Beside FILE appear FILE.json (units, order, ranges, parity, timing), FILE.reference.npz and .bin (inputs and
    outputs to check a client with), and what the target's program needs to use it. Nothing appears if the file does
    not give the same showers as the model.

    Args:
        run: run folder of `caloman fit`, or a bundle.
        file: file to write; its suffix tells the format: .onnx, .pt2 (torch.export), .pt (TorchScript for LibTorch).
        target: program that will read it: calochallenge, par04, ddml or atlas.
        noise: input, for Gaussians from the program's own engine, or internal, to draw them inside.
        seed: of the reference inputs.

    Returns:
        Parity and timing.

    Raises:
        CalomanError: if the target is unknown or does not fit the model, a package is missing, or the file differs
            from the model.
    """
    return export_model(run, file, target, noise, seed)


def export_model(
    model: ShowerModel | str | Path,
    file: str | Path,
    target: str = "calochallenge",
    noise: str = "input",
    seed: int = 0,
) -> Export:
    """Exports a generator, or the one of a run folder or bundle; see `export`."""
    path = Path(file)
    find_format(path)
    training = {}
    if not isinstance(model, ShowerModel):
        run = Path(model)
        model = bundle.load(run)
        training = bundle.read_training(run)
    was_training, device = model.training, model.energy_range.device
    wrapped = make_target(model, target, noise)
    try:
        with torch.no_grad():
            return _write(wrapped.cpu().eval(), path, describe(wrapped, target, training), seed)
    finally:
        model.to(device).train(was_training)


def _write(target: Target, path: Path, manifest: dict, seed: int) -> Export:
    form = FORMATS[path.suffix]
    noise, energies = reference_inputs(target.model, max(BATCHES), seed)
    with files.appearing(path) as partial:
        form.write(target, target.arguments(noise[:2], energies[:2]), manifest, partial)
        run = form.read(partial)
        parity, outputs = check(target, run, noise, energies)
        own = rounding(target, noise, energies)
        if not parity.holds(own):
            raise CalomanError(f"{path}: not written, for it does not give the showers of the model ({parity})")
        timing = measure(target, run, noise, energies)
        inputs = [tensor.numpy() for tensor in target.arguments(noise, energies)]
        _write_reference(path, dict(zip(target.inputs, inputs, strict=True)), outputs)
        report = {**manifest, "parity": asdict(parity), "rounding": asdict(own), "milliseconds_per_shower": timing}
        files.write(_beside(path, ".json"), json.dumps(report, indent=1) + "\n")
        _write_snippets(target, path)
    return Export(path, parity, own, timing)


def _write_reference(path: Path, inputs: dict[str, Array], outputs: list[Array]) -> None:
    """Inputs and outputs as .npz, and one after another as rows of float32 in a .bin for programs without NumPy."""
    arrays = {**inputs, **dict(zip(("showers", "noise"), outputs, strict=False))}
    with files.appearing(_beside(path, ".reference.npz")) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    files.write(_beside(path, ".reference.bin"), b"".join(array.astype("<f4").tobytes() for array in arrays.values()))


def _write_snippets(target: Target, path: Path) -> None:
    layer, geometry = target.model.geometry.layers[0], target.model.geometry
    low, high = target.model.energy_range.tolist()
    words = {
        "file": path.name,
        "noise_dim": target.model.noise_dim,
        "n_voxels": geometry.n_voxels,
        "n_r": layer.n_r,
        "n_alpha": layer.n_alpha,
        "n_layers": geometry.n_layers,
        "cell_r": f"{layer.r_edges[-1] / layer.n_r:g}",
        "low": f"{low:g}",
        "high": f"{high:g}",
        "note": target.note,
        "inputs": ", ".join(f"{name} (1, {columns})" for name, columns in target.inputs.items()),
        "library": "ONNX" if path.suffix == ".onnx" else "TORCH",
    }
    for name in target.snippets:
        template = resources.files("caloman.export").joinpath("snippets", f"{name}.in").read_text()
        files.write(path.with_name(f"{path.name}.{name}"), Template(template).substitute(words))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
