"""Checks a specification against the types that it describes, and makes the objects from it."""

import inspect
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from caloman.errors import CalomanError, first_line
from caloman.files import check_name

PACKAGES = tuple(f"caloman.{name}" for name in ("flows", "manifold", "models", "preprocessing", "rivals", "training"))
"""Packages whose public classes a specification may name."""
PLUGINS = "caloman.plugins"
"""Entry-point group of other packages whose public classes it may name: who installs such a package insists."""
TEXT = re.compile(r"(?![\s{\[!&*|>%@`\"'#]|[-?:,] )(?!.*(: | #|:$|\s$))[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
"""Texts, such as names of files: on one line, and nothing but a text to any parser of YAML or JSON."""
SCALARS = (str, int, float, bool, type(None))


def build(value: object, hint: object, source: str) -> tuple[Any, dict[str, Any]]:
    """Makes what a specification describes.

    Args:
        value: plain data.
        hint: the expected type, such as a dataclass or ``Callable[[Geometry], ShowerModel]``.
        source: what an error names.

    Returns:
        The object, and the specification with all defaults.

    Raises:
        CalomanError: if the specification does not fit the type or names anything but a public class of caloman or of
            an installed plug-in.
    """
    check(value, hint, source)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--root", type=hint)
    try:
        namespace = parser.parse_object({"root": value})
        return parser.instantiate(namespace).root, yaml.safe_load(parser.dump(namespace))["root"]
    except Exception as error:  # jsonargparse raises several kinds
        raise CalomanError(f"{source}: {_explain(str(error))}") from None


def _explain(message: str) -> str:
    """One sentence from jsonargparse's nested messages: where, and what is wrong."""
    keys = [key for key in re.findall(r'Parser key "([^"]+)"', message) if key != "root"]
    where = ".".join(keys).removeprefix("root.")
    reason = re.split(r"\. Got value:|Given value", message)[0].strip().splitlines()[-1].strip(" :-")
    reason = reason.split("a callable class: ")[-1][:300]
    return f"'{where}': {reason}" if where else reason


def check(value: object, hint: object, source: str, key: str = "") -> None:
    """Checks a specification against the type it has to have, class by class, before anything is made from it.

    Args:
        value: plain data.
        hint: the expected type, such as a dataclass or ``Callable[[Geometry], ShowerModel]``.
        source: what an error names.
        key: where the value stands, such as ``model.shape``.

    Raises:
        CalomanError: with the first key that is unknown, class that is not allowed, or text where an object is meant.
    """
    options = _options(hint)
    if _is_plain(options):
        _check_plain(value, options, source, key)
    elif value is None and type(None) in options:
        return
    else:
        (expected,) = (option for option in options if option is not type(None))
        _check_structured(value, expected, source, key)


def _check_structured(value: object, hint: object, source: str, key: str) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        for name, part in _mapping(value, source, key).items():
            check_name(name, f"{source}: {key!r} has the key")
            check(part, arguments[1], source, _join(key, name))
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, list):
            raise CalomanError(f"{source}: {key!r} has to be a list")
        for index, part in enumerate(value):
            check(part, arguments[0], source, f"{key}[{index}]")
    elif isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        _check_arguments(value, {field.name: hints[field.name] for field in fields(hint)}, source, key)
    else:
        _check_object(value, arguments[-1] if origin is Callable else hint, source, key)


def _check_object(value: object, base: Any, source: str, key: str) -> None:  # noqa: ANN401 - a class
    content = _mapping(value, source, key)
    unknown = next((name for name in content if name not in ("class_path", "init_args")), None)
    class_path = content.get("class_path")
    if unknown is not None or not isinstance(class_path, str):
        raise CalomanError(f"{source}: {key!r} has to be a class, with the keys class_path and init_args and no others")
    found = find_class(class_path, source)
    if isinstance(base, type) and not issubclass(found, base):
        raise CalomanError(f"{source}: {key!r} has to be a {base.__name__}, not a {found.__name__}")
    _check_arguments(content.get("init_args") or {}, parameters(found), source, key)


def _check_arguments(value: object, hints: Mapping[str, object], source: str, key: str) -> None:
    for name, part in _mapping(value, source, key).items():
        if name not in hints:
            raise CalomanError(f"{source}: {_join(key, name)!r} is not accepted{suggestion(name, hints)}")
        check(part, hints[name], source, _join(key, name))


def _check_plain(value: object, options: Sequence[object], source: str, key: str) -> None:
    """Texts are accepted only where texts are expected, so that nothing that parses texts gets to see one."""
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    inner = [part for option in options for part in get_args(option) if get_origin(option) is not Literal]
    if isinstance(value, str):
        if value not in words and not (TEXT.fullmatch(value) and (str in options or Path in options)):
            accepted = f"it has to be one of {', '.join(map(str, words))}" if words else "see `caloman fit --help`"
            raise CalomanError(f"{source}: {key!r} cannot be the text {value[:80]!r}; {accepted}")
    elif isinstance(value, list) and inner:
        for index, part in enumerate(value):
            _check_plain(part, [o for hint in inner for o in _options(hint)], source, f"{key}[{index}]")
    elif isinstance(value, Mapping) and inner:
        for name, part in value.items():
            _check_plain(part, [o for hint in inner for o in _options(hint)], source, _join(key, str(name)))
    elif not isinstance(value, SCALARS):
        raise CalomanError(f"{source}: {key!r} cannot be a {type(value).__name__}; see `caloman fit --help`")
    elif isinstance(value, float) and math.isnan(value):
        raise CalomanError(f"{source}: {key!r} is not a number; give one")


def find_class(path: str, source: str) -> type:
    """The public class of caloman, or of an installed plug-in, that a specification names.

    Raises:
        CalomanError: if it is none of those in `PACKAGES` and of the modules with an entry point in `PLUGINS`.
    """
    module, _, name = path.rpartition(".")
    allowed = module in PACKAGES or module in plugins()
    found = getattr(import_module(module), name, None) if allowed and name in _public(module, source) else None
    if not isinstance(found, type):
        known = [f"{module}.{name}" for name in _public(module, source)] if allowed else []
        hint = suggestion(path, known) or (
            "; only public classes of caloman are loaded, and those of plug-ins: to insist, install the package that "
            f"has it with an entry point in the group {PLUGINS!r}"
        )
        raise CalomanError(f"{source}: {path[:80]!r} is not a caloman class{hint}")
    return found


def plugins() -> dict[str, tuple[str, str]]:
    """Module -> name and version of the package of each installed plug-in; none of them is imported."""
    return {point.value: (point.dist.name, point.dist.version) for point in entry_points(group=PLUGINS) if point.dist}


def _public(module: str, source: str) -> list[str]:
    try:
        return list(getattr(import_module(module), "__all__"))  # noqa: B009 - mypy does not know it
    except Exception as error:  # of a plug-in, whatever it runs
        raise CalomanError(f"{source}: the plug-in {module} cannot be used ({first_line(error)}); repair it") from None


def parameters(found: type) -> dict[str, object]:
    """Name -> type of all arguments of a class, with those that ``**options`` hands to its base."""
    result: dict[str, object] = {}
    for base in found.__mro__:
        if "__init__" not in vars(base):
            continue
        hints = get_type_hints(base.__init__)  # type: ignore[misc]
        own = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        result |= {p.name: hints.get(p.name, Any) for p in own if p.kind not in _VARIADIC and p.name not in result}
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in own):
            break
    return result


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def suggestion(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """«; did you mean ...?», or nothing if no known name is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _options(hint: object) -> list[object]:
    """The members of a union, or the type itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _is_plain(options: Sequence[object]) -> bool:
    return all(_is_data(option) for option in options)


def _is_data(hint: object) -> bool:
    """Whether values of a type are data, without objects."""
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if isinstance(origin, type) and issubclass(origin, Sequence | Mapping):
        return all(_is_plain(_options(part)) for part in get_args(hint) if part is not Ellipsis)
    return isinstance(hint, type) and (issubclass(hint, SCALARS) or hint is Path)


def _mapping(value: object, source: str, key: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        what = f"the text {value[:60]!r}" if isinstance(value, str) else f"a {type(value).__name__}"
        raise CalomanError(f"{source}: {key or 'the file'!r} has to be a mapping of keys to values, not {what}")
    return value


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
