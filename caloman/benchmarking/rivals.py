"""The fastest published flows of the CaloChallenge's photons, with their architectures and initial weights."""

from pathlib import Path

from caloman import bundle
from caloman.models import ShowerModel
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import BUILT_IN
from caloman.specification import read_layers

PHOTONS = BUILT_IN["1-photons"]
RIVALS = {"CaloINN": "1-photons/caloinn", "CaloFlow student": "1-photons/caloflow_student"}
"""Name in the leaderboard -> pipeline of the package."""


def build_rival(name: str) -> ShowerModel:
    """One of the `RIVALS`: 18.8 M (CaloINN) or 56.55 M parameters (CaloFlow's student)."""
    conditions = Conditions.energies(256.0, 4_194_304.0)
    return bundle.build_model(read_layers(RIVALS[name])["model"], PHOTONS, conditions, Path(RIVALS[name])).eval()
