"""YAML as plain data: mappings, lists, texts and numbers, and nothing that refers or runs."""

import re
from pathlib import Path

import yaml

from caloman.errors import CalomanError

MAX_BYTES = 2**20
MAX_DEPTH = 40


class _Loader(yaml.SafeLoader):
    """Plain data only, without aliases and tags; numbers as in YAML 1.2, so that 1e-3 is one and ``no`` is a text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the library's
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor or event.tag:
            raise yaml.MarkedYAMLError(problem="alias, anchor or tag", problem_mark=event.start_mark)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key twice, or one that is no word", problem_mark=node.start_mark)
        return node


for _tag, _pattern, _first in (
    ("null", r"(~|null|)$", ["~", "n", ""]),
    ("bool", r"(true|false)$", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,40})$", list("-+0123456789")),
    ("float", r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?|[-+]?\.inf|\.nan)$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(value: object) -> str:
    """Plain data as YAML that `parse_yaml` reads: in the given order, without aliases."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def read_yaml(path: Path) -> object:
    """Reads a YAML file as plain data.

    Raises:
        CalomanError: if it cannot be read, is larger than a megabyte, or has aliases, anchors, tags or repeated keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CalomanError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(content) > MAX_BYTES:
        raise CalomanError(f"{path}: larger than a megabyte, so it is no configuration; name a YAML file")
    return parse_yaml(content, str(path))


def parse_yaml(content: str | bytes, source: str) -> object:
    """Parses YAML as plain data.

    Args:
        content: the text.
        source: what an error names.

    Raises:
        CalomanError: if it is not valid, or has aliases, anchors, tags or repeated keys.
    """
    try:
        return yaml.load(content, _Loader)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise CalomanError(f"{source}: not valid YAML ({' '.join(str(error).split())[:200]})") from None
