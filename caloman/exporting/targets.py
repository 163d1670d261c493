"""Signatures: a generator as a client program calls it, as a module around it."""

import inspect
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
    suffixes: tuple[str, ...] = (".onnx", ".pt2", ".pt")
    """Of the files that the client reads."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def arguments(self, noise: Tensor, conditions: Tensor) -> tuple[Tensor, ...]:
        """The inputs that stand for noise (N, noise_dim) and conditions (N, C)."""

    def given(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """What comes out for noise (N, noise_dim) and conditions (N, C), even if the graph draws the noise itself."""
        return self(*self.arguments(noise, conditions))

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

    def words(self) -> dict[str, object]:
        """What only the templates of this client ask for."""
        return {}

    def write_beside(self, path: Path, partial: Path) -> None:
        """Writes the further files that the client of an exported file needs: the filled-in templates.

        Args:
            path: the file.
            partial: its content, under its temporary name.
        """
        words = {**_words(self, path), **self.words()}
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

    def given(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.model(noise, conditions)


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

    def write_beside(self, path: Path, partial: Path) -> None:
        """Writes also the MD5 sum by which DDML's CMake finds the file in a store."""
        super().write_beside(path, partial)
        files.write(path.with_name(f"{path.name}.md5"), files.md5(partial) + "\n")


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
    }
