"""The fastest published flows of the CaloChallenge's photons, with their architectures and initial weights."""

from pathlib import Path

import torch
import yaml

from caloman import bundle
from caloman.files import shipped
from caloman.models import ShowerModel
from caloman.showers.geometry import BUILT_IN

PHOTONS = BUILT_IN["1-photons"]
RIVALS = {"CaloINN": "caloinn.yaml", "CaloFlow student": "caloflow_student.yaml"}
"""Name in the leaderboard -> pipeline in configs/1-photons."""


def build_rival(name: str) -> ShowerModel:
    """One of the `RIVALS`: 18.8 M (CaloINN) or 56.55 M parameters (CaloFlow's student)."""
    path = shipped(Path("configs/1-photons", RIVALS[name]))
    model = bundle.build_model(yaml.safe_load(path.read_text())["model"], PHOTONS, path)
    model.energy_range.copy_(torch.tensor([256.0, 4_194_304.0]))
    return model.eval()
