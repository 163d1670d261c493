"""A file in the making: its finished chunks, kept beside it until it is complete.

Each chunk is an HDF5 file of its own in ``.NAME.parts``, named by its number and its SHA-256. It gets this name when it
is complete, so a job that is killed loses at most the chunks it was at, and a damaged chunk is made again.
"""

import json
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from caloman.errors import CalomanError
from caloman.files import locked, read_text, sha256, unwritable, write
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import check_space
from caloman.showers.libraries import Format, find_writer
from caloman.showers.showers import Showers
from caloman.showers.writer import Compression, ShowerWriter

PART = re.compile(r"(\d{9,})\.([0-9a-f]{64})\.hdf5")
Attributes = Mapping[str, str | int | float]


class Parts:
    """The finished chunks of one output file.

    Args:
        output: the file that is made of them.
        geometry: the mesh of the showers.
        request: what the showers depend on; attributes of the output.
        compression: of parts and output.
        conditions: names of the conditions beside the energy.
    """

    def __init__(
        self,
        output: Path,
        geometry: Geometry,
        request: Attributes,
        compression: Compression,
        conditions: Sequence[str] = (),
    ) -> None:
        self.output = output
        self.geometry = geometry
        self.request = request
        self.compression: Compression = compression
        self.conditions = conditions
        self.folder = output.with_name(f".{output.name}.parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; if it is left by an error, finished parts stay for the next attempt.

        Raises:
            CalomanError: if another process holds it, it has parts of another request, or it cannot be made.
        """
        with locked(self.output):
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise unwritable(self.output, error) from None
            try:
                self._claim()
                yield
            finally:
                if not list(self.folder.glob("*.hdf5")):
                    self.remove()

    def _claim(self) -> None:
        """Writes down whose parts these are, or makes sure that they are ours."""
        if not (self.folder / "request.json").is_file():
            write(self.folder / "request.json", json.dumps(self.request))
        self.check_request()

    def check_request(self) -> None:
        """Makes sure that the parts belong to this request.

        Raises:
            CalomanError: with the first thing that differs.
        """
        path = self.folder / "request.json"
        try:
            found = json.loads(read_text(path))
        except (CalomanError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CalomanError(f"{path}: cannot be read; delete {self.folder} and start again")
        for name in {**found, **self.request}:
            if found.get(name) != self.request.get(name):
                raise CalomanError(
                    f"{self.output}: an unfinished job has {name} {found.get(name)}, not {self.request.get(name)}; "
                    f"finish that one, write elsewhere, or delete {self.folder}"
                )

    def finished(self, chunks: Container[int]) -> dict[int, Path]:
        """Which of these chunks are finished, and their files, without those that are damaged."""
        named = ((PART.fullmatch(path.name), path) for path in self.folder.iterdir())
        parts = ((int(name[1]), name[2], path) for name, path in named if name and path.is_file())
        return {chunk: path for chunk, digest, path in parts if chunk in chunks and sha256(path) == digest}

    def add(self, chunk: int, showers: Showers) -> int:
        """Writes the showers of a chunk, and returns its number.

        Raises:
            CalomanError: if they cannot be written.
        """
        path = self.folder / f"{uuid4().hex}.hdf5"  # a worker that was given up may still write the same chunk
        with ShowerWriter(path, self.geometry, compression=self.compression, conditions=self.conditions) as writer:
            writer.append(showers)
        path.replace(self.folder / f"{chunk:09}.{sha256(path)}.hdf5")
        return chunk

    def join(self, chunks: range, form: Format) -> None:
        """Makes the output from the parts, in any format, and removes them.

        Raises:
            CalomanError: if it cannot be written; the parts are kept then.
        """
        parts = self.finished(chunks)
        if not parts.keys() >= set(chunks):
            raise CalomanError(
                f"{self.output}: chunks were damaged or lost meanwhile; repeat the command, which goes on"
            )
        check_space(self.output, sum(parts[chunk].stat().st_size for chunk in chunks))
        new = find_writer(form)
        with new(self.output, self.geometry, self.request, self.compression, conditions=self.conditions) as writer:
            for chunk in chunks:
                writer.copy(parts[chunk])
        self.remove()

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
