"""ATLAS's FastCaloSim: as many normal numbers as voxels and layers in, voxels in MeV out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caloman import files
from caloman.errors import CalomanError
from caloman.exporting.targets import Target
from caloman.models import ShowerModel
from caloman.showers.libraries import write_binning

DIGITS = 10  # binary digits that one normal number gives away
FIRST_DIGIT = 2**12
"""Their place: below 1/4096, where a shower does not see them. In float32 numbers up to 4 have them all."""
TERMS = 7  # how many words of digits are added up to one further number: as float32 they are exact up to 15
FEW = 128  # with fewer voxels there are too few sums of words


class FastCaloSim(Target):
    """The named inputs of `TFCSMLCalorimeterSimulator`: |eta| times 10, energy, and normal numbers.

    The simulator draws one normal number for each voxel and one for each layer. A model with more noise gets the rest
    from the low binary digits of those of the voxels (`more_normals`).

    References:
        FastCaloSim (fcs-proj/FastCaloSim), TFCSMLCalorimeterSimulator and TFCSBinnedShowerONNX.

    Raises:
        CalomanError: if the model has no energy model, more noise than the numbers can give, or other conditions than
            energy and theta.
    """

    snippets = ("fastcalosim.md",)

    def __init__(self, model: ShowerModel) -> None:
        super().__init__(model)
        n_voxels, n_layers = model.geometry.n_voxels, model.geometry.n_layers
        self.inputs = {"inn_eta_in": 1, "inn_einc_in": 1, "cfm_z_shape": n_voxels, "inn_z_energy": n_layers}
        self.missing = max(0, model.noise_dim - n_voxels - n_layers)
        if "energy" not in model.noise_blocks:
            raise CalomanError(
                "target fastcalosim: it hands in normal numbers for the energies of the layers, and this model has no "
                "energy model; train with one, or export for another target"
            )
        if n_voxels < 2 * self.missing and n_voxels < FEW:
            raise CalomanError(
                f"target fastcalosim: the digits of {n_voxels} normal numbers are too few for the {self.missing} more "
                "that this model needs; export for another target"
            )
        self.refuse_all_but("theta")
        self.has_theta = "theta" in model.conditions.names
        use = "gives theta" if self.has_theta else "does nothing: the model was trained at one point"
        self.note = f"inn_eta_in is |eta| times 10 and {use}"

    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        """Inputs for tests: the simulator's numbers are independent of one another, and so are these."""
        n_voxels, n_layers = self.inputs["cfm_z_shape"], self.inputs["inn_z_energy"]
        unused = noise.new_zeros(len(noise), max(0, n_voxels + n_layers - noise.shape[1]))
        numbers = torch.cat([noise, unused], dim=1)
        energy, shape = numbers[:, :n_layers], numbers[:, n_layers : n_layers + n_voxels]
        energies = conditions[:, :1].contiguous()
        eta = -10 * (conditions[:, 1:] / 2).tan().log() if self.has_theta else torch.zeros_like(energies)
        return eta, energies, shape.contiguous(), energy.contiguous()

    def forward(self, eta: Tensor, incident_energies: Tensor, shape: Tensor, energy: Tensor) -> Tensor:
        numbers = torch.cat([energy, shape, *([more_normals(shape, self.missing)] if self.missing else [])], dim=1)
        theta = 2 * (-eta / 10).exp().atan()
        conditions = torch.cat([incident_energies, theta], dim=1) if self.has_theta else incident_energies
        return self.model(numbers[:, : self.model.noise_dim], conditions)

    def write_beside(self, path: Path, partial: Path) -> None:
        """Writes the mesh in the form that the simulator reads."""
        super().write_beside(path, partial)
        with files.appearing(path.with_name(f"{path.name}.binning.hdf5")) as binning:
            write_binning(self.model.geometry, binning)


def more_normals(normals: Tensor, n: int) -> Tensor:
    """Further normal numbers (N, n) from the low digits of given ones (N, D).

    The digits are those of the number itself, not of its quantile, so that every program finds the same ones. Those at
    the place `FIRST_DIGIT` are uniform and independent of the digits above, to less than one part in a thousand of
    their spread. Ten digits of each of two numbers are a word, and the sum of a few words without its whole part is
    uniform again. Any of these sums are independent if no choice of them has each word an even number of times.
    """
    scaled = normals * FIRST_DIGIT
    digits = ((scaled - scaled.floor()) * 2**DIGITS).floor()
    half = normals.shape[1] // 2
    words = digits[:, :half] * 2**-DIGITS + digits[:, half : 2 * half] * 2 ** (-2 * DIGITS)
    sums = words.index_select(1, _terms(half, n).to(words.device).flatten()).unflatten(1, (n, -1)).sum(dim=2)
    return torch.special.ndtri(sums - sums.floor() + 2 ** (-2 * DIGITS - 1))


def _terms(words: int, n: int) -> Tensor:
    """Which words are added up, the same in all files, shape (n, `TERMS`); one for each if there are enough."""
    if n <= words:
        return torch.arange(n)[:, None]
    generator = np.random.default_rng(0)
    return torch.from_numpy(np.stack([generator.permutation(words)[:TERMS] for _ in range(n)]))
