"""A flow on sequences, such as numbers of the layers of a calorimeter, with the same weights at every step."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows.distribution import Distribution
from caloman.flows.elementwise import Spline
from caloman.nn.mlp import ResidualMLP, start_at_zero

MEMORY = 0.8  # weight of a step in the memory of all before, for each step that follows it


class SequenceFlow(Distribution):
    """Splines from step to step: autoregressive, with weights shared by all steps.

    Each number is conditioned on those before it in its step, on a window of steps before, on a fading memory of all
    steps before, and on the context of the steps around. A few thousand sequences are so many examples for each weight
    as there are steps.

    Args:
        features: size of the vectors: one number after the other for all steps.
        context: size of the condition: a number of the whole sequence, then one or more for each step, likewise, and
            what is left of the whole sequence again.
        steps: length of the sequences.
        window: number of steps on each side that are seen.
        hidden: width of the conditioners.
        blocks: residual blocks of each conditioner.
        bins: pieces of the splines.
        bound: half the side of the box of the splines.

    Raises:
        CalomanError: if the features are no multiple of the steps.
    """

    def __init__(
        self, features: int, context: int, steps: int, window: int = 3, hidden: int = 64, blocks: int = 1,
        bins: int = 8, bound: float = 5.0,
    ) -> None:  # fmt: skip
        super().__init__(features, features)
        if features % steps:
            raise CalomanError(f"steps = {steps} of a {type(self).__name__} does not divide its {features} features")
        self.steps, self.window = steps, window
        self.channels = features // steps
        self.per_step = max(0, context - 1) // steps
        self.spline = Spline(bins, bound)
        views = self.view_sizes()
        seen = steps + context + (2 * window + 1 - steps) * self.per_step + (window + 1) * sum(views)
        self.conditioners = nn.ModuleList(
            ResidualMLP(seen + sum(views[:i]), 0, self.spline.n_parameters, hidden, blocks)
            for i in range(self.channels)
        )
        for conditioner in self.conditioners:
            start_at_zero(conditioner.get_submodule("last"))
        distance = torch.arange(steps, device="cpu")[:, None] - torch.arange(steps, device="cpu") - 1
        self.register_buffer("distance", distance, persistent=False)

    distance: Tensor

    def view_sizes(self) -> list[int]:
        """How many numbers each channel shows the conditioners behind it."""
        return [1] * self.channels

    def view(self, values: Tensor, step: int | slice, beside: Tensor | None) -> Tensor:
        """What conditioners see of the last of the first c numbers (..., c) of a step, or of all steps."""
        return values[..., -1:]

    def beside(self, context: Tensor | None) -> Tensor | None:
        """What views need of the context (N, C)."""
        return None

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        values = inputs.unflatten(1, (self.channels, self.steps)).transpose(1, 2)
        beside = self.beside(context)
        views = [self.view(values[..., : i + 1], slice(None), beside) for i in range(self.channels)]
        view = torch.cat(views, dim=-1)
        before = _windows(F.pad(view, (0, 0, self.window, 0))[:, :-1], self.window)
        memory = (1 - MEMORY) * torch.einsum("kl,nlc->nkc", self._fading(view), view)
        seen = torch.cat([self._around(inputs, context), before, memory], dim=2)
        noise, log_det = zip(*self._maps(seen, values, views), strict=True)
        return torch.stack(log_det).sum((0, 2)) + self.log_prob_of_noise(torch.cat(noise, dim=1))

    def _fading(self, like: Tensor) -> Tensor:
        """Weight of each step in the memory of each other, in the precision of `like`, shape (steps, steps)."""
        return torch.where(self.distance >= 0, MEMORY ** self.distance.clamp(min=0).to(like), 0)

    def _maps(self, seen: Tensor, values: Tensor, views: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for channel, conditioner in enumerate(self.conditioners):
            parameters = conditioner(torch.cat([seen, *views[:channel]], dim=-1))
            yield self.spline(values[..., channel], parameters)

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        normal = noise.unflatten(1, (self.channels, self.steps))
        around, beside = self._around(noise, context), self.beside(context)
        views = [noise.new_zeros(noise.shape[0], sum(self.view_sizes()))] * self.window
        memory = torch.zeros_like(views[0])
        steps = []
        for step in range(self.steps):
            before = torch.cat([around[:, step], *views[-self.window :], memory], dim=1)
            values, view = noise[:, :0], noise[:, :0]
            for channel, conditioner in enumerate(self.conditioners):
                parameters = conditioner(torch.cat([before, view], dim=1))
                value, _ = self.spline(normal[:, channel, step], parameters, inverse=True)
                values = torch.cat([values, value.unsqueeze(1)], dim=1)
                view = torch.cat([view, self.view(values, step, beside)], dim=1)
            steps.append(values)
            views.append(view)
            memory = MEMORY * memory + (1 - MEMORY) * view
        return torch.stack(steps, dim=2).flatten(1)

    def _around(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        """What each step sees besides the numbers before it, shape (N, steps, S)."""
        numbers = torch.eye(self.steps, dtype=inputs.dtype, device=inputs.device).expand(inputs.shape[0], -1, -1)
        if context is None:
            return numbers
        behind = 1 + self.per_step * self.steps
        whole = torch.cat([context[:, :1], context[:, behind:]], dim=1).unsqueeze(1).expand(-1, self.steps, -1)
        if not self.per_step:
            return torch.cat([numbers, whole], dim=2)
        own = context[:, 1:behind].unflatten(1, (self.per_step, self.steps)).transpose(1, 2)
        windows = _windows(F.pad(own, (0, 0, self.window, self.window)), 2 * self.window + 1)
        return torch.cat([numbers, whole, windows], dim=2)


def _windows(values: Tensor, size: int) -> Tensor:
    """Values (N, S + size - 1, c) of the steps of each window joined, (N, S, size c)."""
    return torch.cat([values[:, i : values.shape[1] - size + 1 + i] for i in range(size)], dim=2)
