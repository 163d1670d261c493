"""Signatures: a generator as a client program calls it, as a module around it."""

import inspect
import math
from abc import ABC, abstractmethod
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import torch
from torch import Tensor, nn

from caloman import files
from caloman.errors import CalomanError
from caloman.models import ShowerModel

PAR04_ENERGY = 1_024_000.0
"""Unit of the incident energy in the input of Par04 [MeV]."""
RIGHT_ANGLE = math.pi / 2
"""Unit of theta in the input of Par04 [rad]."""


class Target(nn.Module, ABC):
    """A generator with the inputs, the units and the voxel order of one client.

    Args:
        model: the generator, a function of noise (N, noise_dim) and conditions (N, C), incident energies [MeV] first.

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
    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        """The inputs that stand for noise (N, noise_dim) and conditions (N, C)."""

    def batch_axes(self, batch: object) -> tuple[object, ...]:
        """The axis of the batch of each input, in the structure of the arguments of `forward`."""
        axes = tuple({0: batch} for _ in self.inputs)
        kinds = [parameter.kind for parameter in inspect.signature(self.forward).parameters.values()]
        n_single = kinds.index(inspect.Parameter.VAR_POSITIONAL) if inspect.Parameter.VAR_POSITIONAL in kinds else None
        return axes if n_single is None else (*axes[:n_single], axes[n_single:])

    def refuse_all_but(self, *names: str) -> None:
        """Refuses models with other conditions than the energy and these."""
        for name in self.model.conditions.further:
            if name not in names:
                raise CalomanError(f"target {type(self).__name__.lower()}: this program does not hand in {name!r}; "
                                   "train without this condition, or export for another target")  # fmt: skip

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
    """Noise and conditions in, each named as in a shower file; voxels in the CaloChallenge's units and order out."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        self.inputs = {"noise": model.noise_dim, **{condition.table: 1 for condition in model.conditions}}

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        return noise, *_columns(conditions)

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        return self.model(noise, torch.cat(conditions, dim=1))


class OwnNoise(CaloChallenge):
    """Conditions in; draws its own noise and returns it after the voxels, so that a shower can be repeated."""

    note = "draws its own noise from an unseeded generator and returns it as the second output"

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        del self.inputs["noise"]

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        return _columns(conditions)

    def forward(self, *conditions: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        noise = torch.randn_like(conditions[0].expand(-1, self.model.noise_dim))
        return super().forward(noise, *conditions), noise


class DDML(CaloChallenge):
    """As the CaloChallenge, but energies as Geant4 deposits them, without the calibration of datasets 2 and 3.

    References:
        DDFastShowerML (key4hep/DDML).
    """

    snippets = ("ddml_steering.py", "ddml_model.h")

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        self.refuse_all_but("theta", "phi")
        self.scale = model.geometry.deposit
        self.note = f"voxels are multiplied by {self.scale:g} to be deposits in the sensitive material"

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        return self.scale * super().forward(noise, *conditions)


class Par04(Target):
    """Geant4's example Par04 with ``ModelType VAE``: one vector of Gaussians and conditions in, fractions out.

    The vector is [noise ..., E / 1024 GeV, theta / 90 degrees, 0, 1]; theta is a condition of the model, or does
    nothing. Par04 multiplies what comes out by E.

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
        self.refuse_all_but("theta")
        self.has_theta = "theta" in model.conditions.names
        self.inputs = {"input": model.noise_dim + 4}

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        energy, theta = conditions[:, :1], conditions[:, 1:] if self.has_theta else torch.zeros_like(conditions)
        detector = noise.new_tensor([0.0, 1.0]).expand(len(noise), -1)
        return (torch.cat([noise, energy / PAR04_ENERGY, theta / RIGHT_ANGLE, detector], dim=1),)

    def reorder(self, voxels: Tensor) -> Tensor:
        layer = self.model.geometry.layers[0]
        cells = voxels.unflatten(1, (-1, layer.n_alpha, layer.n_r))
        return cells.permute(0, 3, 2, 1).flatten(1)

    def forward(self, vector: Tensor) -> Tensor:
        n = self.model.noise_dim
        incident_energies = vector[:, n : n + 1] * PAR04_ENERGY
        theta = vector[:, n + 1 : n + 2] * RIGHT_ANGLE
        conditions = torch.cat([incident_energies, theta], dim=1) if self.has_theta else incident_energies
        showers = self.model(vector[:, :n], conditions)
        return self.reorder(showers * (self.model.geometry.deposit / incident_energies))


def _columns(conditions: Tensor) -> tuple[Tensor, ...]:
    return tuple(column.contiguous() for column in conditions.split(1, dim=1))


def _words(target: Target, path: Path) -> dict[str, object]:
    """What the templates ask for."""
    geometry = target.model.geometry
    layer = geometry.layers[0]
    low, high = target.model.conditions[0].at(np.array([0.0, 1.0]))
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
        "angle": "the angle is theta" if "theta" in target.model.conditions.names else "the angle does nothing",
        "dims": ", ".join(["{1, kNoise}", *["{1, 1}"] * len(target.model.conditions)]),
        "angles": "".join(
            f"\n    inputs[{i}][0] = track.GetPrimaryTrack()->GetMomentumDirection().{name}();"
            for i, name in enumerate(target.model.conditions.further, start=2)
        ),
        "n_conditions": len(target.model.conditions),
        "inputs": ", ".join(f"{name} (1, {columns})" for name, columns in target.inputs.items()),
        "library": "ONNX" if path.suffix == ".onnx" else "TORCH",
    }
