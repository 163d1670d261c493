"""What a stage's result depends on, as plain data, and how two such descriptions differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LONGEST = 40  # characters of a value in a message


def options_of(model: Any, part: Sequence[str]) -> Any:  # noqa: ANN401 - plain data
    """The configuration of a part of the model, with the plain options of everything around it.

    The configuration of a part without one of its own, as in a `LayerwiseShape`, is that of the part around it.

    Args:
        model: ``class_path`` and ``init_args``.
        part: path of the part, such as ``shape``, ``density``.
    """
    if not part or not isinstance(model, Mapping) or part[0] not in model["init_args"]:
        return model
    options = model["init_args"]
    plain = {name: value for name, value in options.items() if not isinstance(value, Mapping)}
    return {"class_path": model["class_path"], **plain, part[0]: options_of(options[part[0]], part[1:])}


def digest(description: Mapping[str, Any]) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def changes(old: object, new: object, name: str = "") -> Iterator[str]:
    """The differences between two descriptions, such as ``model.latent_dim 24 -> 12``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            path = name if key == "init_args" else f"{name}.{key}".strip(".")
            yield from changes(old.get(key), new.get(key), path)
    elif old != new:
        yield f"{name} {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"
