"""Pipelines in layers: a base, what a file changes in it, and single keys on the command line."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from caloman.errors import CalomanError
from caloman.files import shipped
from caloman.specification.check import suggestion
from caloman.specification.plain import read_yaml

CONFIGS = Path("configs")


def find_config(name: str | Path, beside: Path | None = None) -> Path:
    """The file of a pipeline: a path, or the name of one that comes with the package, such as ``1-photons/caloman``."""
    path = Path(name)
    named = path.with_name(f"{path.name}.yaml")
    places = [*(beside.parent / file for file in (path, named) if beside), shipped(path), shipped(CONFIGS / named)]
    for place in places:
        if place.is_file():
            return place
    folder = shipped(CONFIGS / "1-photons" / "caloman.yaml").parents[1]
    known = [str(file.relative_to(folder).with_suffix("")) for file in sorted(folder.rglob("*.yaml"))]
    hint = suggestion(str(name), known) or f"; give a YAML file, or one of {', '.join(known)}"
    raise CalomanError(f"{name}: no such pipeline{hint}")


def read_layers(name: str | Path, beside: Path | None = None, depth: int = 0) -> dict[str, Any]:
    """Reads a pipeline file over the one that it names as its ``base``, which may have a base in turn.

    Args:
        name: file or name of a shipped pipeline.
        beside: the file with this name as its base.
        depth: number of such files.
    """
    path = find_config(name, beside)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise CalomanError(f"{path}: not a pipeline; it needs the keys geometry, data, model and stages")
    base = content.pop("base", None)
    if base is None:
        return content
    if depth > 8 or not isinstance(base, str):
        raise CalomanError(f"{path}: 'base' has to name another pipeline, and that one must not lead back here")
    return overlay(read_layers(base, path, depth + 1), content)


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lays one configuration over another, key by key.

    Arguments of a class are reached without naming ``init_args``. Another class brings arguments of its own. The text
    ``remove`` takes a key away.
    """
    result = deepcopy(dict(below))
    for key, value in above.items():
        old = result.get(key)
        if value == "remove":
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(old, Mapping):
            if "class_path" in old and not {"class_path", "init_args"} & value.keys():
                value = {"init_args": value}
            other = value.get("class_path", old.get("class_path")) != old.get("class_path")
            result[key] = overlay({} if other else old, value)
        else:
            result[key] = deepcopy(value)
    return result


def set_key(config: dict[str, Any], key: str, value: object) -> None:
    """Sets a dotted key, which may leave out ``init_args``."""
    *way, last = key.split(".")
    place: Any = config
    for name in way:
        inner = _inside(place)
        if inner.get(name) is None:
            inner[name] = {}
        place = inner[name]
        if not isinstance(place, dict):
            raise CalomanError(f"--{key}: {name!r} has no keys of its own; see the pipeline file")
    inner = _inside(place) if last not in ("class_path", "init_args") else place
    old = inner.get(last)
    inner[last] = overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value


def _inside(place: dict[str, Any]) -> dict[str, Any]:
    return place.setdefault("init_args", {}) if "class_path" in place else place


def split_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys and values of options such as ``--seed=1`` or ``--seed 1``."""
    waiting = iter(overrides)
    for option in waiting:
        key, equals, value = option.removeprefix("--").partition("=")
        if not equals:
            value = next(waiting, "--")
        if not option.startswith("--") or (not equals and value.startswith("--")):
            raise CalomanError(f"{option!r}: not an option with a value; write --KEY=VALUE, such as --seed=2")
        yield key, value
