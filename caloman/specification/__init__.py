"""Specifications: the YAML of pipelines and bundles, checked against an allow-list before anything is made from it.

A specification is plain data: mappings, lists, texts and numbers. Where a signature expects an object, a mapping with
``class_path`` and ``init_args`` stands for it, and the class has to be a public one of `PACKAGES` or of an installed
plug-in. Nothing else in a specification is ever imported, called or parsed a second time.
"""

from caloman.specification.check import PACKAGES, TEXT, build, check, find_class, parameters, plugins, suggestion
from caloman.specification.layers import overlay, read_layers, set_key, split_overrides
from caloman.specification.plain import parse_yaml, read_yaml, to_yaml

__all__ = [
    "PACKAGES", "TEXT", "build", "check", "find_class", "overlay", "parameters", "parse_yaml", "plugins",
    "read_layers", "read_yaml", "set_key", "split_overrides", "suggestion", "to_yaml",
]  # fmt: skip
