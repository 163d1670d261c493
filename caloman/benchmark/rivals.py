"""The fastest published flows of the CaloChallenge's photons, with their architectures and initial weights."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from torch import Tensor

from caloman import bundle
from caloman.flows import CouplingFlow
from caloman.geometry import BUILT_IN, Geometry
from caloman.models import ShowerModel

PHOTONS = BUILT_IN["1-photons"]


class CaloINNFlow(ShowerModel):
    """The flow of CaloINN on voxels and layer energies, without what it does before and after it.

    References:
        Ernst et al., CaloINN (arXiv:2312.09290) and its published code.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        features = geometry.n_voxels + geometry.n_layers
        self.noise_blocks = {"voxels": features}
        self.flow = CouplingFlow(
            features, 1, transforms=12, bins=10, bound=18.0, hidden=256, blocks=1, mixing="permutation", actnorm=True
        )

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        return self.flow.sample(noise, incident_energies.log2())[:, : self.geometry.n_voxels].exp()


def caloinn() -> ShowerModel:
    """CaloINN: 18.8 M parameters."""
    return _in_range(CaloINNFlow(PHOTONS))


def caloflow_student() -> ShowerModel:
    """CaloFlow's student: 56.55 M parameters."""
    package = Path(str(files("caloman")))
    name = "configs/1-photons/caloflow_student.yaml"
    path = package / name if (package / name).is_file() else package.parent / name
    return _in_range(bundle.build_model(yaml.safe_load(path.read_text())["model"], PHOTONS, path))


def _in_range(model: ShowerModel) -> ShowerModel:
    model.energy_range.copy_(torch.tensor([256.0, 4_194_304.0]))
    return model.eval()


RIVALS: dict[str, Callable[[], ShowerModel]] = {"CaloINN": caloinn, "CaloFlow student": caloflow_student}
"""Name in the leaderboard -> what builds it."""
