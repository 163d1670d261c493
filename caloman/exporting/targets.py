"""Signatures: a generator as a client program calls it, as a module around it."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

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


class Atlas(Target):
    """The named inputs of ATLAS's TFCSMLCalorimeterSimulator.

    References:
        FastCaloSim (fcs-proj/FastCaloSim).
    """

    snippets = ("atlas.md",)

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        n_energy = model.noise_blocks.get("energy", 0)
        if n_energy == 0:
            raise CalomanError(
                "target atlas: it hands in noise of the layer energies, and this model has no such block"
            )
        shape = model.noise_dim - n_energy
        self.inputs = {"inn_eta_in": 1, "inn_einc_in": 1, "cfm_z_shape": shape, "inn_z_energy": n_energy}
        self.note = (
            "inn_eta_in is |eta| times 10 and does nothing: the model was trained at one point; "
            f"cfm_z_shape takes {shape} normal numbers, where ATLAS by default draws one per voxel"
        )

    def arguments(self, noise: Tensor, incident_energies: Tensor) -> tuple[Tensor, ...]:
        energy, shape = noise.split([self.inputs["inn_z_energy"], self.inputs["cfm_z_shape"]], dim=1)
        return torch.zeros_like(incident_energies), incident_energies, shape.contiguous(), energy.contiguous()

    def forward(self, eta: Tensor, incident_energies: Tensor, shape: Tensor, energy: Tensor) -> Tensor:
        return self.model(torch.cat([energy, shape], dim=1), incident_energies)


TARGETS: dict[str, type[Target]] = {"calochallenge": CaloChallenge, "par04": Par04, "ddml": DDML, "atlas": Atlas}


def make_target(model: ShowerModel, name: str, noise: str = "input") -> Target:
    """Wraps a generator for a client.

    Args:
        model: the generator.
        name: one of `TARGETS`.
        noise: ``input``, or ``internal`` for a graph that draws its own.

    Raises:
        CalomanError: if the target is unknown, or the model or its geometry do not fit it.
    """
    if name not in TARGETS:
        raise CalomanError(f"unknown target {name!r}: use one of {', '.join(TARGETS)}")
    if noise not in ("input", "internal"):
        raise CalomanError(f"unknown noise {noise!r}: use input or internal")
    if noise == "internal" and name != "calochallenge":
        raise CalomanError(f"target {name}: this program draws the noise itself; leave --noise at input")
    if not model.one_pass_sampling:
        raise CalomanError(
            "this model samples entry by entry with a masked autoregressive flow, which has no graph of bounded size; "
            "export its student (direction: sampling) or a coupling flow"
        )
    return OwnNoise(model) if noise == "internal" else TARGETS[name](model)
