"""What a program or a person has to know of an exported file, written into it and beside it."""

import hashlib

import torch

from caloman import __version__
from caloman.exporting.targets import Target
from caloman.models import ShowerModel

LICENSE = "MIT for the code that made it; the weights belong to whoever trained them"


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
        "license": LICENSE,
    }


def fingerprint(model: ShowerModel) -> str:
    """SHA-256 over names and values of all weights and statistics."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
