"""``caloman export``: a trained generator as one file for programs that do not run Python."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from caloman import __version__, bundle, files
from caloman.errors import CalomanError
from caloman.exporting.clients import make_target
from caloman.exporting.formats import Array, find_format
from caloman.exporting.targets import Target
from caloman.exporting.verify import BATCHES, Parity, check, measure, reference_inputs, rounding
from caloman.models import ShowerModel
from caloman.progress import Progress
from caloman.showers.spectra import check_seed

if TYPE_CHECKING:
    Generator = str | Path | ShowerModel
else:  # a class here would let the command line build one
    Generator = str | Path


@dataclass(frozen=True)
class Export:
    """What was written, its differences from the model, and the time per shower [ms]."""

    file: Path
    parity: Parity
    rounding: Parity
    timing: dict[str, dict[str, float]]

    def __str__(self) -> str:
        head = f"{'ms/shower':<10}" + "".join(f"{'batch ' + batch:>12}" for batch in self.timing["eager"])
        return "\n".join(
            [
                f"{self.file}, {self.file.stat().st_size / 1e6:.1f} MB, gives the showers of the model",
                f"file against model: {self.parity}",
                f"float32 against float64 of the model: {self.rounding}",
                head,
                *(f"{name:<10}" + "".join(f"{t:>12.4f}" for t in row.values()) for name, row in self.timing.items()),
            ]
        )


def export(
    run: Generator, output: str | Path, target: str = "calochallenge", noise: str = "input", seed: int = 0
) -> Export:
    """Exports a generator as one file, from the conditions to voxels.

    Beside OUTPUT appear OUTPUT.json (units, order, ranges, parity, timing), OUTPUT.reference.npz and .bin (inputs and
    outputs for tests of a client), and what the program of the target needs. Nothing appears if the showers of the file
    differ from those of the model.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`; in Python also a loaded model.
        output: file to write; the suffix tells the format: .onnx, .pt2 (torch.export), .pt (TorchScript for LibTorch).
        target: program that reads the file: calochallenge, par04, par04-calodit, ddml or fastcalosim.
        noise: input, for Gaussians from the engine of the program, or internal, for a generator inside the file.
        seed: seed of the reference inputs, from 0 to 2^63 - 1.

    Returns:
        Parity and timing.

    Raises:
        CalomanError: if the target is unknown or does not fit the model, a package is missing, or the file differs
            from the model.
    """
    path = Path(output)
    find_format(path)
    check_seed(seed)
    run = run if isinstance(run, ShowerModel) else bundle.find(run)
    model = run if isinstance(run, ShowerModel) else bundle.load(run)
    training = {} if isinstance(run, ShowerModel) else bundle.read_config(run)["training"]
    was_training, device = model.training, model.device
    wrapped = make_target(model, target, noise)
    if path.suffix not in wrapped.suffixes:
        raise CalomanError(f"{path}: the program of target {target} reads {' or '.join(wrapped.suffixes)}; use that")
    try:
        with torch.no_grad(), Progress("export", 3, "step") as progress:
            manifest = {**describe(wrapped, target, training), "needs": find_format(path).needs}
            return _write(wrapped.cpu().eval(), path, manifest, seed, progress)
    finally:
        model.to(device).train(was_training)


def _write(target: Target, path: Path, manifest: dict[str, object], seed: int, progress: Progress) -> Export:
    form = find_format(path)
    noise, conditions = reference_inputs(target.model, max(BATCHES), seed)
    with files.locked(path), files.appearing(path) as partial:
        progress.begin("write the graph")
        form.write(target, target.arguments(noise[:2], conditions[:2]), manifest, partial)
        run = form.read(partial)
        progress.begin("compare it with the model")
        parity, outputs = check(target, run, noise, conditions)
        drawn = torch.from_numpy(outputs[1]) if len(outputs) > 1 else noise
        own = rounding(target, drawn, conditions)
        if not parity.holds(own):
            raise CalomanError(f"{path}: not written, for it does not give the showers of the model ({parity})")
        progress.begin("measure the time")
        timing = measure(target, run, noise, conditions)
        inputs = [tensor.numpy() for tensor in target.arguments(noise, conditions)]
        _write_reference(path, dict(zip(target.inputs, inputs, strict=True)), outputs)
        report = {**manifest, "parity": asdict(parity), "rounding": asdict(own), "milliseconds_per_shower": timing}
        files.write(_beside(path, ".json"), json.dumps(report, indent=1) + "\n")
        target.write_beside(path, partial)
    return Export(path, parity, own, timing)


def _write_reference(path: Path, inputs: dict[str, Array], outputs: list[Array]) -> None:
    """Inputs and outputs as .npz, and one after another as rows of float32 in a .bin for programs without NumPy."""
    arrays = {**inputs, **dict(zip(("showers", "noise"), outputs, strict=False))}
    with files.appearing(_beside(path, ".reference.npz")) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    files.write(_beside(path, ".reference.bin"), b"".join(array.astype("<f4").tobytes() for array in arrays.values()))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def describe(target: Target, name: str, training: dict) -> dict[str, object]:
    """The manifest of a target: inputs, units, order, ranges and provenance."""
    model = target.model
    return {
        "caloman": __version__,
        "target": name,
        "dataset": model.geometry.name,
        "particle": model.geometry.particle,
        "inputs": {key: [-1, columns] for key, columns in target.inputs.items()},
        "noise_blocks": dict(model.noise_blocks),
        "noise": "standard normal",
        "conditions": model.conditions.plain(),
        "output": {"showers": [-1, model.geometry.n_voxels]},
        "units": target.units,
        "order": target.order,
        "threshold_mev": model.threshold,
        "note": target.note,
        "geometry": model.geometry.to_text(),
        "model_sha256": fingerprint(model),
        "training": training,
        "license": "MIT for the code that made it; the weights belong to whoever trained them",
    }


def fingerprint(model: ShowerModel) -> str:
    """SHA-256 over names and values of all weights and statistics."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
