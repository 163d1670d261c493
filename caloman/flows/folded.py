"""Coupling flows in a form that samples in few, large operations: what an exported graph holds.

It gives the samples of the flow itself, to rounding. Linear maps between couplings are multiplied with the first layer
behind them, permutations of halves become orders of weights, the layers that see the condition are one, and splines are
evaluated in all their bins, without a search.
"""

import copy
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Affine, Spline
from caloman.flows.flow import Flow
from caloman.flows.linear import ActNorm, LULinear, Permutation
from caloman.flows.spline import MIN_BIN, MIN_DERIVATIVE, UNIT_SLOPE
from caloman.flows.transform import Sampler, Transform
from caloman.nn.mlp import ResidualMLP

M = TypeVar("M", bound=nn.Module)
Halves = tuple[Tensor, ...]  # the entries that a coupling keeps and those that it moves; noise is a single part


def fold(model: M) -> M:
    """A copy of a model in which each flow of affine or spline couplings with residual conditioners is folded."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Flow) and _is_foldable(child):
                setattr(parent, name, FoldedFlow(child))
    return model


def _is_foldable(flow: Flow) -> bool:
    couplings = [part for part in flow.transforms if isinstance(part, Coupling)]
    others = [part for part in flow.transforms if not isinstance(part, Coupling)]
    known = all(
        isinstance(part.conditioner, ResidualMLP) and isinstance(part.elementwise, Affine | Spline)
        for part in couplings
    )
    return bool(couplings) and known and all(isinstance(part, LULinear | Permutation | ActNorm) for part in others)


class Mixing(NamedTuple):
    """The linear map from the numbers behind a coupling, in two halves, to the entries before the next coupling.

    Args:
        matrix: shape (D, D).
        offset: shape (D,).
        left: size of the first half.
        labels: of a permutation, the entry that each number becomes, shape (D,); otherwise None.
    """

    matrix: Tensor
    offset: Tensor
    left: int
    labels: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, left: int) -> "Mixing":
        """A permutation of numbers in two halves."""
        matrix = torch.eye(len(labels), dtype=torch.float64, device=labels.device)[labels]
        return cls(matrix, torch.zeros_like(matrix[0]), left, labels)

    def then(self, part: Transform) -> "Mixing":
        """This map, and the inverse of a linear transform behind it."""
        zero = part.inverse(torch.zeros_like(self.offset)[None])[0]
        matrix, offset = part.inverse(self.matrix)[0] - zero, part.inverse(self.offset[None])[0][0]
        permutes = self.labels is not None and isinstance(part, Permutation)
        return Mixing(matrix, offset, self.left, matrix.argmax(dim=1) if permutes else None)


class FoldedFlow(Sampler):
    """Samples of a flow of couplings and linear maps.

    Args:
        flow: the flow; its weights are copied.
    """

    @torch.no_grad()
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.features = self.noise_dim = flow.features
        dtype = next(flow.parameters()).dtype
        wide = copy.deepcopy(flow).double()
        mixing = Mixing.of(torch.arange(flow.features, device=next(flow.parameters()).device), flow.features)
        self.steps, starts = nn.ModuleList(), []
        for part in wide.transforms[::-1]:
            if isinstance(part, Coupling):
                self.steps.append(FoldedCoupling(part, mixing))
                starts.append(cast(FoldedCoupling, self.steps[-1]).start_rows(part, mixing))
                mixing = Mixing.of(cast(FoldedCoupling, self.steps[-1]).labels, len(part.kept))
            else:
                mixing = mixing.then(cast(Transform, part))
        self.sizes = [len(rows) for rows in starts]
        self.starts = _linear(torch.cat(starts))
        self.end = _Product(mixing) if mixing.labels is None else _Order(mixing.labels.argsort())
        self.to(dtype)

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Turns noise (N, D) under a context (N, C) into the samples (N, D) of the flow."""
        starts = self.starts.bias.expand(noise.shape[0], -1) if context is None else self.starts(context)
        halves: Halves = (noise,)
        for step, start in zip(self.steps, starts.split(self.sizes, dim=1), strict=True):
            halves = step(halves, start)
        return self.end(halves)


class FoldedCoupling(nn.Module):
    """A coupling and the linear map before it.

    Args:
        coupling: the coupling, in double precision, as all else.
        mixing: the map.
    """

    weight: Tensor

    def __init__(self, coupling: Coupling, mixing: Mixing) -> None:
        super().__init__()
        kept, n_kept = coupling.kept, len(coupling.kept)
        self.labels = torch.cat([kept, coupling.moved])
        """The entry that each number behind the coupling is."""
        self.sizes = [n_kept, len(coupling.moved)]
        self.swapped, self.order = False, cast(_Order | None, None)
        weight = cast(ResidualMLP, coupling.conditioner).first.weight[:, :n_kept].T
        self.is_product = mixing.labels is None
        if mixing.labels is None:
            self.sizes.append(weight.shape[1])
            weight = torch.cat([mixing.matrix[:, self.labels], mixing.matrix[:, kept] @ weight], dim=1)
        else:
            self._arrange(mixing.labels.split([mixing.left, len(mixing.labels) - mixing.left]), kept)
            weight = weight[torch.searchsorted(kept, self.labels[:n_kept])]
        self.register_buffer("weight", weight)
        self.conditioner = _Conditioner(cast(ResidualMLP, coupling.conditioner))
        rows = _rows(cast(ResidualMLP, coupling.conditioner).last).unflatten(0, (coupling.elementwise.n_parameters, -1))
        columns = torch.searchsorted(coupling.moved, self.labels[n_kept:])
        spline = coupling.elementwise if isinstance(coupling.elementwise, Spline) else None
        self.elementwise = _Spline(spline, rows[:, columns]) if spline else _Affine(rows[:, columns])

    def _arrange(self, halves: Halves, kept: Tensor) -> None:
        """Leaves the numbers of each half in their order, if the kept entries are one of the halves."""
        first, second = (set(half.tolist()) for half in halves)
        self.swapped = second == set(kept.tolist())
        if self.swapped or first == set(kept.tolist()):
            self.labels = torch.cat(halves[::-1] if self.swapped else halves)
        else:
            self.order = _Order(torch.cat(halves).argsort()[self.labels])

    def start_rows(self, coupling: Coupling, mixing: Mixing) -> Tensor:
        """Weight of the condition, with the bias as its last column, for what `forward` adds to."""
        first, n_kept = cast(ResidualMLP, coupling.conditioner).first, len(coupling.kept)
        bias = first.bias + first.weight[:, :n_kept] @ mixing.offset[coupling.kept] + self.conditioner.floors[0]
        rows = torch.cat([first.weight[:, n_kept:], bias[:, None]], dim=1)
        if not self.is_product:
            return rows
        return torch.cat([F.pad(mixing.offset[self.labels][:, None], (rows.shape[1] - 1, 0)), rows])

    def forward(self, halves: Halves, start: Tensor) -> Halves:
        """Maps numbers before the linear map to the kept and the moved ones behind the coupling."""
        if self.is_product:
            kept, moved, hidden = torch.addmm(start, _join(halves), self.weight).split(self.sizes, dim=1)
        else:
            ordered = self.order(halves).split(self.sizes, dim=1) if self.order else halves
            kept, moved = ordered[::-1] if self.swapped else ordered
            hidden = torch.addmm(start, kept, self.weight) if self.sizes[0] else start
        return kept, self.elementwise(moved, self.conditioner(hidden))


class _Conditioner(nn.Module):
    """The blocks of a conditioner, whose outer biases the hidden numbers hold from the start.

    So each block is added by a product alone. With biases b ahead, relu(h) is max(h + b, b) - b, and the inner layer
    takes care of the last part.
    """

    floors: Tensor

    def __init__(self, conditioner: ResidualMLP) -> None:
        super().__init__()
        blocks = [(cast(nn.Linear, b[1]), cast(nn.Linear, b[3])) for b in cast(list[nn.Sequential], conditioner.blocks)]
        biases = [outer.bias for _, outer in blocks]
        floors = torch.stack([*biases, torch.zeros_like(conditioner.first.bias)]).flip(0).cumsum(0).flip(0)
        self.register_buffer("floors", floors)
        self.inner = nn.ModuleList(
            _linear(torch.cat([inner.weight, (inner.bias - inner.weight @ floor)[:, None]], dim=1))
            for (inner, _), floor in zip(blocks, floors, strict=False)
        )
        self.outer = nn.ParameterList(outer.weight.T for _, outer in blocks)

    def forward(self, hidden: Tensor) -> Tensor:
        for inner, outer, floor in zip(self.inner, self.outer, self.floors, strict=False):
            hidden = torch.addmm(hidden, inner(hidden.maximum(floor)).relu(), outer)
        return hidden.relu()


class _Affine(nn.Module):
    """The inverse of an affine map, with parameters from rows (2, D, hidden + 1) of weights and biases."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = _linear(rows[0] / -3), _linear(rows[1])

    def forward(self, values: Tensor, hidden: Tensor) -> Tensor:
        return (values - self.shift(hidden)) * (3 * F.softsign(self.scale(hidden))).exp()


class _Spline(nn.Module):
    """The inverse of a spline as a sum over all bins, where a bin beside the value counts with its full size.

    In a bin with slopes p and q at its ends, in units of that of its diagonal, and the value at v from -1 to 1, the
    position is (v - u) / (1 + sqrt(u^2 + 1 - v^2)) from -1 to 1, with u = p (1 - v) / 2 - q (1 + v) / 2. Tables of few
    numbers are cut by small products, which programs that run graphs do faster than to cut.
    """

    def __init__(self, spline: Spline, rows: Tensor) -> None:
        super().__init__()
        self.bins, self.bound = spline.bins, spline.bound
        eye = torch.eye(self.bins, dtype=rows.dtype, device=rows.device)
        one, zero = torch.ones_like(eye), torch.zeros_like(eye)
        half = spline.bound * ((1 - MIN_BIN * self.bins) * eye + MIN_BIN * one)  # of sizes from shares, whose sum is 1
        left, right = F.pad(eye, (0, 0, 0, 1)), F.pad(eye, (0, 0, 1, 0))  # ends of bins among the knots
        shares, derivatives = rows.split([2 * self.bins, self.bins - 1])
        derivatives = F.pad(derivatives, (0, 0, 0, 0, 1, 1))  # slope 1 at the ends of the box
        derivatives[..., -1] += UNIT_SLOPE
        tables = {
            "widths": torch.cat([half, zero]),
            "heights": torch.cat([zero, half]),
            "middles": torch.cat([zero, half @ (one.tril(-1) - one.triu(1))]),  # minus them
            "differences": (left - right) / 2,
            "sums": (left + right) / 2,
            "least": torch.full_like(one[0], MIN_DERIVATIVE),
            "ones": torch.ones_like(one[:, :1]),
        }
        self.tables = nn.ParameterDict(tables)
        self.shares, self.slopes = (_linear(part.transpose(0, 1).flatten(0, 1)) for part in (shares, derivatives))

    def forward(self, values: Tensor, hidden: Tensor) -> Tensor:
        n, column, tables = values.shape[1], values.reshape(-1, 1), self.tables
        shares = self.shares(hidden).reshape(-1, self.bins).softmax(dim=1).reshape(-1, 2 * self.bins)
        slopes = F.softplus(self.slopes(hidden)).reshape(-1, self.bins + 1)
        width, height = shares @ tables["widths"], shares @ tables["heights"]
        place = (torch.addmm(column, shares, tables["middles"]) / height).clamp(-1.0, 1.0)
        mean = torch.addmm(tables["least"], slopes, tables["sums"])
        u = width / height * (slopes @ tables["differences"] - place * mean)
        position = (place - u) / (1 + (u * u + (1 - place * place)).sqrt())
        beyond = column - column.clamp(-self.bound, self.bound)  # the identity outside of the box
        return torch.addmm(beyond, width * position, tables["ones"]).reshape(-1, n)


class _Order(nn.Module):
    """Numbers in another order."""

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, halves: Halves) -> Tensor:
        joined = _join(halves)
        return joined.gather(1, self.order.expand(joined.shape[0], -1))  # onnxruntime is slow to pick columns


class _Product(nn.Module):
    """A linear map of numbers."""

    matrix: Tensor
    offset: Tensor

    def __init__(self, mixing: Mixing) -> None:
        super().__init__()
        self.register_buffer("matrix", mixing.matrix)
        self.register_buffer("offset", mixing.offset)

    def forward(self, halves: Halves) -> Tensor:
        return torch.addmm(self.offset, _join(halves), self.matrix)


def _join(halves: Halves) -> Tensor:
    return halves[0] if len(halves) == 1 else torch.cat(halves, dim=1)


def _rows(layer: nn.Module) -> Tensor:
    """Weight and bias of a layer, one row for each output."""
    layer = cast(nn.Linear, layer)
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1)


def _linear(rows: Tensor) -> nn.Linear:
    """A layer of these rows."""
    layer = nn.Linear(1, 1)
    layer.in_features, layer.out_features = rows.shape[1] - 1, len(rows)
    layer.weight, layer.bias = nn.Parameter(rows[:, :-1].contiguous()), nn.Parameter(rows[:, -1].contiguous())
    return layer
