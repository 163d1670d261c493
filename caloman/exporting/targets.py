"""Signatures: a generator as a client program calls it, as a module around it."""

from abc import ABC, abstractmethod
from importlib import resources
from pathlib import Path
from string import Template

import torch
from torch import Tensor, nn

from caloman import files
from caloman.errors import CalomanError
from caloman.models import ShowerModel

SAMPLING_FRACTION = 0.033
"""Datasets 2 and 3 hold the deposits of Geant4's example Par04 divided by this."""
PAR04_ENERGY = 1_024_000.0
"""Unit of the incident energy in the input of Par04 [MeV]."""


class Target(nn.Module, ABC):
    """A generator with the inputs, the units and the voxel order of one client.

    Args:
        model: the generator, a function of noise (N, noise_dim) and incident energies (N, 1) [MeV].

    Raises:
        CalomanError: if the client cannot read showers of this geometry or model.
    """

    inputs: dict[str, int]
    """Names of the inputs, in order, and their numbers of columns."""
    units = "MeV"
    order = "layer, alpha, r (r fastest)"
    note = ""
    """What a user of the file has to know besides."""
    snippets: tuple[str, ...] = ()
    """Templates that are filled in and written beside the file."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def arguments(self, noise: Tensor, incident_energies: Tensor) -> tuple[Tensor, ...]:
        """The inputs that stand for noise (N, noise_dim) and incident energies (N, 1) [MeV]."""

    def write_beside(self, path: Path) -> None:
        """Writes the further files that the client of an exported file needs: the filled-in templates."""
        words = _words(self, path)
        for name in self.snippets:
            template = resources.files("caloman.exporting").joinpath("snippets", f"{name}.in").read_text()
            files.write(path.with_name(f"{path.name}.{name}"), Template(template).substitute(words))

    def reorder(self, voxels: Tensor) -> Tensor:
        """Brings voxels (N, V) from the order of the CaloChallenge into that of the client."""
        return voxels


class CaloChallenge(Target):
    """Noise and incident energies in, voxels in the CaloChallenge's units and order out."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        self.inputs = {"noise": model.noise_dim, "incident_energies": 1}

    def arguments(self, noise: Tensor, incident_energies: Tensor) -> tuple[Tensor, ...]:
        return noise, incident_energies

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        return self.model(noise, incident_energies)


class OwnNoise(CaloChallenge):
    """Incident energies in; draws its own noise and returns it after the voxels, so that a shower can be repeated."""

    note = "draws its own noise from an unseeded generator and returns it as the second output"

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        self.inputs = {"incident_energies": 1}

    def arguments(self, noise: Tensor, incident_energies: Tensor) -> tuple[Tensor, ...]:
        return (incident_energies,)

    def forward(self, incident_energies: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        noise = torch.randn_like(incident_energies.expand(-1, self.model.noise_dim))
        return self.model(noise, incident_energies), noise


class DDML(CaloChallenge):
    """As the CaloChallenge, but energies as Geant4 deposits them, without the calibration of datasets 2 and 3.

    References:
        DDFastShowerML (key4hep/DDML).
    """

    snippets = ("ddml_steering.py", "ddml_model.h")

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        self.scale = SAMPLING_FRACTION if model.geometry.is_regular else 1.0
        self.note = f"voxels are multiplied by {self.scale:g} to be deposits in the sensitive material"

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        return self.scale * self.model(noise, incident_energies)


class Par04(Target):
    """Geant4's example Par04 with ``ModelType VAE``: one vector of Gaussians and conditions in, fractions out.

    The vector is [noise ..., E / 1024 GeV, theta / 90 degrees, 0, 1]. Par04 multiplies what comes out by E.

    References:
        Geant4 11.4, examples/extended/parameterisations/Par04.
    """

    units = "fraction of the incident energy"
    order = "r, phi, z (z fastest)"
    note = "deposits in the silicon, as Par04 reads them: the calibration 1/0.033 of datasets 2 and 3 is undone"
    snippets = ("par04.mac",)

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        if not model.geometry.is_regular:
            raise CalomanError(
                f"target par04: the mesh of dataset {model.geometry.name!r} is not one of equal layers and equal cells "
                "in r, such as those of datasets 2 and 3; export for another target"
            )
        self.inputs = {"input": model.noise_dim + 4}

    def arguments(self, noise: Tensor, incident_energies: Tensor) -> tuple[Tensor, ...]:
        fixed = noise.new_tensor([0.0, 0.0, 1.0]).expand(len(noise), -1)
        return (torch.cat([noise, incident_energies / PAR04_ENERGY, fixed], dim=1),)

    def reorder(self, voxels: Tensor) -> Tensor:
        layer = self.model.geometry.layers[0]
        cells = voxels.unflatten(1, (-1, layer.n_alpha, layer.n_r))
        return cells.permute(0, 3, 2, 1).flatten(1)

    def forward(self, vector: Tensor) -> Tensor:
        n = self.model.noise_dim
        incident_energies = vector[:, n : n + 1] * PAR04_ENERGY
        showers = self.model(vector[:, :n], incident_energies)
        return self.reorder(showers * (SAMPLING_FRACTION / incident_energies))


def _words(target: Target, path: Path) -> dict[str, object]:
    """What the templates ask for."""
    geometry = target.model.geometry
    layer = geometry.layers[0]
    low, high = target.model.energy_range.tolist()
    return {
        "file": path.name,
        "noise_dim": target.model.noise_dim,
        "n_voxels": geometry.n_voxels,
        "n_r": layer.n_r,
        "n_alpha": layer.n_alpha,
        "n_layers": geometry.n_layers,
        "all_r": ", ".join(str(layer.n_r) for layer in geometry.layers),
        "all_alpha": ", ".join(str(layer.n_alpha) for layer in geometry.layers),
        "all_edges": ", ".join(f"{edge:.9g}" for layer in geometry.layers for edge in layer.r_edges),
        "boundaries": ", ".join(str(sum(geometry.layer_sizes[:n])) for n in range(geometry.n_layers + 1)),
        "layers": ", ".join(str(layer.id) for layer in geometry.layers),
        "cell_r": f"{layer.r_edges[-1] / layer.n_r:g}",
        "low": f"{low:g}",
        "high": f"{high:g}",
        "note": target.note,
        "inputs": ", ".join(f"{name} (1, {columns})" for name, columns in target.inputs.items()),
        "library": "ONNX" if path.suffix == ".onnx" else "TORCH",
    }
