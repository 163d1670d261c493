"""Geant4's example Par04: one vector in, the cells of a regular mesh out."""

import math

import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.exporting.targets import Target
from caloman.models import ShowerModel

MOST_ENERGY = 1_024_000.0  # unit of the incident energy with ``ModelType VAE`` [MeV]
RIGHT_ANGLE = math.pi / 2  # unit of theta there [rad]
MEV_PER_GEV = 1000.0


class Par04(Target):
    """Par04 with ``ModelType VAE``: Gaussians and conditions in, fractions of the incident energy out.

    The vector is [noise ..., E / 1024 GeV, theta / 90 degrees, 0, 1]. The place of the 1, from 0, is the detector.
    Theta and detector are conditions of the model, or do nothing. Par04 multiplies what comes out by E.

    References:
        Geant4 11.4, examples/extended/parameterisations/Par04, Par04InferenceSetup.
    """

    units = "fraction of the incident energy"
    order = "r, phi, z (z fastest)"
    note = "deposits in the silicon, as Par04 reads them: the calibration 1/0.033 of datasets 2 and 3 is undone"
    snippets = ("par04.mac",)
    suffixes = (".onnx",)  # with LibTorch Par04 hands the model no energy
    model_type = "VAE"
    handed_in: tuple[str, ...] = ("theta", "detector")
    detectors, detector = 2, 1
    """How many there is a place for, and which one Par04 names."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        if not model.geometry.is_regular:
            raise CalomanError(
                f"target par04: the mesh of dataset {model.geometry.name!r} is not one of equal layers and equal cells "
                "in r, such as those of datasets 2 and 3; export for another target"
            )
        self.refuse_all_but(*self.handed_in)
        numbers = next((condition.categories for condition in model.conditions if condition.name == "detector"), ())
        if not set(numbers) <= set(range(self.detectors)):
            raise CalomanError(
                f"target par04: the detectors of this model are {', '.join(map(str, numbers))}, and Par04 has places "
                f"for 0 to {self.detectors - 1}; train with these numbers"
            )
        self.inputs = {"input": self.n_numbers}

    @property
    def n_numbers(self) -> int:
        """Length of the vector."""
        return self.model.noise_dim + 2 + self.detectors

    def words(self) -> dict[str, object]:
        return {
            "model_type": self.model_type,
            "sizes": f"/Par04/inference/setSizeLatentVector {self.model.noise_dim}\n"
            f"/Par04/inference/setSizeConditionVector {2 + self.detectors}",
        }

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        energy, theta, _, detector = self._columns(conditions)
        return (torch.cat([noise, energy / MOST_ENERGY, theta / RIGHT_ANGLE, detector], dim=1),)

    def forward(self, vector: Tensor) -> Tensor:
        noise, energy, theta, detector = vector.split([self.model.noise_dim, 1, 1, self.detectors], dim=1)
        return self._cells(noise, detector, incident_energy=energy * MOST_ENERGY, theta=theta * RIGHT_ANGLE)

    def reorder(self, voxels: Tensor) -> Tensor:
        layer = self.model.geometry.layers[0]
        cells = voxels.unflatten(1, (-1, layer.n_alpha, layer.n_r))
        return cells.permute(0, 3, 2, 1).flatten(1)

    def _columns(self, conditions: Tensor) -> tuple[Tensor, ...]:
        """Energy [MeV], theta and phi [rad] (N, 1) and a 1 at the place of the detector (N, D)."""
        given = dict(zip(self.model.conditions.names, conditions.split(1, dim=1), strict=True))
        nothing = torch.zeros_like(conditions[:, :1])
        places = torch.arange(self.detectors, device=conditions.device)
        detector = (given.get("detector", nothing + self.detector) == places).to(conditions.dtype)
        return given["incident_energy"], given.get("theta", nothing), given.get("phi", nothing), detector

    def _cells(self, noise: Tensor, detector: Tensor, **columns: Tensor) -> Tensor:
        """What Par04 gets for a 1 at the place of the detector (N, D) and other conditions (N, 1) by name."""
        places = torch.arange(self.detectors, device=detector.device, dtype=detector.dtype)
        columns["detector"] = (detector * places).sum(dim=1, keepdim=True)
        showers = self.model(noise, torch.cat([columns[name] for name in self.model.conditions.names], dim=1))
        return self.reorder(showers * (self.model.geometry.deposit / self._unit(columns["incident_energy"])))

    def _unit(self, energy: Tensor) -> Tensor | float:
        """By what Par04 multiplies."""
        return energy


class CaloDiT(Par04):
    """Par04 with ``ModelType CaloDiT-2``: eight numbers in, energies out; the graph draws its own noise.

    The numbers are E [GeV], phi, theta [rad] and a 1 at the place of one of five detectors. Par04 multiplies what comes
    out by 1000. The noise is the second output, which Par04 does not read.

    References:
        As `Par04`.
    """

    units = "GeV"
    model_type = "CaloDiT-2"
    note = f"{Par04.note}; draws its own noise from an unseeded generator"
    handed_in = ("theta", "phi", "detector")
    detectors, detector = 5, 0

    @property
    def n_numbers(self) -> int:
        return 3 + self.detectors

    def words(self) -> dict[str, object]:
        return {**super().words(), "sizes": "# none are needed: the graph draws its own"}

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        energy, theta, phi, detector = self._columns(conditions)
        return (torch.cat([energy / MEV_PER_GEV, phi, theta, detector], dim=1),)

    def forward(self, vector: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        noise = torch.randn_like(vector[:, :1].expand(-1, self.model.noise_dim))
        return self._shower(noise, vector), noise

    def given(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self._shower(noise, *self.arguments(noise, conditions))

    def _shower(self, noise: Tensor, vector: Tensor) -> Tensor:
        energy, phi, theta, detector = vector.split([1, 1, 1, self.detectors], dim=1)
        return self._cells(noise, detector, incident_energy=energy * MEV_PER_GEV, theta=theta, phi=phi)

    def _unit(self, energy: Tensor) -> Tensor | float:
        return MEV_PER_GEV
