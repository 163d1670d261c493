"""The model card of a bundle: what the generator is, what it was trained on, and how good it is."""

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from caloman import __version__
from caloman.models import ShowerModel


def model_card(
    model: ShowerModel,
    training: Mapping[str, Any],
    record: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """The text of a bundle's README.md.

    Args:
        model: the trained generator.
        training: files and number of showers that it was trained on.
        record: how it was trained; the card shows its stages.
        evaluation: what the judge found, of a generator of the package.
    """
    loader = PackageLoader("caloman.generators", "")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["figure"] = lambda value: "" if value is None else f"{value:.4g}"
    return environment.get_template("card.md.jinja").render(
        model=model,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        versions={"torch": torch.__version__, "numpy": np.__version__, "Python": platform.python_version()},
        caloman=__version__,
        training=training,
        stages=record.get("stages", {}),
        evaluation=evaluation,
    )
