"""Shards: whole chunks of a generation in a file of their own, and ``caloman merge``, which joins them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloman.errors import CalomanError
from caloman.showers.attributes import read_attributes
from caloman.showers.conditions import table_names
from caloman.showers.hdf5 import find_table, names, open_hdf5
from caloman.showers.libraries import Format, find_writer
from caloman.showers.showers import CHUNK, find_geometry


def shard_chunks(shard: str, total: int) -> range:
    """The chunks of a shard, given as i/N with i from 0, out of all that `total` showers need.

    Raises:
        CalomanError: if it is not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 0 <= index < count:
        raise CalomanError(f"--shard {shard}: use i/N with i from 0 to N - 1, such as 0/16 for the first of 16")
    n_chunks = -(-total // CHUNK)
    return range(index * n_chunks // count, (index + 1) * n_chunks // count)


def count_showers(chunks: Collection[int], total: int) -> int:
    """Number of showers in some chunks; the last chunk of all may be incomplete."""
    n_chunks = -(-total // CHUNK)
    return CHUNK * len(chunks) - (n_chunks * CHUNK - total) * (n_chunks - 1 in chunks)


def merge(output: str, inputs: list[str], format: Format = "calochallenge") -> str:
    """Joins the shards of `caloman generate` into one file, equal to that of a generation without shards.

    The file appears when it is complete. The shards stay.

    Args:
        output: HDF5 file to write.
        inputs: the shards, in any order.
        format: of the new file, as for `caloman generate`.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if a shard is missing, given twice, damaged, or of another generation than the others.
    """
    if not inputs:
        raise CalomanError(f"{output}: no shards to join; name those of one generation")
    shards = sorted((_Shard.read(Path(path)) for path in inputs), key=lambda shard: shard.index)
    if Path(output).resolve() in {shard.path.resolve() for shard in shards}:
        raise CalomanError(f"{output}: is both shard and output; give the merged file a name of its own")
    _check_complete(shards)
    first = shards[0]
    request = {**first.request, "shard": "0/1"}
    geometry, compression = find_geometry(first.path), first.request["compression"]
    with find_writer(format)(output, geometry, request, compression, conditions=first.conditions) as writer:
        for shard in shards:
            if shard.n_showers:
                writer.copy(shard.path)
    return f"{first.request['n']} showers of {len(shards)} shards written to {output}"


@dataclass(frozen=True)
class _Shard:
    """A file with the `index`-th of `count` shards, made from a request that is the same for all of them."""

    path: Path
    index: int
    count: int
    request: dict[str, Any]
    n_showers: int
    conditions: list[str]

    @classmethod
    def read(cls, path: Path) -> "_Shard":
        with open_hdf5(path) as file:
            table = find_table(file, "showers")
            n_showers = 0 if table is None else len(table)
            conditions = table_names(names(file))
            request: dict[str, Any] = {**read_attributes(file)}
        try:
            shard, total, *_ = request.pop("shard"), *(request[name] for name in ("n", "compression", "seed"))
            index, count = map(int, shard.split("/"))
            expected = count_showers(shard_chunks(shard, total), total)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, CalomanError):
            raise CalomanError(f"{path}: not a shard; name files that `caloman generate --shard` made") from None
        if n_showers != expected:
            raise CalomanError(f"{path}: holds {n_showers} showers instead of {expected}; generate this shard again")
        return cls(path, index, count, request, n_showers, conditions)


def _check_complete(shards: Sequence[_Shard]) -> None:
    """Makes sure that these are the shards of one generation, all of them and each once, in order."""
    first = shards[0]
    for shard in shards[1:]:
        for name in {"count": 0, **first.request, **shard.request}:
            ours, theirs = ((s.count if name == "count" else s.request.get(name)) for s in (first, shard))
            if ours != theirs:
                raise CalomanError(
                    f"{shard.path}: {name} is {theirs}, but {ours} in {first.path}; merge shards of one generation only"
                )
    for position, shard in enumerate(shards):
        if shard.index < position:
            raise CalomanError(
                f"{shard.path}: shard {shard.index} is also {shards[position - 1].path}; name one of them"
            )
        if shard.index > position:
            raise CalomanError(f"shard {position}/{first.count} is missing; generate it, then merge all of them")
    if len(shards) < first.count:
        raise CalomanError(f"shard {len(shards)}/{first.count} is missing; generate it, then merge all of them")
