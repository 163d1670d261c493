"""The clients that an export can be made for."""

from caloman.errors import CalomanError
from caloman.exporting.fastcalosim import FastCaloSim
from caloman.exporting.par04 import CaloDiT, Par04
from caloman.exporting.targets import DDML, CaloChallenge, OwnNoise, Target
from caloman.models import ShowerModel

TARGETS: dict[str, type[Target]] = {
    "calochallenge": CaloChallenge,
    "par04": Par04,
    "par04-calodit": CaloDiT,
    "ddml": DDML,
    "fastcalosim": FastCaloSim,
}
MOST_PASSES = 10
"""Of an autoregressive flow through its network that a graph holds: those of the energies of a few layers."""


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
    if model.sampling_passes > MOST_PASSES:
        raise CalomanError(
            f"this model samples in {model.sampling_passes} passes of a masked autoregressive flow, a graph has room "
            f"for {MOST_PASSES}; export its student (direction: sampling) or a coupling flow"
        )
    return OwnNoise(model) if noise == "internal" else TARGETS[name](model)
