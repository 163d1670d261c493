"""The training loop of the demonstrations, which need neither Lightning nor pipelines."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

LARGEST_GRADIENT = 5.0


def epochs(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    points: Tensor,
    n: int,
    batch: int,
    learning_rate: float,
    name: str = "",
) -> Iterator[int]:
    """Minimizes a loss with Adam and one cycle of the learning rate, and yields the number of each epoch at its end.

    Args:
        parameters: what is trained.
        loss: of some of the points.
        points: shape (N, D).
        n: number of epochs, in which the learning rate falls to 0.
        batch: points per step.
        learning_rate: the largest one.
        name: what the progress bar says.
    """
    trained = list(parameters)
    optimizer = torch.optim.Adam(trained, learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, n * -(-len(points) // batch))
    for epoch in tqdm(range(n), desc=name, unit="epoch", leave=False):
        for rows in torch.randperm(len(points), device=points.device).split(batch):
            optimizer.zero_grad()
            loss(points[rows]).backward()
            nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
        yield epoch
