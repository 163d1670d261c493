"""Symmetries of the training showers: moves that give other showers of the same distribution."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import Geometry

Symmetry = Literal["alpha_rotation", "alpha_reflection", "theta_mirror"]


@dataclass(frozen=True)
class Moves:
    """The moves that some symmetries make together.

    Args:
        orders: of the voxels after each move, shape (S, V).
        mirrored: whether a move also takes theta to pi - theta, shape (S,).
        theta: column of theta among the conditions; 0 if it is none.
    """

    orders: Tensor
    mirrored: Tensor
    theta: int = 0

    def apply(self, voxels: Tensor, conditions: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Moves each shower, voxels (n, V) and conditions (n, C), by one of the moves."""
        chosen = torch.from_numpy(rng.integers(len(self.orders), size=len(voxels)))
        if self.theta:
            conditions = conditions.clone()
            theta = conditions[:, self.theta]
            conditions[:, self.theta] = torch.where(self.mirrored[chosen], torch.pi - theta, theta)
        return voxels.gather(1, self.orders[chosen]), conditions


def find_moves(geometry: Geometry, conditions: Conditions, symmetries: list[Symmetry]) -> Moves | None:
    """The moves of these symmetries; None if there are none.

    Raises:
        CalomanError: if the mesh does not have them, or theta is needed and no condition.
    """
    if not symmetries:
        return None
    numbers = {layer.n_alpha for layer in geometry.layers} - {1}
    if len(numbers) != 1:
        raise CalomanError(
            f"data.symmetries: layers of {geometry.name!r} have {sorted(numbers)} angular bins; use none"
        )
    mirrors = "theta_mirror" in symmetries
    (n_alpha,) = numbers
    if mirrors and ("theta" not in conditions.names or n_alpha % 2):
        raise CalomanError(f"data.symmetries: theta_mirror needs theta as a condition and an even number of angular "
                           f"bins, not {conditions.names} and {n_alpha}")  # fmt: skip
    shifts = range(n_alpha if "alpha_rotation" in symmetries else 1)
    moves = list(product((False, True)[: 1 + mirrors], (1, -1)[: 1 + ("alpha_reflection" in symmetries)], shifts))
    orders = torch.stack([_order(geometry, n_alpha, *move) for move in moves])
    theta = conditions.names.index("theta") if mirrors else 0
    return Moves(orders, torch.tensor([move[0] for move in moves]), theta)


def _order(geometry: Geometry, n_alpha: int, mirrored: bool, sign: int, shift: int) -> Tensor:
    """Order of the voxels after a turn by some angular bins, behind a reflection if the sign is negative.

    Mirrored, alpha becomes pi - alpha: a reflection and half a turn.
    """
    sign, shift = (-sign, shift + n_alpha // 2) if mirrored else (sign, shift)
    layers = zip(geometry.layer_slices, geometry.layers, strict=True)
    grids = [np.arange(part.start, part.stop).reshape(layer.n_alpha, layer.n_r) for part, layer in layers]
    return torch.from_numpy(np.concatenate([np.roll(grid[::sign], shift, axis=0).ravel() for grid in grids]))
