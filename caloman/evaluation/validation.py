"""Reading and checking of metrics.json, and its JSON schema."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from caloman.errors import CalomanError
from caloman.evaluation.schema import OLDEST, SCHEMA, Document
from caloman.files import read_text


def json_schema() -> dict[str, Any]:
    """The format as a JSON schema (draft 2020-12), as it is shipped in ``metrics.schema.json``."""
    schema = {**_adapter().json_schema(), "title": f"metrics.json of caloman evaluate, version {SCHEMA}"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_metrics(path: Path) -> Document:
    """Reads and checks a metrics.json.

    Raises:
        CalomanError: if it is none, of a version that is not read, or a field is missing or wrong.
    """
    try:
        text = read_text(path)
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (CalomanError, ValueError, RecursionError):
        content = None
    version = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CalomanError(f"{path}: not a metrics.json of `caloman evaluate`; name one or its folder")
    if not OLDEST <= version <= SCHEMA:
        raise CalomanError(
            f"{path}: has schema {version}, not {OLDEST} to {SCHEMA}; run `caloman evaluate` of this version again"
        )
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CalomanError(
            f"{path}: {place} is not as metrics.json has it ({first['msg']}); run `caloman evaluate` again"
        ) from None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number


@cache
def _adapter() -> TypeAdapter[Document]:
    return TypeAdapter(Document)
