"""Several trainings of one generator: their differences measure its uncertainty."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.models.shower import ShowerModel
from caloman.nn.precision import is_traced
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import Geometry


class EnsembleShowerModel(ShowerModel):
    """An equal mixture of members; the last column of the noise picks the member of each shower.

    In eager mode each member makes its own showers only, at the cost of a single model. A compiled or exported graph
    has fixed shapes: it runs all members and selects.

    Args:
        geometry: the voxel mesh.
        conditions: of all members.
        member: a generator.
        count: number of members.
    """

    def __init__(
        self,
        geometry: Geometry,
        conditions: Conditions,
        member: Callable[[Geometry, Conditions], ShowerModel],
        count: int,
    ) -> None:
        super().__init__(geometry, conditions)
        self.members = nn.ModuleList(member(geometry, conditions) for _ in range(count))
        self.noise_blocks = {**self.member(0).noise_blocks, "member": 1}

    @property
    def threshold(self) -> float:
        return self.member(0).threshold

    def member(self, index: int) -> ShowerModel:
        """One of the generators.

        Raises:
            CalomanError: if there is no such member.
        """
        if not 0 <= index < len(self.members):
            raise CalomanError(f"no member {index}; the members of this ensemble are 0 to {len(self.members) - 1}")
        member = self.members[index]
        assert isinstance(member, ShowerModel)  # nn.ModuleList does not know
        return member

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        noise, column = noise[:, :-1], noise[:, -1]
        chosen = (torch.special.ndtr(column) * len(self.members)).long().clamp(max=len(self.members) - 1)
        showers = conditions.new_zeros(len(noise), self.geometry.n_voxels)
        for index, member in enumerate(self.members):
            rows = chosen == index
            if is_traced():
                showers = torch.where(rows.unsqueeze(1), member(noise, conditions), showers)
            else:
                showers[rows] = member(noise[rows], conditions[rows])
        return showers
