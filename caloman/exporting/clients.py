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
