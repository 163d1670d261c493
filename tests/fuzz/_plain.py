"""Damage to plain data and to its YAML: values, keys, names of classes, depth, and letters."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from caloman.specification import to_yaml

Rng = np.random.Generator
EVIL = {"class_path": "os.system", "init_args": {"command": "echo owned > owned"}}
VALUES: tuple[Any, ...] = (
    None, True, [], {}, "", "x", 0, -1, 1, 3, 2**31, 2**63, -(2**63), 10**5, 10**6, 10**9, 10**30, 10**400, 0.5, 1e-300,
    1e300, -0.0, float("inf"), float("-inf"), float("nan"), "1e5", "nan", "a\nb", "\u202e", "x" * 10**5, "../x", "~",
    "/etc/passwd", EVIL, json.dumps(EVIL), [EVIL], "os.system", "!!python/name:os.system", "caloman.training.fit",
    [[[]]], [1] * 10**4,
)  # fmt: skip
CLASSES = (
    "caloman.models.Density", "caloman.manifold.VAE", "caloman.flows.CouplingFlow", "caloman.rivals.FlowShape",
    "caloman.training.EnergyTask", "caloman.models.EnsembleShowerModel", "caloman.preprocessing.Logit",
    "torch.nn.Linear", "caloman.flows.Distribution", "caloman.models.ShowerModel", "caloman.flows.Step",
    "caloman.training.fit", "", "a.b",
)  # fmt: skip
KEYS = ("x", "", "..", "class_path", "init_args", "__init__", "self", "0", "a b", "base")
LETTERS = "{}[]:,&*!|>'\"%@`#-? \n\t\0\x85\ufeff\U0001f600"


def places(value: object, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node but the root."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*way, key)
        yield from places(part, (*way, key))


def damaged(spec: object, rng: Rng, to_text: Callable[[object], str] = to_yaml) -> str:
    """The text of a specification with some damage."""
    spec = copy.deepcopy(spec)
    for _ in range(rng.integers(1, 3)):
        ways = list(places(spec))
        if not ways:
            break
        *way, key = ways[rng.integers(len(ways))]
        place: Any = spec
        for name in way:
            place = place[name]
        NODES[rng.integers(len(NODES))](place, key, rng)
    text = to_text(spec)
    return TEXTS[rng.integers(len(TEXTS))](text, rng) if rng.random() < 0.3 else text


def another_value(place: Any, key: Any, rng: Rng) -> None:
    place[key] = VALUES[rng.integers(len(VALUES))]


def another_class(place: Any, key: Any, rng: Rng) -> None:
    if isinstance(place[key], dict):
        place[key]["class_path"] = CLASSES[rng.integers(len(CLASSES))]
    else:
        place[key] = {"class_path": CLASSES[rng.integers(len(CLASSES))]}


def removed(place: Any, key: Any, rng: Rng) -> None:
    place.pop(key)


def another_key(place: Any, key: Any, rng: Rng) -> None:
    if isinstance(place, dict):
        place[str(rng.choice(["x", "", "..", "class_path", "init_args", "__init__", "self", "0", "a b", "base"]))] = (
            place[key]
        )


def nested(place: Any, key: Any, rng: Rng) -> None:
    for _ in range(rng.integers(1, 60)):
        place[key] = [place[key]] if rng.random() < 0.5 else {str(key): place[key]}


def letters(text: str, rng: Rng) -> str:
    characters = list(text)
    for place in rng.integers(len(characters), size=rng.integers(1, 6)):
        characters[place] = LETTERS[rng.integers(len(LETTERS))]
    return "".join(characters)


def cut(text: str, rng: Rng) -> str:
    return text[: rng.integers(len(text))]


def aliases(text: str, rng: Rng) -> str:
    bomb = "".join(f"b{i}: &b{i} [*b{i - 1}, *b{i - 1}, *b{i - 1}]\n" for i in range(1, 30))
    return f"b0: &b0 [x, x]\n{bomb}{text}"


def long(text: str, rng: Rng) -> str:
    return text + "#" * int(rng.choice([10**5, 2**21, 10**8]))


NODES = (another_value, another_value, another_value, another_class, removed, another_key, nested)
TEXTS = (letters, letters, cut, aliases, long)
